"""caller: who acts, as the cloud says: names from CI or the shell are for display, this one is for approvals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.run import Run


@dataclass(frozen=True, kw_only=True)
class Caller:
    """`arn`: as `sts:GetCallerIdentity` gives it. `role`: the role or user, without the session's name."""

    arn: str

    @property
    def role(self) -> str:
        """`builder` for `arn:aws:sts::123:assumed-role/builder/session`, `kim` for `arn:aws:iam::123:user/kim`."""
        kind, _, path = self.arn.rpartition(":")[2].partition("/")
        name = path.split("/")[0] if kind == "assumed-role" else path.rpartition("/")[2]
        return name or kind


def caller(run: Run) -> Caller:
    """Who this process is for the cloud."""
    return Caller(arn=str(run.cloud.client("sts").get_caller_identity()["Arn"]))
