"""The three controls: a commit's way to production, and every refusal on that way."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import re
import subprocess
import sys
import time

import pytest
import yaml

from tasks.bucket import layout
from tasks.bucket.lease import Lease, this_process
from tasks.commands import command_line, controls
from tasks.infrastructure import stage as infrastructure
from tasks.promotion import record as promotion_record
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in
from tests.conftest import DOIT, commit, doit, git, until
from tests.paper import copy_paper, users_cloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """A server without containers, where doit looks for the user's cloud."""
    with users_cloud(tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture(scope="module")
def root(cloud, tmp_path_factory):
    """A project whose staging has released once, and which waits."""
    made = copy_paper(tmp_path_factory.mktemp("project") / "shop")
    adds = {"manage": "additive", "termination_protection": True}
    settings(made, infrastructure=adds, signatures="optional")
    said(doit(made, "start"))
    return made


def settings(root, **changes):
    """Change production's settings, and commit."""
    path = root / "environments" / "production.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    return commit(root, "settings of production")


def said(answered, code=0):
    assert answered.returncode == code, answered.stdout + answered.stderr
    assert "Traceback" not in answered.stderr
    return answered.stderr if code else answered.stdout


def refused(root, *typed, code=1, **environ):
    """The sentence of a refusal, which must have changed nothing."""
    before = objects(root)
    sentence = said(doit(root, *typed, **environ), code)
    assert objects(root) == before
    assert "\n    " in sentence
    return sentence


def objects(root):
    """Everything in the bucket but the leases' signs of life."""
    run = command_line.read(root, {"environment": "staging"})
    pages = run.cloud.client("s3").get_paginator("list_objects_v2").paginate(Bucket=run.bucket)
    return {
        each["Key"]: each["ETag"]
        for page in pages
        for each in page.get("Contents", ())
        if not each["Key"].startswith("leases/")
    }


def document(root, key):
    run = command_line.read(root, {"environment": "staging"})
    return json.loads(run.cloud.client("s3").get_object(Bucket=run.bucket, Key=key)["Body"].read())


def states(root):
    return [each["state"] for each in document(root, f"runs/{git(root, 'rev-parse', 'HEAD')}.json")["steps"]]


def change(root, name="README.md"):
    (root / name).write_text(f"{datetime.datetime.now()}\n")
    return commit(root, f"changes {name}")


def live(root, environment="production"):
    return document(root, f"history/{environment}.json")["releases"][-1]


@pytest.mark.promise(
    "continue-releases-what-staging-runs",
    "steps-name-who",
    "finished-run-changes-nothing",
    "continue-shows-what-goes-live",
)
def test_a_commit_goes_from_staging_to_production_with_one_tarball(root):
    said(doit(root, "continue"))
    before = live(root)
    new_files = (
        "app/pub/new.php",
        "app/app/code/Shop/Catalog/Setup/New.php",
        "roles/nginx/new",
        "tasks/hosts/new",
        "tasks/graph/new",
        "docs/new",
    )
    for name in new_files:
        (root / name).write_text("x")
    new = commit(root, "Sell a new thing")
    said(doit(root, "start"))
    assert states(root) == ["started", "built", "staged", "waiting"]
    assert (live(root), live(root, "staging")["commit"]) == (before, new)
    printed = said(doit(root, "continue", PERSON="lee"))
    assert states(root)[-2:] == ["continuing", "live"]
    assert (live(root)["digest"], live(root)["commit"]) == (live(root, "staging")["digest"], new)
    steps = document(root, f"runs/{new}.json")["steps"]
    assert [steps[0]["arn"].split("/")[1], steps[-1]["arn"].split("/")[1]] == ["kim", "lee"]
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d UTC", each["at"]) for each in steps)
    assert all(each["by"] for each in steps)
    shown, _, done = printed.partition("infrastructure  unchanged")
    assert done
    assert f"{new[:7]} to production, tarball {live(root)['digest']}" in shown
    assert f"1 commits since {before['commit'][:7]}" in shown
    assert "  t  Sell a new thing" in shown
    assert shown.partition("changes reach\n")[2].partition("runs server, release\n")[0].splitlines() == [
        "  application: 1 file: app/pub/new.php",
        "  migrations: 1 file: app/app/code/Shop/Catalog/Setup/New.php",
        "  infrastructure: 1 file: tasks/hosts/new",
        "  server: 2 files: roles/nginx/new, tasks/hosts/new",
        "  release: 1 file: tasks/hosts/new",
        "  the pipeline itself: 1 file: tasks/graph/new",
        "  other, which reaches no machine: 1 file",
    ]
    assert "runs server, release\nexpected: " in shown
    before = objects(root)
    again = said(doit(root, "continue"))
    assert "0 commits since" in again
    assert "nothing to do" in again
    after, record = objects(root), f"runs/{new}.json"
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} == {record}
    assert states(root)[-4:] == ["continuing", "live", "continuing", "live"]
    assert "no run waits" in said(doit(root, "stop"))


