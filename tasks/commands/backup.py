"""backup: `doit backup` and `doit restore`: back the environment up now, and bring a backup back."""

from __future__ import annotations

from tasks.backup import host, retention
from tasks.commands.base import Command, flag, run_of
from tasks.promotion import rules
from tasks.refusal import Refusal


class RestoreUnconfirmed(Refusal):
    """What customers see is replaced only by somebody who types its host name."""

    sentence = "restore: {environment} is what customers see, and would be replaced by the backup {when}"
    remedy = "doit restore --confirm {host_name} {when}"


class BackupCommand(Command):
    """`doit backup`: the host backs up now, as its timer does every day."""

    name = "backup"
    doc_purpose = "back up the environment's database and files now, encrypted, into the bucket"
    cmd_options = (
        flag(
            "forget",
            "back up nothing; remove what backup.days, weeks and months keep no longer, without environment=NAME of all that back up",
        ),
    )

    def _execute(self, forget: bool = False) -> int:
        run = run_of(self.task_list)
        lines = host.of_each(run, "backup --forget", retention.forget) if forget else host.take(run)
        for line in lines:
            self.console.line(line)
        return 0


class RestoreCommand(Command):
    """`doit restore [WHEN]`: the database and files are as in a backup again; what was there is kept aside."""

    name = "restore"
    doc_purpose = "bring the environment's database and files back; what was there is kept aside"
    doc_usage = "[WHEN]"
    doc_description = (
        "WHEN: newest, which need not be typed; a day or a time of UTC such as 2026-11-28T04:00, for the last backup until then; "
        "or the beginning of a backup's id. The site is closed meanwhile."
    )
    cmd_options = (
        flag(
            "attempt",
            "restore it beside what is there, look whether it is whole, and remove it again",
            long="try",
        ),
        {
            "name": "confirm",
            "short": "",
            "long": "confirm",
            "type": str,
            "default": "",
            "help": "the site's host name, for an environment that customers see",
        },
    )

    def _execute(self, attempt: bool = False, confirm: str = "", pos_args: list[str] | None = None) -> int:
        words, run = pos_args or ["newest"], run_of(self.task_list)
        if len(words) != 1:
            raise self.misread(words)
        if run.environment.takes_from and not attempt:
            if refused := rules.frozen(self.name, run.environment_name, run.environment, run.clock.now()):
                raise refused
            if confirm != run.host_name:
                raise RestoreUnconfirmed(
                    environment=run.environment_name, when=words[0], host_name=run.host_name
                )
        for line in host.attempt(run, words[0]) if attempt else host.restore(run, words[0]):
            self.console.line(line)
        return 0
