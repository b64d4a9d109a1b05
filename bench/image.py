"""bench: seconds until the site of a new branch answers, with a baked image and without.

Prints Markdown. Runs in a copy of the checkout and in a cloud of its own, which it deletes at the end.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.release import doit, once, project
from tasks.commands import command_line
from tasks.release import outside

BRANCHES = 3


def main() -> None:
    """Measure and print."""
    with project() as root:
        doit(root, "cloud", "start")
        doit(root, "branch=first", "release")  # the image of the settings is built, the tarball is stored
        doit(root, "branch=first", "teardown")
        cold = branch(root, "cold")
        bake = once(root, "image")
        baked = statistics.median(branch(root, f"baked-{number}") for number in range(BRANCHES))
    rows = [
        ("new branch, from the image of the settings", cold, "-"),
        (f"new branch, from a baked image (median of {BRANCHES})", baked, "30"),
        ("`doit image`", bake, "-"),
    ]
    print("| a new environment, tarball warm | seconds | reference | × baked |\n| --- | --- | --- | --- |")  # noqa: T201
    for what, seconds, reference in rows:
        print(f"| {what} | {seconds:.1f} | {reference} | {seconds / baked:.1f} |")  # noqa: T201


def branch(root: Path, name: str) -> float:
    """Seconds from the command to a page of the new environment."""
    begun = time.monotonic()
    doit(root, f"branch={name}", "release")
    here = command_line.read(root, {"branch": name})
    site = outside.site(here, here.host_name, outside.visitor(here))
    connection = site.connection(20)
    connection.request("GET", "/", headers=site.headers)
    if connection.getresponse().status != 200:
        sys.exit(f"{here.url} does not answer as it should")
    seconds = time.monotonic() - begun
    doit(root, f"branch={name}", "teardown")
    return seconds


if __name__ == "__main__":
    main()
