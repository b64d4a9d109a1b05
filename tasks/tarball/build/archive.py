"""archive: pack files into one file, with the same bytes on any machine, and unpack it safely."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import io
import itertools
import os
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, cast

from tasks import environ
from tasks.digest import Digest
from tasks.process import bounds, children
from tasks.tarball.build.tar import (
    CHUNK,
    EMPTY,
    FILE,
    FOLDER,
    LARGE,
    LINK,
    Damaged,
    HashingReader,
    Readable,
    TarEntry,
    UnsafeFile,
    encoded,
    of_archive,
    refuse_what_leaves,
    summed,
    text,
)

LEVEL = 3
"""zstd's level: 666 MB take 4.6 s on two cores; higher levels take longer and save little."""
EPOCH = 1_000_000_000
"""The earliest date of a file: September 2001. `_dated` adds up to 8.5 years, so every date is in the past."""
END = bytes(2 * tarfile.BLOCKSIZE)
OWNER = (b"ustar  \0" + 2 * b"root".ljust(32, b"\0")).ljust(255, b"\0")
"""The last part of a header: magic, owner and group."""
SKIPPED = 0x184D2A50
"""How a frame begins whose content zstd leaves out. It has the length of its content behind it, and ours has that at its end too."""
LENGTH = struct.Struct("<I")


@dataclass(frozen=True, kw_only=True)
class Share:
    """What an archive has from one layer."""

    files: int = 0
    content_size: int = 0


@dataclass(frozen=True, kw_only=True)
class Packed:
    """An archive that was written. `digest`: SHA-256 of the file; sizes are in bytes."""

    digest: Digest
    size: int
    files: int
    content_size: int


def version() -> str:
    """The version of zstd. Another version may compress to other bytes."""
    import zstandard

    return ".".join(map(str, zstandard.ZSTD_VERSION))


# --- packing --------------------------------------------------------------------------------------


def pack(entries: Iterable[TarEntry], target: Path) -> Packed:
    """Write entries into an archive (.tar.zst), as a stream: their frame, that of tar's end, and one that zstd leaves out, with their names.

    Entries are owned by root, with mode 0755 or 0644, and dated by their content. Their order is theirs. Raises UnsafeFile for an
    entry that must not be unpacked on a server, Damaged for a damaged archive that they come from.
    """
    import zstandard

    # worker mode even on one core: single-threaded mode makes other bytes
    compressor = zstandard.ZstdCompressor(level=LEVEL, threads=max(1, os.cpu_count() or 1))
    files = content_size = 0
    names, told = zstandard.ZstdCompressor(level=LEVEL).compressobj(), b""
    with target.open("wb") as raw:
        hashed = HashingWriter(raw)
        with (
            compressor.stream_writer(cast("IO[bytes]", hashed), closefd=False) as compressed,
            io.BufferedWriter(cast("io.RawIOBase", compressed), CHUNK) as out,
        ):
            for entry in entries:
                refuse_what_leaves(entry)
                told += names.compress(encoded(entry.name) + b"/" * (entry.kind == FOLDER) + b"\0")
                if entry.kind != FILE:
                    out.write(_header(entry, EPOCH))
                    continue
                with _dated(entry, target.parent) as (date, chunks):
                    out.write(_header(entry, date))
                    for chunk in chunks:
                        out.write(chunk)
                out.write(EMPTY[: -entry.size % tarfile.BLOCKSIZE])
                files, content_size = files + 1, content_size + entry.size
        hashed.write(end_frame())
        told += names.flush()
        length = LENGTH.pack(len(told) + LENGTH.size)
        hashed.write(LENGTH.pack(SKIPPED) + length + told + length)
    return Packed(
        digest=Digest(hashed.sha256.hexdigest()), size=hashed.size, files=files, content_size=content_size
    )


@contextlib.contextmanager
def _dated(entry: TarEntry, folder: Path) -> Iterator[tuple[int, Iterable[bytes]]]:
    """A file's date and content. nginx makes its ETag from date and size, so the date comes from the content: a browser
    fetches again what has changed, and nothing else."""
    first = next(entry.content, b"")
    if entry.size <= len(first):
        _refuse_other_size(entry, len(first) + len(next(entry.content, b"")))
        yield EPOCH + (zlib.crc32(first) & 0xFFFFFFF), [first]
        return
    with tempfile.TemporaryFile(
        dir=folder
    ) as kept:  # its date comes first, and it may change while it is read twice
        size = checksum = 0
        for chunk in itertools.chain([first], entry.content):
            size, checksum = size + kept.write(chunk), zlib.crc32(chunk, checksum)
        _refuse_other_size(entry, size)
        kept.seek(0)
        yield EPOCH + (checksum & 0xFFFFFFF), iter(lambda: kept.read(CHUNK), b"")


def _refuse_other_size(entry: TarEntry, size: int) -> None:
    if size != entry.size:
        raise UnsafeFile(path=entry.name, problem="changed while it was packed")


@functools.cache
def end_frame() -> bytes:
    """The frame of tar's end. It is apart from the entries, so that those of several archives can become one."""
    import zstandard

    return zstandard.ZstdCompressor(level=LEVEL).compress(END)


def named(archive: Path) -> list[str]:
    """The names of the entries of an archive that `pack` made; folders end with a slash. Raises Damaged."""
    import zstandard

    with archive.open("rb") as file:
        file.seek(-_length_of_names(file), os.SEEK_END)
        try:
            told = zstandard.ZstdDecompressor().decompressobj().decompress(file.read())
        except zstandard.ZstdError as error:
            raise Damaged(str(error)) from None
    return text(told).split("\0")[:-1]


