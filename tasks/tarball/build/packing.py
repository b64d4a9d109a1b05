"""packing: a large folder is packed by a process of its own, which leaves the processor to what is built beside it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tasks.digest import Digest
from tasks.process import behind, children
from tasks.process.children import CommandFailed
from tasks.refusal import Refusal
from tasks.tarball.build import archive, tar

LARGE = 16 << 20
"""Bytes. Below this, a process takes longer to start than it saves."""
REFUSED = 3
"""The exit code of a process that cannot pack the folder; any other is a bug of ours."""
PIPELINE = Path(__file__).parents[3]


def pack(folder: Path, target: Path, content_size: int) -> archive.Packed:
    """Pack a folder as `archive.pack` does, and raise what it raises. `content_size`: about how many bytes it has."""
    if content_size >= LARGE:
        try:
            words = [sys.executable, "-m", __name__, str(folder), str(target)]
            told = json.loads(children.run([*behind.KINDLY, *words], cwd=PIPELINE, seconds=None))
            return archive.Packed(**{**told, "digest": Digest(told["digest"])})
        except CommandFailed as failed:
            if failed.facts["status"] != REFUSED:
                raise
            # again here, where it can be told why
    return archive.pack(tar.of_folder(folder), target)


if __name__ == "__main__":
    try:
        packed = archive.pack(tar.of_folder(Path(sys.argv[1])), Path(sys.argv[2]))
    except (Refusal, OSError):
        sys.exit(REFUSED)
    print(json.dumps(asdict(packed)))  # noqa: T201  to `pack`
