"""usage: what can be typed: of one command, of a stage, of all; the usage, a sentence, the options."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

HELP = ("--help", "-h")
FIRST = 26
"""Columns of an option or a command."""
WIDE = 110
UNUSED = frozenset({"DB backend", "task loader", "doit core"})
"""Sections of doit's options that mean nothing here: dodo.py is where it is, the records lie in the bucket."""
UNSEEN = frozenset(
    {"auto_delayed_regex", "failure_verbosity", "outfile", "par_type", "pdb", "reporter", "verbosity"}
)
"""Options of `doit run` that the stages' own reporter and threads leave without effect."""
VARIABLES = "[environment=NAME] [branch=NAME]"


def asked(words: Iterable[str]) -> bool:
    """Whether help is asked for; what stands behind `--` is none of ours."""
    for word in words:
        if word == "--":
            return False
        if word in HELP:
            return True
    return False


def of_command(command: Any) -> str:
    """What a command takes."""
    usage = f"usage: doit {VARIABLES} {command.name} [OPTION ...] {command.doc_usage or ''}".rstrip()
    return _page(usage, _sentence(command.doc_purpose), command.doc_description, _options(command))


def of_stage(command: Any, name: str, doc: str) -> str:
    """What a stage takes: `command` is what runs it."""
    more = f"What it depends on: doit info {name}"
    return _page(
        f"usage: doit {VARIABLES} {name}", doc, more, ["options, before the stage:", *_rows(command)]
    )


def of_all(run: Any, commands: Mapping[str, Any]) -> str:
    """What there is; `run` is the command that need not be typed."""
    usage = f"usage: doit {VARIABLES} [COMMAND] [OPTION ...] [STAGE ...]"
    rows = [_row(name, commands[name].doc_purpose) for name in sorted(commands)]
    listed = ["commands, each with its own --help:", *rows, "", *_options(run)]
    return _page(usage, _sentence(run.doc_purpose), "The stages: doit list", listed)


def options(command: Any) -> list[Any]:
    """The options that mean something here."""
    return [
        each
        for each in command.cmdparser.options
        if (each.short or each.long) and each.section not in UNUSED and each.name not in UNSEEN
    ]


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