def copy_entries(archive: Path, out: HashingWriter, *, digest: Digest) -> None:
    """Write the frame with the entries of an archive that `pack` made. Raises Damaged."""
    with archive.open("rb") as file:
        left = archive.stat().st_size - _length_of_names(file) - 2 * LENGTH.size - len(end_frame())
        file.seek(0)
        read = HashingReader(file)
        while left > 0 and (chunk := read.read(min(left, CHUNK))):
            out.write(chunk)
            left -= len(chunk)
        if read.read(len(end_frame())) != end_frame():
            raise Damaged("its end is missing")
        while read.read(CHUNK):
            pass
    if read.digest != digest:
        raise Damaged(f"its digest is {read.digest.short}, not {digest.short}")


def _length_of_names(file: IO[bytes]) -> int:
    """The length of the last frame's content."""
    try:
        file.seek(-LENGTH.size, os.SEEK_END)
        (length,) = LENGTH.unpack(file.read())
        file.seek(-length - 2 * LENGTH.size, os.SEEK_END)
    except OSError:
        length = -1
    if length < 0 or file.read(2 * LENGTH.size) != LENGTH.pack(SKIPPED) + LENGTH.pack(length):
        raise Damaged("the names of its entries are missing")
    return int(length)


def _header(entry: TarEntry, date: int, owner: int = 0) -> bytes:
    mode = 0o777 if entry.kind == LINK else 0o755 if entry.executable else 0o644
    name, target = encoded(entry.name) + b"/" * (entry.kind == FOLDER), encoded(entry.target)
    if max(len(name), len(target)) > 100 or entry.size >= LARGE:
        info = tarfile.TarInfo(entry.name)
        info.type, info.size, info.linkname, info.mtime = entry.kind, entry.size, entry.target, date
        info.mode, info.uname, info.gname = mode, "root", "root"
        info.uid = info.gid = owner
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    # the same block, made faster: tarfile takes half as long for it as zstd takes to compress the file
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, owner, owner, entry.size, date)
    before = name.ljust(100, b"\0") + numbers
    behind = entry.kind + target.ljust(100, b"\0") + OWNER
    return b"%b%06o\0 %b" % (before, summed(before + behind) + sum(b" " * 8), behind)


# --- unpacking ------------------------------------------------------------------------------------


def unpack(raw: Readable, folder: Path, *, digest: Digest | None = None, owner: int = 0) -> int:
    """Unpack an archive into an empty folder, whose files root then gives to `owner`. Returns the number of entries.

    `tar` makes the files, as nothing of ours is as fast. It gets each entry with a header of ours, once the entry is checked:
    so nothing depends on how it reads an archive that somebody else has made. Raises Damaged, UnsafeFile or CommandFailed;
    the folder is then incomplete and must be discarded.
    """
    if any(folder.iterdir()):
        raise FileExistsError(errno.EEXIST, "is not empty", str(folder))
    count = 0
    with _tar(folder) as out:
        for entry in _in_order(of_archive(raw, digest=digest)):
            out.write(_header(entry, EPOCH, owner))
            if entry.kind == FILE:
                for chunk in entry.content:
                    out.write(chunk)
                out.write(EMPTY[: -entry.size % tarfile.BLOCKSIZE])
            count += 1
        out.write(END)
    return count


def _in_order(entries: Iterable[TarEntry]) -> Iterator[TarEntry]:
    """The entries, checked, and the folders that lead to them. They are sorted as `pack` sorts them, so that none lies behind a link
    and none comes twice."""
    before: list[str] = []
    leaf, parent = False, ""
    for entry in entries:
        refuse_what_leaves(entry)
        parts = entry.name.split("/")
        if leaf and parts[: len(before)] == before and parts != before:
            raise UnsafeFile(
                path=entry.name.rpartition("/")[0], problem="is a link, and there are files below it"
            )
        if parts <= before:
            raise Damaged(f"{entry.name} is not in its place")
        if (above := entry.name.rpartition("/")[0]) != parent:
            for end in range(1, len(parts)):
                if before[:end] != parts[:end]:
                    yield TarEntry(name="/".join(parts[:end]), kind=FOLDER, executable=True)
            parent = above
        yield entry
        before, leaf = parts, entry.kind != FOLDER


@contextlib.contextmanager
def _tar(folder: Path) -> Iterator[IO[bytes]]:
    """What is written to it, `tar` unpacks in a folder, with the modes of the headers whatever the umask."""
    owners = "--same-owner" if os.geteuid() == 0 else "--no-same-owner"
    command = ["tar", "-xpmBf", "-", "--numeric-owner", owners]
    with tempfile.TemporaryFile() as said:
        try:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=children.marked(environ.of()),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise children.CommandMissing(command="tar") from None
        given = cast("IO[bytes]", child.stdin)
        fcntl.fcntl(given, fcntl.F_SETPIPE_SZ, CHUNK)
        with children.within(bounds.COPY, child, command):
            try:
                yield given
                given.close()
            except BrokenPipeError:
                with contextlib.suppress(BrokenPipeError):
                    given.close()
            except BaseException:
                child.kill()
                with contextlib.suppress(BrokenPipeError):
                    given.close()
                raise
            code = child.wait()
        if code:
            said.seek(0)
            _refuse(code, said.read().decode(errors="replace"))


def _refuse(code: int, said: str) -> NoReturn:
    """Raise what `tar` complains of."""
    if os.strerror(errno.ENOSPC) in said:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    raise children.CommandFailed(command="tar", code=code, tail=children.tail(said), status=code)


class HashingWriter:
    """A file that is written to; it counts and hashes the bytes."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw, self.sha256, self.size = raw, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Write bytes."""
        self.sha256.update(data)
        self.size += len(data)
        return self.raw.write(data)

    def flush(self) -> None:
        """Nothing stays here."""
        self.raw.flush()
