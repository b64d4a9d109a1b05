"""lifecycle: creates, starts, stops and deletes the user's embedded cloud."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tasks import environ as variables
from tasks.cloud.embedded import containers, debian_root, home, nft
from tasks.cloud.embedded.address import LOOPBACK
from tasks.cloud.embedded.home import CloudIdentity, Home, described
from tasks.cloud.embedded.listen import listen, listen_somewhere
from tasks.cloud.interface import Say
from tasks.full_disk import DiskFull
from tasks.process import children, life
from tasks.refusal import Refusal

ROOT = Path(__file__).parents[3]
START_WITHIN, STOP_WITHIN = 90.0, 60.0
FREED_WITHIN = 1.0
"""Seconds that a killed server may still hold its ports."""
POLL = 0.02
MEMORY = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "262144"}
"""Settings of malloc that return an upload's memory to the machine."""


class NoAddressRange(Refusal):
    """This machine's routes take every private /24, so none is left for the cloud."""

    sentence = "cloud: no private address range is free on this machine"
    remedy = "podman network ls"


class PortWrong(Refusal):
    """The variable CLOUD_PORT is not a port number."""

    sentence = "cloud: CLOUD_PORT={value}: should be a number from 1 to 65535"
    remedy = "unset CLOUD_PORT"


class PortTaken(Refusal):
    """Another program listens on the port of the embedded cloud's API."""

    sentence = "cloud: port {port} (the API) is in use by another program"
    remedy = "ss -ltnp 'sport = :{port}'"


class SitesPortTaken(Refusal):
    """Another program, maybe another cloud, listens on the port at which the embedded cloud shows sites."""

    sentence = "cloud: port {port} (sites by name) is in use by another program; another port works as well"
    remedy = "CLOUD_PORT={free} doit cloud start"


class ServerFailed(Refusal):
    """The embedded cloud's server ended or did not start; the last lines of its log are shown."""

    sentence = "cloud: the server {problem} (whole log: {log})\n{tail}"
    remedy = "doit cloud status"


def start(say: Say, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Start the cloud unless it runs; the first start creates it.

    A new cloud has faults if CLOUD_FAULTS=1. The port of sites is that of CLOUD_PORT, also at a later start.
    Raises PodmanMissing, PodmanRefused, NoAddressRange, PortTaken, SitesPortTaken, ServerFailed or DiskFull.
    """
    place = home.of(environ)
    with place.locked():  # of several commands at once, one starts the server
        if place.running():
            return ["cloud: runs already"]
        demanded = _demanded_port(environ)
        identity = place.identity() or _create(place, say, environ)
        if demanded:
            identity = place.change(identity, forward_port=demanded)
        _accept_ports(identity)
        say("starting the embedded cloud")
        _spawn(place)
    if problem := nft.problem():
        say(problem)
    return ["cloud: started", *described(place)]


def stop(say: Say, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Stop the server and the hosts; data and disks are kept, and the next start starts them again."""
    place = home.of(environ)
    with place.locked():
        identity = place.identity()
        if not identity:
            return ["cloud: there is none"]
        say("stopping the server")
        _end_server(place)
        say("stopping the hosts")
        place.change(identity, paused=True)
        stopped = containers.Containers(identity.id).stop_all()
    return [f"cloud: stopped, {stopped} hosts with it; their disks and all data are kept"]


def delete(say: Say, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Remove the cloud: processes, hosts, images, network, files."""
    place = home.of(environ)
    if not place.folder.exists():
        return ["cloud: there is none"]
    with place.locked():
        identity = place.identity()
        say("stopping the server")
        _end_server(place)
        if identity:
            say("removing hosts, images and network")
            containers.Containers(identity.id).remove_all()
            debian_root.remove_unclaimed()
        place.remove()
    with contextlib.suppress(OSError):
        place.folder.parent.rmdir()
    return [f"cloud: deleted, nothing of it is left below {place.folder.parent}"]


def _create(place: Home, say: Say, environ: Mapping[str, str]) -> CloudIdentity:
    say("preparing a network")
    containers.usable()
    id = secrets.token_hex(4)
    ours = containers.Containers(id)
    for subnet in containers.ranges(id):
        if ours.create_network(subnet):
            identity = CloudIdentity(
                id=id,
                subnet=subnet,
                gateway=subnet.replace(".0/24", ".1"),
                key=secrets.token_hex(16),
                secret=secrets.token_hex(32),
                faults=environ.get("CLOUD_FAULTS") == "1",
                boot=life.this_boot(),
            )
            try:
                return place.change(identity)
            except DiskFull:
                ours.remove_all()  # without an identity nothing would own the network
                raise
    raise NoAddressRange


def _demanded_port(environ: Mapping[str, str]) -> int:
    """The port that CLOUD_PORT names; 0 for any. Raises PortWrong."""
    demanded = environ.get("CLOUD_PORT") or "0"
    if not demanded.isdecimal() or int(demanded) > 65535:
        raise PortWrong(value=demanded)
    return int(demanded)


def _accept_ports(identity: CloudIdentity) -> None:
    if not _is_free(identity.port):
        raise PortTaken(port=identity.port)
    if not _is_free(identity.forward_port):
        with listen_somewhere(LOOPBACK) as other:
            raise SitesPortTaken(port=identity.forward_port, free=other.getsockname()[1])


def _is_free(port: int) -> bool:
    """Whether nobody listens there; 0 is no port yet. Waits a moment: a server that has just ended may still have it."""
    deadline = time.monotonic() + FREED_WITHIN
    while port:
        try:
            listen(LOOPBACK, port).close()
            break
        except OSError:
            if time.monotonic() > deadline:
                return False
        time.sleep(POLL)
    return True


def _spawn(place: Home) -> None:
    place.log.touch(mode=0o600)
    # the checkout may be removed while the server runs: so it runs in its own folder, and imports everything first
    environment = {**variables.of("cloud"), **MEMORY, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with place.log.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "tasks.cloud.embedded.daemon", str(place.folder)],
            cwd=place.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_WITHIN
    while place.running() != server.pid:
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            problem = "ended at once" if server.returncode else f"was not ready in {START_WITHIN:.0f} s"
            tail = children.tail(place.log.read_text(errors="replace"))
            raise ServerFailed(problem=problem, log=place.log, tail=tail)
        children.wait(POLL, stage="cloud")


def _end_server(place: Home) -> None:
    pid = place.running()
    if not pid:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_WITHIN
    while place.running() == pid:
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL)
