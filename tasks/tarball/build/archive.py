"""archive: folders as one file, the same bytes for the same content on any machine; and safely back."""

from __future__ import annotations

import hashlib
import heapq
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tasks.digest import Digest
from tasks.tarball.build.tar import (
    CHUNK,
    EMPTY,
    FILE,
    FOLDER,
    LARGE,
    LINK,
    Readable,
    TarEntry,
    UnsafeFile,
    encoded,
    of_archive,
    refuse_what_leaves,
    summed,
)

LEVEL = 3
"""zstd's level: 666 MB in 4.6 s on two cores; the next ones take longer for little."""
EPOCH = 1_000_000_000
"""Files are dated from 2001 on, by up to 8.5 years: always past, and another date for another tree."""
END = bytes(2 * tarfile.BLOCKSIZE)
OWNER = (b"ustar  \0" + 2 * b"root".ljust(32, b"\0")).ljust(255, b"\0")
"""A header's last part."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one layer gave to an archive."""

    files: int = 0
    content_size: int = 0


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was written: `digest` is the file's, sizes are bytes."""

    digest: Digest
    size: int
    layers: Mapping[str, Share]

    @property
    def files(self) -> int:
        """Number of files, of all layers."""
        return sum(each.files for each in self.layers.values())

    @property
    def content_size(self) -> int:
        """Bytes of all files."""
        return sum(each.content_size for each in self.layers.values())


def date_of(tree: str) -> int:
    """Seconds since 1970 for the files of a tree (nginx makes its ETag of time and size)."""
    return EPOCH + int(tree[:7], 16)


def version() -> str:
    """The version of the library that compresses; another one may give other bytes."""
    import zstandard

    return ".".join(map(str, zstandard.ZSTD_VERSION))


# --- packing --------------------------------------------------------------------------------------


def pack(layers: Mapping[str, Iterable[TarEntry]], target: Path, *, date: int = EPOCH) -> Packed:
    """Write the members of all layers as one archive (.tar.zst), streaming; of a name in two layers, the first counts.

    Sorted, owned by root, modes 0755 or 0644, all dated `date`. Raises UnsafeFile for what must not be unpacked on a
    server, Damaged for a layer that is.
    """
    import zstandard

    # worker mode, whatever the number of cores: its bytes differ from those of single-threaded mode
    compressor = zstandard.ZstdCompressor(level=LEVEL, threads=max(1, os.cpu_count() or 1))
    files, sizes = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)
    with target.open("wb") as raw:
        hashed = _Written(raw)
        with (
            compressor.stream_writer(cast("IO[bytes]", hashed), closefd=False) as compressed,
            io.BufferedWriter(cast("io.RawIOBase", compressed), CHUNK) as out,
        ):
            for layer, member in _merged(layers):
                refuse_what_leaves(member)
                out.write(_header(member, date))
                if member.kind == FILE:
                    left = member.size
                    for chunk in member.content:
                        out.write(chunk)
                        left -= len(chunk)
                    if left:
                        raise UnsafeFile(path=member.name, problem="changed while it was packed")
                    out.write(EMPTY[: -member.size % tarfile.BLOCKSIZE])
                    files[layer] += 1
                    sizes[layer] += member.size
            out.write(END)
    shares = {each: Share(files=files[each], content_size=sizes[each]) for each in layers}
    return Packed(digest=Digest(hashed.sha256.hexdigest()), size=hashed.size, layers=shares)


def _merged(layers: Mapping[str, Iterable[TarEntry]]) -> Iterator[tuple[str, TarEntry]]:
    """All members in the order of their paths; below a file or link of one layer there is nothing of another."""

    def named(layer: str) -> Iterator[tuple[list[str], str, TarEntry]]:
        for member in layers[layer]:
            yield member.name.split("/"), layer, member

    taken: list[str] | None = None
    leaf = False
    for parts, layer, member in heapq.merge(*map(named, layers), key=lambda each: each[0]):
        if taken is not None and (parts == taken or (leaf and parts[: len(taken)] == taken)):
            continue
        taken, leaf = parts, member.kind != FOLDER
        yield layer, member


def _header(member: TarEntry, date: int) -> bytes:
    mode = 0o777 if member.kind == LINK else 0o755 if member.executable else 0o644
    name, target = encoded(member.name) + b"/" * (member.kind == FOLDER), encoded(member.target)
    if max(len(name), len(target)) > 100 or member.size >= LARGE:
        info = tarfile.TarInfo(member.name)
        info.type, info.size, info.linkname, info.mtime = member.kind, member.size, member.target, date
        info.mode, info.uname, info.gname = mode, "root", "root"
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    # the same block; tarfile takes half as long to make it as zstd to compress the file
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, 0, 0, member.size, date)
    before = name.ljust(100, b"\0") + numbers
    behind = member.kind + target.ljust(100, b"\0") + OWNER
    return b"%b%06o\0 %b" % (before, summed(before + behind) + sum(b" " * 8), behind)


# --- unpacking ------------------------------------------------------------------------------------


def unpack(raw: Readable, folder: Path, *, digest: Digest | None = None) -> int:
    """Write an archive's members below a folder, over what is there, never through a link. Returns their number.

    Raises Damaged or UnsafeFile; what was written until then is worth nothing.
    """
    base = os.fsencode(folder) + b"/"
    count, safe = 0, ""
    for member in of_archive(raw, digest=digest):
        refuse_what_leaves(member)
        parent = member.name.rpartition("/")[0]
        if parent != safe:
            _refuse_links_on_the_way(folder, parent)
            safe = parent
        path = base + encoded(member.name)
        if member.kind == FOLDER:
            if not _is_folder(path):
                _remove(path)
                os.mkdir(path)  # noqa: PTH102
            os.chmod(path, 0o755)  # noqa: PTH101, S103  whatever the umask
        elif member.kind == LINK:
            _remove(path)
            os.symlink(encoded(member.target), path)  # noqa: PTH211
        else:
            _write(path, member)
        count += 1
    return count


def _write(path: bytes, member: TarEntry) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        file = os.open(path, flags)
    except FileExistsError:
        _remove(path)
        file = os.open(path, flags)
    try:  # without file objects: half of the time of a small file
        for chunk in member.content:
            while chunk:
                chunk = chunk[os.write(file, chunk) :]
        os.fchmod(file, 0o755 if member.executable else 0o644)  # whatever the umask
    finally:
        os.close(file)


def _refuse_links_on_the_way(folder: Path, parent: str) -> None:
    here = folder
    for step in filter(None, parent.split("/")):
        here /= step
        if here.is_symlink():
            raise UnsafeFile(path=parent, problem="is a link, and there are files below it")
        here.mkdir(exist_ok=True)


def _is_folder(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _remove(path: bytes) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)  # noqa: PTH108


class _Written:
    """A file that knows the digest and the size of what went into it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw, self.sha256, self.size = raw, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self.raw.write(data)

    def flush(self) -> None:
        self.raw.flush()
