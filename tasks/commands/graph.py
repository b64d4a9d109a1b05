"""graph: the graph as Mermaid, or as SVG."""

from __future__ import annotations

from doit.cmd_base import DoitCmdBase

from tasks import mermaid, standing
from tasks.commands import AS_JSON, json_of, refusing


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
        {
            "name": "status",
            "short": "s",
            "long": "status",
            "type": bool,
            "default": False,
            "help": "show which stages are due",
        },
        AS_JSON,
    )

    @refusing
    def _execute(
        self, svg: bool = False, status: bool = False, as_json: bool = False, pos_args: object = None
    ) -> int:
        tasks = {each.name: each for each in self.task_list}
        due = (
            {
                each.task: each.what
                for each in standing.of_all(tasks, self.dep_manager)
                if each.what != standing.ON_DEMAND
            }
            if status
            else None
        )
        picture = mermaid.picture(self.task_list, due)
        if as_json:
            self.outstream.write(json_of(picture) + "\n")
            return 0
        self.outstream.write(mermaid.svg(picture) if svg else mermaid.text(picture))
        return 0
