"""streams: stdin, stdout and stderr, whatever the caller has made of them."""

from __future__ import annotations

import contextlib
import io
import os
import sys

NAMES = ("stdin", "stdout", "stderr")


def prepare() -> None:
    """Make the three streams usable: a closed one is the null device, and what it cannot encode is escaped.

    A closed descriptor would otherwise be given to the next file that is opened, and output would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
    for number, name in enumerate(NAMES):
        stream = getattr(sys, name)
        if stream is None:  # Python found it closed
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        if number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(text: str) -> None:
    """Write to stderr. If nobody reads it, the exit code has to do."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def broken() -> str:
    """The name of the stream that does not take what was written to it; empty if both do."""
    for name in NAMES[1:]:
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError):
            return name
    return ""


def give_up() -> None:
    """What is still buffered must not raise again at exit."""
    for number, name in enumerate(NAMES[1:], 1):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
