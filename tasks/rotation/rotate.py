"""rotate: a secret gets another value while visitors are served, and what was valid before is refused afterwards.

Each way can be cut off anywhere and typed again: until a rotation is finished the parameter store has the value that ends or the one
that comes, hosts take both, and the next call goes on from there.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks import endpoints, mail
from tasks.backup import access, repository
from tasks.bucket import lease
from tasks.clock import stamped
from tasks.graph.state import BucketState, Records
from tasks.hosts.ssh import LoginRefused
from tasks.infrastructure import apply, find, hosts, memory, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.plan import CreateKey, DeleteKey, plan
from tasks.refusal import UNKNOWN, Refusal
from tasks.release import history
from tasks.release import stage as release
from tasks.rotation.known import HOST_KEYS, KNOWN, ROTATABLE, ROTATED, SIGNING, unfinished
from tasks.server import certificates, renewal
from tasks.server import stage as server
from tasks.tarball import signature

if TYPE_CHECKING:
    from tasks.hosts.ssh import Host
    from tasks.run import Run

STAGE = "secrets"
PROVISIONED = (
    "database_password",
    "backup_password",
    "backup_key",
    "own_certificate",
    "mail_password",
    "site_password",
)
"""Those that hosts are told by provisioning."""
JOB_SECONDS = 300
"""Seconds that jobs of cron have to end, which have read the former password."""

A_DAY = datetime.timedelta(days=1)


class NotRotated(Refusal):
    """A secret that this command gives no other value, or that this environment does not have."""

    sentence = "secrets: {name} is not rotated in {environment}: {why}"
    remedy = "doit secrets"
    exit_code = UNKNOWN


class RotationFailed(Refusal):
    """A rotation does not go on. Until it does, what was valid before still is, and visitors are served."""

    sentence = "secrets: {name} on {where}: {problem}"
    remedy = "doit secrets rotate {name}"


def rotate(run: Run, name: str) -> Iterator[str]:
    """Give one secret another value, and say what was done. Raises NotRotated, RotationFailed, or what provisioning raises."""
    if why := hindered(run, name):
        raise NotRotated(name=name, environment=run.identity, why=why)
    with lease.held(run, STAGE):
        yield from _rotated(run, name)


def rotate_all(run: Run) -> Iterator[str]:
    """The same with all that can be; one that was cut off less than a day ago goes on where it was."""
    with lease.held(run, STAGE):
        known = memory.read(run.store, run.identity)
        begun = known.get("rotating", {})
        if begun and not _goes_on(begun, run.clock.now()):
            yield f"all: begun {begun.get('at', 'at a time that nobody knows')} and never finished, so they begin anew"
            begun = {}
        if not begun:
            # what was begun by itself ends first: it has the value that it began with
            for name in unfinished(secrets.changed(run.cloud.client("ssm"), run.secrets_folder)):
                yield from () if hindered(run, name) else _rotated(run, name)
            begun = {"at": run.clock.stamp(), "done": []}
            memory.change(run.store, run.identity, lambda kept: {**kept, "rotating": begun})
        for name in ROTATABLE:
            if name in begun["done"]:
                yield f"{name}: done before, {known['rotated'][name]['at']} by {known['rotated'][name]['by']}"
            elif why := hindered(run, name):
                yield f"{name}: {why}"
            else:
                yield from _rotated(run, name, of_all=True)
        memory.change(
            run.store, run.identity, lambda kept: {k: v for k, v in kept.items() if k != "rotating"}
        )


def _goes_on(begun: Mapping[str, Any], now: datetime.datetime) -> bool:
    """Whether what was begun is young enough to go on. Who has left since then may know what it made: an old one begins anew."""
    try:
        return now - stamped(begun["at"]) < A_DAY
    except (KeyError, ValueError):
        return False


def _rotated(run: Run, name: str, *, of_all: bool = False) -> Iterator[str]:
    run.console.event(STAGE, f"rotates {name}")
    yield f"{name}: {WAYS[name](run)}"

    def noted(kept: dict[str, Any]) -> dict[str, Any]:
        rotated = {**kept.get("rotated", {}), name: {"at": run.clock.stamp(), "by": run.who}}
        if not of_all:
            return {**kept, "rotated": rotated}
        begun = kept["rotating"]
        return {**kept, "rotated": rotated, "rotating": {**begun, "done": [*begun["done"], name]}}

    memory.change(run.store, run.identity, noted)


def hindered(run: Run, name: str) -> str:
    """Why the environment cannot rotate it; empty if it can."""
    if found := endpoints.brought(run).get(name):
        return endpoints.way(found)
    ways = {each.name: each.way for each in KNOWN}
    if ways.get(name, "unknown") != ROTATED:
        return ways.get(name) or f"no secret of that name (known: {', '.join(ROTATABLE)})"
    roles = run.profile.server.roles
    known = secrets.known(run.cloud.client("ssm"), run.secrets_folder)
    lacking = {
        "database_password": ("database" not in roles and "the profile has no role database")
        or (run.placement.apart and "its database is on a machine of its own"),
        "backup_password": not access.wanted(run) and "it backs nothing up",
        "backup_key": not access.wanted(run) and "it backs nothing up",
        "own_certificate": "certificates" not in roles and "the profile has no role certificates",
        "mail_password": not mail.caught(run) and "it catches no mail",
        "site_password": not run.protected and "it asks visitors for no password",
        HOST_KEYS: "base" not in roles and "the profile has no role base, which says what sshd shows",
        SIGNING: not run.pipeline.public_keys and "pipeline.yml names no public_keys, so nothing is signed",
    }
    if name in PROVISIONED and not run.environment.has("server"):
        return "its hosts are not provisioned from here (the stage server)"
    if lacking.get(name):
        return str(lacking[name])
    if name != SIGNING and not known:
        return "nothing was made yet"
    if name == "own_certificate" and known and known.certificate:
        return "a certificate was brought: doit secrets set certificate"
    if name == "own_certificate" and renewal.wanted(run):
        return "an ACME authority issues it: doit certificates --anew"
    return ""


def _machines(run: Run, name: str) -> list[Host]:
    """The hosts, all of which run: one that is asleep would know the former value alone. Raises RotationFailed or NoMachine."""
    found = find.everything(run).machines
    if not found:
        return hosts.reachable(run, infrastructure.existing(run))  # its refusal
    asleep = [each.id for each in found if each.state != "running"]
    if asleep:
        raise RotationFailed(name=name, where=", ".join(asleep), problem="is not running: doit wake")
    return hosts.reachable(run, hosts.pinned(run, found))


def _on_host(run: Run, host: Host, program: str, told: Mapping[str, object]) -> Any:
    """What a program answers in JSON. What it is told goes through stdin, and no complaint of it quotes that."""
    printed = run.hosts.python(host, STAGE, f"TOLD = {json.dumps(told)!r}\n{program}")
    return json.loads(printed.splitlines()[-1])


# --- the database's password ------------------------------------------------------------------------

DATABASE = "roles/database/files/passwords.py"
"""The program that changes the account's passwords, and tries them."""


