"""overlay: where a layer is built: what it is made of lies below, untouched, and what it makes lies apart, above."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tasks.full_disk import DiskFull
from tasks.process import children
from tasks.process.children import CommandFailed
from tasks.refusal import Refusal

NEAR_FULL = 16 << 20
"""A build that fails with less than this many bytes left has failed for want of space."""
MOUNT = 'mount -t overlay overlay -o "$1" "$2" && cd "$2" && shift 2 && exec "$@"'
"""In a mount namespace of the command's own: nothing is left mounted, however it ends."""
SHORT = 6
"""Characters of a credential from which it is hidden in the log: shorter ones are in every word."""


class BuildIncomplete(Refusal):
    """A build command ended well and left out what it promises."""

    sentence = "tarball: {step} ended with exit code 0 and left no {output}"
    remedy = "doit tarball"


class BuildFailed(Refusal):
    """A build command failed; its last lines are shown, the whole output lies in the log."""

    sentence = "tarball: {step}: {command}: exit code {code} (whole output: {log})\n{tail}"
    remedy = "doit tarball"


def place(root: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder to build in. Those of runs that were killed go."""
    folder = root / ".run" / "build"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        lock = _locked(old)
        if lock is not None:
            shutil.rmtree(old, ignore_errors=True)
            os.close(lock)
    made = tempfile.TemporaryDirectory(prefix="run-", dir=folder, ignore_cleanup_errors=True)
    _locked(Path(made.name))  # held until the process ends
    return made


def _locked(folder: Path) -> int | None:
    """A folder's lock as an open file, None when its run is alive."""
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """`lowers`: what is there, the first above the others; `upper`: what the commands have made or changed of it."""

    folder: Path
    lowers: tuple[Path, ...]

    @property
    def upper(self) -> Path:
        """What the commands made."""
        return self.folder / "made"

    def has(self, path: str) -> bool:
        """Whether something of that name, which may have stars, was there or was made."""
        return any(any(each.glob(path)) for each in (self.upper, *self.lowers))


@contextlib.contextmanager
def opened(folder: Path, lowers: Sequence[Path]) -> Iterator[Overlay]:
    """A bench in a new folder, which is gone in the end."""
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        bench = Overlay(folder=Path(own), lowers=tuple(lowers))
        for name in ("made", "work", "tree", "home"):
            (bench.folder / name).mkdir()
        yield bench


def run(
    bench: Overlay,
    commands: Sequence[Sequence[str]],
    *,
    layer: str,
    environment: Mapping[str, str],
    hidden: Sequence[str],
    say: Callable[[str], None],
    log_path: Path,
    shown: Path,
) -> None:
    """Run the commands in the tree that the bench shows. Raises BuildFailed or DiskFull."""
    overlay = overlays(bench.folder)
    if not overlay:
        _copy(bench)
    with log_path.open("ab") as raw:
        log = Hiding(raw, hidden)
        for command in commands:
            line = log.hide(" ".join(command))
            log.write(f"\n$ {line}\n".encode())
            say(f"{layer}: {line}".replace("\n", " "))
            try:
                children.run(
                    _mounted(bench, command) if overlay else command,
                    cwd=bench.folder if overlay else bench.folder / "tree",
                    env={**environment, "HOME": str(bench.folder / "home")},
                    say=lambda words: say(f"{layer}: {log.hide(words)}"),
                    log=log,  # type: ignore[arg-type]
                )
            except CommandFailed as failed:
                _refuse_full_disk(bench)
                raise BuildFailed(
                    step=layer,
                    log=shown,
                    command=line,
                    code=failed.facts["code"],
                    tail=log.hide(str(failed.facts["tail"])),
                ) from None
    if overlay:
        _drop_whiteouts(bench.upper)
    else:
        _keep_changes(bench)


def check(bench: Overlay, layer: str, promises: Sequence[str]) -> None:
    """Raises BuildIncomplete: a command may end well and leave half of it."""
    for promise in promises:
        if not bench.has(promise):
            raise BuildIncomplete(step=layer, output=promise)


def secrets(values: Sequence[str]) -> list[str]:
    """The texts to hide: of each variable its value, and every text in it where it is JSON."""
    found: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)
        elif isinstance(value, str) and len(value) >= SHORT:
            found.append(value)

    for value in values:
        walk(value)
        with contextlib.suppress(ValueError):
            walk(json.loads(value))
    return sorted(set(found), key=len, reverse=True)


class Hiding:
    """A log in which credentials are stars."""

    def __init__(self, raw: IO[bytes], hidden: Sequence[str]) -> None:
        self.raw, self.hidden = raw, hidden

    def hide(self, text: str) -> str:
        """A text without them."""
        for each in self.hidden:
            text = text.replace(each, "***")
        return text

    def write(self, line: bytes) -> int:
        """Write a line."""
        return self.raw.write(
            self.hide(line.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        )


@functools.cache
def _may_mount(folder: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as own:
        bench = Overlay(folder=Path(own), lowers=(Path(own) / "lower",))
        for name in ("made", "work", "tree", "lower"):
            (bench.folder / name).mkdir()
        tried = subprocess.run(_mounted(bench, ["true"]), cwd=own, capture_output=True)
        return tried.returncode == 0


def overlays(folder: Path) -> bool:
    """Whether overlays can be mounted below a folder; else a tree is copied, by reflink where there is that."""
    return shutil.which("unshare") is not None and _may_mount(folder.parent)


def _mounted(bench: Overlay, command: Sequence[str]) -> list[str]:
    own_user = [] if os.geteuid() == 0 else ["--map-root-user"]
    # relative: options have a page at most, and a colon in a path would end it
    lowers = ":".join(os.path.relpath(each, bench.folder) for each in bench.lowers)
    options = f"lowerdir={lowers},upperdir=made,workdir=work"
    return ["unshare", "--mount", *own_user, "sh", "-c", MOUNT, "sh", options, "tree", *command]


def _refuse_full_disk(bench: Overlay) -> None:
    if shutil.disk_usage(bench.folder).free < NEAR_FULL:
        raise DiskFull(stage="tarball", path=".run")


def _copy(bench: Overlay) -> None:
    for lower in reversed(bench.lowers):
        try:
            children.run(["cp", "-a", "--reflink=auto", f"{lower}/.", str(bench.folder / "tree")])
        except CommandFailed:
            _refuse_full_disk(bench)
            raise


def _drop_whiteouts(folder: Path) -> None:
    """An overlay marks what was removed from below by a device file; a layer only adds."""
    for parent, _, files in os.walk(folder):
        for name in files:
            found = (Path(parent) / name).lstat()
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                (Path(parent) / name).unlink()


def _keep_changes(bench: Overlay) -> None:
    """Move what is new or changed in the copy to where an overlay would have put it."""
    for parent, folders, files in os.walk(bench.folder / "tree"):
        for name in (*folders, *files):
            path = Path(parent) / name
            inside = path.relative_to(bench.folder / "tree")
            before = next((each / inside for each in bench.lowers if os.path.lexists(each / inside)), None)
            if path.is_dir() and not path.is_symlink():
                if not before:
                    (bench.upper / inside).mkdir(parents=True, exist_ok=True)
                continue
            if before and _same(before.lstat(), path.lstat()):
                continue
            (bench.upper / inside).parent.mkdir(parents=True, exist_ok=True)
            path.rename(bench.upper / inside)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_size, one.st_mtime_ns) == (other.st_mode, other.st_size, other.st_mtime_ns)
