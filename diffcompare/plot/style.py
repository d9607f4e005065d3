"""How every figure looks: sizes, fonts, colours, and the bytes it is saved as."""

import contextlib
import io
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, Literal

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

# Inches. The width is that of a page's text, so a figure is printed as large as it is drawn, and
# the sizes of the fonts below are those on paper.
WIDTH = 7.0
ROW_HEIGHT = 3.2
DPI = 150

# The colours of Okabe and Ito, which stay apart for colour-blind readers; without their yellow,
# which is too faint for a line on white. The line style and the marker say the same again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (7, 2)), (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# A method looks the same in every figure: it is the series of this number.
_METHODS = MappingProxyType(
    {
        "ForwardDifference": 1,
        "BackwardDifference": 4,
        "CentralDifference": 0,
        "Richardson": 5,
        "ComplexStep": 3,
        "Symbolic": 2,
        "ForwardMode": 7,
        "ReverseMode": 6,
    }
)

_PARAMETERS: MappingProxyType[Any, Any] = MappingProxyType(
    {
        "axes.grid": True,
        "axes.labelsize": 9,
        "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=LINE_STYLES),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 10,
        "figure.dpi": DPI,
        "figure.titlesize": 11,
        "font.family": ["DejaVu Sans"],  # it comes with matplotlib, so it is on every machine
        "font.size": 9,
        "grid.alpha": 0.3,
        "grid.linewidth": 0.5,
        "image.cmap": "viridis",
        "legend.fontsize": 8,
        "legend.frameon": False,
        "lines.linewidth": 1.5,
        "lines.markersize": 4,
        "savefig.dpi": DPI,
        "svg.fonttype": "path",
        "svg.hashsalt": "diffcompare",  # without it the ids in the file differ from run to run
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
    }
)


@contextlib.contextmanager
def context() -> Iterator[None]:
    """Returns a context in which what is drawn has this style; it ends as it began.

    Matplotlib reads sizes and fonts when an artist is made, so the drawing itself has to
    happen inside.

    Example:
        >>> import matplotlib
        >>> with context():
        ...     matplotlib.rcParams["legend.fontsize"]
        8.0
    """
    with matplotlib.rc_context():
        # A matplotlibrc of one's own must not change the figures.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_PARAMETERS)
        yield


def figure(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = WIDTH,
    height: float | None = None,
    **subplots: Any,
) -> tuple[Figure, Any]:
    """Returns a figure, and its axes: one, or an array of them.

    Args:
        rows: Rows of axes.
        columns: Columns of axes.
        width: In inches.
        height: In inches; `ROW_HEIGHT` for each row unless given.
        **subplots: Further arguments of `matplotlib.figure.Figure.subplots`, such as
            `sharey=True` or `squeeze=False`.

    Example:
        >>> drawing, axes = figure(1, 2)
        >>> drawing.get_size_inches().tolist(), axes.shape
        ([7.0, 3.2], (2,))
    """
    size = (width, ROW_HEIGHT * rows if height is None else height)
    drawing = Figure(figsize=size, layout="constrained")
    return drawing, drawing.subplots(rows, columns, **subplots)


def series(index: int, **changes: Any) -> dict[str, Any]:
    """Returns colour, line style and marker of the series `index`, to be passed to `plot`.

    Args:
        index: Which series; after the seventh the colours begin again, with another line
            style each time.
        **changes: What to set otherwise, or beside them.

    Example:
        >>> series(1, marker="")
        {'color': '#D55E00', 'linestyle': '--', 'marker': ''}
    """
    turn, place = divmod(index, len(COLOURS))
    return {
        "color": COLOURS[place],
        "linestyle": LINE_STYLES[(place + turn) % len(LINE_STYLES)],
        "marker": MARKERS[(place + turn) % len(MARKERS)],
    } | changes


def method(name: str, **changes: Any) -> dict[str, Any]:
    """Returns colour, line style and marker of a method, the same in every figure.

    Args:
        name: The name of a method's class, such as `"CentralDifference"`.
        **changes: What to set otherwise, or beside them.

    Raises:
        ValueError: `name` is not the name of a method.

    Example:
        >>> method("CentralDifference")["color"]
        '#0072B2'
    """
    if name not in _METHODS:
        raise ValueError(
            f"method needs the name of a method, but got {name!r}. It knows: "
            f"{', '.join(_METHODS)}; style.series gives a style to anything else."
        )
    return series(_METHODS[name], **changes)


def render(drawing: Figure, kind: Literal["png", "svg"]) -> bytes:
    """Returns the file of a figure; the same figure gives the same bytes on every run.

    Args:
        drawing: The figure, drawn within `context`.
        kind: The format of the file.

    Example:
        >>> drawing, _ = figure()
        >>> render(drawing, "png") == render(drawing, "png")
        True
    """
    # Dates and versions would change files whose picture is the same.
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    buffer = io.BytesIO()
    with context():
        _settle(drawing)
        drawing.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def _settle(drawing: Figure) -> None:
    """Places the axes once and for all, with digits that are the same on every run.

    The solver of the constrained layout adds in an order that depends on addresses, and the last
    digits of a place become names in an SVG.
    """
    if drawing.get_layout_engine() is None:
        return
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    parts = list(drawing.subfigs)
    while parts:
        part = parts.pop()
        bounds: Any = part.bbox_relative
        bounds.p0, bounds.p1 = np.round(bounds.p0, 6), np.round(bounds.p1, 6)
        parts += part.subfigs
    for axes in drawing.axes:
        axes.set_position(np.round(axes.get_position(original=True).bounds, 6).tolist())


def image_limits(values: Any) -> tuple[float, float]:
    """Returns limits for a diverging colour scale: symmetric, so that its middle is 0.

    Args:
        values: Any numbers, of which those that are not finite are left out.

    Example:
        >>> image_limits([-1.0, 3.0])
        (-3.0, 3.0)
    """
    numbers = np.asarray(values, dtype=np.float64)
    largest = float(np.max(np.abs(numbers), where=np.isfinite(numbers), initial=0.0))
    return -largest, largest