def answered(root, hosts, keys):
    """`doit continue` on a terminal, where this is typed once it asks: its exit code, what it printed, the seconds since."""
    keyboard, screen = os.openpty()
    environ = {**os.environ, "PYTHONPATH": str(root), "HOSTS": str(hosts), "PERSON": "lee"}
    with subprocess.Popen(
        [DOIT, "continue"],
        cwd=root,
        env=environ,
        stdin=screen,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as asks:
        printed = b""
        while not printed.endswith(b"[y/N] ") and (more := asks.stdout.read1()):
            printed += more
        until(lambda: (hosts / "phases").exists())
        begun = time.monotonic()
        os.write(keyboard, keys)
        printed += asks.stdout.read()
    for each in (keyboard, screen):
        os.close(each)
    return asks.returncode, printed.decode(), time.monotonic() - begun


@pytest.mark.promise(
    "brought-ahead-of-the-yes", "without-a-yes-nothing-stays", "start-never-reaches-production"
)
def test_production_brings_ahead_what_continues_and_removes_it_without_a_yes(root, tmp_path):
    said(doit(root, "start"))
    said(doit(root, "continue", PERSON="lee"))
    change(root, "app/pub/index.php")
    asked = tmp_path / "phases"

    def phases():
        found = asked.read_text().splitlines()
        asked.unlink()
        return found

    said(doit(root, "start", HOSTS=str(tmp_path)))
    assert phases() == ["bring live open", "settle"]  # staging's
    before = objects(root)
    code, printed, _ = answered(root, tmp_path, b"n\n")
    assert (code, phases()) == (1, ["bring rehearse", "discard"]), printed
    assert "runs release\n" in printed
    assert "continue: nothing was changed, without a yes" in printed
    assert objects(root) == before
    code, printed, seconds = answered(root, tmp_path, b"y\n")
    assert (code, phases()) == (0, ["bring rehearse", "bring live open", "settle"]), printed
    assert live(root)["digest"] == live(root, "staging")["digest"]
    sys.stdout.write(f"from yes to the end, without a host: {seconds:.1f} s\n")


@pytest.mark.long(
    short="tests/promotion/test_gate_alone.py::test_what_was_undone_does_not_continue_until_it_is_allowed"
)
@pytest.mark.promise("rollback-under-the-gate-s-rules", "what-is-undone-goes-no-further")
def test_production_goes_back_and_what_is_undone_does_not_continue_until_it_is_allowed(root):
    for _ in range(2):
        change(root, "app/pub/index.php")
        said(doit(root, "start"))
        said(doit(root, "continue", PERSON="lee"))
    now, before = (document(root, "history/production.json")["releases"][-each] for each in (1, 2))
    refused(root, "environment=production", "rollback", "release", code=3)
    said(doit(root, "environment=production", "rollback"))
    assert (live(root)["digest"], live(root)["undid"]) == (before["digest"], now["digest"])
    assert live(root, "staging")["digest"] == now["digest"]
    assert states(root)[-2:] == ["live", "undone"]
    digest = now["digest"][:16]
    assert f"{digest} goes no further" in refused(root, "continue")
    assert "has gone back to" in refused(root, "environment=production", "rollback")
    said(doit(root, "environment=production", "allow", digest))
    said(doit(root, "continue", PERSON="lee"))
    assert (live(root)["digest"], states(root)[-2:]) == (now["digest"], ["continuing", "live"])


@pytest.mark.long(short="tests/promotion/test_gate.py::test_a_release_by_name_begins_as_start_does")
def test_a_release_of_staging_by_name_takes_the_same_path_as_start(root):
    change(root)
    said(doit(root, "environment=staging", "release"))
    assert states(root) == ["started", "built", "staged", "waiting"]


@pytest.mark.parametrize(
    ("branch", "typed", "code", "sentence"),
    [
        ("feature", ["continue"], 1, "continue: production takes the branch main only, and this is feature\n    git switch main"),
        ("feature", ["environment=staging", "release"], 1, "release: staging takes the branch main only, and this is feature"),
        ("feature", ["environment=production", "release"], 1, "release: production takes the branch main only"),
        ("feature", ["branch=main", "start"], 1, "start: staging takes the branch main only, and this is no commit of main"),
        ("feature", ["branch=main", "continue"], 1, "production takes the branch main only, and this is no commit of main"),
        ("feature", ["environment=staging", "teardown"], 3, "teardown: does not exist in staging"),
        ("feature", ["environment=production", "teardown"], 3, "teardown: does not exist in production"),
        ("main", ["environment=production", "release"], 1, "production takes only what staging has proved, and only by `continue`\n    doit continue"),
        ("main", ["environment=production", "server"], 1, "server: production takes only what staging has proved"),
        ("main", ["environment=production", "infrastructure"], 1, "infrastructure: production takes only what staging has proved"),
        ("main", ["environment=staging", "teardown"], 3, "teardown: does not exist in staging"),
        ("main", ["environment=production", "teardown"], 3, "teardown: does not exist in production"),
        ("main", ["environment=production", "tarball"], 3, "tarball: does not exist in production"),
        ("main", ["environment=production", "continue"], 3, "continue: the branch decides what it does: it takes no environment=production"),
        ("main", ["start", "server"], 3, "start: the branch decides what it does: it takes no server"),
        ("main", ["stop", "release"], 3, "stop: the branch decides what it does"),
    ],
)  # fmt: skip
@pytest.mark.promise(
    "missing-stage-is-refused",
    "production-by-continue-only",
    "no-teardown-of-shared-environments",
    "controls-take-no-stages",
    "production-is-adopted",
    "teardown-only-where-named",
)
def test_what_the_table_refuses_is_refused(root, branch, typed, code, sentence):
    git(root, "branch", "-f", "feature")
    git(root, "checkout", "-q", branch)
    try:
        if branch == "feature":
            change(root)
        assert sentence in refused(root, *typed, code=code)
    finally:
        git(root, "checkout", "-q", "main")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["start"], "start: staging takes committed files only, these differ: README.md\n    git commit"),
        (["environment=staging", "release"], "release: staging takes committed files only"),
        (["continue"], "continue: production takes committed files only"),
        (["branch=other", "start"], "start: testing takes committed files only"),
    ],
)
@pytest.mark.promise("start-takes-a-clean-commit")
def test_a_dirty_tree_is_not_begun_with(root, typed, sentence):
    (root / "README.md").write_text("not committed\n")
    try:
        assert sentence in refused(root, *typed)
    finally:
        git(root, "checkout", "-q", "README.md")


