"""gate: checks which commit may be released to an environment that all branches share, and keeps its promotion record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks import application, source
from tasks.bucket import layout
from tasks.bucket.store import RecordTaken
from tasks.promotion import record as promotion_record
from tasks.promotion import rules
from tasks.refusal import Refusal
from tasks.release import history, rollback, undone
from tasks.source import UncommittedChanges
from tasks.tarball import stored

if TYPE_CHECKING:
    from tasks.digest import Digest
    from tasks.run import Run
    from tasks.version import Version

CONTINUE, START = "continue", "start"
RELEASE = "release"
"""The stage whose outcome is the proof."""
ROLLBACK = "rollback"
"""The stage that goes back by one release, wherever there is one."""
SHOWN = 20
"""Commits that are listed; the rest are counted."""


class OtherBranch(Refusal):
    """Another branch than the default one cannot be released to an environment that all branches share."""

    sentence = "{task}: {environment} takes the branch {default} only, and this is {branch}"
    remedy = "git switch {default}"


class BranchUnproved(Refusal):
    """Neither the clone nor the CI says whether the commit is on the default branch: a tag, a pull request, a clone without history."""

    sentence = (
        "{task}: {environment} takes commits of {default} only, and nothing here says whether {commit} is one"
    )
    remedy = "git fetch --unshallow origin +refs/heads/{default}:{kept} || git fetch origin +refs/heads/{default}:{kept}"


class OnlyByContinue(Refusal):
    """An environment that takes tarballs from another one is released to by `doit continue` only."""

    sentence = "{task}: {environment} takes only what {upstream} has proved, and only by `continue`"
    remedy = "doit continue"
    any_environment = True


class NotProved(Refusal):
    """The run ended without a failure, but a stage was left out, or the tarball that is live is not the commit's."""

    sentence = "{control}: {environment} has not proved {commit}: {why}"
    remedy = "doit forget release"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the stages of a run have done, by their own records.

    `digest`: the tarball that the stage `release` put live or found live. `idle`: stages up to `release` that neither ran through
    nor were found unchanged.
    """

    digest: Digest | None
    idle: Sequence[str] = ()


Finish = Callable[[Proof], Refusal | None]
"""Records the end of a commit's run. Returns why nothing is proved, or None."""


def check_checkout(run: Run, control: str, task: str) -> None:
    """Refuse what the checkout and the settings do not allow. Asks no cloud.

    Raises OtherBranch, BranchUnproved, OnlyByContinue or UncommittedChanges.
    """
    environment, name = run.environment, run.environment_name
    shared = not environment.per_branch
    if control == START or shared:
        changed = source.uncommitted(run.root)
    if shared:
        default = run.pipeline.default_branch
        if run.on_default_branch is None:
            raise BranchUnproved(
                task=_typed(control, task),
                environment=name,
                default=default,
                commit=run.commit.short,
                kept=f"{source.ORIGIN}{default}",
            )
        if not run.on_default_branch:
            branch = run.branch if run.branch != default else f"no commit of {default}"
            raise OtherBranch(task=_typed(control, task), environment=name, default=default, branch=branch)
        if environment.takes_from and control != CONTINUE and task != ROLLBACK:
            raise OnlyByContinue(task=task, environment=name, upstream=environment.takes_from)
    if (control == START or (shared and environment.uncommitted == "refused")) and changed:
        files = ", ".join(changed[:8]) + (" …" if len(changed) > 8 else "")
        raise UncommittedChanges(stage=_typed(control, task), environment=name, files=files)


def begin(run: Run, control: str, chosen: Collection[str]) -> Finish | None:
    """Record that the commit's run begins or continues. The caller holds the environment's lease.

    Returns what records the end, or None where there is nothing to record. Raises a refusal if the commit may not be released
    here now, or if a release may not be undone.
    """
    if ROLLBACK in chosen:
        return _begin_rollback(run)
    path = promotion_record.promotion_path(run.root)
    if not path or RELEASE not in chosen:
        return None
    if run.environment_name == path.upstream:
        return _begin_upstream(run, control)
    return _begin_downstream(run, control) if run.environment_name == path.downstream else None


def _begin_rollback(run: Run) -> Finish | None:
    name, path = run.environment_name, promotion_record.promotion_path(run.root)
    if refused := rules.frozen(ROLLBACK, name, run.environment, run.clock.now()):
        raise refused
    live = rollback.way_back(run.identity, history.read(run.store, run.identity)).undoes
    if not path or name not in (path.upstream, path.downstream):
        return None
    store, arn = run.upstream.store, run.cloud.person().arn
    record = promotion_record.read(store, live.commit)
    if refused := rules.approved(ROLLBACK, name, run.environment, record, arn):
        raise refused

    def finish(proof: Proof) -> Refusal | None:
        now = _newest(run)
        if now and now.undid == live.digest:
            words = f"{name} runs {now.commit.short} again"
            promotion_record.add(store, live.commit, promotion_record.step(run, "undone", words))
        return None

    return finish


