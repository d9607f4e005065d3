"""The figure of `classification`: the five steps of supervised learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.classification import (
        Collected,
        Example,
        Function,
        Predicted,
        Result,
        Trained,
    )

_COLUMNS = 4  # of the held-out images


def draw(result: Result) -> Figure:
    """Returns six panels: one for each step, and two for the last."""
    drawing, axes = style.figure(3, 2, height=9.0)
    _draw_samples(axes[0, 0], result.collected)
    _draw_models(axes[0, 1], result.models)
    _draw_example(axes[1, 0], result.example, result.models)
    _draw_losses(axes[1, 1], result.models)
    _draw_accuracies(axes[2, 0], result.models, result.first_seed)
    _draw_predicted(axes[2, 1], result.predicted, result.function, result.collected.test)
    return drawing


def _montage(rows: np.ndarray) -> np.ndarray:
    """Returns images of shape `(down, across, height, width)` as one, with gaps of NaN."""
    gap = rows.shape[-1] // 8
    framed = np.pad(rows, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    down, across, height, width = framed.shape
    return framed.swapaxes(1, 2).reshape(down * height, across * width)[:-gap, :-gap]


def _draw_samples(place: Axes, collected: Collected) -> None:
    samples = collected.samples.swapaxes(0, 1)
    place.imshow(_montage(samples), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    width = samples.shape[-1]
    centres = np.arange(len(collected.samples)) * (width + width // 8) + (width - 1) / 2
    place.set_xticks(centres, [str(label) for label in range(len(centres))])
    place.set_yticks([])
    place.tick_params(length=0)
    place.grid(visible=False)
    place.spines[:].set_visible(False)
    place.set_xlabel(f"class; {collected.train:,} images to train, {collected.test:,} held out")
    place.set_anchor("N")
    place.set_title(f"1. Collect: {collected.name} with labels")


def _draw_models(place: Axes, models: list[Trained]) -> None:
    """Draws a row of boxes for each model: vectors, and between them the weights' shapes."""
    place.set_title("2. Model: image in, scores out")
    place.set_axis_off()
    place.set_xlim(-0.07, 1.07)
    place.set_ylim(0, len(models))
    deepest = max(len(model.shapes) for model in models)
    for row, model in enumerate(models):
        y = len(models) - row - 0.65
        colour = style.series(row)["color"]
        title = f"{model.name}, {model.parameters:,} parameters"
        place.text(-0.05, y + 0.47, title, color=colour, weight="bold", va="center")
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": colour}
        widths = [model.shapes[0][1], *(outputs for outputs, _ in model.shapes)]
        spots = np.arange(len(widths)) / deepest
        for x, width in zip(spots, widths, strict=True):
            place.text(x, y, f"{width}", ha="center", va="center", bbox=box)
        for x in spots[1:-1]:
            place.text(x, y - 0.16, "ReLU", ha="center", va="top", fontsize=8)
        for number, (outputs, inputs) in enumerate(model.shapes, start=1):
            left, right = spots[number - 1] + 0.085, spots[number] - 0.075
            arrow = {"arrowstyle": "->", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
            place.annotate("", (right, y), (left, y), arrowprops=arrow)
            shape = f"$W_{number}$: {outputs}×{inputs}"
            place.text((left + right) / 2, y + 0.18, shape, ha="center", fontsize=8)


def _draw_example(place: Axes, example: Example, models: list[Trained]) -> None:
    bars = place.bar(range(len(example.probabilities)), example.probabilities, color="0.75")
    bars[example.label].set_color(style.series(0)["color"])
    place.annotate(
        f"true class {example.label}:\nloss = $-\\log${example.probabilities[example.label]:.2f}"
        f" = {example.loss:.2f}",
        (example.label, example.probabilities[example.label]),
        (0.97, 0.95),
        textcoords="axes fraction",
        ha="right",
        va="top",
        arrowprops={"arrowstyle": "->", "color": "0.3"},
    )
    picture = place.inset_axes((0.03, 0.66, 0.3, 0.3))
    picture.imshow(example.image, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    picture.set_xticks([])
    picture.set_yticks([])
    picture.grid(visible=False)
    picture.spines[:].set_visible(False)
    place.set_ylim(0, 1.5 * example.probabilities.max())
    place.set_xticks(range(len(example.probabilities)))
    place.set_xlabel(f"class, for this held-out image, by the {models[0].name} model")
    place.set_ylabel("probability (softmax of scores)")
    place.set_title("3. Loss: cross-entropy")


def _draw_losses(place: Axes, models: list[Trained]) -> None:
    for index, model in enumerate(models):
        look = style.series(index, marker="", linestyle="-")
        epochs = np.arange(1, model.train_loss.shape[1] + 1)
        for losses, line in ((model.train_loss, "-"), (model.test_loss, ":")):
            low, middle, high = np.percentile(losses, (0, 50, 100), axis=0)
            place.fill_between(epochs, low, high, color=look["color"], alpha=0.15, linewidth=0)
            label = model.name if line == "-" else None
            place.semilogy(epochs, middle, label=label, **look | {"linestyle": line})
    place.plot([], [], color="0.3", linestyle=":", label="held out")
    smoothed = [model for model in models if model.smoothing]
    names = ", ".join(model.name for model in smoothed)
    place.set_xlabel(
        "epoch; median and range over the seeds"
        + (f"\n{names}: labels smoothed by {smoothed[0].smoothing:g}" if smoothed else "")
    )
    place.yaxis.set_major_locator(FixedLocator([0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2]))
    place.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    place.yaxis.set_minor_formatter(NullFormatter())
    bottom, top = place.get_ylim()
    place.set_ylim(bottom, top * (top / bottom) ** 0.3)  # room for the legend
    place.set_ylabel("cross-entropy (nats)")
    place.set_title("4. Train: the loss falls")
    place.legend(loc="upper right", ncols=2)


def _draw_accuracies(place: Axes, models: list[Trained], first_seed: int) -> None:
    for index, model in enumerate(models):
        look = style.series(index, linestyle="")
        count = len(model.accuracy)
        spots = index + np.linspace(-0.25, 0.25, count) if count > 1 else np.array([index])
        place.plot(spots, model.accuracy, **look)
        mean = model.accuracy.mean()
        place.hlines(mean, index - 0.33, index + 0.33, color=look["color"], linewidth=1.2)
        label = "to reach" if index == 0 else ""
        ends = (index - 0.42, index + 0.42)
        place.plot(ends, 2 * [model.to_reach], color="0.3", linestyle=":", label=label)
    place.set_xticks(range(len(models)), [_scores(model) for model in models])
    place.set_xlim(-0.6, len(models) - 0.4)
    last = first_seed + len(models[0].accuracy) - 1
    place.set_xlabel(f"mean ± standard deviation; seeds {first_seed} to {last}")
    place.set_ylabel("accuracy on held-out images")
    place.set_title("5. Evaluate on unseen images")
    place.legend(loc="lower right")


def _scores(model: Trained) -> str:
    spread = f"\n± {model.accuracy.std(ddof=1):.4f}" if len(model.accuracy) > 1 else ""
    return f"{model.name}\n{model.accuracy.mean():.4f}{spread}"


def _draw_predicted(place: Axes, predicted: Predicted, function: Function, held_out: int) -> None:
    count, height, width = predicted.images.shape
    rows = -(-count // _COLUMNS)
    band = height * 3 / 4  # above each image, for its text
    pitch = width * 13 / 8
    place.set_axis_off()
    for number, image in enumerate(predicted.images):
        row, column = divmod(number, _COLUMNS)
        left, top = column * pitch, row * (height + band) + band
        extent = (left, left + width, top + height, top)
        place.imshow(image, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", extent=extent)
        label, prediction = predicted.labels[number], predicted.predictions[number]
        right = label == prediction
        place.text(
            left + width / 2,
            top - height / 16,
            f"right: {prediction}" if right else f"wrong: {prediction}\nis {label}",
            ha="center",
            va="bottom",
            fontsize=8,
            weight="normal" if right else "bold",
        )
    # imshow set the limits to the last image.
    place.set_xlim((width - pitch) / 2, _COLUMNS * pitch + (width - pitch) / 2)
    place.set_ylim(rows * (height + band), 0)
    place.set_anchor("N")
    place.set_title(f"5. {predicted.model} on them: {predicted.wrong} of {held_out:,} wrong")
    size = "×".join(map(str, function.image_shape))
    place.text(
        0.5,
        -0.05,
        f"a function of one image, {size}, to its class;\n"
        f"a table of the training images knows {function.known} of them",
        ha="center",
        va="top",
        fontsize=8,
        transform=place.transAxes,
        in_layout=False,
    )
