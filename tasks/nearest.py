"""nearest: the known word that is closest to a misspelt one, and the command line with that word in its place."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence

ALIKE = 0.55
"""How similar two words must be, from 0 to 1 (difflib): `prod` matches `production`, `go` matches no known word."""
BEGINNING = 3
"""Letters of a known word that are enough to match it."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that begins with this one, or is most similar to it; None where no word is."""
    import difflib  # takes 3 ms, and most words are spelt correctly

    words = list(known)
    begun = [each for each in words if len(word) >= BEGINNING and each.startswith(word)]
    return next(iter([*begun, *difflib.get_close_matches(word, words, n=1, cutoff=ALIKE)]), None)


def meant(word: str, known: Iterable[str]) -> str:
    """The hint in a refusal of a word, before the list of known words: `did you mean release? `, or an empty text."""
    found = nearest(word, known)
    return f"did you mean {found}? " if found else ""


def retyped(word: str, correct: str | None, typed: Sequence[str] | None = None) -> str | None:
    """The words after `doit`, with `correct` in the place of a word; None without `correct`, or if the word was not typed.

    `typed`: the words; by default those of this process.
    """
    words = list(sys.argv[1:] if typed is None else typed)
    if correct is None or word not in words:
        return None
    return shlex.join(correct if each == word else each for each in words)
