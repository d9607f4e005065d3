"""The figure of `loss_landscape`: slices, planes, the path of the optimizer, and curvatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.loss_landscape import Path, Plane, Rescaled, Result

_LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of the training loss


def draw(result: Result) -> Figure:
    """Returns six panels."""
    drawing, axes = style.figure(3, 2, height=9.6)
    _draw_slices(axes[0, 0], result)
    _draw_rescaled(axes[0, 1], result.offsets, result.rescaled)
    for place, plane in zip(axes[1], result.planes, strict=True):
        _draw_plane(place, plane, "offset along a random direction", "along another")
        place.plot(0, 0, color="black", linestyle="", marker="X")
        place.set_aspect("equal")
        place.set_title(f"{plane.name}: training loss in a plane")
    _draw_path(axes[2, 0], result.path)
    _draw_sharpness(axes[2, 1], result)
    return drawing


def _draw_slices(place: Axes, result: Result) -> None:
    for index, trained in enumerate(result.trained):
        slices = trained.slices.mean(axis=1)
        look = style.series(index, marker="")
        place.plot(result.offsets, slices.mean(axis=0), label=trained.name, **look)
        band = (slices.min(axis=0), slices.max(axis=0))
        place.fill_between(result.offsets, *band, color=look["color"], alpha=0.15, linewidth=0)
    bottom, top = place.get_ylim()
    place.set_ylim(bottom, top + 0.25 * (top - bottom))  # room for the legend
    place.set_xlabel("offset (1: each row moves by its own length)")
    place.set_ylabel("training loss (nats)")
    first, count = result.first_seed, len(result.trained[0].accuracy)
    place.set_title(f"Slices, mean and range of seeds {first} to {first + count - 1}")
    place.legend(loc="upper center", ncols=2)


def _draw_rescaled(place: Axes, offsets: np.ndarray, rescaled: Rescaled) -> None:
    curves = (
        ("as trained", rescaled.normalised[0], style.series(0, marker="")),
        (
            "same function, normalised",
            rescaled.normalised[1],
            style.series(4, linestyle=(0, (2, 2))),
        ),
        ("same function, not normalised", rescaled.plain[1], style.series(3, marker="")),
    )
    for label, losses, look in curves:
        place.plot(offsets, losses, label=label, **look | {"marker": ""})
    bottom, top = place.get_ylim()
    place.set_ylim(bottom, top + 0.35 * (top - bottom))  # room for the legend
    place.set_xlabel("offset along one random direction")
    place.set_ylabel("training loss (nats)")
    place.set_title("First weights × 3, second ÷ 3")
    place.legend(loc="upper center")


def _draw_plane(place: Axes, plane: Plane, across: str, up: str) -> None:
    lines = place.contour(
        plane.x, plane.y, plane.loss, levels=_LEVELS, cmap="viridis", norm="log", linestyles="-"
    )
    place.clabel(lines, fmt="%g", fontsize=7)
    place.grid(visible=False)
    place.set_xlabel(across)
    place.set_ylabel(up)


def _draw_path(place: Axes, path: Path) -> None:
    first, second = (f"principal component {i + 1}: {s:.1%}" for i, s in enumerate(path.shares))
    _draw_plane(place, path.plane, f"{first} of variance", second)
    look = style.series(1, linestyle="-", markersize=2.5, linewidth=0.8)
    place.plot(*path.steps.T, **look, label="weights after each epoch")
    place.plot(*path.steps[-1], color="black", linestyle="", marker="X", label="end")
    place.set_title(
        f"{path.plane.name}: path of SGD\n(random plane: {path.random_share:.2%} of variance)"
    )
    place.legend(loc="upper left", frameon=True, framealpha=1, edgecolor="none")


def _draw_sharpness(place: Axes, result: Result) -> None:
    middle = len(result.offsets) // 2
    for index, trained in enumerate(result.trained):
        ends = (trained.slices[..., 0] + trained.slices[..., -1]) / 2
        rises = (ends - trained.slices[..., middle]).mean(axis=1)
        look = style.series(index, linestyle="")
        loss = f"{trained.name}: {trained.test_loss.mean():.3f}"
        place.plot(trained.curvature, rises, label=loss, **look)
        look["markerfacecolor"] = "none"
        place.plot(trained.curvature_of_same, rises, **look)
    place.plot(
        [],
        [],
        color="0.3",
        linestyle="",
        marker="o",
        markerfacecolor="none",
        label="same function, other weights",
    )
    place.set_xscale("log")
    place.set_yscale("log")
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    bottom, top = place.get_ylim()
    place.set_ylim(bottom, top * (top / bottom) ** 0.75)  # room for the legend
    place.set_xlabel("largest eigenvalue of the Hessian")
    place.set_ylabel("rise of the loss at offset 1 (nats)")
    place.set_title("Two measures, and held-out loss")
    place.legend(loc="upper right")
