"""The gradients of the lecture's networks as formulas, typeset as they were derived.

Lecture row 25: dL/dW1 and dL/dW2 in closed form. Row 27: symbolic differentiation, by chain and
product rule, is accurate and tedious; here it is derived, checked and counted. Rows 22, 29 and 30:
the loss as a graph, and the gradient as a product of local derivatives, which are the steps.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import diffcompare as dc
from experiments import _closed_forms_figure
from experiments._cost_measure import clock
from experiments._runner import run_module as main

CLAIM = (
    "The gradient of a network has a closed form that a program can derive: as many nodes at any "
    "width, steps as long as the network is deep, and equal to jax.grad to rounding."
)
ENABLE_X64 = True

LOSSES = ("half squared error", "softmax cross-entropy")
DEPTHS = (2, 3)  # of the networks whose formulas are shown


@dataclasses.dataclass(frozen=True)
class Config:
    """The networks have sigmoids between their layers, and one example as their input."""

    width: int = 16
    """Units of each layer of the networks that are compared with jax.grad."""
    widths: tuple[int, ...] = (4, 16, 64, 256, 512)
    """Of networks of two layers, whose nodes are counted."""
    depths: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    """Of networks of 4 units in each layer, whose nodes and characters are counted."""
    seed: int = 0
    """Of the weights, the input and the target."""

    def __post_init__(self):
        if min(self.width, *self.widths) < 2 or min(self.depths) < 1:
            raise ValueError(
                "width, widths and depths must be at least 2, 2 and 1, but they are "
                f"{self.width}, {self.widths} and {self.depths}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(width=3, widths=(4, 16), depths=(2, 4, 8))


class Line(NamedTuple):
    """One step of a derivation."""

    phase: str  # "forward", "backward" or "gradient"
    text: str
    latex: str


class Case(NamedTuple):
    """The gradient of a network by its weights."""

    layers: int
    loss: str
    formulas: list[Line]  # closed forms, by W1, W2, ...
    steps: list[Line]
    definitions: list[Line]  # what the functions in them are
    assumptions: list[Line]  # what the formulas rely on
    operations: int  # of the value and all gradients
    value_error: float  # relative, against the function itself
    error: float  # relative, of the worst entry against jax.grad, in float64


class Growth(NamedTuple):
    """What a derivation costs, for each width or depth."""

    sizes: np.ndarray  # (sizes,)
    weights: np.ndarray  # (sizes,)
    operations: np.ndarray  # (sizes,)
    step_characters: np.ndarray  # (sizes,), of all steps in LaTeX
    formula_characters: np.ndarray  # (sizes,), of the closed form of dL/dW1 in LaTeX
    seconds: np.ndarray  # (sizes,), of `clock`, to derive, with everything that is written


class Result(NamedTuple):
    """What the figure shows."""

    cases: list[Case]
    by_width: Growth  # of two layers
    by_depth: Growth  # of 4 units in each layer
    markdown: str


def run(config: Config) -> Result:
    """Returns the formulas, their errors, and how the derivation grows."""
    cases = [_case(config, layers, loss) for layers in DEPTHS for loss in LOSSES]
    by_width = _growth(config, [(width, 2) for width in config.widths], config.widths)
    by_depth = _growth(config, [(4, depth) for depth in config.depths], config.depths)
    return Result(cases, by_width, by_depth, _markdown(cases))


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _closed_forms_figure.draw(result)


def summary(result: Result) -> str:
    """Returns the formulas and steps as Markdown, and the numbers below."""
    widths, depths = result.by_width, result.by_depth
    numbers = [
        f"Nodes of two layers: {_list(widths.operations)} at width {_list(widths.sizes)} "
        f"({max(widths.weights):,} weights in {max(widths.seconds):.2g} s).",
        f"Nodes at width 4: {_list(depths.operations)} with {_list(depths.sizes)} layers; "
        f"characters of the steps {_list(depths.step_characters)}, of the closed form "
        f"{_list(depths.formula_characters)}.",
    ]
    return "\n\n".join([result.markdown, *numbers])


def _list(values: np.ndarray) -> str:
    return ", ".join(f"{value:,}" for value in values)


def _problem(width: int, layers: int, loss: str, seed: int):
    """Returns the loss as a function of the weights, x and y, and these."""
    # Drawn by NumPy: JAX would compile a program for every shape.
    normal = np.random.default_rng(seed).normal
    weights = [normal(size=(width, width)) / np.sqrt(width) for _ in range(layers)]
    x = normal(size=width)
    is_squared = loss == LOSSES[0]
    y = normal(size=width) if is_squared else np.eye(width)[0]

    def fun(*args):
        *matrices, x, y = args
        for matrix in matrices[:-1]:
            x = jax.nn.sigmoid(matrix @ x)
        scores = matrices[-1] @ x
        if is_squared:
            return 0.5 * jnp.sum(jnp.square(y - scores))
        return -jnp.sum(y * jax.nn.log_softmax(scores))

    return fun, [jnp.asarray(each) for each in (*weights, x, y)]


def _derive(fun, args):
    layers = len(args) - 2
    names = (*(f"W{number + 1}" for number in range(layers)), "x", "y")
    return dc.derive(fun, *args, names=names, argnums=tuple(range(layers)), route="matrix")


def _case(config: Config, layers: int, loss: str) -> Case:
    fun, args = _problem(config.width, layers, loss, config.seed)
    derivation = _derive(fun, args)
    derived = derivation.derived
    value, found = derivation.value_and_grad(*args)
    exact_value, exact = jax.jit(jax.value_and_grad(fun, tuple(range(layers))))(*args)
    errors = [np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in zip(found, exact, strict=True)]
    return Case(
        layers=layers,
        loss=loss,
        formulas=[
            Line("gradient", derived.text(index), derived.latex(index)) for index in range(layers)
        ],
        steps=_lines(derived.steps()),
        definitions=_lines(derived.definitions()),
        assumptions=_lines(derived.assumptions),
        operations=derived.operations,
        value_error=float(abs(value - exact_value) / abs(exact_value)),
        error=float(max(errors)),
    )


def _lines(steps) -> list[Line]:
    return [Line(step.phase, step.text, step.latex) for step in steps]


def _growth(config: Config, shapes, sizes) -> Growth:
    rows = []
    for width, layers in shapes:
        fun, args = _problem(width, layers, LOSSES[0], config.seed)
        start = clock()
        derivation = _derive(fun, args)
        steps = "\n".join(step.latex for step in derivation.steps())
        formula = derivation.latex("W1")
        derivation.source()
        seconds = clock() - start
        weights = layers * width**2
        rows.append((weights, derivation.operations, len(steps), len(formula), seconds))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Growth(np.array(sizes), *columns)


def _markdown(cases: list[Case]) -> str:
    blocks = []
    for case in cases:
        blocks.append(f"## {case.layers} layers, {case.loss}")
        blocks += [_display(line.latex) for line in case.formulas]
        rows = [r"\begin{aligned}"]
        rows += [line.latex.replace(" = ", " &= ", 1) + r" \\" for line in case.steps]
        blocks += ["Step by step:", _display("\n".join([*rows, r"\end{aligned}"]))]
        notes = ", ".join(f"${line.latex}$" for line in case.definitions)
        blocks.append(
            f"where {notes}. Largest relative error against `jax.grad`: {case.error:.1g}."
        )
    return "\n\n".join(blocks)


def _display(latex: str) -> str:
    return f"```math\n{latex}\n```"


if __name__ == "__main__":
    raise SystemExit(main("closed_forms"))
