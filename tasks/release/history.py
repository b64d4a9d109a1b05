"""history: what went live in an environment, when and by whom; the newest last."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.digest import Digest
from tasks.version import Version

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.run import Run

KEPT = 100
"""Releases that are remembered of an environment."""


@dataclass(frozen=True, kw_only=True)
class LiveRelease:
    """One tarball that went live. `digest`: the tarball's."""

    digest: Digest
    commit: Version
    branch: str
    by: str
    at: str
    run: str

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> LiveRelease:
        """From its part of a document. What another pipeline has added or left out is no reason to refuse it."""
        told = {name: str(value.get(name) or "") for name in ("branch", "by", "at", "run")}
        return cls(digest=Digest(value["digest"]), commit=Version(value["commit"]), **told)


def read(store: Store, identity: str) -> list[LiveRelease]:
    """The releases of an environment, the newest last; none where nothing was released."""
    document = store.read(layout.history(identity))
    return of(document.value) if document else []


def of(value: Mapping[str, Any]) -> list[LiveRelease]:
    """The releases that a history's document names."""
    return [LiveRelease.of(each) for each in value["releases"]]


def add(run: Run, digest: Digest) -> None:
    """Remember that a tarball went live here. The same one again, by the same commit, is no new release."""
    store = run.store
    document = store.read(layout.history(run.identity))
    before = document.value["releases"] if document else []
    if before and (before[-1]["digest"], before[-1]["commit"]) == (digest, run.commit):
        return
    new = LiveRelease(
        digest=digest, commit=run.commit, branch=run.branch, by=run.who, at=run.clock.stamp(), run=run.id
    )
    releases = [*before, dataclasses.asdict(new)][-KEPT:]
    store.write(
        layout.history(run.identity), {"releases": releases}, seen=document.etag if document else None
    )


def forget(store: Store, identity: str) -> None:
    """Forget an environment's releases."""
    store.delete(layout.history(identity))
