"""diff: what differs between two tarballs: files, layers, tools."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks import source
from tasks.bucket import layout
from tasks.digest import Digest
from tasks.environments import compare
from tasks.refusal import UNKNOWN, Refusal
from tasks.release import history
from tasks.tarball import stored
from tasks.tarball.build import tar
from tasks.tarball.build.archive import Share
from tasks.tarball.manifest import Manifest

if TYPE_CHECKING:
    from tasks.run import Run


class NoSuchTarball(Refusal):
    """An argument of `doit diff` is no digest, commit or environment with a tarball."""

    sentence = (
        "diff: {name} is no tarball's digest, no commit with a tarball and no environment with a release"
    )
    remedy = "doit tarball"
    exit_code = UNKNOWN


@dataclass(frozen=True, kw_only=True)
class ComparedTarball:
    """What is compared. `entries`: a description of each file, folder or link, by path. Dates are not compared."""

    digest: Digest
    manifest: Manifest | None
    entries: Mapping[str, str]


def find(run: Run, name: str) -> Digest:
    """The digest for a name: an environment, a digest or its beginning, or a commit. Raises NoSuchTarball."""
    for found in (_released(run, name), _named(run, name), _pointed(run, name)):
        if found and stored.key_of(run, found):
            return found
    raise NoSuchTarball(name=name)


def read(run: Run, digest: Digest) -> ComparedTarball:
    """A stored tarball, read as a stream without a copy on disk. Raises ArchiveDamaged."""
    key = stored.stored_key(run, digest)
    store = run.tarballs.store
    document = store.read(layout.beside(key, stored.MANIFEST))
    try:
        stream = tar.of_archive(store.open(key), digest=digest)
        entries = {each.name: _told(each) for each in stream}
    except tar.Damaged as damaged:
        raise stored.damaged(run, digest, damaged) from None
    manifest = Manifest.of(document.value) if document else None
    return ComparedTarball(digest=digest, manifest=manifest, entries=entries)


def lines(first: ComparedTarball, second: ComparedTarball) -> Iterator[str]:
    """A line for each file and each fact of the manifest that differs."""
    yield from _differing(_facts(first.manifest), _facts(second.manifest), "not named")
    yield from _differing(first.entries, second.entries, "not there")


def sizes(first: ComparedTarball, second: ComparedTarball) -> Iterator[str]:
    """A line for each layer: files and megabytes, before and after."""
    shares = [each.manifest.layers if each.manifest else {} for each in (first, second)]
    for layer in sorted({*shares[0], *shares[1]}):
        told = [_share(each.get(layer)) for each in shares]
        yield f"{layer}: {' → '.join(told if told[0] != told[1] else told[:1])}"


def _released(run: Run, name: str) -> Digest | None:
    there = compare.resolve(run, name)
    releases = history.read(there.store, there.identity) or history.read(run.store, name)
    return releases[-1].digest if releases else None


def _named(run: Run, name: str) -> Digest | None:
    found = list(stored.named(run, name)) if re.fullmatch(r"[0-9a-f]{8,64}", name) else []
    return found[0] if len(found) == 1 else None


def _pointed(run: Run, name: str) -> Digest | None:
    commit = source.revision(run.root, name)
    pointer = stored.pointer(run, commit) if commit else None
    return pointer.digest if pointer else None


def _told(each: tar.TarEntry) -> str:
    if each.kind == tar.LINK:
        return f"link to {each.target}"
    if each.kind == tar.FOLDER:
        return "folder"
    hashed = hashlib.sha256()
    for chunk in each.content:
        hashed.update(chunk)
    executable = ", executable" if each.executable else ""
    return f"{each.size} bytes{executable}, {Digest(hashed.hexdigest()).short}"


def _facts(manifest: Manifest | None) -> dict[str, str]:
    """The tree, tools, options and layers' keys of a manifest, by dotted name."""
    if not manifest:
        return {"tree": ""}
    return {
        "tree": manifest.tree,
        **{f"tools.{name}": str(value) for name, value in manifest.tools.items()},
        **{f"options.{name}": str(value) for name, value in manifest.options.items()},
        **{f"layers.{name}": key.short for name, key in manifest.keys.items()},
    }


def _differing(first: Mapping[str, str], second: Mapping[str, str], absent: str) -> Iterator[str]:
    for name in sorted({*first, *second}):
        before, after = first.get(name, absent), second.get(name, absent)
        if before != after:
            yield f"{name}: {before} → {after}"


def _share(share: Share | None) -> str:
    return f"{share.files} files, {share.content_size / 1e6:.1f} MB" if share else "none"
