"""layers: the parts of a build, each named by what it is made of, built once, and taken from the cache ever after."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import source
from tasks.bucket import cache
from tasks.process import children
from tasks.profile import Layer, Profile, filled
from tasks.refusal import BucketForbidden
from tasks.tarball.build import archive, overlay, tar

if TYPE_CHECKING:
    from tasks.run import Run

CODE = (
    "tasks/tarball/build/archive.py",
    "tasks/tarball/build/tar.py",
    "tasks/tarball/build/layers.py",
    "tasks/tarball/build/overlay.py",
)
"""What else decides about a layer's bytes."""


@dataclass(frozen=True, kw_only=True)
class Keyed:
    """A layer and the digest of all that it is made of. `inputs`: that, each by its name, for saying what changed.

    `files` are the application's files that it is built from.
    """

    layer: Layer
    key: str
    inputs: Mapping[str, object]
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Made:
    """A layer's archive on this machine."""

    digest: str
    path: Path
    files: int
    content_size: int


# --- keys -----------------------------------------------------------------------------------------


def keyed(run: Run) -> dict[str, Keyed]:
    """Every layer with its key: known before anything is built, so that one look tells what is there."""
    snapshot, profile = source.snapshot(run.root), run.profile
    tree = snapshot.files(run.pipeline.application.path)
    versions, code = tools(profile), snapshot.ids(CODE)
    found: dict[str, Keyed] = {}
    for layer in profile.layers:
        lines = {name: _lineage(run, name, value) for name, value in layer.chosen.items()}
        matches = {each: sorted(_matching(tree, _spread(each, lines))) for each in layer.files}
        also = {name for each in layer.present for name in _matching(tree, _spread(each, lines))}
        definition = [layer.chosen, layer.environment, layer.commands, layer.outputs, layer.promises]
        digests = {
            **{each: _digest([(name, tree[name]) for name in names]) for each, names in matches.items()},
            **{f"layer {name}": found[name].key for name in layer.after},
            **{f"variable {name}": _digest(os.environ.get(name)) for name in layer.variables},
            "definition": _digest([definition, profile.exclude]),
            "code": _digest(code),
        }
        used = {f"{name} version": versions[name] for name in ("zstd", *layer.tools)}
        found[layer.name] = Keyed(
            layer=layer,
            key=_digest([layer.name, digests, used]),
            inputs={**{name: digest[:12] for name, digest in digests.items()}, **used},
            files=tuple(sorted(also.union(*matches.values()))),
        )
    return found


def begin(run: Run) -> None:
    """Find out the keys beside what else is looked at: git and tools take a while to answer."""
    if "tarball" in run.environment.stages:
        threading.Thread(target=_ahead, args=[run], daemon=True).start()


def _ahead(run: Run) -> None:
    with contextlib.suppress(Exception):  # whoever needs the keys asks again, and says so
        _ = run.layers


def tools(profile: Profile) -> dict[str, str]:
    """Versions of the tools that make the bytes."""
    return {"zstd": archive.version(), **_versions(tuple(profile.tools.items()))}


@functools.cache
def _versions(commands: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, str]:
    """What each tool says; within a run they are what they are."""
    with ThreadPoolExecutor() as pool:
        printed = pool.map(children.run, (command for _, command in commands))
        return {name: text.strip() for (name, _), text in zip(commands, printed, strict=True)}


def _lineage(run: Run, option: str, value: str) -> list[str]:
    """A value and those that it builds upon, as the application's own files say."""
    line = [value]
    inherits = run.profile.inherits.get(option)
    while inherits:
        path = filled(inherits.file, {option: line[-1]})
        text = source.snapshot(run.root).content(f"{run.pipeline.application.path}/{path}")
        parent = re.search(inherits.match, text or "")
        if not parent or parent.group(1) in line:
            break
        line.append(parent.group(1))
    return line


def _spread(pattern: str, lines: Mapping[str, Sequence[str]]) -> list[str]:
    """A pattern for each value that its placeholder stands for."""
    patterns = [pattern]
    for name, values in lines.items():
        patterns = [filled(each, {name: value}) for each in patterns for value in values]
    return list(dict.fromkeys(patterns))


def _matching(tree: Iterable[str], patterns: Sequence[str]) -> Iterator[str]:
    """Files that a pattern names, or a folder that it names holds: `*` within a name, `**/` over any folders."""
    words = {"**/": "(?:.*/)?", "*": "[^/]*"}
    ways = (
        "".join(words.get(each) or re.escape(each) for each in re.split(r"(\*\*/|\*)", pattern))
        for pattern in patterns
    )
    matches = re.compile(f"(?:{'|'.join(ways)})(?:/|$)").match
    return (path for path in tree if matches(path))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


# --- taking and building --------------------------------------------------------------------------


def known(run: Run, name: str) -> bool:
    """Whether the cache says that it has the layer; whether that is so is found out when it is needed."""
    return cache.of(run).record("layers", run.layers[name].key) is not None


def ensure(run: Run, name: str) -> Made:
    """The layer's archive, verified: from this machine, from the cache, or built. A damaged one is a warning and a miss."""
    key, damaged = run.layers[name].key, None
    with _lock(str(run.root), key):
        for found in cache.of(run).records("layers", key):
            path = _shelf(run) / f"{found.value['digest']}{cache.ARCHIVE}"
            if _is(path, found.value["digest"]) or _fetched(run, found, path):
                return Made(
                    path=path, **{each: found.value[each] for each in ("digest", "files", "content_size")}
                )
            run.warn("tarball", f"{name}: the stored layer {path.name[:12]} is damaged or gone: built again")
            damaged = found
        return _make(run, name, instead=damaged)


