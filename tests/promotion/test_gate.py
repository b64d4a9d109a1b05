"""What a run proves: only what its stages did, for the tarball of its commit."""

from __future__ import annotations

import dataclasses
import subprocess

import pytest
import yaml

from tasks import source
from tasks.bucket import cache, layout
from tasks.digest import Digest
from tasks.infrastructure import stage as infrastructure
from tasks.promotion import gate
from tasks.promotion import record as promotion_record
from tasks.promotion.gate import BranchUnproved, Proof
from tasks.promotion.rules import Downgrade, Frozen, NotWaiting, OtherTarball
from tasks.refusal import Refusal
from tasks.release import history
from tasks.tarball.stored import Pointer
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in
from tests.conftest import commit, git
from tests.plain import Plain

DIGEST, OTHER = Digest("d" * 64), Digest("e" * 64)


@pytest.fixture
def run(checkout, server):  # noqa: F811
    (checkout / "README.md").write_text(str(checkout))
    commit(checkout)  # of no other test
    made = run_in(checkout, QuietCloud(REGION, server.home.load()), environment="staging")
    infrastructure.share(made)
    for key in (layout.CURRENT_RUN, layout.history("staging")):
        made.store.delete(key)
    return made


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        (Proof(digest=DIGEST), None),
        (Proof(digest=DIGEST, idle=("server",)), "server did not run"),
        (Proof(digest=OTHER), "eeeeeeeeeeee is live, and the commit has dddddddddddd"),
        (Proof(digest=None), "no tarball is live"),
    ],
)
@pytest.mark.promise("what-a-run-proves")
def test_a_run_proves_the_tarball_that_its_own_stages_put_live(run, proof, why):
    key = layout.record(cache.of(run).writes, "commits", run.commit)
    run.store.write(key, Pointer(digest=DIGEST).as_dict(), seen=None)
    finish = gate.begin(run, "start", ["release"])
    refused = finish(proof)
    state = promotion_record.read(run.store, run.commit).state
    if why is None:
        assert (refused, state) == (None, "waiting")
        assert history.read(run.store, "staging")[-1].digest == DIGEST
    else:
        assert why in refused.text
        assert state == "failed"
        assert history.read(run.store, "staging") == []


@pytest.mark.promise("what-a-run-proves")
def test_a_run_without_any_tarball_proves_nothing(run):
    refused = gate.begin(run, "start", ["release"])(Proof(digest=None))
    assert "no tarball is live, and the commit has no tarball" in refused.text
    assert promotion_record.read(run.store, run.commit).state == "failed"
    assert history.read(run.store, "staging") == []


