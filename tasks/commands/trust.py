"""trust: `doit trust`: print the trust policy of a CI role."""

from __future__ import annotations

import json

from tasks import trust
from tasks.commands.base import Command, run_of


class TrustCommand(Command):
    """`doit trust ROLE`: prints the trust policy of a CI role, from the settings `ci` of pipeline.yml."""

    name = "trust"
    doc_purpose = "print which CI jobs may assume a role, as a trust policy"
    doc_usage = "ROLE [ACCOUNT]"
    doc_description = (
        f"ROLE: one of {', '.join(trust.ROLES)}. ACCOUNT: the role's account; without it, the caller's."
    )

    def _execute(self, pos_args: list[str] | None = None) -> int:
        words = pos_args or []
        if not 1 <= len(words) <= 2:
            raise self.misread(words)
        run = run_of(self.task_list)
        account = words[1] if len(words) > 1 else run.cloud.caller().account
        made = trust.policy(run.pipeline.ci, run.pipeline.default_branch, words[0], account)
        self.console.line(json.dumps(made, indent=2))
        return 0
