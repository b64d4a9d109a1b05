"""secrets: `doit secrets`: show how the administrator signs in, and who reads caught mail, and bring a secret that somebody has."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks import administrator, mail
from tasks.commands.base import AS_JSON, Command, json_of, run_of
from tasks.infrastructure import secrets
from tasks.refusal import UNKNOWN, Refusal
from tasks.server import certificates

if TYPE_CHECKING:
    from tasks.run import Run


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


class SecretsCommand(Command):
    """`doit secrets show admin`, `doit secrets show mail`, `doit secrets set NAME`."""

    name = "secrets"
    doc_purpose = "show how the administrator signs in, or who reads caught mail; bring a secret"
    doc_usage = "show admin | show mail | set NAME"
    doc_description = (
        "show admin: user, password, the code of six digits for now, and the page. show mail: user and password of the page of caught mail. set NAME: keep what the standard input "
        f"has, in the environment's secrets ({', '.join(secrets.BROUGHT)})."
    )
    cmd_options = (AS_JSON,)

    def _execute(self, as_json: bool = False, pos_args: list[str] | None = None) -> int:
        words, run = pos_args or [], run_of(self.task_list)
        if words == ["show", "admin"]:
            self._show(run, as_json)
        elif words == ["show", "mail"]:
            self._show_mail(run, as_json)
        elif len(words) == 2 and words[0] == "set":
            self._set(run, words[1])
        else:
            raise self.misread(words)
        return 0

    def _show(self, run: Run, as_json: bool) -> None:
        install = administrator.of(run)
        known = secrets.known(run.cloud.client("ssm"), run.secrets_folder)
        if not known or not known.administrator_password:
            raise NotInstalled(environment=run.identity)
        now = run.clock.now().timestamp()
        shown = {
            "user": install.administrator,
            "password": known.administrator_password,
            "code": administrator.code(known.administrator_secret, now),
            "page": administrator.page(run),
        }
        if as_json:
            self.console.line(json_of(shown))
            return
        for name, value in shown.items():
            left = f"  for {administrator.STEP - int(now) % administrator.STEP} s" if name == "code" else ""
            self.console.line(f"{name:<9} {value}{left}")

    def _show_mail(self, run: Run, as_json: bool) -> None:
        page = mail.page(run)
        known = secrets.known(run.cloud.client("ssm"), run.secrets_folder)
        if not known or not known.mail_password:
            raise mail.MailPageMissing(environment=run.identity)
        shown = {"user": mail.USER, "password": known.mail_password, "page": page}
        if as_json:
            self.console.line(json_of(shown))
            return
        for name, value in shown.items():
            self.console.line(f"{name:<9} {value}")

    def _set(self, run: Run, name: str) -> None:
        if name not in secrets.BROUGHT:
            raise SecretUnknown(name=name, known=", ".join(secrets.BROUGHT))
        value = sys.stdin.read().strip()
        if not value:
            raise SecretEmpty(name=name)
        if name == "certificate":
            certificates.accept(value, run.host_names, run.clock.now())
        secrets.bring(run.cloud.client("ssm"), run.secrets_folder, name, value)
        self.console.line(f"{name} is kept: the next provisioning of {run.identity} takes it")
