"""The figure of `step_size`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.step_size import Curve, Panel, Published, Result

_SERIES = {"forward": 1, "central": 0, "order 4": 3}
_LECTURE_STEP = 1e-6
_FLOOR, _CEILING = 1e-17, 30.0


def draw(result: Result) -> Figure:
    """Returns a row of panels for each network, and one of details."""
    networks = list(dict.fromkeys(panel.network for panel in result.panels))
    dtypes = list(dict.fromkeys(panel.dtype for panel in result.panels))
    columns = max(len(dtypes), 3)
    drawing, axes = style.figure(
        len(networks) + 1,
        columns,
        width=3.2 * columns,
        height=3.0 * (len(networks) + 1) + 0.4,
        squeeze=False,
    )
    for panel in result.panels:
        place = axes[networks.index(panel.network), dtypes.index(panel.dtype)]
        _draw_panel(place, result.steps, panel)
    for row in axes[: len(networks), len(dtypes) :]:
        for place in row:
            place.set_axis_off()
    _draw_details(axes[-1], result)
    for place in axes[:, 0]:
        place.set_ylabel("relative error")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return drawing


def _draw_details(row: np.ndarray, result: Result) -> None:
    chosen = {(panel.network, panel.dtype): panel for panel in result.panels}
    network = result.panels[0].network
    details = [
        (panel, curve)
        for dtype in ("float32", "float64")
        for panel in [chosen.get((network, dtype))]
        if panel is not None
        for curve in panel.curves
        if curve.scheme == "central"
    ]
    for place, (panel, curve) in zip(row, details, strict=False):
        _draw_bands(place, result.steps, panel, curve)
    _draw_published(row[len(details)], result.steps, result.published)
    for place in row[len(details) + 1 :]:
        place.set_axis_off()
    if len(row) > len(details) + 1:
        _draw_table(row[-1], result)


def _draw_panel(place: Axes, steps: np.ndarray, panel: Panel) -> None:
    for curve in panel.curves:
        look = style.series(_SERIES[curve.scheme], linestyle="-", markersize=3, linewidth=1)
        place.loglog(steps, curve.errors, label=curve.scheme, **look)
        theory = curve.truncation + curve.rounding
        label = "theory, not fitted" if curve.scheme == "central" else None
        place.loglog(steps, theory, ":", color=look["color"], linewidth=1, label=label)
    place.axhline(panel.automatic, label="jax.grad", **style.method("ReverseMode", marker=""))
    symbolic = style.method("Symbolic", marker="", linestyle=(0, (2, 2)))
    place.axhline(panel.symbolic, label="Symbolic", **symbolic)
    if np.isfinite(panel.first_kink):
        place.axvspan(panel.first_kink, steps.max(), color="0.92", zorder=0)
        place.text(
            panel.first_kink,
            1e-8,
            "a kink\nis crossed ",
            fontsize=8,
            ha="right",
            va="top",
            color="0.3",
        )
    _frame(place, steps, f"{panel.network}, {panel.dtype}")


def _draw_bands(place: Axes, steps: np.ndarray, panel: Panel, curve: Curve) -> None:
    for index, (layer, band) in enumerate(curve.bands.items()):
        look = style.series(index, marker="")
        low, middle, high, largest = band
        place.fill_between(steps, low, high, color=look["color"], alpha=0.2, linewidth=0)
        place.loglog(steps, middle, label=f"{layer}, median", **look)
        worst = look | {"linestyle": ":", "linewidth": 1}
        place.loglog(steps, largest, label=f"{layer}, worst", **worst)
    # The legend comes first: the frame's own line is explained above all panels.
    place.legend(loc="lower left")
    _frame(place, steps, f"weights, 10-90 %, central, {panel.dtype}")


def _draw_published(place: Axes, steps: np.ndarray, published: Published) -> None:
    for name in ("forward", "central"):
        look = style.series(_SERIES[name], linestyle="-", markersize=3, linewidth=1)
        errors = getattr(published, name)
        place.loglog(steps, errors, label=f"{name}: best {np.nanmin(errors):.1e}", **look)
    place.legend(loc="upper left")
    _frame(place, steps, "Baydin et al. (2018), x = 0.2, float64")
    place.set_ylabel("absolute error")
    place.set_ylim(1e-12, 1e6)


def _draw_table(place: Axes, result: Result) -> None:
    lines = ["best error, and error at h = 1e-6", ""]
    for panel in result.panels:
        if panel.network != result.panels[0].network:
            continue
        lines.append(f"{panel.network}, {panel.dtype}; jax.grad {panel.automatic:.1e}")
        lines += [
            f"  {curve.scheme:8s} {curve.best_error:7.1e}   {curve.lecture_error:7.1e}"
            for curve in panel.curves
        ]
    place.text(
        0, 1, "\n".join(lines), va="top", family="monospace", fontsize=8, transform=place.transAxes
    )


def _frame(place: Axes, steps: np.ndarray, title: str) -> None:
    lecture = "h = 1e-6, as in the lecture"
    place.axvline(_LECTURE_STEP, color="0.5", linewidth=0.8, linestyle="--", label=lecture)
    place.set_title(title)
    place.set_xlabel("step h")
    place.set_xlim(steps.min(), steps.max())
    place.set_ylim(_FLOOR, _CEILING)
