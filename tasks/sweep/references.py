"""references: the names of tarballs, layers and commits that are still in use."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tasks.bucket import create, layout
from tasks.bucket.store import NotADocument
from tasks.digest import Digest
from tasks.refusal import Refusal
from tasks.release import history
from tasks.release.history import LiveRelease
from tasks.run import elsewhere
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


class ReferencesUnknown(Refusal):
    """An environment of another account or bucket takes tarballs from here, and its records are not there, so that nothing may be deleted."""

    sentence = "sweep: {environment} takes tarballs from another bucket, and there is no bucket {bucket} with its releases"
    remedy = "doit environment={environment} doctor"
    any_environment = True


def of(run: Run, inventory: Inventory, branches: Mapping[str, str]) -> frozenset[str]:
    """Names that must stay: of releases that are live or can be rolled back to, of each branch's head, of the run that waits.

    Raises SweepBlind if a document cannot be read, or ReferencesUnknown.
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
        for there in _takers(run, inventory):
            number = there.environment.release.keep + ALSO
            for value in _histories(there, inventory):
                releases += [(each.digest, each.commit.commit) for each in _last(history.of(value), number)]
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


def _takers(run: Run, inventory: Inventory) -> list[Run]:
    """Runs in the environments elsewhere that take tarballs."""
    takers = [name for name in sorted(inventory.elsewhere) if inventory.settings[name].takes_from]
    return [elsewhere(run, name) for name in takers]


def _histories(there: Run, inventory: Inventory) -> Iterator[dict[str, Any]]:
    """What went live in an environment elsewhere, of each branch if it has one for each."""
    if not create.bucket_exists(there.store, there.pipeline.name):
        raise ReferencesUnknown(environment=there.environment_name, bucket=there.bucket)
    for key in there.store.keys(layout.below("history")):
        found = layout.parse(key)
        theirs = found and inventory.names.environment(found.identity) == there.environment_name
        if theirs and (value := _read(there.store, key)):
            yield value


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
