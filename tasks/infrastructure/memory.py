"""memory: one document for each environment, with what the cloud does not store: host keys and launch tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout

if TYPE_CHECKING:
    from tasks.bucket.store import Store


def read(store: Store, identity: str) -> dict[str, Any]:
    """The environment's document."""
    return change(store, identity, lambda document: document)


def change(
    store: Store, identity: str, changed: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Replace the document by what `changed` makes of it, and return that. An unchanged document is not written."""
    key = layout.machines(identity)
    document = store.read(key)
    before = {k: v for k, v in document.value.items() if k != "nonce"} if document else {}
    after = changed(before)
    if after != before:
        store.write(key, after, seen=document.etag if document else None)
    return after


def forget(store: Store, identity: str) -> None:
    """Forget host keys and launch tokens."""
    change(store, identity, lambda document: {})
