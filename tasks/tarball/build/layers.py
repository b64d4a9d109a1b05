"""layers: the parts of a build: each is built once for its key, then taken from the cache."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import application, environ
from tasks.bucket import cache, layout
from tasks.bucket.store import BucketForbidden, BucketMissing
from tasks.digest import Digest
from tasks.process import behind, children
from tasks.profile import Layer, filled
from tasks.tarball.build import archive, keys, overlay, packing, sandbox, tar, turns, unpacked
from tasks.tarball.build.conditions import USUAL, Conditions
from tasks.tarball.build.sandbox import Allowed, Sandbox

if TYPE_CHECKING:
    from tasks.run import Run

UNPACKED = ".run/unpacked"
"""Where unpacked layers stay from one run to the next."""
COSTS = ".run/costs.json"
"""What each layer took when it was last built here."""


FEW = 1000
"""A layer that is built of fewer files, and of no other layer, is built in a copy of them."""


@dataclass(frozen=True, kw_only=True)
class BuiltLayer:
    """A layer's archive on this machine."""

    digest: Digest
    path: Path
    files: int
    content_size: int

    @classmethod
    def of(cls, value: Mapping[str, Any], shelf: Path) -> BuiltLayer:
        """From its record. It does not check that the archive exists."""
        found = Digest(value["digest"])
        return cls(
            digest=found,
            path=shelf / f"{found}{layout.ARCHIVE}",
            files=value["files"],
            content_size=value["content_size"],
        )


@dataclass(frozen=True, kw_only=True)
class BegunLayer:
    """A layer that is made. `stored`: its archive, once that is packed and stored."""

    files: int
    content_size: int
    stored: Future[BuiltLayer]


class Build:
    """One build on this machine. The keys of its layers and its folder are made on first use.

    `accept` is asked before a layer's commands run without a sandbox. `begun`: the layers that were asked for; `folders`:
    those that lie unpacked on this machine.
    """

    def __init__(self, run: Run, accept: Callable[[Run], None] = lambda run: None) -> None:
        self.run, self.accept = run, accept
        self.begun: dict[str, BegunLayer] = {}
        self.folders: dict[str, Path] = {}

    @functools.cached_property
    def keys(self) -> Mapping[str, keys.KeyedLayer]:
        """The layers in order, each with its key."""
        return keys.keyed(self.run)

    @functools.cached_property
    def folder(self) -> Path:
        """A folder to work in; it is removed when this process ends."""
        self._held = overlay.build_folder(self.run.root)
        kept = self.run.root / UNPACKED
        behind.begin("sweep", functools.partial(unpacked.sweep, kept, time.time()), awaited=False)
        return Path(self._held.name)

    @functools.cached_property
    def turns(self) -> turns.Turns:
        """Which layers are built side by side."""
        after = {name: each.layer.after for name, each in self.keys.items()}
        said = {name: turns.unmeasured(each.layer.seconds) for name, each in self.keys.items()}
        known = {**said, **turns.read(self.run.root / COSTS)}
        cores = len(os.sched_getaffinity(0))
        return turns.Turns(after, known, cores=cores, memory=turns.free_memory())

    @functools.cached_property
    def sandbox(self) -> Sandbox | None:
        """How commands are kept apart here; None where they cannot be."""
        return sandbox.of(self.folder)

    def begin(self) -> None:
        """Start to compute the keys in a thread: git and the tools take a while to answer."""
        if self.run.environment.has("tarball"):
            threading.Thread(target=self._ahead, daemon=True).start()

    def _ahead(self) -> None:
        with contextlib.suppress(Exception):  # the next use of the keys raises the same error
            _ = self.keys


def known(build: Build, name: str) -> bool:
    """Whether the cache has a record of the layer. The archive itself is checked when it is needed."""
    return cache.of(build.run).record("layers", build.keys[name].key) is not None


def ensure(build: Build, name: str) -> BuiltLayer:
    """The layer's archive, verified: from this machine, from the cache, or built; it is stored."""
    return begin(build, name).stored.result()


