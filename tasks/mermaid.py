"""mermaid: the graph as a picture: Mermaid's text, or SVG drawn by Graphviz."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Edges = list[tuple[str, str]]


def edges(tasks: Iterable[Any]) -> Edges:
    """Which stage waits for which, the parts of a stage drawn as that stage."""
    found: dict[tuple[str, str], None] = {}
    for task in tasks:
        stage = task.name.partition(":")[0]
        found |= {
            (upstream.partition(":")[0], stage): None
            for upstream in task.task_dep
            if upstream.partition(":")[0] != stage
        }
        if not task.task_dep and not task.subtask_of:
            found[stage, ""] = None
    # an edge says nothing that a longer way says too
    names = {name for edge in found for name in edge}
    return [
        (a, b)
        for a, b in found
        if not any((a, c) in found and (c, b) in found for c in names if c)
        and (b or not any(a in edge and all(edge) for edge in found))
    ]


def text(edges: Edges) -> str:
    """Mermaid, which code hosts draw by themselves."""
    lines = [f"    {a} --> {b}" if b else f"    {a}" for a, b in edges]
    return "\n".join(["graph LR", *lines]) + "\n"


def svg(edges: Edges) -> str:
    """SVG."""
    import pygraphviz

    graph = pygraphviz.AGraph(directed=True, rankdir="LR")
    graph.node_attr.update(shape="box", style="rounded", fontname="sans-serif")
    for a, b in edges:
        graph.add_edge(a, b) if b else graph.add_node(a)
    drawn: bytes = graph.draw(format="svg", prog="dot")
    return drawn.decode()