@pytest.mark.promise("continue-releases-what-staging-runs")
def test_a_commit_that_was_not_on_staging_does_not_go_on(root):
    said(doit(root, "start"))
    before = git(root, "rev-parse", "--short=7", "HEAD")
    new = change(root)
    assert f"{new[:7]} has not been on staging, which runs {before}\n    doit start" in refused(
        root, "continue"
    )


@pytest.mark.promise("what-a-run-proves")
def test_a_bad_commit_fails_on_staging_and_does_not_go_on(root):
    bad = change(root, "app/pub/bad.php")
    said(doit(root, "start", FAILS="release"), code=1)
    assert states(root) == ["started", "built", "failed"]
    assert f"the run of {bad[:7]} does not wait: failed since" in refused(root, "continue")
    said(doit(root, "start"))  # what was wrong is mended, outside of the commit
    assert states(root)[-1] == "waiting"


def _forgets(root, environment):
    """What `ignore` has left in the records of an older pipeline is taken out again."""
    said(doit(root, f"environment={environment}", "forget", "release"))


@pytest.mark.parametrize("command", ["ignore", "reset-dep"])
@pytest.mark.parametrize("environment", ["staging", "production"])
@pytest.mark.promise("no-records-by-hand")
def test_no_record_of_a_shared_environment_is_made_by_hand(root, command, environment):
    sentence = refused(root, f"environment={environment}", command, "release")
    assert f"{command}: {environment} proves what it runs" in sentence


