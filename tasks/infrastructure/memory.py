"""memory: one document for each environment, with what the cloud does not store: host keys, launch tokens, DNS names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.bucket.store import BucketMissing

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


def is_own(document: Mapping[str, Any]) -> Callable[[str, str], bool]:
    """Tells by the environment's document of a machine, by its id and its launch token, whether it was launched or pinned for the environment.

    Its tags do not say that: other roles may make a machine with any tags that they may set. A token is known here alone.
    """
    ids = document.get("host_keys", {}).keys() | {*document.get("machines", ())}
    tokens = {*document.get("launch", {}).values(), *document.get("launched", ())}
    return lambda id, token: id in ids or token in tokens


def known(store: Store, identity: str) -> dict[str, Any]:
    """The environment's document; an empty one before there is a bucket."""
    try:
        return read(store, identity)
    except BucketMissing:
        return {}


def enter(store: Store, identity: str, *, machine: str = "", group: str = "") -> None:
    """Remember what was made: no list must show it at once."""

    def entered(document: dict[str, Any]) -> dict[str, Any]:
        machines = {*document.get("machines", ()), *filter(None, [machine])}
        return {**document, "machines": sorted(machines), **({"group": group} if group else {})}

    change(store, identity, entered)


def ways_out(document: Mapping[str, Any]) -> frozenset[tuple[str, int]]:
    """Protocols and ports by which the environment's hosts reach everything else, as they were provisioned last."""
    return frozenset((protocol, port) for protocol, port in document.get("ways_out", ()))


def drop(store: Store, identity: str, *, machines: Collection[str] = (), group: bool = False) -> None:
    """Forget what is no more."""

    def left(document: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in document.items() if not (group and name == "group")}
        ids = [each for each in kept.get("machines", ()) if each not in machines]
        return {**kept, "machines": ids} if "machines" in kept else kept

    change(store, identity, left)


def host_names(store: Store, identity: str) -> dict[str, str]:
    """Every DNS name that was made for the environment and not removed, with its zone. Records have no tags."""
    return dict(known(store, identity).get("host_names", {}))


def keep_host_name(store: Store, identity: str, host_name: str, zone: str) -> None:
    """Remember a name, before it is made."""

    def kept(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "host_names": {**document.get("host_names", {}), host_name: zone}}

    change(store, identity, kept)


def drop_host_name(store: Store, identity: str, host_name: str) -> None:
    """Forget a name, once it is removed."""
    if host_name in host_names(store, identity):
        change(store, identity, lambda document: _without(document, host_name))


def version(store: Store, identity: str) -> str | None:
    """The version of the environment's document; None if there is none."""
    document = store.read(layout.machines(identity))
    return document.etag if document else None


def forget(store: Store, identity: str, seen: str | None) -> None:
    """Forget all of the document in the version `seen`. Raises RecordTaken if another run has written it since."""
    document = store.read(layout.machines(identity))
    if document and seen and (document.etag != seen or document.value.keys() - {"nonce"}):
        store.write(layout.machines(identity), {}, seen=seen)


def _without(document: dict[str, Any], host_name: str) -> dict[str, Any]:
    names = {name: zone for name, zone in document["host_names"].items() if name != host_name}
    return {**document, "host_names": names}
