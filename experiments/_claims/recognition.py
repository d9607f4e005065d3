"""Claims about recognising digits: rows 2 to 9, 11, 14 and 15."""

import itertools

import numpy as np

from experiments._claims.verdict import Claim, Found, Number, only

SINGLE = float(np.finfo(np.float32).eps)
DOUBLE = float(np.finfo(np.float64).eps)
# Mean squared difference of neighbouring weights over their mean square, where they are unrelated.
NOISE_ROUGHNESS = 2.0


def _digits(result) -> Found:
    classes, each, height, width = result.collected.samples.shape
    values = result.collected.samples
    return Found(
        [
            Number("classes of digits", classes, "=", 10),
            Number("images of each class in the figure", each),
            Number("pixels in an image", height * width),
            Number("darkest pixel", float(values.min()), ">=", 0.0),
            Number("lightest pixel", float(values.max()), "<=", 1.0),
        ]
    )


def _table(result) -> Found:
    seen = result.seen
    row, column = seen.corner
    rows, columns = seen.table.shape
    window = seen.image[row : row + rows, column : column + columns]
    apart = np.max(np.abs(window - seen.table / seen.white))
    return Found(
        [
            Number("numbers in the table", seen.table.size),
            # The picture is in float32.
            Number("largest difference from the picture", float(apart), "<=", SINGLE),
        ]
    )


def _variation(result) -> Found:
    classes, each = result.collected.samples.shape[:2]
    flat = np.asarray(result.collected.samples, np.float64).reshape(classes, each, -1)
    square = ((flat[:, :, None, None] - flat[None, None]) ** 2).sum(axis=-1)
    same = np.einsum("iajb,ij->iajb", np.ones_like(square), np.eye(classes)) > 0
    itself = np.arange(each)[:, None, None] == np.arange(each)[None, None, :]
    # The squared distance of two images of one class, beside that of two classes.
    within = square[same & ~np.broadcast_to(itself, square.shape)].mean()
    between = square[~same].mean()
    return Found(
        [
            # Distances of one class would be 0 if its images were all the same.
            Number("mean squared distance within a class", float(within), ">", 0.0),
            Number("the same between classes", float(between), ">", float(within)),
        ]
    )


def _four_or_nine(result) -> Found:
    counts = only(result.models, name="MLP, small and decaying").confusion
    four_nine = int(counts[4, 9] + counts[9, 4])
    one, other = result.pair.classes
    return Found(
        [
            Number("mistakes between 4 and 9", four_nine, ">=", result.pair.mistakes),
            Number(f"mistakes between {one} and {other}, the most frequent", result.pair.mistakes),
            Number("mistakes in all", result.pair.errors),
        ]
    )


def _learned(result) -> Found:
    called, predicted = result.function, result.predicted
    model = only(result.models, name=predicted.model)
    others = np.argmax(predicted.scores, axis=1) != predicted.predictions
    return Found(
        [
            Number("share of unseen images read right, one at a time", called.right / called.calls,
                   ">=", model.to_reach),
            Number("the same by a table of the images that were trained on",
                   called.looked_up / called.calls, "<", model.to_reach),
            Number("unseen images in that table", called.known),
            Number("unseen images", called.calls, "=", result.collected.test),
            Number("axes of what goes in", len(called.image_shape), "=", 2),
            Number("axes of what comes out", len(called.class_shape), "=", 0),
            Number("results that are no class", called.not_a_class, "=", 0),
            Number("results that are not the highest score", called.not_highest, "=", 0),
            Number("the same for the images shown", int(others.sum()), "=", 0),
        ]
    )  # fmt: skip


def _five_steps(result) -> Found:
    numbers = [
        Number("1. images to train on", result.collected.train),
        Number("1. images held out", result.collected.test),
        Number("2. models", len(result.models)),
        Number("3. loss of the example", result.example.loss, unit="nats"),
    ]
    for model in result.models:
        fall = float((model.train_loss[:, -1] / model.train_loss[:, 0]).max())
        numbers += [
            Number(f"4. {model.name}: last loss over first", fall, "<", 1.0),
            Number(f"5. {model.name}: loss held out", float(model.test_loss[:, -1].mean()),
                   unit="nats"),
            Number(f"5. {model.name}: accuracy held out", float(model.accuracy.mean()), ">=",
                   model.to_reach),
        ]  # fmt: skip
    return Found(numbers)


def _linear(result) -> Found:
    model = only(result.models, name="linear")
    ((classes, pixels),) = model.shapes
    return Found(
        [
            Number("accuracy held out", float(model.accuracy.mean()), ">=", model.to_reach),
            Number("scores", classes, "=", len(model.confusion)),
            Number("pixels", pixels, "=", result.example.image.size),
            Number("parameters", model.parameters, "=", classes * pixels + classes),
        ]
    )


def _filters(result) -> Found:
    model = only(result.models, name="linear")
    (weights,) = model.weights
    height, width = result.image_shape
    return Found(
        [
            Number("roughness of the rows", float(model.roughness.mean()), "<", NOISE_ROUGHNESS),
            Number("roughness of the digits", result.roughness),
            Number("rows", len(weights), "=", len(model.confusion)),
            Number("weights in a row", weights.shape[1], "=", height * width),
        ]
    )


