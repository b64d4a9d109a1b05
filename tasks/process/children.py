"""children: starts and ends every child process of the pipeline.

Tasks run in threads, and a thread cannot be interrupted. So an interruption sets one event, which `wait` and
`cancelled` see, and ends the process group of every child.

A killed run cannot end its children. So a watcher, a process of its own, ends them when the run has ended (`watch`).
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from tasks import environ
from tasks.refusal import Refusal

TAIL = 12
"""Lines of a failed command's output that are shown."""

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
    """A child process ended with an error; its last lines are shown."""

    sentence = "{command}: exit code {code}\n{tail}"
    remedy = ""


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
) -> str:
    """Run a command and return what it printed (stdout and stderr, in order).

    `env`: its environment variables; without it, those that every child gets.
    `say` gets each line as it comes; `log` gets the whole output. Raises CommandMissing, CommandFailed (with
    the last lines) or Cancelled.
    """
    output: list[str] = []
    with _started(command, cwd=cwd, env=env, stdin=stdin) as child:
        for line in child.stdout or ():
            if log:
                log.write(line)
            text = line.decode(errors="replace").rstrip()
            output.append(text)
            if say and text.strip():
                say(text.strip())
        code = child.wait()
    if cancelled():
        raise Cancelled(stage="release")
    if code:
        raise CommandFailed(command=shlex.join(command), code=code, tail=tail("\n".join(output)), status=code)
    return "\n".join(output)


@contextlib.contextmanager
def _started(
    command: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str] | None,
    stdin: bytes | None,
) -> Iterator[subprocess.Popen[bytes]]:
    with _children_lock:  # an interruption comes before the start, or finds the child in the set
        if cancelled():
            raise Cancelled(stage="release")
        try:
            child = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=marked(environ.of() if env is None else env),
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            if error.filename != command[0]:
                raise
            raise CommandMissing(command=command[0]) from None
        _children.add(child)
    try:
        if stdin is not None and child.stdin:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(stdin)
            child.stdin.close()
        yield child
    finally:
        if child.poll() is None:
            _end(child)
            child.wait()
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
    """The last lines of an output, indented below the refusal's sentence."""
    return "\n".join(f"    | {line}" for line in output.strip().splitlines()[-lines:])


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


def _end(child: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, how)
