"""delegation: whether the parent of a zone names the zone's name servers. If not, nobody finds the names in it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from tasks.infrastructure import zone

if TYPE_CHECKING:
    from tasks.cloud.interface import Cloud

Ask = Callable[[str], Collection[str]]
"""The name servers that DNS has for a name. Raises OSError where DNS does not answer."""
WITHIN = 2.0
"""Seconds for which a release waits for the answer at its end; a record takes longer to be in sync."""


def missing(cloud: Cloud, name: str, ask: Ask) -> str:
    """What the parent lacks, in words; empty if it delegates the zone. Raises what `ask` raises."""
    servers, told = zone.name_servers(cloud, name), sorted(ask(name))
    if set(told) & set(servers):
        return ""
    return (
        f"the zone {name.partition('.')[2]} does not delegate {name}: DNS has {', '.join(told) or 'no name servers'} for it, "
        f"and it needs NS records for {', '.join(servers)}"
    )


def asked(cloud: Cloud, name: str, ask: Ask) -> Callable[[], list[str]]:
    """Ask aside. What is returned gives lines on what the parent lacks; none if the answer cannot be had, or not yet."""
    said: list[str] = []

    def look() -> None:
        with contextlib.suppress(Exception):  # whatever DNS says, or does not say: the release goes on
            if missing(cloud, name, ask):
                said.append(f"nobody finds {name} until the zone {name.partition('.')[2]} has these records:")
                said.extend(f"{name} NS {each}" for each in zone.name_servers(cloud, name))

    aside = threading.Thread(target=look, daemon=True)
    aside.start()

    def answer() -> list[str]:
        aside.join(WITHIN)
        return list(said)

    return answer
