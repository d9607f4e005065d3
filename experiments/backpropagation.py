"""Backpropagation made visible: every value, local derivative and gradient of three functions.

Lecture rows 22, 28 and 31 to 35, and its extra example, row 41. Of the scalar example the lecture
gives x = 5, w2 = 2 and the factor 8; w1 = 1 and y = 2 are a reconstruction of its picture. Its
gradient is found on all three levels; and its product with a rule of its own is called as it is,
compiled and mapped.

The animation of the scalar example is drawn by

    python -c "import experiments.backpropagation as b; b.animate('figures/backpropagation.gif')"
"""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare.automatic.graph.counts import Multiplications
from diffcompare.automatic.graph.scene import compose
from diffcompare.automatic.graph.shapes import Box, Heat, Path, Scene, Text
from diffcompare.automatic.multiply import multiply
from diffcompare.plot.graph import shown_at
from experiments import _backpropagation_figure
from experiments._runner import run_module as main

# Reading the file back finds the records of a scene among these names.
__all__ = ["Box", "Heat", "Multiplications", "Path", "Scene", "Text"]

CLAIM = (
    "Backpropagation divides and conquers: each operation multiplies its upstream gradient by its "
    "local derivatives, once, so that the work of all gradients together grows with the size of "
    "the graph, and not with its square or with the number of parameters."
)
ENABLE_X64 = True

_SCALAR = (5.0, 1.0, 2.0, 2.0)
_SCALAR_NAMES = {"relu": "g", "out": "L"}
_WEIGHTS = {"w1": 1, "w2": 2}  # where they stand among the arguments

# By level and name. The step of one millionth is that of the lecture.
METHODS = {
    ("numerical", "forward difference, h = 1e-6"): dc.ForwardDifference(step=1e-6),
    ("numerical", "central difference"): dc.CentralDifference(),
    ("symbolic", "formula"): dc.Symbolic(),
    ("automatic", "reverse mode"): dc.ReverseMode(),
}
WAYS: dict[str, Callable] = {
    "as it is": lambda fun: fun,
    "jit": jax.jit,
    "vmap": jax.vmap,
    "jit of vmap": lambda fun: jax.jit(jax.vmap(fun)),
}
FACTORS = 16  # pairs of numbers that are multiplied


