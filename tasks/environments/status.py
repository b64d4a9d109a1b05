"""status: every environment: what runs there, since when, who owns it, and whether it answers now."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.client
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.backup import access, restored
from tasks.backup.restored import BackupAge
from tasks.bucket import layout, lease
from tasks.cloud.errors import denied
from tasks.digest import Digest
from tasks.environments import cost, inventory
from tasks.environments.inventory import EnvironmentInventory, Inventory, survey
from tasks.placement import TAG
from tasks.release import history, outside
from tasks.release.phases import Site, Visitor
from tasks.run import full_host_name, full_store_names, over_https
from tasks.version import Version

if TYPE_CHECKING:
    import socket

    from tasks.bucket.store import Store
    from tasks.run import Run
    from tasks.settings import Environment

PATIENCE = 1.5
"""Seconds that a site has to answer; all sites are asked in parallel."""


WORDS = {200: "healthy", 401: "asks for a password", 502: "unreachable", 504: "unreachable"}
"""What a status of the site means; every other one means ill."""
ENDS_SOON = datetime.timedelta(days=21)
"""What is left of a certificate that nobody has renewed: what the pipeline makes or orders is renewed before."""
NO_VERSION, NO_DIGEST = Version(), Digest()


@dataclass(frozen=True, kw_only=True)
class EnvironmentStatus:
    """One environment. `health`: what its site answered just now; `stores`: the same of its other host names, by URL; `busy`: who holds its lease."""

    environment: str
    branch: str = ""
    commit: Version = NO_VERSION
    digest: Digest = NO_DIGEST
    released: str = ""
    by: str = ""
    machines: tuple[str, ...] = ()
    since: str = ""
    owner: str = ""
    expires: str = ""
    cost: float = 0.0
    """An estimate of what its machines and disks have cost so far."""
    busy: str = ""
    url: str = ""
    health: str = ""
    backup: BackupAge | None = None
    """None where nothing is backed up."""
    stores: Mapping[str, str] = field(default_factory=dict)


def look(run: Run, patience: float = PATIENCE) -> list[EnvironmentStatus]:
    """The status of every environment, by name."""
    # neither tarballs nor layers, of which there are thousands
    found = survey(run, [layout.below("history"), layout.below("machines")])
    # an environment with neither a machine nor a history is left to the sweep
    known = {
        name: sites_of(run, found.settings[environment], environment, name)
        for name, own in found.environments.items()
        if (environment := found.names.environment(name))
        and environment not in found.elsewhere
        and (own.instances or any(each.parsed and each.parsed.kind == "history" for each in own.objects))
    }
    prices = cost.prices()
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = pool.submit(health, run, list(known.values()), patience)
        last = pool.map(lambda name: next(reversed(history.read(run.store, name)), None), known)
        holders = pool.map(lambda name: _holder(run.store, name), known)
        ages = pool.map(lambda name: _backup(run, found, name), known)
        rows = zip(known.items(), last, holders, ages, strict=True)
        return [
            dataclasses.replace(
                _status(run, found.environments[name], sites, release, holder, answers.result(), patience),
                cost=round(cost.of(found.environments[name], found.at, prices).money, 2),
                backup=backup,
            )
            for (name, sites), release, holder, backup in rows
        ]


def elsewhere(run: Run) -> list[str]:
    """A line for each environment that is not looked for here."""
    names = sorted(inventory.elsewhere(run, inventory.files(run)))
    return [f"{name} is elsewhere: doit environment={name} status" for name in names]


@dataclass(frozen=True, kw_only=True)
class Sites:
    """The host names of an environment's site: its own first, then those of its stores. `of`: the name of the environment's file."""

    of: str
    https: bool
    names: tuple[str, ...]


def sites_of(run: Run, found: Environment, name: str, identity: str) -> Sites:
    """The sites of an environment."""
    zone = run.pipeline.dns_zone
    names = (full_host_name(found, identity, zone), *full_store_names(found, identity, zone))
    return Sites(of=name, https=over_https(run.profile, found), names=names)


def health(run: Run, asked: Sequence[Sites], patience: float) -> dict[str, str]:
    """What each site answers: `healthy: 200 in 0.02 s`, and whether its certificate ends soon. A site that is too slow is left out."""
    said: dict[str, str] = {}
    secure = {each.of for each in asked if each.https}
    with ThreadPoolExecutor(max_workers=8) as pool:
        trusted = dict(zip(secure, pool.map(lambda name: _trust(run, name), secure), strict=True))
    threads = [
        threading.Thread(
            target=_ask,
            args=(run, name, trusted[each.of] if each.https else None, said, patience),
            daemon=True,
        )
        for each in asked
        for name in each.names
    ]
    for each in threads:
        each.start()
    end = time.monotonic() + patience
    for each in threads:
        each.join(max(0.0, end - time.monotonic()))
    return dict(said)


def lines(found: Sequence[EnvironmentStatus], now: datetime.datetime) -> list[str]:
    """A line for each environment, in columns, and one for each host name of a store; then a sentence about each one's backups."""
    head = (
        "environment",
        "branch",
        "commit",
        "release",
        "age",
        "machine",
        "health",
        "backup",
        "owner",
        cost.prices().currency,
        "",
    )
    rows = [
        row
        for each in found
        for row in (
            (
                each.environment,
                each.branch,
                each.commit.marked,
                each.digest.id,
                age(each.since, now),
                ", ".join(each.machines) or "none",
                each.health,
                backed_up(each.backup, now),
                each.owner,
                f"{each.cost:.2f}",
                f"held by {each.busy}" if each.busy else each.url,
            ),
            *(("  a store", *[" "] * 5, health, " ", " ", " ", url) for url, health in each.stores.items()),
        )
    ]
    told = [f"{each.environment}: {each.backup.words(now)}" for each in found if each.backup]
    return [*columns([head, *rows]), *told] if rows else ["there is no environment"]