JOB = {"GITHUB_REF": "refs/tags/main", "GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "tag"}
REQUEST = {"GITHUB_REF": "refs/pull/5/merge", "GITHUB_HEAD_REF": "main"}


@pytest.fixture
def job(checkout, tmp_path):
    """A provider's checkout of one commit."""
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{checkout}", "job")
    git(tmp_path / "job", "checkout", "-q", "--detach")
    git(tmp_path / "job", "branch", "-qD", "main")
    git(tmp_path / "job", "update-ref", "-d", "refs/remotes/origin/main")
    return tmp_path / "job"


@pytest.mark.parametrize(("environment", "control"), [("staging", "start"), ("production", "continue")])
@pytest.mark.parametrize("environ", [JOB, REQUEST, {}])
@pytest.mark.promise(
    "unproved-branch-is-refused",
    "shared-environments-refuse-the-unknown",
    "checkouts-are-judged-before-the-cloud",
)
def test_a_commit_that_nothing_shows_to_be_the_default_branch_s_is_refused(
    job, monkeypatch, environment, control, environ
):
    for name, value in {**environ, "GITHUB_SHA": git(job, "rev-parse", "HEAD")}.items():
        monkeypatch.setenv(name, value)
    run = run_in(job, Plain(REGION), environment=environment, branch="main")
    with pytest.raises(BranchUnproved, match=f"{environment} takes commits of main only") as refused:
        gate.check_checkout(run, control, "release")
    assert not run.cloud.calls
    (_, remedy) = refused.value.text.splitlines()
    assert subprocess.run(["sh", "-c", remedy], cwd=job, capture_output=True).returncode == 0
    gate.check_checkout(
        run_in(job, Plain(REGION), environment=environment, branch="main"), control, "release"
    )


@pytest.mark.parametrize(("environment", "control"), [("staging", "start"), ("production", "continue")])
@pytest.mark.promise("unproved-branch-is-refused")
def test_a_commit_of_which_the_provider_says_so_is_the_default_branch_s(
    job, monkeypatch, environment, control
):
    said = {
        "CI_COMMIT_BRANCH": "main",
        "CI_COMMIT_REF_NAME": "main",
        "CI_COMMIT_SHA": git(job, "rev-parse", "HEAD"),
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    gate.check_checkout(run_in(job, Plain(REGION), environment=environment), control, "release")


def frozen(run):
    """The same run, in an environment that takes nothing now."""
    settings = dataclasses.replace(run.environment, freezes=("2020-01-01/2999-01-01",))
    return dataclasses.replace(run, environment=settings)


@pytest.fixture
def waiting(run, server):  # noqa: F811
    """A run on production, of a commit that staging has proved and that waits."""
    key = layout.record(cache.of(run).writes, "commits", run.commit)
    run.store.write(key, Pointer(digest=DIGEST, role="builder").as_dict(), seen=None)
    run.store.delete(layout.history("production"))
    assert gate.begin(run, "start", ["release"])(Proof(digest=DIGEST)) is None
    return run_in(run.root, run.cloud, environment="production")


@pytest.mark.promise("staging-may-freeze")
def test_staging_takes_nothing_while_it_is_frozen(run):
    with pytest.raises(Frozen, match="start: staging is frozen from 2020-01-01 00:00"):
        gate.begin(frozen(run), "start", ["release"])
    assert promotion_record.read(run.store, run.commit) is None


@pytest.mark.promise("no-older-commit-goes-live")
def test_staging_takes_no_commit_that_lacks_the_one_that_runs(run):
    older = run.commit
    (run.root / "README.md").write_text(f"after {older}")
    commit(run.root)
    source._snapshot.cache_clear()
    history.add(run_in(run.root, run.cloud, environment="staging"), DIGEST)
    git(run.root, "checkout", "-q", older)
    source._snapshot.cache_clear()
    with pytest.raises(Downgrade, match=f"which {older.short} does not contain"):
        gate.begin(run_in(run.root, run.cloud, environment="staging", branch="main"), "start", ["release"])


@pytest.mark.promise("asked-again-under-the-lease")
def test_a_commit_is_judged_again_by_who_holds_the_lease(waiting):
    """Between the question on the terminal and the lease, everything may have changed."""
    store, commit = waiting.store, waiting.commit
    with pytest.raises(Frozen):
        gate.begin(frozen(waiting), "continue", ["release"])
    assert promotion_record.read(store, commit).state == "waiting"
    promotion_record.add(store, commit, promotion_record.step(waiting, "stopped"))
    with pytest.raises(NotWaiting, match="stopped"):
        gate.begin(waiting, "continue", ["release"])
    promotion_record.add(store, commit, promotion_record.step(waiting, "waiting"))
    finish = gate.begin(waiting, "continue", ["release"])
    assert promotion_record.read(store, commit).state == "continuing"
    assert "is live, and the commit has" in finish(Proof(digest=OTHER)).text
    assert history.read(store, "production") == []
    assert promotion_record.read(store, commit).state == "waiting"
    assert gate.begin(waiting, "continue", ["release"])(Proof(digest=DIGEST)) is None
    assert history.read(store, "production")[-1].digest == DIGEST
    assert promotion_record.read(store, commit).state == "live"


class Overtaken:
    """A store in which another run does something just before this one writes for the first time."""

    def __init__(self, store, other):
        self.store, self.others = store, [other]

    def __getattr__(self, name):
        return getattr(self.store, name)

    def write(self, *arguments, **how):
        while self.others:
            self.others.pop()()
        return self.store.write(*arguments, **how)


@pytest.mark.promise("asked-again-under-the-lease")
def test_a_commit_that_is_stopped_while_it_is_claimed_does_not_go_on(waiting):
    store, commit = waiting.store, waiting.commit

    def stop():
        promotion_record.add(store, commit, promotion_record.step(waiting, "stopped"))

    with pytest.raises(NotWaiting, match="stopped"):
        gate.begin(dataclasses.replace(waiting, store=Overtaken(store, stop)), "continue", ["release"])
    assert promotion_record.read(store, commit).state == "stopped"


def test_a_release_by_name_begins_as_start_does(run):
    assert gate.begin(run, "release", ["release"])(Proof(digest=None)).text.startswith(
        "release: staging has not proved"
    )
    steps = promotion_record.read(run.store, run.commit).steps
    assert [each.state for each in steps] == ["started", "failed"]


@pytest.mark.parametrize(
    "proof", [Proof(digest=None), Proof(digest=OTHER), Proof(digest=DIGEST, idle=("release",))]
)
def test_what_production_has_not_proved_waits_again(waiting, proof):
    assert gate.begin(waiting, "continue", ["release"])(proof).text.startswith(
        "continue: production has not proved"
    )
    states = [each.state for each in promotion_record.read(waiting.store, waiting.commit).steps]
    assert states[-2:] == ["continuing", "waiting"]
    assert history.read(waiting.store, "production") == []


@pytest.mark.usefixtures("waiting")
def test_a_commit_that_a_later_one_supersedes_does_not_go_on(run):
    older = run.commit
    (run.root / "README.md").write_text(f"after {older}")
    commit(run.root)
    source._snapshot.cache_clear()
    gate.begin(run_in(run.root, run.cloud, environment="staging"), "start", ["release"])
    git(run.root, "checkout", "-q", older)
    source._snapshot.cache_clear()
    with pytest.raises(NotWaiting, match=f"{older.short} does not wait: superseded since"):
        gate.begin(
            run_in(run.root, run.cloud, environment="production", branch="main"), "continue", ["release"]
        )


def test_another_tarball_than_staging_has_seen_does_not_go_on(waiting):
    key = layout.commit_run(waiting.commit)
    kept = waiting.store.read(key)
    waiting.store.write(key, {**kept.value, "digest": OTHER}, seen=kept.etag)
    with pytest.raises(OtherTarball, match="the commit's tarball is another one now"):
        gate.begin(waiting, "continue", ["release"])
    assert promotion_record.read(waiting.store, waiting.commit).state == "waiting"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"builders": ["somebody"]}, "production takes tarballs of somebody, and"),
        ({"freezes": ["2020-01-01/2999-01-01"]}, "production is frozen from 2020-01-01 00:00"),
        ({"approvals": "different_person"}, "another person's approval|no person"),
    ],
)  # fmt: skip
def test_settings_of_production_hold_back_what_waits(waiting, changes, sentence):
    """As they are written in its file."""
    path = waiting.root / "environments" / "production.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "approvals": "none", **changes}))
    told = dataclasses.replace(
        waiting, environment=run_in(waiting.root, waiting.cloud, environment="production").environment
    )
    with pytest.raises(Refusal, match=sentence):
        gate.begin(told, "continue", ["release"])
    assert promotion_record.read(waiting.store, waiting.commit).state == "waiting"
