"""errors: what an error of the cloud's API says, for those who handle it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from tasks.refusal import Refusal


class CloudSaysNo(Refusal):
    """The cloud refuses a request that nobody expected it to: rights, limits, expired credentials."""

    sentence = "cloud: {action}: {problem}"
    remedy = "doit plan"


class CloudUnreachable(Refusal):
    """The cloud does not answer, or its answer got lost. What was begun goes on where it was."""

    sentence = "cloud: {problem}"
    remedy = "doit plan"


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


def refusal_of(error: BaseException) -> Refusal | None:
    """What an error of the cloud's API is to a person; None if it is no such error."""
    if "botocore.exceptions" not in sys.modules:
        return None
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        problem = f"{said.get('Code')}: {said.get('Message')}"
        return CloudSaysNo(action=error.operation_name, problem=problem)
    return CloudUnreachable(problem=str(error)) if isinstance(error, BotoCoreError) else None
