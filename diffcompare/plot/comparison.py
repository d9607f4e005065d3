"""A comparison as a figure: the error of each method against what it costs."""

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffcompare.comparison import Comparison, Row
from diffcompare.plot import style

_BELOW = 0.1  # of the smallest error that is drawn: where an error of zero is

_SIZE = 11  # points, of a marker that holds a letter


def draw(comparison: Comparison) -> Figure:
    """Returns a figure of the error of every method against its time and its memory.

    Methods that were refused are not in it, nor, on the right, those that are no single program.

    Raises:
        ValueError: No method has an error.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> from diffcompare.comparison import compare
        >>> found = compare(jnp.tanh, 0.5, methods=[dc.ForwardMode()])
        >>> draw(found).axes[0].get_ylabel()
        'relative error of the gradient'
    """
    errors = {row: row.error for row in comparison.rows if row.cost and row.error is not None}
    if not errors:
        raise ValueError(
            f"a figure needs a method with an error, but {comparison.name} has none. The "
            f"reference: {comparison.reference}."
        )
    finite = [error for error in errors.values() if 0 < error < math.inf]
    low, high = _BELOW * min(finite, default=1.0), max(finite, default=1.0) / _BELOW
    with style.context():
        drawing, (left, right) = style.figure(1, 2, height=4.2, sharey=True)
        for row, error in errors.items():
            assert row.cost is not None
            height = min(max(error, low), high)
            _mark(left, row, 1e3 * row.cost.median, height)
            if row.cost.memory is not None:
                # What needs nothing beside its arguments has a place on the axis, too.
                _mark(right, row, max(row.cost.memory, 1), height)
        for axes in (left, right):
            axes.set(xscale="log", yscale="log")
            _label_ends(axes, errors.values(), low, high)
        left.set(xlabel="time of a gradient (ms)", ylabel="relative error of the gradient")
        right.set(xlabel="memory beside arguments and result (bytes)")
        _mark_value(left, comparison)
        by_label = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
        drawing.legend(
            by_label.values(), by_label, loc="outside lower center", ncols=3, markerscale=0.7
        )
        entries = "1 entry" if comparison.entries == 1 else f"{comparison.entries} entries"
        drawing.suptitle(f"{comparison.name}: {entries}, {', '.join(comparison.dtypes)}")
    return drawing


def _mark(axes: Axes, row: Row, cost: float, height: float) -> None:
    kind = row.method.partition("(")[0]
    label, letter = _label(row)
    try:
        look = style.method(kind)
    except ValueError:  # a method of the user's own
        look = style.series(0)
    look |= {"linestyle": "", "markersize": _SIZE, "alpha": 0.85, "markeredgecolor": "white"}
    axes.plot([cost], [height], label=label, **look)
    # A circle has room for a number; a letter stands above a triangle.
    is_inside = look["marker"] == "o"
    axes.annotate(
        letter, (cost, height), (0, 0 if is_inside else 0.55 * _SIZE), textcoords="offset points",
        color="white" if is_inside else look["color"], fontsize=7 if is_inside else 8,
        ha="center", va="center_baseline" if is_inside else "bottom",
    )  # fmt: skip


def _label(row: Row) -> tuple[str, str]:
    """Returns what the legend says, one for each kind of method, and what stands in the marker."""
    kind, _, rest = row.name.partition(", ")
    if kind == "central difference":
        return f"{kind}, by order", rest.removeprefix("order ").partition(",")[0]
    if kind == "symbolic":
        return f"{kind}: m(atrix), p(rogram), e(xpression)", rest[:1]
    return row.name, ""


def _label_ends(axes: Axes, errors: Any, low: float, high: float) -> None:
    for is_there, height, text in ((0.0 in errors, low, "no error"),
                                   (math.inf in errors, high, "not finite")):  # fmt: skip
        if is_there:
            axes.axhline(height, color="0.6", linewidth=0.8, zorder=0)
            axes.annotate(
                text, (1, height), (-2, 4), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", fontsize=8, color="0.4",
            )  # fmt: skip


def _mark_value(axes: Axes, comparison: Comparison) -> None:
    time: Any = 1e3 * comparison.function.median
    axes.axvline(time, color="0.6", linewidth=0.8, zorder=0)
    axes.annotate(
        "a value", (time, 1), (3, -2), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="top", fontsize=8, color="0.4",
    )  # fmt: skip
