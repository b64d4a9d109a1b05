"""printed: what a program printed, as clean lines; and of a failure the lines that say why."""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b(?:\][^\x07\x1b]*(?:\x07|\x1b\\)?|\[[0-?]*[ -/]*[@-~]|[@-Z\\^_]|[()][0-9A-B])")
"""Sequences that colour a terminal, move its cursor or name its window."""
_PROGRESS = re.compile(r"\d+/\d+.*\d+ ?%|^\s*\d+ ?%")
_THROWN = re.compile(r"In \S+ line \d+:")
_TRACE = re.compile(r"#\d+ |(Stack|Exception) trace:")


def line(text: str) -> str:
    """What a terminal shows at the end of a line: a progress bar as it was last drawn."""
    kept = ""
    for drawn in _ESCAPES.sub("", text).rstrip().split("\r"):
        kept = drawn.rstrip() or kept
    while (shorter := re.sub(r"[^\x08]\x08", "", kept)) != kept:
        kept = shorter
    return kept.replace("\b", "")


def lines(text: str) -> list[str]:
    """All lines, of which the empty ones part what belongs together. Of a progress bar the last one stays."""
    clean = [line(each) for each in text.split("\n")]
    return [
        each
        for each, after in zip(clean, [*clean[1:], ""], strict=True)
        if not (_PROGRESS.search(each) and _PROGRESS.search(after))
    ]


def reason(text: str, most: int) -> list[str]:
    """Why a program failed, in so many lines: what it threw, without the trace of calls; else its last words."""
    said = lines(text)
    for number, each in enumerate(said):
        if _THROWN.match(each.strip()):
            return _block(said[number + 1 :])[:most] or [each.strip()]
    for number, each in enumerate(said):
        if _TRACE.match(each.strip()):
            return _block(said[:number][::-1])[:most][::-1] or [each.strip()]
    return [each for each in said if each.strip()][-most:]


def _block(said: list[str]) -> list[str]:
    """The first lines until an empty one."""
    found: list[str] = []
    for each in said:
        if each.strip():
            found.append(each)
        elif found:
            break
    return found
