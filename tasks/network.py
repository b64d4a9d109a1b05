"""network: who talks to whom: what each role listens on and connects to, declared in `roles/ROLE/meta/network.yml` and nowhere else.

The bindings and addresses in templates, the hosts' firewall, the security group, the start order and `doit graph server` are
made of it.
"""

# without `annotations` of __future__: types that are texts are read again by each dataclass, at every start

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from tasks import forms
from tasks.placement import Placement
from tasks.settings import OF_PLAYBOOKS, TOLD, Read, read, role, role_names, setting

INTERNET, BUCKET = "internet", "bucket"
"""Where a connection may go that is no service of a role."""
APPLICATION = "application"
"""In place of a user's name: those that the role of that name makes."""
FIREWALL, PROXY, RESOLVER = "firewall", "proxy", "resolver"
LISTED = "listed"
"""The environment's `egress` with which hosts reach what is listed, through the proxy, and nothing else."""
LOOPBACK, ALL = "127.0.0.1", "0.0.0.0"  # noqa: S104  the firewall says who gets there
OPEN_TO = ("ssh_from", "http_from")
"""The settings that `open_to` may name."""
HERE = ("", "stand-in", "localhost")
"""What an option that may name another host has where the role itself serves."""

# --- what network.yml may say ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A TCP port that a role's service listens on, on loopback unless somebody from elsewhere may reach it."""

    name: str = setting("its name within the role: it is the service ROLE.NAME", form=forms.FOLDER)
    port: int = setting("the port; 0: `port_option` has it", 0, form=forms.between(0, 65535))
    port_option: str = setting("the role's option that has the port", "")
    open_to: tuple[Literal["ssh_from", "http_from"], ...] = setting(
        "settings whose networks may reach it; beside them only the roles that connect to it", ()
    )
    when: str = setting("the role's option that must be set, else nothing listens; empty: always", "")
    endpoint: str = setting(
        "the role's option that may name another host, or HOST:PORT, which has the service then", ""
    )
    secret: str = setting(
        "the secret with which clients log in to that host: somebody brings it, and the variable of its name has it; empty: none",
        "",
    )
    speaks: str = setting(
        "how that host is asked whether it answers, a function of roles/endpoints/files/ask.py; empty: it is not asked",
        "",
    )
    unit: str = setting("the systemd unit that listens", "")
    udp: bool = setting("whether it listens on the port's UDP as well", False)
    egress: Literal["", "listed"] = setting("only where the environment's egress is so; empty: always", "")
    group: str = setting(
        "of the groups of its role, the one whose machines have it; empty, or none of them: all", ""
    )


@dataclass(frozen=True, kw_only=True)
class ApplicationConnection:
    """What the application connects to. Nobody else gets there."""

    to: str = setting(
        "a service ROLE.NAME; `bucket`, which has the tarballs; or `internet`", form=forms.FILLED
    )
    ports: tuple[int, ...] = setting("ports of the internet", (), form=forms.between(1, 65535))
    protocol: Literal["tcp", "udp"] = setting("the protocol, of the internet", "tcp")
    each: bool = setting("on every host that has the service, not only on the nearest", False)
    networks: tuple[str, ...] = setting(
        "networks of the internet that a group does not filter, as they are the cloud's own; none: all of the internet",
        (),
        form=forms.NETWORK,
    )
    egress: Literal["", "open", "listed"] = setting(
        "only where the environment's egress is so; empty: always, and through the proxy where it is listed",
        "",
    )


@dataclass(frozen=True, kw_only=True)
class Connection(ApplicationConnection):
    """What a role connects to."""

    users: tuple[str, ...] = setting(
        "users of the host that connect, `application` for both of the application's; none: all of them",
        (),
        form=forms.USER,
    )
    when: str = setting("the role's option that must be set, else it does not connect; empty: always", "")
    group: str = setting(
        "of the groups of the role that connects, the one whose machines do; empty, or none of them: all", ""
    )
    client: str = setting(
        "the role that connects, if it is another one; where hosts do not have it, nobody does", ""
    )


