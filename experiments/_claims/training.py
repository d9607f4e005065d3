"""Claims about inpainting, its loss, and gradient descent: rows 18 to 24 and 36."""

import math

import numpy as np

from experiments import inpainting, loss_landscape
from experiments._claims.verdict import Claim, Found, Number, only

SINGLE = float(np.finfo(np.float32).eps)
DOUBLE = float(np.finfo(np.float64).eps)
# Of the exponent -1/2 of the spread in the batch size: a tenth of it.
EXPONENT = 0.05


def _filled(result) -> Found:
    of_digits: list[Number] = []
    of_photo: list[Number] = []
    lost = []
    for task in result.tasks:
        *others, network = task.psnr.mean(axis=1)
        gain = Number(f"{task.name}: gain over the best other", float(network - max(others)), ">",
                      0.0, "dB")  # fmt: skip
        (of_photo if task.name.startswith("photo") else of_digits).append(gain)
        if not gain.is_kept:
            best = inpainting.METHODS[int(np.argmax(others))]
            lost.append(f"for {task.name} ({task.train:,} to learn from) the {best} does better")
    return Found(of_digits, "; ".join(["the images are digits", *lost]), of_photo)


def _pairs(result) -> Found:
    numbers = []
    for task in result.tasks:
        apart = np.abs(task.filled - task.shown)[..., ~task.mask]
        numbers += [
            Number(f"{task.name}: missing pixels", int(task.mask.sum())),
            Number(f"{task.name}: largest change of a known pixel", float(apart.max()), "=", 0.0),
        ]
    return Found(numbers)


def _outputs(result) -> Found:
    numbers = []
    for task in result.tasks:
        inputs, *_, outputs = task.sizes
        numbers += [
            Number(f"{task.name}: inputs", inputs, "=", task.mask.size),
            Number(f"{task.name}: outputs", outputs, "=", task.mask.size),
        ]
    return Found(numbers)


def _is_a_sum(result) -> Found:
    task, losses = result.tasks[0], result.losses
    errors = task.filled[-1].astype(np.float64) - task.shown
    squares = (errors**2).reshape(len(errors), -1)
    by_hand = squares.sum(axis=1) / 2
    apart = np.max(np.abs(losses.values - by_hand)) / np.max(by_hand)
    joint = abs(losses.joint - by_hand.sum()) / by_hand.sum()
    operations = result.graph.symbols[-4:]
    return Found(
        [
            # A sum in float32 of terms that are not negative: as many roundings as there are.
            Number("loss of an image against its formula, relative, largest", float(apart), "<=",
                   squares.shape[1] * SINGLE),
            Number("images", len(by_hand)),
            Number("pixels in each", squares.shape[1]),
            Number("loss of the first", float(losses.values[0])),
            # That of a mean would be as many times smaller as there are images.
            Number("loss of all as one image against the sum of theirs, relative", float(joint),
                   "<=", squares.size * SINGLE),
            # The half and the sum may come in either order.
            Number("difference, square, half, sum: at the end of the graph",
                   len({"-", "x²", "× 0.5", "Σ"} & set(operations)), "=", 4),
        ]
    )  # fmt: skip


def _slope_of_loss(result) -> Found:
    task, losses = result.tasks[0], result.losses
    # In the dtype of the images, so that the difference is rounded once on both sides.
    difference = task.filled[-1] - task.shown
    return Found(
        [
            Number("largest difference of the gradient from ŷ - y",
                   float(np.max(np.abs(losses.gradients - difference))), "=", 0.0),
            Number("largest entry of ŷ - y", float(np.max(np.abs(difference))), ">", 0.0),
        ]
    )  # fmt: skip


def _graph(result) -> Found:
    graph = result.graph
    backwards = sum(source >= target for source, target in graph.wires)
    ends = set(range(len(graph.symbols))) - {source for source, _ in graph.wires}
    return Found(
        [
            Number("nodes", len(graph.symbols)),
            Number("wires", len(graph.wires)),
            Number("wires against the order of computation", backwards, "=", 0),
            Number("nodes that nothing follows", len(ends), "=", 1),
            Number("entries of that one, the loss", math.prod(graph.shapes[max(ends)]), "=", 1),
        ]
    )


def _descent(result) -> Found:
    descent = result.descent
    return Found(
        [
            Number("steps", descent.steps),
            Number("largest difference from optax.sgd", descent.eager, "=", 0.0),
            # Compiled, a step may round once more.
            Number("largest difference in a compiled loop", descent.compiled, "<=",
                   descent.steps * DOUBLE),
        ]
    )  # fmt: skip


