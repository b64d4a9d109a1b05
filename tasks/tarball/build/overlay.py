"""overlay: a file system to build a layer in: inputs are read-only below, changes go to a folder above."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tasks import environ
from tasks.full_disk import DiskFull
from tasks.process import bounds, children, private
from tasks.process.children import ChildSilent, CommandFailed
from tasks.refusal import Refusal
from tasks.tarball.build import sandbox, tar
from tasks.tarball.build.conditions import USUAL, Conditions
from tasks.tarball.build.sandbox import FOLDERS, Allowed, Sandbox

PREFIX = "overlay-"
"""How the names of overlays' folders begin."""
NEAR_FULL = 16 << 20
"""If a build fails with fewer free bytes than this, the disk is full."""
OPAQUE = {"trusted.overlay.opaque", "user.overlay.opaque"}
"""Marks of a folder that hides those of the same name below it."""
PLAIN = ",redirect_dir=off,metacopy=off"
"""What is renamed or changed in its mode is copied whole: the upper folder must make sense without the lower ones. A user namespace has
neither, and may not say so."""
SHORT = 6
"""A credential is redacted if it has at least this many characters: shorter ones occur in ordinary words."""


class BuildIncomplete(Refusal):
    """A build command ended with exit code 0, but a file that its layer promises is missing."""

    sentence = "tarball: {step} ended with exit code 0 and left no {output}"
    remedy = "doit tarball"


class BuildFailed(Refusal):
    """A build command failed. The lines that say why are shown; the log has the whole output."""

    sentence = "tarball: {step}: {command}: exit code {code} (whole output: {log})\n{tail}"
    remedy = "doit tarball"


class BuildSilent(Refusal):
    """A build command did not end within `application.build_minutes`, and was ended with all that it had started."""

    sentence = "tarball: {step}: {command}: did not end within {minutes} min and was ended (whole output: {log})\n{tail}"
    remedy = "$EDITOR pipeline.yml"


def build_folder(root: Path) -> tempfile.TemporaryDirectory[str]:
    """A new folder to build in. Folders of killed runs are deleted."""
    folder = root / ".run" / "build"
    folder.mkdir(parents=True, exist_ok=True)
    with private.turn(folder):
        made = tempfile.TemporaryDirectory(prefix="run-", dir=folder, ignore_cleanup_errors=True)
        private.lock(Path(made.name))  # held until the process ends
    return made


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """`lowers`: read-only folders, the first above the others. `upper`: what the commands have made or changed.

    `sandbox`: how the commands are kept apart; None where they cannot be, so that they see all that we see.
    """

    folder: Path
    lowers: tuple[Path, ...]
    sandbox: Sandbox | None

    @property
    def upper(self) -> Path:
        """The folder of what the commands have made or changed."""
        return self.folder / "made"

    def has(self, path: str) -> bool:
        """Whether a path exists in any of the folders; the path may have wildcards."""
        return any(any(each.glob(path)) for each in (self.upper, *self.lowers))


@dataclass(frozen=True, kw_only=True)
class Used:
    """What commands have taken: CPU seconds, and bytes of memory at the peak. Without a sandbox it is not known."""

    cpu: float = 0.0
    memory: int = 0

    def also(self, told: Path) -> Used:
        """With what the program of the sandbox tells of one more command."""
        try:
            cpu, kilobytes = told.read_text().split()
        except FileNotFoundError:
            return self
        return Used(cpu=self.cpu + float(cpu), memory=max(self.memory, int(kilobytes) * 1024))


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a layer's folder has."""

    files: int
    content_size: int


def new(folder: Path, lowers: Sequence[Path], apart: Sandbox | None) -> Overlay:
    """An overlay in a new folder, which stays until all layers are made: where thousands of files were just deleted, ext4 takes
    several times as long to make new ones, for five minutes."""
    overlay = Overlay(
        folder=Path(tempfile.mkdtemp(dir=folder, prefix=PREFIX)), lowers=tuple(lowers), sandbox=apart
    )
    made = [overlay.folder / name for name in FOLDERS]
    for each in made:
        each.mkdir()
    if apart:
        apart.own(*made)
    return overlay


