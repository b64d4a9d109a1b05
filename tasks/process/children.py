"""children: starts and ends every child process of the pipeline.

Tasks run in threads, and a thread cannot be interrupted. So an interruption sets one event, which `wait` and
`cancelled` see, and ends the process group of every child. So does the child's bound (`bounds`): nothing waits for ever.

A killed run cannot end its children. So a watcher, a process of its own, ends them when the run has ended (`watch`).
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from tasks import environ
from tasks.process import bounds, printed
from tasks.refusal import Refusal

TAIL = 12
"""Lines of a failed command's output that are shown."""

GRACE = 5.0
"""Seconds that a child has to end when it is asked to, before it is killed."""

MARK = "DOIT_RUN"
"""Environment variable by which the watcher finds a run's processes."""

_interrupted = threading.Event()
_at_work: list[None] = []
_watchers: dict[str, subprocess.Popen[bytes]] = {}
_marks: list[str] = []
_children: set[subprocess.Popen[bytes]] = set()
_children_lock = threading.RLock()  # reentrant: a signal handler may run in the thread that holds it


class Cancelled(Refusal):
    """Ctrl-C or a signal interrupted the run."""

    sentence = "{stage}: interrupted"
    remedy = "doit {stage}"


class CommandFailed(Refusal):
    """A child process ended with an error; the lines that say why are shown."""

    sentence = "{command}: exit code {code}\n{tail}"
    remedy = ""


class ChildSilent(CommandFailed):
    """A child process did not end within its bound: it has fallen silent, or what it asks has."""

    sentence = "{command}: did not end within {seconds} s and was ended\n{tail}"


class CommandMissing(Refusal):
    """A program that a stage needs is not installed."""

    sentence = "{command}: is not installed"
    remedy = "rm -f .run/installed-* && build/ci/run list"


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    say: Callable[[str], None] | None = None,
    log: IO[bytes] | None = None,
    stdin: bytes | None = None,
    seconds: float | None = bounds.ANSWER,
) -> str:
    """Run a command and return what it printed (stdout and stderr, in order).

    `env`: its environment variables; without it, those that every child gets.
    `say` gets each line as it comes; `log` gets the whole output. `seconds`: its bound, None where a person waits.
    Raises CommandMissing, CommandFailed (with the last lines), ChildSilent or Cancelled.
    """
    output: list[str] = []
    deadline = None if seconds is None else time.monotonic() + seconds
    try:
        with _started(command, cwd=cwd, env=env, stdin=stdin) as child:
            for line in _lines(child, deadline):
                if log:
                    log.write(line)
                text = line.decode(errors="replace").rstrip()
                output.append(text)
                if say and (shown := printed.line(text).strip()):
                    say(shown)
            code = child.wait(_left(deadline))
    except subprocess.TimeoutExpired:
        raise _silent(command, seconds, "\n".join(output)) from None
    if cancelled():
        raise Cancelled(stage="release")
    if code:
        raise CommandFailed(command=shlex.join(command), code=code, tail=tail("\n".join(output)), status=code)
    return "\n".join(output)


