"""store: the bucket's objects: JSON documents, each replaced only in the version that was read, and files."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from tasks.bucket import name
from tasks.cloud.errors import code, forbidden, status
from tasks.cloud.interface import Cloud
from tasks.refusal import Refusal

CONFLICT_PAUSES = (0.1, 0.3, 1.0, 2.0)
"""Seconds before each retry of a write that met another one (409)."""
SETTLING = (0.5, 1.0, 2.0, *225 * [4.0])
"""Seconds before each retry of a read that does not find what the bucket lists: a quarter of an hour in all."""
BATCH = 1000
"""The most objects that S3 deletes in one request."""


class BucketMissing(Refusal):
    """The bucket for tarballs and records does not exist."""

    sentence = "state: there is no bucket {bucket}"
    remedy = "doit infrastructure"


class BucketForbidden(Refusal):
    """The bucket does not allow us to read or write. The request has changed nothing."""

    sentence = "state: the bucket {bucket} does not let us {verb} {key} ({problem})"
    remedy = "aws sts get-caller-identity"


class BucketUnsettled(Refusal):
    """S3 lists an object and does not find it, longer than after a bucket's first quarter of an hour."""

    sentence = "state: the bucket {bucket} lists {key} and does not find it, since a quarter of an hour"
    remedy = "doit release"


class DocumentDamaged(Refusal):
    """A record in the bucket was overwritten with something else. The bucket keeps its earlier versions."""

    sentence = "state: {key} in {bucket} is damaged: it is not a JSON object"
    remedy = "aws s3api list-object-versions --bucket {bucket} --prefix {key}"


class RecordTaken(Refusal):
    """Another run has written a record since this one read it."""

    sentence = "state: {key} was changed by {by} in the meantime"
    remedy = "doit release"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A JSON object of the bucket, and the version that was read.

    `age`: seconds since it was written, by the bucket's clock alone: the clocks of the machines may be wrong.
    """

    value: dict[str, Any]
    etag: str
    age: float


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object's size and version, without its content."""

    size: int
    etag: str


class NotADocument(DocumentDamaged):
    """The object is not a JSON object. With its version, it can be replaced."""

    def __init__(self, bucket: str, key: str, etag: str, age: float) -> None:
        super().__init__(bucket=bucket, key=key)
        self.etag = etag
        self.age = age


