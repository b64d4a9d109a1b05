"""archive: pack folders into one file, with the same bytes on any machine, and unpack it safely."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import heapq
import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
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
    Readable,
    TarEntry,
    UnsafeFile,
    encoded,
    of_archive,
    refuse_what_leaves,
    summed,
)

LEVEL = 3
"""zstd's level: 666 MB take 4.6 s on two cores; higher levels take longer and save little."""
EPOCH = 1_000_000_000
"""The earliest date of a file: September 2001. `date_of` adds up to 8.5 years, so every date is in the past."""
END = bytes(2 * tarfile.BLOCKSIZE)
OWNER = (b"ustar  \0" + 2 * b"root".ljust(32, b"\0")).ljust(255, b"\0")
"""The last part of a header: magic, owner and group."""


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
    layers: Mapping[str, Share]

    @property
    def files(self) -> int:
        """Number of files in all layers."""
        return sum(each.files for each in self.layers.values())

    @property
    def content_size(self) -> int:
        """Bytes of all files in all layers."""
        return sum(each.content_size for each in self.layers.values())


def date_of(tree: str) -> int:
    """The date of a tree's files, in seconds since 1970. It differs between trees: nginx makes its ETag from date and size."""
    return EPOCH + int(tree[:7], 16)


def version() -> str:
    """The version of zstd. Another version may compress to other bytes."""
    import zstandard

    return ".".join(map(str, zstandard.ZSTD_VERSION))


# --- packing --------------------------------------------------------------------------------------


def pack(layers: Mapping[str, Iterable[TarEntry]], target: Path, *, date: int = EPOCH) -> Packed:
    """Write the entries of all layers into one archive (.tar.zst), as a stream. If two layers have the same path, the first counts.

    Entries are sorted, owned by root, with mode 0755 or 0644, and dated `date`. Raises UnsafeFile for an entry that must
    not be unpacked on a server, Damaged for a damaged layer.
    """
    import zstandard

    # worker mode even on one core: single-threaded mode makes other bytes
    compressor = zstandard.ZstdCompressor(level=LEVEL, threads=max(1, os.cpu_count() or 1))
    files, sizes = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)
    with target.open("wb") as raw:
        hashed = _HashingWriter(raw)
        with (
            compressor.stream_writer(cast("IO[bytes]", hashed), closefd=False) as compressed,
            io.BufferedWriter(cast("io.RawIOBase", compressed), CHUNK) as out,
        ):
            for layer, entry in _merged(layers):
                refuse_what_leaves(entry)
                out.write(_header(entry, date))
                if entry.kind == FILE:
                    left = entry.size
                    for chunk in entry.content:
                        out.write(chunk)
                        left -= len(chunk)
                    if left:
                        raise UnsafeFile(path=entry.name, problem="changed while it was packed")
                    out.write(EMPTY[: -entry.size % tarfile.BLOCKSIZE])
                    files[layer] += 1
                    sizes[layer] += entry.size
            out.write(END)
    shares = {each: Share(files=files[each], content_size=sizes[each]) for each in layers}
    return Packed(digest=Digest(hashed.sha256.hexdigest()), size=hashed.size, layers=shares)


def _merged(layers: Mapping[str, Iterable[TarEntry]]) -> Iterator[tuple[str, TarEntry]]:
    """All entries, sorted by path. What another layer has below a file or link is left out."""

    def named(layer: str) -> Iterator[tuple[list[str], str, TarEntry]]:
        for entry in layers[layer]:
            yield entry.name.split("/"), layer, entry

    taken: list[str] | None = None
    leaf = False
    for parts, layer, entry in heapq.merge(*map(named, layers), key=lambda each: each[0]):
        if taken is not None and (parts == taken or (leaf and parts[: len(taken)] == taken)):
            continue
        taken, leaf = parts, entry.kind != FOLDER
        yield layer, entry


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


class _HashingWriter:
    """A file that is written to; it counts and hashes the bytes."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw, self.sha256, self.size = raw, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self.raw.write(data)

    def flush(self) -> None:
        self.raw.flush()
