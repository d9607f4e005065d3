"""The figure of `overfitting`: losses against parameters and steps, and a pair of boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.overfitting import Map, Model, Result

_TRAINING = style.series(0)
_HELD_OUT = style.series(1)


def draw(result: Result) -> Figure:
    """Returns four panels: losses by width, losses by step, and two maps."""
    drawing, axes = style.figure(2, 2, height=6.4)
    _draw_widths(axes[0, 0], result)
    _draw_steps(axes[0, 1], result)
    for place, drawn in zip(axes[1], result.maps, strict=True):
        shown = _draw_map(place, drawn, result)
    bar = drawing.colorbar(shown, ax=axes[1], fraction=0.03, pad=0.02, ticks=[0, 50, 100])
    bar.set_label("probability of class 1 (%)")
    return drawing


def _draw_widths(place: Axes, result: Result) -> None:
    models = result.models
    spots = np.arange(len(models))
    for name, look in (("train_loss", _TRAINING), ("test_loss", _HELD_OUT)):
        losses = np.stack([getattr(model, name)[:, -1] for model in models])
        label = "60 training points" if name == "train_loss" else "held-out points"
        label = label.replace("60", str(len(result.labels)))
        place.fill_between(
            spots, losses.min(1), losses.max(1), color=look["color"], alpha=0.15, linewidth=0
        )
        place.semilogy(spots, losses.mean(1), label=label, **look)
    place.set_xticks(spots, [f"{m.width}" if m.width else "lin." for m in models])
    place.set_xlabel("units in each of two hidden layers; lin.: none")
    place.set_ylabel("cross-entropy (nats)")
    place.set_title(f"More units: mean and range of {len(models[0].accuracy)} seeds")
    place.legend(loc="lower left")


def _draw_steps(place: Axes, result: Result) -> None:
    chosen = [max(result.models, key=lambda model: model.width), result.models[0]]
    for model, line in zip(chosen, ("-", ":"), strict=True):
        _draw_history(place, result.steps, model, line)
    place.set_xlabel("steps of Adam; mean over the seeds")
    place.set_ylabel("cross-entropy (nats)")
    place.set_title("More steps")
    place.legend(loc="center right")


def _draw_history(place: Axes, steps: np.ndarray, model: Model, line: str) -> None:
    for name, look in (("train_loss", _TRAINING), ("test_loss", _HELD_OUT)):
        losses = getattr(model, name).mean(axis=0)
        label = f"{model.name}, {'training' if name == 'train_loss' else 'held out'}"
        place.semilogy(steps, losses, label=label, **look | {"linestyle": line, "marker": ""})


def _draw_map(place: Axes, drawn: Map, result: Result):
    left, right, low, high = drawn.extent
    scale = LinearSegmentedColormap.from_list(
        "classes", [style.COLOURS[2], "#FFFFFF", style.COLOURS[3]]
    )
    shown = place.imshow(
        drawn.percent,
        origin="lower",
        extent=(left, right, low, high),
        cmap=scale,
        vmin=0,
        vmax=100,
        alpha=0.6,
    )
    place.contour(
        drawn.percent, levels=[50], extent=(left, right, low, high), colors="black", linewidths=1
    )
    for label in (0, 1):
        place.plot(
            *result.points[result.labels == label].T,
            color=style.COLOURS[2 + label],
            marker=style.MARKERS[2 + label],
            linestyle="",
            markeredgecolor="black",
            markeredgewidth=0.5,
        )
    place.set_xlim(left, right)
    place.set_ylim(low, high)
    place.grid(visible=False)
    place.set_title(f"{drawn.model}: {'the best' if drawn.model == result.best else 'the largest'}")
    place.set_xlabel(f"loss: training {drawn.train_loss:.2g}, held out {drawn.test_loss:.2f} nats")
    return shown
