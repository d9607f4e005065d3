"""Activation functions, their derivatives by several methods, and what a network is without one.

Lecture row 13: there are many to choose from. Away from kinks every method finds the same
derivative; at a kink each has its own convention. A network is trained with each of them. Row 11:
networks with two and three layers compute the formula of the lecture. Row 12: without a
nonlinearity the layers f = W3 W2 W1 x are one matrix, so such a network is a linear model,
whatever its depth.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from experiments import _activation_choice, _activations_figure
from experiments import _small_networks as networks
from experiments._activation_choice import Choice
from experiments._runner import run_module as main

CLAIM = (
    "Differences, symbols and automatic differentiation agree on the derivative of every "
    "activation except at a kink, where each has its own answer; and without an activation three "
    "layers read digits no better than one."
)
ENABLE_X64 = True

ACTIVATIONS: dict[str, Callable] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "ReLU": jax.nn.relu,
    "leaky ReLU": jax.nn.leaky_relu,
    "ELU": jax.nn.elu,
    "GELU": functools.partial(jax.nn.gelu, approximate=False),
    "SiLU": jax.nn.silu,
    "softplus": jax.nn.softplus,
}
Function = Literal["sigmoid", "tanh", "ReLU", "leaky ReLU", "ELU", "GELU", "SiLU", "softplus"]
KINKED = ("ReLU", "leaky ReLU")  # at 0; there the slopes of the two sides differ
METHODS = {
    "CentralDifference": dc.CentralDifference(),
    "Symbolic": dc.Symbolic(),
    "ReverseMode": dc.ReverseMode(),
    "ComplexStep": dc.ComplexStep(),
}
AT_KINKS = METHODS | {
    "ForwardDifference": dc.ForwardDifference(),
    "BackwardDifference": dc.BackwardDifference(),
    "ForwardMode": dc.ForwardMode(),
}
NOTHING = "none"  # what stands for no activation
REACH = 4.0  # the functions are shown from minus to plus this
HIDDEN = (100, 100)
CLASSES = 10
BATCH = 32
MODELS = {"linear": (), "3 linear layers": HIDDEN, "3 layers, ReLU": HIDDEN}
# The formulas of the lecture, written out in NumPy; a row of x is an image.
FORMULAS = (
    ("W2 max(0, W1 x)", 2, False, lambda bend, x, w1, w2: bend(x @ w1.T) @ w2.T),
    ("W2 max(0, W1 x + b1) + b2", 2, True,
     lambda bend, x, w1, w2, b1, b2: bend(x @ w1.T + b1) @ w2.T + b2),
    ("W3 max(0, W2 max(0, W1 x))", 3, False,
     lambda bend, x, w1, w2, w3: bend(bend(x @ w1.T) @ w2.T) @ w3.T),
    ("W3 max(0, W2 max(0, W1 x + b1) + b2) + b3", 3, True,
     lambda bend, x, w1, w2, w3, b1, b2, b3:
         bend(bend(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3),
)  # fmt: skip
# Of Adam, falling to 0 along a cosine. One layer needs a larger one to get as far.
RATES = {"linear": 3e-2, "3 linear layers": 3e-3, "3 layers, ReLU": 3e-3}


@dataclasses.dataclass(frozen=True)
class Config:
    """How finely the functions are sampled, and how often the networks are trained."""

    points: int = 160
    """At how many points to compare the derivatives; 0 is not among them. It is even."""
    functions: tuple[Function, ...] = get_args(Function)
    """Which of them."""
    seeds: int = 5
    """How often to train, each with other first weights and another split of the digits."""
    first_seed: int = 5
    """The first of them."""
    epochs: int = 40
    """How often to visit the training images."""
    choice_epochs: int = 20
    """The same where one network is trained with each of the functions."""

    def __post_init__(self):
        if not self.functions:
            raise ValueError(f"functions needs one or more of {', '.join(ACTIVATIONS)}.")
        if self.points < 2 or self.points % 2 or min(self.seeds, self.epochs) < 1:
            raise ValueError(
                "points must be even and seeds and epochs positive, but they are "
                f"{self.points}, {self.seeds} and {self.epochs}."
            )
        if self.choice_epochs < 1:
            raise ValueError(f"choice_epochs must be positive, but it is {self.choice_epochs}.")
        if self.first_seed < 0:
            raise ValueError(f"first_seed must not be negative, but it is {self.first_seed}.")

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(points=16, functions=("tanh", "ReLU"), seeds=2, epochs=2)


class Activation(NamedTuple):
    """A function and its derivative, in float64."""

    name: str
    kinked: bool  # at 0
    values: np.ndarray  # (points,)
    derivatives: dict[str, np.ndarray]  # method -> (points,)
    at_zero: dict[str, float]  # method -> the derivative at 0
    difference: float  # the largest between two of the methods, away from 0
    exact_difference: float  # the same without CentralDifference


class ByHand(NamedTuple):
    """A network with random weights, beside its formula in NumPy, in float64.

    Both numbers are differences from that of `learn.apply`, as a fraction of the largest value.
    """

    formula: str
    shapes: list[tuple[int, int]]
    has_bias: bool
    images: int
    difference: float  # largest of any score
    without_relu: float  # the same where the formula lacks the ReLU


class Collapse(NamedTuple):
    """f = W3 W2 W1 x with random weights, beside the one matrix W3 W2 W1, in float64."""

    shapes: list[tuple[int, int]]
    values: float  # largest difference between the two, as a fraction of the largest value
    jacobian: float  # largest difference between Jacobians at two images, as such a fraction
    product: float  # largest difference between a Jacobian and the matrix, as such a fraction
    relu: float  # what `jacobian` is with ReLU between the layers


class Trained(NamedTuple):
    """A model of digits, trained once for each seed."""

    name: str
    shapes: list[tuple[int, int]]
    accuracy: np.ndarray  # (seeds,), of held-out images
    train_accuracy: np.ndarray  # (seeds,)
    loss: np.ndarray  # (seeds,), cross-entropy of held-out images in nats
    train_loss: np.ndarray  # (seeds,)


class Result(NamedTuple):
    """What the figure shows."""

    x: np.ndarray  # (points,), where the derivatives are compared
    activations: list[Activation]
    by_hand: list[ByHand]
    collapse: Collapse
    models: list[Trained]
    choice: Choice
    held_out: int  # images
    first_seed: int


def run(config: Config) -> Result:
    """Returns the functions, their derivatives, and what networks without them are."""
    x = 2 * REACH * ((np.arange(config.points) + 0.5) / config.points - 0.5)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    datasets = [learn.load("digits", seed=seed) for seed in seeds]
    chosen = {name: ACTIVATIONS[name] for name in config.functions} | {NOTHING: _nothing}
    return Result(
        x=x,
        activations=[_differentiated(name, jnp.asarray(x)) for name in config.functions],
        by_hand=_by_hand(config, datasets[0]),
        collapse=_collapsed(config, datasets[0]),
        models=_trained(config, datasets),
        choice=_activation_choice.trained(chosen, datasets, seeds, config.choice_epochs),
        held_out=len(datasets[0].y_test),
        first_seed=config.first_seed,
    )


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _activations_figure.draw(result)


def summary(result: Result) -> str:
    """Returns a table of the functions, one of the models, and one of the activations."""
    parts = (_function_lines, _model_lines, _choice_lines)
    return "\n\n".join("\n".join(part(result)) for part in parts)


def _function_lines(result: Result) -> list[str]:
    lines = [f"{'':12}{'largest difference':>20}{'without central':>17}   derivative at 0"]
    for each in result.activations:
        answers: dict[str, list[str]] = {}
        for method, value in each.at_zero.items():
            answers.setdefault(f"{value:.6g}", []).append(method)
        said = (
            "; ".join(f"{value}: {', '.join(methods)}" for value, methods in answers.items())
            if each.kinked
            else f"{each.at_zero['ReverseMode']:.6g}: all"
        )
        lines.append(f"{each.name:12}{each.difference:20.1e}{each.exact_difference:17.1e}   {said}")
    return lines


def _model_lines(result: Result) -> list[str]:
    collapse = result.collapse
    lines = [
        f"{each.formula} and learn.apply differ by {each.difference:.1e} of the largest score."
        for each in result.by_hand
    ]
    lines += [
        f"W3 (W2 (W1 x)) and (W3 W2 W1) x differ by {collapse.values:.1e} of the largest value; "
        f"the Jacobian at two images by {collapse.jacobian:.1e}, with ReLU by "
        f"{collapse.relu:.2f}.",
        "",
        f"{'digits':18}{'held-out accuracy':>20}{'lowest':>9}{'against linear':>20}"
        f"{'training':>10}{'seeds':>7}",
    ]
    linear = result.models[0].accuracy
    for model in result.models:
        accuracy, gain = model.accuracy, model.accuracy - linear
        lines.append(
            f"{model.name:18}{_with_spread(accuracy):>20}{accuracy.min():9.4f}"
            f"{_with_spread(gain):>20}{model.train_accuracy.mean():10.4f}{len(accuracy):7}"
        )
    return lines


def _choice_lines(result: Result) -> list[str]:
    choice = result.choice
    layers = ", ".join("x".join(map(str, shape)) for shape in choice.shapes)
    lines = [
        f"{layers}, {choice.epochs} epochs:",
        "",
        f"{'activation':18}{'held-out accuracy':>20}",
    ]
    return lines + [
        f"{name:18}{_with_spread(accuracy):>20}" for name, accuracy in choice.accuracy.items()
    ]


def _with_spread(values: np.ndarray) -> str:
    return f"{values.mean():.4f} +- {networks.spread(values):.4f}"


def _differentiated(name: str, x: jax.Array) -> Activation:
    fun = ACTIVATIONS[name]
    # The last entry is 0: one compiled call answers for the kink as well.
    with_zero = jnp.append(x, 0.0)

    @jax.jit
    def slopes(x):
        methods = AT_KINKS if name in KINKED else METHODS
        return {key: jax.vmap(dc.grad(fun, method=method))(x) for key, method in methods.items()}

    found = {key: np.asarray(value) for key, value in slopes(with_zero).items()}
    compared = np.stack([found[key][:-1] for key in METHODS])
    exact = np.stack([found[key][:-1] for key in METHODS if key != "CentralDifference"])
    return Activation(
        name=name,
        kinked=name in KINKED,
        values=np.asarray(fun(x)),
        derivatives={key: found[key][:-1] for key in METHODS},
        at_zero={key: float(value[-1]) for key, value in found.items()},
        difference=float(np.ptp(compared, axis=0).max()),
        exact_difference=float(np.ptp(exact, axis=0).max()),
    )


def _by_hand(config: Config, data: learn.Dataset) -> list[ByHand]:
    images = np.asarray(data.x_test, np.float64)
    rng = np.random.default_rng(config.first_seed)
    found = []
    for formula, layers, has_bias, written in FORMULAS:
        sizes = (images.shape[1], *HIDDEN[: layers - 1], CLASSES)
        shapes = [(after, before) for before, after in itertools.pairwise(sizes)]
        weights = [rng.normal(size=shape) / np.sqrt(shape[1]) for shape in shapes]
        biases = [rng.normal(size=shape[0]) if has_bias else None for shape in shapes]
        params = tuple(
            learn.Layer(jnp.asarray(weight), None if bias is None else jnp.asarray(bias))
            for weight, bias in zip(weights, biases, strict=True)
        )
        scores = np.asarray(learn.apply(params, jnp.asarray(images)))
        arrays = [*weights, *biases] if has_bias else weights
        relu, nothing = (written(bend, images, *arrays) for bend in (_max_0, _nothing))
        found.append(
            ByHand(formula, shapes, has_bias, len(images), _apart(scores, relu),
                   _apart(scores, nothing))
        )  # fmt: skip
    return found


def _max_0(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, x)


def _collapsed(config: Config, data: learn.Dataset) -> Collapse:
    pixels = data.x_test.shape[1]
    key = jax.random.key(config.first_seed)
    params = learn.init(key, (pixels, *HIDDEN, CLASSES), bias=False, dtype=jnp.float32)
    # In float64, so that the equality shows to 16 digits.
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    first, second, third = (layer.weight for layer in params)
    matrix = np.asarray(third) @ np.asarray(second) @ np.asarray(first)
    images = np.asarray(data.x_test, np.float64)

    def jacobians(activation):
        at = jax.vmap(jax.jacobian(lambda x: learn.apply(params, x, activation)))
        return np.asarray(jax.jit(at)(jnp.asarray(images[:2])))

    layers = np.asarray(learn.apply(params, jnp.asarray(images), _nothing))
    linear, relu = jacobians(_nothing), jacobians(jax.nn.relu)
    return Collapse(
        shapes=[layer.weight.shape for layer in params],
        values=_apart(layers, images @ matrix.T),
        jacobian=_apart(linear[0], linear[1]),
        product=_apart(linear[0], matrix),
        relu=_apart(relu[0], relu[1]),
    )


def _nothing(x):
    return x


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def _trained(config: Config, datasets: list[learn.Dataset]) -> list[Trained]:
    examples, pixels = datasets[0].x_train.shape
    steps = config.epochs * (examples // BATCH)
    models = []
    for name, hidden in MODELS.items():
        activation = jax.nn.relu if "ReLU" in name else _nothing
        loss = functools.partial(_cross_entropy, activation)
        optimizer = optax.adam(optax.cosine_decay_schedule(RATES[name], steps))
        sizes = (pixels, *hidden, CLASSES)
        found = []
        for seed, data in enumerate(datasets, start=config.first_seed):
            start, order = jax.random.split(jax.random.key(seed))
            fitted = learn.fit(
                loss,
                learn.init(start, sizes, bias=False, dtype=jnp.float32),
                (data.x_train, data.y_train),
                optimizer,
                epochs=config.epochs,
                batch_size=BATCH,
                key=order,
            )
            found.append(_metrics(activation, fitted.params, data[:4]))
        measured = np.array(found, np.float64).T
        shapes = [layer.weight.shape for layer in fitted.params]
        models.append(Trained(name, shapes, *measured))
    return models


def _cross_entropy(activation, params, x, y):
    scores = learn.apply(params, x, activation)
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, y))


@functools.partial(jax.jit, static_argnums=0)
def _metrics(activation, params, arrays):
    """Returns accuracy and loss: held out, training, held out, training."""
    x_train, y_train, x_test, y_test = arrays
    both = ((x_test, y_test), (x_train, y_train))
    return [learn.accuracy(params, x, y, activation).astype(jnp.float32) for x, y in both] + [
        _cross_entropy(activation, params, x, y) for x, y in both
    ]


if __name__ == "__main__":
    raise SystemExit(main("activations"))
