"""The figure of `templates`: pixels, the classes that are confused, and weights as images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from diffcompare.plot import style

if TYPE_CHECKING:
    from experiments.templates import Result, Seen, Trained

_LINEAR, _STROKES, _NOISE = range(3)  # of the models
_DIVERGING = "RdBu_r"


def draw(result: Result) -> Figure:
    """Returns seven panels."""
    drawing, _ = style.figure(height=10.4)
    drawing.clear()
    parts = drawing.subfigures(4, 1, squeeze=False, height_ratios=(2.0, 2.9, 3.4, 1.6))[:, 0]
    image, table, alike = parts[0].subplots(1, 3, width_ratios=(1, 1.5, 2.5))
    _draw_seen(image, table, result.seen)
    _draw_alike(alike, result)
    confusion, linear = parts[1].subplots(1, 2, width_ratios=(1.15, 1))
    _draw_confusion(confusion, result)
    _draw_linear(linear, result)
    left, right = parts[2].subplots(1, 2)
    _draw_shapes(left, result, _STROKES, "MLP, rows of $W_1$: small, with decay")
    _draw_shapes(right, result, _NOISE, "MLP, rows of $W_1$: He, no decay")
    _draw_last_weights(parts[3].subplots(), result.models[_STROKES])
    return drawing


def _bare(place: Axes) -> None:
    place.set_xticks([])
    place.set_yticks([])
    place.tick_params(length=0)
    place.grid(visible=False)
    place.spines[:].set_visible(False)


def _montage(images: np.ndarray, across: int) -> np.ndarray:
    """Returns images of shape `(count, height, width)` as one, with gaps of NaN."""
    count, height, width = images.shape
    gap = max(height // 8, 1)
    framed = np.pad(images, ((0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    rows = framed.reshape(count // across, across, height + gap, width + gap).swapaxes(1, 2)
    return rows.reshape(count // across * (height + gap), -1)[:-gap, :-gap]


def _draw_seen(image: Axes, table: Axes, seen: Seen) -> None:
    image.imshow(seen.image, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    side = len(seen.table)
    if seen.table.shape != seen.image.shape:
        top, left = seen.corner
        outline = style.series(1)["color"]
        image.add_patch(
            Rectangle((left - 0.5, top - 0.5), side, side, fill=False, edgecolor=outline)
        )
    image.set_title(f"We see: {seen.label}")
    table.set_xlim(-0.5, side - 0.5)
    table.set_ylim(side - 0.5, -0.5)
    table.set_aspect("equal")
    for row, column in np.ndindex(seen.table.shape):
        table.text(column, row, str(seen.table[row, column]), ha="center", va="center", fontsize=7)
    table.set_title("A computer sees")
    for place in (image, table):
        _bare(place)
    table.set_xlabel(f"0 is paper, {seen.white} is ink", fontsize=8)


def _draw_alike(place: Axes, result: Result) -> None:
    """Draws images of the two classes that are confused most, in rows of eight."""
    first, second = (_montage(images, across=8) for images in result.images)
    gap = np.full((max(result.image_shape[0] // 2, 1), first.shape[1]), np.nan)
    picture = np.concatenate([first, gap, second])
    place.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    _bare(place)
    one, other = result.pair.classes
    middle = len(first) / 2 - 0.5
    place.set_yticks([middle, len(picture) - 1 - middle], [f"{one}", f"{other}"], fontsize=11)
    place.set_title(f"{one} or {other}? Confused most")


def _draw_confusion(place: Axes, result: Result) -> None:
    model = result.models[_STROKES]
    wrong = model.confusion - np.diag(np.diag(model.confusion))
    place.imshow(wrong, cmap="Reds", vmin=0, vmax=max(2 * wrong.max(), 1))
    for row, column in np.ndindex(wrong.shape):
        count = model.confusion[row, column]
        if count:
            weight = "normal" if row == column else "bold"
            place.text(column, row, str(count), ha="center", va="center", fontsize=7, weight=weight)
    one, other = result.pair.classes
    for row, column in ((one, other), (other, one)):
        place.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1.5)
        )
    place.set_xticks(range(len(wrong)))
    place.set_yticks(range(len(wrong)))
    place.tick_params(length=0)
    place.grid(visible=False)
    place.set_xlabel(
        f"predicted; {one} for {other} or {other} for {one}: {result.pair.mistakes} of "
        f"{result.pair.errors} errors"
    )
    place.set_ylabel("class")
    last = result.first_seed + len(model.accuracy) - 1
    place.set_title(f"MLP on held-out images, seeds {result.first_seed} to {last}")


def _draw_linear(place: Axes, result: Result) -> None:
    model = result.models[_LINEAR]
    templates = model.weights[0].reshape(-1, *result.image_shape)
    upper, lower = (_montage(half, across=5) for half in (templates[:5], templates[5:]))
    height, _ = result.image_shape
    gap = np.full((height // 4, upper.shape[1]), np.nan)
    _draw_weights(place, np.concatenate([upper, gap, lower]), shrink=0.5)
    _bare(place)
    place.set_title("Linear model: rows of W")
    place.set_xlabel(f"classes 0 to 4, and 5 to 9\naccuracy {_mean_and_spread(model.accuracy)}")


def _draw_shapes(place: Axes, result: Result, number: int, title: str) -> None:
    model = result.models[number]
    templates = model.weights[0].reshape(-1, *result.image_shape)
    _draw_weights(place, _montage(templates, across=10), shrink=0.75)
    _bare(place)
    place.set_title(title)
    place.set_xlabel(
        f"roughness {model.roughness.mean():.2f} (images {result.roughness:.2f}, noise 2)\n"
        f"accuracy {_mean_and_spread(model.accuracy)}"
    )


def _draw_weights(place: Axes, picture: np.ndarray, shrink: float, aspect: str = "equal") -> None:
    low, high = style.image_limits(picture)
    drawn = place.imshow(
        picture,
        cmap=_DIVERGING,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect="auto" if aspect == "auto" else "equal",
    )
    bar = place.figure.colorbar(drawn, ax=place, shrink=shrink, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _mean_and_spread(values: np.ndarray) -> str:
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def _draw_last_weights(place: Axes, model: Trained) -> None:
    norms = np.linalg.norm(model.weights[0], axis=1)
    weights = model.weights[-1][:, norms > 1e-3 * norms.max()]
    # Sorted by the class that a template speaks for most, so that what is shared stands out.
    order = np.lexsort((-weights.max(axis=0), weights.argmax(axis=0)))
    _draw_weights(place, weights[:, order], shrink=1.0, aspect="auto")
    place.grid(visible=False)
    place.tick_params(length=0)
    place.set_yticks(range(len(weights)), [str(i) for i in range(len(weights))], fontsize=7)
    place.set_ylabel("class")
    place.set_xticks([])
    place.set_xlabel(
        f"the {weights.shape[1]} templates not decayed to 0, by the class that each speaks "
        f"for most; {model.users.mean():.1f} classes use one"
    )
    place.set_title("$W_2$, small and with decay: what each class makes of each template")
