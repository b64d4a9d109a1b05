"""cache: what was built: records (which output an input gave) and blobs (content by its digest), and which of them a branch reads.

Everybody who may write to a cache can put false content there. So the default branch reads only the zone `trusted`, to which only its
own runs write. Other branches read both zones, `trusted` first. The keys are in tasks/bucket/layout.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.bucket import layout
from tasks.bucket.layout import BRANCHES, TRUSTED, ZONES, BlobKind, RecordKind, Zone
from tasks.bucket.store import Document, NotADocument, RecordTaken, Store
from tasks.digest import Digest

if TYPE_CHECKING:
    from tasks.run import Run

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FoundRecord:
    """A record, its zone, and the version that was read."""

    zone: Zone
    value: dict[str, Any]
    etag: str


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The zones of the bucket that one run uses. `reads`: the zones that it reads, in this order."""

    store: Store
    writes: Zone
    reads: tuple[Zone, ...]

    def records(self, kind: RecordKind, name: str) -> Iterator[FoundRecord]:
        """The records of that name in the zones that this run reads."""
        for zone, document in self._look(lambda zone: layout.record(zone, kind, name), self._read):
            yield FoundRecord(zone=zone, value=document.value, etag=document.etag)

    def record(self, kind: RecordKind, name: str) -> FoundRecord | None:
        """The first of them."""
        return next(self.records(kind, name), None)

    def keep(
        self, kind: RecordKind, name: str, value: dict[str, Any], *, instead: FoundRecord | None = None
    ) -> None:
        """Write a record. An existing record stays, unless it is the one to replace."""
        seen = instead.etag if instead and instead.zone == self.writes else None
        with contextlib.suppress(RecordTaken):
            self.store.write(layout.record(self.writes, kind, name), value, seen=seen)

    def blob(self, kind: BlobKind, digest: Digest, size: int | None = None) -> str | None:
        """The key of a stored blob, or None where no zone that this run reads has it. `size`: if known, it must match."""
        for key in self.keys(kind, digest):
            found = self.store.size(key)
            if found is not None and size in (None, found):
                return key
        return None

    def keys(self, kind: BlobKind, digest: Digest) -> Iterator[str]:
        """The keys that a blob may have, in the zones that this run reads."""
        yield from (layout.blob(zone, kind, digest) for zone in self.reads)

    def key(self, kind: BlobKind, digest: Digest) -> str:
        """The key under which this run stores a blob."""
        return layout.blob(self.writes, kind, digest)

    def blobs(self, kind: BlobKind, beginning: str = "") -> Iterator[Digest]:
        """The digests of the stored blobs that begin with `beginning`."""
        for zone in self.reads:
            found = map(layout.parse, self.store.keys(layout.blobs(zone, kind, beginning)))
            yield from (Digest(each.name) for each in found if each and each.kind == "blob")

    def upload(
        self,
        kind: BlobKind,
        digest: Digest,
        path: Path,
        heard: Callable[[int], None] | None = None,
        *,
        damaged: bool = False,
    ) -> str:
        """Store a blob, and return its key. An existing blob of this digest and size stays, unless it is `damaged`."""
        key = self.key(kind, digest)
        if damaged or self.store.size(key) != path.stat().st_size:
            self.store.upload(key, path, heard)
        return key

    def _look(
        self, key_in: Callable[[Zone], str], look: Callable[[str], T | None]
    ) -> Iterator[tuple[Zone, T]]:
        """What each zone has under a key, in the order of `reads`. A zone is asked only when its answer is needed."""
        for zone in self.reads:
            found = look(key_in(zone))
            if found is not None:
                yield zone, found

    def _read(self, key: str) -> Document | None:
        with contextlib.suppress(NotADocument):  # a damaged record is a miss
            return self.store.read(key)
        return None


def of(run: Run) -> Cache:
    """The run's cache, in the bucket that has its tarballs. Only a commit that is known to be on the default branch may write what that branch trusts.

    A name that was typed, or that the CI has for a tag or a pull request, does not make it one; uncommitted changes are of no commit.
    """
    if run.on_default_branch and not run.commit.dirty:
        return Cache(store=run.tarballs.store, writes=TRUSTED, reads=(TRUSTED,))
    return Cache(store=run.tarballs.store, writes=BRANCHES, reads=ZONES)
