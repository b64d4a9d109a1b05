"""allow: `doit allow DIGEST`: let a tarball go on that somebody has undone."""

from __future__ import annotations

from tasks.commands.base import Command, run_of
from tasks.release import undone


class AllowCommand(Command):
    """`doit allow DIGEST`: a tarball that a rollback has undone may be released again."""

    name = "allow"
    doc_purpose = "let a tarball be released again that `rollback` has undone"
    doc_usage = "DIGEST"
    doc_description = "DIGEST: the tarball's digest, or its beginning."

    def _execute(self, pos_args: list[str] | None = None) -> int:
        if not pos_args or len(pos_args) != 1:
            raise self.misread(pos_args or [])
        mark = undone.allow(run_of(self.task_list), pos_args[0])
        self.console.line(f"{mark.digest.id}, which {mark.by} has undone {mark.at}, may be released again")
        return 0
