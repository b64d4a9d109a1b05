"""terminal: a changing line for each running stage, below the lines that stay."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from typing import TextIO

from tasks.printable import in_one_line

TICK = 0.2
"""Seconds between two updates of the lines."""
ERASE = "\x1b[J"
"""Erases from the cursor to the end of the screen. The cursor is never hidden, so no killed run leaves it hidden."""


def moves(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether lines can be overwritten: not in a file, a pipe or CI's log."""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"


class Lines:
    """The running stages on one terminal. Any thread may use it; a thread of its own updates the seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._stages: dict[str, tuple[float, str]] = {}
        self._drawn = 0
        self._ticking = False

    def begin(self, stage: str) -> None:
        """Add the line of a stage."""
        with self._lock:
            self._stages[stage] = time.monotonic(), ""
            self._draw()
            if not self._ticking:
                self._ticking = True
                threading.Thread(target=self._tick, name="clock", daemon=True).start()

    def say(self, stage: str, words: str) -> bool:
        """Set what a stage does now; False if it has no line."""
        with self._lock:
            if stage not in self._stages:
                return False
            self._stages[stage] = self._stages[stage][0], words
            return True

    def end(self, stage: str | None = None) -> None:
        """Remove the line of a stage; without a name, all lines."""
        with self._lock:
            for each in [stage] if stage else list(self._stages):
                self._stages.pop(each, None)
            self._draw()

    def above(self, text: str) -> None:
        """Print a line that stays."""
        with self._lock:
            self._draw(text + "\n")

    def _draw(self, above: str = "") -> None:
        """Draw everything in one write, so that nothing flickers."""
        home = "\r" + (f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else "") + ERASE if self._drawn else ""
        width = self._width()
        lines = [_line(stage, *self._stages[stage])[:width] for stage in self._stages]
        self._drawn = len(lines)
        if home or above or lines:
            with contextlib.suppress(OSError):  # the terminal is closed; the run goes on without it
                self._stream.write(home + above + "\n".join(lines))
                self._stream.flush()

    def _tick(self) -> None:
        while True:
            time.sleep(TICK)
            with self._lock:
                if not self._stages:
                    self._ticking = False
                    return
                self._draw()

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns - 1  # a full line would wrap
        except (OSError, ValueError):
            return 79


def _line(stage: str, begun: float, words: str) -> str:
    return f"{stage:<15} {time.monotonic() - begun:6.1f} s  {in_one_line(words)}"
