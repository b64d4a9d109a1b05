"""streams: stdin, stdout and stderr, whatever the caller has made of them."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

NAMES = ("stdout", "stderr")


class Stream(io.TextIOWrapper):
    """stdout or stderr: what its encoding lacks is escaped, and an error says which stream does not take the text."""

    def __init__(self, number: int, name: str, encoding: str) -> None:
        binary = open(number, "wb", closefd=False)  # noqa: SIM115  a descriptor
        super().__init__(binary, encoding, errors="backslashreplace", line_buffering=os.isatty(number))
        self.label = name

    def write(self, text: str) -> int:
        """Write; an OSError has the stream's name."""
        with self._named():
            return super().write(text)

    def flush(self) -> None:
        """Flush; an OSError has the stream's name."""
        with self._named():
            super().flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = getattr(self, "label", "")
            raise


def prepare() -> None:
    """Make the three streams usable: a closed one is the null device, and what it cannot encode is escaped.

    A closed descriptor would otherwise be given to the next file that is opened, and output would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one
    if sys.stdin is None:  # Python found it closed
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    for number, name in enumerate(NAMES, 1):
        former = getattr(sys, name)
        made = Stream(number, name, former.encoding if former else "utf-8")
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)


def complain(text: str) -> None:
    """Write to stderr. If nobody reads it, the exit code has to do."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def give_up() -> None:
    """What is still buffered must not raise again at exit."""
    for number, name in enumerate(NAMES, 1):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