def backed_up(found: BackupAge | None, now: datetime.datetime) -> str:
    """The ages of the newest backup and of the newest restored one. What was never restored counts as none."""
    if found is None:
        return ""
    if not found.newest:
        return "none"
    newest = age(found.newest, now)
    return (
        f"{newest}, restored: {age(found.restored, now)}" if found.restored else f"none restored ({newest})"
    )


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """The rows, padded to columns."""
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
    own: EnvironmentInventory,
    sites: Sites,
    release: history.LiveRelease | None,
    holder: str,
    answers: Mapping[str, str],
    patience: float,
) -> EnvironmentStatus:
    tags, machines = own.tags, own.instances
    running = any(each.state == "running" for each in machines)
    found = {
        run.cloud.url(each, https=sites.https): answers.get(each, f"unreachable: no answer in {patience:g} s")
        if running
        else ""
        for each in sites.names
    }
    (url, health), *stores = found.items()
    return EnvironmentStatus(
        environment=own.identity,
        branch=release.branch if release else tags.get("branch", ""),
        commit=release.commit if release else Version(tags.get("commit", "")),
        digest=release.digest if release else NO_DIGEST,
        released=release.at if release else "",
        by=release.by if release else "",
        machines=tuple(
            " ".join(filter(None, (each.tags.get(TAG), each.id, each.state))) for each in machines
        ),
        since=min((each.made.isoformat() for each in machines if each.made), default=""),
        owner=tags.get("owner", ""),
        expires=tags.get("expires", ""),
        busy=holder,
        url=url,
        health=health,
        stores=dict(stores),
    )


def _trust(run: Run, name: str) -> ssl.SSLContext:
    try:
        return outside.trust(run, name)
    except Exception as error:
        if not denied(error):
            raise
    # whoever may not read its authority sees whether the site answers, and not whether browsers are warned of it
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def _ask(run: Run, name: str, tls: ssl.SSLContext | None, said: dict[str, str], patience: float) -> None:
    begun, https = time.monotonic(), tls is not None
    site = Site(name, *run.cloud.http_address(name, https=https), Visitor(https=https, tls=tls))
    try:
        with contextlib.closing(site.connection(patience)) as connection:
            ending = _ending(run, connection.sock)
            connection.request(
                "GET", run.profile.release.health_path, headers={**site.headers, "Connection": "close"}
            )
            status = connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        said[name] = f"ill: browsers warn of its certificate: {error.verify_message}"
    except (OSError, http.client.HTTPException) as error:
        said[name] = f"unreachable: {error or type(error).__name__}"
    else:
        words = WORDS.get(status, "ill")
        said[name] = f"{words}: {status} in {time.monotonic() - begun:.2f} s{ending}"


def _ending(run: Run, sock: socket.socket) -> str:
    """Words about a certificate that ends soon, as one that somebody has brought: no provisioning renews it."""
    shown = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    if not shown:  # it was not verified
        return ""
    ends = datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), datetime.UTC)
    return f", its certificate ends on {ends:%Y-%m-%d}" if ends - run.clock.now() < ENDS_SOON else ""


def _backup(run: Run, found: Inventory, identity: str) -> BackupAge | None:
    name = found.names.environment(identity)
    settings = found.settings.get(name or "")
    if not settings or not access.wanted(run, settings):
        return None
    return restored.look(run.store, identity, settings.backup.drill_days)


def _holder(store: Store, identity: str) -> str:
    found = lease.look(store, identity)
    return str(found.holder) if found.holder and not found.dead else ""
