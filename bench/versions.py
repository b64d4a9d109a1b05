"""bench: one revision beside another: the list, and a release with nothing to do; taken in turns, in one run.

    bench/versions.py REVISION      that revision beside the checked-out one

Prints Markdown. Each has a clone, a virtual environment and a cloud of its own, which are deleted at the end.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMES = 10
WHAT = {"`doit list`": ["list"], "`doit release`, nothing to do": ["release"]}


def main(revision: str) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        clones = [clone(Path(folder), name, each) for name, each in (("old", revision), ("new", "HEAD"))]
        try:
            for each in clones:
                run(each, "build/ci/run", "release")
            taken: dict[tuple[str, Path], list[float]] = {}
            for _ in range(TIMES):
                for what, arguments in WHAT.items():
                    for each in clones:
                        seconds = run(each, ".run/venv/bin/doit", *arguments)
                        taken.setdefault((what, each), []).append(seconds)
            table(taken, *clones)
        finally:
            for each in clones:
                run(each, "build/ci/run", "cloud", "delete")


def table(taken: dict[tuple[str, Path], list[float]], old: Path, new: Path) -> None:
    """A row for each command: medians, and how many times the old one the new one takes."""
    print(f"| median of {TIMES} | before | now | × before |\n| --- | --- | --- | --- |")  # noqa: T201
    for what in WHAT:
        before, now = (statistics.median(taken[what, each]) for each in (old, new))
        print(f"| {what} | {before:.3f} | {now:.3f} | {now / before:.2f} |")  # noqa: T201


def clone(folder: Path, name: str, revision: str) -> Path:
    """A clone of this repository at a revision."""
    root = folder / name / "shop"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
    wanted = subprocess.run(
        ["git", "rev-parse", revision], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["git", "checkout", "-q", "-B", "bench", wanted], cwd=root, check=True)
    return root


def run(root: Path, program: str, *arguments: str) -> float:
    """Seconds of a command in a clone; it must succeed."""
    environ = {**os.environ, "XDG_STATE_HOME": str(root.parent / "state")}
    for name in (
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
    ):  # what the clone has compiled counts as it does for users
        environ.pop(name, None)
    begun = time.monotonic()
    subprocess.run([root / program, *arguments], cwd=root, env=environ, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("bench: bench/versions.py REVISION")
    main(sys.argv[1])
