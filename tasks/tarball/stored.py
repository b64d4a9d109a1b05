"""stored: find the bucket's tarballs by commit or digest, and the documents beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket import cache, layout
from tasks.digest import Digest
from tasks.refusal import Refusal
from tasks.tarball import signature
from tasks.version import Commit, Version

if TYPE_CHECKING:
    from tasks.run import Run


class NoTarball(Refusal):
    """The environment does not build, and the commit has no tarball."""

    sentence = "release: no tarball for {commit} in {bucket}"
    remedy = "doit tarball"


class TarballGone(Refusal):
    """A tarball that is to be released is not in the bucket, or is in a zone that this branch may not use."""

    sentence = "release: there is no tarball {digest} in {bucket} that this branch may take"
    remedy = "doit tarball"


class ArchiveDamaged(Refusal):
    """A stored tarball is not the one that was packed."""

    sentence = "tarball: {digest} is damaged: {problem}"
    remedy = "doit forget tarball && doit tarball"


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """Which tarball belongs to a commit. `by`: who built it, for display; `role`: the cloud role that built it."""

    digest: Digest
    branch: str = ""
    by: str = ""
    role: str = ""
    at: str = ""

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Pointer:
        """From its document. Unknown keys are ignored and missing ones are empty: another version may have written it."""
        told = {name: str(value.get(name) or "") for name in ("branch", "by", "role", "at")}
        return cls(digest=Digest(value["digest"]), **told)

    def as_dict(self) -> dict[str, Any]:
        """As its document."""
        return dataclasses.asdict(self)


def existing(run: Run) -> Digest:
    """The tarball of the checked-out commit, for environments that do not build. Raises NoTarball."""
    commit = run.commit.commit
    known = pointer(run, commit)
    if not known:
        raise NoTarball(commit=commit.short, bucket=run.bucket)
    return known.digest


def pointer(run: Run, commit: Commit | Version) -> Pointer | None:
    """The pointer of a commit; None if no zone that this run may use has one, and for uncommitted files."""
    found = cache.of(run).record("commits", commit)
    return Pointer.of(found.value) if found else None


def key_of(run: Run, digest: Digest) -> str | None:
    """The bucket key of a tarball; None if it is not stored. Its documents are beside it (`layout.beside`)."""
    return cache.of(run).blob("tarballs", digest)


def stored_key(run: Run, digest: Digest) -> str:
    """The bucket key of a tarball that must be stored. Raises TarballGone."""
    key = key_of(run, digest)
    if not key:
        raise TarballGone(digest=digest.short, bucket=run.bucket)
    return key


def named(run: Run, beginning: str) -> set[Digest]:
    """Digests of the stored tarballs that begin with these digits."""
    return set(cache.of(run).blobs("tarballs", beginning))


def signature_of(run: Run, digest: Digest) -> str:
    """A signature of the tarball by a key that the settings name; empty if there is none."""
    key = key_of(run, digest) if run.pipeline.public_keys else None
    return next(iter(signatures(run, key).values()), "") if key else ""


def signatures(run: Run, key: str) -> dict[str, str]:
    """The signatures beside a tarball, by the public keys that the settings name. `key`: the tarball's."""
    named = {id: each for each in run.pipeline.public_keys if (id := signature.key_id(each))}
    found = {each: _text(run, signature_key(key, id)) for id, each in named.items()}
    if not all(found.values()):
        # a former version stored one signature, whoever made it
        old = _text(run, layout.beside(key, "minisig"))
        if each := named.get(signature.signer(old)):
            found[each] = found[each] or old
    return {each: text for each, text in found.items() if text}


def signature_key(key: str, signer: str) -> str:
    """The bucket key of a tarball's signature by the key with that id."""
    return layout.beside(key, f"{signer}.minisig")


def _text(run: Run, key: str) -> str:
    kept = run.store.open(key)
    return kept.read().decode(errors="replace") if kept else ""
