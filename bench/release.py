"""bench: how long a release takes, from nothing, for a change, and for no change; medians, in one run.

Prints Markdown. Runs in a copy of the checkout and in a cloud of its own, which it deletes at the end.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOIT = Path(sys.executable).parent / "doit"
TIMES = 10


def main() -> None:
    """Measure and print."""
    with project() as root:
        report(root)


@contextlib.contextmanager
def project() -> Iterator[Path]:
    """A clone of this checkout, with a cloud of its own as long as it lasts."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder) / "checkout"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(root)], check=True)
        os.environ |= {"XDG_STATE_HOME": f"{folder}/state", "PYTHONPATH": str(root)}
        try:
            yield root
        finally:
            doit(root, "cloud", "delete")


def report(root: Path) -> None:
    """Print the table."""
    rows = [("release, new environment on a new cloud", once(root, "release"), "300")]
    rows.append((f"release, nothing to do (median of {TIMES})", median(root, "release"), "5"))
    page = root / "app" / "pub" / "index.php"
    changes = []
    for number in range(3):
        page.write_text(f"{page.read_text()}\n// change {number}\n")
        changes.append(once(root, "release"))
    rows.append(("release, a PHP file changed (median of 3)", statistics.median(changes), "-"))
    rows.append((f"`doit list` (median of {TIMES})", median(root, "list"), "-"))
    rows.append(("teardown", once(root, "teardown"), "-"))
    print("| what | seconds | reference |\n| --- | --- | --- |")  # noqa: T201
    for what, seconds, reference in rows:
        print(f"| {what} | {seconds:.2f} | {reference} |")  # noqa: T201


def median(root: Path, command: str) -> float:
    """Seconds of a command, the median of several."""
    return statistics.median(once(root, command) for _ in range(TIMES))


def once(root: Path, command: str) -> float:
    """Seconds of a command."""
    begun = time.monotonic()
    doit(root, command)
    return time.monotonic() - begun


def doit(root: Path, *arguments: str) -> None:
    """Run doit; its output shows when it fails."""
    done = subprocess.run([DOIT, *arguments], cwd=root, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    main()
