"""nearest: the known word that a misspelt one was meant to be, and the command line with that word in its place."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence

ALIKE = 0.55
"""How alike two words must be, of 1: `prod` is meant to be `production`, `go` is meant to be nothing that we know."""

BEGINNING = 3
"""Letters after which the rest of a word may be left out."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most like this one, or begins with it; None where none is."""
    import difflib  # 3 ms, and most words are spelt right

    words = list(known)
    begun = [each for each in words if len(word) >= BEGINNING and each.startswith(word)]
    return next(iter([*begun, *difflib.get_close_matches(word, words, n=1, cutoff=ALIKE)]), None)


def meant(word: str, known: Iterable[str]) -> str:
    """What a refusal of the word says before it lists what is known: `did you mean release? `, or nothing."""
    found = nearest(word, known)
    return f"did you mean {found}? " if found else ""


def retyped(word: str, right: str | None, typed: Sequence[str] | None = None) -> str | None:
    """What was typed after `doit`, with `right` in the place of a word; None where nothing is right, or the word was not typed.

    `typed`: the words; those of this process, unless others are given.
    """
    words = list(sys.argv[1:] if typed is None else typed)
    if right is None or word not in words:
        return None
    return shlex.join(right if each == word else each for each in words)
