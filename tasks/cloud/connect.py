"""connect: the cloud that the settings name. Only the first request for a client connects, or starts a server."""

from __future__ import annotations

from typing import Literal

from tasks.cloud.interface import Cloud, Say


def to(name: Literal["embedded", "aws"], region: str, say: Say) -> Cloud:
    """The cloud of that name. Its first use starts the embedded one if it does not run.

    The first use raises a refusal of the embedded cloud's start, or CredentialsMissing.
    """
    if name == "embedded":
        from tasks.cloud.embedded import client  # either import would slow `doit list` down

        return client.connect(region, say)
    from tasks.cloud import aws  # as above

    return aws.Aws(region)
