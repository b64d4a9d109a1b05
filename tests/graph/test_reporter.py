"""What a person sees, on a terminal and without one, and what a run leaves behind."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pexpect
import pytest

from tasks.console import journal, terminal
from tasks.console.console import Console
from tasks.graph import reporter
from tasks.process import children
from tests.conftest import DOIT, ROOT, copy_project, doit

DODO = '''
import time
from pathlib import Path
from tasks.commands import command_line
from tasks.graph.stage import Outcome, stage
from tasks.source import NoCommit

RUN = command_line.this_run(Path.cwd())
DOIT_CONFIG = {
    "backend": "json", "dep_file": ".run/doit.json", "reporter": "stages", "default_tasks": ["machine"],
    "num_process": 2, "par_type": "thread", "verbosity": 2,
}


from doit.dependency import JsonDB  # there is no bucket: a voided record is one that is gone
JsonDB.void = JsonDB.remove


def build(run):
    run.console.say("tarball")("layer \\x1b[31mone\\nof two")
    time.sleep(0.7)
    return Outcome(facts={"digest": "d"}, done="built", unchanged="the tree is stored")


def provision(run, **_):
    run.console.event("machine", "an event")
    for number in range(30):
        run.console.say("machine")(f"task {number} " + "x" * 200)
        run.log("machine").open("a").write(f"TASK {number}\\n")
        time.sleep(0.05)
    return Outcome(facts={}, done="30 tasks", unchanged="roles as before")


def fail(run):
    time.sleep(0.5)
    raise NoCommit(name="x")


def last(run):
    from tasks.process import children
    children.wait(30)


def task_tarball():
    """Build."""
    return stage(RUN, build, parts=lambda run: {"a": 1})


def task_machine():
    """Provision."""
    return stage(RUN, provision, parts=lambda run: {"a": 1}, tarball="tarball")


def task_failing():
    """Fail."""
    return stage(RUN, fail)


def task_waiting():
    """Wait."""
    return stage(RUN, last, always=True)
'''


@pytest.fixture
def project(tmp_path) -> Path:
    """A project whose stages only talk, and change no environment."""
    root = copy_project(tmp_path / "shop")
    (root / "dodo.py").write_text(DODO)
    (root / ".run").mkdir()
    return root


def on_a_terminal(project, *arguments, columns=100):
    environ = {**os.environ, "PYTHONPATH": str(project), "TERM": "xterm"}
    return pexpect.spawn(
        str(DOIT),
        list(arguments),
        cwd=str(project),
        env=environ,
        encoding="utf-8",
        timeout=60,
        dimensions=(24, columns),
    )


def screen(text):
    """The lines that a terminal shows at the end; it knows only the control sequences that we use."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[\d*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[J":
            lines[row:] = [lines[row][:column]]
        else:
            assert not part.startswith("\x1b"), part
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]


def stages(lines):
    return [line.split()[:2] for line in lines if line and not line.startswith(" ")]


def run_json(project):
    (folder,) = (project / ".run" / "logs").iterdir()
    newest = max(each for each in folder.iterdir() if each.is_dir())
    return json.loads((newest / "run.json").read_text()), newest


# --- on a terminal --------------------------------------------------------------------------------


@pytest.mark.promise("one-line-for-each-stage")
def test_a_stage_at_work_has_one_line_whose_seconds_tick_and_which_goes_at_the_end(project):
    child = on_a_terminal(project)
    child.expect(pexpect.EOF)
    shown = child.before
    seconds = re.findall(r"\rmachine +(\d+\.\d) s  task", shown.replace(terminal.ERASE, ""))
    assert len(set(map(float, seconds))) >= 3, "the clock ticks"
    assert all(len(line) < 100 for line in re.split(r"[\r\n]", shown.replace(terminal.ERASE, ""))), (
        "no line wraps"
    )
    assert stages(screen(shown)) == [["tarball", "done"], ["machine", "done"]]
    assert "  machine       an event" in screen(shown)


@pytest.mark.promise("unchanged-says-why")
def test_again_it_is_unchanged_with_the_reason(project):
    assert doit(project).returncode == 0
    child = on_a_terminal(project)
    child.expect(pexpect.EOF)
    text = "\n".join(screen(child.before))
    assert re.search(r"tarball +unchanged +the tree is stored +\d\.\d s", text)
    assert re.search(r"machine +unchanged +roles as before +\d\.\d s", text)


@pytest.mark.parametrize("ending", ["failure", "interruption"])
@pytest.mark.promise("the-cursor-is-never-hidden")
def test_the_terminal_is_left_as_it_was(project, ending):
    child = on_a_terminal(project, "failing" if ending == "failure" else "waiting")
    if ending == "interruption":
        child.expect("waiting +0.[4-9] s")
        child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == (1 if ending == "failure" else 130)
    assert "\x1b[?25" not in child.before, "the cursor was never hidden"
    lines = screen(child.before)
    assert lines[-1] == "", "the prompt begins a line of its own"
    name, outcome = ("failing", "failed") if ending == "failure" else ("waiting", "interrupted")
    assert [name, outcome] in stages(lines)
    assert len([line for line in lines if line.startswith(f"{name} ")]) == 1


