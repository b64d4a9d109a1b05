"""What `doit plan` and `doit why` say of a tarball that is stored already, and of the release behind it."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.conftest import commit, doit, git
from tests.paper import copy_paper, users_cloud


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A project whose testing environment has its first release."""
    with users_cloud(tmp_path_factory.mktemp("state")):
        root = copy_paper(tmp_path_factory.mktemp("project") / "shop")
        said(doit(root, "release"))
        yield root


def said(answered, code=0):
    assert answered.returncode == code, answered.stdout + answered.stderr
    return answered.stdout


def plan(root, code=0):
    """Each stage and what becomes of it, and the last line."""
    lines = said(doit(root, "plan", "--detailed-exitcode"), code).splitlines()
    stages = [line.split(maxsplit=2) for line in lines if line[0] != " " and not line.startswith("expected")]
    return {name: (what, *words) for name, what, *words in stages}, lines[-1]


@pytest.mark.long(
    short="tests/commands/test_plan.py::test_a_release_behind_a_stored_tarball_is_judged_by_its_digest"
)
@pytest.mark.promise("point-builds-nothing")
def test_a_commit_whose_tarball_is_stored_gets_a_pointer_and_no_release(released):
    (released / "README.md").write_text("another word\n")
    commit(released, "no file of the application")
    found, last = plan(released, code=2)
    what, words = found["tarball"]
    assert what == "point"
    assert words.endswith(" of this tree is stored; the commit gets a pointer")
    assert found["release"][0] == "unchanged"
    assert last == "expected: about 0 s"
    why = said(doit(released, "why", "tarball"))
    assert f"tarball:pack: point: {words}\n" in why
    assert "tarball:pack: run" not in why
    assert said(doit(released, "list", "--status", "tarball")).split()[:2] == ["tarball", "point"]
    assert " point\n" in said(doit(released, "graph", "--status"))
    said(doit(released, "release"))
    assert plan(released)[0]["tarball"][0] == "unchanged"


@pytest.mark.promise("due-of-each-stage")
def test_the_list_has_every_state_that_a_stage_may_be_in(released):
    def states(command):
        lines = [line.split() for line in said(doit(released, *command)).splitlines() if line[:1].strip()]
        return {name: state for name, state, *_ in lines}

    (released / "app" / "pub" / "due.php").write_text("<?php\n")
    found = states(["list", "--status"])
    wanted = {"tarball": "run", "release": "maybe", "infrastructure": "unchanged", "teardown": "on"}
    assert {name: found[name] for name in wanted} == wanted
    said(doit(released, "ignore", "server"))
    try:
        assert states(["list", "--status"])["server"] == "ignored"
    finally:
        said(doit(released, "forget", "server"))
    said(doit(released, "release"))


def test_a_stage_that_ran_alone_shows_in_what_is_planned_for_those_behind_it(released):
    (released / "app" / "pub" / "alone.php").write_text("<?php\n")
    commit(released, "sell alone")
    said(doit(released, "tarball"))
    found, _ = plan(released, code=2)
    assert found["tarball"][0] == "unchanged"
    what, words = found["release"]
    assert what == "run"
    assert words.startswith("digest ")
    assert "release: run: digest " in said(doit(released, "why", "release"))
    said(doit(released, "release"))
    assert plan(released)[0]["release"][0] == "unchanged"


@pytest.mark.long(
    short="tests/commands/test_plan.py::test_a_stage_that_ran_alone_shows_in_what_is_planned_for_those_behind_it"
)
def test_a_machine_made_alone_is_planned_to_be_provisioned(released):
    profile = released / "applications" / "magento2" / "profile.yml"
    told = yaml.safe_load(profile.read_text())
    del told["server"]["roles"]["database"], told["server"]["groups"]  # each would have one of its own
    profile.write_text(yaml.safe_dump(told, sort_keys=False))
    commit(released, "no database")
    said(doit(released, "release"))
    environment = released / "environments" / "testing.yml"
    environment.write_text(environment.read_text().replace("instances: 1", "instances: 2"))
    commit(released, "two machines")
    found, _ = plan(released, code=2)
    assert [found[name][0] for name in ("infrastructure", "server", "release")] == ["run", "maybe", "maybe"]
    said(doit(released, "infrastructure"))
    found, _ = plan(released, code=2)
    assert [found[name][0] for name in ("infrastructure", "server", "release")] == ["unchanged", "run", "run"]
    assert "server: run: hosts " in said(doit(released, "why", "server"))
    said(doit(released, "release"))
    plan(released)


@pytest.mark.promise("point-builds-nothing")
def test_a_release_behind_a_stored_tarball_is_judged_by_its_digest(released):
    """The way back to a tree that was built before: nothing is built, and something else goes live."""
    (released / "app" / "pub" / "new.php").write_text("<?php\n")
    commit(released, "sell more")
    found, _ = plan(released, code=2)
    assert (found["tarball"][0], found["release"][0]) == ("run", "maybe")
    said(doit(released, "release"))
    git(released, "rm", "-q", "app/pub/new.php")
    commit(released, "sell less")
    found, _ = plan(released, code=2)
    assert found["tarball"][0] == "point"
    what, words = found["release"]
    assert what == "run"
    assert words.startswith("digest ")
    assert words.endswith(found["tarball"][1].split()[1])
    said(doit(released, "release"))
    assert "tarball" in plan(released)[0]


def test_the_records_are_printed_as_json(released):
    """doit's own `dumpdb` looks for a file."""
    records = json.loads(said(doit(released, "dumpdb")))
    assert {"tarball:pack", "server", "release"} <= records.keys()
    assert records["release"]["_values_:"]


def test_the_history_marks_a_release_of_uncommitted_files(released):
    (released / "app" / "pub" / "draft.php").write_text("<?php\n")
    said(doit(released, "release"))
    (released / "app" / "pub" / "draft.php").unlink()
    head = git(released, "rev-parse", "HEAD")[:7]
    told = said(doit(released, "history", "--verify")).splitlines()
    assert f" {head}-dirty " in told[-3]
    assert told[-3].endswith("  sell less")
    assert told[-2].startswith("in 90 days: 0.")
    end = json.loads(said(doit(released, "history", "--json")))[-1]["chain"]
    assert told[-1] == f"history: no entry was changed since it was written; the chain ends with {end}"
