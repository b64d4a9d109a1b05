"""refusal: the base class: one sentence, one remedy, one exit code. Each class is beside the code that raises it.

`docs/errors.md` is generated from all of them (`doit docs`), and a test fails when it is stale.
"""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Sequence
from typing import ClassVar

from tasks.printable import printable

FAILED = 1
"""Failed or refused."""
BUG = 2
"""A bug of the pipeline."""
UNKNOWN = 3
"""No such stage, environment or setting."""


class Refusal(Exception):
    """One sentence that says what and where, and one line that says what to type next."""

    sentence: ClassVar[str]
    remedy: ClassVar[str]
    exit_code: ClassVar[int] = FAILED
    any_environment: ClassVar[bool] = False
    """Whether the remedy is typed without the `environment=` and `branch=` of the command that was refused."""

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """The sentence, then the remedy on an indented line of its own."""
        return self.told()

    def told(self, variables: Sequence[str] = ()) -> str:
        """The text, with a remedy for the same environment and branch: `variables` are the `name=value` that were typed."""
        remedy = self.remedy.format(**self.facts)
        if variables and not self.any_environment and "=" not in remedy:
            typed = " ".join(["doit", *map(shlex.quote, variables)])
            remedy = re.sub(r"\bdoit ", lambda _: f"{typed} ", remedy)  # `\1` in a branch's name is no group
        return printable(self.sentence.format(**self.facts) + (f"\n    {remedy}" if remedy else ""))

    @classmethod
    def fields(cls) -> set[str]:
        """Names of the facts that the sentence and the remedy are made of."""
        parts = string.Formatter().parse(cls.sentence + cls.remedy)
        return {name for _, name, _, _ in parts if name}
