"""manifest: the document that describes a tarball: content, sizes, layers, tools, options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.digest import Digest
from tasks.tarball.build.archive import Share


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`tree`: git id of the application. `layers`: files and bytes from each layer. `keys`: the keys of the layers that are built."""

    digest: Digest
    size: int
    tree: str = ""
    files: int = 0
    content_size: int = 0
    layers: Mapping[str, Share] = field(default_factory=dict)
    keys: Mapping[str, Digest] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Manifest:
        """From its document. Unknown keys are ignored and missing ones have defaults: another version may have written it."""
        layers = value.get("layers", {})
        return cls(
            digest=Digest(value["digest"]),
            size=value["size"],
            tree=value.get("tree", ""),
            files=value.get("files", 0),
            content_size=value.get("content_size", 0),
            layers={
                name: Share(files=each.get("files", 0), content_size=each.get("content_size", 0))
                for name, each in layers.items()
            },
            keys={name: Digest(each["key"]) for name, each in layers.items() if "key" in each},
            tools=value.get("tools", {}),
            options=value.get("options", {}),
        )

    def as_dict(self) -> dict[str, Any]:
        """As its document."""
        return {
            "tree": self.tree,
            "digest": self.digest,
            "size": self.size,
            "files": self.files,
            "content_size": self.content_size,
            "layers": {
                name: {
                    "files": each.files,
                    "content_size": each.content_size,
                    **({"key": self.keys[name]} if name in self.keys else {}),
                }
                for name, each in self.layers.items()
            },
            "tools": dict(self.tools),
            "options": {name: list(values) for name, values in self.options.items()},
        }
