"""The gate, rule by rule: which checkout may be released where, what a run proves, and what becomes of its record."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from tasks.bucket import layout
from tasks.bucket.store import RecordTaken
from tasks.digest import Digest
from tasks.promotion import gate
from tasks.promotion.gate import BranchUnproved, OnlyByContinue, OtherBranch, Proof
from tasks.promotion.rules import (
    Downgrade,
    Frozen,
    NotStaged,
    NotWaiting,
    OtherTarball,
    PersonUnknown,
    SamePerson,
)
from tasks.release import history, undone
from tasks.release.rollback import NoWayBack
from tasks.source import UncommittedChanges
from tests.clouds import run_in
from tests.conftest import commit, git
from tests.plain import Plain
from tests.simulation.alone import Alone
from tests.simulation.cloud import SimulatedCloud
from tests.simulation.controllers import COMMITS, TESTING
from tests.simulation.scheduler import Process

FIRST, SECOND = COMMITS[:2]
DIGEST, OTHER = Digest("d" * 64), Digest("e" * 64)
KIM = {"at": "2026-03-02 07:00 UTC", "arn": "arn:aws:iam::1:user/kim", "by": "kim", "words": ""}


@pytest.fixture
def world():
    return Alone()


def points(world, digest=DIGEST, commit=FIRST):
    """The commit's tarball is built."""
    world.put(layout.record("trusted", "commits", commit), {"digest": digest, "role": "builder"})


def runs(world, environment, commit=FIRST, digest=DIGEST):
    """An environment has this live."""
    entry = {
        "digest": digest,
        "commit": commit,
        "branch": "main",
        "by": "kim",
        "at": KIM["at"],
        "run": "before",
    }
    world.put(layout.history(environment), {"releases": [entry]})


def recorded(world, *states, commit=FIRST, digest=DIGEST, current=FIRST):
    """The commit's run has made these steps."""
    steps = [{"state": each, **KIM} for each in states]
    world.put(
        layout.commit_run(commit), {"commit": commit, "branch": "main", "digest": digest, "steps": steps}
    )
    world.put(layout.CURRENT_RUN, {"commit": current})


def waits(world):
    """Staging has proved the commit's tarball, and its run waits."""
    points(world)
    runs(world, "staging")
    recorded(world, "started", "built", "staged", "waiting")


def states(world, commit=FIRST):
    return [each["state"] for each in world.value(layout.commit_run(commit))["steps"]]


def live(world, environment):
    found = world.value(layout.history(environment))
    return [(each["commit"], each["digest"]) for each in found["releases"]] if found else []


def begins(world, environment, proof=None, control="run", number=0, act=None):
    """Begin a run and, with a proof, end it; what it refuses."""

    def begin(run):
        finish = gate.begin(act(run) if act else run, control, ["server", "release"])
        return finish(proof) if proof else None

    return world.does(begin, environment=environment, checked_out=number)


def frozen(run):
    settings = dataclasses.replace(run.environment, freezes=("2026-03-02/2026-03-03",))
    return dataclasses.replace(run, environment=settings)


# --- a run upstream -------------------------------------------------------------------------------


@pytest.mark.promise("what-a-run-proves")
def test_what_is_healthy_upstream_is_recorded_as_live_and_waits(world):
    points(world)
    assert begins(world, "staging", Proof(digest=DIGEST)) is None
    assert states(world) == ["started", "built", "staged", "waiting"]
    assert world.value(layout.commit_run(FIRST))["digest"] == DIGEST
    assert live(world, "staging") == [(FIRST, DIGEST)]


