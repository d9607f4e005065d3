"""The figure of `decision_boundaries`: maps of classes, and what was counted on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure

from diffcompare.plot import style
from experiments import _small_networks as networks

if TYPE_CHECKING:
    from experiments.decision_boundaries import Boundaries, Lines, Model, Result


def draw(result: Result) -> Figure:
    """Returns a row of maps for every problem, and a row of what was measured."""
    rows, columns = len(result.problems), len(result.problems[0].models)
    heights = [1.3 * rows + 0.3, 3.1]
    drawing, place = style.figure(height=sum(heights))
    place.remove()
    parts: Any = drawing.subfigures(2, 1, height_ratios=heights)
    upper, lower = parts
    maps = upper.subplots(rows, columns, squeeze=False)
    for row, problem in zip(maps, result.problems, strict=True):
        for place, model in zip(row, problem.models, strict=True):
            _draw_map(place, problem, model)
        row[0].set_ylabel(problem.problem)
    for place, model in zip(maps[0], result.problems[0].models, strict=True):
        place.set_title(model.name)
    below = lower.subplots(1, 3)
    _draw_accuracies(below[0], result.problems)
    _draw_regions(below[1], result)
    _draw_lines(below[2], result.lines)
    return drawing


def _tints(count: int, strength: float) -> ListedColormap:
    """Returns the colours of so many classes, thinned with white."""
    colours = [np.array(to_rgb(style.COLOURS[each])) for each in range(count)]
    return ListedColormap([tuple(1 - strength * (1 - colour)) for colour in colours])


def _draw_classes(place: Axes, classes: np.ndarray, half: float, count: int) -> None:
    extent = (-half, half, -half, half)
    look: dict[str, Any] = {"vmin": -0.5, "vmax": count - 0.5, "interpolation": "nearest"}
    place.imshow(classes, cmap=_tints(count, 0.35), origin="lower", extent=extent, **look)
    place.set_xlim(-half, half)
    place.set_ylim(-half, half)
    place.set_xticks([])
    place.set_yticks([])
    place.grid(visible=False)


def _draw_map(place: Axes, problem: Boundaries, model: Model) -> None:
    _draw_classes(place, model.classes, problem.half, 2)
    pieces = model.pieces.astype(int)
    edges = np.zeros(pieces.shape)
    edges[:, 1:] += pieces[:, 1:] != pieces[:, :-1]
    edges[1:] += pieces[1:] != pieces[:-1]
    shade = np.zeros((*edges.shape, 4))
    # Beyond some hundred pieces their edges would hide the classes.
    shade[..., 3] = 0.4 * (edges > 0) * min(1.0, 0.12 / max(float(np.mean(edges > 0)), 1e-9))
    extent = (-problem.half, problem.half, -problem.half, problem.half)
    place.imshow(shade, origin="lower", extent=extent, interpolation="nearest")
    for label in (0, 1):
        place.plot(
            *problem.points[problem.labels == label].T,
            color=style.COLOURS[label],
            marker=style.MARKERS[label],
            linestyle="",
            markersize=1.6,
            markeredgewidth=0,
        )
    place.set_xlabel(f"{model.accuracy.mean():.3f}", labelpad=2)


def _draw_accuracies(place: Axes, problems: list[Boundaries]) -> None:
    for index, problem in enumerate(problems):
        means = [model.accuracy.mean() for model in problem.models]
        spreads = [networks.spread(model.accuracy) for model in problem.models]
        spots = np.arange(len(means)) + 0.12 * (index - 1)
        look = style.series(index + 2, linewidth=1)
        place.errorbar(spots, means, spreads, label=problem.problem, capsize=2, **look)
    place.axhline(0.5, color="0.3", linestyle=":", linewidth=1)
    models = problems[0].models
    place.set_xticks(
        range(len(models)),
        ["lin."] + [",\n".join(map(str, model.hidden)) for model in models[1:]],
    )
    place.set_xlabel("hidden units H; linear: none")
    place.set_ylabel("held-out accuracy, mean ± s.d.")
    place.set_title(f"Accuracy, {len(models[0].accuracy)} seeds")
    place.legend(loc="lower right")


def _draw_regions(place: Axes, result: Result) -> None:
    for index, problem in enumerate(result.problems):
        shallow = [model for model in problem.models if len(model.hidden) == 1]
        units = [model.hidden[0] for model in shallow]
        look = style.series(index + 2, linewidth=1)
        exact = [model.exact.mean() for model in shallow]
        place.loglog(units, exact, label=problem.problem, **look)
        counted = [model.regions.mean() for model in shallow]
        place.loglog(units, counted, **look | {"linestyle": "", "markerfacecolor": "white"})
    most = [1 + n + n * (n - 1) / 2 for n in units]
    place.loglog(units, most, color="0.3", linestyle=":", linewidth=1, label="most by H lines")
    label = f"seen on {result.cells}² points"
    place.plot([], [], label=label, color="0.3", linestyle="", marker="o", markerfacecolor="white")
    place.set_xticks(units, [str(n) for n in units])
    place.minorticks_off()
    place.set_xlabel("hidden units H, one layer")
    place.set_ylabel("regions in the square, mean")
    place.set_title("Linear regions")
    place.legend(loc="upper left", fontsize=7)
    bottom, top = place.get_ylim()
    place.set_ylim(bottom, top * 12)  # room for the legend


def _draw_lines(place: Axes, lines: Lines) -> None:
    count = len(lines.bias)
    _draw_classes(place, lines.classes, lines.half, count)
    for label, (weight, bias) in enumerate(zip(lines.weight, lines.bias, strict=True)):
        colour = style.COLOURS[label]
        chosen = lines.points[lines.labels == label]
        look: dict[str, Any] = {"linestyle": "", "markersize": 2.2, "markeredgewidth": 0}
        place.plot(*chosen.T, color=colour, marker=style.MARKERS[label], **look)
        size = np.hypot(*weight)
        normal, foot = weight / size, -bias * weight / size**2
        along = np.array([-normal[1], normal[0]])
        ends = foot + np.array([[-9.0], [9.0]]) * along
        place.plot(*ends.T, color=colour, linestyle=style.LINE_STYLES[label])
        place.annotate(
            "",
            foot + 0.75 * normal,
            foot,
            arrowprops={"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "linewidth": 1.5},
        )
        name = {"boxstyle": "round,pad=0.15", "facecolor": "white", "linewidth": 0, "alpha": 0.8}
        across, up = foot + 1.0 * normal
        place.text(
            across, up, f"$w_{label + 1}$", color=colour, ha="center", va="center", bbox=name
        )
    place.set_xlabel(f"lines $w_i x + b_i = 0$;\naccuracy {lines.accuracy:.3f}")
    place.set_title("Linear, 3 classes")
