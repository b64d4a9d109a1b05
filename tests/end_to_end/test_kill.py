"""Runs that meet, and runs that are killed: what comes out is that of one run, and needs no hand to repair it."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from tasks.bucket.lease import Lease
from tasks.graph.state import BucketState, Records
from tasks.infrastructure import find
from tasks.process import private
from tests.conftest import commit, until
from tests.end_to_end.test_release import UNCHANGED, processes_of

pytestmark = pytest.mark.end_to_end

KILLS = 20
SEED = int(os.environ.get("KILL_SEED") or random.randrange(10**6))
HELD = re.compile(r"lease: testing-\w+ is held by \S+ on \S+ \(process \d+: doit release, since .* UTC\)")


def line(child, words: str) -> None:
    """Wait until the run says these words."""
    heard = []
    for said in child.stdout:
        heard.append(said)
        if words in said:
            return
    pytest.fail(f"it never said {words}, but: {''.join(heard)}")


def told(words: str) -> None:
    """Figures, for those who run the tests with `-s` or `-rA`."""
    sys.stdout.write(f"{words}\n")


def kill(child, *, whole_group: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if whole_group else os.kill)(child.pid, signal.SIGKILL)
    child.wait()


def change(site, number: object) -> None:
    """A commit that gives every stage something to do."""
    comments = {
        "app/pub/index.php": "//",
        "roles/nginx/tasks/main.yml": "#",
        "roles/release/tasks/main.yml": "#",
    }
    for name, sign in comments.items():
        path = site.root / name
        path.write_text(path.read_text().rstrip() + f"\n{sign} {number}\n")
    settings = site.root / "environments" / "testing.yml"
    text = re.sub(r"\n  owner: .*", "", settings.read_text())
    settings.write_text(text.replace("infrastructure:\n", f"infrastructure:\n  owner: owner-{number}\n"))
    commit(site.root, f"change {number}")


def healthy(site) -> None:
    """One machine, the newest tarball live on it, an answer to visitors, and nothing left to do."""
    assert site.stages("release") == UNCHANGED
    assert len(find.everything(site.run).machines) == 1
    assert site.get()[0] == 200
    assert site.get("/health_check.php")[0] == 200


@pytest.mark.long(
    short="tests/bucket/test_lease.py::test_of_six_processes_in_twelve_sections_each_no_two_are_in_one_at_once"
)
def test_of_two_releases_at_once_one_works_and_the_other_finds_nothing_to_do(site):
    change(site, "two")
    both = [site.begin("release"), site.begin("release")]
    said = [each.communicate(timeout=300)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert sorted("nothing to do in" in each for each in said) == [False, True], said
    assert sum("waits for" in each for each in said) == 1
    healthy(site)


@pytest.mark.long(short="tests/bucket/test_lease.py::test_a_run_that_does_not_wait_names_the_holder")
def test_who_does_not_wait_is_refused_by_name(site):
    change(site, "refused")
    first = site.begin("release")
    line(first, "server ")
    second = site.doit("--wait", "0", "release")
    assert second.returncode == 1
    assert HELD.match(second.stderr), second.stderr
    said = first.communicate(timeout=300)[0]
    assert first.returncode == 0, said
    healthy(site)


@pytest.mark.promise("interrupted-stage-runs-again", "release-goes-on-after-a-kill")
def test_killed_in_the_middle_the_next_release_converges(site):
    change(site, "middle")
    child = site.begin("release")
    line(child, "server ")
    kill(child, whole_group=False)
    until(lambda: processes_of(site.root) == [], 5)
    assert site.stages("release")["server"] == "done"
    healthy(site)


@pytest.mark.promise("watcher-ends-what-a-killed-run-started", "stale-sessions-are-killed")
def test_what_a_killed_run_left_on_the_host_changes_nothing_more(site, tmp_path):
    role = site.root / "roles" / "base" / "tasks" / "main.yml"
    before = role.read_text()
    sleeper = "(sleep 25; touch /var/tmp/late) < /dev/null > /dev/null 2>&1 & touch /var/tmp/begun; wait"
    task = f"""
- name: Take long
  ansible.builtin.command:
    argv: [setsid, sh, -c, '{sleeper}']
