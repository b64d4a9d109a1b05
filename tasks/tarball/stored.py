"""stored: which tarballs the bucket has: of a commit, by digest, and what lies beside each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks import source
from tasks.bucket import cache, layout
from tasks.digest import Digest
from tasks.refusal import Refusal
from tasks.version import Commit, Version

if TYPE_CHECKING:
    from tasks.run import Run


class NoTarball(Refusal):
    """An environment that builds nothing is asked for a commit that nobody has built."""

    sentence = "release: no tarball for {commit} in {bucket}"
    remedy = "doit tarball"


class TarballGone(Refusal):
    """A tarball that is to go live is not in the bucket, or lies where this branch takes nothing from."""

    sentence = "release: there is no tarball {digest} in {bucket} that this branch may take"
    remedy = "doit tarball"


class ArchiveDamaged(Refusal):
    """A stored tarball is not what was packed."""

    sentence = "tarball: {digest} is damaged: {problem}"
    remedy = "doit forget tarball && doit tarball"


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """Which tarball is a commit's. `by`: for display; `role`: who has built it, as the cloud says."""

    digest: Digest
    branch: str = ""
    by: str = ""
    role: str = ""
    at: str = ""

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Pointer:
        """From its document. What another pipeline has added or left out is no reason to refuse it."""
        told = {name: str(value.get(name) or "") for name in ("branch", "by", "role", "at")}
        return cls(digest=Digest(value["digest"]), **told)

    def as_dict(self) -> dict[str, Any]:
        """Its document."""
        return dataclasses.asdict(self)


def existing(run: Run) -> Digest:
    """The tarball that the checked-out commit points to, for environments that build none. Raises NoTarball."""
    commit = source.commit(run.root)
    known = pointer(run, commit)
    if not known:
        raise NoTarball(commit=commit.short, bucket=run.bucket)
    return known.digest


def pointer(run: Run, commit: Commit | Version) -> Pointer | None:
    """What is known of a commit's tarball. None where this run believes nobody's, and for files that no commit holds."""
    found = cache.of(run).record("commits", commit)
    return Pointer.of(found.value) if found else None


def key_of(run: Run, digest: Digest) -> str | None:
    """Where a tarball lies in the bucket, None where it does not; beside it what is told of it (`layout.beside`)."""
    return cache.of(run).blob("tarballs", digest)


def stored_key(run: Run, digest: Digest) -> str:
    """Where a tarball lies that must be there. Raises TarballGone."""
    key = key_of(run, digest)
    if not key:
        raise TarballGone(digest=digest.short, bucket=run.bucket)
    return key


def named(run: Run, beginning: str) -> set[Digest]:
    """Digests of the stored tarballs that begin so."""
    return set(cache.of(run).blobs("tarballs", beginning))


def signature_of(run: Run, digest: Digest) -> str:
    """The tarball's signature, empty where there is none."""
    key = key_of(run, digest) if run.pipeline.public_keys else None
    kept = run.store.open(layout.beside(key, "minisig")) if key else None
    return kept.read().decode() if kept else ""
