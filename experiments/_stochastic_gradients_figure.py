"""The figure of `stochastic_gradients`: mean and spread by batch size, and losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.stochastic_gradients import Result, Spread


def draw(result: Result) -> Figure:
    """Returns four panels: spread, component along the full gradient, and losses twice."""
    drawing, axes = style.figure(2, 2, height=6.6)
    _draw_spread(axes[0, 0], result)
    _draw_along(axes[0, 1], result.spreads[0])
    _draw_losses(axes[1, 0], result, by_examples=False)
    _draw_losses(axes[1, 1], result, by_examples=True)
    return drawing


def _draw_spread(place: Axes, result: Result) -> None:
    for index, spread in enumerate(result.spreads):
        some = spread.batches < result.examples  # the full gradient has no spread
        sizes, look = spread.batches[some], style.series(index, linestyle="")
        slope = spread.slope.mean()
        place.loglog(
            sizes,
            spread.spread[some].mean(axis=1),
            label=f"{spread.where}: $B^{{{slope:.2f}}}$",
            **look,
        )
        expected = spread.expected[some].mean(axis=1)
        place.loglog(sizes, expected, color=look["color"], linestyle="-", linewidth=1)
    place.plot(
        [], [], color="0.3", linestyle="-", linewidth=1, label=r"$\sqrt{s^2/B\;(N-B)/(N-1)}$"
    )
    for index, spread in enumerate(result.spreads):
        look = style.series(index, linestyle=":", linewidth=1)
        label = "|mean of an epoch − full|" if index == 0 else None
        place.loglog(
            spread.batches, spread.mean_error, **look | {"markerfacecolor": "white"}, label=label
        )
    place.set_xticks(result.spreads[0].batches, [str(n) for n in result.spreads[0].batches])
    place.minorticks_off()
    place.set_ylim(1e-17, 1e3)
    place.set_xlabel("batch size B")
    place.set_ylabel("as a fraction of |full gradient|")
    place.set_title("Spread, and error of the mean")
    place.legend(loc="center", bbox_to_anchor=(0.5, 0.5))


def _draw_along(place: Axes, spread: Spread) -> None:
    low, middle, high = spread.along.T
    look = style.series(0, linestyle="")
    place.axhline(1, color="0.3", linestyle=":", label="the full gradient")
    place.errorbar(
        spread.batches,
        middle,
        (middle - low, high - middle),
        capsize=2,
        label="median, 5 % to 95 %",
        **look,
    )
    place.set_xscale("log")
    place.set_xticks(spread.batches, [str(n) for n in spread.batches])
    place.minorticks_off()
    place.set_xlabel(f"batch size B; {spread.where}")
    place.set_ylabel("as a fraction of |full gradient|")
    place.set_title("Component along the full gradient")
    place.legend(loc="upper right")


def _draw_losses(place: Axes, result: Result, by_examples: bool) -> None:
    for index, each in enumerate(result.training):
        look = style.series(index, marker="")
        x = each.steps * each.batch if by_examples else each.steps
        low, high = each.loss.min(axis=0), each.loss.max(axis=0)
        place.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
        place.plot(x, each.loss.mean(axis=0), label=f"B = {each.batch}", **look)
    place.set_yscale("log")
    place.yaxis.set_major_locator(FixedLocator([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]))
    place.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    place.yaxis.set_minor_formatter(NullFormatter())
    if by_examples:
        place.set_xscale("log")
    place.set_xlabel(
        "examples visited" if by_examples else f"steps of gradient descent, α = {result.rate:g}"
    )
    place.set_ylabel("training cross-entropy (nats)")
    seeds = len(result.training[0].accuracy)
    place.set_title(
        "The same losses by examples visited"
        if by_examples
        else f"Loss: mean and range of {seeds} seeds"
    )
    if not by_examples:
        place.legend(loc="upper right", ncols=2)
