"""stored: find the bucket's tarballs by commit or digest, and the documents beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket import cache, layout
from tasks.bucket.store import NotADocument, Store
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
    """A stored tarball is not the one that was packed. The stage that builds it packs and stores it again."""

    sentence = "tarball: {digest} is damaged: {problem}"
    remedy = "doit {builder}tarball"


MANIFEST = "manifest.json"
REPLACED = "it is not the object that was stored when it was packed"


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
        raise NoTarball(commit=commit.short, bucket=run.tarballs.bucket)
    return known.digest


def pointer(run: Run, commit: Commit | Version) -> Pointer | None:
    """The pointer of a commit; None if no zone that this run may use has one, and for uncommitted files."""
    found = cache.of(run).record("commits", commit)
    return Pointer.of(found.value) if found else None


def key_of(run: Run, digest: Digest, size: int | None = None) -> str | None:
    """The bucket key of a tarball; None if no zone has it as it was packed. Its documents are beside it (`layout.beside`).

    `size`: if known, it must match.
    """
    keys = cache.of(run).keys("tarballs", digest)
    return next((key for key in keys if as_packed(run.tarballs.store, key, size)), None)


def stored_key(run: Run, digest: Digest) -> str:
    """The bucket key of a tarball that must be stored. Raises TarballGone or ArchiveDamaged."""
    key = key_of(run, digest)
    if not key:
        if cache.of(run).blob("tarballs", digest):
            raise damaged(run, digest, REPLACED)
        raise TarballGone(digest=digest.short, bucket=run.tarballs.bucket)
    return key


def damaged(run: Run, digest: Digest, problem: object) -> ArchiveDamaged:
    """The refusal of a damaged tarball; its remedy is typed for the environment that builds it."""
    upstream = "" if run.environment.has("tarball") else run.environment.takes_from
    builder = f"environment={upstream} " if upstream else ""
    return ArchiveDamaged(digest=digest.short, problem=problem, builder=builder)


def as_packed(store: Store, key: str, size: int | None = None) -> bool:
    """Whether a tarball is stored in the size and version that its manifest names; an older manifest names no version."""
    found = store.look(key)
    if not found or size not in (None, found.size):
        return False
    try:
        told = store.read(layout.beside(key, MANIFEST))
    except NotADocument:
        return False
    manifest = told.value if told else {}
    return (found.size, found.etag) == (
        manifest.get("size", found.size),
        manifest.get("etag") or found.etag,
    )


def named(run: Run, beginning: str) -> set[Digest]:
    """Digests of the stored tarballs that begin with these digits."""
    return set(cache.of(run).blobs("tarballs", beginning))


def signature_of(run: Run, digest: Digest) -> str:
    """A signature of the stored tarball by a key that the settings name; empty if there is none. Raises TarballGone or ArchiveDamaged."""
    if not run.pipeline.public_keys:
        return ""
    return next(iter(signatures(run, stored_key(run, digest)).values()), "")


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
    kept = run.tarballs.store.open(key)
    return kept.read().decode(errors="replace") if kept else ""