@contextlib.contextmanager
def beside(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A child that goes on beside the block, at whose end it is ended. Nobody reads what it prints. Raises CommandMissing or Cancelled."""
    with _started(command, cwd=None, env=None, stdin=None) as child:
        yield child


def ask(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: IO[bytes] | None = None,
    seconds: float = bounds.ANSWER,
) -> tuple[int, bytes, bytes]:
    """Exit code, output and complaints of a program. Raises CommandMissing or ChildSilent."""
    try:
        child = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(environ.of() if env is None else env),
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CommandMissing(command=command[0]) from None
    return answer(child, command, seconds=seconds)


def answer(
    child: subprocess.Popen[bytes], command: Sequence[str], *, seconds: float
) -> tuple[int, bytes, bytes]:
    """Exit code, output and complaints of a child that leads its process group. Raises ChildSilent."""
    try:
        with _held(child):
            output, said = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise _silent(command, seconds) from None
    return child.returncode, output, said


@contextlib.contextmanager
def within(seconds: float, child: subprocess.Popen[bytes], command: Sequence[str]) -> Iterator[None]:
    """A block that reads from a child, which leads its process group, until that has ended. Raises ChildSilent."""
    over = threading.Event()

    def end() -> None:
        over.set()
        _end_surely(child)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        with _held(child):
            yield
    except Exception:
        if not over.is_set():
            raise
    finally:
        timer.cancel()
    if over.is_set():
        raise _silent(command, seconds)


def _silent(command: Sequence[str], seconds: float | None, output: str = "") -> ChildSilent:
    facts = {"seconds": f"{seconds:g}", "code": "none", "status": None}
    return ChildSilent(command=shlex.join(command), tail=tail(output), **facts)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _lines(child: subprocess.Popen[bytes], deadline: float | None) -> Iterator[bytes]:
    """The output's lines, as they come. Raises TimeoutExpired: its end may never come, as anybody may hold it open."""
    ready, rest, number = select.poll(), b"", cast("IO[bytes]", child.stdout).fileno()
    ready.register(number, select.POLLIN)
    while (left := _left(deadline)) != 0 and ready.poll(None if left is None else left * 1000):
        chunk = os.read(number, 1 << 16)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if not chunk:
            if rest:
                yield rest
            return
    raise subprocess.TimeoutExpired(child.args, 0)


@contextlib.contextmanager
def _started(
    command: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    stdin: bytes | None,
) -> Iterator[subprocess.Popen[bytes]]:
    with _input(stdin) as given, contextlib.ExitStack() as held:
        with _children_lock:  # an interruption comes before the start, or finds the child in the set
            if cancelled():
                raise Cancelled(stage="release")
            try:
                child = subprocess.Popen(
                    list(command),
                    cwd=cwd,
                    env=marked(environ.of() if env is None else env),
                    stdin=given,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                if error.filename != command[0]:
                    raise
                raise CommandMissing(command=command[0]) from None
            held.enter_context(_held(child))
        yield child


@contextlib.contextmanager
def _input(content: bytes | None) -> Iterator[int | IO[bytes]]:
    """What a child reads: a file in memory, as one that does not read would hold up who writes to a pipe."""
    if content is None:
        yield subprocess.DEVNULL
        return
    with os.fdopen(os.memfd_create("stdin"), "w+b") as file:
        file.write(content)
        file.seek(0)
        yield file


@contextlib.contextmanager
def _held(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """An interruption ends the child, and at the end of the block it has ended."""
    with _children_lock:
        _children.add(child)
    try:
        yield
    except subprocess.TimeoutExpired:
        _end_surely(child)  # where it has ended, another process of its group may hold its output
        raise
    finally:
        if child.poll() is None:
            _end_surely(child)
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
        with _children_lock:
            _children.discard(child)


def hand_over(command: Sequence[str]) -> int:
    """Run an interactive command on this terminal; return its exit code."""
    try:
        return subprocess.call(list(command), env=marked(environ.of("terminal")))
    except FileNotFoundError:
        raise CommandMissing(command=command[0]) from None


def watch(mark: str) -> None:
    """From now on no child outlives this process: if it is killed, every process with the mark is ended.

    A parent-death signal would not do: it comes when the starting thread ends, and grandchildren do not inherit it.
    """
    _marks.append(mark)


def mark() -> str:
    """The mark of this process's children; empty without `watch`. The first call starts the watcher."""
    if not _marks:
        return ""
    with _children_lock:
        if _marks[-1] not in _watchers:
            _watchers[_marks[-1]] = _start_watcher(_marks[-1])
    return _marks[-1]


def marked(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child, with its mark."""
    return {**environment, MARK: mark()} if _marks else dict(environment)


def _start_watcher(mark: str) -> subprocess.Popen[bytes]:
    """Start a process that reads from a pipe. Only this process holds the other end, which closes however it ends."""
    program = str(Path(__file__).with_name("orphans.py"))
    return subprocess.Popen(
        [sys.executable, "-IS", program, "marked", mark, tempfile.gettempdir()],
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def tail(output: str, lines: int = TAIL) -> str:
    """The lines of an output that say why it failed, indented below the refusal's sentence."""
    return "\n".join(f"    | {line}" for line in printed.reason(output, lines))


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """Mark a stage as running: the end of a run waits for it (`rest`)."""
    _at_work.append(None)
    try:
        yield
    finally:
        _at_work.pop()


def rest(seconds: float) -> None:
    """Wait until no stage is running, but no longer than so many seconds."""
    deadline = time.monotonic() + seconds
    while _at_work and time.monotonic() < deadline:
        time.sleep(0.02)


def cancelled() -> bool:
    """Whether the run was interrupted."""
    return _interrupted.is_set()


def wait(seconds: float, stage: str = "release") -> None:
    """Sleep, but not through an interruption: then Cancelled is raised at once."""
    if _interrupted.wait(seconds):
        raise Cancelled(stage=stage)


def interrupt() -> None:
    """End every child and wake every `wait`. A signal handler may call it, also twice."""
    _interrupted.set()
    with _children_lock:
        for child in _children:
            _end(child)


def kill() -> None:
    """Kill the children that an interruption has not ended."""
    with _children_lock:
        for child in _children:
            _end(child, signal.SIGKILL)


def _end_surely(child: subprocess.Popen[bytes]) -> None:
    """End a child and its process group, also where they do not want to."""
    _end(child)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE)
    _end(child, signal.SIGKILL)
    child.wait()


def _end(child: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, how)