def begin(build: Build, name: str) -> BegunLayer:
    """Find a layer, or make it; what is made is packed and stored behind. A damaged archive is a warning and a cache miss."""
    key, damaged = build.keys[name].key, None
    with _lock(str(build.run.root), key):
        if name in build.begun:
            return build.begun[name]
        for found in cache.of(build.run).records("layers", key):
            stored = BuiltLayer.of(found.value, _shelf(build))
            if _is(stored.path, stored.digest) or _fetched(build, found.zone, stored):
                build.begun[name] = _found(stored)
                return build.begun[name]
            build.run.console.event(
                "tarball", f"{name}: the stored layer {stored.digest.short} is damaged or gone: built again"
            )
            damaged = found
        build.begun[name] = _make(build, name, instead=damaged)
        return build.begun[name]


def _found(stored: BuiltLayer) -> BegunLayer:
    known: Future[BuiltLayer] = Future()
    known.set_result(stored)
    return BegunLayer(files=stored.files, content_size=stored.content_size, stored=known)


def make(build: Build, name: str, target: Path, under: Conditions = USUAL) -> archive.Packed:
    """Build a layer into an archive. Raises BuildFailed, BuildIncomplete, UnsafeFile or DiskFull."""
    with tempfile.TemporaryDirectory(dir=build.folder, ignore_cleanup_errors=True) as own:
        folder, _ = build_below(build, name, Path(own), under=under, work=Path(own))
        return archive.pack(tar.of_folder(folder), target)


def build_below(
    build: Build, name: str, place: Path, *, under: Conditions = USUAL, work: Path | None = None
) -> tuple[Path, overlay.Settled]:
    """Build a layer into a new folder below `place`. What else was made stays in `work`, or in the build's folder.

    Raises BuildFailed, BuildIncomplete, UnsafeFile or DiskFull.
    """
    known = build.keys[name]
    layer = known.layer
    if not build.sandbox:
        build.accept(build.run)
        build.run.console.once("tarball", "builds without a sandbox: this machine lets us make no namespaces")
    lowers = [
        *reversed([_unpacked(build, each) for each in upstream(build, name)]),
        _application(build, known),
    ]
    apart = build.sandbox
    if apart and not layer.after and not under.shuffled and len(known.files) < FEW:
        # a copy of them is made at once, and thousands of files are made in less time in a folder than in an overlay
        apart = dataclasses.replace(apart, overlays=False)
    log, begun = build.run.log(f"tarball.{name}"), time.monotonic()
    tree = overlay.new(work or build.folder, lowers, apart)
    values = {**layer.chosen, "key": known.key.short}
    used = overlay.run(
        tree,
        [[filled(word, values) for word in command] for command in layer.commands],
        layer=name,
        reach=Allowed(
            network=layer.network,
            caches=_caches(build) if layer.caches else None,
            private=(build.run.root, Path("~").expanduser(), Path(tempfile.gettempdir())),
        ),
        environment=_environment(build, layer),
        under=under,
        hidden=overlay.secrets([os.environ.get(each, "") for each in (*layer.credentials, *environ.PROXIES)]),
        say=build.run.console.say("tarball"),
        log_path=log,
        shown=log.relative_to(build.run.root),
        minutes=build.run.pipeline.application.build_minutes,
    )
    overlay.check(tree, name, [filled(each, values) for each in layer.promises])
    if used.cpu:
        seconds = time.monotonic() - begun
        cost = turns.Effort(seconds=seconds, cpu=used.cpu, memory=used.memory)
        turns.write(build.run.root / COSTS, name, cost)
    given = outputs(known) or [""]
    # a stamp is written at the end: a layer with one would be compressed again without it
    left_out = [*build.run.profile.exclude, *build.run.profile.stamps]
    settled = overlay.settle(tree.upper, tree.folder / "aside", exclude=left_out, only=given)
    return unpacked.adopt(place, name, tree.upper), settled


