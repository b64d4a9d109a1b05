"""caller: the identity that the cloud reports. Approvals compare it; names from CI or the shell are only shown."""

from __future__ import annotations

import re
from dataclasses import dataclass

GENERATED = re.compile(
    r"(botocore-session|aws-cli-session|aws-sdk-[a-z]+|aws-[a-z]+-sdk)-.*|githubactions|\d+|i-[0-9a-f]+|[0-9a-f]{32}"
)
"""Session names that an SDK, a CI action, a machine or a container makes up."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """`arn`: as `sts:GetCallerIdentity` returns it. `role`: the role or user, without the session's name. `person`: who it is."""

    arn: str

    @property
    def partition(self) -> str:
        """`aws`, or that of China or of the US government."""
        return self.arn.split(":")[1]

    @property
    def account(self) -> str:
        """The id of the account."""
        return self.arn.split(":")[4]

    @property
    def role(self) -> str:
        """`builder` for `arn:aws:sts::123:assumed-role/builder/session`, `kim` for `arn:aws:iam::123:user/kim`."""
        kind, _, path = self.arn.rpartition(":")[2].partition("/")
        name = path.split("/")[0] if kind == "assumed-role" else path.rpartition("/")[2]
        return name or kind

    @property
    def person(self) -> str:
        """`kim` for every role's `assumed-role/ROLE/kim` and for `user/kim`, in lower case; empty if the name is no person's."""
        kind, _, path = self.arn.rpartition(":")[2].partition("/")
        _, named, name = path.rpartition("/")
        if kind == "assumed-role" and not named:
            return ""
        name = name.casefold()
        return "" if kind == "assumed-role" and GENERATED.fullmatch(name) else name
