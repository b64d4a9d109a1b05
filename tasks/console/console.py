"""console: what the pipeline says while it works: on a terminal, in a CI's log, and into the run's own logs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from tasks.console import journal
from tasks.console.journal import Journal
from tasks.console.terminal import Lines, moves, plain

EVERY, SAME_EVERY = 1.0, 10.0
"""Seconds between two progress lines of one stage, and between two that say the same."""
WIDTH = 15
"""Columns of a stage's name."""


class Console:
    """The terminal, or the CI's log. Stages speak from threads of their own.

    On a terminal each stage at work has one line that says what it does now; elsewhere that is a line now and then.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self.lock = threading.Lock()
        self.spoken: dict[str, tuple[float, str]] = {}
        self.lines: Lines | None = None
        self.journal: Journal | None = None
        self._logs: Path | None = None
        self._once: set[tuple[str, str]] = set()

    def begin(self, stage: str) -> None:
        """A stage starts to work."""
        out = self.stream or sys.__stdout__
        if self.lines is None and out and moves(out):
            self.lines = Lines(out)
        if self.lines:
            self.lines.begin(stage)

    def end(self, stage: str | None = None) -> None:
        """A stage, or every one, works no more."""
        if self.lines:
            self.lines.end(stage)

    def line(self, text: str) -> None:
        """One line, at once."""
        if self.lines:
            self.lines.above(text)
            return
        with self.lock:
            out = self.stream or sys.__stdout__
            if out:
                out.write(text + "\n")
                out.flush()

    def progress(self, stage: str, words: str) -> None:
        """What a stage is doing; not every word, so that a log stays readable."""
        if self.lines and self.lines.say(stage, words):
            return
        now, (before, last) = time.monotonic(), self.spoken.get(stage, (0.0, ""))
        if now - before >= (SAME_EVERY if words == last else EVERY):
            self.spoken[stage] = now, words
            self._indented(stage, words)

    def event(self, stage: str, words: str) -> None:
        """What a stage has done or is about to: always a line."""
        if self.lines:
            self.lines.say(stage, words)
        if self.journal:
            self.journal.note(stage, words)
        self._indented(stage, words)

    def _indented(self, stage: str, words: str) -> None:
        self.line(f"  {stage:<{WIDTH - 2}} {plain(words)[:100]}")

    def once(self, stage: str, words: str) -> None:
        """An event that several may tell of; it is said the first time."""
        with self.lock:
            said = (stage, words) in self._once
            self._once.add((stage, words))
        if not said:
            self.event(stage, words)

    def say(self, stage: str) -> Callable[[str], None]:
        """A function that tells what the stage is doing now."""
        return lambda words: self.progress(stage, words)

    def logs(self, folder: Path) -> Path:
        """The folder of this run's logs, made below `folder` when it is first asked for."""
        with self.lock:
            if self._logs is None:
                self._logs = journal.new(folder)
            return self._logs
