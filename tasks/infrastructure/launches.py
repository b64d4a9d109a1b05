"""launches: a token for each unfinished launch, so that no machine is made twice."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from tasks.infrastructure import memory

if TYPE_CHECKING:
    from tasks.bucket.store import Store


def token(store: Store, identity: str, number: str, *, renew: bool = False) -> str:
    """A launch's token, stored before its first use: after a killed run, the next one gets the same machine with it."""

    def kept(document: dict[str, Any]) -> dict[str, Any]:
        launch = dict(document.get("launch", {}))
        if renew or number not in launch:
            launch[number] = secrets.token_hex(16)
        return {**document, "launch": launch}

    return str(memory.change(store, identity, kept)["launch"][number])


def forget(store: Store, identity: str) -> None:
    """Forget the tokens, once the cloud lists every machine that was launched with them."""
    memory.change(store, identity, lambda document: {**document, "launch": {}})