def _perceptrons(result) -> Found:
    numbers = []
    for name, layers in (("2-layer", 2), ("3-layer", 3)):
        model = only(result.models, name=name)
        counted = sum(outputs * (inputs + 1) for outputs, inputs in model.shapes)
        breaks = sum(
            before != after for (before, _), (_, after) in itertools.pairwise(model.shapes)
        )
        numbers += [
            Number(f"{name}: matrices", len(model.shapes), "=", layers),
            Number(f"{name}: matrices that do not fit the next", breaks, "=", 0),
            Number(f"{name}: parameters with biases", model.parameters, "=", counted),
        ]
    return Found(numbers)


def _by_hand(result) -> Found:
    numbers = []
    for each in result.by_hand:
        # Sums of that many products, layer by layer: relative errors of as many eps at most.
        rounding = sum(columns for _, columns in each.shapes) * DOUBLE
        numbers += [
            Number(f"{each.formula}: largest difference, relative", each.difference, "<=",
                   rounding),
            Number("without max(0, ·)", each.without_relu, ">", rounding),
        ]  # fmt: skip
    kinds = {(len(each.shapes), each.has_bias) for each in result.by_hand}
    return Found([*numbers, Number("two or three layers, with biases or not", len(kinds), "=", 4)])


def _operations(result) -> Found:
    # What the network computes, as it was traced: a product, the ReLU, a product.
    symbols = result.graph.symbols
    wanted = ["@", "relu", "@"]
    places = [symbols[start : start + 3] == wanted for start in range(len(symbols))]
    return Found(
        [
            Number("product, ReLU, product in this order", sum(places), "=", 1),
            Number("matrix products in all", symbols.count("@"), "=", 2),
        ]
    )


def _shapes(result) -> Found:
    (hidden, pixels), (classes, from_hidden) = only(result.models, name="2-layer").shapes
    return Found(
        [
            Number("H, the rows of W1", hidden, "=", 100),
            Number("D, the pixels", pixels, "=", result.example.image.size),
            Number("columns of W2", from_hidden, "=", hidden),
            Number("C, the rows of W2", classes, "=", len(result.example.probabilities)),
        ]
    )


def _shared(result) -> Found:
    strokes = only(result.models, name="MLP, small and decaying")
    noise = only(result.models, name="MLP, He initialisation")
    return Found(
        [
            Number("classes that use a template, small and decaying weights",
                   float(strokes.users.min()), ">", 1.0),
            Number("the same, He initialisation", float(noise.users.min()), ">", 1.0),
        ]
    )  # fmt: skip


def _hundred(result) -> Found:
    strokes = only(result.models, name="MLP, small and decaying")
    noise = only(result.models, name="MLP, He initialisation")
    rows = len(noise.weights[0])
    return Found(
        [Number("templates without decay", float(noise.alive.mean()), "=", rows)],
        "the weights do not decay: decay takes those to zero that nothing needs",
        [Number("templates left by decay", float(strokes.alive.mean()), "=", rows)],
    )


def _strokes(result) -> Found:
    strokes = only(result.models, name="MLP, small and decaying")
    noise = only(result.models, name="MLP, He initialisation")
    return Found(
        [Number("roughness, small and decaying weights", float(strokes.roughness.mean()), "<=",
                result.roughness)],
        "the first weights are small and decay; the bound is the roughness of the digits",
        [Number("roughness, He initialisation", float(noise.roughness.mean()), "<=",
                result.roughness)],
    )  # fmt: skip


CLAIMS = (
    Claim(2, "Handwritten digits are grey images of ten classes.", "classification", _digits),
    Claim(3, "What a computer sees of an image is the table of its pixels.", "templates", _table),
    Claim(4, "Images of one class differ, though less than those of two classes.",
          "classification", _variation),
    Claim(4, "Four and nine are the classes that are mixed up most.", "templates", _four_or_nine),
    Claim(5, "A function from an image to its class can be learned where it cannot be written.",
          "classification", _learned),
    Claim(6, "Five steps lead from labelled images to a model that reads unseen ones.",
          "classification", _five_steps),
    Claim(7, "A matrix with a row for each class, and a bias, reads digits.", "classification",
          _linear),
    Claim(9, "Each row of the matrix is a template, not noise.", "templates", _filters),
    Claim(11, "Two and three matrices that fit together make a perceptron.", "classification",
          _perceptrons),
    Claim(11, "Their scores are those of the formula, with biases and without.", "activations",
          _by_hand),
    Claim(11, "A two-layer network is a product, a ReLU and a product, and nothing else.",
          "inpainting", _operations),
    Claim(14, "The shapes of the weights are H x D and C x H, with H = 100.", "classification",
          _shapes),
    Claim(15, "The classes share the templates of the hidden layer.", "templates", _shared),
    Claim(15, "There are a hundred templates.", "templates", _hundred),
    Claim(15, "The templates look like strokes, as smooth as the digits.", "templates", _strokes),
)  # fmt: skip