def _database_password(run: Run) -> str:
    """The hosts accept both passwords, the application takes the new one, then the former one is refused."""
    ssm, folder, name = run.cloud.client("ssm"), run.secrets_folder, "database_password"
    machines = _machines(run, name)
    known = secrets.ensure(ssm, folder, ["database"])
    old = known.database_password_before or known.database_password
    if not known.database_password_before:
        secrets.settle(ssm, folder, {"database_password_before": old})
    new = known.database_password
    if new == old:
        new = secrets.made(name)
        secrets.settle(ssm, folder, {"database_password": new})
    # both are accepted before the configuration changes: the role database comes before shared
    server.provision(run)
    told, program = server.variables(run), (run.root / DATABASE).read_text()
    ask = {
        "sql": "",
        "user": told["database_user"],
        "host": told["database_host"],
        "name": told["database_name"],
        "passwords": {"new": new},
        "jobs": f"{told['application_path']}/releases",
        "seconds": JOB_SECONDS,
    }
    for host in machines:
        said = _on_host(run, host, program, ask)
        if wrong := said["new"] and f"the new one is not accepted: {said['new']}":
            raise RotationFailed(name=name, where=host.name, problem=wrong)
        if said.get("jobs"):
            raise RotationFailed(
                name=name, where=host.name, problem="a job of cron that knows the former one still runs"
            )
    if history.read(run.store, run.identity) and (wrong := release.seen_wrong(run)):
        raise RotationFailed(name=name, where=run.url, problem=wrong)
    template = run.root / "roles/database/templates/database.sql.j2"
    sql = release.rendered(template, {**told, "database_password": new, "database_password_before": ""})
    for host in machines:
        said = _on_host(
            run, host, program, {**ask, "sql": sql, "passwords": {"new": new, "old": old}, "jobs": ""}
        )
        if said["sql"] or said["new"] or said["old"] != "refused":
            raise RotationFailed(
                name=name,
                where=host.name,
                problem=said["sql"] or said["new"] or "the former one is still accepted",
            )
    secrets.settle(ssm, folder, {"database_password_before": None})
    return f"another one on {_names(machines)}; the former one is refused"


