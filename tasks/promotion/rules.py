"""rules: may this commit go on, and what would go out: decided from facts, without asking anybody."""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.refusal import UNKNOWN, Refusal
from tasks.source import within

if TYPE_CHECKING:
    from tasks.application import Place
    from tasks.digest import Digest
    from tasks.promotion.record import PromotionRecord
    from tasks.settings import Environment
    from tasks.tarball.stored import Pointer
    from tasks.version import Version

SHOWN = 5
"""Files of a kind that are named."""
GOES_ON = ("waiting", "continuing", "live")
"""States from which a run goes on; `continuing` is one that was interrupted, `live` one that is made sure of."""
MADE_UP = re.compile(r":assumed-role/[^/]+/botocore-session-\d+$")
"""A session that nobody has named."""


class NotStaged(Refusal):
    """`doit continue` for a commit that no run has brought this far."""

    sentence = "continue: {commit} has not been on {upstream}{runs}"
    remedy = "doit start"
    any_environment = True


class NotWaiting(Refusal):
    """`doit continue` for a commit whose run has ended, or not come so far."""

    sentence = "continue: the run of {commit} does not wait: {state} since {at} by {by}{words}"
    remedy = "doit start"
    any_environment = True


class OtherTarball(Refusal):
    """What would go on is not what was proved, byte for byte."""

    sentence = "continue: {upstream} has not seen {digest}, {why}"
    remedy = "doit start"
    any_environment = True


class BuiltByOthers(Refusal):
    """The tarball was built by a role whose tarballs the environment does not take."""

    sentence = "continue: {environment} takes tarballs of {builders}, and {digest} was built by {role}"
    remedy = "$EDITOR environments/{environment}.yml"


class Downgrade(Refusal):
    """The commit does not have everything that already runs."""

    sentence = "{control}: {environment} runs {running}, which {commit} does not contain"
    remedy = "git merge {running}"


class UnknownRunning(Refusal):
    """The clone does not have the commit that runs, so nobody can tell which is older."""

    sentence = "{control}: {environment} runs {running}, which is not in this clone"
    remedy = "git fetch --unshallow origin || git fetch origin"


class Frozen(Refusal):
    """The environment takes no release at this time."""

    sentence = (
        "{control}: {environment} is frozen from {begin} to {end} (environments/{environment}.yml: freezes)"
    )
    remedy = "doit plan"


class FreezeUnreadable(Refusal):
    """A freeze that is no time span."""

    sentence = "environments/{environment}.yml: freezes: should be FROM/TO in ISO 8601, not {text}"
    remedy = "$EDITOR environments/{environment}.yml"
    exit_code = UNKNOWN


class SamePerson(Refusal):
    """Who started wants to continue where that takes another person."""

    sentence = "continue: {environment} wants another person's approval, and {who} has started this run"
    remedy = "aws sts get-caller-identity"


