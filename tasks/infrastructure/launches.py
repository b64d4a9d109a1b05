"""launches: a token for each unfinished launch, so that no machine is made twice."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tasks.infrastructure import memory

if TYPE_CHECKING:
    from tasks.bucket.store import Store

FORMER = 20
"""So many tokens of former launches are kept: a run that stood still may launch with one when it goes on, and that machine is ours."""


def token(store: Store, identity: str, number: str, *, renew: bool = False) -> str:
    """A launch's token, stored before its first use: after a killed run, the next one gets the same machine with it."""

    def kept(document: dict[str, Any]) -> dict[str, Any]:
        launch = document.get("launch", {})
        if number in launch and not renew:
            return document
        former = [launch[number]] if number in launch else []
        return {**_with(document, former), "launch": {**launch, number: secrets.token_hex(16)}}

    return str(memory.change(store, identity, kept)["launch"][number])


def forget(store: Store, identity: str) -> None:
    """Ask for no launch again, once the cloud lists every machine that was launched."""

    def kept(document: dict[str, Any]) -> dict[str, Any]:
        return {**_with(document, document.get("launch", {}).values()), "launch": {}}

    memory.change(store, identity, kept)


def _with(document: dict[str, Any], tokens: Iterable[str]) -> dict[str, Any]:
    former = [*document.get("launched", ()), *tokens]
    return {**document, "launched": former[-FORMER:]} if former else document