@pytest.mark.parametrize(
    ("pointer", "proof", "why", "ended"),
    [
        (
            DIGEST,
            Proof(digest=DIGEST, idle=("server", "release")),
            "server, release did not run",
            ["built", "failed"],
        ),
        (
            DIGEST,
            Proof(digest=OTHER),
            f"{OTHER.short} is live, and the commit has {DIGEST.short}",
            ["built", "failed"],
        ),
        (
            DIGEST,
            Proof(digest=None),
            f"no tarball is live, and the commit has {DIGEST.short}",
            ["built", "failed"],
        ),
        (None, Proof(digest=DIGEST), f"{DIGEST.short} is live, and the commit has no tarball", ["failed"]),
        (None, Proof(digest=None), "no tarball is live, and the commit has no tarball", ["failed"]),
    ],
)
@pytest.mark.promise("what-a-run-proves")
def test_what_is_not_proved_is_recorded_as_failed_with_the_reason(world, pointer, proof, why, ended):
    if pointer:
        points(world, pointer)
    for control, said in (("run", "release"), ("start", "start")):
        refused = begins(world, "staging", proof, control)
        assert refused.text.splitlines()[0] == f"{said}: staging has not proved {FIRST.short}: {why}"
        steps = world.value(layout.commit_run(FIRST))["steps"]
        assert [each["state"] for each in steps][-len(ended) - 1 :] == ["started", *ended]
        assert [each["words"] for each in steps[-len(ended) :]] == [*[""] * (len(ended) - 1), why]
    assert live(world, "staging") == []


@pytest.mark.parametrize(
    ("before", "digest", "last"),
    [
        ("live", DIGEST, "live"),
        ("live", OTHER, "waiting"),
        ("failed", DIGEST, "waiting"),
        ("waiting", DIGEST, "waiting"),
    ],
)
def test_a_tarball_that_is_live_downstream_does_not_wait_again(world, before, digest, last):
    points(world)
    recorded(world, "started", before, digest=digest)
    assert begins(world, "staging", Proof(digest=DIGEST)) is None
    assert states(world)[2:] == ["started", "built", "staged", last]


@pytest.mark.parametrize("control", ["run", "start"])
@pytest.mark.promise("staging-may-freeze")
def test_a_frozen_environment_begins_nothing_and_the_control_that_was_typed_is_named(world, control):
    with pytest.raises(Frozen, match=f"^{'release' if control == 'run' else control}: staging is frozen"):
        begins(world, "staging", control=control, act=frozen)
    assert world.objects == {}


@pytest.mark.promise("no-older-commit-goes-live")
def test_upstream_takes_no_commit_that_lacks_the_one_that_runs_there(world):
    runs(world, "staging", SECOND)
    with pytest.raises(
        Downgrade, match=f"^start: staging runs {SECOND.short}, which {FIRST.short} does not contain"
    ):
        begins(world, "staging", control="start")
    with pytest.raises(Downgrade, match=r"^release: staging runs"):
        begins(world, "staging")
    assert layout.commit_run(FIRST) not in world.objects
    for number in (1, 2):
        begins(world, "staging", control="start", number=number)
        assert states(world, COMMITS[number]) == ["started"]


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [("testing", ["release"]), ("staging", ["server"]), ("production", []), ("staging", [])],
)
def test_what_is_on_no_way_or_releases_nothing_is_not_recorded(world, environment, chosen):
    assert world.does(lambda run: gate.begin(run, "run", chosen), environment=environment) is None
    assert world.requests == []


def test_where_no_environment_takes_from_another_nothing_is_recorded(world, tmp_path):
    (tmp_path / "environments").mkdir()
    act = lambda run: gate.begin(dataclasses.replace(run, root=tmp_path), "run", ["release"])  # noqa: E731
    assert world.does(act, environment="staging") is None


# --- a run downstream -----------------------------------------------------------------------------


def test_what_waits_continues_and_is_live(world):
    waits(world)
    assert begins(world, "production", Proof(digest=DIGEST), "continue") is None
    steps = world.value(layout.commit_run(FIRST))["steps"]
    assert [(each["state"], each["words"]) for each in steps[-2:]] == [("continuing", ""), ("live", "")]
    assert live(world, "production") == [(FIRST, DIGEST)]


@pytest.mark.parametrize(("current", "ended"), [(FIRST, "waiting"), (SECOND, "superseded")])
def test_what_fails_downstream_waits_again_unless_another_run_has_begun_meanwhile(world, current, ended):
    waits(world)

    def act(run):
        finish = gate.begin(run, "continue", ["release"])
        world.put(layout.CURRENT_RUN, {"commit": current})
        return finish(Proof(digest=OTHER))

    refused = world.does(act, environment="production")
    why = f"{OTHER.short} is live, and the commit has {DIGEST.short}"
    assert refused.text.startswith(f"continue: production has not proved {FIRST.short}: {why}")
    last = world.value(layout.commit_run(FIRST))["steps"][-1]
    assert (last["state"], last["words"]) == (ended, f"production failed: {why}")
    assert live(world, "production") == []


