"""yes: answers the question of `doit continue` with yes, as a person does, and how long it takes then until visitors see it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

AWAITED = (b"Continue? [y/N]", b"ready ahead")
"""What is there before a person answers: the question, and the release, which nobody sees yet."""
LOOK_EVERY, LONGEST = 0.02, 60.0
"""Seconds between two looks at the site, and after which nobody waits for it any more."""


def seconds_to_visitors(
    command: Sequence[str], root: Path, page: Callable[[], str], mark: str, **environ: str
) -> float:
    """Seconds from the yes until visitors get a page with this mark. Raises RuntimeError with all that was said if the command fails."""
    typed, terminal = os.openpty()
    reading, writing = os.pipe()
    said, seconds = b"", 0.0
    with (
        os.fdopen(typed, "wb", buffering=0) as person,
        os.fdopen(reading, "rb", buffering=0) as output,
        subprocess.Popen(
            command,
            cwd=root,
            env={**os.environ, **environ},
            stdin=terminal,
            stdout=writing,
            stderr=writing,
        ) as child,
    ):
        for each in (terminal, writing):
            os.close(each)
        while not all(each in said for each in AWAITED) and (more := output.read(1 << 16)):
            said += more
        person.write(b"y\n")
        begun = time.monotonic()
        while child.poll() is None and not seconds and time.monotonic() - begun < LONGEST:
            time.sleep(LOOK_EVERY)
            if mark in page():
                seconds = time.monotonic() - begun
        said += output.readall()
    if child.returncode or not seconds:
        raise RuntimeError(said.decode(errors="replace"))
    return seconds
