"""record: the promotion record: the run of one commit from environment to environment: built, staged, waiting, live.

Each commit's run has a document, and another document names the commit whose run began last, both in the upstream environment's
bucket. A writer replaces a document only in
the version that it has read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks import settings
from tasks.bucket import layout
from tasks.bucket.store import RecordTaken
from tasks.digest import Digest
from tasks.version import Version

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.run import Run

TRIES = 5
"""Attempts to make a change; another writer may be faster each time."""
State = Literal[
    "started", "built", "staged", "waiting", "continuing", "live", "failed", "stopped", "superseded", "undone"
]  # fmt: skip
OPEN = ("started", "built", "staged", "waiting")
"""States of a run that another run supersedes when it starts."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change of state. `arn`: the identity that the cloud reports; `by`: the person's name, for display."""

    state: State
    at: str
    arn: str
    by: str
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class PromotionRecord:
    """The run of one commit. `steps`: the newest last."""

    commit: Version
    branch: str
    digest: Digest | None = None
    steps: tuple[Step, ...] = ()

    @property
    def state(self) -> State:
        """The state of the newest step."""
        return self.steps[-1].state

    @property
    def starter(self) -> Step:
        """The newest step that started the run."""
        return next(each for each in reversed(self.steps) if each.state == "started")


@dataclass(frozen=True, kw_only=True)
class PromotionPath:
    """The environment that proves a tarball, and the one that takes it from there."""

    upstream: str
    downstream: str


def promotion_path(root: Path) -> PromotionPath | None:
    """The path of the first environment whose file says that it takes tarballs from another one, or None."""
    for path in sorted((root / "environments").glob("*.yml")):
        upstream = settings.load(settings.Environment, path, root).takes_from
        if upstream:
            return PromotionPath(upstream=upstream, downstream=path.stem)
    return None


# --- the record -----------------------------------------------------------------------------------


def read(store: Store, commit: Version) -> PromotionRecord | None:
    """The run of a commit, or None."""
    document = store.read(layout.commit_run(commit))
    return _record(document.value) if document else None


def current(store: Store) -> PromotionRecord | None:
    """The run that began last, or None."""
    pointer = store.read(layout.CURRENT_RUN)
    return read(store, Version(pointer.value["commit"])) if pointer else None


def step(run: Run, state: State, words: str = "") -> Step:
    """A step that this run makes now."""
    return Step(state=state, at=run.clock.stamp(), arn=run.cloud.person().arn, by=run.who, words=words)


def change(
    store: Store, commit: Version, changed: Callable[[PromotionRecord | None], PromotionRecord | None]
) -> PromotionRecord | None:
    """Replace a record by what `changed` returns; if that is None, the record stays as it is. Raises RecordTaken."""
    for attempt in range(TRIES):
        document = store.read(layout.commit_run(commit))
        before = _record(document.value) if document else None
        after = changed(before)
        if after is None or after == before:
            return before
        value = {**dataclasses.asdict(after), "state": after.state, "by": after.steps[-1].by}
        try:
            store.write(layout.commit_run(commit), value, seen=document.etag if document else None)
        except RecordTaken:
            if attempt == TRIES - 1:
                raise
        else:
            return after
    raise AssertionError("RecordTaken was raised")


def add(
    store: Store, commit: Version, *new: Step, digest: Digest | None = None, only_from: tuple[str, ...] = ()
) -> PromotionRecord | None:
    """Add steps to a run, with `only_from` only in one of these states. Returns the record with them, or None if it stays as it is."""
    added = False

    def changed(before: PromotionRecord | None) -> PromotionRecord | None:
        nonlocal added
        added = before is not None and (not only_from or before.state in only_from)
        if not added or before is None:
            return None
        return dataclasses.replace(before, steps=(*before.steps, *new), digest=digest or before.digest)

    after = change(store, commit, changed)
    return after if added else None


def begin(run: Run) -> PromotionRecord | None:
    """Begin the run of the checked-out commit, and supersede the run before it. Returns this commit's former record."""
    store, new = run.store, step(run, "started")
    before = read(store, run.commit)
    change(
        store,
        run.commit,
        lambda old: PromotionRecord(
            commit=run.commit, branch=run.branch, steps=(*(old.steps if old else ()), new)
        ),
    )
    pointer = store.read(layout.CURRENT_RUN)
    former = Version(pointer.value["commit"]) if pointer else None
    if former != run.commit:
        value = {"commit": run.commit, "by": run.who, "at": new.at}
        store.write(layout.CURRENT_RUN, value, seen=pointer.etag if pointer else None)
        if former:
            words = f"by the run of {run.commit.short}"
            add(store, former, dataclasses.replace(new, state="superseded", words=words), only_from=OPEN)
    return before


def _record(value: dict[str, Any]) -> PromotionRecord:
    # a newer pipeline, on another branch, may have added fields
    known = {field.name for field in dataclasses.fields(Step)}
    steps = tuple(Step(**{k: v for k, v in each.items() if k in known}) for each in value["steps"])
    proved = Digest(value["digest"]) if value.get("digest") else None
    return PromotionRecord(
        commit=Version(value["commit"]), branch=value["branch"], digest=proved, steps=steps
    )
