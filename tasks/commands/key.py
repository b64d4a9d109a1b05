"""key: make the key that tarballs are signed with."""

from __future__ import annotations

from doit.cmd_base import DoitCmdBase

from tasks import report
from tasks.commands import refusing, run_of
from tasks.refusal import UnknownTask


class Key(DoitCmdBase):
    """`doit key`: makes the key that tarballs are signed with, and prints the line for pipeline.yml."""

    name = "key"
    doc_purpose = "make the key that tarballs are signed with"
    doc_usage = ""
    doc_description = (
        "The private key stays in the cloud's parameter store. Add the printed public key to `public_keys` of "
        "pipeline.yml; the old one stays there as long as its tarballs may go live."
    )
    cmd_options = (
        {
            "name": "replace",
            "long": "replace",
            "type": bool,
            "default": False,
            "help": "put a new key in the place of the one that is there",
        },
    )

    @refusing
    def _execute(self, replace: bool = False, pos_args: list[str] | None = None) -> int:
        from tasks import signature

        if pos_args:
            raise UnknownTask(name=f"key {' '.join(pos_args)}", known="key, without anything")
        run = run_of(self.task_list)
        made = signature.make_key(run, replace=replace)
        report.console.line(f"public_keys: [{', '.join([*run.pipeline.public_keys, made])}]")
        return 0