@pytest.mark.parametrize(("proved", "why"), [(DIGEST, ""), (OTHER, "the commit has")])
def test_a_start_of_the_same_commit_meanwhile_keeps_its_record(world, proved, why):
    """Staging proves it once more: what ends downstream says nothing of that run, and is no failure by it."""
    waits(world)

    def act(run):
        finish = gate.begin(run, "continue", ["release"])
        recorded(world, "started", "waiting", "continuing", "started", digest=None)
        return finish(Proof(digest=proved))

    refused = world.does(act, environment="production")
    assert why in refused.text if why else refused is None
    assert states(world) == ["started", "waiting", "continuing", "started"]
    assert live(world, "production") == ([] if why else [(FIRST, DIGEST)])


def test_a_run_whose_record_is_gone_proves_nothing(world):
    waits(world)

    def act(run):
        finish = gate.begin(run, "continue", ["release"])
        del world.objects[layout.commit_run(FIRST)]
        return finish(Proof(digest=DIGEST))

    assert "the commit has no tarball" in world.does(act, environment="production").text
    assert live(world, "production") == []


def test_the_run_that_began_last_may_have_lost_its_pointer(world):
    waits(world)

    def act(run):
        finish = gate.begin(run, "continue", ["release"])
        del world.objects[layout.CURRENT_RUN]
        finish(Proof(digest=OTHER))

    world.does(act, environment="production")
    assert states(world)[-1] == "superseded"


@pytest.mark.promise("asked-again-under-the-lease")
def test_what_may_not_continue_is_refused_and_stays_as_it_is(world):
    waits(world)
    with pytest.raises(Frozen, match=r"^continue: production is frozen"):
        begins(world, "production", control="continue", act=frozen)
    assert states(world)[-1] == "waiting"


class Meanwhile(Alone):
    """Something happens just before the first write."""

    def __init__(self, then):
        super().__init__()
        self.then = then

    def call(self, process, name, effect, *, changes=False):
        if name == "put_object" and self.then:
            then, self.then = self.then, None
            then(self)
        return super().call(process, name, effect, changes=changes)


@pytest.mark.promise("asked-again-under-the-lease")
def test_a_run_that_is_stopped_while_it_is_claimed_is_refused_with_the_reason():
    meanwhile = Meanwhile(lambda world: recorded(world, "started", "waiting", "stopped"))
    waits(meanwhile)
    with pytest.raises(NotWaiting, match=f"^continue: the run of {FIRST.short} does not wait: stopped since"):
        begins(meanwhile, "production", control="continue")
    assert states(meanwhile)[-1] == "stopped"


def test_a_claim_that_another_run_has_hindered_and_that_may_be_made_again_says_so(world):
    """The run was stopped when it was claimed, and waits again when it is asked why."""
    waits(world)

    class Flickers:
        """The first read and the third of the commit's run see it waiting, the second sees it stopped."""

        def __init__(self, store):
            self.store, self.reads = store, 0

        def __getattr__(self, name):
            return getattr(self.store, name)

        def read(self, key):
            if key == layout.commit_run(FIRST):
                self.reads += 1
                recorded(world, "started", "waiting", *(["stopped"] if self.reads == 3 else []))
            return self.store.read(key)

    with pytest.raises(RecordTaken, match=f"state: {layout.commit_run(FIRST)} was changed by another run"):
        begins(
            world,
            "production",
            control="continue",
            act=lambda run: dataclasses.replace(run, store=Flickers(run.store)),
        )


def judged(world, number=0):
    return world.does(gate.refusal, environment="production", checked_out=number)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda world: None, None),
        (lambda world: world.objects.pop(layout.commit_run(FIRST)), NotStaged),
        (lambda world: world.objects.pop(layout.record("trusted", "commits", FIRST)), OtherTarball),
        (lambda world: points(world, OTHER), OtherTarball),
        (lambda world: world.objects.pop(layout.history("staging")), OtherTarball),
        (lambda world: runs(world, "staging", digest=OTHER), OtherTarball),
        (lambda world: runs(world, "production", SECOND), Downgrade),
        (lambda world: runs(world, "production", FIRST), None),
        (lambda world: world.objects.pop(layout.CURRENT_RUN), NotWaiting),
        (lambda world: recorded(world, "started", "waiting", current=SECOND), NotWaiting),
        (lambda world: recorded(world, "started", "failed"), NotWaiting),
    ],
)
def test_whether_a_commit_may_continue_is_read_from_the_bucket(world, change, kind):
    waits(world)
    change(world)
    refused = judged(world)
    assert (type(refused) if refused else None) is kind


