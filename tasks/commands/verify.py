"""verify: `doit verify`: build each layer twice and compare the results."""

from __future__ import annotations

from tasks.commands.base import Command, run_of
from tasks.process import children
from tasks.tarball import signature, verify
from tasks.tarball.build.layers import Build

SHOWN = 5
"""Paths that are shown at most of a layer that differs."""


class VerifyCommand(Command):
    """`doit verify`: builds each layer twice and compares. Exit code 1 if any differs."""

    name = "verify"
    doc_purpose = "build each layer twice and compare the results"

    def _execute(self) -> int:
        run = run_of(self.task_list)
        children.watch(run.id)
        code = 0
        for each in verify.verdicts(Build(run, signature.accept_build)):
            if each.differing:
                code = 1
                paths = ", ".join(each.differing[:SHOWN])
                more = f" and {len(each.differing) - SHOWN} more" if len(each.differing) > SHOWN else ""
                self.console.line(f"{each.layer}: {len(each.differing)} paths differ: {paths}{more}")
            else:
                self.console.line(f"{each.layer}: the same, {each.files} files")
        return code
