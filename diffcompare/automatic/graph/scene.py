"""A graph as shapes: what both the SVG and the figure of matplotlib draw.

To the right of every node a piece of wire runs straight; the node's value stands above it and its
gradient below, so that the place tells them apart as well as the colour. Wires bend between the
columns only, where there is no text.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from diffcompare.automatic.graph import graphviz, shapes
from diffcompare.automatic.graph.layout import Cell, Layout, lay_out
from diffcompare.automatic.graph.shapes import Block, Box, Heat, Path, Role, Scene, Text

if TYPE_CHECKING:
    from diffcompare.automatic.graph.model import Graph, Node

_GAP = 0.7  # between the cells of a column
_AWAY = 0.28  # from the wire to the text
_CHANNEL = 1.9  # the least room between two columns
_END = 0.7  # the least straight end of a wire

Point = tuple[float, float]


class _Look(NamedTuple):
    """How a node looks, wherever it stands."""

    body: tuple[float, float]  # the width and the height of its outline
    caption: str
    wide: float  # of the outline and the caption
    value: Block
    gradient: Block

    @property
    def label(self) -> float:
        """The width of the value and the gradient."""
        return max(self.value.width, self.gradient.width) + 0.5

    @property
    def cell(self) -> Cell:
        under = self.body[1] / 2 + (shapes.SIZES["name"] * 1.2 if self.caption else 0)
        return Cell(
            max(self.body[1] / 2, self.value.height + _AWAY),
            max(under, self.gradient.height + _AWAY),
        )


class _Places(NamedTuple):
    """Where the nodes and wires are."""

    middles: list[Point]  # of the outlines
    gates: list[float]  # where the straight piece of wire at a node ends
    wires: list[tuple[Point, ...]]


def compose(graph: Graph, engine: Literal["layers", "dot"] = "layers") -> Scene:
    """Returns the scene of a graph.

    Args:
        graph: What to draw.
        engine: What places the nodes.

    Raises:
        ValueError: There is no such engine.
        ModuleNotFoundError: The engine is "dot", and pygraphviz is not installed.
    """
    if engine not in ("layers", "dot"):
        raise ValueError(f"engine must be 'layers' or 'dot', but it is {engine!r}.")
    looks = [_look(node) for node in graph.nodes]
    places = (_by_layers if engine == "layers" else _by_dot)(graph, looks)
    scene = Scene(0.0, 0.0, [], [], [], [])
    for node, look, (x, y), gate in zip(
        graph.nodes, looks, places.middles, places.gates, strict=True
    ):
        _add_node(scene, node, look, x, y, gate)
    for wire, points in zip(graph.wires, places.wires, strict=True):
        scene.paths.append(Path(points, wire.kind, wire.source, wire.target, True))
    corners = [point for path in scene.paths for point in path.points]
    bottoms = [y + look.cell.below for look, (_, y) in zip(looks, places.middles, strict=True)]
    return scene._replace(
        width=max((x for x, _ in corners), default=0.0) + _GAP,
        height=max([*bottoms, *(y for _, y in corners)], default=0.0) + _GAP,
    )


def _look(node: Node) -> _Look:
    caption = node.name if node.is_named and node.name != node.symbol else ""
    width = max(shapes.text_width(node.symbol, "symbol") + 0.8, 2.1)
    return _Look(
        (width, 2.1),
        caption,
        max(width, shapes.text_width(caption, "name")),
        shapes.block(node.value, "value"),
        shapes.block(node.gradient if node.reaches else None, "gradient"),
    )


def _add_node(scene: Scene, node: Node, look: _Look, x: float, y: float, gate: float) -> None:
    is_leaf = node.kind in ("argument", "constant")
    scene.boxes.append(Box(x, y, *look.body, node.index, is_leaf))
    scene.texts.append(Text(x, y, node.symbol, "symbol", node.index))
    if look.caption:
        below = y + look.body[1] / 2 + shapes.SIZES["name"] * 0.75
        scene.texts.append(Text(x, below, look.caption, "name", node.index))
    start = x + look.body[0] / 2
    scene.paths.append(Path(((start, y), (gate, y)), "stub", node.index, None, bool(node.outputs)))
    # In the middle of the straight piece, which may be longer than what it carries.
    centre = (x + look.wide / 2 + gate) / 2
    _add_block(scene, look.value, centre, y, "value", node.index)
    _add_block(scene, look.gradient, centre, y, "gradient", node.index)


def _add_block(scene: Scene, block: Block, x: float, y: float, role: Role, node: int) -> None:
    if not block.text:
        return
    away = -1 if role == "value" else 1
    line = shapes.SIZES[role] * 1.25
    if block.colours is not None:
        middle = y + away * (_AWAY + block.size[1] / 2)
        scene.heats.append(Heat(x, middle, *block.size, block.colours, role, node))
    y += away * (_AWAY + block.height - line / 2)
    scene.texts.append(Text(x, y, block.text, role, node))


def _by_layers(graph: Graph, looks: list[_Look]) -> _Places:
    wires = [(wire.source, wire.target) for wire in graph.wires]
    leaves = [node.index for node in graph.nodes if node.kind in ("argument", "constant")]
    cells = [look.cell for look in looks]
    layout = lay_out(cells, wires, leaves, _GAP)
    tops = (layout.height[n] - cell.above for n, cell in enumerate(cells))
    shift = _GAP - min(tops, default=0.0)
    layout = layout._replace(height=[height + shift for height in layout.height])
    lefts, middles, gates = _columns(layout, looks)
    column = layout.column
    return _Places(
        [(middles[column[n]], layout.height[n]) for n in range(len(looks))],
        [gates[column[n]] for n in range(len(looks))],
        _routed(layout, looks, lefts, middles, gates),
    )


def _columns(layout: Layout, looks: list[_Look]) -> tuple[list[float], list[float], list[float]]:
    """Returns the left end, the middle of the outlines, and the right end of every column."""
    lefts, middles, gates = [], [], []
    x = _GAP
    for number, units in enumerate(layout.columns):
        members = [looks[unit] for unit in units if unit < len(looks)]
        lefts.append(x)
        width = max((look.wide for look in members), default=0.0)
        middles.append(x + width / 2)
        x += width + max((look.label for look in members), default=0.0)
        gates.append(x)
        # Steep wires get more room, so that they stay apart.
        rises = [
            abs(layout.height[a] - layout.height[b])
            for route in layout.routes
            for a, b in itertools.pairwise(route)
            if layout.column[a] == number
        ]
        x += max(_CHANNEL, min(0.3 * max(rises, default=0.0), 2.5 * _CHANNEL))
    return lefts, middles, gates


def _routed(
    layout: Layout,
    looks: list[_Look],
    lefts: list[float],
    middles: list[float],
    gates: list[float],
) -> list[tuple[Point, ...]]:
    """Returns the points of every wire; those that reach one node do so at different heights."""
    arriving: dict[int, list[tuple[float, int]]] = {}
    for number, route in enumerate(layout.routes):
        arriving.setdefault(route[-1], []).append((layout.height[route[-2]], number))
    ports: dict[int, float] = {}
    for target, wires in arriving.items():
        room = looks[target].body[1] * 0.6
        for i, (_, number) in enumerate(sorted(wires)):
            ports[number] = layout.height[target] + room * ((i + 0.5) / len(wires) - 0.5)
    paths = []
    for number, route in enumerate(layout.routes):
        points = [(gates[layout.column[route[0]]], layout.height[route[0]])]
        for station in route[1:-1]:
            column, height = layout.column[station], layout.height[station]
            points += [(lefts[column], height), (gates[column], height)]
        column, target, port = layout.column[route[-1]], route[-1], ports[number]
        edge = middles[column] - _reach(looks[target].body, port - layout.height[target])
        # The arrow stands on a straight end, which may begin before the column.
        bend = min(lefts[column], edge - _END)
        paths.append((*points, (bend, port), (edge, port)))
    return paths


def _reach(body: tuple[float, float], away: float) -> float:
    """Returns how far the outline is from its middle, `away` above or below that."""
    radius = body[1] / 2
    return body[0] / 2 - radius + float(np.sqrt(max(radius**2 - away**2, 0.0)))


def _by_dot(graph: Graph, looks: list[_Look]) -> _Places:
    # The wires leave and reach a cell at its middle, so it is as large above as below.
    sizes = [
        (look.wide + look.label + 0.6, 2 * max(look.cell.above, look.cell.below)) for look in looks
    ]
    wires = [(wire.source, wire.target) for wire in graph.wires]
    placed = graphviz.place(sizes, wires, _CHANNEL)
    middles, gates, paths = [], [], []
    for look, (width, _), (x, y) in zip(looks, sizes, placed.middles, strict=True):
        middles.append((x - width / 2 + 0.6 + look.wide / 2, y + _GAP))
        gates.append(x + width / 2)
    for (_, target), curve in zip(wires, placed.curves, strict=True):
        edge = middles[target][0] - looks[target].body[0] / 2
        points = [(float(x), float(y) + _GAP) for x, y in curve]
        paths.append((*points, (edge, middles[target][1])))
    return _Places(middles, gates, paths)
