"""open: `doit open`, `doit ssh` and `doit logs`: open the site, log in to its hosts, show their logs."""

from __future__ import annotations

import sys
import webbrowser
from typing import TYPE_CHECKING

from tasks import administrator, mail
from tasks.commands.base import AS_JSON, Command, flag, json_of, run_of
from tasks.hosts import logs, ssh
from tasks.hosts.ssh import Host
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.process import children
from tasks.refusal import UNKNOWN, Refusal

if TYPE_CHECKING:
    from tasks.run import Run


class HostUnknown(Refusal):
    """The environment has no such host."""

    sentence = "command line: {host} is no host of this environment (known: {known})"
    remedy = "doit status"
    exit_code = UNKNOWN


class OpenCommand(Command):
    """`doit open [admin | mail | STORE]`: opens the site in a browser, if there is one, the administrator's page, the caught mail or a store."""

    name = "open"
    doc_purpose = "open the site in a browser, and print its address"
    doc_usage = "[admin | mail | STORE]"
    doc_description = (
        "admin: the administrator's page instead of the visitors'; `doit secrets show admin` says how to sign in. "
        "`doit secrets show authority` prints the certificate that a browser must trust once, or it warns. "
        "mail: the mail that was caught; `doit secrets show mail` has user and password. "
        "STORE: a store with a host name of its own, as `stores` has it in the environment's file."
    )
    cmd_options = (AS_JSON,)

    def _execute(self, as_json: bool = False, pos_args: list[str] | None = None) -> int:
        run = run_of(self.task_list)
        stores = dict(zip(run.environment.stores, run.stores, strict=True))
        match pos_args or []:
            case []:
                url = run.url
            case ["admin"]:
                url = administrator.page(run)
            case ["mail"]:
                url = mail.page(run)
            case [name] if name in stores:
                url = run.url_of(stores[name])
            case _:
                raise self.misread(pos_args or [])
        if as_json:
            self.console.line(json_of({"url": url}))
            return 0
        self.console.line(url)
        webbrowser.open(url)
        return 0


class SshCommand(Command):
    """`doit ssh [HOST] [COMMAND...]`: logs in to a host; its host keys are pinned since its launch."""

    name = "ssh"
    passes_words_on = True
    doc_purpose = "log in to a host, or run a command on it"
    doc_usage = "[HOST] [COMMAND ...]"
    doc_description = "HOST: an instance id, or a machine's name; without it, the environment's first host. The exit code is the command's."
    cmd_options = (AS_JSON,)

    def _execute(self, as_json: bool = False, pos_args: list[str] | None = None) -> int:
        found, words = _hosts(run_of(self.task_list), pos_args or [])
        if as_json:
            self.console.line(json_of([_public(each) for each in found]))
            return 0
        terminal = ["-t"] if sys.stdin.isatty() else []
        with ssh.login(found[0]) as command:
            code = children.hand_over([command[0], *terminal, *command[1:], *words])
        if code == ssh.FAILED and (refusal := ssh.refusal("ssh", found[0])):
            raise refusal
        return code


class LogsCommand(Command):
    """`doit logs [HOST]`: shows the journal of the environment's hosts."""

    name = "logs"
    doc_purpose = "show the journal of the environment's hosts"
    doc_usage = "[HOST]"
    cmd_options = (
        flag("follow", "go on with what comes, until Ctrl-C", short="f"),
        {
            "name": "lines",
            "short": "n",
            "long": "lines",
            "type": int,
            "default": 100,
            "help": "lines of each host's past [default: %(default)s]",
        },
        AS_JSON,
    )

    def _execute(
        self,
        follow: bool = False,
        lines: int = 100,
        as_json: bool = False,
        pos_args: list[str] | None = None,
    ) -> int:
        found, words = _hosts(run_of(self.task_list), pos_args or [])
        if words:
            raise HostUnknown(host=words[0], known=", ".join(each.name for each in found))
        show = logs.Show(lines=lines, follow=follow, as_json=as_json, named=len(found) > 1)
        return logs.tell(found, show, self.console.line)


def _hosts(run: Run, words: list[str]) -> tuple[list[Host], list[str]]:
    """The chosen hosts and the other words. Raises HostUnknown or NoMachine."""
    found = infrastructure.existing(run)
    reached, names = hosts.reachable(run, found), {each.id: each.name for each in found}
    if not words or not (words[0].startswith("i-") or words[0] in filter(None, names.values())):
        return reached, words
    named = [each for each in reached if words[0] in (each.name, names[each.name])]
    if not named:
        raise HostUnknown(host=words[0], known=", ".join(each.name for each in reached))
    return named, words[1:]


def _public(host: Host) -> dict[str, object]:
    """The fields of a host that may be shown: all but its key."""
    return {name: getattr(host, name) for name in ("name", "address", "port", "user", "host_keys")}
