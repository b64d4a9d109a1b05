"""history: what went live in an environment, when and by whom; the newest last."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.bucket import layout

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.run import Run

KEPT = 100
"""Releases that are remembered of an environment."""


@dataclass(frozen=True, kw_only=True)
class LiveRelease:
    """One tarball that went live. `digest`: the tarball's; `commit`: `-dirty` behind it where files differed."""

    digest: str
    commit: str
    branch: str
    by: str
    at: str
    run: str


def read(store: Store, identity: str) -> list[LiveRelease]:
    """The releases of an environment, the newest last; none where nothing was released."""
    document = store.read(layout.history(identity))
    # of what a newer pipeline on another branch has added nothing is known here
    known = [field.name for field in dataclasses.fields(LiveRelease)]
    releases = document.value["releases"] if document else []
    return [LiveRelease(**{name: each[name] for name in known}) for each in releases]


def add(run: Run, digest: str) -> None:
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
