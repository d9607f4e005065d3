"""Claims about lines, planes, activations and too many parameters: rows 8, 10, 12, 13, 16, 17."""

import itertools

import numpy as np

from experiments import _small_networks as networks
from experiments import activations
from experiments._claims.verdict import Claim, Found, Number, only

DOUBLE = float(np.finfo(np.float64).eps)
# Between guessing one of two classes and getting all right.
HALFWAY = (0.5 + 1.0) / 2
# At least nine of ten mistakes of the linear model are gone.
MISTAKES_LEFT = 0.1


def _inner_products(result) -> Found:
    lines = result.lines
    grid = networks.on_grid(lines.half, lines.classes.shape[0])
    scores = [
        float(across) * grid[:, 0] + float(up) * grid[:, 1] + float(b)
        for (across, up), b in zip(lines.weight, lines.bias, strict=True)
    ]
    other = int((np.argmax(scores, axis=0) != lines.classes.ravel()).sum())
    return Found(
        [
            Number("inner products, one for each class", len(scores)),
            Number("points compared", lines.classes.size),
            Number("points where the largest inner product is not the class", other, "=", 0),
            Number("accuracy held out", lines.accuracy),
        ]
    )


def _planes(result) -> Found:
    numbers = []
    for problem in result.problems:
        linear = float(only(problem.models, name="linear").accuracy.mean())
        bent = float(only(problem.models, name="H = 100").accuracy.mean())
        numbers += [
            Number(f"{problem.problem}: accuracy of the linear model", linear, "<", HALFWAY),
            Number(f"{problem.problem}: accuracy with 100 hidden units", bent, ">=",
                   1 - MISTAKES_LEFT * (1 - linear)),
        ]  # fmt: skip
    return Found(numbers)


def _one_matrix(result) -> Found:
    collapse = result.collapse
    # Sums of that many products, layer by layer: relative errors of as many eps at most.
    rounding = sum(columns for _, columns in collapse.shapes) * DOUBLE
    return Found(
        [
            Number("values: layers against one matrix, relative", collapse.values, "<=", rounding),
            Number("Jacobian against that matrix, relative", collapse.product, "<=", rounding),
            Number("Jacobians at two images, relative", collapse.jacobian, "<=", rounding),
            Number("the same with ReLU between the layers", collapse.relu, ">", rounding),
        ]
    )


def _no_better(result) -> Found:
    linear, deep, relu = (
        only(result.models, name=name).accuracy
        for name in ("linear", "3 linear layers", "3 layers, ReLU")
    )
    spread = networks.spread(linear)
    return Found(
        [
            # What another seed changes is no gain.
            Number("gain of 3 linear layers over 1", float((deep - linear).mean()), "<=", spread),
            Number(
                "gain of 3 layers with ReLU over 3 without", float((relu - deep).mean()), ">", 0
            ),
            Number("least such gain of a seed", float((relu - deep).min())),
            Number("standard deviation of the linear model between seeds", spread),
        ]
    )


def _derivatives(result) -> Found:
    exact = max(each.exact_difference for each in result.activations)
    central = max(each.difference for each in result.activations)
    return Found(
        [
            Number("functions", len(result.activations)),
            # At most ten operations make a derivative of about 1.
            Number("largest difference of symbolic, automatic, complex step", exact, "<=",
                   10 * DOUBLE),
            # Central differences keep two thirds of the digits, up to a factor of f.
            Number("largest difference with central differences", central, "<=",
                   10 * DOUBLE ** (2 / 3)),
        ]
    )  # fmt: skip


def _relu_helps(result) -> Found:
    relu = only(result.models, name="3 layers, ReLU").accuracy
    without = only(result.models, name="3 linear layers").accuracy
    return Found(
        [
            Number("accuracy with ReLU", float(relu.mean()), ">", float(without.mean())),
            Number("accuracy without an activation", float(without.mean())),
        ]
    )


def _many(result) -> Found:
    accuracy = _by_activation(result)
    if len(accuracy) < 2:
        raise LookupError("a second activation")
    best = max(accuracy.values(), key=np.mean)
    spread = networks.spread(best)
    close = [name for name, each in accuracy.items() if best.mean() - each.mean() <= spread]
    return Found(
        [
            Number("activations no further from the best than seeds differ", len(close), ">", 1),
            Number("activations trained", len(accuracy)),
            Number("accuracy of the best", float(best.mean())),
            Number("its standard deviation between seeds", spread),
        ]
    )


