"""objects: the content of S3 objects, as files; moto would keep it in memory and lose it."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from moto.core.common_models import BaseModel
from moto.s3.exceptions import EntityTooSmall, InvalidPart, MalformedXML
from moto.s3.models import FakeKey, FakeMultipart
from moto.s3.utils import compute_checksum
from moto.settings import S3_UPLOAD_PART_MIN_SIZE

SMALL = 1 << 20
"""Bytes. Up to this size content is read at once; above, it is passed on as a file."""
JOINED = "joined-"
"""Prefix of a finished upload's file, until its object takes it over."""
_here = threading.local()


class FileContent:
    """A range of a file that can be used as moto uses bytes: length, slices, chunks."""

    def __init__(self, path: Path, start: int, end: int) -> None:
        self.path, self.start, self.end = path, start, end
        self._file = path.open("rb")  # stays readable when the object is deleted while it is sent

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, part: slice) -> FileContent:
        start, end, _ = part.indices(len(self))
        return FileContent(self.path, self.start + start, self.start + max(start, end))

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self.start)
        left = len(self)
        while left and (chunk := self._file.read(min(left, 1 << 18))):
            left -= len(chunk)
            yield chunk

    def close(self) -> None:
        """Called when it is sent."""
        self._file.close()


@contextlib.contextmanager
def written_ahead(folder: Path, content: bytes) -> Iterator[None]:
    """Write large content before its request gets the lock; moto takes it over, in the same thread."""
    if len(content) <= SMALL:
        yield
        return
    path = folder / uuid.uuid4().hex
    _here.ahead = (content, path.name, _written(path, [content]))
    try:
        yield
    finally:
        if _here.__dict__.pop("ahead", None):
            path.unlink()


def _written(path: Path, chunks: Iterable[bytes]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with path.open("wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
    except OSError:  # a full disk: a partial file would keep it full
        path.unlink()
        raise
    return digest.hexdigest()


def keep_in_files(folder: Path, discarded: list[str]) -> None:
    """Make moto write content below `folder`; the ids of deleted content go to `discarded`."""

    def read(key: Any) -> bytes | FileContent:
        path = folder / key.body
        return path.read_bytes() if key.contentsize <= SMALL else FileContent(path, 0, key.contentsize)

    def write(key: Any, value: bytes | FileContent) -> None:
        if not isinstance(value, bytes | FileContent):
            value = bytes(value)
        key.body = uuid.uuid4().hex
        key.contentsize = len(value)
        ahead, name, etag = getattr(_here, "ahead", (None, "", ""))
        if value is ahead:
            key.body, key._etag = name, key._etag or etag
            del _here.ahead
            return
        if isinstance(value, FileContent) and value.path.name.startswith(JOINED):
            value.path.rename(folder / key.body)
            return
        written = _written(folder / key.body, (value,) if isinstance(value, bytes) else value)
        key._etag = key._etag or written

    def dispose(key: Any, garbage: bool = False) -> None:
        if not key.disposed:
            discarded.append(key.body)
        key.disposed = True

    def complete(upload: Any, parts: Any) -> tuple[FileContent, str, Any]:
        chosen = list(_chosen(upload, parts))
        joined, digest = folder / f"{JOINED}{uuid.uuid4().hex}", hashlib.md5(usedforsecurity=False)
        try:
            with joined.open("wb") as file:
                for part in chosen:
                    digest.update(bytes.fromhex(part._etag))
                    with (folder / part.body).open("rb") as content:
                        _append(file, content)
        except OSError:
            joined.unlink()
            raise
        whole = FileContent(joined, 0, joined.stat().st_size)
        checksum = _checksum(upload.metadata, joined, [folder / part.body for part in chosen])
        return whole, f"{digest.hexdigest()}-{len(chosen)}", checksum

    FakeKey.value = property(read, write)
    FakeKey.dispose = dispose
    FakeKey.__del__ = lambda key: None
    FakeKey.__setattr__ = _mark_changed
    FakeKey.set_metadata = _marking(FakeKey.set_metadata)
    FakeKey.__deepcopy__ = lambda key, memo: _copy(key)  # for lists of versions; content never changes
    FakeKey.__copy__ = _copy
    FakeMultipart.complete = complete
    # moto's dashboard would keep every object ever made
    BaseModel.__new__ = staticmethod(lambda kind, *arguments, **named: object.__new__(kind))


def _append(file: IO[bytes], content: IO[bytes]) -> None:
    """Copy in the kernel, without reading the bytes."""
    while os.sendfile(file.fileno(), content.fileno(), None, 1 << 30):
        pass


def _chosen(upload: Any, parts: Any) -> Iterator[Any]:
    last = None
    for number, etag in parts:
        part = upload.parts.get(number)
        if part is None or part._etag != etag.replace('"', ""):
            raise InvalidPart
        if last is not None and last.contentsize < S3_UPLOAD_PART_MIN_SIZE:
            raise EntityTooSmall
        last = part
        yield part
    if last is None:
        raise MalformedXML


def _checksum(metadata: Any, joined: Path, parts: list[Path]) -> tuple[str, str, int] | None:
    algorithm = metadata.get("x-amz-checksum-algorithm")
    if not algorithm:
        return None
    if metadata.get("x-amz-checksum-type") == "FULL_OBJECT":
        with joined.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return "FULL_OBJECT", compute_checksum(content, algorithm).decode(), 1
    each = (compute_checksum(part.read_bytes(), algorithm, encode_base64=False) for part in parts)
    return "COMPOSITE", compute_checksum(b"".join(each), algorithm).decode(), len(parts)


def _copy(key: Any) -> Any:
    copied = object.__new__(FakeKey)
    vars(copied).update(vars(key))
    return copied


def _mark_changed(key: Any, name: str, value: object) -> None:
    key.__dict__["written"] = False
    if name != "_value_buffer":  # where moto would keep the content
        object.__setattr__(key, name, value)


def _marking(method: Any) -> Any:
    def changed(key: Any, *arguments: Any, **named: Any) -> None:
        key.__dict__["written"] = False
        method(key, *arguments, **named)

    return changed