def outputs(known: keys.KeyedLayer) -> list[str]:
    """The paths below which a layer's outputs are; none where they may be anywhere."""
    values = {**known.layer.chosen, "key": known.key.short}
    return [filled(each, values).strip("/") for each in known.layer.outputs if each != "."]


def exported(build: Build) -> Path:
    """A folder with the application's files as git has them. Read-only by convention: layers share it."""

    def fill(folder: Path) -> None:
        build.run.console.say("tarball")("exports the application")
        application.export(build.run, folder)

    return _shared(build, "application", fill)


def clear(build: Build) -> None:
    """Remove what the commands have made and no layer keeps; nobody waits for it."""
    made = sorted(map(str, build.folder.glob(f"{overlay.PREFIX}*")))
    if made:
        remove = functools.partial(children.run, [*unpacked.REMOVE, *made], seconds=None)
        behind.begin("clear", remove, awaited=False)


def prune(build: Build, keep: Iterable[str]) -> None:
    """Delete this machine's archives that are older than a day, except these. The cache keeps all."""
    wanted, aged = set(keep), time.time() - 86400
    for path in _shelf(build).iterdir():
        with contextlib.suppress(FileNotFoundError):
            # a younger one may be in use by another run
            if path.name.removesuffix(layout.ARCHIVE) not in wanted and path.stat().st_mtime < aged:
                path.unlink()


def _make(build: Build, name: str, instead: cache.FoundRecord | None) -> BegunLayer:
    for each in upstream(build, name):  # before its turn: they need turns of their own
        _unpacked(build, each)
    with build.turns.turn(name):
        folder, settled = build_below(build, name, _place(build))
    if _is_below(build, name):
        build.folders[name] = folder
    stored = behind.begin(name, functools.partial(_store, build, name, folder, settled.content_size, instead))
    return BegunLayer(files=settled.files, content_size=settled.content_size, stored=stored)


def _store(
    build: Build, name: str, folder: Path, content_size: int, instead: cache.FoundRecord | None
) -> BuiltLayer:
    """Pack what a layer has made, and store it."""
    kept, part = cache.of(build.run), _shelf(build) / f".{name}.{build.run.id}"
    try:
        packed = packing.pack(folder, part, content_size)
        path = part.rename(_shelf(build) / f"{packed.digest}{layout.ARCHIVE}")
    finally:
        part.unlink(missing_ok=True)
    made = BuiltLayer(digest=packed.digest, path=path, files=packed.files, content_size=packed.content_size)
    told = {"layer": name, "inputs": dict(build.keys[name].inputs), "by": build.run.who, "size": packed.size}
    counted = {"digest": made.digest, "files": made.files, "content_size": made.content_size}
    try:
        kept.upload("layers", packed.digest, path, damaged=instead is not None)
        kept.keep("layers", build.keys[name].key, {**told, **counted}, instead=instead)
    except BucketForbidden:  # this role may only read the cache
        build.run.console.event("tarball", f"{name}: not kept, the cache may only be read")
    except BucketMissing:  # `doit verify` makes none
        build.run.console.event("tarball", f"{name}: not kept, there is no bucket yet")
    _leave(build, name, folder, made.digest)
    return made


def _leave(build: Build, name: str, folder: Path, digest: Digest) -> None:
    """Seal a folder that layers above may need again; only the end of the run waits for that."""
    if build.sandbox and _is_below(build, name):
        behind.begin(name, functools.partial(unpacked.keep, folder, digest))


def _is_below(build: Build, name: str) -> bool:
    """Whether other layers are built on it."""
    return any(name in each.layer.after for each in build.keys.values())


def _place(build: Build) -> Path:
    """Where layers lie unpacked. Commands without a sandbox could change what lies there: then it is gone with the build."""
    return build.run.root / UNPACKED if build.sandbox else build.folder / "unpacked"


