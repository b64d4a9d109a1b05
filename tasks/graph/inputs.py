"""inputs: what a stage depends on, small and the same on every machine: git ids, settings, versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks import source

NEW = "has not run here yet"
ASKED = "asked of the cloud"


class GitIds:
    """doit's file checker, by content: the state of a file or folder is its git id.

    doit's own trusts the time of a file, and looks after the action: here everything is measured once, before.
    Paths are relative to the pipeline's folder. Ids are those of `git add -A` (`source.Snapshot`).
    """

    CheckerError = OSError
    root = Path()
    wanted: frozenset[str] = frozenset()
    """The paths of the whole graph: one git call answers for them all."""
    asked: Mapping[str, Callable[[], str]] = {}
    """Paths of which not everything counts, and who knows the id of what does."""

    def __init__(self) -> None:
        self.known: dict[str, str | None] = {}

    def id(self, path: str) -> str | None:
        """The git id of a path, None where git knows no such path."""
        if path not in self.known:
            self.known |= source.snapshot(self.root).ids({path, *self.wanted})
            self.known |= {each: ask() for each, ask in self.asked.items()}
        return self.known[path]

    def exists(self, path: str) -> bool:
        """Whether git would commit something there."""
        return self.id(path) is not None

    def info(self, path: str) -> str:
        """The id, for `check_modified`. Raises OSError where there is no such path."""
        found = self.id(path)
        if found is None:
            raise FileNotFoundError(path)
        return found

    def check_modified(self, path: str, info: str, state: str) -> bool:
        """Whether the path differs from what the last success saw."""
        return info != state

    def get_state(self, path: str, current: str | None) -> str:
        """What is kept in the record."""
        return self.info(path)


def checker(
    root: Path, paths: Iterable[str], asked: Mapping[str, Callable[[], str]] | None = None
) -> type[GitIds]:
    """The checker of a graph; doit makes one of it without arguments."""
    known = {"root": root, "wanted": frozenset(paths), "asked": asked or {}}
    return type("GitIdsOfTheGraph", (GitIds,), known)


class Named:
    """doit's `uptodate` for everything that is no file: each part by name, so that "why" has an answer.

    `parts` gives a mapping of names to values when it is needed; a value that the cloud must be asked for is a function
    that asks. Measured before the action and saved with its success. One per task.
    """

    def __init__(self, parts: Callable[[], Mapping[str, object]]) -> None:
        self.parts = parts
        self.changed: list[str] = []

    def now(self) -> dict[str, object]:
        """Every part as it is."""
        return {name: value() if callable(value) else value for name, value in self.parts().items()}

    def declared(self) -> dict[str, object]:
        """Every part that this machine knows; of the others, that they are asked for."""
        return {name: ASKED if callable(value) else value for name, value in self.parts().items()}

    def __call__(self, task: Any, values: Mapping[str, Any]) -> bool:
        """Whether every part is what it was at the last success."""
        now = self.now()
        task.value_savers.append(lambda: {"inputs": now})
        before = values.get("inputs")
        if before is None:
            self.changed = [NEW]
            return False
        self.changed = [
            f"{name} {words(before.get(name))} → {words(now.get(name))}"
            for name in sorted(now.keys() | before.keys())
            if now.get(name) != before.get(name)
        ]
        return not self.changed

    def __repr__(self) -> str:
        """What `doit info` shows as the reason."""
        return "; ".join(self.changed) or "as before"


class World:
    """doit's `uptodate` that asks the world: `ask` returns, in words, where it differs from what is wanted.

    `announced`: the differences are said when the stage runs. A stage that makes changes of them says those.
    """

    def __init__(self, ask: Callable[[], list[str]], *, announced: bool = False) -> None:
        self.ask = ask
        self.announced = announced
        self.changed: list[str] = []

    def __call__(self) -> bool:
        """Whether the world is as it should be."""
        self.changed = self.ask()
        return not self.changed

    def __repr__(self) -> str:
        """What `doit info` shows as the reason."""
        return "; ".join(self.changed) or "as wanted"


def words(value: object) -> str:
    """A value as a person writes it: no quotes, no brackets."""
    if value is None or value in ((), [], {}):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {words(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(words, value))
    return str(value)