def approval(run):
    settings = dataclasses.replace(run.environment, approvals="other_person")
    return dataclasses.replace(run, environment=settings)


@pytest.mark.parametrize(("name", "refused"), [("kim", True), ("lee", False)])
def test_who_continues_is_who_the_cloud_says(world, name, refused):
    waits(world)
    found = world.does(lambda run: gate.refusal(approval(run)), environment="production", name=name)
    assert (found is not None) is refused


# --- a rollback -----------------------------------------------------------------------------------


def went_live(world, environment, *entries):
    """An environment has had these live: tarball, commit, what was undone."""
    told = {"branch": "main", "by": "kim", "at": KIM["at"], "run": "before", "migrated": False}
    releases = [{"digest": digest, "commit": each, "undid": undid, **told} for digest, each, undid in entries]
    world.put(layout.history(environment), {"releases": releases})


def goes_back(world, environment, then=None, act=None, name="lee"):
    """Begin a rollback and end it, after this has happened; what it refuses."""

    def begin(run):
        finish = gate.begin(act(run) if act else run, "run", {"rollback"})
        if then:
            then()
        return finish(Proof(digest=None)) if finish else None

    return world.does(begin, environment=environment, name=name)


@pytest.mark.promise("rollback-under-the-gate-s-rules")
@pytest.mark.parametrize("environment", ["staging", "production"])
def test_the_record_of_what_is_undone_says_so(world, environment):
    recorded(world, "started", "built", "staged", "waiting", "live")
    before = [(OTHER, SECOND, ""), (DIGEST, FIRST, "")]
    went_live(world, environment, *before)
    then = lambda: went_live(world, environment, *before, (OTHER, SECOND, DIGEST))  # noqa: E731
    assert goes_back(world, environment, then) is None
    step = world.value(layout.commit_run(FIRST))["steps"][-1]
    assert (step["state"], step["words"]) == ("undone", f"{environment} runs {SECOND.short} again")


def test_a_rollback_that_did_not_go_back_says_nothing(world):
    recorded(world, "started", "live")
    went_live(world, "production", (OTHER, SECOND, ""), (DIGEST, FIRST, ""))
    assert goes_back(world, "production") is None
    assert states(world) == ["started", "live"]


@pytest.mark.promise("rollback-under-the-gate-s-rules")
@pytest.mark.parametrize("environment", ["testing", "staging", "production"])
def test_a_frozen_environment_goes_back_nowhere(world, environment):
    with pytest.raises(Frozen, match=f"^rollback: {environment} is frozen"):
        goes_back(world, environment, act=frozen)


@pytest.mark.promise("rollback-under-the-gate-s-rules")
@pytest.mark.parametrize(
    ("name", "record", "said"),
    [
        ("lee", True, None),
        ("kim", True, "^rollback: production requires another person's approval, and kim has started this run"),
        ("lee", False, "^rollback: production requires another person's approval, and a run without a record names no"),
    ],
)  # fmt: skip
def test_another_person_than_who_has_started_it_undoes_a_release(world, name, record, said):
    if record:
        recorded(world, "started", "live")
    went_live(world, "production", (OTHER, SECOND, ""), (DIGEST, FIRST, ""))
    if said is None:
        assert goes_back(world, "production", act=approval, name=name) is None
        return
    with pytest.raises((SamePerson, PersonUnknown), match=said):
        goes_back(world, "production", act=approval, name=name)


@pytest.mark.promise("rollback-goes-to-the-one-before")
@pytest.mark.parametrize("environment", ["testing", "staging"])
def test_where_there_is_no_way_back_no_stage_is_begun(world, environment):
    with pytest.raises(NoWayBack, match="has no release"):
        goes_back(world, environment)


