"""The figure of `precision`: noise of values on the left, second derivatives on the right."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.precision import Noise, Result, Second

_LOOKS = {
    "differences of differences": style.method("CentralDifference", linestyle="-"),
    "differences, order 4, of the same": style.method(
        "CentralDifference", linestyle="--", fillstyle="none", marker="s"
    ),
    "forward difference of reverse mode": style.method("ForwardDifference"),
    "central difference of reverse mode": style.method("CentralDifference", linestyle=":"),
    "Richardson of reverse mode": style.method("Richardson"),
    "complex step of reverse mode": style.method("ComplexStep"),
    "complex step of complex step": style.method("ComplexStep", linestyle="--", fillstyle="none"),
    "forward over reverse": style.method("ReverseMode"),
    "reverse over reverse": style.method("ReverseMode", linestyle=":", marker="s"),
    "forward over forward": style.method("ForwardMode"),
    "symbolic of symbolic": style.method("Symbolic"),
}


def draw(result: Result, sentences: list[str]) -> Figure:
    """Returns a row for every way to a value, and errors of second derivatives against eps."""
    drawing, (left, right) = style.figure(
        1, 2, width=10.0, height=max(6.0, 1.9 + 0.21 * len(result.noise)), width_ratios=(1, 1.15)
    )
    _draw_noise(left, result.noise)
    _draw_second(right, result.second, result.weights)
    handles, labels = right.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper center", ncols=3)
    lines = [textwrap.fill(sentence, 150) for sentence in sentences]
    drawing.supxlabel("\n".join(lines), fontsize=8, x=0.02, ha="left")
    return drawing


def _draw_noise(place: Axes, noise: list[Noise]) -> None:
    dtypes = list(dict.fromkeys(each.dtype for each in noise))
    several = len({each.device for each in noise}) > 1
    # One below the other, with a gap before the next dtype.
    heights = [-row - dtypes.index(each.dtype) for row, each in enumerate(noise)]
    for each, height in zip(noise, heights, strict=True):
        size = np.abs(each.error)
        look = style.series(dtypes.index(each.dtype), linestyle="")
        drawn = size[size > 0]  # an error of zero has no place on a logarithmic axis
        place.plot(drawn, np.full(drawn.shape, height), **look, alpha=0.3, markeredgewidth=0)
        place.plot([np.median(size)], [height], "|", color="black", markersize=9, markeredgewidth=2)
    texts = [
        f"{each.way}{_of(each.products)}{f', {each.device}' if several else ''}" for each in noise
    ]
    place.set_yticks(heights, texts)
    place.yaxis.set_minor_locator(NullLocator())
    for dtype in dtypes:
        first = next(h for each, h in zip(noise, heights, strict=True) if each.dtype == dtype)
        place.annotate(dtype, (0.99, first + 0.55), xycoords=("axes fraction", "data"), ha="right",
                       fontsize=8, fontweight="bold")  # fmt: skip
    place.set(
        xscale="log",
        xlabel="error of a value, in eps of its dtype; bar: median",
        ylim=(min(heights) - 0.7, 1.6),
        title="Values",
    )


def _of(products: str) -> str:
    return "" if products == "default" else f", {products}"


def _draw_second(place: Axes, second: list[Second], weights: int) -> None:
    for each in second:
        place.loglog(each.eps, each.error, label=each.method, **_LOOKS[each.method])
    eps = np.array([second[0].eps.min(), second[0].eps.max()])
    for power, name in ((1.0, "eps"), (2 / 3, "eps$^{2/3}$"), (1 / 2, "eps$^{1/2}$")):
        place.loglog(eps, eps**power, color="0.6", linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
        place.annotate(name, (eps[0], eps[0] ** power), (-4, 0), textcoords="offset points",
                       fontsize=8, ha="right", va="center", color="0.3")  # fmt: skip
    place.set_xticks(
        second[0].eps, second[0].dtypes, rotation=45, ha="right", rotation_mode="anchor"
    )
    place.xaxis.set_minor_locator(NullLocator())
    place.set(
        xlim=(eps[0] / 40, eps[1] * 4),
        xlabel="dtype, placed at its eps",
        ylabel="relative error, Frobenius norm",
        title=f"All second derivatives by {weights} weights",
    )