def _normalised(result) -> Found:
    rescaled = result.rescaled
    scale = np.abs(rescaled.normalised[0]).max()
    moved = {
        name: float(np.abs(np.diff(slices, axis=0)).max() / scale)
        for name, slices in (("normalised", rescaled.normalised), ("plain", rescaled.plain))
    }
    return Found(
        [
            # The loss is evaluated in float32 over a thousand images.
            Number("change of a slice by other weights of the same function, relative",
                   moved["normalised"], "<=", 1000 * SINGLE),
            Number("the same, not normalised", moved["plain"], ">", 1000 * SINGLE),
            # A norm in float32 is a sum of at most 100 squares.
            Number("norm of a row: direction against weights, relative",
                   rescaled.largest_mismatch, "<=", 100 * SINGLE),
        ]
    )  # fmt: skip


def _flat(result) -> Found:
    small, large = (
        loss_landscape.rises(only(result.trained, name=name))[:, -1]
        for name in ("small batch", "large batch")
    )
    unseen = [only(result.trained, name=f"{size} batch").test_loss for size in ("small", "large")]
    return Found(
        [
            Number("rise of the loss around it, large over small batch, least of the seeds",
                   float((large / small).min()), ">", 1.0),
            Number("loss on unseen digits, large over small batch",
                   float(unseen[1].mean() / unseen[0].mean()), ">", 1.0),
        ]
    )  # fmt: skip


def _path(result) -> Found:
    return Found(
        [
            Number("share of the path's variance in its best plane",
                   float(result.path.shares.sum()), ">", 0.5),
            Number("share in a plane of random directions", result.path.random_share, "<", 0.5),
        ]
    )  # fmt: skip


def _mean_of_batches(result) -> Found:
    numbers = []
    for spread in result.spreads:
        # The rounding of a sum over all examples, whose terms are as large as their spread.
        rounding = result.examples * DOUBLE * max(1.0, float(spread.spread.max()))
        numbers.append(
            Number(f"{spread.where}: |mean of an epoch - full gradient|, relative",
                   float(spread.mean_error.max()), "<=", rounding)
        )  # fmt: skip
    return Found(numbers)


def _spread_of_batches(result) -> Found:
    numbers = []
    for spread in result.spreads:
        slope = float(spread.slope.mean())
        numbers += [
            Number(f"{spread.where}: exponent in the batch size", slope),
            Number(f"{spread.where}: its distance from -1/2", abs(slope + 0.5), "<=", EXPONENT),
            Number(f"{spread.where}: spread of single examples over the full gradient",
                   float(spread.spread[0].mean())),
        ]  # fmt: skip
    return Found(numbers)


def _loss_falls(result) -> Found:
    numbers = [
        Number(f"batches of {each.batch}: last loss over first, largest of the seeds",
               float((each.loss[:, -1] / each.loss[:, 0]).max()), "<", 1.0)
        for each in result.training
    ]  # fmt: skip
    return Found(numbers)


CLAIMS = (
    Claim(18, "A network fills holes better than a mean image, least squares or a harmonic fill.",
          "inpainting", _filled),
    Claim(19, "Filling changes the missing pixels and no other.", "inpainting", _pairs),
    Claim(20, "The network has an output for each pixel.", "inpainting", _outputs),
    Claim(21, "The loss is half of a sum of squares.", "inpainting", _is_a_sum),
    Claim(21, "Its derivative by the prediction is prediction minus target.", "inpainting",
          _slope_of_loss),
    Claim(22, "The loss is a graph of operations that ends in one number.", "inpainting", _graph),
    Claim(23, "Gradient descent is what optax.sgd does.", "stochastic_gradients", _descent),
    Claim(24, "Slices along filter-normalised directions do not depend on how the weights are "
          "scaled.", "loss_landscape", _normalised),
    Claim(24, "Small batches end in a flatter place, with less loss on unseen digits.",
          "loss_landscape", _flat),
    Claim(24, "The path of the optimizer lies mostly in a plane, but not in a random one.",
          "loss_landscape", _path),
    Claim(36, "The mean of the batch gradients is the full gradient.", "stochastic_gradients",
          _mean_of_batches),
    Claim(36, "One by one they scatter, as one over the root of the batch size.",
          "stochastic_gradients", _spread_of_batches),
    Claim(36, "The loss falls with every batch size.", "stochastic_gradients", _loss_falls),
)  # fmt: skip
