"""graph: the graph as Mermaid, or as SVG; and who talks to whom on an environment's hosts."""

from __future__ import annotations

from tasks import network
from tasks.commands.base import AS_JSON, Command, flag, json_of, run_of
from tasks.graph import diagram, due

SERVER = "server"


class GraphCommand(Command):
    """`doit graph`: the graph as Mermaid, or as SVG. `doit graph server`: services, ports and who may reach them."""

    name = "graph"
    doc_purpose = (
        "print the graph (Mermaid; --svg for a picture); `graph server`: who talks to whom on the hosts"
    )
    doc_usage = f"[{SERVER}]"
    cmd_options = (
        flag("svg", "print SVG"),
        flag("status", "show which stages are due", short="s"),
        AS_JSON,
    )

    def _execute(
        self,
        pos_args: list[str] | None = None,
        svg: bool = False,
        status: bool = False,
        as_json: bool = False,
    ) -> int:
        if pos_args and (pos_args != [SERVER] or status):
            raise self.misread(pos_args)
        self.outstream.write(self._server(svg, as_json) if pos_args else self._stages(svg, status, as_json))
        return 0

    def _stages(self, svg: bool, status: bool, as_json: bool) -> str:
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
            return json_of(picture) + "\n"
        return diagram.svg(picture) if svg else diagram.text(picture)

    def _server(self, svg: bool, as_json: bool) -> str:
        run = run_of(self.task_list)
        settings = run.environment.infrastructure
        networks = {name: getattr(settings, name) for name in network.OPEN_TO}
        found = network.ways(run.network, run.placement, settings.instances, networks)
        if as_json:
            return json_of(found) + "\n"
        return diagram.svg(diagram.reach(found)) if svg else diagram.table(found)
