"""references: the names of tarballs, layers and commits that are still in use."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.bucket.store import NotADocument
from tasks.digest import Digest
from tasks.refusal import Refusal
from tasks.release import history
from tasks.release.history import LiveRelease
from tasks.sweep.plan import keyed, older

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.environments.inventory import Inventory
    from tasks.run import Run
    from tasks.settings import Sweep

READERS = 16
NAMES = re.compile(r"\b[0-9a-f]{64}\b")
ALSO = 2
"""Releases that count besides those that a machine keeps: one may be going live now."""


class SweepBlind(Refusal):
    """A document that says what is in use cannot be read, so that nothing may be deleted."""

    sentence = "sweep: {key} is no JSON, so that what it refers to is unknown"
    remedy = "doit sweep"


def of(run: Run, inventory: Inventory, branches: Mapping[str, str]) -> frozenset[str]:
    """Names that must stay: of releases that are live or can be rolled back to, of each branch's head, of the run that waits.

    Raises SweepBlind if a document cannot be read.
    """
    keys = {each.key for each in inventory.objects}
    with run.threads.pool(READERS) as pool:

        def read(wanted: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
            here = [key for key in wanted if key in keys]
            found = pool.map(lambda key: _read(run.store, key), here)
            return ((key, value) for key, value in zip(here, found, strict=True) if value)

        live = [(inventory.names.environment(name), layout.history(name)) for name in inventory.environments]
        kept = {key: inventory.settings[name].release.keep + ALSO for name, key in live if name}
        releases = [
            (release.digest, release.commit.commit)
            for key, value in read(kept)
            for release in _last(history.of(value), kept[key])
        ]
        commits = {*branches.values(), *(str(commit) for _, commit in releases)}
        commits |= {str(value["commit"]) for _, value in read([layout.CURRENT_RUN])}
        pointers = [layout.record(zone, "commits", each) for zone in layout.ZONES for each in sorted(commits)]
        runs = [layout.commit_run(commit) for commit in sorted(commits)]
        told = [value.get("digest") for _, value in itertools.chain(read(pointers), read(runs))]
        digests = {digest for digest, _ in releases} | {Digest(each) for each in told if each}
        manifests = [
            layout.beside(layout.blob(zone, "tarballs", digest), "manifest.json")
            for zone in layout.ZONES
            for digest in sorted(digests)
        ]
        # every digest in a manifest, under any key, is an input of the tarball
        named = _named(read(manifests))
        named |= _named(read(_kept_layers(inventory, run.pipeline.sweep, named)))
    return frozenset(digests | commits | named)


def _named(documents: Iterable[tuple[str, dict[str, Any]]]) -> set[str]:
    return {name for _, value in documents for name in NAMES.findall(json.dumps(value))}


def _kept_layers(inventory: Inventory, settings: Sweep, named: Collection[str]) -> list[str]:
    """Records of layers that stay, if an old archive would go: what a record names stays as long as the record."""
    layers = [(each, key) for each, key in keyed(inventory.objects) if key.folder == "layers"]
    old = {each.key for each, _ in layers if older(inventory, each, settings.layer_days)}
    if not any(key.kind == "blob" and each.key in old for each, key in layers):
        return []
    return [
        each.key
        for each, key in layers
        if key.kind == "record" and (each.key not in old or key.name in named)
    ]


def _last(releases: list[LiveRelease], number: int) -> list[LiveRelease]:
    """The newest releases, of at most `number` tarballs."""
    newest = list(dict.fromkeys(each.digest for each in reversed(releases)))[:number]
    return [each for each in releases if each.digest in newest]


def _read(store: Store, key: str) -> dict[str, Any] | None:
    try:
        document = store.read(key)
    except NotADocument:
        raise SweepBlind(key=key) from None
    return document.value if document else None
