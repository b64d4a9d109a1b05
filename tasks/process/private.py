"""private: folders for keys, inventories and builds: locked by the process that made them, removed when it has ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.process import children
from tasks.refusal import Refusal


class PrivateFolderTaken(Refusal):
    """The folder for keys in the temporary folder belongs to another user."""

    sentence = "{path}: should be a folder that only this user can open"
    remedy = 'TMPDIR="$HOME" doit release'


def root() -> Path:
    """This user's folder below the temporary folder, mode 0700. Raises PrivateFolderTaken."""
    made = Path(tempfile.gettempdir(), f"release-pipeline-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        made.mkdir(mode=0o700)
    found = made.lstat()
    if made.is_symlink() or not made.is_dir() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PrivateFolderTaken(path=made)
    return made


@contextlib.contextmanager
def folder(kind: str) -> Iterator[Path]:
    """A new private folder, removed at the end; after a kill the watcher finds it by the run's mark, or the next run by its lock."""
    mark, parent = children.mark(), root()
    with turn(parent):
        made = Path(tempfile.mkdtemp(prefix=f"{kind}-{mark}-", dir=parent))
        held = lock(made)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        if held is not None:
            os.close(held)


@contextlib.contextmanager
def turn(parent: Path) -> Iterator[None]:
    """Make and lock a folder below `parent` within this. Folders of processes that have ended are removed first.

    One process at a time does it: another one would remove a folder that is made and not yet locked.
    """
    alone = os.open(parent, os.O_RDONLY)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX)
        for old in parent.iterdir():
            if (ended := lock(old)) is not None:
                shutil.rmtree(old, ignore_errors=True)
                os.close(ended)
        yield
    finally:
        os.close(alone)


def lock(path: Path) -> int | None:
    """The locked folder as a file descriptor; None if another process has it, or it is gone."""
    try:
        held = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held
