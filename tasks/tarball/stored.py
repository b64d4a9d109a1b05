"""stored: which tarballs the bucket has: of a commit, by digest, and what lies beside each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks import source
from tasks.bucket import cache, layout
from tasks.refusal import Refusal

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


def existing(run: Run) -> dict[str, str]:
    """The tarball that the checked-out commit points to, for environments that build none. Raises NoTarball."""
    commit = source.commit(run.root)
    known = pointer(run, commit)
    if not known:
        raise NoTarball(commit=commit[:7], bucket=run.bucket)
    return {"digest": known["digest"]}


def pointer(run: Run, commit: str) -> dict[str, Any] | None:
    """What is known of a commit's tarball: digest, branch, by, role, at. None where this run believes nobody's."""
    found = cache.of(run).record("commits", commit)
    return found.value if found else None


def key_of(run: Run, digest: str) -> str | None:
    """Where a tarball lies in the bucket, None where it does not; beside it what is told of it (`layout.beside`)."""
    return cache.of(run).blob("tarballs", digest)


def stored_key(run: Run, digest: str) -> str:
    """Where a tarball lies that must be there. Raises TarballGone."""
    key = key_of(run, digest)
    if not key:
        raise TarballGone(digest=digest[:12], bucket=run.bucket)
    return key


def named(run: Run, beginning: str) -> set[str]:
    """Digests of the stored tarballs that begin so."""
    return set(cache.of(run).blobs("tarballs", beginning))


def signature_of(run: Run, digest: str) -> str:
    """The tarball's signature, empty where there is none."""
    key = key_of(run, digest) if run.pipeline.public_keys else None
    kept = run.store.open(layout.beside(key, "minisig")) if key else None
    return kept.read().decode() if kept else ""