@dataclass(frozen=True, kw_only=True)
class NetworkFile:
    """roles/ROLE/meta/network.yml: what a role listens on and connects to."""

    listens: tuple[Listener, ...] = setting("what its service listens on", ())
    connects: tuple[Connection, ...] = setting("what it connects to", ())


# --- what a profile's roles make of it ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Service:
    """A port that somebody listens on. `clients`: who connects, each with the role that does; `host`: the one elsewhere that has it.

    `endpoint`: the role's option that may name that host; `secret` and `speaks`: how clients log in there, and what is spoken.
    """

    role: str
    name: str
    port: int
    open_to: tuple[str, ...]
    unit: str
    host: str = ""
    endpoint: str = ""
    secret: str = ""
    speaks: str = ""
    clients: tuple[tuple[str, Connection], ...] = ()
    protocols: tuple[str, ...] = ("tcp",)
    group: str = ""

    def __str__(self) -> str:
        """As connections name it."""
        return f"{self.role}.{self.name}"

    @property
    def users(self) -> tuple[str, ...]:
        """Who on its host may connect, beside root, where all roles are on one; none: everybody."""
        return self.users_among(each for _, each in self.clients)

    def users_among(self, clients: Iterable[Connection]) -> tuple[str, ...]:
        """Who on its host may connect, beside root, if these are its clients there; none: everybody."""
        clients = list(clients)
        if self.open_to or not all(each.users for each in clients):
            return ()
        return tuple(sorted({"root"}.union(*(each.users for each in clients))))


@dataclass(frozen=True, kw_only=True)
class Network:
    """The services of a profile's roles, and the ways out of its hosts: the role and its connection.

    `listed`: each NAME:PORT to which the proxy leads, beside the bucket and where packages come from.
    """

    services: tuple[Service, ...]
    outward: tuple[tuple[str, Connection], ...]
    listed: tuple[str, ...] = ()

    @property
    def absent(self) -> frozenset[str]:
        """Roles that no machine has: other hosts have all of their services, and they connect to nothing themselves."""
        needed = {client for each in self.services for client, _ in each.clients}
        needed |= {client for client, _ in self.outward}
        needed |= {each.role for each in self.services if not each.host}
        return frozenset(each.role for each in self.services) - needed


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """A role that hosts have: its file, and the values of its options that are settings or the profile's words."""

    file: Read[NetworkFile]
    options: Mapping[str, object]
    groups: frozenset[str] = frozenset()

    def group(self, said: str) -> str:
        """A group that the file names, if it is one of the role's."""
        return said if said in self.groups else ""


def of(
    root: Path, options: Mapping[str, Mapping[str, object]], profile: Read[Any], egress: str = "open"
) -> Network:
    """The network of hosts that have these roles, each with the values of its options. `profile`: its file. `egress`: the environment's.

    Raises SettingWrong for what does not fit together.
    """
    groups = profile.said.server.groups
    found = {
        name: _listed(
            root, name, options.get(name, {}), {each for each, has in groups.items() if name in has}
        )
        for name in (*OF_PLAYBOOKS, *options)
    }
    _accept_proxy(egress, options, profile)
    services = dict[str, Service]()
    for name, listed in found.items():
        for number, listener in enumerate(listed.file.said.listens):
            if listener.egress in ("", egress) and _is_set(
                listed, name, root, f"listens[{number}].when", listener.when
            ):
                service = _service(listed, name, root, number)
                _accept_port(service, listed.file, f"listens[{number}]", services.values())
                services[str(service)] = service
    outward = list[tuple[str, Connection]]()
    for client, file, key, each in _connections(found, root, profile):
        if each.egress not in ("", egress):
            continue
        _accept(each, file, key, services)
        if wanted := services.get(each.to):
            services[each.to] = replace(wanted, clients=(*wanted.clients, (client, each)))
        if wanted is None or wanted.host:
            outward.append((client, replace(each, ports=(wanted.port,)) if wanted else each))
    made = Network(services=tuple(services.values()), outward=tuple(outward))
    if egress == LISTED and options:  # what has no roles has no firewall either
        made = _through_the_proxy(made, options[PROXY])
    _accept_order(made, tuple(options), profile)
    return made


