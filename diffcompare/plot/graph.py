"""Computational graphs as figures and animations."""

import pathlib
from collections.abc import Collection
from typing import Any, Literal

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Polygon
from matplotlib.transforms import Bbox, TransformedBbox

from diffcompare.automatic.graph import Graph, shapes, svg
from diffcompare.automatic.graph.exports import GREEN, RED
from diffcompare.automatic.graph.scene import compose
from diffcompare.plot import style

_POINTS = 9.0  # of the font where the figure is made here
_PER_INCH = 72.0
_LINE = "#555555"
_COLOURS = {"symbol": "#000000", "name": "#444444", "value": GREEN, "gradient": RED}


def draw(
    graph: Graph,
    ax: Axes | None = None,
    *,
    step: int | None = None,
    engine: Literal["layers", "dot"] = "layers",
) -> Axes:
    """Returns axes on which a graph is drawn; see `Graph.draw`.

    Raises:
        TypeError: `ax` is something else, such as a path.
        ValueError: There is no such step.
    """
    if not isinstance(ax, Axes | None):
        raise TypeError(
            f"ax must be axes of matplotlib or None, but it is {ax!r}. To save a picture, write "
            "graph.draw().figure.savefig(path)."
        )
    scene = compose(graph, engine)
    with style.context():
        axes = _new_axes(scene) if ax is None else ax
        figure: Any = axes.get_figure()
        if figure.get_layout_engine() is not None:
            figure.get_layout_engine().execute(figure)
        draw_scene(axes, scene, *shown_at(graph, step))
    return axes


def animate(graph: Graph, path: Any, *, seconds: float = 1.0, dpi: int = 100) -> None:
    """Writes an animation of both passes; see `Graph.animate`.

    Raises:
        ValueError: The file is neither a GIF nor an APNG.
    """
    file = pathlib.Path(path)
    if file.suffix not in (".gif", ".png", ".apng"):
        raise ValueError(f"animate writes .gif, .png or .apng files, but got {file.name!r}.")
    scene = compose(graph)
    steps = graph.steps()
    with style.context():
        axes = _new_axes(scene, extra=2.0)
        figure: Any = axes.get_figure()
        rate: Any = 1 / seconds
        writer = PillowWriter(fps=rate)
        with writer.saving(figure, str(file), dpi):
            # The last picture stays for a while.
            for number in [-1, *range(len(steps)), *[len(steps) - 1] * 2]:
                axes.clear()
                draw_scene(axes, scene, *shown_at(graph, number))
                axes.set_ylim(scene.height + 2.0, 0)
                if number >= 0:
                    axes.text(
                        scene.width / 2, scene.height + 0.9, steps[number].text, ha="center",
                        va="center", fontsize=_font_size(axes, scene),
                    )  # fmt: skip
                writer.grab_frame()


def _new_axes(scene: shapes.Scene, extra: float = 0.0) -> Axes:
    unit = _POINTS / _PER_INCH
    figure = Figure(figsize=(scene.width * unit, (scene.height + extra) * unit))
    return figure.add_axes((0, 0, 1, 1))


def _font_size(ax: Axes, scene: shapes.Scene) -> float:
    """Returns the points of the scene's unit, as large as the axes allow."""
    figure: Any = ax.get_figure()
    box = ax.get_position()
    inches = figure.get_size_inches() * np.array([box.width, box.height])
    return float(min(inches[0] / scene.width, inches[1] / scene.height)) * _PER_INCH


def draw_scene(
    ax: Axes,
    scene: shapes.Scene,
    shown: Collection[tuple[str, int]],
    current: int | None = None,
) -> None:
    """Draws the shapes of a graph, as large as the axes allow.

    Args:
        ax: Where to draw. The size of the font is that of the layout as it is now, so give the
            axes of the figure their titles first, and have them placed.
        scene: What to draw.
        shown: Which values and gradients are drawn; see `shown_at`.
        current: The node that is marked.
    """
    ax.set_xlim(0, scene.width)
    ax.set_ylim(scene.height, 0)
    ax.set_aspect("equal")
    ax.axis("off")
    unit = _font_size(ax, scene)
    for path in scene.paths:
        _draw_path(ax, path, unit)
    for box in scene.boxes:
        _draw_box(ax, box, unit, box.node == current)
    for heat in scene.heats:
        if (heat.role, heat.node) in shown:
            _draw_heat(ax, heat, unit)
    for text in scene.texts:
        if text.role in ("symbol", "name") or (text.role, text.node) in shown:
            ax.text(
                text.x, text.y, text.text, ha="center", va="center_baseline",
                fontsize=shapes.SIZES[text.role] * unit, color=_COLOURS[text.role],
                fontstyle="italic" if text.role == "name" else "normal",
                fontweight="bold" if text.node == current and text.role == "symbol" else "normal",
                gid=f"{text.role} {text.node}", zorder=4,
            )  # fmt: skip


