"""status: every environment that there is: what runs there, since when, for whom, and whether it answers now."""

from __future__ import annotations

import datetime
import http.client
import re
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks import history, lease, settings
from tasks.aws_error import code
from tasks.ec2 import ALIVE

if TYPE_CHECKING:
    from tasks.run import Run

PATIENCE = 1.5
"""Seconds that a site has for its answer; all sites are asked at once."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine of the project, as the cloud lists it."""

    id: str
    state: str
    type: str
    launched: datetime.datetime
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Status:
    """One environment. `health`: what it answered just now; `busy`: who changes it now."""

    environment: str
    branch: str = ""
    commit: str = ""
    digest: str = ""
    released: str = ""
    by: str = ""
    machines: tuple[str, ...] = ()
    since: str = ""
    owner: str = ""
    expires: str = ""
    busy: str = ""
    url: str = ""
    health: str = ""


def look(run: Run) -> list[Status]:
    """Every environment, by name; those that do not answer are named as such."""
    run.cloud.client("s3")  # made once, before threads ask for it
    with ThreadPoolExecutor(max_workers=16) as pool:
        machines = pool.submit(_machines, run)
        released, held = pool.submit(_names, run, "history"), pool.submit(_names, run, "leases")
        by_name: dict[str, list[Machine]] = {}
        for each in machines.result():
            by_name.setdefault(each.tags.get("environment", "none"), []).append(each)
        identities = sorted(by_name.keys() | released.result())
        last = pool.map(lambda name: _last(run, name), identities)
        holders = pool.map(lambda name: _holder(run, name) if name in held.result() else "", identities)
        sites = [host_name(run, name) for name in identities]
        answers = pool.submit(health, run, [name for name in sites if name])
        rows = zip(identities, last, holders, sites, strict=True)
        return [
            _status(run, name, release, holder, site, by_name.get(name, []), answers.result())
            for name, release, holder, site in rows
        ]


def host_name(run: Run, identity: str) -> str:
    """The host name of an environment, by its settings; empty where no settings are of that name."""
    for path in sorted((run.root / "environments").glob("*.yml")):
        found = settings.load(settings.Environment, path, run.root)
        pattern = re.escape(path.stem) + (r"-[0-9a-f]{10}" if found.per_branch else "")
        if re.fullmatch(pattern, identity):
            return f"{found.host_name or identity}.{run.pipeline.dns_zone}"
    return ""


def health(run: Run, names: Iterable[str]) -> dict[str, str]:
    """What each site answers, in words: `healthy, 0.02 s`. Who is slow is left behind."""
    said: dict[str, str] = {}
    threads = [threading.Thread(target=_ask, args=(run, name, said), daemon=True) for name in names]
    for each in threads:
        each.start()
    end = time.monotonic() + PATIENCE
    for each in threads:
        each.join(max(0.0, end - time.monotonic()))
    return dict(said)


def lines(found: Iterable[Status], now: datetime.datetime) -> list[str]:
    """What a person reads: a line for each environment, in columns."""
    head = ("environment", "branch", "commit", "release", "age", "machine", "health", "owner", "")
    rows = [
        (
            each.environment,
            each.branch,
            each.commit[:7] + ("-dirty" if each.commit.endswith("-dirty") else ""),
            each.digest[:16],
            age(each.since, now),
            ", ".join(each.machines) or "none",
            each.health,
            each.owner,
            f"held by {each.busy}" if each.busy else each.url,
        )
        for each in found
    ]
    return columns([head, *rows]) if rows else ["there is no environment"]


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows with their cells one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell or '-':<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip(" -")
        for row in rows
    ]


def age(since: str, now: datetime.datetime) -> str:
    """How long ago: `3 d`, `5 h`, `12 min`."""
    if not since:
        return ""
    minutes = int((now - datetime.datetime.fromisoformat(since)).total_seconds() // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"


def _status(
    run: Run,
    identity: str,
    release: history.Release | None,
    holder: str,
    site: str,
    machines: list[Machine],
    answers: Mapping[str, str],
) -> Status:
    tags = machines[0].tags if machines else {}
    running = any(each.state == "running" for each in machines)
    unreachable = f"unreachable: no answer in {PATIENCE} s"
    return Status(
        environment=identity,
        branch=release.branch if release else tags.get("branch", ""),
        commit=release.commit if release else tags.get("commit", ""),
        digest=release.digest if release else "",
        released=release.at if release else "",
        by=release.by if release else "",
        machines=tuple(f"{each.id} {each.state}" for each in machines),
        since=min(each.launched for each in machines).isoformat() if machines else "",
        owner=tags.get("owner", ""),
        expires=tags.get("expires", ""),
        busy=holder,
        url=run.cloud.url(site) if site else "",
        health=answers.get(site, unreachable) if running and site else "",
    )


def _ask(run: Run, name: str, said: dict[str, str]) -> None:
    begun = time.monotonic()
    connection = http.client.HTTPConnection(*run.cloud.http_address(name), timeout=PATIENCE)
    try:
        path = run.profile.release.get("health_path", "/")
        connection.request("GET", path, headers={"Host": name, "Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        said[name] = f"unreachable: {error or type(error).__name__}"
    else:
        words = "healthy" if status == 200 else "unreachable" if status in (502, 504) else "ill"
        said[name] = f"{words}: {status} in {time.monotonic() - begun:.2f} s"
    finally:
        connection.close()


def _machines(run: Run) -> list[Machine]:
    filters = [
        {"Name": "tag:project", "Values": [run.pipeline.name]},
        {"Name": "instance-state-name", "Values": list(ALIVE)},
    ]
    pages = run.cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
    return [
        Machine(
            id=each["InstanceId"],
            state=each["State"]["Name"],
            type=each["InstanceType"],
            launched=each["LaunchTime"],
            tags={tag["Key"]: tag["Value"] for tag in each["Tags"]},
        )
        for page in pages
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    ]


def _names(run: Run, kind: str) -> set[str]:
    """The environments that have a document of that kind."""
    client: Any = run.cloud.client("s3")
    try:
        keys = list(run.store.keys(f"{kind}/"))
    except client.exceptions.ClientError as error:
        if code(error) != "NoSuchBucket":
            raise
        return set()
    return {key.removeprefix(f"{kind}/").removesuffix(".json") for key in keys}


def _last(run: Run, identity: str) -> history.Release | None:
    return next(reversed(history.read(run.store, identity)), None)


def _holder(run: Run, identity: str) -> str:
    found = lease.look(run.store, lease.key(identity))
    return str(found.holder) if found.holder and not found.dead else ""