def ignored(root, environment, task="release"):
    """An older pipeline, on another branch, still takes `ignore` and leaves this in the record."""
    run = command_line.read(root, {"environment": environment})
    key = layout.state(environment, task)
    document = run.store.read(key)
    value = dict(document.value) if document else {"doit": {}}
    run.store.write(
        key,
        {**value, "doit": {**value["doit"], "ignore:": "1"}},
        seen=document.etag if document else None,
    )


@pytest.mark.long(
    short="tests/promotion/test_gate.py::test_a_run_proves_the_tarball_that_its_own_stages_put_live"
)
@pytest.mark.promise("what-a-run-proves")
def test_what_staging_ignored_is_not_proved_there(root):
    said(doit(root, "start"))
    before = live(root, "staging")
    change(root, "app/pub/ignored.php")
    ignored(root, "staging")
    try:
        sentence = said(doit(root, "start"), code=1)
        assert (
            f"start: staging has not proved {git(root, 'rev-parse', 'HEAD')[:7]}: release did not run"
            in sentence
        )
        assert live(root, "staging") == before
        assert states(root) == ["started", "built", "failed"]
        assert "does not wait: failed since" in refused(root, "continue")
    finally:
        _forgets(root, "staging")
    said(doit(root, "start"))
    assert states(root)[-1] == "waiting"


@pytest.mark.promise("a-stage-left-out-proves-nothing")
def test_a_stage_before_the_release_that_was_ignored_proves_nothing_either(root):
    change(root)
    ignored(root, "staging", "server")
    try:
        assert "server, release did not run" in said(doit(root, "start"), code=1)
        assert states(root)[-1] == "failed"
    finally:
        said(doit(root, "environment=staging", "forget", "server", "release"))


@pytest.mark.long(
    short="tests/promotion/test_gate.py::test_a_run_proves_the_tarball_that_its_own_stages_put_live"
)
@pytest.mark.promise("a-stage-left-out-proves-nothing")
def test_a_release_without_its_upstreams_proves_nothing(root):
    """The tarball that it takes is then the former commit's."""
    said(doit(root, "start"))
    change(root, "app/pub/single.php")
    said(doit(root, "environment=staging", "run", "--single", "release"), code=1)
    assert states(root)[-1] == "failed"
    assert "does not wait: failed since" in refused(root, "continue")


@pytest.mark.long(short="tests/promotion/test_gate.py::test_what_production_has_not_proved_waits_again")
def test_what_production_ignored_is_not_live(root):
    said(doit(root, "start"))
    said(doit(root, "continue"))
    before = live(root)
    change(root, "app/pub/not_in_production.php")
    said(doit(root, "start"))
    ignored(root, "production")
    try:
        assert "continue: production has not proved" in said(doit(root, "continue"), code=1)
        assert live(root) == before
        assert states(root)[-2:] == ["continuing", "waiting"]
    finally:
        _forgets(root, "production")
    said(doit(root, "continue"))
    assert states(root)[-1] == "live"


@pytest.mark.long(short="tests/promotion/test_gate.py::test_what_production_has_not_proved_waits_again")
def test_what_fails_in_production_waits_again(root):
    change(root, "app/pub/half.php")
    said(doit(root, "start"))
    said(doit(root, "continue", FAILS="release"), code=1)
    assert states(root)[-2:] == ["continuing", "waiting"]
    said(doit(root, "continue"))
    assert states(root)[-1] == "live"


