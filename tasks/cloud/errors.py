"""errors: codes of the cloud API's errors, and the refusals that they become."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from tasks.refusal import Refusal


class CloudRefused(Refusal):
    """The cloud refuses a request: missing rights, a limit, expired credentials."""

    sentence = "cloud: {action}: {problem}"
    remedy = "doit plan"


class CloudUnreachable(Refusal):
    """The cloud does not answer, or its answer got lost. The next run continues what was begun."""

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
    """Ignore errors of these codes: an earlier run did it, and was interrupted before it could record that."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "response") or code(error) not in codes:
            raise


def refusal_of(error: BaseException) -> Refusal | None:
    """The refusal that an error of the cloud's API becomes; None for any other error."""
    if "botocore.exceptions" not in sys.modules:
        return None
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        problem = f"{said.get('Code')}: {said.get('Message')}"
        return CloudRefused(action=error.operation_name, problem=problem)
    return CloudUnreachable(problem=str(error)) if isinstance(error, BotoCoreError) else None
