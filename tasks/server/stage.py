"""stage: Ansible installs packages, services and configuration on every machine of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.graph.stage import Outcome
from tasks.hosts import ansible
from tasks.infrastructure import hosts, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.server import ledger
from tasks.settings import flat, plain

if TYPE_CHECKING:
    from tasks.run import Run

ROLES = (
    *("provisioning_started", "packages", "base", "firewall", "mariadb", "redis"),
    *("application", "php", "varnish", "nginx", "self_shutdown", "provisioning_finished"),
)
"""The roles of playbooks/server.yml."""


def parts(run: Run) -> dict[str, object]:
    """The settings that this stage reads, by name."""
    return {
        **{f"server.{name}": value for name, value in flat(run.environment.server).items()},
        "infrastructure.ssh_from": list(run.environment.infrastructure.ssh_from),
        "infrastructure.http_from": list(run.environment.infrastructure.http_from),
        "infrastructure.ends_itself": run.environment.infrastructure.ends_itself,
        "infrastructure.idle_hours": run.environment.infrastructure.idle_hours,
        "release.expires_after_days": run.environment.release.expires_after_days,
        "release.test_data": run.environment.release.test_data,
        "host name": run.host_name,
        "profile": plain(run.profile.server),
    }


def provision(run: Run, machines: Mapping[str, Any] | None = None) -> Outcome:
    """Run playbooks/server.yml. `machines`: the facts of `infrastructure`; without them, on the existing machines."""
    found = hosts.parsed(machines) if machines else infrastructure.existing(run)
    reached, told = hosts.reachable(run.cloud, run.secrets_folder, found), application(run)
    recap = run.hosts.play(
        "server",
        hosts=reached,
        variables={**variables(run), **told},
        strategy=run.environment.strategy,
        console=run.console,
        log=run.log("server"),
    )
    ledger.keep(
        run,
        "server",
        hosts=reached,
        recorded=recap.recorded,
        seconds=recap.seconds,
        own=own(told),
        settings={name: value for name, value in parts(run).items() if name not in ("host name", "profile")},
    )
    ids = [each.id for each in found]
    return Outcome(
        facts={"machines": ids},
        done=f"{recap.ok} tasks on {', '.join(ids)}, {recap.changed} changed",
        unchanged=f"roles, settings and machines as on {run.clock.stamp()}",
    )


def preview(run: Run) -> list[str]:
    """What provisioning would change on the machines, as Ansible's check mode prints it. Raises NoMachine."""
    return ansible.preview(
        "server",
        hosts=hosts.reachable(run.cloud, run.secrets_folder, infrastructure.existing(run)),
        variables={**variables(run), **application(run)},
        say=run.console.say("server"),
    )


def variables(run: Run) -> dict[str, object]:
    """The variables of the roles: the setting `server.ROLE.NAME` becomes ROLE_NAME."""
    settings = flat(run.environment.server)
    profile = run.profile.server
    return {
        **{name.replace(".", "_"): value for name, value in settings.items() if "." in name},
        "self_shutdown_enabled": run.environment.infrastructure.ends_itself,
        "self_shutdown_days": run.environment.release.expires_after_days,
        "self_shutdown_idle_hours": run.environment.infrastructure.idle_hours,
        "firewall_ssh_from": list(run.environment.infrastructure.ssh_from),
        "firewall_http_from": list(run.environment.infrastructure.http_from),
        "php_extensions": list(profile.php_extensions),
        "nginx_site": str(run.profile.folder / profile.site),
        "varnish_vcl": str(run.profile.folder / profile.vcl),
    }


def application(run: Run) -> dict[str, Any]:
    """The variables that describe the application, with its secrets."""
    name, profile = run.pipeline.name, run.profile.server
    known = secrets.ensure(run.cloud.client("ssm"), run.secrets_folder)
    return {
        "application_name": name,
        "application_user": name,
        "application_path": f"/srv/{name}",
        "application_host_name": run.host_name,
        "application_base_url": run.url,
        "application_database": {"name": name, "user": name, "password": known.database_password},
        "application_crypt_key": known.crypt_key,
        "application_test_data": run.environment.release.test_data,
        "application_configuration": [
            {"template": str(run.profile.folder / each.template), "destination": each.destination}
            for each in profile.configuration
        ],
        "application_shared_directories": list(profile.shared_directories),
        "application_shared_files": list(profile.shared_files),
        "application_web_root": profile.web_root,
        "application_cron": plain(profile.cron),
    }


def own(told: Mapping[str, Any]) -> dict[str, str]:
    """The values that only this environment has, by name. Equal servers differ only in these."""
    return {
        "host name": told["application_host_name"],
        "base URL": told["application_base_url"],
        "password": told["application_database"]["password"],
        "key": told["application_crypt_key"],
    }
