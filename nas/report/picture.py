"""Pictures of architectures: the computed graph in layers as SVG, or the choices as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.report.markup import NONE, Html, tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nas.architecture import Architecture
    from nas.space import Graph, Space

LARGEST = 60
"""Nodes of a graph that is still drawn."""
LETTERS = 16
"""Letters of an operation's name that are shown; the whole name comes with the pointer."""
HEIGHT, GAP, RISE = 22, 14, 26
"""Pixels: height of a node, between nodes of a layer, between layers."""
SWEEPS = 8
"""Times that the order within the layers is improved."""


def picture(space: Space, architecture: Architecture) -> Html:
    """The graph where the space has one of at most 60 nodes, else the choices."""
    graph = space.graph(architecture)
    if graph is None or not 1 < len(graph) <= LARGEST:
        return choices(architecture)
    return drawing(graph)


def choices(architecture: Architecture) -> Html:
    """A row for each group of decisions that share a path."""
    rows = (
        tag("tr", tag("th", group or NONE), tag("td", text)) for group, text in grouped(architecture).items()
    )
    return tag("table", *rows, class_="choices")


def grouped(architecture: Mapping[str, object]) -> dict[str, str]:
    """Choices as text by the path that their names begin with; empty for those without one."""
    found: dict[str, list[str]] = {}
    for name, value in architecture.items():
        path, _, last = name.rpartition(".")
        found.setdefault(path, []).append(f"{last} {value}")
    return {path: ", ".join(parts) for path, parts in found.items()}


def drawing(graph: Graph) -> Html:
    """A DAG from top to bottom, each node in the layer after its latest input.

    Within the layers, nodes are ordered by the mean place of their neighbours in the layer before.

    Source: Sugiyama, Tagawa and Toda 1981, sec. 5 (barycentres); edges over several layers are not routed
    but drawn as curves around what lies between.
    """
    layers = _layers(graph)
    widths = [_width(op) for op, _ in graph]
    span = max(sum(widths[i] for i in layer) + GAP * (len(layer) - 1) for layer in layers)
    centre = _centres(layers, widths, span)
    depth = {i: d for d, layer in enumerate(layers) for i in layer}
    bend = 30 if any(depth[i] - depth[j] > 1 for i, (_, inputs) in enumerate(graph) for j in inputs) else 0
    full, height = span + 2 * bend + 4, len(layers) * (HEIGHT + RISE) - RISE + 4
    edges = [
        _edge(centre[j] + bend, depth[j], centre[i] + bend, depth[i], full)
        for i, (_, inputs) in enumerate(graph)
        for j in inputs
    ]
    nodes = [_node(op, centre[i] + bend, depth[i], widths[i]) for i, (op, _) in enumerate(graph)]
    return tag(
        "svg", *edges, *nodes, viewBox=f"-2 -2 {full:.0f} {height:.0f}", width=f"{full:.0f}",
        height=f"{height:.0f}", class_="graph", role="img",
        aria_label=f"graph of {len(graph)} nodes",
    )  # fmt: skip


def _layers(graph: Graph) -> list[list[int]]:
    """Nodes by their longest way from an input, ordered to cross little."""
    depth: list[int] = []
    for _, inputs in graph:
        depth.append(1 + max((depth[j] for j in inputs), default=-1))
    layers: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for i, d in enumerate(depth):
        layers[d].append(i)
    near: list[list[int]] = [list(inputs) for _, inputs in graph]
    for i, (_, inputs) in enumerate(graph):
        for j in inputs:
            near[j].append(i)
    for sweep in range(SWEEPS):
        place = {i: (k + 0.5) / len(layer) for layer in layers for k, i in enumerate(layer)}
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            layer.sort(key=lambda i: (sum(place[j] for j in near[i]) / len(near[i]) if near[i] else 0.5, i))
            place |= {i: (k + 0.5) / len(layer) for k, i in enumerate(layer)}
    return layers


def _centres(layers: Sequence[Sequence[int]], widths: Sequence[float], span: float) -> dict[int, float]:
    """Where the middle of each node is, its layer centred."""
    found = {}
    for layer in layers:
        x = (span - sum(widths[i] for i in layer) - GAP * (len(layer) - 1)) / 2
        for i in layer:
            found[i] = x + widths[i] / 2
            x += widths[i] + GAP
    return found


def _width(op: str) -> float:
    return max(28.0, 7.0 * min(len(op), LETTERS) + 14)


def _edge(x0: float, d0: int, x1: float, d1: int, full: float) -> Html:
    top, bottom = d0 * (HEIGHT + RISE) + HEIGHT, d1 * (HEIGHT + RISE)
    if d1 - d0 == 1:
        middle = (top + bottom) / 2
        path = f"M{x0:.1f} {top}C{x0:.1f} {middle} {x1:.1f} {middle} {x1:.1f} {bottom}"
    else:
        # Around the layers between, on the nearer side.
        side = 4.0 if x0 + x1 < full else full - 8.0
        path = (
            f"M{x0:.1f} {top}C{side:.1f} {top + RISE} {side:.1f} {top + RISE} {side:.1f} {(top + bottom) / 2}"
            f"S{side:.1f} {bottom - RISE} {x1:.1f} {bottom}"
        )
    return tag("path", d=path, class_="edge")


def _node(op: str, x: float, depth: int, width: float) -> Html:
    y = depth * (HEIGHT + RISE)
    shown = op if len(op) <= LETTERS else op[: LETTERS - 1] + "…"
    plain = op in ("input", "identity", "sum", "zero")
    return tag(
        "g",
        tag("title", op),
        tag("rect", x=f"{x - width / 2:.1f}", y=y, width=f"{width:.1f}", height=HEIGHT, rx=5),
        tag("text", shown, x=f"{x:.1f}", y=y + HEIGHT / 2 + 4),
        class_="node plain" if plain else "node",
    )
