"""bootstrap: `doit bootstrap`: make what an account must have before the first release. For its administrator."""

from __future__ import annotations

import json
import sys

from tasks.bootstrap import account, steps
from tasks.commands.base import Command, flag, run_of
from tasks.infrastructure import zone
from tasks.refusal import Refusal
from tasks.run import without_role
from tasks.settings import is_local


class BootstrapUnconfirmed(Refusal):
    """`doit bootstrap` was not confirmed. Nothing was changed."""

    sentence = "bootstrap: {number} changes are not made without a yes"
    remedy = "doit bootstrap --yes"


class BootstrapCommand(Command):
    """`doit bootstrap`: shows what the account lacks, asks, and makes it."""

    name = "bootstrap"
    doc_purpose = "make what an account must have before the first release; for its administrator"
    doc_description = (
        "Bucket, zone, and where the settings name them CI's identity provider, its roles, an S3 endpoint and a budget alarm. It shows what is "
        "missing and asks. A second time there is nothing to do."
    )
    cmd_options = (
        flag("yes", "do not ask", short="y"),
        flag("cloudformation", "print the same as a template of CloudFormation, and change nothing"),
    )

    def _execute(self, yes: bool = False, cloudformation: bool = False) -> int:
        run = without_role(run_of(self.task_list))
        wanted = account.wanted(run)
        if cloudformation:
            self.console.line(json.dumps(account.template(wanted), indent=2))
            return 0
        found = steps.missing(wanted, run.cloud, run.store)
        for step in found:
            self.console.line(f"would {step.words}")
        if found and not yes and not _confirmed(f"Change account {wanted.id} in {len(found)} places? [y/N] "):
            raise BootstrapUnconfirmed(number=len(found))
        for step in found:
            self.console.progress("bootstrap", step.words)
            step.do()
        self.console.line(
            f"account {wanted.id}: {len(found)} changes" if found else f"account {wanted.id} has everything"
        )
        for role in wanted.roles:
            variable = role.name.removeprefix(f"{wanted.project}-").upper().replace("-", "_")
            self.console.line(f"{variable}_ROLE={wanted.role_arn(role)}")
        if not is_local(wanted.zone):
            servers = zone.name_servers(run.cloud, wanted.zone)
            self.console.line(f"{wanted.zone} NS {' '.join(servers)}")
        return 0


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")
