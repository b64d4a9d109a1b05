"""docs: the pages that are made from the code, so that they cannot be wrong for long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks import refusal, settings

MADE = "<!-- made by `doit docs`, a test fails when it is stale -->\n"


def pages() -> dict[Path, str]:
    """Each page by its path in the checkout."""
    return {Path("docs/errors.md"): errors(), Path("docs/settings.md"): all_settings()}


def errors() -> str:
    """Every refusal: when it happens, what it says, what to type, how the command ends."""
    lines = [
        "# Errors",
        MADE,
        "Each refusal is one sentence and, indented below it, what to type next. Exit codes: 1 failed or "
        "refused, 2 a mistake of ours, 3 no such stage, environment or setting, 130 and 143 interrupted.\n",
    ]
    for each in sorted(refusal.Refusal.__subclasses__(), key=lambda kind: kind.__name__):
        lines += [
            f"## {each.__name__}",
            f"{each.__doc__} Exit code {each.exit_code}.\n",
            "```text",
            each.sentence + (f"\n    {each.remedy}" if each.remedy else ""),
            "```\n",
        ]
    return "\n".join(lines)


def all_settings() -> str:
    """Every setting: type, default, help."""
    lines = [
        "# Settings",
        MADE,
        "What the repository decides. A misspelt key, a wrong type or a missing value is refused with file, "
        "line and what is known (exit code 3).\n",
    ]
    for title, kind in (
        ("pipeline.yml", settings.Pipeline),
        ("environments/NAME.yml", settings.Environment),
    ):
        lines += [f"## {title}\n", "| setting | type | default | what it is |", "| --- | --- | --- | --- |"]
        lines += [*_rows(kind), ""]
    return "\n".join(lines)


def _rows(kind: type) -> Iterator[str]:
    for path, expected, default, help in settings.declared(kind):
        yield f"| `{path}` | {expected} | {default} | {help} |"
