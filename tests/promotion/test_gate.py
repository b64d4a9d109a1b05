"""What a run proves: only what its stages did, for the tarball of its commit."""

from __future__ import annotations

import subprocess

import pytest

from tasks.bucket import cache, layout
from tasks.digest import Digest
from tasks.infrastructure import stage as infrastructure
from tasks.promotion import gate
from tasks.promotion import record as promotion_record
from tasks.promotion.gate import BranchUnproved, Proof
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
@pytest.mark.promise("unproved-branch-is-refused", "shared-environments-refuse-the-unknown")
def test_a_commit_that_nothing_shows_to_be_the_default_branch_s_is_refused(
    job, monkeypatch, environment, control, environ
):
    for name, value in {**environ, "GITHUB_SHA": git(job, "rev-parse", "HEAD")}.items():
        monkeypatch.setenv(name, value)
    run = run_in(job, Plain(REGION), environment=environment, branch="main")
    with pytest.raises(BranchUnproved, match=f"{environment} takes commits of main only") as refused:
        gate.check_checkout(run, control, "release")
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
