"""launches: a token for each launch that was not seen to end, so that no machine is made twice."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from tasks.infrastructure import memory

if TYPE_CHECKING:
    from tasks.bucket.store import Store


def token(store: Store, identity: str, number: str, *, renew: bool = False) -> str:
    """A token written down before it is used: a run that was killed asks for the same machine again."""

    def kept(document: dict[str, Any]) -> dict[str, Any]:
        launch = dict(document.get("launch", {}))
        if renew or number not in launch:
            launch[number] = uuid.uuid4().hex
        return {**document, "launch": launch}

    return str(memory.change(store, identity, kept)["launch"][number])


def forget(store: Store, identity: str) -> None:
    """Forget the tokens: every machine that they stand for has been seen."""
    memory.change(store, identity, lambda document: {**document, "launch": {}})
