"""stage: Ansible installs packages, services and configuration on every machine of the environment."""

from __future__ import annotations

import base64
import hashlib
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tasks import demands, endpoints, mail, network, placement, search
from tasks.backup import access
from tasks.graph.stage import Outcome
from tasks.hosts import ansible
from tasks.infrastructure import hosts, machine, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.required_roles import accept
from tasks.server import certificates, ledger, renewal
from tasks.settings import flat, plain, required_roles

if TYPE_CHECKING:
    from tasks.infrastructure.hosts import MachineFacts
    from tasks.run import Run


Services = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""The services by role and name, as templates get them."""


def roles(run: Run, name: str | None = None) -> tuple[str, ...]:
    """The roles of playbooks/server.yml, on a machine of this name or on any: its own, and around them those of the profile."""
    of_profile = run.profile.server.roles if name is None else run.placement.roles[name]
    return ("provisioning_started", "packages", *of_profile, "provisioning_finished")


def folders(run: Run) -> list[str]:
    """The folders of these roles that are the repository's: `parts` has the others."""
    return [f"roles/{each}" for each in roles(run) if each not in required_roles(run.root)]


def parts(run: Run) -> dict[str, object]:
    """The settings that this stage reads, by name, and the roles of others. Raises RoleNotFetched."""
    return {
        **{f"role {name}": digest for name, digest in accept(run.root).items()},
        **{f"server.{name}": value for name, value in flat(run.environment.server).items()},
        "infrastructure.ssh_from": list(run.environment.infrastructure.ssh_from),
        "infrastructure.http_from": list(run.environment.infrastructure.http_from),
        "infrastructure.ends_itself": run.environment.infrastructure.ends_itself,
        "infrastructure.idle_hours": run.environment.infrastructure.idle_hours,
        "release.expires_after_days": run.environment.release.expires_after_days,
        "release.test_data": run.environment.release.test_data,
        "egress": run.environment.egress,
        **({"certificates": renewal.ORDERED} if renewal.wanted(run) else {}),
        **({"placement": plain(run.placement.groups)} if run.placement.apart else {}),
        "mail": run.environment.mail,
        "backup.at": run.environment.backup.at,
        "signatures": run.environment.signatures,
        "public_keys": list(run.pipeline.public_keys),
        "host name": run.host_name,
        "stores": {name: plain(each) for name, each in run.stores.items()},
        "profile": {**plain(run.profile.server), "writable": list(run.profile.release.writable)},
    }


def provision(
    run: Run, machines: Mapping[str, Any] | None = None, more: Mapping[str, Any] = MappingProxyType({})
) -> Outcome:
    """Run playbooks/server.yml. `machines`: the facts of `infrastructure`; without them, on the existing machines.

    `more`: variables that a host of another kind has in place of those of the settings. Raises RoleNotFetched.
    """
    accept(run.root)  # what is noted of the play below names them
    found = hosts.parsed(machines) if machines else infrastructure.existing(run)
    renewal.ensure(run)
    reached, told = hosts.reachable(run, found), variables(run)
    theirs = {each.id: {**beside(run, found, each), **more} for each in found}
    for host in reached:  # before anything is changed there
        if asked := theirs[host.name]["endpoints_asked"]:
            printed = run.hosts.python(host, "server", endpoints.program(run, asked, told))
            endpoints.accept(run, host.name, printed)
    recap = run.hosts.play(
        "server",
        hosts=reached,
        variables=told,
        own=theirs,
        differ=run.placement.apart,
        strategy=run.environment.strategy,
        console=run.console,
        log=run.log("server"),
    )
    ledger.keep(
        run,
        "server",
        hosts=reached,
        roles={each.id: roles(run, each.name) for each in found},
        recorded=recap.recorded,
        seconds=recap.seconds,
        own=own({**told, **theirs[found[0].id]}) | {each: told[each] for each in endpoints.brought(run)},
        settings={
            name: value
            for name, value in parts(run).items()
            if name not in ("host name", "stores", "profile")
        },
    )
    infrastructure.provisioned(run, "server")
    ids = [each.id for each in found]
    given = renewal.given(run, told["certificates_site"], own=told["certificates_own"])
    return Outcome(
        facts={"machines": ids, **given},
        done=f"{recap.ok} tasks on {', '.join(ids)}, {recap.changed} changed",
        unchanged=f"roles, settings and machines as on {run.clock.stamp()}",
    )


def preview(run: Run) -> list[str]:
    """What provisioning would change on the machines, as Ansible's check mode prints it. Raises CertificateMissing or NoMachine."""
    renewal.accept(run)
    found = infrastructure.existing(run)
    return ansible.preview(
        "server",
        hosts=hosts.reachable(run, found),
        variables=variables(run),
        own={each.id: beside(run, found, each) for each in found},
        differ=run.placement.apart,
        say=run.console.say("server"),
    )


