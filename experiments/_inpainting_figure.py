"""The figure of `inpainting`: holes as each method fills them, how well, and the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.inpainting import LossGraph, Result, Task

METHODS = ("mean image", "least squares", "harmonic fill", "MLP")
_HOLE = style.series(5)["color"]
# Of the operations in the strip at the bottom: what each of them computes.
_MEANINGS = (
    "$W_1 x$",
    "ReLU",
    r"$\hat y$",
    r"$\hat y - y$",
    "square",
    "× ½",
    "sum: $L$",
)


def draw(result: Result) -> Figure:
    """Returns a gallery for each task, a chart of all of them, and the graph of the loss."""
    rows = -(-len(result.tasks) // 2)
    drawing, _ = style.figure(height=2.75 * rows + 3.9)
    drawing.clear()
    parts = drawing.subfigures(3, 1, squeeze=False, height_ratios=(2.75 * rows, 2.8, 1.1))
    galleries, chart, strip = parts[:, 0]
    places = galleries.subplots(rows, 2, squeeze=False).ravel()
    for place, task in zip(places, result.tasks, strict=False):
        _draw_gallery(place, task)
    for place in places[len(result.tasks) :]:
        place.set_axis_off()
    _draw_scores(chart.subplots(), result)
    _draw_graph(strip.subplots(), result.graph, float(result.losses.values[0]))
    return drawing


def _draw_gallery(place: Axes, task: Task) -> None:
    """Draws a row for the masked images, one for each method, and one for the truth."""
    with_hole = np.where(task.mask, np.nan, task.shown)
    rows = np.stack([with_hole, *task.filled, task.shown])
    count, across, height, width = rows.shape
    gap = max(height // 8, 1)
    framed = np.pad(rows, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=-1)
    pitch = height + gap
    picture = framed.swapaxes(1, 2).reshape(count * pitch, across * (width + gap))[:-gap, :-gap]
    is_photograph = task.name.startswith("photo")
    colours = matplotlib.colormaps["gray" if is_photograph else "gray_r"].with_extremes(
        bad=_HOLE, under="white"
    )
    place.imshow(picture, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    place.set_yticks(np.arange(count) * pitch + (height - 1) / 2, ["masked", *METHODS, "truth"])
    place.set_xticks([])
    place.tick_params(length=0)
    place.grid(visible=False)
    place.spines[:].set_visible(False)
    place.set_title(f"{task.name}: held out")


def _draw_scores(place: Axes, result: Result) -> None:
    count = len(METHODS)
    for method, name in enumerate(METHODS):
        look = style.series(method, linestyle="", label=name)
        for number, task in enumerate(result.tasks):
            values = task.psnr[method]
            spots = number + (method - (count - 1) / 2) * 0.2
            spread = np.linspace(-0.05, 0.05, len(values)) if len(values) > 1 else np.zeros(1)
            place.plot(spots + spread, values, **look)
            look["label"] = ""
            weight = "bold" if task.psnr.mean(axis=1).argmax() == method else "normal"
            place.annotate(
                f"{values.mean():.1f}",
                (spots, values.max()),
                (0, 5),
                ha="center",
                fontsize=8,
                textcoords="offset points",
                weight=weight,
                color=look["color"],
            )
    for number, task in enumerate(result.tasks):
        label = "MLP: to reach" if number == 0 else ""
        ends = (number + 0.18, number + 0.44)
        place.plot(ends, 2 * [task.to_reach], color="0.3", linestyle=":", marker="", label=label)
    place.set_xticks(range(len(result.tasks)), [_caption(task) for task in result.tasks])
    place.set_xlim(-0.55, len(result.tasks) - 0.45)
    bottom, top = place.get_ylim()
    place.set_ylim(bottom, top + 0.28 * (top - bottom))  # room for numbers and the legend
    place.set_ylabel("PSNR on missing pixels (dB)")
    last = result.first_seed + result.tasks[0].psnr.shape[1] - 1
    place.set_title(
        f"Held-out images, seeds {result.first_seed} to {last}, and their mean; best method bold"
    )
    place.legend(loc="upper left", ncols=5, columnspacing=1.2, handletextpad=0.3)


def _caption(task: Task) -> str:
    means = task.psnr.mean(axis=1)
    second, best = np.argsort(means)[-2:]
    lead = task.psnr[best] - task.psnr[second]
    # With a single seed there is no spread to compare the lead with.
    is_clear = len(lead) == 1 or lead.mean() > lead.std(ddof=1)
    verdict = f"{METHODS[best]} wins" if is_clear else f"{METHODS[best]}, {METHODS[second]}: even"
    return f"{task.name}\n{task.train:,} to train on\n{verdict}"


def _draw_graph(place: Axes, graph: LossGraph, first: float) -> None:
    """Draws the operations in a row, and what enters each of them from below."""
    place.set_axis_off()
    place.set_title(r"The loss of one image as a computational graph: $L = ½\,\|y - \hat y\|^2$")
    arguments = [i for i in range(len(graph.symbols)) if i not in {end for _, end in graph.wires}]
    operations = [i for i in range(len(graph.symbols)) if i not in arguments]
    spots = {node: (column + 1.0, 1.0) for column, node in enumerate(operations)}
    for node in arguments:
        target = next(end for start, end in graph.wires if start == node)
        is_first = graph.symbols[node] == "x"
        spots[node] = (0.0, 1.0) if is_first else (spots[target][0], 0.0)
    for start, end in graph.wires:
        arrow = {"arrowstyle": "->", "color": "0.3", "shrinkA": 17, "shrinkB": 17}
        if spots[start][1] == 0:
            arrow |= {"shrinkA": 9, "shrinkB": 9}
        place.annotate("", spots[end], spots[start], arrowprops=arrow)
    for node, (x, y) in spots.items():
        colour = style.series(0 if node in operations else 1)["color"]
        box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colour}
        text = _MEANINGS[operations.index(node)] if node in operations else graph.symbols[node]
        place.text(x, y, text, ha="center", va="center", bbox=box, fontsize=8)
        size = "×".join(map(str, graph.shapes[node])) or "scalar"
        if y == 1:
            place.text(x, y + 0.36, size, ha="center", va="bottom", fontsize=7, color="0.3")
        else:
            place.text(x + 0.28, y, size, ha="left", va="center", fontsize=7, color="0.3")
    words = f"of the first image above: $L$ = {first:.3g}"
    place.text(len(operations) + 0.4, 0, words, ha="right", va="center", fontsize=8)
    place.set_xlim(-0.5, len(operations) + 0.5)
    place.set_ylim(-0.4, 1.7)
