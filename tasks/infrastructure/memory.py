"""memory: one document for each environment, of what its machines do not tell themselves: host keys, launch tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout

if TYPE_CHECKING:
    from tasks.bucket.store import Store


def read(store: Store, identity: str) -> dict[str, Any]:
    """What is remembered."""
    return change(store, identity, lambda document: document)


def change(
    store: Store, identity: str, changed: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """What is remembered from now on. Nothing is written when that is what was remembered before."""
    key = layout.machines(identity)
    document = store.read(key)
    before = {k: v for k, v in document.value.items() if k != "nonce"} if document else {}
    after = changed(before)
    if after != before:
        store.write(key, after, seen=document.etag if document else None)
    return after


def forget(store: Store, identity: str) -> None:
    """Forget host keys and launches."""
    change(store, identity, lambda document: {})
