"""The figure of `training_by_method`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.training_by_method import Result, Run

# Methods look as everywhere; these are variants of one, which need looks of their own.
_VARIANTS = {"Central, order 4": 5, "Central, h = 1e-6": 3, "the same in float64": 4}
_MARKED = "Central, h = 1e-6"  # it is also named beside its curve


def draw(result: Result) -> Figure:
    """Returns the loss, the direction of the gradient, and what it cost."""
    drawing, axes = style.figure(2, 2, height=7.0)
    _draw_losses(axes[0, 0], result.runs)
    _draw_defects(axes[0, 1], result.runs)
    _draw_passes(axes[1, 0], result)
    _draw_times(axes[1, 1], result)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=4)
    return drawing


def _look(run: Run) -> dict[str, Any]:
    if run.label in _VARIANTS:
        return style.series(_VARIANTS[run.label])
    return style.method(run.method)


def _draw_losses(place: Axes, runs: list[Run]) -> None:
    for number, run in enumerate(runs):
        # Curves that coincide lie in one another, the first one widest.
        width = 1 + 0.7 * (len(runs) - 1 - number)
        look = _look(run) | {"linewidth": width, "marker": "", "linestyle": "-"}
        place.semilogy(np.arange(1, len(run.loss) + 1), run.loss, **look)
        if run.label == _MARKED:
            middle = len(run.loss) // 2
            place.text(middle + 1.2, run.loss[middle] * 1.05, run.label)
    place.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.3, 0.5, 1, 2, 3]))
    place.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    place.yaxis.set_minor_formatter(NullFormatter())
    place.set_xlabel("epoch (curves that coincide are nested)")
    place.set_ylabel("training loss (nats)")
    place.set_title("How training goes")


def _draw_defects(place: Axes, runs: list[Run]) -> None:
    for run in runs:
        place.semilogy(np.arange(len(run.defect)), run.defect, label=run.label, **_look(run))
    place.set_xlabel("epochs before it")
    place.set_ylabel("1 - cosine to the exact gradient")
    place.set_title("Where the gradient points")


def _draw_passes(place: Axes, result: Result) -> None:
    passes = [run.passes for run in result.runs]
    _draw_bars(place, result.runs, passes, [f"{count:,}" for count in passes])
    place.set_yticks(range(len(passes)), [run.label for run in result.runs])
    place.set_xlabel(f"passes through the loss, {result.parameters:,} parameters")
    place.set_title("What one gradient takes")
    place.set_xlim(1, max(passes) * 12)  # room for the numbers


def _draw_times(place: Axes, result: Result) -> None:
    times = [run.milliseconds for run in result.runs]
    notes = [f"{run.milliseconds:.2g} ({run.compile_seconds:.1f} s)" for run in result.runs]
    _draw_bars(place, result.runs, times, notes)
    place.set_yticks(range(len(times)), [""] * len(times))
    place.set_xlabel("milliseconds (compiling, once)")
    place.set_title("How long one gradient takes")
    place.set_xlim(min(times) / 3, max(times) * 30)


def _draw_bars(place: Axes, runs: list[Run], values: list[Any], notes: list[str]) -> None:
    bars = place.barh(range(len(runs)), values, color=[_look(run)["color"] for run in runs])
    place.bar_label(bars, notes, padding=3, fontsize=8)
    place.set_xscale("log")
    place.invert_yaxis()
    place.grid(visible=False, axis="y")