def variables(run: Run) -> dict[str, Any]:
    """The variables of the roles: the setting `server.ROLE.NAME` becomes ROLE_NAME, as what the profile tells ROLE."""
    return {
        "server_roles": list(run.profile.server.roles),
        "server_units_elsewhere": [],
        "server_facts": bool(required_roles(run.root)),
        **{f"{role}_{name}": value for role, name, value in declared(run)},
        **search.variables(run),
        "self_shutdown_enabled": run.environment.infrastructure.ends_itself,
        "self_shutdown_days": run.environment.release.expires_after_days,
        "self_shutdown_idle_hours": run.environment.infrastructure.idle_hours,
        "firewall_egress": run.environment.egress,
        "firewall_ssh_from": list(run.environment.infrastructure.ssh_from),
        **_application(run),
    }


def beside(run: Run, found: Sequence[MachineFacts], here: MachineFacts) -> dict[str, Any]:
    """The variables of a host that name the others to it, and what of each other they reach. Raises Misplaced."""
    placement.accept_found(run.placement, [each.name for each in found], "server")
    place = _place(run, found, here)
    within = reached_from(run, found, here)
    settings = run.environment.infrastructure
    users = [web_user(run), run.pipeline.name]
    firewall = network.firewall(
        run.network,
        place,
        networks={name: getattr(settings, name) for name in network.OPEN_TO},
        users=users,
        bucket=run.cloud.bucket_port,
    )
    return {
        **demands.variables(run, machine.memory(run, [each.id for each in found])),
        "proxy_listed": [*_bucket(run), *run.network.listed],
        "proxy_variables": _proxy(run, within["server_services"], [each.within for each in found]),
        "application_hosts": [{"id": each.id, "address": each.within} for each in found],
        "application_after": network.after(run.network, place, network.APPLICATION),
        "server_roles": list(run.placement.roles[here.name]),
        "server_units_elsewhere": network.elsewhere(run.network, place),
        **within,
        "endpoints_asked": endpoints.asked(run, place, users[0]),
        **{f"firewall_{name}": rules for name, rules in firewall.items()},
    }


def reached_from(run: Run, found: Sequence[MachineFacts], here: MachineFacts) -> dict[str, Any]:
    """Those of them that say where services are, as a host reaches them. Asks no cloud."""
    place = _place(run, found, here)
    return {"server_services": network.told(run.network, place), **_database(run, place)}


def _place(run: Run, found: Sequence[MachineFacts], here: MachineFacts) -> network.Topology:
    return network.topology(run.placement, [(each.name, each.within) for each in found], [here.within])


def _bucket(run: Run) -> list[str]:
    """NAME:PORT of where hosts fetch tarballs and back up, where they reach only what is listed."""
    if network.PROXY not in {each.role for each in run.network.services}:
        return []
    kept = run.tarballs
    found = urllib.parse.urlsplit(kept.cloud.presigned_url(kept.bucket, "tarball", 1))
    tarballs = f"{found.hostname}:{found.port or kept.cloud.bucket_port}"
    backups = access.names(run) if access.ROLE in run.profile.server.roles else []
    return list(dict.fromkeys([tarballs, *(f"{each}:{run.cloud.bucket_port}" for each in backups)]))


def _database(run: Run, place: network.Topology) -> dict[str, Any]:
    """Where the database is, and from where it is reached, unless that is by its socket: it is what its role connects to."""
    found = dict[str, Any]()
    for each in run.network.services:
        if any(client == "database" for client, _ in each.clients):
            found |= {} if place.serves(each) else {"database_host": place.nearest(each)[0]}
            found |= {"database_clients": clients} if (clients := place.clients(each)) else {}
    return found


def released(run: Run, found: Sequence[MachineFacts], stage: str) -> list[MachineFacts]:
    """Those of the machines that releases go to. Raises Misplaced."""
    placement.accept_found(run.placement, [each.name for each in found], stage)
    if not run.placement.apart:
        return list(found)
    return [each for each in found if run.placement.has(each.name, network.APPLICATION)]


def _proxy(run: Run, services: Services, hosts: Sequence[str]) -> dict[str, str]:
    """The environment variables by which programs on the hosts find the proxy, if there is one."""
    if network.PROXY not in services:
        return {}
    found = services[network.PROXY]["http"]
    url, direct = (
        f"http://{found['address']}:{found['port']}",
        ("localhost", network.LOOPBACK, *hosts, *run.host_names),
    )
    return {"http_proxy": url, "https_proxy": url, "no_proxy": ",".join(direct)}


