"""The figure of `activations`: functions and derivatives, and networks with and without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffcompare.plot import style
from experiments import _small_networks as networks

if TYPE_CHECKING:
    from experiments.activations import Activation, Result

_SHORT = {
    "CentralDifference": "central",
    "ForwardDifference": "forward diff.",
    "BackwardDifference": "backward diff.",
    "ComplexStep": "complex step",
    "Symbolic": "symbolic",
    "ReverseMode": "reverse mode",
    "ForwardMode": "forward mode",
}
_COLUMNS = 4


def draw(result: Result) -> Figure:
    """Returns a small panel for every function, and four panels below them."""
    rows = -(-len(result.activations) // _COLUMNS)
    heights = [1.55 * rows, 3.3, 2.3, 2.6]
    drawing, place = style.figure(height=sum(heights))
    place.remove()
    parts: Any = drawing.subfigures(4, 1, height_ratios=heights)
    upper, middle, lower, last = parts
    places = upper.subplots(rows, _COLUMNS, squeeze=False, sharey=True).ravel()
    for place, each in zip(places, result.activations, strict=False):
        _draw_function(place, result.x, each)
    for place in places[len(result.activations) :]:
        place.set_axis_off()
    places[0].legend(loc="upper left")
    left, right = middle.subplots(1, 2)
    _draw_kinks(left, result.activations)
    _draw_differences(right, result)
    _draw_models(lower.subplots(), result)
    _draw_choice(last.subplots(), result)
    return drawing


def _draw_function(place: Axes, x: np.ndarray, each: Activation) -> None:
    place.plot(x, each.values, **style.series(0, marker=""), label="f")
    slope = each.derivatives["ReverseMode"]
    # A jump is not a steep line: the two sides are drawn apart.
    for side in (x < 0, x > 0) if each.kinked else (x == x,):
        look = style.series(1, marker="")
        place.plot(x[side], slope[side], **look, label="f'" if side[0] else None)
    place.set_ylim(-1.3, 3.2)
    place.set_title(each.name)
    place.axhline(0, color="0.3", linewidth=0.5)
    place.set_xticks([-4, -2, 0, 2, 4])


def _draw_kinks(place: Axes, activations: list[Activation]) -> None:
    kinked = [each for each in activations if each.kinked]
    names = [name for name in _SHORT if kinked and name in kinked[0].at_zero]
    for index, each in enumerate(kinked):
        answers = [each.at_zero[name] for name in names]
        spots = np.arange(len(names)) + 0.4 * (index - 0.5)
        place.plot(answers, spots, label=each.name, **style.series(index + 2, linestyle=""))
        for answer, spot in zip(answers, spots, strict=True):
            place.annotate(
                f"{answer:.4g}", (answer, spot), (5, 0), textcoords="offset points", va="center"
            ).set_fontsize(7)
    place.set_yticks(range(len(names)), [_SHORT[name] for name in names])
    place.set_ylim(len(names) - 0.4, -1.7)
    place.set_xlim(-0.1, 1.25)
    place.set_xlabel("derivative at the kink, x = 0")
    place.set_title("At a kink each has its answer")
    place.legend(loc="upper center", ncols=2)


def _draw_differences(place: Axes, result: Result) -> None:
    spots = np.arange(len(result.activations))
    floor = 1e-17  # where a difference of 0 is drawn
    for index, (label, values) in enumerate(
        (
            ("all four methods", [each.difference for each in result.activations]),
            ("without central", [each.exact_difference for each in result.activations]),
        )
    ):
        look = style.series((0, 5)[index], linestyle="")
        place.semilogy(spots, np.maximum(values, floor), label=label, **look)
    place.axhline(2.0**-52, color="0.3", linestyle=":", linewidth=1, label="eps of float64")
    place.set_ylim(floor / 3, 1e-5)
    powers = (15, 13, 11, 9)
    ticks = [f"$10^{{-{power}}}$" for power in powers]
    place.set_yticks([floor, *(10.0**-power for power in powers)], ["0", *ticks])
    place.minorticks_off()
    names = [each.name for each in result.activations]
    place.set_xticks(spots, names, rotation=40, ha="right", rotation_mode="anchor")
    place.set_ylabel("largest difference in f'")
    place.set_title("Away from kinks they agree")
    place.legend(loc="upper left")


def _draw_models(place: Axes, result: Result) -> None:
    names = []
    for index, model in enumerate(result.models):
        y = len(result.models) - 1 - index
        count = len(model.accuracy)
        spots = y + (np.linspace(-0.22, 0.22, count) if count > 1 else np.zeros(1))
        look = style.series(index, linestyle="")
        place.plot(model.accuracy, spots, **look)
        mean = model.accuracy.mean()
        place.vlines(mean, y - 0.35, y + 0.35, color=look["color"], linewidth=1.2)
        shapes = " ".join(f"{a}×{b}" for a, b in reversed(model.shapes))
        spread = networks.spread(model.accuracy)
        names.append(f"{model.name}\n{shapes}\n{mean:.4f} ± {spread:.4f}")
    place.set_yticks(range(len(names) - 1, -1, -1), names)
    place.set_ylim(-0.5, len(names) - 0.5)
    last = result.first_seed + len(result.models[0].accuracy) - 1
    place.set_xlabel(
        f"accuracy on {result.held_out} held-out digits, seeds {result.first_seed} to {last}; "
        "line: mean"
    )
    collapse = result.collapse
    # Of a network with ReLU, how far the Jacobians are apart shows what the others lack.
    apart = f"{collapse.jacobian:.0e}" if collapse.jacobian else "0"
    place.set_title(
        f"Without an activation, layers are one matrix: Jacobians differ by {apart}, with ReLU by "
        f"{collapse.relu:.2f}",
        loc="right",
        fontsize=9,
    )


def _draw_choice(place: Axes, result: Result) -> None:
    choice = result.choice
    for spot, accuracy in enumerate(choice.accuracy.values()):
        count = len(accuracy)
        spots = spot + (np.linspace(-0.22, 0.22, count) if count > 1 else np.zeros(1))
        place.plot(spots, accuracy, **style.series(0, linestyle=""))
        place.hlines(accuracy.mean(), spot - 0.35, spot + 0.35, color="0.3", linewidth=1.2)
    relu = choice.accuracy.get("ReLU")
    if relu is not None and len(relu) > 1:
        mean, spread = float(relu.mean()), networks.spread(relu)
        place.axhspan(mean - spread, mean + spread, color="0.9", zorder=0)
    place.set_xticks(range(len(choice.accuracy)), list(choice.accuracy))
    (hidden, pixels), (classes, _) = choice.shapes
    place.set_xlabel(
        f"activation, {pixels}-{hidden}-{classes}, {choice.epochs} epochs; line: mean; "
        "band: that of the ReLU ± standard deviation"
    )
    place.set_ylabel("held-out accuracy")
    place.set_title("One network trained with each activation, by one recipe")
