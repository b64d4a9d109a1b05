"""console: prints what the pipeline does: on a terminal, in CI's log and in the run's own logs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from tasks.console import journal
from tasks.console.journal import Journal
from tasks.console.terminal import Lines, moves
from tasks.printable import in_one_line, printable

EVERY, SAME_EVERY = 1.0, 10.0
"""Seconds between two progress lines of one stage, and between two that say the same."""
WIDTH = 15
"""Columns of a stage's name."""


class Console:
    """The terminal, or CI's log. Stages use it from threads of their own.

    On a terminal each running stage has one line that says what it does; elsewhere it prints such a line now and then.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream
        self.lock = threading.Lock()
        self.spoken: dict[str, tuple[float, str]] = {}
        self.lines: Lines | None = None
        self.journal: Journal | None = None
        self._logs: Path | None = None
        self.steady = False
        """Whether the run goes on where its output cannot be written: a release is not left half-way for that."""
        self.lost: OSError | None = None
        """Why output is lost; the command that was steady raises it at its end."""
        self._once: set[tuple[str, str]] = set()

    def begin(self, stage: str) -> None:
        """A stage begins."""
        out = self.stream or sys.__stdout__
        if self.lines is None and out and moves(out):
            self.lines = Lines(out)
        if self.lines:
            self.lines.begin(stage)

    def end(self, stage: str | None = None) -> None:
        """A stage ends; without a name, all of them do."""
        if self.lines:
            self.lines.end(stage)

    def line(self, text: str) -> None:
        """Print a line at once, or several."""
        text = printable(text)
        if self.lines:
            self.lines.above(text)
            return
        with self.lock:
            out = self.stream or sys.__stdout__
            if out and not self.lost:
                self._write(out, text + "\n")

    def _write(self, out: TextIO, text: str) -> None:
        try:
            out.write(text)
            out.flush()
        except OSError as error:
            if not self.steady:
                raise
            self.lost = error

    def progress(self, stage: str, words: str) -> None:
        """Show what a stage is doing; in a log only some of it, so that the log stays readable."""
        if self.lines and self.lines.say(stage, words):
            return
        now, (before, last) = time.monotonic(), self.spoken.get(stage, (0.0, ""))
        if now - before >= (SAME_EVERY if words == last else EVERY):
            self.spoken[stage] = now, words
            self._indented(stage, words)

    def event(self, stage: str, words: str) -> None:
        """Print what a stage has done or is about to do: always a line."""
        if self.lines:
            self.lines.say(stage, words)
        if self.journal:
            self.journal.note(stage, printable(words))
        self._indented(stage, words)

    def note_fact(self, name: str, words: str) -> None:
        """Let the run's report say something of the whole run."""
        if self.journal:
            self.journal.content["facts"][name] = words

    def _indented(self, stage: str, words: str) -> None:
        self.line(f"  {stage:<{WIDTH - 2}} {in_one_line(words)[:100]}")

    def once(self, stage: str, words: str) -> None:
        """Print an event that several threads may report, the first time only."""
        with self.lock:
            said = (stage, words) in self._once
            self._once.add((stage, words))
        if not said:
            self.event(stage, words)

    def say(self, stage: str) -> Callable[[str], None]:
        """A function that shows what the stage is doing."""
        return lambda words: self.progress(stage, words)

    def logs(self, folder: Path) -> Path:
        """The folder of this run's logs, made below `folder` when it is first asked for."""
        with self.lock:
            if self._logs is None:
                self._logs = journal.new(folder)
            return self._logs