@dataclasses.dataclass(frozen=True)
class Config:
    """The network of the third example, and the networks whose multiplications are counted."""

    inputs: int = 6
    """Entries of x."""
    hidden: int = 4
    """Units of each hidden layer."""
    outputs: int = 3
    """Entries of y."""
    deepest: int = 8
    """The networks that are counted have 1, 2, ... hidden layers, up to this."""
    seed: int = 0
    """Of the weights, the input and the target."""

    def __post_init__(self):
        if min(self.inputs, self.hidden, self.outputs, self.deepest) < 1:
            raise ValueError(
                "inputs, hidden, outputs and deepest must be positive, but they are "
                f"{self.inputs}, {self.hidden}, {self.outputs} and {self.deepest}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(deepest=3)


class Stage(NamedTuple):
    """What is known after one of the steps of both passes."""

    title: str
    shown: list[tuple[str, int]]  # ("value" or "gradient", node)
    current: int | None  # the node of that step


class Example(NamedTuple):
    """One function, and what its two passes compute."""

    name: str
    formula: str
    scene: Scene
    rows: list[dict[str, str]]  # in the order of the backward pass
    steps: list[str]  # forward node by node, then backward
    stages: list[Stage]  # those that the figure shows
    residuals: list[str]  # what the forward pass saves
    gradients: dict[str, np.ndarray]  # of the arguments, from the one pass
    error: float  # their largest difference from jax.grad, relative to the largest entry


class Counts(NamedTuple):
    """Multiplications of upstream gradients and local derivatives, by network."""

    layers: np.ndarray  # (networks,), hidden layers
    parameters: np.ndarray  # (networks,)
    shared: np.ndarray  # (networks,)
    unshared: np.ndarray  # (networks,), every weight matrix by itself from the output
    forward: np.ndarray  # (networks,), every parameter by a forward derivative


class Level(NamedTuple):
    """The gradient of the scalar example by one method."""

    level: str  # "numerical", "symbolic" or "automatic"
    method: str
    gradients: dict[str, float]  # by w1 and by w2


class Products(NamedTuple):
    """What `multiply`, the product with a rule of its own, returns and passes back."""

    x: np.ndarray  # (FACTORS,)
    y: np.ndarray  # (FACTORS,)
    upstream: np.ndarray  # (FACTORS,)
    values: dict[str, np.ndarray]  # way -> (FACTORS,)
    by_x: dict[str, np.ndarray]  # way -> (FACTORS,), what it passes to x
    by_y: dict[str, np.ndarray]  # way -> (FACTORS,)
    saved: list[str]  # what its forward pass saves
    operations: list[str]  # of its traced program
    scalar: dict[str, float]  # gradients of the scalar example with it in place of both products


class Result(NamedTuple):
    """What the figure shows."""

    examples: list[Example]
    counts: Counts
    scalar_counts: Multiplications  # of the scalar example
    levels: list[Level]
    products: Products


def scalar(x, w1, w2, y, product=operator.mul):
    """Returns the loss of the lecture's scalar example."""
    f = checkpoint_name(product(w1, x), "f")
    g = jax.nn.relu(f)
    y_hat = checkpoint_name(product(w2, g), "ŷ")
    return 0.5 * checkpoint_name(y_hat - y, "e") ** 2


def sigmoid(w0, w1, x1, w2, x2):
    """Returns the lecture's extra example."""
    return 1 / (1 + jnp.exp(-(w1 * x1 + w2 * x2 + w0)))


def loss(W1, W2, x, y):
    """Returns 1/2 ||y - W2 sigma(W1 x)||^2."""
    y_hat = checkpoint_name(W2 @ jax.nn.sigmoid(checkpoint_name(W1 @ x, "f")), "ŷ")
    return 0.5 * jnp.sum((y - y_hat) ** 2)


def run(config: Config) -> Result:
    """Returns the graphs of the three examples, and the counts."""
    rng = np.random.default_rng(config.seed)
    shapes = (config.hidden, config.inputs), (config.outputs, config.hidden)
    arrays = [
        jnp.asarray(rng.normal(size=shape)) for shape in (*shapes, config.inputs, config.outputs)
    ]
    first, first_graph = _example(
        "scalar", "½ (w2 · relu(w1 · x) - y)²", scalar, _SCALAR, _SCALAR_NAMES,
        ("f", "out", "ŷ", "w1"),
    )  # fmt: skip
    second, _ = _example(
        "sigmoid", "1 / (1 + exp(-(w1 x1 + w2 x2 + w0)))", sigmoid,
        (-3.0, 2.0, -1.0, -3.0, -2.0), {"out": "f"}, ("out", "last"),
    )  # fmt: skip
    third, _ = _example(
        "network", "½ ||y - W2 σ(W1 x)||²", loss, tuple(arrays),
        {"sigmoid": "g", "out": "L"}, ("out", "last"),
    )  # fmt: skip
    count = first_graph.multiplications("w1", "w2")
    return Result([first, second, third], _counts(config), count, _levels(), _products(config.seed))


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _backpropagation_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every node of the scalar and of the sigmoid example."""
    return [
        {"example": example.name, **row} for example in result.examples[:2] for row in example.rows
    ]


def animate(path: str) -> None:
    """Writes the animation of the scalar example, node by node forward, then backward."""
    graph = dc.computational_graph(scalar, _SCALAR_NAMES)(*_SCALAR)
    graph.animate(path, seconds=1.5)


def _example(name, formula, fun, args, names, marks) -> tuple[Example, dc.Graph]:
    graph = dc.computational_graph(fun, names)(*args)
    args = [jnp.asarray(arg) for arg in args]
    truth = jax.jit(jax.grad(fun, tuple(range(len(args)))))(*args)
    found = [node for node in graph.nodes if node.kind == "argument"]
    errors = [
        np.max(np.abs(np.asarray(node.gradient) - exact)) / np.max(np.abs(exact))
        for node, exact in zip(found, map(np.asarray, truth), strict=True)
    ]
    steps = graph.steps()
    return Example(
        name, formula, compose(graph), graph.rows(), [step.text for step in steps],
        [_stage(graph, steps, mark, names) for mark in marks],
        [residual.expression for residual in graph.residuals],
        {node.name: np.asarray(node.gradient) for node in found}, float(max(errors)),
    ), graph  # fmt: skip


def _stage(graph: dc.Graph, steps, mark: str, names: dict[str, str]) -> Stage:
    """Returns the stage after the forward pass up to a node, or the backward pass down to it."""
    if mark == "last":
        number = len(steps) - 1
        title = "backward: all gradients"
    else:
        node = graph[names.get(mark, mark)].index
        # A value is shown when it is computed, but a gradient for those that the lecture names.
        direction = "forward" if mark in ("f", "out") else "backward"
        number = next(
            i for i, step in enumerate(steps) if (step.direction, step.node) == (direction, node)
        )
        title = f"{direction}: {steps[number].text}"
    shown, current = shown_at(graph, number)
    return Stage(title, sorted(shown), None if mark == "last" else current)


def _levels() -> list[Level]:
    return [
        Level(level, name, _scalar_gradients(scalar, method))
        for (level, name), method in METHODS.items()
    ]


def _scalar_gradients(fun: Callable, method: dc.Method) -> dict[str, float]:
    found = dc.grad(fun, tuple(_WEIGHTS.values()), method=method)(*_SCALAR)
    return dict(zip(_WEIGHTS, map(float, found), strict=True))


def _products(seed: int) -> Products:
    rng = np.random.default_rng(seed)
    x, y, upstream = (jnp.asarray(rng.normal(size=FACTORS)) for _ in range(3))
    found = {}
    for way, wrap in WAYS.items():
        value, pullback = jax.vjp(wrap(multiply), x, y)
        found[way] = [np.asarray(array) for array in (value, *pullback(upstream))]
    values, by_x, by_y = ({way: row[i] for way, row in found.items()} for i in range(3))
    graph = dc.computational_graph(multiply)(x, y)
    return Products(
        x=np.asarray(x),
        y=np.asarray(y),
        upstream=np.asarray(upstream),
        values=values,
        by_x=by_x,
        by_y=by_y,
        saved=sorted(residual.expression for residual in graph.residuals),
        operations=[equation.primitive.name for equation in jax.make_jaxpr(multiply)(x, y).eqns],
        scalar=_scalar_gradients(functools.partial(scalar, product=multiply), dc.ReverseMode()),
    )


def _counts(config: Config) -> Counts:
    rng = np.random.default_rng(config.seed)

    def network(weights, x, y):
        hidden = functools.reduce(lambda h, w: jax.nn.sigmoid(w @ h), weights[:-1], x)
        return 0.5 * jnp.sum((y - weights[-1] @ hidden) ** 2)

    rows = []
    for layers in range(1, config.deepest + 1):
        sizes = [config.inputs, *[config.hidden] * layers, config.outputs]
        weights = [
            jnp.asarray(rng.normal(size=(after, before)))
            for before, after in itertools.pairwise(sizes)
        ]
        graph = dc.computational_graph(network)(
            weights, jnp.zeros(config.inputs), jnp.zeros(config.outputs)
        )
        names = [f"weights[{i}]" for i in range(len(weights))]
        count = graph.multiplications(*names)
        rows.append((layers, sum(weight.size for weight in weights), *count))
    return Counts(*(np.array(column) for column in zip(*rows, strict=True)))


if __name__ == "__main__":
    raise SystemExit(main("backpropagation"))
