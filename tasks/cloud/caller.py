"""caller: the identity that the cloud reports. Approvals compare it; names from CI or the shell are only shown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Caller:
    """`arn`: as `sts:GetCallerIdentity` returns it. `role`: the role or user, without the session's name."""

    arn: str

    @property
    def role(self) -> str:
        """`builder` for `arn:aws:sts::123:assumed-role/builder/session`, `kim` for `arn:aws:iam::123:user/kim`."""
        kind, _, path = self.arn.rpartition(":")[2].partition("/")
        name = path.split("/")[0] if kind == "assumed-role" else path.rpartition("/")[2]
        return name or kind