def test_what_a_stage_says_cannot_move_the_cursor():
    line = terminal._line("tarball", time.monotonic(), "layer \x1b[31mone\nof\ttwo")
    assert "\x1b" not in line
    assert "\n" not in line


@pytest.mark.parametrize(("term", "live"), [("xterm", True), ("dumb", False), (None, False)])
@pytest.mark.promise("plain-lines-without-a-terminal")
def test_lines_move_on_terminals_only(term, live):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    environ = {"TERM": term} if term else {}
    assert terminal.moves(Terminal(), environ) is live
    assert terminal.moves(io.StringIO(), {"TERM": "xterm"}) is False


# --- without one ----------------------------------------------------------------------------------


@pytest.mark.promise("plain-lines-without-a-terminal")
def test_without_a_terminal_lines_are_plain(project):
    answered = doit(project)
    assert answered.returncode == 0, answered.stderr
    assert "\x1b" not in answered.stdout
    assert "\r" not in answered.stdout
    assert stages(answered.stdout.splitlines()) == [["tarball", "done"], ["machine", "done"]]
    assert "  machine       task" in answered.stdout


def test_the_same_words_are_not_said_twice_at_once():
    stream = io.StringIO()
    console = Console(stream)
    console.progress("server", "one")
    console.progress("server", "one")
    console.progress("server", "two")
    assert stream.getvalue() == "  server        one\n"


# --- what is left ---------------------------------------------------------------------------------


@pytest.mark.promise("a-run-leaves-its-logs")
def test_a_run_leaves_a_log_for_each_stage_and_its_timings(project):
    doit(project)
    told, folder = run_json(project)
    assert told["outcome"] == "done"
    assert told["command"] == "doit"
    assert re.fullmatch(r"[0-9a-f]{40}-dirty", told["commit"])
    assert "@" in told["by"]
    assert told["at"].startswith("20")
    assert told["stages"]["machine"]["outcome"] == "done"
    assert 1.5 <= told["stages"]["machine"]["seconds"] <= told["seconds"]
    assert "TASK 29" in (folder / "machine.log").read_text()
    assert "done built" in (folder / "tarball.log").read_text()
    doit(project)
    told, _ = run_json(project)
    assert told["outcome"] == "nothing to do"
    assert told["stages"]["machine"]["outcome"] == "unchanged"


def test_a_failed_run_leaves_its_reason(project):
    assert doit(project, "failing").returncode == 1
    told, _ = run_json(project)
    assert told["outcome"] == "failed"
    assert told["stages"]["failing"]["outcome"] == "failed"
    assert "there is no commit x here" in told["failures"][0]


@pytest.mark.parametrize(("number", "outcome"), [(signal.SIGINT, "interrupted"), (signal.SIGKILL, "running")])
@pytest.mark.promise("a-killed-run-leaves-what-it-knew")
def test_a_run_that_is_ended_leaves_what_it_knew(project, number, outcome):
    child = on_a_terminal(project, "waiting")
    child.expect("waiting +0.[4-9] s")
    child.kill(number)
    child.expect(pexpect.EOF)
    told, _ = run_json(project)
    assert told["outcome"] == outcome


@pytest.mark.promise("newest-twenty-runs")
def test_the_newest_twenty_runs_stay(tmp_path):
    made = [journal.new(tmp_path) for _ in range(23)]
    assert sorted(tmp_path.iterdir()) == sorted(made)[-20:]


def test_interrupted_is_what_the_process_knows(tmp_path):
    stages = reporter.Stages(io.StringIO(), {})
    assert stages._outcome() == "nothing to do"
    children._interrupted.set()
    assert stages._outcome() == "interrupted"


# --- what is not loaded ---------------------------------------------------------------------------


@pytest.mark.promise("nothing-slow-is-imported")
def test_the_list_loads_neither_cloud_nor_ansible_nor_git(project):
    (project / "dodo.py").write_text((ROOT / "dodo.py").read_text())
    words = [sys.executable, "-X", "importtime", str(DOIT), "list"]
    child = pexpect.spawn(
        words[0],
        words[1:],
        cwd=str(project),
        env={**os.environ, "PYTHONPATH": str(project)},
        encoding="utf-8",
    )
    child.expect(pexpect.EOF)
    loaded = set(re.findall(r"\| +([\w.]+)", child.before))
    assert "tasks.graph.stage" in loaded
    assert not loaded & {
        "boto3",
        "botocore",
        "ansible_runner",
        "ansible",
        "git",
        "cryptography",
        "moto",
        "rich",
    }