def test_a_branch_s_rollback_asks_nothing_that_its_role_may_not_read(world):
    went_live(world, TESTING, (OTHER, SECOND, ""), (DIGEST, FIRST, ""))
    assert world.does(lambda run: gate.begin(run, "run", {"rollback"}), environment="testing") is None
    assert [name for _, name in world.requests] == ["get_object"]


@pytest.mark.promise("what-is-undone-goes-no-further")
def test_what_was_undone_does_not_continue_until_it_is_allowed(world):
    waits(world)
    recorded(world, "started", "waiting", "live", "undone")
    world.does(lambda run: undone.mark(run, DIGEST), environment="production", name="kim")
    refused = judged(world)
    assert refused.text.startswith(f"continue: {DIGEST.id} goes no further: kim has undone it in production")
    world.does(lambda run: undone.allow(run, DIGEST), environment="production", name="lee")
    assert judged(world) is None


# --- the checkout ---------------------------------------------------------------------------------


def checked(root, environment, control="run", task="release", **how):
    run = run_in(root, Plain("eu-central-1"), environment=environment, **how)
    gate.check_checkout(run, control, task)


@pytest.fixture
def changed(checkout):
    """A checkout with uncommitted changes."""
    for number in range(9):
        (checkout / f"new{number}").write_text("new")
    return checkout


def test_a_clean_commit_of_the_default_branch_may_be_released_where_it_is_allowed(checkout):
    for environment, control in (
        ("testing", "run"),
        ("testing", "start"),
        ("staging", "run"),
        ("staging", "start"),
        ("production", "continue"),
    ):
        checked(checkout, environment, control)


@pytest.mark.promise("rollback-under-the-gate-s-rules")
def test_production_is_rolled_back_from_a_clean_commit_of_the_default_branch_only(checkout):
    checked(checkout, "production", task="rollback")
    for task in ("roll*", "release", "rollback:all"):
        with pytest.raises(OnlyByContinue):
            checked(checkout, "production", task=task)
    git(checkout, "checkout", "-qb", "feature")
    with pytest.raises(OtherBranch, match=r"^rollback: production takes the branch main only"):
        checked(checkout, "production", task="rollback")


@pytest.mark.parametrize(("control", "task"), [("run", "release"), ("run", "server"), ("start", "release")])
@pytest.mark.promise("production-by-continue-only")
def test_an_environment_that_takes_from_another_is_reached_by_continue_only(checkout, control, task):
    said = (
        rf"^{task}: production takes only what staging has proved, and only by `continue`\n    doit continue$"
    )
    with pytest.raises(OnlyByContinue, match=said):
        checked(checkout, "production", control, task)


@pytest.mark.parametrize(("control", "said"), [("run", "server"), ("start", "start")])
def test_another_branch_is_refused_by_its_name(checkout, control, said):
    git(checkout, "checkout", "-qb", "feature")
    with pytest.raises(
        OtherBranch,
        match=rf"^{said}: staging takes the branch main only, and this is feature\n    git switch main$",
    ):
        checked(checkout, "staging", control, "server")
    checked(checkout, "testing", "start")


def test_a_commit_that_is_not_on_the_branch_whose_name_was_typed_is_said_so(checkout):
    git(checkout, "checkout", "-qb", "feature")
    (checkout / "more").write_text("more")
    commit(checkout)
    with pytest.raises(OtherBranch, match="and this is no commit of main"):
        checked(checkout, "staging", branch="main")


@pytest.mark.parametrize(("control", "said"), [("run", "server"), ("start", "start")])
def test_where_nothing_says_whether_it_is_the_branch_s_the_command_that_finds_out_is_named(
    checkout, tmp_path, control, said
):
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{checkout}", "job")
    job = tmp_path / "job"
    git(job, "checkout", "-q", "--detach")
    git(job, "branch", "-qD", "main")
    git(job, "update-ref", "-d", "refs/remotes/origin/main")
    short = git(job, "rev-parse", "HEAD")[:7]
    with pytest.raises(BranchUnproved) as caught:
        checked(job, "staging", control, "server", branch="main")
    sentence, remedy = caught.value.text.splitlines()
    assert sentence.startswith(
        f"{said}: staging takes commits of main only, and nothing here says whether {short}"
    )
    fetched = "+refs/heads/main:refs/remotes/origin/main"
    assert remedy.strip() == f"git fetch --unshallow origin {fetched} || git fetch origin {fetched}"