def run(
    overlay: Overlay,
    commands: Sequence[Sequence[str]],
    *,
    layer: str,
    reach: Allowed,
    environment: Mapping[str, str],
    under: Conditions = USUAL,
    hidden: Sequence[str],
    say: Callable[[str], None],
    log_path: Path,
    shown: Path,
    minutes: int,
) -> Used:
    """Run the commands in the merged tree; each has so many minutes. Raises BuildFailed, BuildSilent or DiskFull.

    In a sandbox, nothing that a command has started is alive when it has ended.
    """
    mounts = bool(overlay.sandbox and overlay.sandbox.overlays)
    if not mounts:
        _copy(overlay)
    with log_path.open("ab") as raw:
        log, used = RedactedLog(raw, hidden), Used()
        for command in commands:
            line = log.redact(" ".join(command))
            log.write(f"\n$ {line}\n".encode())
            say(f"{layer}: {line}".replace("\n", " "))
            try:
                children.run(
                    **_started(overlay, reach, command, environment, under),
                    say=lambda words: say(f"{layer}: {log.redact(words)}"),
                    log=log,  # type: ignore[arg-type]
                    seconds=minutes * 60,
                )
            except ChildSilent as silent:
                told = {"log": shown, "command": line, "tail": log.redact(str(silent.facts["tail"]))}
                raise BuildSilent(step=layer, minutes=minutes, **told) from None
            except CommandFailed as failed:
                _refuse_full_disk(overlay)
                raise BuildFailed(
                    step=layer,
                    log=shown,
                    command=line,
                    code=failed.facts["code"],
                    tail=log.redact(str(failed.facts["tail"])),
                ) from None
            finally:
                under.look(overlay.folder / "temporary")
            used = used.also(overlay.folder / sandbox.USED)
    if not mounts:
        _keep_changes(overlay)
    return used


def check(overlay: Overlay, layer: str, promises: Sequence[str]) -> None:
    """Raises BuildIncomplete if a promised path is missing: a command may exit with 0 and still be incomplete."""
    for promise in promises:
        if not overlay.has(promise):
            raise BuildIncomplete(step=layer, output=promise)


def secrets(values: Sequence[str]) -> list[str]:
    """The texts to redact: the value of each variable and, if it is JSON, every text in it."""
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


