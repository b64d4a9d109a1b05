"""compare: where the servers of two environments differ."""

from __future__ import annotations

from tasks.commands.base import Command, run_of
from tasks.environments import compare


class CompareCommand(Command):
    """`doit compare A B`: where the servers of two environments differ. Exit code 1 if they do."""

    name = "compare"
    doc_purpose = "print where the servers of two environments differ"
    doc_usage = "A B"
    doc_description = (
        "A and B: an environment, a branch, or an environment's full name such as testing-0d6e4079e3."
    )

    def _execute(self, pos_args: list[str] | None = None) -> int:
        if len(pos_args or ()) != 2:
            raise self.misread(pos_args or [])
        run = run_of(self.task_list)
        first, second = (compare.view(compare.ledgers(run, each)) for each in pos_args or ())
        found = compare.lines(first, second)
        for line in found:
            self.console.line(line)
        self.console.line(
            f"{' and '.join(pos_args or ())}: {f'{len(found)} differences' if found else 'the same'}"
        )
        return 1 if found else 0
