"""The figure of `accuracy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.accuracy import Failure, Panel, Result

# Errors in ulps. What is smaller than the first edge is put into the first bin, what is larger
# than the last or not finite into the last.
_EDGES = 2.0 ** np.arange(-5, 41, 2.0)


def draw(result: Result) -> Figure:
    """Returns a row of histograms for each dtype, and the table of failures below."""
    dtypes = list(dict.fromkeys(panel.dtype for panel in result.panels))
    problems = list(dict.fromkeys(panel.problem for panel in result.panels))
    rows, columns = len(dtypes), len(problems)
    drawing = style.figure(width=3.6 * columns, height=2.6 * rows + 3.0)[0]
    drawing.clear()
    grid = drawing.add_gridspec(rows + 1, columns, height_ratios=[2.6] * rows + [2.4])
    places = {}
    for panel in result.panels:
        row, column = dtypes.index(panel.dtype), problems.index(panel.problem)
        place = drawing.add_subplot(grid[row, column])
        places[row, column] = place
        _draw_panel(place, panel)
        if row == rows - 1:
            place.set_xlabel("error, units in the last place")
        if column == 0:
            place.set_ylabel("share of entries")
    handles: dict[str, Any] = {}
    for place in places.values():
        handles |= dict(zip(*place.get_legend_handles_labels()[::-1], strict=True))
    drawing.legend(
        list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles)
    )
    _draw_table(drawing.add_subplot(grid[rows, :]), result.failures)
    return drawing


def look(method: str) -> dict[str, Any]:
    """Returns the colour and line of a method; a route of Symbolic has its own line."""
    name, _, route = method.partition(", ")
    changes = {"linestyle": (0, (2, 1))} if route == "expression" else {}
    return style.method(name, marker="", **changes)


def _draw_panel(place: Axes, panel: Panel) -> None:
    for series in panel.series:
        clipped = np.clip(np.nan_to_num(series.ulps, posinf=1e300), _EDGES[0], _EDGES[-2])
        counts, _ = np.histogram(clipped, _EDGES)
        place.stairs(
            counts / max(len(clipped), 1),
            _EDGES,
            label=series.method,
            baseline=None,
            **{key: value for key, value in look(series.method).items() if key != "marker"},
        )
    place.set_xscale("log", base=2)
    place.set_xlim(_EDGES[0], _EDGES[-1])
    place.set_ylim(0, 0.9)
    place.axvline(0.5, color="0.5", linewidth=0.8)
    place.text(0.6, 0.87, "← correctly rounded", fontsize=7, va="top", color="0.3")
    place.set_title(f"{panel.problem}, {panel.dtype}")


def _draw_table(place: Axes, failures: list[Failure]) -> None:
    place.set_axis_off()
    methods = list(failures[0].relative)
    head = ["f(x)", "x", "f′(x), exact", *methods]
    rows = [
        [
            failure.function,
            f"{failure.x:g}",
            _short(failure.exact) + (" (kink)" if failure.kinks else ""),
            *(_cell(failure, method) for method in methods),
        ]
        for failure in failures
    ]
    table = place.table(
        cellText=rows,
        colLabels=head,
        loc="center",
        cellLoc="left",
        edges="horizontal",
        bbox=Bbox.from_bounds(0, 0, 1, 0.97),
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(head))))
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("0.8")
        if row == 0:
            cell.set_text_props(weight="bold")
        elif column > 2 and "rel." in cell.get_text().get_text():
            cell.set_text_props(color="#D55E00")
    place.set_title("Derivatives in float64: the value, and its relative error where that matters")


def _cell(failure: Failure, method: str) -> str:
    value, error = failure.computed[method], failure.relative[method]
    if error <= 1e-14:
        return f"{value:.4g}"
    shown = f"{error:.0e}" if np.isfinite(error) else "∞"
    return f"{value:.4g}, rel. {shown}"


def _short(digits: str) -> str:
    """Returns the first digits of a long number."""
    mantissa, e, exponent = digits.partition("e")
    return f"{mantissa[:12]}…{e}{exponent}" if len(mantissa) > 12 else digits