@dataclass(frozen=True, kw_only=True)
class Store:
    """A bucket of a cloud. Only a request shows whether it exists. `pause`: sleeps between two tries. `nonce`: tells a write from all others.

    `chosen`: the bucket of the settings; empty: the default of the project, which is looked for at the first use. `environment`: the
    only one that has this bucket; empty: all that name none.
    """

    cloud: Cloud
    chosen: str = ""
    project: str = ""
    environment: str = ""
    pause: Callable[[float], None] = time.sleep
    nonce: Callable[[], str] = secrets.token_hex
    _settled: threading.Event = field(default_factory=threading.Event, init=False, repr=False, compare=False)

    @functools.cached_property
    def _found(self) -> name.BucketSeen:
        if self.chosen:
            return name.BucketSeen(name=self.chosen, complete=False, young=False)
        return name.found(self.cloud, self.project)

    @property
    def bucket(self) -> str:
        """Its name."""
        return self._found.name

    @property
    def was_complete(self) -> bool:
        """Whether the look for the name has found it complete: it need not be asked again."""
        return self._found.complete

    @property
    def client(self) -> Any:
        """The S3 client."""
        return self.cloud.client("s3")

    def read(self, key: str) -> Document | None:
        """A document, or None if it does not exist. Raises NotADocument, BucketForbidden or BucketUnsettled."""
        if not (answer := self._get(key)):
            return None
        sent = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        age = (sent - answer["LastModified"]).total_seconds()
        try:
            value = json.loads(answer["Body"].read())
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise NotADocument(self.bucket, key, answer["ETag"], age)
        return Document(value=value, etag=answer["ETag"], age=age)

    def write(self, key: str, value: dict[str, Any], *, seen: str | None) -> str:
        """Write a document if its version is still `seen` (None: if it does not exist). Returns the new version.

        Raises RecordTaken if another writer was faster, BucketMissing or BucketForbidden. Every write has a nonce: equal values
        get different versions, and a request that the SDK repeated after a lost answer is recognised.
        """
        nonce = self.nonce()
        body = json.dumps({**value, "nonce": nonce}, indent=1, sort_keys=True).encode()
        condition = {"IfMatch": seen} if seen else {"IfNoneMatch": "*"}
        try:
            answer = self._put(key, Body=body, ContentType="application/json", **condition)
            return str(answer["ETag"])
        except self.client.exceptions.ClientError as error:
            if status(error) not in (404, 409, 412):
                raise
        now = self._readable(key)
        if now and now.value.get("nonce") == nonce:
            return now.etag
        raise RecordTaken(key=key, by=now.value.get("by", "another run") if now else "another run")

    def open(self, key: str) -> Any:
        """An object as a stream, for `read(size)`; None if it does not exist. Raises BucketForbidden or BucketUnsettled."""
        answer = self._get(key)
        return answer["Body"] if answer else None

    def put(self, key: str, content: bytes) -> None:
        """Store bytes that are the same from every run: an existing object stays."""
        try:
            self._put(key, Body=content, IfNoneMatch="*")
        except self.client.exceptions.ClientError as error:
            if status(error) != 412:
                raise

    def exists(self, key: str) -> bool:
        """Whether the object exists."""
        return self.size(key) is not None

    def size(self, key: str) -> int | None:
        """The size of an object in bytes, or None if it does not exist."""
        found = self.look(key)
        return found.size if found else None

    def look(self, key: str) -> Stored | None:
        """Size and version of an object, or None if it does not exist. Raises BucketUnsettled."""
        answer = self._asked(self.client.head_object, key)
        return Stored(size=int(answer["ContentLength"]), etag=str(answer["ETag"])) if answer else None

    def delete(self, key: str, *, seen: str | None = None) -> None:
        """Delete an object, if it exists; with `seen`, only in that version. Raises RecordTaken if it is another one."""
        condition = {"IfMatch": seen} if seen else {}
        try:
            self.client.delete_object(Bucket=self.bucket, Key=key, **condition)
        except self.client.exceptions.ClientError as error:
            if status(error) == 404:
                return
            if not seen or status(error) not in (409, 412):
                raise
            raise RecordTaken(key=key, by="another run") from None

    def delete_all(self, keys: Sequence[str]) -> None:
        """Delete objects in their order, a thousand in a request. Raises BucketForbidden."""
        for start in range(0, len(keys), BATCH):
            batch = [{"Key": key} for key in keys[start : start + BATCH]]
            asked = {"Objects": batch, "Quiet": True}
            kept = self.client.delete_objects(Bucket=self.bucket, Delete=asked).get("Errors", ())
            for each in kept:
                raise BucketForbidden(
                    bucket=self.bucket, verb="delete", key=each["Key"], problem=each.get("Code")
                )

    def upload(self, key: str, path: Path, heard: Callable[[int], None] | None = None) -> None:
        """Store a file, a large one in parts, without reading it whole. `heard` gets the bytes of each part.

        Raises BucketForbidden or BucketMissing.
        """
        with self._allowed("write", key):
            try:
                self.client.upload_file(str(path), self.bucket, key, Callback=heard)
            except Exception as error:  # boto3 wraps the cloud's error
                said = error.__context__
                raise (said if isinstance(said, self.client.exceptions.ClientError) else error) from None

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of all objects with that prefix."""
        pages = self.client.get_paginator("list_objects_v2")
        with contextlib.suppress(self.client.exceptions.NoSuchBucket):
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
                yield from (each["Key"] for each in page.get("Contents", ()))

    def _put(self, key: str, **request: Any) -> Any:
        """Write an object under a condition. Asks again while it meets another write, of which nobody knows how it ends."""
        for pause in (*CONFLICT_PAUSES, None):
            try:
                with self._allowed("write", key):
                    return self.client.put_object(Bucket=self.bucket, Key=key, **request)
            except self.client.exceptions.ClientError as error:
                if code(error) != "ConditionalRequestConflict" or pause is None:
                    raise
                self.pause(pause)
        raise AssertionError  # the last try returns or raises

    def _get(self, key: str) -> Any:
        with self._allowed("read", key):
            return self._asked(self.client.get_object, key)

    def _asked(self, call: Callable[..., Any], key: str) -> Any:
        """The answer to a read; None if there is no such object. Asks again while a young bucket hides it. Raises BucketUnsettled."""
        for pause in (*SETTLING, None):
            try:
                return call(Bucket=self.bucket, Key=key)
            except self.client.exceptions.ClientError as error:
                if status(error) != 404:
                    raise
                if code(error) == "NoSuchBucket" or not self._is_young() or key not in self.keys(key):
                    return None
            if pause:
                self.pause(pause)
        raise BucketUnsettled(bucket=self.bucket, key=key)

    def _is_young(self) -> bool:
        """Whether the bucket may not find yet what is there. Once it is old, that is known."""
        if self.was_complete:
            return self._found.young
        if self._settled.is_set():
            return False
        seen = name.look(self.client, self.bucket, self.project)
        if seen and seen.complete and not seen.young:
            self._settled.set()
        return seen is not None and seen.young

    @contextlib.contextmanager
    def _allowed(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except self.client.exceptions.ClientError as error:
            if code(error) == "NoSuchBucket":
                raise BucketMissing(bucket=self.bucket) from None
            if not forbidden(error):
                raise
            if not self.was_complete and name.look(self.client, self.bucket, "") is None:
                raise name.BucketTaken(bucket=self.bucket) from None
            raise BucketForbidden(bucket=self.bucket, verb=verb, key=key, problem=code(error)) from None

    def _readable(self, key: str) -> Document | None:
        try:
            return self.read(key)
        except NotADocument:
            return None
