"""trace: which paths a layer's commands looked for and which files they opened, as strace writes it down."""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.tarball.build.sandbox import TEMPORARY, TREE

FILE = ".opened"
CALLS = (
    *("openat", "?openat2", "newfstatat", "statx", "faccessat", "?faccessat2", "readlinkat", "execve"),
    *("execveat", "chdir", "fchdir"),
    # only some processors have these
    *("?open", "?stat", "?lstat", "?access", "?readlink"),
)
OPENING = {"open", "openat", "openat2", "execve", "execveat", "readlink", "readlinkat"}
WORDS = (
    *("strace", "--follow-forks", "--seccomp-bpf", "--decode-fds=path", "--quiet=all", "--signal=none"),
    *(f"--trace={','.join(CALLS)}", f"--output={TEMPORARY}/{FILE}"),
)
"""In front of a command, they write a line for each of its calls that names a file, and of all that it starts."""
LINE = re.compile(
    r"""(?P<pid>\d+)\ +
    (?:<\.\.\.\ (?P<resumed>\w+)\ resumed>
      |(?P<call>\w+)\(
        (?:(?:AT_FDCWD|\d+)(?:<(?P<base>[^>]*)>)?(?:,\ )?)?
        (?:"(?P<path>(?:[^"\\]|\\.)*)")?)
    (?P<rest>.*)""",
    re.VERBOSE,
)
UNFINISHED = "<unfinished ...>"
MISSING = re.compile(r"= -1 (?:ENOENT|ENOTDIR) ")


class Trace:
    """What was looked at below the tree, by paths from there. `missed`: what was not there. `opened`: files and links that were read."""

    def __init__(self) -> None:
        self.missed: set[str] = set()
        self.opened: set[str] = set()

    def look(self, folder: Path) -> None:
        """Read what a command's strace has written into its /tmp, and remove it."""
        path = folder / FILE
        if not path.exists():
            return
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            for call, name, rest in _calls(file):
                self._take(call, name, rest)
        path.unlink()

    def _take(self, call: str, path: str, rest: str) -> None:
        if not path.startswith(f"{TREE}/"):
            return
        name = path[len(TREE) + 1 :]
        if MISSING.search(rest):
            self.missed.add(name)
        elif (
            call in OPENING and " = -1 " not in rest and "O_DIRECTORY" not in rest and "O_WRONLY" not in rest
        ):
            self.opened.add(name)


def _calls(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """Each call, the whole path that it names, and its further arguments with its result."""
    folders: dict[str, str] = {}  # where each process is
    halves: dict[str, tuple[str, str, str]] = {}
    for line in lines:
        found = LINE.match(line)
        if not found:
            continue
        pid = found["pid"]
        if found["resumed"]:
            call, path, rest = halves.pop(pid, ("", "", ""))
            rest += found["rest"]
        else:
            call, rest = found["call"], found["rest"]
            base = _text(found["base"] or "")
            if "AT_FDCWD<" in line[: found.start("rest")]:
                folders[pid] = base
            path = posixpath.normpath(
                posixpath.join(base or folders.get(pid, TREE), _text(found["path"] or ""))
            )
            if UNFINISHED in rest:
                halves[pid] = (call, path, rest)
                continue
        if call in ("chdir", "fchdir") and "= 0" in rest:
            folders[pid] = path
        yield call, path, rest


def _text(told: str) -> str:
    """A text as it was, of which strace has escaped some bytes."""
    if "\\" not in told:
        return told
    whole: bytes = ast.literal_eval(f'b"{told}"')
    return whole.decode(errors="surrogateescape")
