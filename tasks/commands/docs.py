"""docs: write the pages that are made from the code."""

from __future__ import annotations

from doit.cmd_base import DoitCmdBase

from tasks import report
from tasks.commands import refusing


class Docs(DoitCmdBase):
    """`doit docs`: writes the pages that are made from the code."""

    name = "docs"
    doc_purpose = "write the pages of docs/ that are made from the code"
    doc_usage = ""
    doc_description = None
    cmd_options = ()

    @refusing
    def _execute(self, pos_args: object = None) -> int:
        from tasks import docs

        for path, text in docs.pages().items():
            path.write_text(text)
            report.console.line(str(path))
        return 0