"""
    role.write_text(before + task)
    child = site.begin("release")
    until(lambda: "begun" in site.ssh("ls /var/tmp", tmp=tmp_path), 60)
    begun, mark = time.monotonic(), Lease(site.run).look().holder.run
    assert list(private.root().glob(f"*{mark}*/inventory.json"))
    kill(child, whole_group=False)
    until(lambda: processes_of(site.root) == [], 5)
    until(lambda: not list(private.root().glob(f"*{mark}*")), 5)  # key and variables are gone too
    # here nobody is left; on the host the command goes on, as a child of nobody
    assert site.ssh("pgrep -cx sleep", tmp=tmp_path).strip() == "1"
    role.write_text(before)
    answered = site.doit("release")
    assert answered.returncode == 0, answered.stderr
    assert re.search(r"lease .* ended [1-9]\d* processes of a former run", answered.stdout), answered.stdout
    assert site.ssh("pgrep -cx sleep || true", tmp=tmp_path).strip() == "0"
    time.sleep(max(0, begun + 27 - time.monotonic()))
    assert "late" not in site.ssh("ls /var/tmp", tmp=tmp_path)
    healthy(site)


@pytest.mark.long(
    short="tests/commands/test_run.py::test_the_loss_of_a_lease_ends_the_children_and_wakes_the_run"
)
@pytest.mark.promise("lost-lease-stops")
def test_a_run_whose_lease_is_taken_stops_and_records_nothing(site):
    change(site, "taken")
    child = site.begin("release")
    line(child, "server ")
    taken = site.doit("unlock", "--yes")
    assert taken.returncode == 0, taken.stderr
    said = child.communicate(timeout=30)[0]
    assert child.returncode == 1, said
    assert re.search(r"lease: testing-\w+ is lost: it is held by .*doit unlock --yes", said), said
    assert "Traceback" not in said
    assert not BucketState(Records(run=site.run), None).in_("server")
    assert processes_of(site.root) == []
    assert site.doit("release").returncode == 0
    healthy(site)


@pytest.mark.long(
    short="tests/bucket/test_lease.py::test_of_six_processes_in_twelve_sections_each_no_two_are_in_one_at_once"
)
def test_of_eight_releases_at_once_the_result_is_that_of_one(site):
    change(site, "eight")
    children = [site.begin("release") for _ in range(8)]
    said = [each.communicate(timeout=600)[0] for each in children]
    codes = [each.returncode for each in children]
    worked = [each for each in said if "released in" in each]
    idle = [each for each in said if "nothing to do in" in each]
    refused = [each for each, code in zip(said, codes, strict=True) if code == 1]
    told(f"eight at once: {len(worked)} worked, {len(idle)} had nothing to do, {len(refused)} were refused")
    assert len(worked) == 1, said
    assert len(worked) + len(idle) + len(refused) == 8
    assert all(HELD.search(each) for each in refused)
    healthy(site)


@dataclass
class Length:
    """How long a release with work in every stage takes; the last one that ran whole counts."""

    seconds: float = 0.0
    random: random.Random = field(default_factory=lambda: random.Random(SEED))


@pytest.fixture(scope="module")
def length(site) -> Length:
    told(f"seed {SEED} (KILL_SEED={SEED} repeats it)")
    change(site, "length")
    begun = time.monotonic()
    assert site.doit("release").returncode == 0
    return Length(seconds=time.monotonic() - begun)


def killed(site, length: Length, number: int, *, whole_group: bool) -> float:
    """Kill a release in its part `number` of all; one that is over by then is no kill: it tells the length anew."""
    for attempt in range(5):
        change(site, f"{number}.{attempt}")
        moment = length.seconds * (number + length.random.random()) / KILLS
        child, begun = site.begin("release"), time.monotonic()
        try:
            child.wait(moment)
        except subprocess.TimeoutExpired:
            kill(child, whole_group=whole_group)
            return moment
        assert child.returncode == 0, child.stdout.read()
        length.seconds = time.monotonic() - begun
    raise AssertionError(f"every release was over before its part {number} of {KILLS}")


@pytest.mark.long(short="tests/end_to_end/test_kill.py::test_killed_in_the_middle_the_next_release_converges")
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_any_moment_the_next_release_converges(site, length, number):
    whole_group = number % 2 == 1
    moment = killed(site, length, number, whole_group=whole_group)
    begun = time.monotonic()
    answered = site.doit("release")
    whom = "the whole group" if whole_group else "the main process"
    told(
        f"kill {number} of seed {SEED}: {whom} after {moment:.1f} of {length.seconds:.1f} s; "
        f"released in {time.monotonic() - begun:.1f} s"
    )
    assert answered.returncode == 0, answered.stdout + answered.stderr
    healthy(site)
