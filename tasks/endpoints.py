"""endpoints: services that the settings have elsewhere, such as RDS and ElastiCache: what hosts are told of them, and whether they answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tasks import network
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.network import Connection, Service, Topology
    from tasks.run import Run

PROGRAM = "roles/endpoints/files/ask.py"
"""What hosts ask them with."""


class EndpointPasswordMissing(Refusal):
    """A service is elsewhere, and nobody has brought the password."""

    sentence = "environments/{environment}.yml: {key}: is {endpoint}, and there is no password"
    remedy = "doit environment={environment} secrets set {secret} < FILE"


class EndpointUnusable(Refusal):
    """A service that is elsewhere does not answer a host, is somebody else, or does not let the user in. Nothing is changed on the host."""

    sentence = "server: {problem}, as {host} sees it"
    remedy = "doit environment={environment} server  # once it can, or environments/{environment}.yml names another one"


def of(run: Run) -> list[Service]:
    """Those services to which clients log in with a secret that somebody brings."""
    return [each for each in run.network.services if each.host and each.secret]


def key(service: Service) -> str:
    """The setting that says where it is."""
    return f"server.{service.role}.{service.endpoint}"


def brought(run: Run) -> dict[str, Service]:
    """The names of those secrets."""
    return {each.secret: each for each in of(run)}


def way(service: Service) -> str:
    """How its password is replaced: whoever has the service accepts two of them for a while, and the hosts take the new one."""
    return f"doit secrets set {service.secret}, for {service} at {service.host} (docs/server.md)"


def passwords(run: Run, value: Callable[[str], str]) -> dict[str, str]:
    """The passwords by the names of their secrets, empty for a service of the hosts themselves. `value`: a secret, by its name.

    Raises EndpointPasswordMissing.
    """
    for each in of(run):
        if not value(each.secret):
            words = {"environment": run.environment_name, "key": key(each), "secret": each.secret}
            raise EndpointPasswordMissing(endpoint=f"{each.host}:{each.port}", **words)
    return {
        each.secret: value(each.secret) if each.host else "" for each in run.network.services if each.secret
    }


def asked(run: Run, place: Topology, application: str) -> list[dict[str, Any]]:
    """What the hosts of `place` ask: each service elsewhere that somebody on them connects to. `application`: its user there."""
    if (
        run.environment.egress == network.LISTED
    ):  # what is left goes through the proxy, which is not there yet
        return []
    found = []
    for each in run.network.services:
        clients = [way for client, way in each.clients if place.has(client, way.group)]
        if each.host and each.speaks and clients:
            found.append(
                {
                    "service": str(each),
                    "speaks": each.speaks,
                    "host": each.host,
                    "port": each.port,
                    "user": run.pipeline.name,
                    "secret": each.secret,
                    "as": _user(clients, application),
                }
            )
    return found


def _user(clients: list[Connection], application: str) -> str:
    """One of the host's users that may connect."""
    named = [name for each in clients for name in each.users]
    return application if network.APPLICATION in named[:1] else named[0] if named else "root"


def program(run: Run, asked: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
    """The program with what it is told before a host is provisioned. `variables`: those of the roles."""
    told = {
        "asked": asked,
        "passwords": variables["endpoints_passwords"],
        "authorities": variables.get("endpoints_authorities", ""),
        "provisioned": False,
    }
    return f"TOLD = {json.dumps(told)!r}\n{(run.root / PROGRAM).read_text()}"


def accept(run: Run, host: str, printed: str) -> None:
    """Raises EndpointUnusable for the problems that a host has printed."""
    if problems := json.loads(printed.splitlines()[-1]):
        raise EndpointUnusable(problem="; ".join(problems), host=host, environment=run.environment_name)
