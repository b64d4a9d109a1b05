"""bench: seconds until the site of a new environment answers, with a baked image and without, on one machine and on three.

Prints Markdown. Runs in a copy of the checkout and in a cloud of its own, which it deletes at the end.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.release import doit, once, project
from tasks.commands import command_line
from tasks.release import outside

TIMES = 3
THREE = "  placement: {web: [ingress, cache], app: [app], data: [data]}\n"


def main() -> None:
    """Measure and print."""
    with project() as root:
        testing = (root / "environments" / "testing.yml").read_text()
        (root / "environments" / "three.yml").write_text(testing.replace("  ends_itself: true\n", THREE))
        doit(root, "cloud", "start")
        doit(root, "branch=first", "release")  # the image of the settings is built, the tarball is stored
        doit(root, "branch=first", "teardown")
        cold, _ = new(root, branch="cold")
        bake = once(root, "image")
        baked, again = medians(new(root, branch=f"baked-{number}") for number in range(TIMES))
        three, three_again = medians(new(root, environment="three") for _ in range(TIMES))
    print("| tarball warm, medians of 3 | seconds | reference | × baked |\n| --- | --- | --- | --- |")  # noqa: T201
    for what, seconds, reference, beside in (
        ("a new environment, from the image of the settings (once)", cold, "-", baked),
        ("a new environment, from a baked image", baked, "30", baked),
        ("the same on three machines", three, "1.5 × baked", baked),
        ("`doit image` (once)", bake, "-", baked),
        ("a release with nothing to do", again, "1.0", again),
        ("the same on three machines", three_again, "1.5 × one", again),
    ):
        print(f"| {what} | {seconds:.2f} | {reference} | {seconds / beside:.2f} |")  # noqa: T201


def medians(figures: Iterable[tuple[float, float]]) -> tuple[float, ...]:
    """The median of each of the figures."""
    return tuple(map(statistics.median, zip(*figures, strict=True)))


def new(root: Path, **named: str) -> tuple[float, float]:
    """Seconds from the command to a page of the new environment, and of a release with nothing to do."""
    begun, words = time.monotonic(), [f"{name}={value}" for name, value in named.items()]
    doit(root, *words, "release")
    here = command_line.read(root, named)
    site = outside.site(here, here.host_name, outside.visitor(here))
    connection = site.connection(20)
    connection.request("GET", "/", headers=site.headers)
    if connection.getresponse().status != 200:
        sys.exit(f"{here.url} does not answer as it should")
    seconds = time.monotonic() - begun
    again = statistics.median(once(root, *words, "release") for _ in range(TIMES))
    doit(root, *words, "teardown")
    return seconds, again


if __name__ == "__main__":
    main()
