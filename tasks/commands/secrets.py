"""secrets: `doit secrets`: list them, give them another value, bring one that somebody has; how the administrator and who reads caught mail sign in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from tasks import administrator, endpoints, mail
from tasks.commands.base import AS_JSON, Command, json_of, run_of
from tasks.graph import plan
from tasks.infrastructure import secrets
from tasks.promotion import rules
from tasks.refusal import UNKNOWN, Refusal
from tasks.rotation import known, rotate
from tasks.server import certificates

if TYPE_CHECKING:
    from tasks.run import Run

SHOWN = 3
"""Changed inputs that a refusal names."""


NOTHING: Mapping[str, str] = MappingProxyType({})


class SecretUnknown(Refusal):
    """A secret that nobody may bring."""

    sentence = "command line: {name} is no secret that can be brought (known: {known})"
    remedy = "doit help secrets"
    exit_code = UNKNOWN


class SecretEmpty(Refusal):
    """A secret is read from the standard input, where nothing was."""

    sentence = "secrets: the standard input has no {name}"
    remedy = "doit secrets set {name} < FILE"


class NotInstalled(Refusal):
    """The environment has no administrator yet."""

    sentence = "secrets: {environment} has no administrator yet"
    remedy = "doit release"


class NotProtected(Refusal):
    """The environment's site asks no visitor for a password, or was not provisioned since it is to do so."""

    sentence = "secrets: {environment} asks visitors for no password"
    remedy = "doit server  # once environments/NAME.yml has server.nginx.protected: true"


class NoAuthority(Refusal):
    """No host of an environment of this name has got a certificate of the pipeline's own yet."""

    sentence = "secrets: {environment} has no authority of its own yet"
    remedy = "doit server"


class HostsBehind(Refusal):
    """A rotation provisions the hosts. By other roles or settings than theirs it would change more than a secret, past all controls."""

    sentence = "secrets: the hosts of {environment} were provisioned by other roles or settings than are checked out: {changed}"
    remedy = "doit plan server"