def _begin_upstream(run: Run, control: str) -> Finish:
    running = _newest(run)
    frozen = rules.frozen(_typed(control, "release"), run.environment_name, run.environment, run.clock.now())
    if refused := frozen or (_older(run, control, running.commit) if running else None):
        raise refused
    before = promotion_record.begin(run)

    def finish(proof: Proof) -> Refusal | None:
        found = stored.pointer(run, run.commit)
        digest = found.digest if found else None
        refused = _unproved(run, control, proof, digest)
        ended: list[promotion_record.State] = ["built"] if found else []
        if refused:
            ended.append("failed")
        else:
            _remember(run, digest)
            # a tarball that is live downstream does not wait again
            live = before and (before.state, before.digest) == ("live", digest)
            ended += ["staged", "live" if live else "waiting"]
        words = {"failed": str(refused.facts["why"])} if refused else {}
        steps = [promotion_record.step(run, state, words.get(state, "")) for state in ended]
        promotion_record.add(run.store, run.commit, *steps, digest=digest)
        return refused

    return finish


def _begin_downstream(run: Run, control: str) -> Finish:
    store = run.upstream.store
    if refused := refusal(run):
        raise refused
    claim = promotion_record.step(run, "continuing")
    claimed = promotion_record.add(store, run.commit, claim, only_from=rules.MAY_CONTINUE)
    if not claimed:
        raise refusal(run) or RecordTaken(key=layout.commit_run(run.commit), by="another run")

    def finish(proof: Proof) -> Refusal | None:
        current, known = promotion_record.current(store), promotion_record.read(store, run.commit)
        digest = claimed.digest if known else None
        refused = _unproved(run, control, proof, digest)
        state: promotion_record.State = "live"
        if refused:
            state = "waiting" if current and current.commit == run.commit else "superseded"
        else:
            _remember(run, digest)
        words = f"{run.environment_name} failed: {refused.facts['why']}" if refused else ""
        # not into the record of a run that has started meanwhile: it says what that one has proved
        step = promotion_record.step(run, state, words)
        promotion_record.add(store, run.commit, step, only_from=("continuing",))
        return refused

    return finish


def _unproved(run: Run, control: str, proof: Proof, digest: Digest | None) -> Refusal | None:
    """Why the run proves nothing about the tarball `digest`, or None."""
    if proof.idle:
        why = f"{', '.join(proof.idle)} did not run"
    elif not digest or proof.digest != digest:
        runs, wanted = (each.short if each else "no tarball" for each in (proof.digest, digest))
        why = f"{runs} is live, and the commit has {wanted}"
    else:
        return None
    environment, commit = run.environment_name, run.commit.short
    return NotProved(control=_typed(control, RELEASE), environment=environment, commit=commit, why=why)


def refusal(run: Run) -> Refusal | None:
    """Why the checked-out commit may not continue now; None if it may."""
    store, commit = run.upstream.store, run.commit
    current, running = promotion_record.current(store), _newest(run)
    proved, pointer = _newest(run.upstream), stored.pointer(run, commit)
    facts = rules.Facts(
        commit=commit,
        record=promotion_record.read(store, commit),
        current=current.commit if current else None,
        pointer=pointer,
        proved=proved.digest if proved else None,
        running=running.commit if running else None,
        contained=run.contains(running.commit) if running else None,
        arn=run.cloud.person().arn,
        now=run.clock.now(),
        undone=undone.of(run, pointer.digest) if pointer else None,
    )
    return rules.refusal(run.environment_name, run.environment, facts)


def pending_changes(run: Run, inputs: Mapping[str, Collection[str]]) -> list[str]:
    """What would go live, for the person who decides: the commits, their authors, and what they reach.

    `inputs`: the paths that each stage declares.
    """
    record, running = promotion_record.read(run.upstream.store, run.commit), _newest(run)
    lines = [
        f"{run.commit.short} to {run.environment_name}, tarball {record.digest}" if record else run.commit
    ]
    if record:
        begun, last = record.starter, record.steps[-1]
        lines.append(f"started {begun.at} by {begun.by}, {last.state} since {last.at}")
    commits = source.commits(run.root, running.commit if running else None, run.commit)
    since = (
        f"since {running.commit.short}, which went live {running.at}"
        if running
        else "in all: the first release"
    )
    lines.append(f"{len(commits)} commits {since}")
    lines += [f"  {each}" for each in commits[:SHOWN]]
    if len(commits) > SHOWN:
        lines.append(f"  and {len(commits) - SHOWN} more")
    if running:
        paths = source.touched(run.root, running.commit, run.commit)
        reach = rules.Reach(
            stages=inputs, application=application.place(run), migrations=run.profile.migrations
        )
        reached = [f"  {each}" for each in rules.lines(rules.kinds(paths, reach))]
        lines += ["changes reach", *reached] if reached else ["no file differs"]
    return lines


def _newest(run: Run) -> history.LiveRelease | None:
    return next(reversed(history.read(run.store, run.identity)), None)


def _remember(run: Run, digest: Digest | None) -> None:
    """Record the commit as live, also if it changed nothing that is released: no older commit may follow it."""
    if digest:
        history.add(run, digest)


def _older(run: Run, control: str, running: Version) -> Refusal | None:
    contained = run.contains(running)
    return rules.older(_typed(control, "release"), run.environment_name, run.commit, running, contained)


def _typed(control: str, task: str) -> str:
    return task if control == "run" else control