def shown_at(graph: Graph, step: int | None) -> tuple[set[tuple[str, int]], int | None]:
    """Returns the values and gradients that are known after a step, and the node of the step.

    Each is `("value", node)` or `("gradient", node)`. None stands for all steps.
    """
    everything = {(role, node.index) for node in graph.nodes for role in ("value", "gradient")}
    if step is None:
        return everything, None
    steps = graph.steps()
    if not -1 <= step < len(steps):
        raise ValueError(f"step must be from -1 to {len(steps) - 1}, but it is {step}.")
    leaves = (node for node in graph.nodes if node.kind in ("argument", "constant"))
    shown = {("value", node.index) for node in leaves}
    roles = {"forward": "value", "backward": "gradient"}
    shown |= {(roles[done.direction], done.node) for done in steps[: step + 1]}
    return shown, steps[step].node if step >= 0 else None


def _draw_path(ax: Axes, path: shapes.Path, unit: float) -> None:
    x, y = zip(*path.points, strict=True)
    width = 0.09 * unit
    dashes = svg.DASHES.get(path.kind)
    # The dashes of a line are given in multiples of its width.
    pattern: Any = "-" if dashes is None else (0, tuple(dash * unit / width for dash in dashes))
    ax.plot(
        x, y, color=_LINE, linewidth=width, linestyle=pattern, marker="", zorder=1,
        solid_capstyle="round", gid=f"wire {path.source} {path.target}",
    )  # fmt: skip
    if path.has_arrow:
        ax.add_patch(Polygon(svg.arrow(path.points), closed=True, color=_LINE, lw=0, zorder=2))


def _draw_box(ax: Axes, box: shapes.Box, unit: float, is_current: bool) -> None:
    ax.add_patch(
        Polygon(
            _outline(box), closed=True, facecolor="#e8eef7" if box.is_leaf else "white",
            edgecolor="black", linewidth=(0.3 if is_current else 0.09) * unit, zorder=3,
        )
    )  # fmt: skip


def _outline(box: shapes.Box) -> np.ndarray:
    """Returns the corners of a rectangle with round corners, which for an operation meet."""
    radius = 0.3 if box.is_leaf else box.height / 2
    across, down = box.width / 2 - radius, box.height / 2 - radius
    angles = np.linspace(0, np.pi / 2, 13)
    corners = [
        np.stack([x * across + radius * np.cos(angles + turn),
                  y * down + radius * np.sin(angles + turn)], axis=1)
        for x, y, turn in ((1, 1, 0), (-1, 1, np.pi / 2), (-1, -1, np.pi), (1, -1, 3 * np.pi / 2))
    ]  # fmt: skip
    return np.concatenate(corners) + np.array([box.x, box.y])


def _draw_heat(ax: Axes, heat: shapes.Heat, unit: float) -> None:
    left, top = heat.x - heat.width / 2, heat.y - heat.height / 2
    box = Bbox.from_bounds(left, top, heat.width, heat.height)
    image = AxesImage(ax, interpolation="nearest", origin="upper", zorder=3)
    image.set_data(heat.colours)
    image.set_extent((left, left + heat.width, top + heat.height, top))
    image.set_clip_box(TransformedBbox(box, ax.transData))
    ax.add_image(image)
    corners = [box.p0, (box.x1, box.y0), box.p1, (box.x0, box.y1)]
    ax.add_patch(Polygon(corners, fill=False, edgecolor="black", lw=0.04 * unit, zorder=4))
