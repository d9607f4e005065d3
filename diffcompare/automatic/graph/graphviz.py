"""Places the nodes by Graphviz, which the extra `graphviz` installs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# Points that stand for a piece of a curve.
_PIECES = 8


class Placed:
    """Where Graphviz puts nodes and wires.

    Attributes:
        middles: Of each node's cell, `x` to the right and `y` downwards.
        curves: The points of each wire.
    """

    def __init__(self, middles: list[tuple[float, float]], curves: list[np.ndarray]):
        self.middles, self.curves = middles, curves


def place(
    sizes: Sequence[tuple[float, float]], wires: Sequence[tuple[int, int]], channel: float
) -> Placed:
    """Returns the places of cells of the given widths and heights.

    Raises:
        ModuleNotFoundError: pygraphviz is not installed.
    """
    try:
        import pygraphviz
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "engine='dot' needs pygraphviz, which is not installed. Install the extra: "
            "pip install 'diffcompare[graphviz]', or leave engine at 'layers'."
        ) from error
    drawing = pygraphviz.AGraph(directed=True, strict=False)
    # One inch of Graphviz is one unit here, so that its points are 1/72 of one.
    drawing.graph_attr.update(rankdir="LR", ranksep=str(channel), nodesep="0.7")
    drawing.node_attr.update(shape="box", fixedsize="true", label="")
    drawing.edge_attr.update(tailport="e", headport="w", arrowhead="none")
    for node, (width, height) in enumerate(sizes):
        drawing.add_node(node, width=f"{width:.4f}", height=f"{height:.4f}")
    for number, (source, target) in enumerate(wires):
        drawing.add_edge(source, target, key=str(number))
    drawing.layout(prog="dot")
    middles = [_point(drawing.get_node(node).attr["pos"]) for node in range(len(sizes))]
    curves = [
        _curve(drawing.get_edge(source, target, key=str(number)).attr["pos"])
        for number, (source, target) in enumerate(wires)
    ]
    # Graphviz counts upwards.
    top = max((y + h / 2 for (_, y), (_, h) in zip(middles, sizes, strict=True)), default=0.0)
    every: list[Any] = [*curves]
    top = max([top, *(float(curve[:, 1].max()) for curve in every)])
    flipped = [np.stack([curve[:, 0], top - curve[:, 1]], axis=1) for curve in curves]
    return Placed([(x, top - y) for x, y in middles], flipped)


def _point(text: str) -> tuple[float, float]:
    x, y = text.split(",")
    return float(x) / 72, float(y) / 72


def _curve(text: str) -> np.ndarray:
    """Returns points along a spline of cubic Bézier pieces."""
    words = [word for word in text.split() if word[0] not in "se"]
    ends = [word[2:] for word in text.split() if word[0] == "e"]
    knots = np.array([_point(word) for word in words])
    t = np.linspace(0, 1, _PIECES + 1)[1:, None]
    points = [knots[:1]]
    for i in range(0, len(knots) - 3, 3):
        a, b, c, d = knots[i : i + 4]
        points.append(
            (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        )
    points += [np.array([_point(end)]) for end in ends]
    return np.concatenate(points)
