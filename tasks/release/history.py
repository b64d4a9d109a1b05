"""history: what went live in an environment, when, who released it and why; the newest last. And what failed.

Each entry has a digest of itself and of the one before it, so that a changed past is found.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.bucket.store import Document, NotADocument
from tasks.digest import Digest
from tasks.refusal import Refusal
from tasks.version import Version

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.run import Run

KEPT = 100
"""Releases that an environment's history keeps, and failures."""


class HistoryChanged(Refusal):
    """An entry of the history is not as it was written, or one before it is gone: somebody has changed the file in the bucket."""

    sentence = "history: the {what} of {at} ({name}) or the one before it is not as it was written"
    remedy = "doit history --json"


@dataclass(frozen=True, kw_only=True)
class LiveRelease:
    """One release that went live.

    `digest`: the tarball's. `author`, `subject`, `committed`: the commit's, see `source.Reason`. `seconds`: what the stage
    `release` took. `migrated`: whether it has changed the database; None where nobody knows; `online`: while it was open, so that the code before works with it. `downtime`: seconds of its maintenance, or in which visitors had
    no answer; `slowest`: seconds of the slowest one, None where it was not measured; `steps`: what its
    hosts did, and the seconds; `notes`: what they told though it is no failure. `undid`: the tarball that a rollback has undone,
    of which the release is the one before, live again. `chain`: the digest of the rest of the entry and of the chain before it; an older pipeline wrote none.
    """

    digest: Digest
    commit: Version
    branch: str
    by: str
    at: str
    run: str
    author: str = ""
    subject: str = ""
    committed: str = ""
    seconds: float = 0.0
    migrated: bool | None = None
    online: bool = False
    downtime: float = 0.0
    slowest: float | None = None
    steps: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()
    undid: str = ""
    chain: str = ""

    @property
    def why(self) -> str:
        """In a line: what the commit says, or what was undone."""
        return f"rollback of {Digest(self.undid).id}" if self.undid else self.subject

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> LiveRelease:
        """The release of an entry. Fields that another version of the pipeline has added or left out are accepted."""
        texts = ("branch", "by", "at", "run", "author", "subject", "committed", "undid", "chain")
        told = {name: str(value.get(name) or "") for name in texts}
        seconds, downtime = (float(value.get(each) or 0) for each in ("seconds", "downtime"))
        migrated, slowest = (value.get(each) for each in ("migrated", "slowest"))
        return cls(
            digest=Digest(value["digest"]),
            commit=Version(value["commit"]),
            seconds=seconds,
            migrated=None if migrated is None else bool(migrated),
            online=bool(value.get("online")),
            downtime=downtime,
            slowest=None if slowest is None else float(slowest),
            steps=tuple((str(name), float(took)) for name, took in value.get("steps") or ()),
            notes=tuple(map(str, value.get("notes") or ())),
            **told,
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the hosts of a release say of it, as in `LiveRelease`. `migrated`: None where they had it before."""

    migrated: bool | None = False
    online: bool = False
    downtime: float = 0.0
    slowest: float | None = None
    steps: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()


NOTHING = Measured()


@dataclass(frozen=True, kw_only=True)
class FailedRelease:
    """A release that did not go live, and the sentence that said so. `chain`: as of a release, of failures alone."""

    at: str
    commit: str
    by: str
    run: str
    sentence: str
    chain: str = ""

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> FailedRelease:
        """The failure of an entry, whatever another version of the pipeline has added."""
        return cls(**{each.name: str(value.get(each.name) or "") for each in dataclasses.fields(cls)})


@dataclass(frozen=True, kw_only=True)
class History:
    """What went live, and what failed; the newest last."""

    releases: tuple[LiveRelease, ...] = ()
    failures: tuple[FailedRelease, ...] = ()


def whole(store: Store, identity: str) -> History:
    """The history of an environment, with what failed."""
    document = store.read(layout.history(identity))
    if not document:
        return History()
    failures = tuple(FailedRelease.of(each) for each in document.value.get("failures", ()))
    return History(releases=tuple(of(document.value)), failures=failures)


def read(store: Store, identity: str) -> list[LiveRelease]:
    """The releases of an environment, the newest last."""
    return [*whole(store, identity).releases]


def of(value: Mapping[str, Any]) -> list[LiveRelease]:
    """The releases of a history's document."""
    return [LiveRelease.of(each) for each in value["releases"]]


def opened(store: Store, identity: str) -> Document:
    """The document of an environment's history, made if there is none: `add` does not make one where a teardown has deleted it."""
    key, empty = layout.history(identity), {"releases": list[Any]()}
    return store.read(key) or Document(value=empty, etag=store.write(key, empty, seen=None), age=0.0)


def known(store: Store, identity: str) -> Document:
    """The document of an environment's history; one without an entry where there is none."""
    return store.read(layout.history(identity)) or Document(value={"releases": []}, etag="", age=0.0)


def add(
    run: Run,
    digest: Digest,
    *,
    onto: Document | None = None,
    seconds: float = 0.0,
    measured: Measured = NOTHING,
) -> None:
    """Record that a tarball went live here. The same tarball of the same commit is not recorded twice in a row.

    `onto`: the history before the release. Raises RecordTaken if another run has written or deleted it since.
    """
    document = onto or opened(run.store, run.identity)
    before = document.value["releases"]
    if before and (before[-1]["digest"], before[-1]["commit"]) == (digest, run.commit):
        return
    # what hosts had before, they do not know of any more; of the same tarball, the entry before says it
    known = measured.migrated is not None or (before and before[-1]["digest"] == digest)
    live = LiveRelease(
        digest=digest,
        commit=run.commit,
        branch=run.branch,
        by=run.who,
        at=run.clock.stamp(),
        run=run.id,
        seconds=round(seconds, 1),
        migrated=bool(measured.migrated) if known else None,
        online=measured.online,
        downtime=measured.downtime,
        slowest=measured.slowest,
        steps=measured.steps,
        notes=measured.notes,
        **dataclasses.asdict(run.reason),
    )
    _append(run, live, document)


def add_rollback(
    run: Run, undoes: LiveRelease, to: LiveRelease, *, onto: Document, seconds: float, measured: Measured
) -> None:
    """Record that a release is live again instead of the one that came after it."""
    again = dataclasses.replace(
        to,
        by=run.who,
        at=run.clock.stamp(),
        run=run.id,
        seconds=round(seconds, 1),
        migrated=False,
        online=False,
        downtime=measured.downtime,
        slowest=measured.slowest,
        steps=measured.steps,
        notes=measured.notes,
        undid=undoes.digest,
    )
    _append(run, again, onto)


def _append(run: Run, live: LiveRelease, onto: Document) -> None:
    value = _chained(onto.value, "releases", dataclasses.asdict(live))
    run.store.write(layout.history(run.identity), value, seen=onto.etag)
    run.console.note_fact("history", f"the chain ends with {value['releases'][-1]['chain']}")


DROPPED = {"releases": "dropped", "failures": "dropped_failures"}
"""Where a document keeps the chain of the newest entry that it has dropped."""


def _chained(value: Mapping[str, Any], kind: str, new: Mapping[str, Any]) -> dict[str, Any]:
    """The document with a new entry at the end of its chain, and without the oldest ones."""
    before = value.get(kind, [])
    entries = [*before, {**new, "chain": _chain(new, before[-1] if before else {})}]
    gone = {DROPPED[kind]: entries[-KEPT - 1].get("chain", "")} if len(entries) > KEPT else {}
    return {**value, kind: entries[-KEPT:], **gone}


def note_failure(run: Run, refusal: Refusal, *, onto: Document) -> None:
    """Record that a release failed. What is told of it is the refusal, whether this can be written or not."""
    new = FailedRelease(
        at=run.clock.stamp(), commit=run.commit, by=run.who, run=run.id, sentence=refusal.text.splitlines()[0]
    )
    value = _chained(onto.value, "failures", dataclasses.asdict(new))
    with contextlib.suppress(Refusal):
        run.store.write(layout.history(run.identity), value, seen=onto.etag)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """`end`: the chain's end; who keeps it elsewhere sees that nothing was cut off. `unchained`: entries of an older pipeline, which no chain holds."""

    end: str
    unchained: tuple[LiveRelease, ...]

    def words(self) -> list[str]:
        """Lines for people."""
        old = self.unchained
        span = f"the newest of {old[-1].at}" if old else ""
        return [
            *(
                [f"history: {len(old)} written by an older pipeline, {span}: no chain holds them"]
                if old
                else []
            ),
            f"history: no entry was changed since it was written; the chain ends with {self.end}"
            if self.end
            else "history: there is no entry in a chain",
        ]


def verify(value: Mapping[str, Any]) -> Verified:
    """Hold each entry of a history's document against its chain. Raises HistoryChanged, with the first one that does not fit.

    What an older pipeline wrote has no chain: it is believed as long as nothing before it has one.
    """
    end, old = _held(value, "releases")
    _held(value, "failures")
    return Verified(end=end, unchained=tuple(map(LiveRelease.of, old)))


def _held(value: Mapping[str, Any], kind: str) -> tuple[str, list[Mapping[str, Any]]]:
    """The end of a chain, and the entries that it does not hold."""
    old = list[Mapping[str, Any]]()
    before: Mapping[str, Any] = {"chain": value.get(DROPPED[kind], "")}
    for each in value.get(kind, ()):
        chained = each.get("chain") or before.get("chain")
        if chained and each.get("chain") != _chain(each, before):
            name = Digest(each["digest"]).id if kind == "releases" else each["commit"]
            raise HistoryChanged(what=kind.removesuffix("s"), at=each["at"], name=name)
        if not chained:
            old.append(each)
        before = each
    return str(before.get("chain", "")), old


def _chain(entry: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Over all that is written, so that an entry of an older or newer pipeline stays as it is."""
    return Digest.of_value([{**entry, "chain": ""}, before.get("chain", "")])


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
