"""The figure of `backpropagation`: three graphs, step by step, and the work of the pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from diffcompare.plot import style
from diffcompare.plot.graph import draw_scene

if TYPE_CHECKING:
    from experiments.backpropagation import Counts, Example, Level, Result

_WIDTH = 9.0  # inches: a graph is wider than the text of a page
_COUNTS = 2.4  # inches, the height of the last row
_TITLE = 0.35  # inches, that of the titles of a row


def draw(result: Result) -> Figure:
    """Returns the scalar example in four stages, the others in two, and the counts."""
    scalar, sigmoid, network = result.examples
    half, *whole = (example.scene.height / example.scene.width for example in result.examples)
    heights = [_WIDTH / 2 * half] * 2 + [_WIDTH * ratio for ratio in whole for _ in range(2)]
    heights = [*(height + _TITLE for height in heights), _COUNTS]
    drawing, axes = style.figure(
        7, 2, width=_WIDTH, height=sum(heights), gridspec_kw={"height_ratios": heights}
    )
    wide = []
    for row in range(2, 6):
        grid = axes[row, 0].get_gridspec()
        for ax in axes[row]:
            ax.remove()
        wide.append(drawing.add_subplot(grid[row, :]))
    _draw_counts(axes[6, 0], result.counts)
    _draw_words(axes[6, 1], result)
    places = [*axes[:2].ravel(), *wide]
    stages = [
        (example, stage) for example in (scalar, sigmoid, network) for stage in example.stages
    ]
    seen: set[str] = set()
    for ax, (example, stage) in zip(places, stages, strict=True):
        ax.axis("off")
        ax.set_title(_title(example, stage.title, seen), fontsize=8, loc="left")
    # The places are fixed before the graphs are drawn to fit into them.
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    for ax, (example, stage) in zip(places, stages, strict=True):
        draw_scene(ax, example.scene, {(role, node) for role, node in stage.shown}, stage.current)
    return drawing


def _title(example: Example, stage: str, seen: set[str]) -> str:
    if example.name in seen:
        return stage
    seen.add(example.name)
    return f"{example.formula}\n{stage}"


def _draw_counts(ax: Axes, counts: Counts) -> None:
    ax.plot(
        counts.layers, counts.forward, label="a forward derivative per parameter", **style.series(1)
    )
    ax.plot(counts.layers, counts.unshared, label="each weight matrix by itself", **style.series(0))
    ax.plot(counts.layers, counts.shared, label="upstream gradients shared", **style.series(2))
    ax.set_yscale("log")
    ax.set_ylim(top=float(counts.forward.max()) * 30)  # room for the legend
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("hidden layers")
    ax.set_ylabel("multiplications")
    ax.legend(loc="upper left")


def _draw_words(ax: Axes, result: Result) -> None:
    scalar = result.examples[0]
    shared, unshared, forward = result.scalar_counts
    gradients = ", ".join(f"dL/d{name} = {value:g}" for name, value in scalar.gradients.items())
    lines = [
        "Of the scalar example x = 5, w2 = 2 and e = ŷ - y = 8 are given;",
        "w1 = 1 and y = 2 are a reconstruction.",
        f"{gradients}.",
        "",
        *_level_lines(result.levels),
        "",
        f"Saved for the backward pass: {', '.join(scalar.residuals)}.",
        "",
        f"Multiplications for dL/dw1 and dL/dw2: {shared} shared,",
        f"{unshared} one by one, {forward} by forward derivatives.",
        "",
        "Value above each wire, gradient below it. In a heat map",
        "dark is negative, yellow positive; ≤ is the largest size.",
    ]
    ax.axis("off")
    ax.text(0, 1, "\n".join(lines), va="top", fontsize=8, transform=ax.transAxes)


def _level_lines(levels: list[Level]) -> list[str]:
    """Returns the gradient by each method, those with the same one together."""
    methods: dict[str, list[str]] = {}
    for each in levels:
        gradient = ", ".join(f"dL/d{name} = {value:.10g}" for name, value in each.gradients.items())
        methods.setdefault(gradient, []).append(each.method)
    return [f"{gradient} by {', '.join(names)}." for gradient, names in methods.items()]
