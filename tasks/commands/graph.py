"""graph: the graph as Mermaid, or as SVG."""

from __future__ import annotations

from doit.cmd_base import DoitCmdBase

from tasks import mermaid
from tasks.commands import refusing


class Graph(DoitCmdBase):
    """`doit graph`: the graph as Mermaid, or as SVG."""

    name = "graph"
    doc_purpose = "print the graph (Mermaid; --svg for a picture)"
    doc_usage = ""
    doc_description = None
    cmd_options = (
        {
            "name": "svg",
            "short": "",
            "long": "svg",
            "type": bool,
            "default": False,
            "help": "print SVG instead of Mermaid",
        },
    )

    @refusing
    def _execute(self, svg: bool = False, pos_args: object = None) -> int:
        picture = mermaid.picture(self.task_list)
        self.outstream.write(mermaid.svg(picture) if svg else mermaid.text(picture))
        return 0
