"""verify: `doit verify`: build each layer twice and compare the results."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.commands.base import Command, run_of
from tasks.process import children
from tasks.tarball import signature, verify
from tasks.tarball.build.layers import Build
from tasks.tarball.verify import Comparison

SHOWN = 5
"""Paths that are shown at most of a layer that differs, or that reads what it does not declare."""


class VerifyCommand(Command):
    """`doit verify`: builds each layer twice and compares. Exit code 1 if any differs, or reads a file that it does not declare."""

    name = "verify"
    doc_purpose = "build each layer twice and compare the results"

    def _execute(self) -> int:
        run = run_of(self.task_list)
        children.watch(run.id)
        build = Build(run, signature.accept_build)
        by, found = verify.means(build), []
        for lack in by.lacks:
            self.console.line(f"verify: {lack}")
        where = (run.profile.folder / "profile.yml").relative_to(run.root)
        for each in verify.verdicts(build, by):
            found.append(each)
            self._show(each, f"{where}: layers.{each.declared}")
        for name, patterns in verify.never_read(found).items():
            for pattern in patterns:
                self.console.line(f"{name}: never reads {pattern} ({where}: layers.{name})")
        return int(any(each.differing or each.undeclared for each in found))

    def _show(self, found: Comparison, where: str) -> None:
        for path in found.undeclared[:SHOWN]:
            self.console.line(
                f"{found.layer}: looks for {path}, and does not see it ({where}: files, present or unseen)"
            )
        if len(found.undeclared) > SHOWN:
            self.console.line(
                f"{found.layer}: looks for {len(found.undeclared) - SHOWN} more that it does not see"
            )
        if found.differing:
            self.console.line(
                f"{found.layer}: {len(found.differing)} paths differ: {_listed(found.differing)}"
            )
        elif found.files:
            self.console.line(f"{found.layer}: the same, {found.files} files")


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more