def _fetched(build: Build, zone: layout.Zone, stored: BuiltLayer) -> bool:
    """Download an archive. Returns whether its digest is right."""
    stream = build.run.store.open(layout.blob(zone, "layers", stored.digest))
    if stream is None:
        return False
    part = stored.path.with_suffix(f".{build.run.id}")
    try:
        read = tar.HashingReader(stream)
        with part.open("wb") as target:
            while chunk := read.read(tar.CHUNK):
                target.write(chunk)
        if read.digest != stored.digest:
            return False
        part.rename(stored.path)
    finally:
        part.unlink(missing_ok=True)
    return True


def _is(path: Path, digest: Digest) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False


def _unpacked(build: Build, name: str) -> Path:
    """A folder with a layer's files, for the layers above it: as it was made, or as it was kept, or unpacked. They share it,
    and what they change is in their overlay."""
    with _lock(str(build.run.root), f"layer-{name}"):
        begun = begin(build, name)
        if name not in build.folders:
            build.folders[name] = _kept(build, name, begun.stored.result())
        return build.folders[name]


def _kept(build: Build, name: str, made: BuiltLayer) -> Path:
    apart = build.sandbox
    owner = sandbox.USER if apart and apart.as_root else os.geteuid()
    found = unpacked.kept(_place(build), made.digest, owner) if apart else None
    if found:
        return found
    folder = unpacked.new(_place(build), name)
    build.run.console.say("tarball")(f"unpacks {name}")
    with made.path.open("rb") as file:
        archive.unpack(file, folder, digest=made.digest, owner=owner)
    if apart:
        apart.own(folder, below=False)
    _leave(build, name, folder, made.digest)
    return folder


def _application(build: Build, known: keys.KeyedLayer) -> Path:
    """A folder with only those of the application's files that the layer names: it cannot read any other."""
    whole = exported(build)

    def fill(folder: Path) -> None:
        for each in known.files:
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            os.link(whole / each, folder / each, follow_symlinks=False)

    return _shared(build, f"files-{Digest.of_value(known.files).short}", fill)


def _shared(build: Build, name: str, fill: Callable[[Path], None]) -> Path:
    """A folder of the build, filled once, whose files the commands may change: in their overlay, not in the folder."""
    folder = build.folder / name
    with _lock(str(build.run.root), name):
        if not folder.exists():
            part = folder.with_suffix(".part")
            part.mkdir()
            fill(part)
            if build.sandbox:
                build.sandbox.own(part)
            part.rename(folder)
    return folder


def upstream(build: Build, name: str) -> list[str]:
    """All layers below a layer, lowest first."""
    found: dict[str, None] = {}
    for each in build.keys[name].layer.after:
        found |= dict.fromkeys([*upstream(build, each), each])
    return list(found)


def _environment(build: Build, layer: Layer) -> dict[str, str]:
    """The environment variables of a command: a build's, those that the layer names, and folders for caches."""
    named = (*layer.variables, *layer.credentials)
    folder = Path(sandbox.CACHES) if build.sandbox else _caches(build)
    caches = {name: str(folder / name.lower()) for name in layer.caches}
    return {
        **environ.of("fetching" if layer.network else "build"),
        **{name: os.environ[name] for name in named if name in os.environ},
        **caches,
        **layer.environment,
        **environ.FIXED,
        "TZ": "UTC",
    }


def _caches(build: Build) -> Path:
    """The folder of what outlives a build, such as fetched packages. Each zone has its own: who may write to it decides
    what later builds take from it."""
    folder = build.run.root / ".run" / "caches" / cache.of(build.run).writes
    folder.mkdir(parents=True, exist_ok=True)
    if build.sandbox and build.sandbox.as_root and folder.stat().st_uid != sandbox.USER:
        build.sandbox.own(folder)
    return folder


def _shelf(build: Build) -> Path:
    folder = build.run.root / ".run" / "layers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def _lock(*names: str) -> Any:
    """A lock by name: two layers that are built in parallel may need the same layer below."""
    return threading.RLock()