def build(run: Run, name: str, target: Path) -> archive.Packed:
    """Build a layer into an archive. Raises BuildFailed, BuildIncomplete, UnsafeFile or DiskFull."""
    known = run.layers[name]
    layer = known.layer
    lowers = [*reversed([_unpacked(run, each) for each in _upstream(run, name)]), _application(run, known)]
    log = run.log(f"tarball.{name}")
    with overlay.opened(Path(run.bench.name), lowers) as bench:
        values = {**layer.chosen, "key": known.key[:12]}
        overlay.run(
            bench,
            [[filled(word, values) for word in command] for command in layer.commands],
            layer=name,
            environment=_environment(run, layer),
            hidden=overlay.secrets([os.environ.get(each, "") for each in layer.credentials]),
            say=run.say("tarball"),
            log_path=log,
            shown=log.relative_to(run.root),
        )
        overlay.check(bench, name, [filled(each, values) for each in layer.promises])
        only = [filled(each, values) for each in layer.outputs if each != "."] or [""]
        made = tar.of_folder(bench.upper, exclude=run.profile.exclude, only=only)
        return archive.pack({name: made}, target)


def exported(run: Run) -> Path:
    """The application's files as git keeps them; nobody writes there."""
    folder = Path(run.bench.name) / "application"
    with _lock(str(run.root), "application"):
        if not folder.exists():
            run.say("tarball")("exports the application")
            part = folder.with_suffix(".part")
            part.mkdir()
            source.snapshot(run.root).export(run.pipeline.application.path, part)
            part.rename(folder)
    return folder


def prune(run: Run, keep: Iterable[str]) -> None:
    """Of archives older than a day, leave only these on this machine; the cache has them all."""
    wanted, aged = set(keep), time.time() - 86400
    for path in _shelf(run).iterdir():
        with contextlib.suppress(FileNotFoundError):
            # what is younger may be another run's, at work
            if path.name.removesuffix(cache.ARCHIVE) not in wanted and path.stat().st_mtime < aged:
                path.unlink()


def _make(run: Run, name: str, instead: cache.Found | None) -> Made:
    kept, part = cache.of(run), _shelf(run) / f".{name}.{run.id}"
    try:
        packed = build(run, name, part)
        path = part.rename(_shelf(run) / f"{packed.digest}{cache.ARCHIVE}")
    finally:
        part.unlink(missing_ok=True)
    made = Made(digest=packed.digest, path=path, files=packed.files, content_size=packed.content_size)
    told = {"layer": name, "inputs": dict(run.layers[name].inputs), "by": run.who, "size": packed.size}
    counted = {"digest": made.digest, "files": made.files, "content_size": made.content_size}
    try:
        kept.upload("layers", packed.digest, path, damaged=instead is not None)
        kept.keep("layers", run.layers[name].key, {**told, **counted}, instead=instead)
    except BucketForbidden:  # who may only read builds for himself
        run.warn("tarball", f"{name}: not kept, the cache may only be read")
    return made


def _fetched(run: Run, found: cache.Found, path: Path) -> bool:
    """Bring an archive here. Whether it is what was stored."""
    stream = run.store.open(cache.archive_key(found.zone, "layers", found.value["digest"]))
    if stream is None:
        return False
    part = path.with_suffix(f".{run.id}")
    try:
        read = tar.Digested(stream)
        with part.open("wb") as target:
            while chunk := read.read(tar.CHUNK):
                target.write(chunk)
        if read.sha256.hexdigest() != found.value["digest"]:
            return False
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return True


def _is(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return False


def _unpacked(run: Run, name: str) -> Path:
    """A layer's files, for those that are built upon it; nobody writes there."""
    folder = Path(run.bench.name) / f"layer-{name}"
    made = ensure(run, name)
    with _lock(str(run.root), f"unpacked {name}"):
        if not folder.exists():
            part = folder.with_suffix(".part")
            part.mkdir()
            with made.path.open("rb") as file:
                archive.unpack(file, part, digest=made.digest)
            part.rename(folder)
    return folder


def _application(run: Run, known: Keyed) -> Path:
    """Those of the application's files that a layer is built from, and no others: what it does not name it cannot read."""
    whole, folder = exported(run), Path(run.bench.name) / f"files-{_digest(known.files)[:12]}"
    with _lock(str(run.root), folder.name):
        if not folder.exists():
            part = folder.with_suffix(".part")
            for each in known.files:
                (part / each).parent.mkdir(parents=True, exist_ok=True)
                os.link(whole / each, part / each, follow_symlinks=False)
            part.mkdir(exist_ok=True)
            part.rename(folder)
    return folder


def _upstream(run: Run, name: str) -> list[str]:
    """All layers below a layer, the lowest first."""
    found: dict[str, None] = {}
    for each in run.layers[name].layer.after:
        found |= dict.fromkeys([*_upstream(run, each), each])
    return list(found)


def _environment(run: Run, layer: Layer) -> dict[str, str]:
    """What a command sees: nothing of the caller but what the layer names, and caches that change no bytes."""
    passed = ("PATH", *layer.variables, *layer.credentials)
    folder = run.root / ".run" / "caches"
    caches = {name: str(folder / name.lower()) for name in layer.caches}
    return {
        **{name: os.environ[name] for name in passed if name in os.environ},
        **caches,
        **layer.environment,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }


def _shelf(run: Run) -> Path:
    folder = run.root / ".run" / "layers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def _lock(*names: str) -> Any:
    """Two layers that are built side by side may need the same one below."""
    return threading.RLock()
