"""gone: tells what is gone from what is forbidden. To a caller whose policy asks for tags, EC2 says no to both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from tasks.cloud.errors import denied
from tasks.infrastructure import find
from tasks.infrastructure.waiting import POLL

if TYPE_CHECKING:
    from tasks.run import Run

Kind = Literal["instance", "key pair", "security group", "volume", "image", "snapshot"]
LISTS: dict[Kind, tuple[str, str, str]] = {
    "instance": ("describe_instances", "instance-id", "Reservations"),
    "key pair": ("describe_key_pairs", "key-name", "KeyPairs"),
    "security group": ("describe_security_groups", "group-id", "SecurityGroups"),
    "volume": ("describe_volumes", "volume-id", "Volumes"),
    "image": ("describe_images", "image-id", "Images"),
    "snapshot": ("describe_snapshots", "snapshot-id", "Snapshots"),
}
"""The call that lists each kind, its filter by name, and where the answer has them."""
READS = 6
"""How often is looked: a list may be behind."""


@contextlib.contextmanager
def unless_gone(run: Run, kind: Kind, id: str) -> Iterator[None]:
    """Delete something here: a no of the cloud counts only while it lists what has that id (a key pair: that name)."""
    try:
        yield
    except run.cloud.client("ec2").exceptions.ClientError as error:
        if not denied(error) or not _gone(run, kind, id):
            raise


def _gone(run: Run, kind: Kind, id: str) -> bool:
    call, name, field = LISTS[kind]
    filters = [{"Name": name, "Values": [id]}]
    if kind == "instance":
        filters.append({"Name": "instance-state-name", "Values": [*find.ALIVE]})
    ask = getattr(run.cloud.client("ec2"), call)
    for _ in range(READS):
        if not ask(Filters=filters)[field]:
            return True
        run.threads.wait(POLL, "infrastructure")
    return False