class SecretsCommand(Command):
    """`doit secrets`, `doit secrets rotate NAME`, `doit secrets set NAME`, `doit secrets show admin`, and what else is shown."""

    name = "secrets"
    doc_purpose = "list the environment's secrets, rotate and bring them; show how the administrator signs in, who reads caught mail, and what visitors need"
    doc_usage = (
        "[rotate NAME | rotate --all | set NAME | show admin | show mail | show site | show authority]"
    )
    doc_description = (
        "Without a word: each secret with its age and who uses it; no value is shown. rotate NAME: another value, while visitors "
        "are served; what was valid before is refused afterwards. rotate --all: all of them; typed again, it goes on where it was cut off. "
        f"NAME is one of {', '.join(known.ROTATABLE)}. "
        "set NAME: keep what the standard input "
        f"has, in the environment's secrets ({', '.join(secrets.BROUGHT)}, and those of services elsewhere: docs/server.md). "
        "show admin: user, password, the code of six digits for now, and the page. show mail: user and password of the page of caught mail. "
        "show site: user and password of visitors, where `server.nginx.protected` asks for them. show authority: the certificate of the authority "
        "that vouches for the hosts, for a browser to trust."
    )
    cmd_options = (AS_JSON,)

    def _execute(self, as_json: bool = False, pos_args: list[str] | None = None) -> int:
        words, run = pos_args or [], run_of(self.task_list)
        if not words:
            self._list(run, as_json)
        elif words[0] == "rotate" and len(words) == 2:
            self._rotate(run, words[1])
        elif words == ["show", "admin"]:
            self._show(run, as_json)
        elif words == ["show", "site"]:
            self._show_site(run, as_json)
        elif words == ["show", "authority"]:
            self._show_authority(run, as_json)
        elif words == ["show", "mail"]:
            self._show_mail(run, as_json)
        elif len(words) == 2 and words[0] == "set":
            self._set(run, words[1])
        else:
            raise self.misread(words)
        return 0

    def _list(self, run: Run, as_json: bool) -> None:
        found = known.listed(run)
        if as_json:
            self.console.line(json_of(found))
            return
        now = run.clock.now()
        rows = [("SECRET", "AGE", "USED BY", "ANOTHER VALUE")]
        for each in found:
            age = f"{(now - each.changed).days} days" if each.changed else "as its host"
            notes = [
                *([f"older than {run.environment.secrets.days}"] if each.stale else ()),
                *([f"by {each.by}"] if each.by else ()),
            ]
            way = each.way if each.way != known.ROTATED else f"{known.ROTATED} {each.name}"
            if each.unfinished:
                way = f"not finished: {way}"
            rows.append((each.name, ", ".join([age, *notes]), each.users, way))
        widths = [max(len(row[at]) for row in rows) for at in range(3)]
        for row in rows:
            self.console.line("  ".join([*(f"{row[at]:<{widths[at]}}" for at in range(3)), row[3]]))

    def _rotate(self, run: Run, name: str) -> None:
        if run.environment.takes_from and (
            refused := rules.frozen(self.name, run.environment_name, run.environment, run.clock.now())
        ):
            raise refused
        provisioning = next((each for each in self.task_list if each.name == "server"), None)
        if provisioning and (name == "--all" or name in rotate.PROVISIONED):
            changed = plan.changed_inputs(provisioning, self.dep_manager)
            if changed:
                more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
                raise HostsBehind(environment=run.identity, changed=f"{'; '.join(changed[:SHOWN])}{more}")
        for line in rotate.rotate_all(run) if name == "--all" else rotate.rotate(run, name):
            self.console.line(line)

    def _show(self, run: Run, as_json: bool) -> None:
        install = administrator.of(run)
        made = secrets.known(run.cloud.client("ssm"), run.secrets_folder)
        if not made or not made.administrator_password:
            raise NotInstalled(environment=run.identity)
        now = run.clock.now().timestamp()
        shown = {
            "user": install.administrator,
            "password": made.administrator_password,
            "code": administrator.code(made.administrator_secret, now),
            "page": administrator.page(run),
        }
        left = f"  for {administrator.STEP - int(now) % administrator.STEP} s"
        self._tell(shown, as_json, {"code": left})

    def _tell(self, shown: Mapping[str, str], as_json: bool, after: Mapping[str, str] = NOTHING) -> None:
        if as_json:
            self.console.line(json_of(shown))
            return
        for name, value in shown.items():
            self.console.line(f"{name:<9} {value}{after.get(name, '')}")

    def _show_site(self, run: Run, as_json: bool) -> None:
        made = secrets.known(run.cloud.client("ssm"), run.secrets_folder)
        if not run.protected or not made or not made.site_password:
            raise NotProtected(environment=run.identity)
        self._tell({"user": run.pipeline.name, "password": made.site_password, "page": run.url}, as_json)

    def _show_authority(self, run: Run, as_json: bool) -> None:
        root = certificates.root(run.cloud.client("ssm"), run.authority_folder)
        if not root:
            raise NoAuthority(environment=run.environment_name)
        self.console.line(json_of({"authority": root}) if as_json else root.rstrip())

    def _show_mail(self, run: Run, as_json: bool) -> None:
        page = mail.page(run)
        made = secrets.known(run.cloud.client("ssm"), run.secrets_folder)
        if not made or not made.mail_password:
            raise mail.MailPageMissing(environment=run.identity)
        shown = {"user": mail.USER, "password": made.mail_password, "page": page}
        self._tell(shown, as_json)

    def _set(self, run: Run, name: str) -> None:
        known = (*secrets.BROUGHT, *endpoints.brought(run))
        if name not in known:
            raise SecretUnknown(name=name, known=", ".join(known))
        value = sys.stdin.read().strip()
        if not value:
            raise SecretEmpty(name=name)
        if name == "certificate":
            certificates.accept(value, run.host_names, run.clock.now())
        secrets.bring(run.cloud.client("ssm"), run.secrets_folder, name, value)
        self.console.line(f"{name} is kept: the next provisioning of {run.identity} takes it")
