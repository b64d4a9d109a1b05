"""rules: decide from facts whether a commit may continue, and list what it would change. Pure."""

from __future__ import annotations

import datetime
import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks import forms
from tasks.cloud.caller import Caller
from tasks.printable import in_one_line
from tasks.refusal import Refusal
from tasks.source import within

if TYPE_CHECKING:
    from tasks.application import ApplicationFolder
    from tasks.digest import Digest
    from tasks.promotion.record import PromotionRecord
    from tasks.release.undone import Mark
    from tasks.settings import Environment
    from tasks.tarball.stored import Pointer
    from tasks.version import Version

SHOWN = 5
"""Files of each kind that are named; the rest are counted."""
MAY_CONTINUE = ("waiting", "continuing", "live", "undone")
"""States from which a run may continue: `continuing` after an interruption, `live` to check it again, `undone` if its tarball is allowed again."""


class NotStaged(Refusal):
    """`doit continue` for a commit that no run has released upstream."""

    sentence = "continue: {commit} has not been on {upstream}{runs}"
    remedy = "doit start"
    any_environment = True


class NotWaiting(Refusal):
    """`doit continue` for a commit whose run has ended, or has not reached `waiting`."""

    sentence = "continue: the run of {commit} does not wait: {state} since {at} by {by}{words}"
    remedy = "doit start"
    any_environment = True


class OtherTarball(Refusal):
    """The commit's tarball is not the one that was proved upstream."""

    sentence = "continue: {upstream} has not proved {digest}: {why}"
    remedy = "doit start"
    any_environment = True


class BuiltByOthers(Refusal):
    """The tarball was built by a role that the environment's `builders` do not list."""

    sentence = "continue: {environment} takes tarballs of {builders}, and {digest} was built by {role}"
    remedy = "$EDITOR environments/{environment}.yml"


class Downgrade(Refusal):
    """The commit does not contain the commit that runs."""

    sentence = "{control}: {environment} runs {running}, which {commit} does not contain"
    remedy = "git merge {running}"


class UnknownRunning(Refusal):
    """The clone lacks the commit that runs, or its history, so it is unknown which of the two is older."""

    sentence = "{control}: {environment} runs {running}, which this clone's history does not reach"
    remedy = "git fetch --unshallow origin || git fetch origin"


class Frozen(Refusal):
    """The environment takes no release at this time."""

    sentence = (
        "{control}: {environment} is frozen from {begin} to {end} (environments/{environment}.yml: freezes)"
    )
    remedy = "doit plan"


class SamePerson(Refusal):
    """The person who started a run can neither continue it nor undo it where the environment requires another person's approval."""

    sentence = "{control}: {environment} requires another person's approval, and {who} has started this run"
    remedy = "aws sts get-caller-identity"


class PersonUnknown(Refusal):
    """The identity that the cloud reports is no person's: a generated session name, or the account's root."""

    sentence = "{control}: {environment} requires another person's approval, and {who} names no person"
    remedy = "export AWS_ROLE_SESSION_NAME=NAME"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known about a commit that is to continue.

    `pointer`: the commit's tarball. `proved`: the digest that runs upstream. `running`: the commit that runs downstream.
    `contained`: whether the commit contains that one, None if the clone does not have it. `arn`: the identity that continues.
    `undone`: the mark of the commit's tarball, if it goes no further.
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
    undone: Mark | None = None


