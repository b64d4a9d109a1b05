"""printable: text of others, such as a commit's subject or a tool's output, as it may be shown to a person."""

from __future__ import annotations

import re

MARKUP = re.compile(r"[\\`*{}\[\]|~#]|\b_\B|\B_\b")
"""Characters that mean something to Markdown within a line."""


def printable(text: str) -> str:
    """The text with the escapes of its control characters and marks of direction, which would change what a reader sees.

    Lines stay lines, other blanks become spaces.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(each: str) -> str:
    if each.isprintable() or each == "\n":
        return each
    return " " if each.isspace() else each.encode("unicode_escape").decode()


def in_one_line(text: str) -> str:
    """The same in one line: a file name may hold a line break."""
    return printable(text).replace("\n", " ")


def markdown(text: str) -> str:
    """The text in one line that a Markdown page shows as it is."""
    words = " ".join(printable(text).split())
    return MARKUP.sub(r"\\\g<0>", words.replace("&", "&amp;").replace("<", "&lt;"))


def code(text: str) -> str:
    """The text as code in a line of a Markdown page."""
    return "`" + in_one_line(text).replace("`", "'") + "`"