class RedactedLog:
    """A log in which credentials are replaced by `***`."""

    def __init__(self, raw: IO[bytes], hidden: Sequence[str]) -> None:
        self.raw, self.hidden = raw, hidden

    def redact(self, text: str) -> str:
        """The text without credentials."""
        for each in self.hidden:
            text = text.replace(each, "***")
        return text

    def write(self, line: bytes) -> int:
        """Write a line without credentials."""
        return self.raw.write(
            self.redact(line.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        )


def _started(
    overlay: Overlay,
    reach: Allowed,
    command: Sequence[str],
    environment: Mapping[str, str],
    under: Conditions,
) -> dict[str, Any]:
    """How a command is started: as a request to the program of the sandbox, or in the copied tree."""
    command, environment = [*under.before, *command], {**environment, **under.environment}
    if not overlay.sandbox:
        home = {"HOME": str(overlay.folder / "home")}
        return {"command": command, "cwd": overlay.folder / "tree", "env": {**environment, **home}}
    # relative paths: the options must fit into one page, and a colon would end a path
    lowers = ":".join(os.path.relpath(each, overlay.folder) for each in overlay.lowers)
    plain = PLAIN if overlay.sandbox.as_root else ""
    asked = sandbox.request(
        overlay.sandbox,
        overlay.folder,
        reach,
        command,
        overlay=f"lowerdir={lowers},upperdir=made,workdir=work{plain}" if overlay.sandbox.overlays else "",
        environment=environment,
        shuffled=under.shuffled,
    )
    return {"command": sandbox.PROGRAM, "env": environ.FIXED, "stdin": asked}


def _refuse_full_disk(overlay: Overlay) -> None:
    if shutil.disk_usage(overlay.folder).free < NEAR_FULL:
        raise DiskFull(stage="tarball", path=".run")


def _copy(overlay: Overlay) -> None:
    for lower in reversed(overlay.lowers):
        try:
            children.run(
                ["cp", "-a", "--reflink=auto", f"{lower}/.", str(overlay.folder / "tree")],
                seconds=bounds.COPY,
            )
        except CommandFailed:
            _refuse_full_disk(overlay)
            raise


def settle(upper: Path, aside: Path, *, exclude: Sequence[str], only: Sequence[str]) -> Settled:
    """Leave in `upper` what an archive of it would have, with the modes that it would have: so it can be a lower folder as it is.

    The rest is moved to the new folder `aside`, on the same file system. Marks of removed files and folders go: a layer only
    adds. Raises UnsafeFile.
    """
    aside.mkdir()
    gone = itertools.count()
    unwanted, wanted = frozenset(exclude), tar.PathFilter((), only)
    files = size = 0
    for name, entry in _each(os.fsencode(upper), ""):
        found = entry.stat(follow_symlinks=False)
        if name in unwanted or not wanted(name) or (stat.S_ISCHR(found.st_mode) and found.st_rdev == 0):
            if stat.S_ISDIR(found.st_mode):
                os.chmod(entry.path, 0o700)  # noqa: PTH101  who is not root moves only what may be written
            os.rename(entry.path, aside / str(next(gone)))  # noqa: PTH104
            continue
        if stat.S_ISREG(found.st_mode):
            files, size = files + 1, size + found.st_size
        elif not stat.S_ISDIR(found.st_mode):
            tar.refuse_what_leaves(tar.on_disk(entry, name))
            continue
        else:
            for mark in OPAQUE.intersection(os.listxattr(entry.path)):
                os.removexattr(entry.path, mark)
        mode = 0o755 if stat.S_ISDIR(found.st_mode) or found.st_mode & stat.S_IXUSR else 0o644
        if stat.S_IMODE(found.st_mode) != mode:
            os.chmod(entry.path, mode)  # noqa: PTH101
    return Settled(files=files, content_size=size)


def _each(folder: bytes, prefix: str) -> Iterator[tuple[str, os.DirEntry[bytes]]]:
    """Everything below a folder; what has been moved away when the next is asked for is not entered."""
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        name = prefix + tar.text(entry.name)
        yield name, entry
        if entry.is_dir(follow_symlinks=False) and os.path.lexists(entry.path):
            yield from _each(entry.path, f"{name}/")


def _keep_changes(overlay: Overlay) -> None:
    """Let the copy be `upper`, without what is as it was below."""
    for lower in overlay.lowers:
        _leave_out(lower, overlay.folder / "tree")
    (overlay.folder / "tree").rename(overlay.upper)


def _leave_out(lower: Path, tree: Path) -> None:
    """Remove from a tree what a folder has too, and the folders in which nothing else is."""
    for below in lower.iterdir():
        place = tree / below.name
        if not os.path.lexists(place):
            continue
        before, found = below.lstat(), place.lstat()
        if stat.S_ISDIR(before.st_mode) and stat.S_ISDIR(found.st_mode):
            _leave_out(below, place)
            with contextlib.suppress(OSError):  # something was made in it
                place.rmdir()
        elif not stat.S_ISDIR(found.st_mode) and _same(before, found):
            place.unlink()


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_size, one.st_mtime_ns) == (other.st_mode, other.st_size, other.st_mtime_ns)
