"""docs: generate pages from the code; a test fails if a page is stale."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import tasks
from tasks import profile, promises, settings
from tasks.refusal import Refusal

ROOMS = (
    "commands",
    "run",
    "source",
    "settings",
    "profile",
    "infrastructure",
    "tarball",
    "server",
    "release",
    "promotion",
)
"""The order of the page: what a user meets first, then the rest by name."""
HEAD = ("| setting | type | default | what it is |", "| --- | --- | --- | --- |")
ROOT = Path(tasks.__path__[0]).parent
MADE = "<!-- made by `doit docs`, a test fails when it is stale -->\n"


def pages() -> dict[Path, str]:
    """Each page by its path in the checkout. Promises are listed where their tests are."""
    made = {
        Path("docs/errors.md"): errors(),
        Path("docs/settings.md"): all_settings(),
        Path("docs/profiles.md"): profiles(),
    }
    listed = all_promises(made)
    return {**made, **({Path(promises.PAGE): listed} if listed else {})}


def errors() -> str:
    """Every refusal, by room: when it happens, its sentence, what to type, its exit code."""
    lines = [
        "# Errors",
        MADE,
        "Each refusal is one sentence and, indented below it, what to type next. "
        "<!-- promise: a-refusal-says-what-to-type --> Exit codes: 1 failed or "
        "refused, 2 a bug of the pipeline, 3 no such stage, environment or setting, 130 and 143 interrupted.\n",
    ]
    rooms: dict[str, list[type[Refusal]]] = {}
    for each in refusals():
        rooms.setdefault(_room(each), []).append(each)
    for room in sorted(rooms, key=lambda room: (ROOMS.index(room) if room in ROOMS else len(ROOMS), room)):
        lines.append(f"## {room}\n")
        for each in sorted(rooms[room], key=lambda kind: kind.__name__):
            lines += [
                f"### {each.__name__}",
                f"{each.__doc__} Exit code {each.exit_code}.\n",
                "```text",
                each.sentence + (f"\n    {each.remedy}" if each.remedy else ""),
                "```\n",
            ]
    return "\n".join(lines)


def refusals() -> list[type[Refusal]]:
    """Every refusal class. All modules are imported to find them."""
    for module in pkgutil.walk_packages(tasks.__path__, "tasks."):
        importlib.import_module(module.name)
    return [
        each
        for each in Refusal.__subclasses__()
        if each.__module__.startswith("tasks.") and "sentence" in vars(each)
    ]


def _room(kind: type[Refusal]) -> str:
    """The folder that declares it, or the module if it is in none: `tarball`, `settings`."""
    return kind.__module__.split(".")[1]


def all_settings() -> str:
    """Every setting with type, default and help."""
    lines = [
        "# Settings",
        MADE,
        "What the repository decides. A misspelt key, a wrong type or a missing value is refused with file, "
        "line and what is known (exit code 3). <!-- promise: wrong-settings-are-refused -->\n",
    ]
    for title, kind in (
        ("pipeline.yml", settings.Pipeline),
        ("environments/NAME.yml", settings.Environment),
        (settings.REQUIREMENTS, settings.Requirements),
    ):
        lines += [f"## {title}\n", *HEAD, *_rows(kind), ""]
    return "\n".join(lines)


def profiles() -> str:
    """Every key of a profile: type, default, help."""
    lines = [
        "# Profiles",
        MADE,
        "What `applications/NAME/profile.yml` may say of a kind of application: [application](application.md) tells how "
        "to write one. A misspelt key, a wrong type, a missing value, or the name of a layer, an option or a tool that "
        "the file does not declare is refused with file, line and what is known (exit code 3). "
        "<!-- promise: wrong-profiles-are-refused -->\n",
        "`layers[].name` is a key of each section of the list `layers`, `inherits.NAME.file` one of each section of the "
        "mapping `inherits`, whose names the file chooses.\n",
        *HEAD,
        *_rows(profile.ProfileFile),
        "",
    ]
    return "\n".join(lines)


def all_promises(made: Mapping[Path, str]) -> str:
    """Every promise of a page with its tests; nothing where no test names one, as in another team's repository.

    `made`: pages as they will be.
    """
    promised, proofs = promises.of(ROOT, made)
    if not proofs:
        return ""
    lines = [
        "# Promises",
        MADE,
        "What the pages promise, and for each promise the tests that fail when it is broken. A page marks a promise by a "
        "comment behind its sentence, a test names what it proves by a marker: [tour](tour.md). A promise without a test, "
        "and a marker without a promise, fail `build/ci/run test`.",
        *promises.page(promised, proofs),
        "",
    ]
    return "\n".join(lines)


def _rows(kind: type) -> Iterator[str]:
    roles, listed = settings.of_roles(ROOT), settings.every_role(ROOT)
    for path, expected, default, help in settings.declared(kind, roles, listed=listed):
        yield f"| `{path}` | {expected} | {default} | {help} |"