@pytest.mark.long(
    short="tests/commands/test_controls.py::test_a_stop_ends_the_run_that_waits_and_calls_nothing_that_changes_a_machine"
)
@pytest.mark.promise("stop-changes-no-machine")
def test_a_stopped_run_does_not_go_on_and_no_machine_was_touched(root):
    change(root)
    said(doit(root, "start"))
    hosts = command_line.read(root, {}).cloud.client("ec2").describe_instances()["Reservations"]
    ended = said(doit(root, "stop"))
    assert "goes no further; no machine was touched" in ended
    assert ended.strip() in (root / ".run" / "report.md").read_text()
    assert states(root)[-1] == "stopped"
    assert "does not wait: stopped since" in refused(root, "continue")
    after = command_line.read(root, {}).cloud.client("ec2").describe_instances()["Reservations"]
    assert after == hosts


@pytest.mark.long(
    short="tests/promotion/test_gate.py::test_a_commit_that_a_later_one_supersedes_does_not_go_on"
)
def test_a_new_run_supersedes_the_one_that_waits(root):
    first = change(root)
    said(doit(root, "start"))
    second = change(root)
    said(doit(root, "start"))
    assert document(root, f"runs/{first}.json")["state"] == "superseded"
    git(root, "checkout", "-q", first)
    try:
        sentence = refused(root, "branch=main", "continue")
        assert "does not wait: superseded since" in sentence
        assert f"(by the run of {second[:7]})" in sentence
        downgrade = refused(root, "branch=main", "start")
        assert f"start: staging runs {second[:7]}, which {first[:7]} does not contain" in downgrade
    finally:
        git(root, "checkout", "-q", "main")


@pytest.mark.long(
    short="tests/promotion/test_rules.py::test_a_commit_that_may_not_continue_is_refused_with_the_reason"
)
def test_a_clone_that_lacks_what_runs_is_told_to_fetch_it(root, tmp_path):
    said(doit(root, "start"))
    said(doit(root, "continue"))
    change(root)
    said(doit(root, "start"))
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{root}", "shallow")
    sentence = refused(tmp_path / "shallow", "continue")
    assert "which this clone's history does not reach\n    git fetch --unshallow" in sentence


@pytest.mark.long(
    short="tests/promotion/test_gate.py::test_another_tarball_than_staging_has_seen_does_not_go_on"
)
def test_another_tarball_than_staging_has_seen_is_refused(root):
    said(doit(root, "start"))
    run = command_line.read(root, {"environment": "staging"})
    key = layout.commit_run(run.commit)
    kept = run.store.read(key)
    etag = run.store.write(key, {**kept.value, "digest": "e" * 64}, seen=kept.etag)
    try:
        assert "the commit's tarball is another one now" in refused(root, "continue")
    finally:
        run.store.write(key, kept.value, seen=etag)


@pytest.mark.long(short="tests/promotion/test_gate.py::test_settings_of_production_hold_back_what_waits")
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"builders": ["somebody"]}, "production takes tarballs of somebody, and"),
        ({"freezes": ["2020-01-01/2999-01-01"]}, "production is frozen from 2020-01-01 00:00"),
        ({"approvals": "different_person"}, "another person's approval, and kim has started"),
    ],
)  # fmt: skip
def test_settings_of_production_hold_a_commit_back(root, changes, sentence):
    settings(root, **changes)
    try:
        said(doit(root, "start"))
        assert sentence in refused(root, "continue")
    finally:
        git(root, "-c", "user.name=t", "-c", "user.email=t@example.com", "revert", "--no-edit", "HEAD")


@pytest.mark.long(short="tests/commands/test_controls.py::test_a_stop_does_not_end_a_run_that_is_at_work")
def test_a_run_at_work_is_not_stopped_by_another(root):
    change(root)
    said(doit(root, "start"))
    git(root, "branch", "-f", "busy")
    for variables, typed, sentence in (
        ({"environment": "staging"}, ["stop"], "does not wait, it is at work: staging is held by"),
        ({"environment": "production"}, ["stop"], "does not wait, it is at work: production is held by"),
        ({"branch": "busy"}, ["branch=busy", "stop", "--wait", "0"], "is held by"),
    ):
        held = Lease(command_line.read(root, variables))
        held.take()
        try:
            assert sentence in refused(root, *typed)
        finally:
            held.free()


