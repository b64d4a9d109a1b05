"""diff: what differs between two tarballs."""

from __future__ import annotations

from tasks.commands.base import Command, run_of
from tasks.environments import diff


class DiffCommand(Command):
    """`doit diff A B`: what differs between two tarballs, and their sizes by layer. Exit code 1 if they differ."""

    name = "diff"
    doc_purpose = "print what differs between two tarballs"
    doc_usage = "A B"
    doc_description = (
        "A and B: a digest or its beginning, a commit, an environment or a branch with a release."
    )

    def _execute(self, pos_args: list[str] | None = None) -> int:
        if len(pos_args or ()) != 2:
            raise self.misread(pos_args or [])
        run = run_of(self.task_list)
        first, second = (diff.find(run, each) for each in pos_args or ())
        if first == second:
            self.console.line(f"{first.short}: the same")
            return 0
        before, after = diff.read(run, first), diff.read(run, second)
        found = list(diff.lines(before, after))
        for line in (*found, *diff.sizes(before, after)):
            self.console.line(line)
        self.console.line(f"{first.short} and {second.short}: {len(found)} differences")
        return 1
