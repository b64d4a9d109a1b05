"""verify: build each layer twice, the second time as another machine would on another day, and hold its lists of files against what was read."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import posixpath
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks import application
from tasks.process import behind
from tasks.refusal import Refusal
from tasks.source import within
from tasks.tarball import trace
from tasks.tarball.build import keys, layers, sandbox, tar
from tasks.tarball.build.conditions import Conditions
from tasks.tarball.build.keys import KeyedLayer
from tasks.tarball.build.layers import Build
from tasks.tarball.build.overlay import BuildFailed, BuildIncomplete, BuildSilent
from tasks.tarball.trace import Trace

LATER = ("faketime", "-f", "+10d")
CLOCK = {
    "NO_FAKE_STAT": "1",  # files keep their dates
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # programs wait as long as they mean to
}


@dataclass(frozen=True, kw_only=True)
class Means:
    """How the two builds are made. `lacks`: what of that this machine cannot do, a sentence for each."""

    traced: bool
    other: Conditions
    lacks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of two builds of a layer. `differing`: paths that are not the same.

    `undeclared`: what the commands looked for, and which the application has and the layer does not see.
    `unread`: patterns of the layer that match files of which none was opened; None where that is not known.
    """

    layer: str
    declared: str
    files: int
    differing: tuple[str, ...]
    undeclared: tuple[str, ...]
    unread: tuple[str, ...] | None


def means(build: Build) -> Means:
    """What this machine can do to make the second build differ from the first, and to see what the first one reads. Each is tried."""
    apart, folder = build.sandbox, build.folder
    cores = sorted(os.sched_getaffinity(0))
    one_core = ("taskset", "--cpu-list", str(cores[0]))
    traced = bool(apart and sandbox.can(apart, folder, before=trace.WORDS))
    shuffled = bool(apart and sandbox.can(apart, folder, shuffled=True))
    later = bool(apart and sandbox.can(apart, folder, before=LATER))
    fewer = bool(apart and len(cores) > 1 and sandbox.can(apart, folder, before=one_core))
    lacks = {
        "both builds have the same number of cores: the machine has one, or no taskset": fewer,
        "both builds have the same date: faketime is not installed": later,
        "both builds find folders in the same order: disorderfs is not installed, or not allowed here": shuffled,
        "what is read is not known: strace is not installed, or not allowed here": traced,
    }
    other = Conditions(
        before=(*(one_core if fewer else ()), *(LATER if later else ())),
        environment=CLOCK if later else {},
        shuffled=shuffled,
    )
    return Means(traced=traced, other=other, lacks=tuple(each for each, there in lacks.items() if not there))


def verdicts(build: Build, by: Means) -> Iterator[Comparison]:
    """Build every layer twice, on the same layers below. The results are not stored: they may be wrong. The layers below are.

    Raises what a build raises; what it looked for in vain comes first.
    """
    try:
        for name in build.keys:
            seen = Trace()
            verdict = functools.partial(_verdict, build, name, seen if by.traced else None)
            first_time = Conditions(before=trace.WORDS, look=seen.look) if by.traced else Conditions()
            with tempfile.TemporaryDirectory(dir=build.folder) as folder:
                first, second = Path(folder) / "first", Path(folder) / "second"
                try:
                    packed = layers.make(build, name, first, first_time)
                except (BuildFailed, BuildIncomplete, BuildSilent):
                    yield verdict(files=0)
                    raise
                again = layers.make(build, name, second, by.other)
                differing = () if packed.digest == again.digest else _differing(first, second)
                yield verdict(files=packed.files, differing=differing)
    except Refusal:
        with contextlib.suppress(Refusal):  # the first one tells why
            behind.finish()
        raise
    behind.finish()


def never_read(found: Iterable[Comparison]) -> dict[str, list[str]]:
    """The patterns of each layer, as the profile declares it, of which no build has read anything."""
    unread: dict[str, list[str]] = {}
    for each in found:
        if each.unread is not None:
            known = unread.setdefault(each.declared, list(each.unread))
            unread[each.declared] = [pattern for pattern in known if pattern in each.unread]
    return unread


def _verdict(
    build: Build, name: str, seen: Trace | None, *, files: int, differing: tuple[str, ...] = ()
) -> Comparison:
    known = build.keys[name]
    return Comparison(
        layer=name,
        declared=known.layer.declared,
        files=files,
        differing=differing,
        undeclared=tuple(undeclared(known, application.files(build.run), seen)) if seen else (),
        unread=tuple(unread(known, seen)) if seen else None,
    )


def unread(known: KeyedLayer, seen: Trace) -> list[str]:
    """The patterns of whose files none was opened, and none is promised: that one is looked for in the end."""
    promised = keys.matching(known.files, known.layer.promises)
    looked_at = seen.opened.union(promised)
    return [each for each, names in known.matches.items() if names and looked_at.isdisjoint(names)]


def undeclared(known: KeyedLayer, tree: Iterable[str], seen: Trace) -> list[str]:
    """What was looked for in vain, although the application has it. Not what the layer makes, and not what is kept from it on purpose."""
    has, visible, made = _with_folders(tree), _with_folders(known.files), layers.outputs(known)
    wanted = [each for each in seen.missed & (has - visible - _with_folders(made)) if not within(each, made)]
    return sorted({*wanted} - {*keys.matching(wanted, known.layer.unseen)})


def _with_folders(paths: Iterable[str]) -> set[str]:
    found = set(paths)
    for path in [*found]:
        while (path := posixpath.dirname(path)) and path not in found:
            found.add(path)
    return found


def _differing(first: Path, second: Path) -> tuple[str, ...]:
    one, other = _entries(first), _entries(second)
    return tuple(sorted(path for path in {*one, *other} if one.get(path) != other.get(path)))


def _entries(path: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    with path.open("rb") as file:
        for each in tar.of_archive(file):
            digest = hashlib.sha256()
            for chunk in each.content:
                digest.update(chunk)
            found[each.name] = (each.kind, each.executable, each.target, digest.digest())
    return found
