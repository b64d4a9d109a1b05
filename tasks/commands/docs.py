"""docs: write the pages that are generated from the code."""

from __future__ import annotations

from tasks import docs
from tasks.commands.base import Command


class DocsCommand(Command):
    """`doit docs`: writes the pages that are generated from the code."""

    name = "docs"
    doc_purpose = "write the pages of docs/ that are made from the code"

    def _execute(self) -> int:
        for path, text in docs.pages().items():
            path.write_text(text)
            self.console.line(str(path))
        return 0
