"""behind: work that goes on beside a run, and that only those wait for who need it; the run's end waits for what is left."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
KINDNESS = 19
"""The processor goes first to what somebody waits for."""
KINDLY = ("sh", "-c", '{ echo 19 > /proc/self/autogroup; } 2> /dev/null; exec nice -n 19 "$@"', "kindly")
"""Words before a command that has the processor only while nobody else wants it.

Linux's autogroups share the processor between sessions: what is nice is so to its own session alone, and each child has one of its own.
"""

_begun: list[Future[Any]] = []


def begin(name: str, work: Callable[[], T], *, awaited: bool = True) -> Future[T]:
    """Start work in a thread that does not keep the process alive. `awaited`: the end of the run waits for it."""
    promised: Future[T] = Future()

    def do() -> None:
        with contextlib.suppress(OSError):  # a system without priorities of threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), KINDNESS)
        try:
            promised.set_result(work())
        except BaseException as error:
            promised.set_exception(error)

    if awaited:
        _begun.append(promised)
    threading.Thread(target=do, daemon=True, name=name).start()
    return promised


def finish() -> None:
    """Wait for what is awaited, and raise its first error."""
    errors = [error for each in _begun if (error := each.exception())]
    _begun.clear()
    for error in errors:
        raise error
