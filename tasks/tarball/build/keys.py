"""keys: a digest of each layer's inputs, known before anything is built and the same in every clone."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks import application, source
from tasks.digest import Digest
from tasks.process import children
from tasks.profile import Layer, Profile, filled
from tasks.tarball.build import archive

if TYPE_CHECKING:
    from tasks.run import Run

CODE = (
    "tasks/tarball/build",
    "tasks/application.py",
    "tasks/digest.py",
    "tasks/environ.py",
    "tasks/profile.py",
    "tasks/source.py",
    "tasks/version.py",
)
"""The code that determines the bytes of a layer and of a tarball."""


@dataclass(frozen=True, kw_only=True)
class KeyedLayer:
    """A layer and the digest of its inputs. `inputs`: each input by name, to tell which one has changed.

    `files`: the application's files that the layer is built from; `matches`: those of each of its patterns.
    """

    layer: Layer
    key: Digest
    inputs: Mapping[str, object]
    files: tuple[str, ...]
    matches: Mapping[str, Sequence[str]]


def keyed(run: Run) -> dict[str, KeyedLayer]:
    """Every layer with its key."""
    snapshot, profile = source.snapshot(run.root), run.profile
    tree = application.files(run)
    versions, code = tools(profile), snapshot.ids(CODE)
    found: dict[str, KeyedLayer] = {}
    for layer in profile.layers:
        lines = {name: _lineage(run, name, value) for name, value in layer.chosen.items()}
        matches = {each: sorted(matching(tree, _spread(each, lines))) for each in layer.files}
        also = {each: sorted(matching(tree, _spread(each, lines))) for each in layer.present}
        definition = [
            *(layer.chosen, layer.environment, layer.commands, layer.outputs, layer.promises),
            layer.network,
        ]
        digests = {
            **{
                each: Digest.of_value([(name, tree[name]) for name in names])
                for each, names in matches.items()
            },
            **{f"layer {name}": found[name].key for name in layer.after},
            **{f"variable {name}": Digest.of_value(os.environ.get(name)) for name in layer.variables},
            # names that no folder of an application has: `code` was one
            "its definition": Digest.of_value([definition, profile.exclude, sorted(profile.stamps)]),
            "the pipeline's code": Digest.of_value(code),
        }
        used = {f"{name} version": versions[name] for name in ("zstd", *layer.tools)}
        found[layer.name] = KeyedLayer(
            layer=layer,
            key=Digest.of_value([layer.name, digests, used]),
            inputs={**{name: each.short for name, each in digests.items()}, **used},
            files=tuple(
                sorted({name for each in (matches, also) for names in each.values() for name in names})
            ),
            matches={**also, **matches},
        )
    return found


def tools(profile: Profile) -> dict[str, str]:
    """Versions of the tools that the layers use: another one need not be installed."""
    used = {name for layer in profile.layers for name in layer.tools}
    asked = tuple((name, words) for name, words in profile.tools.items() if name in used)
    return {"zstd": archive.version(), **_versions(asked)}


@functools.cache
def _versions(commands: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, str]:
    """The version that each tool prints. Cached: versions do not change during a run."""
    with ThreadPoolExecutor() as pool:
        printed = pool.map(children.run, (command for _, command in commands))
        return {name: text.strip() for (name, _), text in zip(commands, printed, strict=True)}


def _lineage(run: Run, option: str, value: str) -> list[str]:
    """A value and its ancestors, such as a theme and its parents, read from the application's files."""
    line = [value]
    inherits = run.profile.inherits.get(option)
    while inherits:
        path = filled(inherits.file, {option: line[-1]})
        texts = (application.content(run, each) for each in sorted(matching(application.files(run), [path])))
        parent = re.search(inherits.match, next(texts, None) or "")
        if not parent or parent.group(1) in line:
            break
        line.append(parent.group(1))
    return line


def _spread(pattern: str, lines: Mapping[str, Sequence[str]]) -> list[str]:
    """The pattern once for each value of its placeholders."""
    patterns = [pattern]
    for name, values in lines.items():
        patterns = [filled(each, {name: value}) for each in patterns for value in values]
    return list(dict.fromkeys(patterns))


def matching(tree: Iterable[str], patterns: Sequence[str]) -> Iterator[str]:
    """Files that match a pattern or lie in a folder that matches. `*` matches within a name, `**/` any folders."""
    words = {"**/": "(?:.*/)?", "*": "[^/]*"}
    ways = (
        "".join(words.get(each) or re.escape(each) for each in re.split(r"(\*\*/|\*)", pattern))
        for pattern in patterns
    )
    matches = re.compile(f"(?:{'|'.join(ways)})(?:/|$)").match
    return (path for path in tree if matches(path))
