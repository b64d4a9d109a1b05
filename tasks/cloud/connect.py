"""connect: which cloud the settings name. Nothing is connected, and no server started, before a client is asked for."""

from __future__ import annotations

from typing import Literal

from tasks.cloud.interface import Cloud, Say


def to(name: Literal["embedded", "aws"], region: str, say: Say) -> Cloud:
    """The cloud of that name; the embedded one is started by its first use if it does not run.

    Raises, with its first use, a refusal of the embedded cloud's start or of AWS's credentials.
    """
    if name == "embedded":
        from tasks.cloud.embedded import client  # each costs its share of `doit list`

        return client.connect(region, say)
    from tasks.cloud import aws

    return aws.Aws(region)
