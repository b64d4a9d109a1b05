"""verify: build each layer twice and compare the results: a difference would give one commit two tarballs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.tarball.build import layers, tar
from tasks.tarball.build.layers import Build


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of two builds of a layer. `differing`: paths that are not the same."""

    layer: str
    files: int
    differing: tuple[str, ...]


def verdicts(build: Build) -> Iterator[Comparison]:
    """Build every layer twice, on the same layers below. The results are not stored: they may be wrong."""
    for name in build.keys:
        with tempfile.TemporaryDirectory(dir=build.folder) as folder:
            first, second = Path(folder) / "first", Path(folder) / "second"
            packed = layers.make(build, name, first)
            again = layers.make(build, name, second)
            differing = () if packed.digest == again.digest else _differing(first, second)
            yield Comparison(layer=name, files=packed.files, differing=differing)


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
