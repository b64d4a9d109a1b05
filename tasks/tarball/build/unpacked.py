"""unpacked: layers as folders, which lie below the layers that need them, and stay from one run to the next.

A folder was made by a layer's commands and packed, or unpacked from an archive whose digest was checked. Its seal is written then, and
last: the archive's digest, and a digest of every path with its mode, size, inode and times. It is believed as long as
the seal fits: a file that was changed, replaced, added or removed since has another. (What the disk itself changes is not seen.)
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.digest import Digest
from tasks.process import behind, children, private

DAYS, ROOM = 7, 6 << 30
"""A folder is removed when nothing has needed it for so long, or when those that were needed later take so many bytes."""
SEAL, GONE = ".json", ".gone"
REMOVE = (*behind.KINDLY, "rm", "-rf", "--")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is in a folder. `seal`: a digest of what its files' state is."""

    files: int
    size: int
    seal: str


def new(place: Path, name: str) -> Path:
    """An empty folder, which may stay if it is sealed. It is not removed until this process has ended."""
    with _turn(place):
        folder = place / f"{name}.{uuid.uuid4().hex[:12]}"
        folder.mkdir()
        _hold(folder)
    return folder


def adopt(place: Path, name: str, made: Path) -> Path:
    """Such a folder with what is in another one, which goes there as it is."""
    _hold(made)
    return made.rename(new(place, name))


def keep(folder: Path, digest: Digest) -> None:
    """Seal a folder: from now on it stands for the archive with that digest."""
    found = look(folder)
    told = {"folder": folder.name, "seal": found.seal, "size": found.size}
    with _turn(folder.parent):
        part = folder.with_suffix(".part")
        part.write_text(json.dumps(told))
        part.rename(folder.parent / f"{digest}{SEAL}")


def kept(place: Path, digest: Digest, owner: int) -> Path | None:
    """The folder that stands for an archive and belongs to that user; None if there is none, or if its seal does not fit."""
    sealed = place / f"{digest}{SEAL}"
    try:
        told = json.loads(sealed.read_text())
        folder = place / str(told["folder"])
        _hold(folder)
        if folder.stat().st_uid == owner and look(folder).seal == told["seal"]:
            os.utime(sealed)
            return folder
        sealed.unlink()
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


@contextlib.contextmanager
def _turn(place: Path) -> Iterator[None]:
    """One process at a time: a folder that is made and not yet held would be taken for a killed run's."""
    place.mkdir(parents=True, exist_ok=True)
    alone = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX)
        yield
    finally:
        os.close(alone)


def _hold(folder: Path) -> None:
    """Keep a folder from being removed until this process has ended."""
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)


def look(folder: Path) -> Seen:
    """Walk through a folder."""
    seal, files, size = hashlib.sha256(), 0, 0
    for name, found in _walk(os.fsencode(folder), b""):
        told: tuple[object, ...] = (name, found.st_mode, found.st_uid)
        if not stat.S_ISDIR(found.st_mode):
            files, size = files + 1, size + found.st_size
            told = (*told, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        seal.update(repr(told).encode())
    return Seen(files=files, size=size, seal=seal.hexdigest())


def _walk(folder: bytes, prefix: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda each: each.name)
    for each in entries:
        name = prefix + each.name
        yield name, each.stat(follow_symlinks=False)
        if each.is_dir(follow_symlinks=False):
            yield from _walk(each.path, name + b"/")


def sweep(place: Path, now: float) -> None:
    """Remove what is too old or too much, and what no seal names: a killed run's. Nothing that a living run holds."""
    with _turn(place):
        stays = set(_staying(place, now))
        for folder in list(place.iterdir()):
            if folder.name in stays or folder.suffix in (SEAL, GONE):
                continue
            if (held := private.lock(folder)) is not None:
                folder.rename(folder.with_name(f"{folder.name}{GONE}"))
                os.close(held)
    gone = sorted(map(str, place.glob(f"*{GONE}")))
    if gone:
        children.run([*REMOVE, *gone], seconds=None)


def _staying(place: Path, now: float) -> Iterator[str]:
    """The names of the folders that stay; the seals of others go."""
    left = ROOM
    for sealed in sorted(place.glob(f"*{SEAL}"), key=_used, reverse=True):
        try:
            told = json.loads(sealed.read_text())
            left -= told["size"]
            if left >= 0 and now - _used(sealed) < DAYS * 86400:
                yield str(told["folder"])
                continue
        except (OSError, ValueError, KeyError, TypeError):
            pass
        sealed.unlink(missing_ok=True)


def _used(sealed: Path) -> float:
    try:
        return sealed.stat().st_mtime
    except FileNotFoundError:
        return 0.0
