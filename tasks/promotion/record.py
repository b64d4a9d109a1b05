"""record: the run of one commit from environment to environment, as a record: built, staged, waiting, live.

One document for each commit's run, and one that names the commit whose run is the last to have begun. Each is replaced only by who
has seen its last version.
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
"""Times that a change is made anew because somebody else's came first."""
State = Literal[
    "started", "built", "staged", "waiting", "continuing", "live", "failed", "stopped", "superseded"
]
OPEN = ("started", "built", "staged", "waiting")
"""States of a run that another one may end."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One change of state. `arn`: who, as the cloud says; `by`: for display."""

    state: State
    at: str
    arn: str
    by: str
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class PromotionRecord:
    """The run of one commit; its steps, the newest last."""

    commit: Version
    branch: str
    digest: Digest | None = None
    steps: tuple[Step, ...] = ()

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.steps[-1].state

    @property
    def starter(self) -> Step:
        """Who has started it last."""
        return next(each for each in reversed(self.steps) if each.state == "started")


@dataclass(frozen=True, kw_only=True)
class PromotionPath:
    """From which environment to which a tarball goes on."""

    upstream: str
    downstream: str


def way(root: Path) -> PromotionPath | None:
    """What the environments' files say: the first that takes tarballs from another one."""
    for path in sorted((root / "environments").glob("*.yml")):
        upstream = settings.load(settings.Environment, path, root).takes_from
        if upstream:
            return PromotionPath(upstream=upstream, downstream=path.stem)
    return None


# --- the record -----------------------------------------------------------------------------------


def read(store: Store, commit: Version) -> PromotionRecord | None:
    """The run of a commit, or None where there was none."""
    document = store.read(layout.commit_run(commit))
    return _record(document.value) if document else None


def current(store: Store) -> PromotionRecord | None:
    """The run that was the last to begin."""
    pointer = store.read(layout.CURRENT_RUN)
    return read(store, Version(pointer.value["commit"])) if pointer else None


def step(run: Run, state: State, words: str = "") -> Step:
    """A step that is made now, by who runs this."""
    return Step(state=state, at=run.clock.stamp(), arn=run.cloud.caller().arn, by=run.who, words=words)


def change(
    store: Store, commit: Version, changed: Callable[[PromotionRecord | None], PromotionRecord | None]
) -> PromotionRecord | None:
    """Replace a record by what `changed` makes of it; None leaves it as it is. Raises RecordTaken."""
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
) -> bool:
    """Add steps to a run; with `only_from` only where it stands in one of these states. Whether they were added."""
    added = False

    def changed(before: PromotionRecord | None) -> PromotionRecord | None:
        nonlocal added
        added = before is not None and (not only_from or before.state in only_from)
        if not added or before is None:
            return None
        return dataclasses.replace(before, steps=(*before.steps, *new), digest=digest or before.digest)

    change(store, commit, changed)
    return added


def begin(run: Run) -> PromotionRecord | None:
    """Begin the run of the checked-out commit; the one before it is superseded. Returns what this commit's was before."""
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
    # of what a newer pipeline on another branch has added nothing is known here
    known = {field.name for field in dataclasses.fields(Step)}
    steps = tuple(Step(**{k: v for k, v in each.items() if k in known}) for each in value["steps"])
    proved = Digest(value["digest"]) if value.get("digest") else None
    return PromotionRecord(
        commit=Version(value["commit"]), branch=value["branch"], digest=proved, steps=steps
    )
