"""The figure of `closed_forms`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.closed_forms import Case, Growth, Line, Result

_WIDTH = 10.5  # inches; a closed form of three layers takes half of it
_LINE = 0.215  # inches from one line to the next
_SIZE = 8  # points


def draw(result: Result) -> Figure:
    """Returns a panel of formulas for each network, and a row of what they cost."""
    layers = sorted({case.layers for case in result.cases})
    losses = list(dict.fromkeys(case.loss for case in result.cases))
    heights = [_LINE * max(_count(c) for c in result.cases if c.layers == n) for n in layers]
    drawing = Figure(figsize=(_WIDTH, sum(heights) + 3.2), layout="constrained")
    parts: Any = drawing.subfigures(2, 1, height_ratios=[sum(heights) + 0.6, 2.6])
    upper, lower = parts
    texts = upper.subplots(len(layers), len(losses), height_ratios=heights, squeeze=False)
    for case in result.cases:
        _write(texts[layers.index(case.layers), losses.index(case.loss)], case)
    _draw_growth(lower.subplots(1, 3), result)
    return drawing


def _halves(case: Case) -> tuple[list[Line], list[Line]]:
    """Returns the steps forward, and those back, which stand beside each other."""
    forward = [line for line in case.steps if line.phase == "forward"]
    return forward, [line for line in case.steps if line.phase != "forward"]


def _height(line: Line) -> float:
    """Returns how many lines of text a formula takes."""
    return 1.8 if r"\partial" in line.latex else 1.25


def _total(lines: list[Line]) -> float:
    return sum(map(_height, lines))


def _count(case: Case) -> float:
    """Returns how many lines a panel has."""
    return _total(case.formulas) + max(map(_total, _halves(case))) + 2.2


def _write(place: Axes, case: Case) -> None:
    place.set_axis_off()
    place.set_title(f"{case.layers} layers, {case.loss}", loc="left", fontweight="bold")
    count = _count(case)

    def put(latex: str, row: float, column: float = 0.0, **changes) -> None:
        # mathtext sets the fractions of a line in small print.
        text = f"${latex}$".replace(r"\frac{\partial", r"\dfrac{\partial")
        options: dict[str, Any] = {
            "fontsize": _SIZE,
            "va": "center",
            "transform": place.transAxes,
        } | changes
        place.text(column, 1 - row / count, text, **options)

    def put_all(lines: list[Line], row: float, column: float) -> None:
        for line in lines:
            put(line.latex, row + _height(line) / 2, column)
            row += _height(line)

    put_all(case.formulas, 0.2, 0.0)
    row = 0.2 + _total(case.formulas)
    place.axhline(1 - (row + 0.1) / count, color="0.8", linewidth=0.5)
    place.set_ylim(0, 1)
    row += 0.3
    forward, back = _halves(case)
    put_all(forward, row, 0.0)
    put_all(back, row, 0.5)
    row += max(_total(forward), _total(back)) + 0.7
    notes = [line.latex for line in case.definitions]
    put(r",\quad ".join(notes), row, color="0.35", fontsize=_SIZE - 1)
    place.text(
        0.5, 1 - row / count, f"{case.operations} nodes; error against jax.grad {case.error:.1g}",
        fontsize=_SIZE - 1, va="center", color="0.35", transform=place.transAxes,
    )  # fmt: skip


def _draw_growth(row: np.ndarray, result: Result) -> None:
    widths, depths = result.by_width, result.by_depth
    row[0].semilogx(widths.sizes, widths.operations, base=2, **style.series(0))
    row[0].set(xlabel="width of 2 layers", ylabel="nodes", ylim=(0, 2 * max(widths.operations)))
    row[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    row[0].annotate(
        f"{max(widths.weights):,} weights in {widths.seconds[np.argmax(widths.weights)]:.2g} s",
        (1, 0.62), xycoords="axes fraction", ha="right", fontsize=8,
    )  # fmt: skip
    row[1].loglog(depths.sizes, depths.operations, base=2, **style.series(0))
    row[1].set(xlabel="layers", ylabel="nodes")
    row[2].loglog(
        depths.sizes, depths.step_characters, base=2, label="all steps", **style.series(0)
    )
    row[2].loglog(
        depths.sizes, depths.formula_characters, base=2, label="closed form of $dL/dW_1$",
        **style.series(1),
    )  # fmt: skip
    row[2].set(xlabel="layers", ylabel="characters of LaTeX")
    row[2].legend()
    _limit_ticks(row[1:], depths)


def _limit_ticks(row: np.ndarray, growth: Growth) -> None:
    for place in row:
        place.set_xticks(growth.sizes, [str(size) for size in growth.sizes])
        place.set_yscale("log", base=10)
        place.yaxis.set_minor_formatter(NullFormatter())
    row[0].set_yticks(growth.operations, [str(count) for count in growth.operations])