def refusal(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    """Why the commit may not continue to the environment; None if it may."""
    reasons = (_undone, _not_proved, _other_tarball, _built_by_others, _older, _frozen, _not_approved)
    return next(filter(None, (reason(name, environment, facts) for reason in reasons)), None)


def _undone(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    return facts.undone.refusal("continue") if facts.undone else None


def _not_proved(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    commit, record = facts.commit.short, facts.record
    if not record:
        upstream = environment.takes_from
        runs = f", which runs {facts.current.short}" if facts.current else ""
        return NotStaged(commit=commit, upstream=upstream, runs=runs)
    if record.state not in MAY_CONTINUE:
        last = record.steps[-1]
        words = f" ({last.words})" if last.words else ""
        return NotWaiting(commit=commit, state=last.state, at=last.at, by=last.by, words=words)
    # a newer run that was killed has not recorded yet that it supersedes this one
    if facts.current != facts.commit and record.state != "live":
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
        why = f"it runs {facts.proved.short}" if facts.proved else "nothing is released there"
        return OtherTarball(upstream=upstream, digest=digest.short, why=why)
    return None


def _built_by_others(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    # without a pointer, an earlier rule has refused
    if not facts.pointer or not environment.builders or facts.pointer.role in environment.builders:
        return None
    digest, role = facts.pointer.digest.short, facts.pointer.role or "an unknown role"
    return BuiltByOthers(environment=name, builders=", ".join(environment.builders), digest=digest, role=role)


def _older(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    return older("continue", name, facts.commit, facts.running, facts.contained)


def older(
    control: str, name: str, commit: Version, running: Version | None, contained: bool | None
) -> Refusal | None:
    """The refusal of a commit that does not contain the commit that runs, or None."""
    if not running or contained:
        return None
    kind = UnknownRunning if contained is None else Downgrade
    return kind(control=control, environment=name, running=running.short, commit=commit.short)


def _frozen(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    return frozen("continue", name, environment, facts.now)


def frozen(control: str, name: str, environment: Environment, now: datetime.datetime) -> Refusal | None:
    """The refusal of a release during a freeze, or None."""
    for text in environment.freezes:
        begin, end = forms.span(text)
        if begin <= now < end:
            span = {"begin": f"{begin:%Y-%m-%d %H:%M}", "end": f"{end:%Y-%m-%d %H:%M %Z}"}
            return Frozen(control=control, environment=name, **span)
    return None


def _not_approved(name: str, environment: Environment, facts: Facts) -> Refusal | None:
    return approved("continue", name, environment, facts.record, facts.arn)


def approved(
    control: str, name: str, environment: Environment, record: PromotionRecord | None, arn: str
) -> Refusal | None:
    """The refusal of a person who may not decide alone about a run, or None. `record`: the run's."""
    if environment.approvals == "none":
        return None
    starter = record.starter.arn if record else "a run without a record"
    for each in (starter, arn):
        if not Caller(arn=each).person:
            return PersonUnknown(control=control, environment=name, who=each)
    # one person has another role in each kind of job: the names are compared, not the ARNs
    person = Caller(arn=arn).person
    if person == Caller(arn=starter).person:
        return SamePerson(control=control, environment=name, who=person)
    return None


# --- what would go live ----------------------------------------------------------------------------


PIPELINE = ("dodo.py", "pyproject.toml", "requirements.lock", "tasks")
"""The pipeline's own files, as far as no stage declares them: they decide what all stages do."""
OTHER = "other"
"""Files that no stage depends on; they reach no machine."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What a change may reach. `stages`: the inputs that each stage declares. `migrations`: patterns of paths."""

    stages: Mapping[str, Collection[str]]
    application: ApplicationFolder
    migrations: Collection[str]


def kinds(paths: Iterable[str], reach: Reach) -> dict[str, list[str]]:
    """The paths by what they reach. A path that several stages depend on counts under each of them."""
    order = ("application", "migrations", "settings", *reach.stages, "the pipeline itself", OTHER)
    found: dict[str, list[str]] = {kind: [] for kind in order}
    for path in paths:
        for kind in _kinds(path, reach):
            found[kind].append(path)
    return {kind: listed for kind, listed in found.items() if listed}


def lines(found: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A line for each kind, with its first files. Files that reach no machine are only counted."""
    for kind, paths in found.items():
        number = f"{len(paths)} file{'s' if len(paths) > 1 else ''}"
        if kind == OTHER:
            yield f"other, which reaches no machine: {number}"
        else:
            more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
            yield f"{kind}: {number}: {', '.join(map(in_one_line, paths[:SHOWN]))}{more}"


def _kinds(path: str, reach: Reach) -> list[str]:
    if reach.application.has(path):
        return [
            "migrations" if any(fnmatch.fnmatch(path, each) for each in reach.migrations) else "application"
        ]
    if within(path, ["environments", "pipeline.yml"]):
        return ["settings"]
    stages = [stage for stage, inputs in reach.stages.items() if within(path, inputs)]
    return stages or ["the pipeline itself" if within(path, PIPELINE) else OTHER]
