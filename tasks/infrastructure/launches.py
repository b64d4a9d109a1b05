"""launches: what is remembered of them: host keys, and the tokens of launches that were not seen to end."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout

if TYPE_CHECKING:
    from tasks.infrastructure.stage import Machine
    from tasks.run import Run


def pinned(run: Run, machines: Iterable[Machine]) -> list[dict[str, object]]:
    """Address and SSH host keys of machines; keys come from the console once, and count from then on."""
    known = _remember(run, lambda document: document).get("host_keys", {})
    machines = sorted(machines, key=lambda each: each.id)
    say = run.console.say("infrastructure")
    new = {each.id: run.cloud.host_keys(each.id, say) for each in machines if each.id not in known}
    if new:
        _remember(run, lambda d: {**d, "host_keys": {**d.get("host_keys", {}), **new}})
    return [
        {"id": each.id, "address": each.address, "host_keys": {**known, **new}[each.id]} for each in machines
    ]


def host_keys(run: Run) -> dict[str, list[str]]:
    """The SSH host keys that are known, by machine."""
    return dict(_remember(run, lambda document: document).get("host_keys", {}))


def forget(run: Run) -> None:
    """Forget host keys and launches."""
    _remember(run, lambda document: {})


def forget_launches(run: Run) -> None:
    """Forget the tokens: every machine that they stand for has been seen."""
    _remember(run, lambda document: {**document, "launch": {}})


def launch_token(run: Run, number: str, *, renew: bool = False) -> str:
    """A token written down before it is used: a run that was killed asks for the same machine again."""

    def kept(document: dict[str, Any]) -> dict[str, Any]:
        launch = dict(document.get("launch", {}))
        if renew or number not in launch:
            launch[number] = uuid.uuid4().hex
        return {**document, "launch": launch}

    return str(_remember(run, kept)["launch"][number])


def _remember(run: Run, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    store, key = run.store, layout.machines(run.identity)
    document = store.read(key)
    before = {k: v for k, v in document.value.items() if k != "nonce"} if document else {}
    after = change(before)
    if after != before:
        store.write(key, after, seen=document.etag if document else None)
    return after
