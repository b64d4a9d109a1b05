"""finding: what one look for a thing says: what was found, what is missing and what to type, or why it could not be looked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tasks.cloud.errors import denied, refusal_of
from tasks.refusal import Refusal


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something is missing: a sentence that says what, and a line that can be typed."""

    sentence: str
    remedy: str


Check = Callable[[], str | Finding]
"""Looks for one thing; returns what it has found, or a finding."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A thing that was looked for, by name. One of the others is set; `unknown`: why nobody can say."""

    what: str
    found: str = ""
    missing: Finding | None = None
    unknown: str = ""


def examine(what: str, check: Check) -> Examined:
    """Look for a thing. A refusal is a finding; a right that the caller lacks leaves the thing unknown."""
    try:
        answer = check()
    except Refusal as refusal:
        answer = _of(refusal)
    except Exception as error:
        if denied(error):
            return Examined(what=what, unknown=f"these credentials may not ask: {error}")
        if (said := refusal_of(error)) is None:
            raise
        answer = _of(said)
    if isinstance(answer, Finding):
        return Examined(what=what, missing=answer)
    return Examined(what=what, found=answer)


def _of(refusal: Refusal) -> Finding:
    sentence, remedy = (each.format(**refusal.facts) for each in (refusal.sentence, refusal.remedy))
    return Finding(sentence=sentence, remedy=remedy)
