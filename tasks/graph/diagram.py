"""diagram: draw the graph, as Mermaid text or as SVG by Graphviz."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """Tasks in the graph's order. `edges`: an upstream and the task that waits for it."""

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    due: Mapping[str, str] | None = None
    """The verdict for each task: `run`, `maybe`, `point`, `unchanged` or `ignored`; None without a plan."""


COLOURS = {
    "run": "#f5b7a8",
    "maybe": "#f8e3a1",
    "point": "#f3efc4",
    "unchanged": "#bfe3c0",
    "ignored": "#dddddd",
}


def picture(tasks: Iterable[Any], due: Mapping[str, str] | None = None) -> Diagram:
    """What to draw: a group is left out, its parts are drawn."""
    real = [each for each in tasks if not each.has_subtask]
    found = [(upstream, each.name) for each in real for upstream in each.task_dep]
    # leave out an edge that a longer path implies
    edges = [(a, b) for a, b in found if not any((a, c) in found and (c, b) in found for c, _ in found)]
    return Diagram(nodes=tuple(each.name for each in real), edges=tuple(dict.fromkeys(edges)), due=due)


def text(drawn: Diagram) -> str:
    """The diagram as Mermaid, which code hosts render."""
    nodes = [f"    {_id(name)}[{name}]" for name in drawn.nodes]
    edges = [f"    {_id(a)} --> {_id(b)}" for a, b in drawn.edges]
    colours = [f"    classDef {what} fill:{colour},color:#000" for what, colour in COLOURS.items()]
    states = [f"    class {_id(name)} {what}" for name, what in (drawn.due or {}).items()]
    return "\n".join(["graph LR", *nodes, *edges, *(colours + states if states else [])]) + "\n"


def svg(drawn: Diagram) -> str:
    """The diagram as SVG."""
    import pygraphviz

    graph = pygraphviz.AGraph(directed=True, rankdir="LR")
    graph.node_attr.update(shape="box", style="rounded", fontname="sans-serif")
    graph.add_nodes_from(drawn.nodes)
    graph.add_edges_from(drawn.edges)
    for name, what in (drawn.due or {}).items():
        graph.get_node(name).attr.update(style="rounded,filled", fillcolor=COLOURS[what])
    image: bytes = graph.draw(format="svg", prog="dot")
    return image.decode()


def reach(ways: Iterable[Any]) -> Diagram:
    """Who may reach what: an edge from each of `who` to where one gets."""
    edges = tuple((who, f"{each.to} {each.port}{_on(each)}") for each in ways for who in each.who)
    return Diagram(nodes=tuple(dict.fromkeys(name for edge in edges for name in edge)), edges=edges)


def table(ways: Iterable[Any]) -> str:
    """The same as text."""
    rows = [("SERVICE", "PORT", "LISTENS ON", "WHO MAY REACH IT")]
    rows += [(each.to, each.port, f"{each.bind}{_on(each)}", "; ".join(each.who)) for each in ways]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
        for row in rows
    )


def _on(each: Any) -> str:
    return f" on {', '.join(each.on)}" if each.on else ""


def _id(name: str) -> str:
    return name.replace(":", "_").replace("-", "_")
