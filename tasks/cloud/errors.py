"""errors: codes of the cloud API's errors, and the refusals that they become."""

from __future__ import annotations

import contextlib
import itertools
import sys
import traceback
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


class AwsSettingsWrong(Refusal):
    """What the SDK is given from outside does not work: a file or a variable of AWS's, a token, an address."""

    sentence = "cloud: the SDK cannot work with the AWS settings of this user or shell: {problem}"
    remedy = "aws configure list"


SDK = ("boto3", "botocore", "s3transfer")


def code(error: Any) -> str:
    """The service's name of an error, such as NoSuchKey."""
    return str(error.response["Error"]["Code"])


def status(error: Any) -> int:
    """The HTTP status of an error."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


FOR_CREDENTIALS = (
    *("AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"),
    *("GetRoleCredentials", "CreateToken"),
)
"""Requests by which the SDK gets credentials, in the middle of any other one."""


def forbidden(error: Any) -> bool:
    """Whether the service that was asked says no, and not the one that gives credentials."""
    return status(error) == 403 and error.operation_name not in FOR_CREDENTIALS


DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
"""What the services say to a caller who may not ask."""


def denied(error: BaseException) -> bool:
    """Whether the caller lacks a right."""
    return hasattr(error, "response") and code(error) in DENIED


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
    if "botocore.exceptions" not in sys.modules or isinstance(error, BrokenPipeError):
        return None
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        problem = f"{said.get('Code')}: {said.get('Message')}"
        return CloudRefused(action=error.operation_name, problem=problem)
    if isinstance(error, BotoCoreError):
        return CloudUnreachable(problem=str(error))
    return AwsSettingsWrong(problem=str(error) or type(error).__name__) if _raised_in_sdk(error) else None


def _raised_in_sdk(error: BaseException) -> bool:
    """Whether the last call of ours was one to the SDK, which raises whatever comes up in it."""
    rooms = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    below = itertools.takewhile(lambda room: room.partition(".")[0] != "tasks", reversed(rooms))
    return any(room.partition(".")[0] in SDK for room in below)
