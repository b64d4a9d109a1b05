"""cache: where layers and tarballs lie in the bucket, and whose of them a branch believes.

    ZONE/layers/KEY.json            which bytes a layer's inputs gave; written last
    ZONE/layers/DIGEST.tar.zst
    ZONE/keys/KEY.json              which tarball a build's inputs gave; written last
    ZONE/tarballs/DIGEST.tar.zst    with DIGEST.manifest.json, .sbom.json and .minisig beside it
    ZONE/commits/COMMIT.json        which tarball is the commit's: digest, branch, by, role, at

The default branch's own work lies in `trusted`, everybody else's in `branches`. Who may write to a cache can poison it: so the
default branch takes from `trusted` alone. Other branches take from both, the trusted first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks import source
from tasks.bucket.store import NotADocument, RecordTaken, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.run import Run

TRUSTED, BRANCHES = "trusted", "branches"
ZONES = (TRUSTED, BRANCHES)
ARCHIVE = ".tar.zst"
Records = Literal["layers", "keys", "commits"]
Files = Literal["layers", "tarballs"]


@dataclass(frozen=True, kw_only=True)
class FoundRecord:
    """A record, where it lies, and the version that was seen."""

    zone: str
    value: dict[str, Any]
    etag: str


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The bucket as one run sees it. `reads`: the zones that it believes, the first before the others."""

    store: Store
    writes: str
    reads: tuple[str, ...]

    def records(self, kind: Records, name: str) -> Iterator[FoundRecord]:
        """The records of that name that this run believes."""
        for zone in self.reads:
            with contextlib.suppress(NotADocument):
                document = self.store.read(f"{zone}/{kind}/{name}.json")
                if document:
                    yield FoundRecord(zone=zone, value=document.value, etag=document.etag)

    def record(self, kind: Records, name: str) -> FoundRecord | None:
        """The first of them."""
        return next(self.records(kind, name), None)

    def keep(
        self, kind: Records, name: str, value: dict[str, Any], *, instead: FoundRecord | None = None
    ) -> None:
        """Write a record; one that is there stays, unless it is the one to replace."""
        key, seen = f"{self.writes}/{kind}/{name}.json", None
        if instead and instead.zone == self.writes:
            seen = instead.etag
        with contextlib.suppress(RecordTaken):
            self.store.write(key, value, seen=seen)

    def archive(self, kind: Files, digest: str, size: int | None = None) -> str | None:
        """The key of a stored archive, of that size if it is known; None where there is none that this run believes."""
        for zone in self.reads:
            found = self.store.size(key := archive_key(zone, kind, digest))
            if found is not None and size in (None, found):
                return key
        return None

    def archives(self, kind: Files, beginning: str = "") -> Iterator[str]:
        """Digests of the stored archives that begin so."""
        for zone in self.reads:
            for key in self.store.keys(f"{zone}/{kind}/{beginning}"):
                if key.endswith(ARCHIVE):
                    yield key.rpartition("/")[2].removesuffix(ARCHIVE)

    def upload(
        self,
        kind: Files,
        digest: str,
        path: Path,
        heard: Callable[[int], None] | None = None,
        *,
        damaged: bool = False,
    ) -> str:
        """Store an archive; one of its name and size stays, unless it is known to be damaged. Returns its key."""
        key = archive_key(self.writes, kind, digest)
        if damaged or self.store.size(key) != path.stat().st_size:
            self.store.upload(key, path, heard)
        return key


def of(run: Run) -> Cache:
    """The run's view: what belongs to no commit of the default branch is not to be trusted by it."""
    ours = run.branch == run.pipeline.default_branch and source.snapshot(run.root).commit
    if ours:
        return Cache(store=run.store, writes=TRUSTED, reads=(TRUSTED,))
    return Cache(store=run.store, writes=BRANCHES, reads=ZONES)


def archive_key(zone: str, kind: Files, digest: str) -> str:
    """Where an archive lies."""
    return f"{zone}/{kind}/{digest}{ARCHIVE}"


def beside(key: str, kind: str) -> str:
    """Where what is told of a tarball lies, from its own key: `manifest.json`, `sbom.json`, `minisig`."""
    return key.removesuffix(ARCHIVE) + f".{kind}"