class NobodyInPerson(Refusal):
    """The cloud's name for who acts is one that a program made up, so nobody can tell people apart."""

    sentence = "continue: {environment} wants another person's approval, and {who} tells of no person"
    remedy = "export AWS_ROLE_SESSION_NAME=NAME"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found out about a commit that wants to go on.

    `pointer`: the commit's. `proved`: the digest that runs upstream. `running`: the commit that
    runs downstream, `contained`: whether this one contains it, None if the clone cannot tell. `arn`: who continues.
    """

    commit: Version
    record: PromotionRecord | None
    current: Version | None
    pointer: Pointer | None
    proved: Digest | None
    running: Version | None
    contained: bool | None
    arn: str
    now: datetime.datetime


def refusal(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    """Why the commit may not go on to the environment; None if it may."""
    reasons = (_not_proved, _other_tarball, _built_by_others, _older, _frozen, _not_approved)
    return next(filter(None, (reason(name, environment, facts) for reason in reasons)), None)


def _not_proved(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    commit, record = facts.commit.short, facts.record
    if not record:
        upstream = environment.takes_from
        runs = f", which runs {facts.current.short}" if facts.current else ""
        return NotStaged(commit=commit, upstream=upstream, runs=runs)
    if record.state not in GOES_ON:
        last = record.steps[-1]
        words = f" ({last.words})" if last.words else ""
        return NotWaiting(commit=commit, state=last.state, at=last.at, by=last.by, words=words)
    if facts.current != facts.commit and record.state != "live":  # its successor was killed before it said so
        last, words = record.steps[-1], f" (by the run of {facts.current.short if facts.current else None})"
        return NotWaiting(commit=commit, state="superseded", at=last.at, by=last.by, words=words)
    return None


def _other_tarball(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    digest = facts.record.digest if facts.record else None
    pointed, upstream = facts.pointer.digest if facts.pointer else None, environment.takes_from
    if not digest or pointed != digest:
        named, why = pointed or digest, "the commit's tarball is another one now"
        shown = named.short if named else "any tarball of it"
        return OtherTarball(
            upstream=upstream, digest=shown, why=why if pointed else "the commit has no tarball"
        )
    if facts.proved != digest:
        why = f"it runs {facts.proved.short}" if facts.proved else "it runs nothing"
        return OtherTarball(upstream=upstream, digest=digest.short, why=why)
    return None


def _built_by_others(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    # without a pointer nothing has come so far
    if not facts.pointer or not environment.builders or facts.pointer.role in environment.builders:
        return None
    digest, role = facts.pointer.digest.short, facts.pointer.role or "nobody knows whom"
    return BuiltByOthers(environment=name, builders=", ".join(environment.builders), digest=digest, role=role)


def _older(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    return older("continue", name, facts.commit, facts.running, facts.contained)


def older(
    control: str, name: str, commit: Version, running: Version | None, contained: bool | None
) -> Refusal | None:
    """The refusal of a commit that lacks something of what runs."""
    if not running or contained:
        return None
    kind = UnknownRunning if contained is None else Downgrade
    return kind(control=control, environment=name, running=running.short, commit=commit.short)


def _frozen(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    return frozen("continue", name, environment, facts.now)


def frozen(control: str, name: str, environment: Environment, now: datetime.datetime) -> Refusal | None:
    """The refusal of a release at a time that the environment's file excludes. Raises FreezeUnreadable."""
    for text in environment.freezes:
        begin, end = _span(name, text)
        if begin <= now < end:
            span = {"begin": f"{begin:%Y-%m-%d %H:%M}", "end": f"{end:%Y-%m-%d %H:%M %Z}"}
            return Frozen(control=control, environment=name, **span)
    return None


def _span(name: str, text: str) -> tuple[datetime.datetime, datetime.datetime]:
    """Begin and end; a date without a time is that day's first moment."""
    try:
        begin, end = map(datetime.datetime.fromisoformat, text.split("/"))
    except ValueError:
        raise FreezeUnreadable(environment=name, text=repr(text)) from None
    zone = datetime.UTC
    return begin.replace(tzinfo=begin.tzinfo or zone), end.replace(tzinfo=end.tzinfo or zone)


def _not_approved(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    if environment.approvals == "none" or not facts.record:
        return None
    starter = facts.record.starter.arn
    for arn in (starter, facts.arn):
        if MADE_UP.search(arn):
            return NobodyInPerson(environment=name, who=arn)
    return SamePerson(environment=name, who=facts.arn) if facts.arn == starter else None


# --- what would go out ----------------------------------------------------------------------------


PIPELINE = ("dodo.py", "pyproject.toml", "requirements.lock", "tasks")
"""What of the pipeline no stage need declare: it decides what all of them do."""
OTHER = "other"
"""What no stage depends on: it reaches no machine."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What changes reach: the inputs that each stage declares, by its name, and what the project's settings say."""

    stages: Mapping[str, Collection[str]]
    application: Place
    migrations: Collection[str]


def kinds(paths: Iterable[str], reach: Reach) -> dict[str, list[str]]:
    """The paths by what they reach; one that several stages depend on counts under each of them."""
    order = ("application", "migrations", "settings", *reach.stages, "the pipeline itself", OTHER)
    found: dict[str, list[str]] = {kind: [] for kind in order}
    for path in paths:
        for kind in _kinds(path, reach):
            found[kind].append(path)
    return {kind: listed for kind, listed in found.items() if listed}


def told(found: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A line for each kind, with the names of its first files; those that reach no machine are only counted."""
    for kind, paths in found.items():
        number = f"{len(paths)} file{'s' if len(paths) > 1 else ''}"
        if kind == OTHER:
            yield f"other, which reaches no machine: {number}"
        else:
            more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
            yield f"{kind}: {number}: {', '.join(paths[:SHOWN])}{more}"


def _kinds(path: str, reach: Reach) -> list[str]:
    if reach.application.has(path):
        return [
            "migrations" if any(fnmatch.fnmatch(path, each) for each in reach.migrations) else "application"
        ]
    if within(path, ["environments", "pipeline.yml"]):
        return ["settings"]
    stages = [stage for stage, inputs in reach.stages.items() if within(path, inputs)]
    return stages or ["the pipeline itself" if within(path, PIPELINE) else OTHER]
