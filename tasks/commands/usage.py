"""usage: the help of doit, a command or a stage: a usage line, a sentence, the options."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

HELP = ("--help", "-h")
FIRST = 26
"""Columns for an option or a command."""
WIDE = 110
UNUSED = frozenset({"DB backend", "task loader", "doit core"})
"""Sections of doit's options without effect here: the path of dodo.py is fixed, the records are in the bucket."""
UNSEEN = frozenset(
    {"auto_delayed_regex", "failure_verbosity", "outfile", "par_type", "pdb", "reporter", "verbosity"}
)
"""Options of `doit run` without effect here, because of our own reporter and threads."""
VARIABLES = "[environment=NAME] [branch=NAME]"


def asked(words: Iterable[str]) -> bool:
    """Whether the words ask for help; those after `--` belong to another program."""
    for word in words:
        if word == "--":
            return False
        if word in HELP:
            return True
    return False


def of_command(command: Any) -> str:
    """The help of a command."""
    usage = f"usage: doit {VARIABLES} {command.name} [OPTION ...] {command.doc_usage or ''}".rstrip()
    return _page(usage, _sentence(command.doc_purpose), command.doc_description, _options(command))


def of_stage(command: Any, name: str, doc: str) -> str:
    """The help of a stage. `command`: the command that runs it."""
    more = f"What it depends on: doit info {name}"
    return _page(
        f"usage: doit {VARIABLES} {name}", doc, more, ["options, before the stage:", *_rows(command)]
    )


def of_all(run: Any, commands: Mapping[str, Any]) -> str:
    """The help of doit. `run`: the command that need not be typed."""
    usage = f"usage: doit {VARIABLES} [COMMAND] [OPTION ...] [STAGE ...]"
    rows = [_row(name, commands[name].doc_purpose) for name in sorted(commands)]
    listed = ["commands, each with its own --help:", *rows, "", *_options(run)]
    return _page(usage, _sentence(run.doc_purpose), "The stages: doit list", listed)


def options(command: Any) -> list[Any]:
    """The options of a command that have an effect here."""
    return [each for each in command.cmdparser.options if (each.short or each.long) and not unused(each)]


def unused(option: Any) -> bool:
    """Whether an option of doit's has no effect here: it is not shown, and refused."""
    return option.section in UNUSED or option.name in UNSEEN


def _page(usage: str, sentence: str, more: str | None, rows: Iterable[str]) -> str:
    described = ["", *textwrap.wrap(more, WIDE)] if more else []
    return "\n".join([usage, "", *textwrap.wrap(sentence, WIDE), *described, "", *rows])


def _options(command: Any) -> list[str]:
    return ["options:", *_rows(command)]


def _rows(command: Any) -> Iterator[str]:
    for each in options(command):
        told = each.help % {"default": each.default}
        choices = "; ".join(f"{name}: {words}" for name, words in each.choices.items())
        yield _row(each.help_param(), f"{told} ({choices})" if choices else told)
        if each.inverse:
            yield _row(f"--{each.inverse}", f"the opposite of --{each.long}")
    yield _row(", ".join(reversed(HELP)), "print this")


def _row(first: str, words: str) -> str:
    lines = textwrap.wrap(" ".join(words.split()), WIDE - FIRST - 4) or [""]
    return textwrap.indent("\n".join(lines), " " * (FIRST + 4)).replace(
        " " * (FIRST + 4), f"  {first:<{FIRST}}  ", 1
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."