def _listed(root: Path, name: str, options: Mapping[str, object], groups: Iterable[str]) -> _Listed:
    path, groups = root / "roles" / name / "meta" / "network.yml", frozenset(groups)
    none = Read(path=name, said=NetworkFile(), lines={})
    file = read(NetworkFile, path, root) if path.exists() else none
    return _Listed(file=file, options=options, groups=groups)


def _is_set(listed: _Listed, name: str, root: Path, key: str, option: str) -> bool:
    """Whether an option that the file names is set. Raises SettingWrong for one that the role does not have."""
    if option and option not in (known := {*role(root, name).type, *TOLD.get(name, ())}):
        raise listed.file.wrong(key, option, f"an option of the role {name}", sorted(known))
    return not option or bool(listed.options.get(option))


def _service(listed: _Listed, name: str, root: Path, number: int) -> Service:
    said, key = listed.file.said.listens[number], f"listens[{number}]"
    if bool(said.port) == bool(said.port_option):
        raise listed.file.unfit(f"{key}.port", said.port, "the port, or `port_option` in its place", also=key)
    _is_set(listed, name, root, f"{key}.port_option", said.port_option)
    _is_set(listed, name, root, f"{key}.endpoint", said.endpoint)
    host, port = _endpoint(str(listed.options.get(said.endpoint, "")))
    return Service(
        role=name,
        name=said.name,
        port=port or said.port or int(str(listed.options.get(said.port_option, 0))),
        open_to=said.open_to,
        unit=said.unit,
        host="" if host in HERE or _is_loopback(host) else host,
        endpoint=said.endpoint,
        secret=said.secret,
        speaks=said.speaks,
        protocols=("tcp", "udp") if said.udp else ("tcp",),
        group=listed.group(said.group),
    )


