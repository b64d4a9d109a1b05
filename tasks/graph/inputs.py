"""inputs: what a stage depends on: git ids, settings and versions, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks import source

NEW = "has not run here yet"
ASKED = "asked of the cloud"


class GitIds:
    """doit's file checker, by content: the state of a file or folder is its git id.

    doit's own checker trusts a file's time and looks after the action. This one reads everything once, before the action.
    Paths are relative to the pipeline's folder. Ids are those of `git add -A` (`source.Snapshot`).
    """

    CheckerError = OSError
    root = Path()
    wanted: frozenset[str] = frozenset()
    """The paths of the whole graph: one git call reads all ids."""
    asked: Mapping[str, Callable[[], str]] = {}
    """Paths of which a part does not count, each with the function that gives the id of the rest."""

    def __init__(self) -> None:
        self.known: dict[str, str | None] = {}

    def id(self, path: str) -> str | None:
        """The git id of a path; None if git does not know the path."""
        if path not in self.known:
            self.known |= source.snapshot(self.root).ids({path, *self.wanted})
            self.known |= {each: ask() for each, ask in self.asked.items()}
        return self.known[path]

    def exists(self, path: str) -> bool:
        """Whether git would commit the path."""
        return self.id(path) is not None

    def info(self, path: str) -> str:
        """The id, for `check_modified`. Raises OSError if there is no such path."""
        found = self.id(path)
        if found is None:
            raise FileNotFoundError(path)
        return found

    def check_modified(self, path: str, info: str, state: str) -> bool:
        """Whether the path has changed since the last success."""
        return info != state

    def get_state(self, path: str, current: str | None) -> str:
        """What the record keeps."""
        return self.info(path)


def checker(
    root: Path, paths: Iterable[str], asked: Mapping[str, Callable[[], str]] | None = None
) -> type[GitIds]:
    """The checker class of a graph: doit calls it without arguments."""
    known = {"root": root, "wanted": frozenset(paths), "asked": asked or {}}
    return type("GitIdsOfTheGraph", (GitIds,), known)


class Named:
    """doit's `uptodate` for everything that is no file: each part has a name, so that `doit why` can tell which one changed.

    `parts` returns a mapping of names to values; a value that must be asked of the cloud is a function that asks.
    The values are read before the action and saved with its success. One per task.
    """

    def __init__(self, parts: Callable[[], Mapping[str, object]]) -> None:
        self.parts = parts
        self.changed: list[str] = []

    def now(self) -> dict[str, object]:
        """Every part with its value."""
        return {name: value() if callable(value) else value for name, value in self.parts().items()}

    def declared(self) -> dict[str, object]:
        """Every part with its value if this machine knows it, else with `ASKED`."""
        return {name: ASKED if callable(value) else value for name, value in self.parts().items()}

    def __call__(self, task: Any, values: Mapping[str, Any]) -> bool:
        """Whether every part is unchanged since the last success."""
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


class Unasked(str):
    """A difference that is only feared, as a host could not be asked: once its upstream has run, there may be none."""


class World:
    """doit's `uptodate` that looks at the cloud or the hosts: `ask` returns, in words, where they differ from what is wanted.

    `announced`: the differences are printed when the stage runs. Without it, the stage prints the changes that it makes.
    """

    def __init__(self, ask: Callable[[], list[str]], *, announced: bool = False) -> None:
        self.ask = ask
        self.announced = announced
        self.changed: list[str] = []

    def __call__(self) -> bool:
        """Whether cloud and hosts are as wanted."""
        self.changed = self.ask()
        return not self.changed

    def __repr__(self) -> str:
        """What `doit info` shows as the reason."""
        return "; ".join(self.changed) or "as wanted"


def words(value: object) -> str:
    """A value in words: no quotes, no brackets."""
    if value is None or value in ((), [], {}):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {words(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(words, value))
    return str(value)
