"""leftovers: what a session of pytest that was killed has left: the next session ends, unmounts and removes it, and touches no other's.

A session's mark is its process with its start. It is in the environment of all that the session starts, and in a file of its
temporary folder until the session ends by itself. A dead session is one whose process does not run any more.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tasks.cloud.embedded import lifecycle
from tasks.process import orphans, private
from tasks.process.life import started_at, this_boot
from tasks.refusal import Refusal

MARK = "TESTS_OF_SESSION"
"""The environment variable that has the mark."""
FILE = "session"
"""The file of a session's temporary folder that has it."""


def _here() -> str:
    """This boot and this container of the machine: elsewhere, a process id means another process."""
    return f"{this_boot()}-{Path('/proc/self/ns/pid').readlink().name.strip('pid:[]')}"


def _mark() -> str:
    return f"{os.getpid()}-{started_at(os.getpid())}-{_here()}"


def dead(mark: str) -> bool:
    """Whether the session with this mark was one of this machine, and its process has ended."""
    pid, _, rest = mark.partition("-")
    started, _, here = rest.partition("-")
    return here == _here() and pid.isdigit() and str(started_at(int(pid))) != started


def begin(folder: Path) -> list[str]:
    """Mark this session, whose temporary folder that is, and take away what dead ones have left. What that was, in words."""
    os.environ[MARK] = _mark()
    (folder / FILE).write_text(_mark())
    return [*_end_processes(), *(words for left in _left(folder.parent) for words in _remove(left))]


def end(folder: Path) -> None:
    """This session has ended by itself: pytest keeps its folder for some time."""
    with contextlib.suppress(OSError):
        (folder / FILE).unlink()


def of_dead_sessions() -> list[int]:
    """The processes that a dead session has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            entry = re.search(rf"(?:^|\0){MARK}=([^\0]+)".encode(), (folder / "environ").read_bytes())
            if entry and dead(entry[1].decode()):
                found.append(int(folder.name))
    return found


def _end_processes() -> Iterator[str]:
    if of_dead_sessions():
        yield f"ended {orphans.end(of_dead_sessions)} processes of a killed session"


def _left(parent: Path) -> Iterator[Path]:
    """The temporary folders of dead sessions, each while no other session takes it away."""
    for file in parent.glob(f"*/{FILE}"):
        if file.is_symlink() or file.parent.is_symlink() or not file.is_file():
            continue
        with contextlib.suppress(OSError):
            alone = private.lock(file)
            if alone is None:
                continue
            try:
                if dead(file.read_text()):
                    yield file.parent
            finally:
                os.close(alone)


def _remove(folder: Path) -> Iterator[str]:
    """Remove a folder with the clouds and the mounts below it; the mark goes last, so that this can be repeated."""
    for state in _states(folder):
        try:
            lifecycle.delete(lambda words: None, {**os.environ, "XDG_STATE_HOME": str(state)})
        except (
            Refusal,
            OSError,
        ) as problem:  # this session does not depend on it, and the next one tries again
            yield f"{str(problem).splitlines()[0]} ({state} stays)"
            return
        yield f"deleted the cloud of {state}"
    for mounted in _mounts(folder):
        subprocess.run(["umount", "--lazy", mounted], check=False)
        yield f"unmounted {mounted}"
    if left := _mounts(folder):  # what is removed through a mount may be anybody's
        yield f"{left[0]} stays mounted, and {folder} stays"
        return
    for each in list(folder.iterdir()):
        if each.name != FILE:
            shutil.rmtree(each, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    yield f"removed {folder}"


def _states(folder: Path) -> list[Path]:
    """The folders that were XDG_STATE_HOME to a cloud. What vanishes meanwhile is passed over."""
    return [
        Path(parent).parents[1]
        for parent, _, files in os.walk(folder)
        if parent.endswith("release-pipeline/cloud") and "cloud.json" in files
    ]


def _mounts(folder: Path) -> list[str]:
    """What is mounted below a folder, the innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return sorted((each for each in found if Path(each).is_relative_to(folder)), key=len, reverse=True)