def _endpoint(said: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; 0 where it names no port."""
    host, _, port = said.rpartition(":")
    return (host, int(port)) if host and port.isdigit() else (said, 0)


def _is_loopback(host: str) -> bool:
    import ipaddress  # a millisecond to import, and most hosts are names

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _connections(
    found: Mapping[str, _Listed], root: Path, profile: Read[Any]
) -> Iterator[tuple[str, Read[Any], str, Connection]]:
    """Every connection that is made: who makes it, and where it is declared."""
    for name, listed in found.items():
        for number, each in enumerate(listed.file.said.connects):
            client = each.client or name
            if each.client and client not in (known := role_names(root)):
                raise listed.file.wrong(f"connects[{number}].client", client, "a role", known)
            if _is_set(listed, name, root, f"connects[{number}].when", each.when) and client in found:
                its = replace(each, group=found[client].group(each.group))
                yield client, listed.file, f"connects[{number}]", its
    for number, each in enumerate(profile.said.server.connects):
        its = Connection(**vars(each), users=(APPLICATION,))
        yield APPLICATION, profile, f"server.connects[{number}]", its


def _accept_proxy(egress: str, roles: Mapping[str, object], profile: Read[Any]) -> None:
    """Raises SettingWrong for an environment that needs the proxy, and a profile without it."""
    wanted = (PROXY, RESOLVER, FIREWALL) if roles and egress == LISTED else ()
    if missing := [each for each in wanted if each not in roles]:
        expected = f"a list with {' and '.join(missing)}, as the environment's egress is {LISTED}"
        raise profile.unfit("server.roles", ", ".join(roles), expected)


def _through_the_proxy(network: Network, options: Mapping[str, object]) -> Network:
    """The same roles where nothing leaves but to what is listed: who connected to the outside by TCP connects to the proxy.

    `options`: the proxy's. It gets out by the ports of what is listed; an endpoint of the settings is listed by being one.
    """
    listed = [str(each) for each in cast("Iterable[object]", options.get("allowed", ()))]
    listed += [f"{each.host.rpartition('/')[2]}:{each.port}" for each in network.services if each.host]
    ports = {int(each.rpartition(":")[2]) for each in listed}
    outward, clients = list[tuple[str, Connection]](), list[tuple[str, Connection]]()
    for client, each in network.outward:
        if (client, each.to) == (PROXY, INTERNET):
            outward.append((client, replace(each, ports=tuple(sorted(ports.union(each.ports))))))
        elif each.egress or each.networks:  # the link is no way out
            outward.append((client, each))
        elif each.protocol == "tcp":
            clients.append((client, Connection(to=f"{PROXY}.http", users=each.users)))
    services = (
        replace(each, clients=(*each.clients, *clients)) if each.role == PROXY else each
        for each in network.services
    )
    return Network(services=tuple(services), outward=tuple(outward), listed=tuple(dict.fromkeys(listed)))


def _accept_port(service: Service, file: Read[Any], key: str, others: Iterable[Service]) -> None:
    """Raises SettingWrong for a port or a name that another service of the host has."""
    for other in others:
        if str(other) == str(service):
            raise file.unfit(f"{key}.name", service.name, "a name that the role gives once")
        if other.port == service.port and not (other.host or service.host):
            expected = f"a port of its own: {other} listens on it"
            raise file.unfit(f"{key}.port", service.port, expected, also=f"{key}.port_option")


def _accept(connection: Connection, file: Read[Any], key: str, services: Mapping[str, Service]) -> None:
    """Raises SettingWrong for a connection to what nobody listens on."""
    to = connection.to
    if to not in (*services, BUCKET, INTERNET):
        raise file.wrong(f"{key}.to", to, "a service of the profile's roles", (*services, BUCKET, INTERNET))
    if (to == INTERNET) != bool(connection.ports):
        expected = "at least one port" if to == INTERNET else "left out: only `internet` has several"
        raise file.unfit(f"{key}.ports", list(connection.ports), expected, also=f"{key}.to")
    usual = Connection(to=to)
    for name in ("protocol", "networks", "each"):
        fits = to in services if name == "each" else to == INTERNET
        if (said := getattr(connection, name)) != getattr(usual, name) and not fits:
            whose = "a service has several hosts" if name == "each" else "`internet` has it"
            raise file.unfit(f"{key}.{name}", said, f"left out: only {whose}")


def _accept_order(network: Network, roles: Sequence[str], profile: Read[Any]) -> None:
    """Raises SettingWrong for a firewall that comes before the user whom its rules name."""
    users = {user for service in network.services for user in service.users}
    users.update(user for _, each in network.outward for user in each.users)
    if FIREWALL in roles and APPLICATION in users:
        before = roles[: roles.index(FIREWALL)]
        if APPLICATION not in before:
            expected = f"after {APPLICATION}, which makes the user that its rules name"
            raise profile.unfit(f"server.roles.{FIREWALL}", "before it", expected, also="server.roles")


# --- what hosts get of it -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Where the roles are: the addresses of the hosts that have each role and are of each group, and of those that are `here`."""

    hosts: Mapping[str, Sequence[str]]
    here: Sequence[str]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def clients(self, service: Service) -> list[str]:
        """The addresses from which other hosts reach a service."""
        own, found = self.servers(service), set[str]()
        for client, connection in service.clients:
            theirs = self._of(client, connection.group)
            if connection.each and len({*own, *theirs}) > 1:
                found.update(theirs)
            elif not set(theirs) <= set(own):
                found.update(set(theirs) - set(own))
        return sorted(found)

    def servers(self, service: Service) -> Sequence[str]:
        """The addresses of the hosts that have a service."""
        return self._of(service.role, service.group)

    def nearest(self, service: Service) -> list[str]:
        """The addresses at which it is reached from here: loopback where each host here has it."""
        own = self.servers(service)
        if service.host:
            return [service.host]
        return [LOOPBACK] if set(self.here) <= set(own) else list(own)

    def addresses(self, service: Service) -> list[str]:
        """All addresses at which it is reached from here."""
        return [LOOPBACK if each in self.here else each for each in self.servers(service)]

    def away(self, service: Service, client: str, connection: Connection) -> list[str]:
        """The addresses of other hosts at which a client here reaches it."""
        if not self.has(client, connection.group):
            return []
        own = self.servers(service)
        found = own if connection.each and len(own) > 1 else self.nearest(service)
        return [address for address in found if address != LOOPBACK]

    def serves(self, service: Service) -> bool:
        """Whether a host here has a service."""
        return not service.host and self.has(service.role, service.group)

    def has(self, role: str, group: str = "") -> bool:
        """Whether a host here has a role, or is of its group."""
        return not set(self.here).isdisjoint(self._of(role, group))

    def _of(self, role: str, group: str = "") -> Sequence[str]:
        """Those that have it; a role of every playbook is on all."""
        found = self.hosts.get(role, self.here)
        return [each for each in found if each in self.groups[group]] if group in self.groups else found


def told(network: Network, place: Topology) -> dict[str, dict[str, dict[str, object]]]:
    """The services by role and name, as templates get them: what to bind to, where to connect to, and who comes from elsewhere."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    for each in network.services:
        found.setdefault(each.role, {})[each.name] = {
            "port": each.port,
            "bind": ALL if each.open_to or place.clients(each) else LOOPBACK,
            "address": place.nearest(each)[0],
            "addresses": place.addresses(each),
            "here": place.serves(each),
            "elsewhere": bool(each.host),
            "clients": place.clients(each),
            "unit": each.unit,
        }
    return found


Rule = dict[str, object]


def firewall(
    network: Network,
    place: Topology,
    *,
    networks: Mapping[str, Sequence[str]],
    users: Sequence[str],
    bucket: int,
) -> dict[str, list[Rule]]:
    """What the hosts' own firewall admits from elsewhere, lets out, and lets whom reach on its own host.

    `networks`: those of each setting that `open_to` may name; `users`: the application's; `bucket`: the bucket's port.
    """

    def named(declared: Iterable[str]) -> list[str]:
        return [name for each in declared for name in (users if each == APPLICATION else (each,))]

    admits, lets_out, local = list[Rule](), list[Rule](), list[Rule]()
    for each in network.services:
        if each.host:
            continue
        if place.serves(each):
            sources = [one for setting in each.open_to for one in networks[setting]]
            sources += map(_alone, place.clients(each))
            admits += [{"port": each.port, "networks": sources}] if sources else []
            ours = each.users_among(way for client, way in each.clients if place.has(client, way.group))
            local += [
                {"protocol": protocol, "port": each.port, "users": named(ours)}
                for protocol in each.protocols
                if ours
            ]
        for client, connection in each.clients:
            if away := place.away(each, client, connection):
                way: Rule = {"protocol": "tcp", "ports": [each.port], "users": named(connection.users)}
                lets_out.append({**way, "networks": list(map(_alone, away))})
    for client, connection in network.outward:
        if not place.has(client, connection.group):
            continue
        ports = [bucket] if connection.to == BUCKET else list(connection.ports)
        way = {"protocol": connection.protocol, "ports": ports, "users": named(connection.users)}
        lets_out.append({**way, "networks": list(connection.networks)})
    return {"admits": admits, "lets_out": lets_out, "local": local}


Peers = frozenset[tuple[int, str, str]]
"""Ports that machines of an environment reach on each other: the port, who reaches it, and where, by the machines' names."""


def topology(placement: Placement, found: Sequence[tuple[str, str]], here: Sequence[str]) -> Topology:
    """Where the roles are. `found`: each machine's name and its address; `here`: addresses."""
    roles = {role for own in placement.roles.values() for role in own}
    groups = {group for own in placement.groups.values() for group in own}
    return Topology(
        hosts={role: [at for name, at in found if role in placement.roles[name]] for role in roles},
        groups={group: [at for name, at in found if group in placement.groups[name]] for group in groups},
        here=here,
    )


def between(network: Network, placement: Placement, instances: int) -> Peers:
    """The ports that an environment's machines reach on each other; of those that are alike there are several, or one."""
    found = [(name, f"{name} {number}") for name in placement.groups for number in range(instances)]
    names = {address: name for name, address in found}
    place = topology(placement, found, list(names))
    return frozenset(
        (each.port, names[client], names[server])
        for each in network.services
        if not each.host
        for client in place.clients(each)
        for server in place.servers(each)
        if client != server
    )


def visited(network: Network, placement: Placement) -> frozenset[str]:
    """The names of the machines that visitors reach."""
    place = topology(placement, [(name, name) for name in placement.groups], ())
    found = (place.servers(each) for each in network.services if "http_from" in each.open_to)
    return frozenset(name for names in found for name in names) or frozenset(placement.groups)


def outward(network: Network, bucket: int) -> frozenset[tuple[str, int]]:
    """The protocols and ports by which hosts reach what is none of them. `bucket`: the bucket's port."""
    return frozenset(
        (each.protocol, port)
        for _, each in network.outward
        if not each.networks
        for port in ((bucket,) if each.to == BUCKET else each.ports)
    )


@dataclass(frozen=True, kw_only=True)
class ReachableFrom:
    """A row of the picture: where one gets, what listens there and on which machines, and who may."""

    to: str
    port: str
    bind: str
    who: tuple[str, ...]
    on: tuple[str, ...] = ()


def ways(
    network: Network, placement: Placement, instances: int, networks: Mapping[str, Sequence[str]]
) -> list[ReachableFrom]:
    """All of it for people: into each service, then out of the hosts. `instances`: how many machines are alike."""
    found = [(name, f"{name} {number}") for name in placement.groups for number in range(instances)]
    names = {address: name for name, address in found}
    place, rows = topology(placement, found, list(names)), list[ReachableFrom]()

    def on(addresses: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted({names[each] for each in addresses if placement.apart}))

    for each in network.services:
        users = [f"{client} as {_as(connection.users)}" for client, connection in each.clients]
        sources = [f"{name}: {', '.join(networks[name])}" for name in each.open_to]
        others = [f"machine {name}" for name in on(place.clients(each))]
        others = others or (["the other machines"] if place.clients(each) else [])
        root = [] if each.open_to else ["root"]
        bind = ALL if each.open_to or others else LOOPBACK
        rows.append(
            ReachableFrom(
                to=str(each),
                port=str(each.port),
                bind=f"at {each.host}" if each.host else bind,
                who=(*sources, *others, *users, *root),
                on=() if each.host else on(place.servers(each)),
            )
        )
    for client, way in network.outward:
        ports = ", ".join(map(str, way.ports)) if way.to != BUCKET else "the bucket's"
        who = f"{client} as {_as(way.users)}"
        to = f"out: {', '.join(way.networks) or way.to}"
        rows.append(ReachableFrom(to=to, port=f"{way.protocol} {ports}", bind="", who=(who,)))
    return rows


def _as(users: Sequence[str]) -> str:
    return ", ".join(users) or "any user"


def words(network: Network) -> list[str]:
    """Everything that is declared, a line each: what a change of it changes."""
    ways = [(each.to, each.protocol, *each.ports, *each.users, *each.networks) for _, each in network.outward]
    return [
        *(
            f"{each}: {each.port} {' '.join((*each.open_to, *each.users))}".rstrip()
            for each in network.services
        ),
        *(" ".join(map(str, each)) for each in ways),
    ]


def after(network: Network, place: Topology, client: str) -> list[str]:
    """The units that start before what this role starts: those of the services that it connects to, where they are here."""
    return [
        each.unit
        for each in network.services
        if each.unit and place.serves(each) and any(name == client for name, _ in each.clients)
    ]


def elsewhere(network: Network, place: Topology) -> list[str]:
    """The units that hosts here do not need: they have none of the services of that role."""
    here = {each.role for each in network.services if place.serves(each)}
    return sorted({each.unit for each in network.services if each.unit and each.role not in here})


def _alone(address: str) -> str:
    """The network of one address."""
    return f"{address}/{128 if ':' in address else 32}"