def _default(result) -> Found:
    accuracy = _by_activation(result)
    if not {"ReLU"} < set(accuracy):
        raise LookupError("activation ReLU and another")
    relu = accuracy.pop("ReLU")
    others = {name: float((each - relu).mean()) for name, each in accuracy.items()}
    best = max(others, key=lambda name: others[name])
    gain = relu - result.choice.accuracy[activations.NOTHING]
    return Found(
        [
            # What another seed changes is no gain.
            Number(f"gain of the best other, {best}, over the ReLU", others[best], "<=",
                   networks.spread(relu)),
            Number("gain of the ReLU over none", float(gain.mean()), ">", 0),
            Number("twice its standard error",
                   float(2 * networks.spread(gain) / np.sqrt(len(gain)))),
            Number("accuracy with the ReLU", float(relu.mean())),
            Number("activations beside it", len(others)),
        ]
    )  # fmt: skip


def _by_activation(result) -> dict[str, np.ndarray]:
    """Returns the accuracy of the network with each activation, without that of none."""
    return {
        name: np.asarray(accuracy, np.float64)
        for name, accuracy in result.choice.accuracy.items()
        if name != activations.NOTHING
    }


def _complexity(result) -> Found:
    growth, by_depth = [], []
    for problem in result.problems:
        one_layer = [model for model in problem.models if len(model.hidden) == 1]
        pieces = [float(model.exact.mean()) for model in one_layer]
        growth += [after / before for before, after in itertools.pairwise(pieces)]
        deep = only(problem.models, name="H = 20, 20").regions.mean()
        by_depth.append(float(deep / only(problem.models, name="H = 20").regions.mean()))
    return Found(
        [
            Number("regions: least factor from one width to the next", min(growth), ">", 1.0),
            Number("regions: least factor of a second layer of 20 units", min(by_depth), ">", 1.0),
        ]
    )


def _overfitting(result) -> Found:
    best = only(result.models, name=result.best)
    largest = max(result.models, key=lambda model: model.parameters)
    ratios = largest.test_loss[:, -1] / best.test_loss[:, -1]
    drops = best.accuracy.astype(np.float64) - largest.accuracy
    # Twice the standard error of the mean: less is chance.
    chance = 2 * networks.spread(drops) / np.sqrt(len(drops))
    return Found(
        [
            Number("loss held out, largest model over best, least of the seeds",
                   float(ratios.min()), ">", 1.0),
            Number(f"parameters of the best, {best.name}", best.parameters, "<",
                   largest.parameters),
            Number(f"training loss of the largest, {largest.name}",
                   float(largest.train_loss[:, -1].mean()), "<",
                   float(best.train_loss[:, -1].mean()), "nats"),
        ],
        "models are judged by their cross-entropy on unseen points; their accuracy falls by no "
        "more than chance",
        [Number("fall of the accuracy held out", float(drops.mean()), ">", float(chance))],
    )  # fmt: skip


CLAIMS = (
    Claim(8, "The class is the row whose inner product with the input is largest.",
          "decision_boundaries", _inner_products),
    Claim(10, "Lines do not separate spiral, rings and XOR; hidden units do.",
          "decision_boundaries", _planes),
    Claim(12, "Layers without a nonlinearity are one matrix.", "activations", _one_matrix),
    Claim(12, "So depth without a nonlinearity reads digits no better.", "activations",
          _no_better),
    Claim(13, "Every method finds the same derivative of an activation, away from kinks.",
          "activations", _derivatives),
    Claim(13, "There are many to choose from: several do as well as the best.", "activations",
          _many),
    Claim(13, "The ReLU is a good default: no other is better by more than seeds differ.",
          "activations", _default),
    Claim(13, "The ReLU makes use of depth.", "activations", _relu_helps),
    Claim(16, "Boundaries become more complex with units and layers.", "decision_boundaries",
          _complexity),
    Claim(17, "More parameters are not always better.", "overfitting", _overfitting),
)  # fmt: skip
