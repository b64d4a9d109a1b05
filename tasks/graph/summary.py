"""summary: a report of the run in Markdown, where each CI system shows it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.printable import code, markdown, printable

if TYPE_CHECKING:
    from tasks.run import Run

LONGEST = 200
"""Characters of a cell; longer texts are cut."""


def of_run(run: Run, content: Mapping[str, Any]) -> None:
    """Publish the report of a run. `content`: of its journal. The log folder gets a copy."""
    # without the cloud, the site's address is unknown
    url = run.url if run.cloud.connected and content["outcome"] in ("done", "nothing to do") else ""
    text = page(content, url=url)
    with contextlib.suppress(OSError):
        run.log("report").with_suffix(".md").write_text(text, encoding="utf-8", errors="backslashreplace")
    publish(run.root, text, url=url)


def of_lines(run: Run, command: str, lines: Iterable[str]) -> None:
    """Publish the report of a command without stages: the lines that it has printed."""
    text = "".join(f"    {printable(line)}\n" for line in lines)
    publish(run.root, f"## {code(f'doit {command}')}, by {markdown(run.who)}\n\n{text}")


def publish(root: Path, text: str, *, url: str = "", environ: Mapping[str, str] = os.environ) -> None:
    """Write the report where CI reads it: `.run/report.md` and `.run/report.env`, and the files that GitHub names."""
    with contextlib.suppress(OSError):  # a read-only checkout can still be released
        (root / ".run").mkdir(exist_ok=True)
        (root / ".run" / "report.md").write_text(text, encoding="utf-8", errors="backslashreplace")
        (root / ".run" / "report.env").write_text(f"URL={url}\n")
        for name, more in (("GITHUB_STEP_SUMMARY", text), ("GITHUB_OUTPUT", f"url={url}\n")):
            if environ.get(name):
                with Path(environ[name]).open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(more)


def page(content: Mapping[str, Any], *, url: str = "") -> str:
    """The content of a run's journal as Markdown."""
    stages = content["stages"]
    facts = {
        "URL": url,
        "commit": content["commit"],
        "by": content["by"],
        **{name: printable(words) for name, words in content.get("facts", {}).items()},
        "took": f"{content['seconds']:.1f} s (budget {content['budget']} s), from {content['at']}",
    }
    rows = [
        (name, told["outcome"], told["words"], "; ".join(told["why"]), f"{told['seconds']:.1f}")
        for name, told in stages.items()
    ]
    text = f"## {code(content['command'])}: {content['outcome']}, {content['environment']}\n\n"
    text += table(("", ""), [(name, value) for name, value in facts.items() if value])
    if rows:
        text += "\n" + table(("stage", "outcome", "what", "why", "seconds"), rows)
    for failure in content.get("failures", ()):
        text += "\n" + "".join(f"    {printable(line)}\n" for line in failure.splitlines())
    return text


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table. Cells are cut and escaped."""
    lines = [list(head), *(map(_cell, row) for row in rows)]
    shown = ["| " + " | ".join(line) + " |\n" for line in lines]
    columns = shown[0].count("|") - 1
    return "".join([shown[0], "|" + " --- |" * columns + "\n", *shown[1:]])


def _cell(text: str) -> str:
    words = " ".join(text.split())
    return markdown(words if len(words) <= LONGEST else words[:LONGEST] + "…")
