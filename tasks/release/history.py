"""history: what went live in an environment, when, and who released it; the newest last."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.bucket.store import Document, NotADocument
from tasks.digest import Digest
from tasks.version import Version

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.run import Run

KEPT = 100
"""Releases that an environment's history keeps."""


@dataclass(frozen=True, kw_only=True)
class LiveRelease:
    """One release that went live. `digest`: the tarball's."""

    digest: Digest
    commit: Version
    branch: str
    by: str
    at: str
    run: str

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> LiveRelease:
        """The release of an entry. Fields that another version of the pipeline has added or left out are accepted."""
        told = {name: str(value.get(name) or "") for name in ("branch", "by", "at", "run")}
        return cls(digest=Digest(value["digest"]), commit=Version(value["commit"]), **told)


def read(store: Store, identity: str) -> list[LiveRelease]:
    """The releases of an environment, the newest last."""
    document = store.read(layout.history(identity))
    return of(document.value) if document else []


def of(value: Mapping[str, Any]) -> list[LiveRelease]:
    """The releases of a history's document."""
    return [LiveRelease.of(each) for each in value["releases"]]


def opened(store: Store, identity: str) -> Document:
    """The document of an environment's history, made if there is none: `add` does not make one where a teardown has deleted it."""
    key, empty = layout.history(identity), {"releases": list[Any]()}
    return store.read(key) or Document(value=empty, etag=store.write(key, empty, seen=None), age=0.0)


def add(run: Run, digest: Digest, *, onto: Document | None = None) -> None:
    """Record that a tarball went live here. The same tarball of the same commit is not recorded twice in a row.

    `onto`: the history before the release. Raises RecordTaken if another run has written or deleted it since.
    """
    document = onto or opened(run.store, run.identity)
    before = document.value["releases"]
    if before and (before[-1]["digest"], before[-1]["commit"]) == (digest, run.commit):
        return
    new = LiveRelease(
        digest=digest, commit=run.commit, branch=run.branch, by=run.who, at=run.clock.stamp(), run=run.id
    )
    releases = [*before, dataclasses.asdict(new)][-KEPT:]
    run.store.write(layout.history(run.identity), {"releases": releases}, seen=document.etag)


def version(store: Store, identity: str) -> str | None:
    """The version of an environment's history; None if there is none."""
    try:
        document = store.read(layout.history(identity))
    except NotADocument as found:
        return found.etag
    return document.etag if document else None


def forget(store: Store, identity: str, seen: str | None) -> None:
    """Delete an environment's history in the version `seen`. Raises RecordTaken if another run has written it since."""
    if seen:
        store.delete(layout.history(identity), seen=seen)