# --- backups ------------------------------------------------------------------------------------------


def _backup_password(run: Run) -> str:
    """The repository opens by both, then the hosts take the new one, then it opens by no other."""
    ssm, folder = run.cloud.client("ssm"), run.secrets_folder
    known = secrets.ensure(ssm, folder, ["backup"])
    new = known.backup_password_next or secrets.made("backup_password")
    secrets.settle(ssm, folder, {"backup_password_next": new})
    there = repository.open_by(run, known.backup_password, new)
    secrets.settle(ssm, folder, {"backup_password": new})
    server.provision(run)
    if there:
        repository.open_by_only(run, new)
    secrets.settle(ssm, folder, {"backup_password_next": None})
    return "the repository opens by another one only" if there else "another one; there is no repository yet"


def _backup_key(run: Run) -> str:
    """A second access key, which the hosts take; then it is the only one."""
    access.remake(run)
    server.provision(run)
    access.end_others(run)
    return "another one; the bucket refuses the former one"


# --- the certificate ------------------------------------------------------------------------------


def _own_certificate(run: Run) -> str:
    """Another authority, and provisioning makes the certificate that is not there: visitors notice nothing."""
    ssm, zone = run.cloud.client("ssm"), run.pipeline.dns_zone
    certificates.another_authority(ssm, run.authority_folder, zone, run.clock.now(), instead=True)
    secrets.settle(ssm, run.secrets_folder, dict.fromkeys(secrets.RENEWED))
    server.provision(run)
    return "another one, by another authority: doit secrets show authority. Other branches follow with: doit forget server, doit server"


def _mail_password(run: Run) -> str:
    """Who reads caught mail asks for the new one."""
    changed = {"mail_password": secrets.made("mail_password")}
    secrets.settle(run.cloud.client("ssm"), run.secrets_folder, changed)
    server.provision(run)
    return "another one: doit secrets show mail"


def _site_password(run: Run) -> str:
    """Visitors are asked for the new one."""
    changed = {"site_password": secrets.made("site_password")}
    secrets.settle(run.cloud.client("ssm"), run.secrets_folder, changed)
    server.provision(run)
    return "another one: doit secrets show site"


# --- SSH ----------------------------------------------------------------------------------------------

AUTHORIZED = """
import json, os
told = json.loads(TOLD)
own, *more = map(os.path.expanduser, told["files"])
others = 0
for path in (own, *more):
    if not os.path.exists(path):
        continue
    with open(path) as file:
        lines = file.read().splitlines()
    wanted = [each for each in lines if not set(told["end"]) & set(each.split())]
    if path == own:
        if not any(told["add"].split()[1] in each.split() for each in wanted):
            wanted.append(told["add"])
        others = sum(bool(each.strip()) and each.strip()[0] != "#" for each in wanted) - 1
    if wanted != lines:
        was = os.stat(path)
        with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("".join(f"{each}\\n" for each in wanted))
        os.chown(f"{path}.new", was.st_uid, was.st_gid)
        os.replace(f"{path}.new", path)
print(json.dumps(others))
"""
"""Admits a key to the user of the pipeline, and no more those that end; answers by how many others it admits.

cloud-init has given the first one to root as well.
"""


def _deploy_key(run: Run) -> str:
    """The hosts admit both keys, then the new one counts, then the former one is not admitted any more."""
    ssm, folder, name = run.cloud.client("ssm"), run.secrets_folder, "deploy_key"
    known = secrets.ensure(ssm, folder)
    old, new = known.deploy_key, known.deploy_key_next or secrets.made(name)
    former = known.deploy_key_before or secrets.public_key(old)
    public = secrets.public_key(new)
    machines = _machines(run, name)
    secrets.settle(ssm, folder, {"deploy_key_next": new, "deploy_key_before": former})
    for host in machines:
        _as_known(run, host, [old, new], AUTHORIZED, _admission(host, public, []))
    ours = [dataclasses.replace(host, key=new) for host in machines]
    for host in ours:
        run.hosts.python(host, STAGE, "")
    secrets.settle(ssm, folder, {"deploy_key": new, "deploy_key_public": public})
    _replace_pair(run)
    more = 0
    for host in ours:
        more += _on_host(run, host, AUTHORIZED, _admission(host, public, [former]))
        if new != old and _admits(run, dataclasses.replace(host, key=old)):
            raise RotationFailed(name=name, where=host.name, problem="the former key still logs in")
    # in this order: without `next` what ended would be taken for what ends in the next rotation
    secrets.settle(ssm, folder, {"deploy_key_before": None, "deploy_key_next": None})
    others = f"; {more} other keys log in as {machines[0].user} (.ssh/authorized_keys)" if more else ""
    return f"another one on {_names(machines)}; the former one logs in no more{others}"


