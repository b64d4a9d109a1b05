"""archive: a folder as one file, the same bytes for the same content on any machine."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tasks.refusal import UnsafeFile

LEVEL = 3
"""zstd's level: 666 MB in 4.6 s on two cores; the next ones take longer for little."""
EPOCH = 1_000_000_000
"""Files are dated from 2001 on, by up to 8.5 years: always past, and another date for another tree."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was written: `digest` is the file's SHA-256 in hex, sizes are bytes."""

    digest: str
    size: int
    files: int
    content_size: int


def date_of(tree: str) -> int:
    """Seconds since 1970 for the files of a tree (nginx makes its ETag of time and size)."""
    return EPOCH + int(tree[:7], 16)


def pack(folder: Path, target: Path, *, exclude: Sequence[str], date: int) -> Packed:
    """Write everything below `folder` into `target` (.tar.zst), streaming.

    Sorted, owned by root, modes 0755 or 0644, all dated `date`. Raises UnsafeFile for what must not be unpacked on a
    server.
    """
    import zstandard

    # worker mode, whatever the number of cores: its bytes differ from those of single-threaded mode
    compressor = zstandard.ZstdCompressor(level=LEVEL, threads=max(1, os.cpu_count() or 1))
    files = content = 0
    with target.open("wb") as raw:
        hashed = _Hashed(raw)
        with (
            compressor.stream_writer(cast("IO[bytes]", hashed), closefd=False) as compressed,
            tarfile.open(fileobj=compressed, mode="w|", format=tarfile.GNU_FORMAT) as archive,
        ):
            for path in _paths(folder, exclude):
                member = _member(folder, path, date)
                if member.isreg():
                    with path.open("rb") as content_of:
                        archive.addfile(member, content_of)
                    files, content = files + 1, content + member.size
                else:
                    archive.addfile(member)
    return Packed(digest=hashed.sha256.hexdigest(), size=hashed.size, files=files, content_size=content)


def _paths(folder: Path, exclude: Sequence[str]) -> Iterator[Path]:
    excluded = {folder / each for each in exclude}
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(each for each in folders if here / each not in excluded)
        links = [each for each in folders if (here / each).is_symlink()]
        yield from (here / each for each in sorted({*folders, *links, *files}) if here / each not in excluded)


def _member(folder: Path, path: Path, date: int) -> tarfile.TarInfo:
    name, found = path.relative_to(folder).as_posix(), path.lstat()
    member = tarfile.TarInfo(name)
    member.mtime, member.uid, member.gid = date, 0, 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
    if stat.S_ISLNK(found.st_mode):
        member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, str(path.readlink())
        _stays_inside(name, member.linkname)
    elif stat.S_ISDIR(found.st_mode):
        member.type = tarfile.DIRTYPE
    elif stat.S_ISREG(found.st_mode):
        member.size = found.st_size
    else:
        raise UnsafeFile(path=name, problem="is neither a file, a folder nor a link")
    return member


def _stays_inside(name: str, target: str) -> None:
    if target.startswith("/"):
        raise UnsafeFile(path=name, problem=f"is an absolute link, to {target}")
    landed = os.path.normpath(os.path.join(os.path.dirname(name), target))  # noqa: PTH118, PTH120
    if landed.startswith(".."):
        raise UnsafeFile(path=name, problem=f"is a link that leaves the application, to {target}")


class _Hashed:
    """A file that knows the digest and the size of what went through it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw, self.sha256, self.size = raw, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self.raw.write(data)

    def flush(self) -> None:
        self.raw.flush()
