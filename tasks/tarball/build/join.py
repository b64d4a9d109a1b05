"""join: put a tarball together from the archives of its parts, as they are compressed; each path is in it once."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.digest import Digest
from tasks.refusal import Refusal
from tasks.tarball.build import archive, tar
from tasks.tarball.build.archive import HashingWriter, Packed, Share


class PathTwice(Refusal):
    """Two layers that are built side by side make the same path, and not the same of it. Which one is meant, nobody has said."""

    sentence = "tarball: {path} is made by {first} and, with other content, by {second}"
    remedy = "$EDITOR {profile}"


@dataclass(frozen=True, kw_only=True)
class TarballPart:
    """An archive that `archive.pack` made. `over`: the parts whose files it may replace: it was made with them in sight."""

    name: str
    path: Path
    digest: Digest
    share: Share
    over: frozenset[str] = frozenset()


def join(parts: Sequence[TarballPart], target: Path, profile: str) -> tuple[Packed, Mapping[str, Share]]:
    """Write the entries of all parts into one archive; what it has from each. A part comes before those that it is over.

    Raises PathTwice, whose remedy names the profile, or Damaged.
    """
    left_out = _left_out(parts, profile)
    shares: dict[str, Share] = {}
    with target.open("wb") as raw:
        out = HashingWriter(raw)
        for part in parts:
            path, digest, shares[part.name] = part.path, part.digest, part.share
            if left_out[part.name]:
                path = target.with_suffix(".part")
                packed = _without(part, left_out[part.name], path)
                digest = packed.digest
                shares[part.name] = Share(files=packed.files, content_size=packed.content_size)
            archive.copy_entries(path, out, digest=digest)
            if path != part.path:
                path.unlink()
        out.write(archive.end_frame())
    packed = Packed(
        digest=Digest(out.sha256.hexdigest()),
        size=out.size,
        files=sum(each.files for each in shares.values()),
        content_size=sum(each.content_size for each in shares.values()),
    )
    return packed, shares


def _without(part: TarballPart, names: set[str], target: Path) -> Packed:
    with part.path.open("rb") as raw:
        return archive.pack(tar.of_archive(raw, exclude=tuple(names), digest=part.digest), target)


def _left_out(parts: Sequence[TarballPart], profile: str) -> Mapping[str, set[str]]:
    """The paths of each part that the tarball has from another one: what is over a part replaces it, and what is the same is there once."""
    left_out: dict[str, set[str]] = {part.name: set() for part in parts}
    alike: dict[tuple[str, str], list[str]] = {}
    for path, first, second in _twice(parts):
        left_out[second.name].add(path)
        if second.name not in first.over:
            alike.setdefault((first.name, second.name), []).append(path)
    known = {part.name: part for part in parts}
    for both, paths in alike.items():
        one, other = (_content(known[each], paths) for each in both)
        for path in paths:
            if path not in one or one[path] != other.get(path):
                raise PathTwice(path=path, first=both[0], second=both[1], profile=profile)
    return left_out


def _twice(parts: Sequence[TarballPart]) -> Iterator[tuple[str, TarballPart, TarballPart]]:
    """Paths that a part has and a later one too, unless both have a folder there; and what the later one has below a file of the earlier."""

    def named(part: TarballPart) -> Iterator[tuple[list[str], bool, TarballPart]]:
        for name in sorted(archive.named(part.path), key=lambda each: each.rstrip("/").split("/")):
            yield name.rstrip("/").split("/"), not name.endswith("/"), part

    taken: list[str] = []
    leaf, by = False, parts[0]
    for steps, is_leaf, part in heapq.merge(*map(named, parts), key=lambda each: each[0]):
        same = steps == taken
        if same and not leaf and not is_leaf:
            continue
        if same or (leaf and steps[: len(taken)] == taken):
            yield "/".join(steps), by, part
            continue
        taken, leaf, by = steps, is_leaf, part


def _content(part: TarballPart, paths: Sequence[str]) -> dict[str, tuple[object, ...]]:
    """What a part has at some paths."""
    wanted, found = set(paths), dict[str, tuple[object, ...]]()
    with part.path.open("rb") as raw:
        for entry in tar.of_archive(raw, digest=part.digest):
            if entry.name in wanted:
                read = hashlib.sha256()
                for chunk in entry.content:
                    read.update(chunk)
                found[entry.name] = (entry.kind, entry.executable, entry.target, read.digest())
    return found
