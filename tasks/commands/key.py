"""key: `doit key`: make the key that signs tarballs."""

from __future__ import annotations

from tasks.commands.base import Command, flag, run_of
from tasks.tarball import signature


class KeyCommand(Command):
    """`doit key`: makes the key that tarballs are signed with, and prints the line for pipeline.yml."""

    name = "key"
    doc_purpose = "make the key that tarballs are signed with"
    doc_description = (
        "The private key stays in the cloud's parameter store. Add the printed public key to `public_keys` of "
        "pipeline.yml; the old one stays there as long as its tarballs may go live."
    )
    cmd_options = (flag("replace", "put a new key in the place of the one that is there"),)

    def _execute(self, replace: bool = False) -> int:
        run = run_of(self.task_list)
        made = signature.make_key(run, replace=replace)
        self.console.line(f"public_keys: [{', '.join([*run.pipeline.public_keys, made])}]")
        return 0