@pytest.mark.long(short="tests/test_ci.py::test_what_one_runner_has_made_another_one_takes_away")
@pytest.mark.promise("stop-tears-down-a-branch")
def test_a_branch_is_started_and_stopped_from_any_checkout(root):
    git(root, "branch", "-f", "gone")
    said(doit(root, "branch=gone", "start"))
    assert "is gone" in said(doit(root, "branch=gone", "stop"))
    assert "nothing of" in said(doit(root, "branch=gone", "stop"))


@pytest.mark.long(short="tests/bucket/test_lease.py::test_a_run_that_does_not_wait_names_the_holder")
@pytest.mark.promise("release-means-testing")
def test_the_default_branch_has_a_testing_environment_of_its_own(root):
    before = objects(root)
    assert "testing-" in said(doit(root, "release"))
    said(doit(root, "teardown"))
    changed = {key for key, etag in objects(root).items() if before.get(key) != etag}
    assert not [key for key in changed if key.startswith(("runs/", "history/"))]


@pytest.mark.promise("recorded-is-what-runs")
def test_a_play_that_put_nothing_live_is_not_recorded(root):
    (root / "app" / "later.php").write_text("x")
    commit(root)
    releases = document(root, "history/staging.json")["releases"]
    sentence = said(doit(root, "start", IDLE="release"), 1)
    assert "runs no complete release, not" in sentence
    found = document(root, "history/staging.json")
    assert found["releases"] == releases
    assert "runs no complete release, not" in found["failures"][-1]["sentence"]
    git(root, "reset", "-q", "--hard", "HEAD~1")


@pytest.fixture
def waiting(checkout, server):  # noqa: F811
    """A run on staging, of a commit that waits."""
    (checkout / "README.md").write_text(str(checkout))
    commit(checkout)  # of no other test
    run = run_in(checkout, QuietCloud(REGION, server.home.load()), environment="staging")
    infrastructure.share(run)
    for key in (layout.CURRENT_RUN, layout.lease("staging"), layout.lease("production")):
        run.store.delete(key)
    promotion_record.begin(run)
    promotion_record.add(run.store, run.commit, promotion_record.step(run, "waiting"))
    return run


@pytest.mark.promise("stop-changes-no-machine")
def test_a_stop_ends_the_run_that_waits_and_calls_nothing_that_changes_a_machine(waiting):
    waiting.cloud.calls.clear()
    assert "goes no further; no machine was touched" in controls._end(waiting)
    assert set(waiting.cloud.calls) == {"PutObject"}
    assert promotion_record.read(waiting.store, waiting.commit).state == "stopped"
    assert controls._end(waiting) == "no run waits"


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_a_stop_does_not_end_a_run_that_is_at_work(waiting, environment):
    held = Lease(run_in(waiting.root, waiting.cloud, environment=environment))
    held.take(0)
    with pytest.raises(controls.RunUnderWay, match=f"it is at work: {environment} is held by"):
        controls._end(waiting)
    held.free()
    assert promotion_record.read(waiting.store, waiting.commit).state == "waiting"


def test_a_stop_ends_no_run_where_nobody_knows_who_holds_the_lease(waiting):
    key = Lease(waiting).key
    waiting.cloud.client("s3").put_object(Bucket=waiting.bucket, Key=key, Body=b"{")
    with pytest.raises(controls.RunUnderWay, match="staging is held by an unknown run"):
        controls._end(waiting)
    waiting.store.delete(key)
    assert promotion_record.read(waiting.store, waiting.commit).state == "waiting"


def test_a_stop_ends_a_run_that_was_killed_at_work(waiting):
    killed = {
        **dataclasses.asdict(this_process(waiting, 600)),
        "started": 1,
    }  # its process id is another's now
    waiting.store.write(Lease(waiting).key, killed, seen=None)
    assert "goes no further" in controls._end(waiting)
    waiting.store.delete(Lease(waiting).key)
