"""conditions: what is different about a build that is made only to be looked at, and never stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


def _nothing(folder: Path) -> None:
    """Look at nothing."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """`before`: words in front of each command. `environment`: variables beside the layer's.

    `shuffled`: folders list what they have in another order each time. `look` gets the folder that the commands see as
    /tmp, when they have ended and when one has failed.
    """

    before: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    shuffled: bool = False
    look: Callable[[Path], None] = _nothing


USUAL = Conditions()
"""A build as a release makes it."""
