"""graph: the graph as Mermaid, or as SVG."""

from __future__ import annotations

from tasks.commands.base import AS_JSON, Command, flag, json_of
from tasks.graph import diagram, due


class GraphCommand(Command):
    """`doit graph`: the graph as Mermaid, or as SVG."""

    name = "graph"
    doc_purpose = "print the graph (Mermaid; --svg for a picture)"
    cmd_options = (
        flag("svg", "print SVG instead of Mermaid"),
        flag("status", "show which stages are due", short="s"),
        AS_JSON,
    )

    def _execute(self, svg: bool = False, status: bool = False, as_json: bool = False) -> int:
        tasks = {each.name: each for each in self.task_list}
        states = (
            {
                each.task: each.what
                for each in due.of_all(tasks, self.dep_manager)
                if each.what != due.ON_DEMAND
            }
            if status
            else None
        )
        picture = diagram.picture(self.task_list, states)
        if as_json:
            self.outstream.write(json_of(picture) + "\n")
            return 0
        self.outstream.write(diagram.svg(picture) if svg else diagram.text(picture))
        return 0
