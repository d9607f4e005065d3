"""The figure of `cost`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.cost import Curve, Result

_LOOKS = {
    "one evaluation": style.series(8, color="0.5", marker="", linestyle="-"),
    "reverse mode": style.method("ReverseMode"),
    "symbolic, program": style.method("Symbolic"),
    "symbolic, matrix": style.method("Symbolic", linestyle=":", marker="s", fillstyle="none"),
    "symbolic, expression": style.method("Symbolic", linestyle="--", marker="*", markersize=7),
    "incremental differences": style.series(4),
    "complex step": style.method("ComplexStep"),
    "forward mode": style.method("ForwardMode"),
    "forward differences": style.method("ForwardDifference"),
    "central differences": style.method("CentralDifference"),
    "Richardson": style.method("Richardson"),
}
# What reverse mode may take at most by the count of operations, in evaluations: Griewank and
# Walther, "Evaluating Derivatives", 2nd ed., SIAM, 2008, section 4.4.
CHEAP = 4.0


def draw(result: Result, sentences: list[str]) -> Figure:
    """Returns time, memory, passes and the ratio to one evaluation, against the parameters."""
    drawing, axes = style.figure(2, 2, width=10.0, height=9.0)
    curves = [result.value, *result.curves]
    panels: list[tuple[str, str, Callable[[Curve], np.ndarray]]] = [
        ("Time of a gradient", f"seconds, {result.clock}", _medians),
        ("Memory beside arguments and result", "bytes", lambda curve: curve.memory),
        ("Passes through the function", "passes", lambda curve: curve.passes),
    ]
    for place, (title, unit, values) in zip(axes.flat, panels, strict=False):
        for curve in curves:
            look = _LOOKS[curve.name]
            place.loglog(curve.parameters, values(curve), label=curve.name, **look)
            if curve.reason:
                place.plot(curve.parameters[-1:], values(curve)[-1:], "x", color=look["color"],
                           markersize=10, zorder=3)  # fmt: skip
        place.set(title=title, ylabel=unit)
    _mark_limits(axes[0, 0], result)
    _draw_ratios(axes[1, 1], result)
    for place in axes.flat:
        place.set_xlabel("parameters P")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    (cross,) = axes[0, 0].plot([], [], "x", color="0.3", markersize=10)
    drawing.legend(
        [*handles, cross],
        [*labels, "the next size is beyond the budget"],
        loc="outside upper center",
        ncols=4,
    )
    lines = [textwrap.fill(sentence, 150) for sentence in sentences]
    drawing.supxlabel("\n".join(lines), fontsize=8, x=0.02, ha="left")
    return drawing


def _medians(curve: Curve) -> np.ndarray:
    return np.array([np.median(samples) for samples in curve.seconds])


def _mark_limits(place: Axes, result: Result) -> None:
    left, right = result.parameters[0], result.parameters[-1]
    for seconds, label in ((1.0, "a second"), (60.0, "a minute")):
        place.axhline(seconds, color="0.4", linewidth=0.8, linestyle=(0, (2, 2)))
        place.annotate(label, (left, seconds), (0, 2), textcoords="offset points", fontsize=8)
    place.set_xlim(left / 1.5, right * 1.5)


def _draw_ratios(place: Axes, result: Result) -> None:
    for name, samples in result.ratios.items():
        if name not in ("reverse mode", "symbolic, program", "symbolic, matrix"):
            continue
        look = _LOOKS[name]
        place.plot(result.parameters, np.median(samples, axis=1), **look)
        lowest, highest = samples.min(axis=1), samples.max(axis=1)
        place.fill_between(
            result.parameters, lowest, highest, color=look["color"], alpha=0.12, linewidth=0
        )
    place.axhline(CHEAP, color="0.4", linewidth=0.8, linestyle=(0, (2, 2)))
    place.annotate(
        "limit of the cheap gradient principle, by operations",
        (result.parameters[0], CHEAP),
        (0, 2),
        textcoords="offset points",
        fontsize=8,
    )
    place.set(
        xscale="log",
        ylim=(0, None),
        title="Gradient over one evaluation",
        ylabel="ratio of times: medians, and all samples",
    )
