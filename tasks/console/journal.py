"""journal: a run's logs: one for each stage, and run.json: who, when, which commit, how long."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KEPT = 20
"""Runs of an environment whose logs are kept."""


def new(folder: Path) -> Path:
    """Make a folder for another run of an environment, in the temporary folder if need be; remove the oldest ones."""
    name = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S.%f}Z-{os.getpid()}"
    made = folder / name
    try:
        made.mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only checkout can still be released
        return Path(tempfile.mkdtemp(prefix=f"{folder.name}-{name}-"))
    for old in sorted(each for each in folder.iterdir() if each.is_dir())[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return made


def keep(folder: Path, text: str) -> str:
    """Write a traceback to a file of its own, and return where; in the temporary folder where `folder` takes none."""
    name = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S.%f}Z-{os.getpid()}.txt"
    for place in (folder, Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            if place == folder:
                for old in sorted(place.iterdir())[:-KEPT]:
                    old.unlink(missing_ok=True)
            return str(place / name)
    return os.devnull


class Journal:
    """The run.json of one run. It is written after each stage, so that a killed run leaves one too."""

    def __init__(self, folder: Path, **known: Any) -> None:
        self.folder = folder
        self.begun = time.monotonic()
        at = datetime.datetime.now(datetime.UTC)
        self.content: dict[str, Any] = {
            **known,
            "at": at.isoformat(timespec="seconds"),
            "began": round(at.timestamp(), 3),
            "outcome": "running",
            "stages": {},
            "phases": [],
            "facts": {},
        }
        self._write()

    def note(self, stage: str, words: str) -> None:
        """Write a line to a stage's log."""
        with contextlib.suppress(OSError), (self.folder / f"{stage}.log").open("a") as log:
            log.write(f"{datetime.datetime.now(datetime.UTC):%H:%M:%S} {words}\n")

    def stage(self, name: str, *, outcome: str, words: str, seconds: float, why: Iterable[str] = ()) -> None:
        """Record how a stage ended, and why it ran."""
        began = round(time.time() - seconds, 3)
        told = {
            "outcome": outcome,
            "words": words,
            "seconds": round(seconds, 2),
            "why": list(why),
            "began": began,
        }
        self.content["stages"][name] = told
        self._write()

    def phases(
        self, stage: str, host: str, took: Iterable[tuple[str, float]], *, at: float, problem: str
    ) -> None:
        """Record what a host did for a stage: phases with their seconds, of which the last ended at that time, maybe with a problem."""
        took = list(took)
        began = at - sum(seconds for _, seconds in took)
        for number, (name, seconds) in enumerate(took, 1):
            wrong = problem if number == len(took) else ""
            told = {"stage": stage, "host": host, "phase": name, "seconds": seconds, "problem": wrong}
            self.content["phases"].append({**told, "began": round(began, 3)})
            began += seconds

    def end(self, outcome: str, failures: list[str]) -> None:
        """Record how the run ended."""
        self.content |= {"outcome": outcome, "failures": failures}
        self._write()

    def _write(self) -> None:
        self.content["seconds"] = round(time.monotonic() - self.begun, 2)
        path = self.folder / "run.json"
        with contextlib.suppress(OSError):  # the stages report a full disk
            path.with_suffix(".new").write_text(json.dumps(self.content, indent=1) + "\n")
            path.with_suffix(".new").replace(path)