def test_uncommitted_changes_are_named_up_to_eight(changed):
    for environment, control, said in (
        ("staging", "run", "server"),
        ("testing", "start", "start"),
        ("production", "continue", "continue"),
    ):
        with pytest.raises(UncommittedChanges) as caught:
            checked(changed, environment, control, "server")
        sentence = caught.value.text.splitlines()[0]
        assert sentence.startswith(f"{said}: ")
        assert environment in sentence
        assert "new0, new1, new2, new3, new4, new5, new6, new7 …" in sentence


def test_eight_uncommitted_changes_are_all(changed):
    (changed / "new8").unlink()
    with pytest.raises(UncommittedChanges) as caught:
        checked(changed, "staging")
    assert "new6, new7 " in f"{caught.value.text.splitlines()[0]} "
    assert "…" not in caught.value.text.splitlines()[0]


def test_uncommitted_changes_may_be_released_where_the_environment_allows_it(changed):
    checked(changed, "testing")
    staging = changed / "environments" / "staging.yml"
    staging.write_text(f"uncommitted: allowed\n{staging.read_text()}")
    checked(changed, "staging")
    with pytest.raises(UncommittedChanges):
        checked(changed, "staging", "start")


# --- what would go live ---------------------------------------------------------------------------


def shown(world, root, inputs):
    """What `doit continue` shows before it asks."""
    cloud = SimulatedCloud(world, Process(world.scheduler, "me"))

    def act(_):
        return gate.pending_changes(run_in(root, cloud, environment="production"), inputs)

    return world.does(act)


def test_who_decides_is_shown_the_commits_and_what_they_reach(world, checkout):
    first = git(checkout, "rev-parse", "HEAD")
    for number in range(21):
        (checkout / "app" / "index.php").write_text(f"<?php echo {number};\n")
        commit(checkout, f"number {number}")
    (checkout / "roles" / "new").write_text("x")
    last = commit(checkout, "the last")
    recorded(world, "started", "built", "waiting", commit=last)
    runs(world, "production", first)
    lines = shown(world, checkout, {"server": ["roles"], "release": ["nothing"]})
    assert lines[:3] == [
        f"{last[:7]} to production, tarball {DIGEST}",
        "started 2026-03-02 07:00 UTC by kim, waiting since 2026-03-02 07:00 UTC",
        f"22 commits since {first[:7]}, which went live 2026-03-02 07:00 UTC",
    ]
    assert lines[3].startswith(f"  {last[:7]}")
    assert "the last" in lines[3]
    assert len([each for each in lines if "number" in each]) == 19
    at = lines.index("  and 2 more")
    assert lines[at + 1] == "changes reach"
    assert [each.split()[0] for each in lines[at + 2 :]] == ["application:", "server:"]
    runs(world, "production", git(checkout, "rev-parse", "HEAD~20"))
    lines = shown(world, checkout, {})
    assert lines[2].startswith("20 commits since ")
    assert not any("more" in each for each in lines)


def test_the_first_release_is_all_of_it_and_an_empty_change_is_said(world, checkout):
    last = git(checkout, "rev-parse", "HEAD")
    lines = shown(world, checkout, {})
    assert lines[:2] == [last, "1 commits in all: the first release"]
    assert "changes reach" not in lines
    assert "more" not in " ".join(lines)
    runs(world, "production", last)
    recorded(world, "started", "waiting", commit=last)
    assert shown(world, checkout, {})[-1] == "no file differs"


def test_history_is_what_the_gate_reads(world):
    """Its newest entry counts."""
    runs(world, "staging", SECOND)
    runs(world, "production", FIRST)
    old = {"digest": OTHER, "commit": FIRST, "branch": "", "by": "", "at": "", "run": ""}
    new = {**old, "digest": DIGEST, "commit": SECOND}
    world.put(layout.history("staging"), {"releases": [old, new]})
    found = world.does(gate._newest, environment="staging")
    assert found == history.LiveRelease.of(new)
    assert world.does(gate._newest, environment="testing") is None


def test_the_world_s_clock_decides_of_a_freeze(world):
    points(world)
    world.scheduler.now = datetime.timedelta(days=1).total_seconds()
    assert begins(world, "staging", Proof(digest=DIGEST), act=frozen) is None
