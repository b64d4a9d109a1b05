"""disk: stores the cloud's state before an answer is sent, so that a killed server loses nothing that it confirmed.

The content of S3 objects is in files. The rest of moto's state is pickled into SQLite: a row for each service
that a request has changed, and a row for each object, written once.
"""

from __future__ import annotations

import collections
import contextlib
import copyreg
import io
import pickle
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moto.backends
from moto.core.base_backend import BackendDict
from moto.s3.models import FakeKey, s3_backends
from moto.s3.utils import _VersionedKeyStore

from tasks.cloud.embedded.objects import keep_in_files
from tasks.full_disk import full_disk

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS service (name TEXT PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS object (id TEXT PRIMARY KEY, state BLOB NOT NULL);
"""


class Disk:
    """The stored state of one cloud. Its caller lets one request at a time change it."""

    def __init__(self, state: Path, objects: Path, former: int = 0) -> None:
        """`former`: how many earlier versions of each service are kept in memory, for reads that come late."""
        self._former: dict[str, collections.deque[bytes]] = collections.defaultdict(
            lambda: collections.deque(maxlen=former)
        )
        self.versions: collections.Counter[str] = collections.Counter()
        """How often each service has changed."""
        state.touch(mode=0o600)
        self.objects = objects
        self._database = sqlite3.connect(state, check_same_thread=False, isolation_level=None)
        self._database.executescript(SCHEMA)
        self._written: dict[str, bytes] = {}
        self._discarded: list[str] = []
        keep_in_files(objects, self._discarded)

    def load(self) -> None:
        """Load everything into moto, and remove content that no object has."""
        for name, state in self._database.execute("SELECT name, state FROM service"):
            backends = moto.backends.get_backend(name)
            stored = _Unpickler(io.BytesIO(state), self._object).load()
            for account, region, backend in stored["backends"]:
                dict.__setitem__(backends[account], region, backend)
            if name == "s3":
                s3_backends.bucket_accounts.update(stored["bucket_accounts"])
            self._written[name] = state
        known = {row[0] for row in self._database.execute("SELECT id FROM object")}
        for path in self.objects.iterdir():
            if path.name not in known:
                path.unlink()

    def save(self, service: str) -> None:
        """Write what a request to this service has changed. Raises DiskFull."""
        backends = next((b for b in BackendDict._instances if b.service_name == service), None)
        if backends is None:
            return
        stored: dict[str, Any] = {"backends": list(backends.iter_backends())}
        if service == "s3":
            stored["bucket_accounts"] = s3_backends.bucket_accounts
        buffer, objects, fresh = io.BytesIO(), dict[str, bytes](), list[FakeKey]()
        _Pickler(buffer, objects, fresh).dump(stored)
        state = buffer.getvalue()
        if state == self._written.get(service) and not objects and not self._discarded:
            return
        try:
            self._commit(service, state, objects)
        except sqlite3.OperationalError as error:
            with full_disk("cloud", self.objects):
                raise OSError(28, str(error)) from None
        for each in fresh:  # only now: an object without a row could never be loaded
            each.__dict__["written"] = True

    def _commit(self, service: str, state: bytes, objects: dict[str, bytes]) -> None:
        execute = self._database.execute
        discarded = list(self._discarded)
        execute("BEGIN")
        try:
            execute("INSERT OR REPLACE INTO service VALUES (?, ?)", (service, state))
            insert = "INSERT OR REPLACE INTO object VALUES (?, ?)"
            self._database.executemany(insert, objects.items())
            self._database.executemany("DELETE FROM object WHERE id = ?", [(id,) for id in discarded])
            execute("COMMIT")
        except sqlite3.Error:
            execute("ROLLBACK")
            raise
        self._former[service].append(self._written.get(service, state))
        self.versions[service] += 1
        self._written[service] = state
        for id in discarded:  # only now: until the commit a restart would need them
            (self.objects / id).unlink(missing_ok=True)
            self._discarded.remove(id)

    @contextlib.contextmanager
    def as_of(self, service: str, behind: int) -> Iterator[None]:
        """Let moto answer as it would have before the last changes of a service, so many of them as are known."""
        kept = self._former[service]
        if not behind or not kept:
            yield
            return
        state, backends = kept[-min(behind, len(kept))], moto.backends.get_backend(service)
        former = _Unpickler(io.BytesIO(state), self._object).load()["backends"]
        present = [(account, region, backends[account][region]) for account, region, _ in former]
        try:
            for account, region, backend in former:
                dict.__setitem__(backends[account], region, backend)
            yield
        finally:
            for account, region, backend in present:
                dict.__setitem__(backends[account], region, backend)

    def _object(self, id: str) -> FakeKey:
        row = self._database.execute("SELECT state FROM object WHERE id = ?", (id,)).fetchone()
        return _key(_Unpickler(io.BytesIO(row[0]), self._object).load())


class _Pickler(pickle.Pickler):
    """Writes the id of an S3 object in its place; objects that changed go to rows of their own."""

    def __init__(self, file: io.BytesIO, objects: dict[str, bytes], fresh: list[FakeKey]) -> None:
        super().__init__(file, protocol=5)
        self.objects, self.fresh = objects, fresh

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FakeKey):
            if obj.disposed:  # the parts of a finished upload: their sizes are still asked for
                return _key, (_state(obj),)
            if not obj.__dict__.get("written"):
                buffer = io.BytesIO()
                _Pickler(buffer, self.objects, self.fresh).dump(_state(obj))
                self.objects[obj.body] = buffer.getvalue()
                self.fresh.append(obj)
            return _stored, (obj.body,)
        if isinstance(obj, collections.defaultdict | _VersionedKeyStore):
            # moto's own mappings: some take arguments when made, one lists only its newest values
            return copyreg.__newobj__, (type(obj),), _contents(obj), None, None, _fill  # type: ignore[attr-defined]
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """Loads S3 objects by their ids."""

    def __init__(self, file: io.BytesIO, load: Any) -> None:
        super().__init__(file)
        self._load_object = load

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("tasks."):  # ours; this module may have had another name when it was written
            return {"_stored": self._load_object, "_key": _key, "_fill": _fill, "_nested": _nested}[name]
        return super().find_class(module, name)


def _stored(id: str) -> FakeKey:
    raise NotImplementedError  # stands for an object in a pickle; _Unpickler loads it


def _state(key: FakeKey) -> dict[str, Any]:
    return {name: value for name, value in vars(key).items() if name not in ("lock", "written")}


def _key(state: dict[str, Any]) -> FakeKey:
    key = object.__new__(FakeKey)
    vars(key).update(state, lock=threading.Lock(), written=True)
    return key


def _contents(mapping: Any) -> Any:
    factory = getattr(mapping, "default_factory", None)
    if getattr(factory, "__name__", "") == "<lambda>":
        factory = _nested  # the only one in the services that we use: tags of tags
    return dict(dict.items(mapping)), getattr(mapping, "__dict__", {}), factory


def _fill(mapping: Any, contents: Any) -> None:
    values, attributes, factory = contents
    dict.update(mapping, values)
    for name, value in attributes.items():
        setattr(mapping, name, value)
    if isinstance(mapping, collections.defaultdict):
        mapping.default_factory = factory


def _nested() -> collections.defaultdict[str, dict[str, str]]:
    return collections.defaultdict(dict)
