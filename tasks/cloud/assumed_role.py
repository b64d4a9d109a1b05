"""assumed_role: credentials that end, and are taken anew before they do: those of a role."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.cloud.caller import Caller


class RoleRefused(Refusal):
    """The caller's own credentials may not assume the role that the environment's file names, or there is no such role."""

    sentence = "cloud: {caller} may not assume {role} ({problem})"
    remedy = "aws sts assume-role --role-arn {role} --role-session-name {session}"


def assume(sts: Any, arn: str, caller: Caller) -> Mapping[str, Any]:
    """Credentials of a role, in a session that has the person's name. `sts`: with the caller's own. Raises RoleRefused."""
    session = (caller.person or caller.role).ljust(2, "-")  # AWS asks for two characters
    try:
        taken: Mapping[str, Any] = sts.assume_role(RoleArn=arn, RoleSessionName=session)
    except sts.exceptions.ClientError as error:
        problem = error.response["Error"]["Message"]
        raise RoleRefused(caller=caller.arn, role=arn, session=session, problem=problem) from None
    return taken


def register(session: Any, method: str, take: Callable[[], Mapping[str, Any]]) -> None:
    """Let botocore's session have only the credentials that `take` asks STS for, at their first use and before they end."""
    from botocore.credentials import CredentialResolver, DeferredRefreshableCredentials

    class EndingCredentials:
        METHOD = method

        def load(self) -> Any:
            return DeferredRefreshableCredentials(lambda: _named(take()), method)

    session.register_component("credential_provider", CredentialResolver([EndingCredentials()]))


def _named(taken: Mapping[str, Any]) -> dict[str, str]:
    """STS's answer, by botocore's names."""
    credentials = taken["Credentials"]
    return {
        "access_key": credentials["AccessKeyId"],
        "secret_key": credentials["SecretAccessKey"],
        "token": credentials["SessionToken"],
        "expiry_time": credentials["Expiration"].isoformat(),
    }