def declared(run: Run) -> Iterator[tuple[str, str, object]]:
    """What the profile and the environment's settings say: role, name, value. Settings come last: they decide."""
    for told in (run.profile.server.roles, run.environment.server.roles):
        for role, said in told.items():
            yield from (
                (role, name, with_templates(value, run.profile.folder)) for name, value in said.items()
            )


def with_templates(value: Any, folder: Path) -> Any:
    """A value in the words of JSON, with the full paths of the profile's templates."""
    if isinstance(value, Path):
        return str(folder / value)
    if isinstance(value, Mapping):
        return {name: with_templates(each, folder) for name, each in value.items()}
    return [with_templates(each, folder) for each in value] if isinstance(value, tuple) else value


def _application(run: Run) -> dict[str, Any]:
    """The variables that describe the application, with its secrets."""
    name, ssm, roles = run.pipeline.name, run.cloud.client("ssm"), set(run.profile.server.roles)
    if not access.wanted(run):
        roles -= {access.ROLE}
    if not run.protected:
        roles -= {"nginx"}
    if not mail.caught(run):
        roles -= {mail.ROLE}
    if "database_password" in endpoints.brought(run):
        roles -= {"database"}
    known = secrets.ensure(ssm, run.secrets_folder, roles)
    site, ordered = "", renewal.wanted(run) and not known.certificate
    if ordered:
        site = renewal.site(run)
    elif "certificates" in roles:
        site = certificates.ensure(
            ssm,
            certificates.Folders(own=run.secrets_folder, authority=run.authority_folder),
            known,
            names=run.host_names,
            zone=run.pipeline.dns_zone,
            now=run.clock.now(),
        )
    return {
        **(passwords := endpoints.passwords(run, known.value)),
        "endpoints_passwords": passwords,
        "application_name": name,
        "application_user": name,
        "application_web_user": web_user(run),
        "application_path": f"/srv/{name}",
        "application_host_name": run.host_name,
        "application_host_names": list(run.host_names),
        "application_base_url": run.url,
        "application_mail_path": mail.PATH,
        "application_stores": [
            {"host_name": name, "base_url": run.url_of(name), **plain(each)}
            for name, each in run.stores.items()
        ],
        "application_signatures": run.environment.signatures,
        "application_public_keys": list(run.pipeline.public_keys),
        "application_test_data": run.environment.release.test_data,
        "certificates_own": bool(site) and not known.certificate and not ordered,
        "certificates_site": site,
        "nginx_visitor": password_line(name, known.site_password) if run.protected else "",
        "database_name": name,
        # on this machine; `beside` says so where it is on another
        "database_host": "localhost",
        "database_clients": ["localhost"],
        "database_user": name,
        "database_password": known.database_password,
        "database_password_before": known.database_password_before,
        "shared_crypt_key": known.crypt_key,
        "shared_writable": list(run.profile.release.writable),
        "search_password": search.password(run, known.search_password),
        **mail.variables(run, known),
        **(access.variables(run, known) if access.ROLE in run.profile.server.roles else {}),
    }


def password_line(user: str, password: str) -> str:
    """A line of nginx's password file. The password is too long to be guessed, and nginx looks at it with each request: the hash is a fast one."""
    salt = hashlib.sha256(f"salt {password}".encode()).digest()[:8]  # the same each time
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return f"{user}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n"


def web_user(run: Run) -> str:
    """The user that answers visitors. Linux knows 32 characters of a name."""
    return f"web-{run.pipeline.name}"[:32]


def own(told: Mapping[str, Any]) -> dict[str, str]:
    """The values that only this environment has, by name. Equal servers differ only in these."""
    found = {
        "host name": told["application_host_name"],
        "base URL": told["application_base_url"],
        **{f"host name of {each['code']}": each["host_name"] for each in told["application_stores"]},
        **{f"base URL of {each['code']}": each["base_url"] for each in told["application_stores"]},
        "password": told["database_password"],
        "former password": told["database_password_before"],
        "key": told["shared_crypt_key"],
        "search prefix": told.get("search_prefix", ""),
        "search password": told["search_password"],
        **{f"backup {name}": told.get(f"backup_{name}", "") for name in ("host", *access.SECRET)},
        "certificate": told["certificates_site"],
        "password of visitors": told["nginx_visitor"],
        "mail password": told.get("mail_password", ""),
        "relay password": told.get("mail_relay_password", ""),
    }
    found |= {
        f"address {number}": each["address"] for number, each in enumerate(told["application_hosts"], 1)
    }
    return {name: value for name, value in found.items() if value}
