"""errors: what an error of the cloud's API says, for those who handle it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


def code(error: Any) -> str:
    """The service's name of an error, such as NoSuchKey."""
    return str(error.response["Error"]["Code"])


def status(error: Any) -> int:
    """The HTTP status of an error."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


@contextlib.contextmanager
def already(*codes: str) -> Iterator[None]:
    """Let errors of these codes pass: an earlier run did it and did not get to say so."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "response") or code(error) not in codes:
            raise