def _admission(host: Host, add: str, end: Sequence[str]) -> dict[str, object]:
    files = [f"~{host.user}/.ssh/authorized_keys", "/root/.ssh/authorized_keys"]
    return {"files": files, "add": add, "end": [each.split()[1] for each in end]}


def _as_known(run: Run, host: Host, keys: Sequence[str], program: str, told: Mapping[str, object]) -> None:
    """Run a program with the first of the keys that the host admits. Raises LoginRefused where it admits none."""
    *first, last = keys
    for key in first:
        try:
            _on_host(run, dataclasses.replace(host, key=key), program, told)
        except LoginRefused:
            continue
        return
    _on_host(run, dataclasses.replace(host, key=last), program, told)


def _admits(run: Run, host: Host) -> bool:
    try:
        run.hosts.python(host, STAGE, "")
    except LoginRefused:
        return False
    return True


def _replace_pair(run: Run) -> None:
    """EC2's key pair, from which new machines start."""
    settings = run.environment.infrastructure
    if not run.environment.has("infrastructure") or settings.manage == "plan":
        return
    known = secrets.ensure(run.cloud.client("ssm"), run.secrets_folder)
    for change in plan(infrastructure.wanted(run, known), find.everything(run)):
        if isinstance(change, DeleteKey | CreateKey):
            apply.apply(run, change)


HOST_KEY = """
import json, os, subprocess
told = json.loads(TOLD)
key = told["key"]
next = f"{key}.next"
if told["swap"]:
    if os.path.exists(next):
        os.replace(f"{next}.pub", f"{key}.pub")
        os.replace(next, key)
        subprocess.run(told["reload"], check=True)
else:
    for path in (next, f"{next}.pub"):
        if os.path.exists(path):
            os.unlink(path)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", next], check=True)
with open(f"{key if told['swap'] else next}.pub") as file:
    print(json.dumps(file.read().strip()))
"""
"""Makes a key beside the one that sshd shows, or puts it in its place; answers by its public half."""


def _host_keys(run: Run) -> str:
    """The pipeline accepts both keys of a host, then the host shows the new one, then only that is accepted."""
    machines = _machines(run, HOST_KEYS)
    # it tells the keys to the stages that log in
    BucketState(Records(run=run, unrecorded=frozenset()), None).void("infrastructure:environment")
    told = {"key": "/etc/ssh/ssh_host_ed25519_key", "reload": ["systemctl", "reload", "ssh"]}
    for host in machines:
        made = _on_host(run, host, HOST_KEY, {**told, "swap": False})
        both = (*host.host_keys, made)
        hosts.pin(run, {host.name: [*both]})
        _on_host(run, dataclasses.replace(host, host_keys=both), HOST_KEY, {**told, "swap": True})
        run.hosts.python(dataclasses.replace(host, host_keys=(made,)), STAGE, "")
        hosts.pin(run, {host.name: [made]})
    return f"other ones on {_names(machines)}; the former ones are not accepted"


# --- signatures -----------------------------------------------------------------------------------


def _signing_key(run: Run) -> str:
    """Another private key. Whom to believe stands in pipeline.yml, which is a commit of a person."""
    made = signature.make_key(run, replace=True)
    return f"another one; commit it to pipeline.yml, and release:\npublic_keys: [{made}]"


def _names(machines: Collection[Host]) -> str:
    return ", ".join(each.name for each in machines)


WAYS: Mapping[str, Callable[[Run], str]] = {
    "database_password": _database_password,
    "backup_password": _backup_password,
    "backup_key": _backup_key,
    "own_certificate": _own_certificate,
    "mail_password": _mail_password,
    "site_password": _site_password,
    "deploy_key": _deploy_key,
    HOST_KEYS: _host_keys,
    SIGNING: _signing_key,
}
"""How each secret of ROTATABLE is rotated; the sentence says what is so now."""
