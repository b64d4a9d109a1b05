"""Children: what they get, what they say, how they end; each program of these tests ends within a moment, or is ended."""

from __future__ import annotations

import io
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tasks import environ
from tasks.process import children
from tasks.process.children import Cancelled, ChildSilent, CommandFailed, CommandMissing
from tests.conftest import until


def sh(text):
    return ["sh", "-c", text]


def alive(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


# --- what it says ---------------------------------------------------------------------------------


def test_what_a_command_prints_is_returned_said_and_logged_line_by_line():
    said, log = [], io.BytesIO()
    text = "echo ' one '; echo two >&2; echo; printf '\\377three'"
    assert children.run(sh(text), say=said.append, log=log) == " one\ntwo\n\n\N{REPLACEMENT CHARACTER}three"
    assert said == ["one", "two", "\N{REPLACEMENT CHARACTER}three"]
    assert log.getvalue() == b" one \ntwo\n\n\xffthree"


def test_a_command_runs_where_and_with_what_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMETHING", "else")
    assert children.run(sh("pwd; echo $SOMETHING"), cwd=tmp_path) == f"{tmp_path}\n"
    assert (
        children.run(sh("echo $SOMETHING"), env={"SOMETHING": "given", "PATH": os.environ["PATH"]}) == "given"
    )
    for env in (None, {"PATH": os.environ["PATH"], "A": "b"}):
        shown = dict(line.split("=", 1) for line in children.run(["env"], env=env).splitlines())
        assert shown == dict(environ.of() if env is None else env)


@pytest.mark.parametrize(
    ("given", "read"), [(None, ""), (b"", ""), (b"line\n", "line"), (b"x" * 200_000, "x" * 200_000)]
)
def test_a_command_reads_what_it_is_given_and_nothing_else(given, read):
    assert children.run(["cat"], stdin=given) == read


def test_a_command_that_fails_is_shown_with_its_code_and_its_last_lines():
    with pytest.raises(CommandFailed) as caught:
        children.run(sh("seq 20; exit 3"))
    shown = "\n".join(f"    | {number}" for number in range(9, 21))
    assert caught.value.facts == {"command": "sh -c 'seq 20; exit 3'", "code": 3, "tail": shown, "status": 3}


@pytest.mark.parametrize(
    ("output", "lines", "shown"),
    [("", 12, ""), ("a\nb\n\n", 12, "    | a\n    | b"), ("a\nb\nc", 2, "    | b\n    | c")],
)
def test_the_last_lines_are_indented(output, lines, shown):
    assert children.tail(output, lines) == shown


def test_a_program_that_is_not_installed_is_named(tmp_path):
    for start in (children.run, children.ask, children.hand_over):
        with pytest.raises(
            CommandMissing, match=r"^no-such-program: is not installed\n    rm -f .run/installed"
        ):
            start(["no-such-program", "x"])
    with pytest.raises(FileNotFoundError):
        children.run(["true"], cwd=tmp_path / "none")


# --- a program that is asked ------------------------------------------------------------------------


def test_a_program_that_is_asked_answers_with_its_code_its_output_and_its_complaints(tmp_path):
    assert children.ask(sh("echo out; echo err >&2; exit 4")) == (4, b"out\n", b"err\n")
    assert children.ask(sh("pwd; echo $A"), cwd=tmp_path, env={"A": "b"}) == (
        0,
        f"{tmp_path}\nb\n".encode(),
        b"",
    )
    assert children.ask(["env"])[1] == children.run(["env"]).encode() + b"\n"
    assert children.ask(["cat"]) == (0, b"", b"")
    _, printed, _ = children.ask(sh("echo $$; cut -d' ' -f6 /proc/$$/stat"))
    assert len(set(printed.split())) == 1, (
        "it leads a session, so that its end is the end of all that it started"
    )
    (tmp_path / "given").write_text("read")
    with (tmp_path / "given").open("rb") as given:
        assert children.ask(["cat"], stdin=given) == (0, b"read", b"")


def test_a_program_on_the_terminal_answers_with_its_code():
    assert children.hand_over(sh("exit 5")) == 5


# --- its bound --------------------------------------------------------------------------------------


@pytest.fixture
def brief(monkeypatch):
    """Whoever does not want to end is killed soon."""
    monkeypatch.setattr(children, "GRACE", 0.2)


def silenced(text, **how):
    """The refusal of a command that talks and falls silent. Where the machine has so much to do that it says nothing, it gets longer."""
    for seconds in (0.5, 2.5, 12.5):
        with pytest.raises(ChildSilent) as caught:
            children.run(sh(text), seconds=seconds, **how)
        if caught.value.facts["tail"]:
            break
    return caught.value, seconds


@pytest.mark.parametrize("then", ["exec sleep 3000", "trap '' TERM; sleep 3000; sleep 3000"])
def test_a_command_that_does_not_end_in_time_is_ended_and_named_with_what_it_said(brief, then):
    text = f"printf 'it\\nsaid\\n'; {then}"
    refusal, seconds = silenced(text)
    said = "    | it\n    | said"
    assert refusal.facts["tail"] == said
    assert refusal.text.startswith(
        f"{children.shlex.join(sh(text))}: did not end within {seconds} s and was ended\n{said}"
    )
    assert (refusal.facts["code"], refusal.facts["status"]) == ("none", None)
    assert children._children == set()


def test_a_command_that_closes_its_output_and_goes_on_has_its_bound_too(brief):
    with pytest.raises(ChildSilent):
        children.run(sh("exec >&- 2>&-; sleep 30"), seconds=0.3)


def test_a_command_that_never_stops_talking_has_its_bound_too():
    """When its time is over, nothing more is read, although there is more."""
    child = popen("echo", "x")
    with children._held(child):
        child.wait(30)
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            next(children._lines(child, 0.0))
        assert (caught.value.cmd, caught.value.timeout) == (("echo", "x"), 0)
        assert list(children._lines(child, None)) == [b"x\n"]


def test_a_program_that_is_asked_has_its_bound(brief):
    with pytest.raises(ChildSilent, match=r"^sleep 30: did not end within 0\.2 s and was ended"):
        children.ask(["sleep", "30"], seconds=0.2)
    with pytest.raises(ChildSilent) as caught:
        children.ask(["sleep", "30"], seconds=0.2)
    assert caught.value.facts["tail"] == ""
    assert children._children == set()
    assert children._left(0.0) == 0.0
    assert children._left(None) is None


def test_what_a_child_leaves_that_holds_its_output_is_ended(brief):
    started = []
    silenced("sleep 300 & echo $!", say=started.append)
    until(lambda: not alive(int(started[0])))


def test_a_command_without_a_bound_is_waited_for():
    assert children.run(sh("sleep 0.1; echo done"), seconds=None) == "done"


def popen(*command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def test_a_block_that_reads_from_a_child_ends_with_its_bound(brief):
    child = popen("sleep", "30")
    with (
        pytest.raises(ChildSilent, match=r"^git x: did not end within 0\.2 s"),
        children.within(0.2, child, ["git", "x"]),
    ):
        child.stdout.read()
    assert child.returncode == -signal.SIGTERM
    child = popen("sleep", "30")
    with pytest.raises(ChildSilent), children.within(0.2, child, ["git"]):
        raise ValueError(child.stdout.read())


def test_a_block_that_ends_in_time_is_left_alone():
    before = {*threading.enumerate()}
    child = popen("echo", "x")
    with children.within(60, child, ["echo"]):
        assert child.stdout.read() == b"x\n"
    assert (child.stdout.closed, child.stderr.closed) == (True, True)
    until(lambda: {*threading.enumerate()} <= before)
    child = popen("sleep", "30")
    with pytest.raises(ZeroDivisionError), children.within(30, child, ["sleep"]):
        raise ZeroDivisionError
    assert child.poll() is not None, "nobody reads from it any more"
    until(lambda: {*threading.enumerate()} <= before)


# --- an interruption --------------------------------------------------------------------------------


def interrupted_while(work, then=children.interrupt):
    """Interrupt while a child of this work runs; what it raised."""
    caught = []

    def call():
        try:
            work()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: children._children)
    then()
    thread.join(20)
    assert not thread.is_alive()
    return caught[0] if caught else None


@pytest.mark.promise("an-interruption-ends-children")
def test_an_interruption_ends_every_child_and_all_that_it_has_started():
    started = []
    error = interrupted_while(
        lambda: children.run(sh("sleep 30 & echo $!; wait"), say=started.append),
        then=lambda: until(lambda: started) and children.interrupt(),
    )
    assert isinstance(error, Cancelled)
    assert error.text == "release: interrupted\n    doit release"
    until(lambda: not alive(int(started[0])))
    assert children._children == set()


def test_after_an_interruption_no_child_starts_and_nothing_is_waited_for(tmp_path):
    assert not children.cancelled()
    children.wait(0.0)
    children.interrupt()
    children.interrupt()
    assert children.cancelled()
    with pytest.raises(Cancelled, match=r"^release: interrupted"):
        children.run(["touch", str(tmp_path / "made")])
    assert not (tmp_path / "made").exists()
    for stage in ("release", "image"):
        with pytest.raises(Cancelled, match=f"^{stage}: interrupted"):
            children.wait(60.0, **({} if stage == "release" else {"stage": stage}))


@pytest.mark.promise("an-interruption-ends-children")
def test_a_child_that_an_interruption_does_not_end_is_killed_at_the_end_of_the_run():
    """It ignores the polite signal, as a build tool may; `kill` is what the end of a run calls."""
    started = []

    def then():
        until(lambda: started)
        children.interrupt()
        time.sleep(0.3)
        assert alive(int(started[0])), "it was not asked politely"
        children.kill()

    error = interrupted_while(
        lambda: children.run(sh("trap '' TERM; echo $$; while :; do sleep 0.1; done"), say=started.append),
        then,
    )
    assert isinstance(error, Cancelled)
    until(lambda: not alive(int(started[0])))


def test_the_end_of_a_run_waits_for_the_stage_that_is_at_work_and_not_for_ever():
    children.rest(3600)  # nothing is at work
    with children.at_work():
        children.rest(0.05)
        threading.Timer(0.2, children._at_work.pop).start()
        children.rest(3600)
        assert children._at_work == []
        children._at_work.append(None)
    with pytest.raises(ZeroDivisionError), children.at_work():
        raise ZeroDivisionError
    assert children._at_work == []


# --- a killed run -----------------------------------------------------------------------------------


@pytest.fixture
def a_mark(monkeypatch, tmp_path):
    """A mark of this test alone, as a watcher ends whatever has it; no run of this process is watched yet."""
    watchers = {}
    monkeypatch.setattr(children, "_marks", [])
    monkeypatch.setattr(children, "_watchers", watchers)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield secrets.token_hex(6)
    for each in watchers.values():
        each.stdin.close()
        each.wait(30)


@pytest.mark.usefixtures("a_mark")
def test_without_a_watch_a_child_has_no_mark():
    assert children.mark() == ""
    assert children.marked({"A": "b"}) == {"A": "b"}


@pytest.mark.promise("watcher-ends-what-a-killed-run-started")
def test_each_child_has_the_mark_of_the_run_and_one_watcher_waits_for_its_end(a_mark, tmp_path):
    children.watch(a_mark)
    assert children._watchers == {}, "it starts with the first child"
    assert children.run(sh("echo $DOIT_RUN")) == a_mark == children.mark()
    assert children.marked({"A": "b"}) == {"A": "b", "DOIT_RUN": a_mark}
    (watcher,) = children._watchers.values()
    children.run(["true"])
    assert list(children._watchers.values()) == [watcher]
    assert watcher.poll() is None
    proc = Path(f"/proc/{watcher.pid}")
    assert b"-IS" in (proc / "cmdline").read_bytes().split(b"\0"), "nobody's modules are loaded"
    assert (proc / "environ").read_bytes() == b"", "no secret of the run lives on in it"
    assert {str((proc / "fd" / each).readlink()) for each in "12"} == {"/dev/null"}
    assert os.getsid(watcher.pid) == watcher.pid, "what ends the run's group does not end it"
    left = tmp_path / f"release-pipeline-{os.getuid()}" / f"ssh-{a_mark}-x"
    left.mkdir(parents=True)
    orphan = subprocess.Popen(["sleep", "30"], env=children.marked({}), start_new_session=True)
    watcher.stdin.close()  # as the end of this process does
    assert watcher.wait(30) == 0
    assert orphan.wait(30) == -signal.SIGKILL
    assert not left.exists()


def test_a_program_on_the_terminal_has_the_mark_too(a_mark, tmp_path):
    children.watch(a_mark)
    code = f"import os; open({str(tmp_path / 'told')!r}, 'w').write(os.environ['DOIT_RUN'])"
    assert children.hand_over([sys.executable, "-c", code]) == 0
    assert (tmp_path / "told").read_text() == a_mark
