"""How many units in the last place each way to differentiate is off, against 50 digits.

Lecture row 27: "symbolic: ... accurate; ... tedious"; row 28: "automatic: ... accurate".
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from experiments import _accuracy_figure
from experiments._runner import run_module as main

CLAIM = (
    "Symbolic and automatic gradients are right to a few units in the last place, numerical ones "
    "are not; but where a formula cancels, each of them may lose every digit."
)
ENABLE_X64 = True

Dtype = Literal["float32", "float64"]
Way = Literal[
    "ReverseMode", "Symbolic, program", "Symbolic, expression", "ComplexStep", "CentralDifference"
]

METHODS: dict[Way, Any] = {
    "ReverseMode": dc.ReverseMode(),
    "Symbolic, program": dc.Symbolic(route="program"),
    "Symbolic, expression": dc.Symbolic(route="expression"),
    "ComplexStep": dc.ComplexStep(),
    "CentralDifference": dc.CentralDifference(),
}
# Functions of one number of which automatic differentiation in float64 loses every digit, or many.
FAILURES: dict[str, tuple[Callable, float]] = {
    "tanh(x)": (jnp.tanh, 20.0),
    "expm1(x)": (jnp.expm1, -40.0),
    "sigmoid(x)": (jax.nn.sigmoid, 40.0),
    "x / sqrt(1 + x²)": (lambda x: x / jnp.sqrt(1 + x * x), 1e8),
    "gelu(x)": (jax.nn.gelu, -6.0),
    "log(1 + exp(x))": (lambda x: jnp.log(1 + jnp.exp(x)), 800.0),
    "sqrt(x x)": (lambda x: jnp.sqrt(x * x), 0.0),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The problems: two networks and an iteration, at random points."""

    draws: int = 8
    """Random weights and inputs of each network."""
    points: int = 16
    """At which the iteration is differentiated, in every draw."""
    steps: int = 4
    """Of the iteration, the logistic map."""
    seed: int = 0
    """Of all random numbers."""
    dtypes: tuple[Dtype, ...] = ("float32", "float64")
    """In which gradients are computed."""
    methods: tuple[Way, ...] = tuple(METHODS)
    """Ways to differentiate."""

    def __post_init__(self):
        if min(self.draws, self.points, self.steps) < 1:
            raise ValueError(
                f"draws, points and steps must be positive, but they are {self.draws}, "
                f"{self.points} and {self.steps}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        methods: tuple[Way, ...] = ("ReverseMode", "Symbolic, program", "ComplexStep")
        return cls(draws=2, points=8, steps=3, dtypes=("float64",), methods=methods)


class Series(NamedTuple):
    """The errors of one method in one panel."""

    method: str
    ulps: np.ndarray  # (entries,), infinite where the computed entry is not finite
    relative: float  # the largest of the draws, in the 2-norm


class Panel(NamedTuple):
    """One problem in one dtype. A method that does not take the problem is missing."""

    problem: str
    dtype: str
    entries: int  # of the gradient
    series: list[Series]


class Failure(NamedTuple):
    """A function of one number, in float64."""

    function: str
    x: float
    exact: str  # the derivative, to 50 digits
    kinks: int
    computed: dict[str, float]  # method -> derivative
    relative: dict[str, float]  # method -> relative error, infinite where it is not finite


class Result(NamedTuple):
    """What the figure shows."""

    panels: list[Panel]
    failures: list[Failure]
    arithmetic: str  # of the exact gradients: "arb" or "mpmath"


def run(config: Config) -> Result:
    """Returns the errors of every method on every problem, and the table of failures."""
    panels = [
        _panel(name, problem, config, dtype)
        for dtype in config.dtypes
        for name, problem in _problems(config).items()
    ]
    arithmetic = dc.exact_grad(jnp.sin)(1.0).arithmetic
    failures = [_failure(name, *each, config.methods) for name, each in FAILURES.items()]
    return Result(panels, failures, arithmetic)


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _accuracy_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every problem, dtype and method."""
    return [
        {
            "problem": panel.problem,
            "dtype": panel.dtype,
            "method": series.method,
            "median ulps": float(np.median(series.ulps)),
            "99 % ulps": float(np.percentile(series.ulps, 99, method="lower")),
            "relative error": series.relative,
        }
        for panel in result.panels
        for series in panel.series
    ]


def _problems(config: Config) -> dict[str, Callable]:
    """Returns for each problem a function of a key and a dtype: a loss and its argument."""

    def tanh_network(key, dtype):
        keys = jax.random.split(key, 3)
        params = learn.init(keys[0], (3, 5, 2), dtype=dtype)
        x, y = jax.random.normal(keys[1], (3,), dtype), jax.random.normal(keys[2], (2,), dtype)

        def loss(params, x, y):
            return learn.half_squared_error(learn.apply(params, x, jnp.tanh), y)

        return loss, (params, x, y)

    def relu_network(key, dtype):
        keys = jax.random.split(key, 2)
        params = learn.init(keys[0], (16, 16, 10), dtype=dtype)
        x = jax.random.normal(keys[1], (16,), dtype)

        def loss(params, x):
            return -jax.nn.log_softmax(learn.apply(params, x, jax.nn.relu))[0]

        return loss, (params, x)

    def logistic_map(key, dtype):
        def loss(x):
            for _ in range(config.steps):
                x = 4 * x * (1 - x)
            return jnp.sum(x)

        return loss, (jax.random.uniform(key, (config.points,), dtype),)

    return {
        "tanh network, squared error": tanh_network,
        "ReLU network, cross-entropy": relu_network,
        f"logistic map, {config.steps} steps": logistic_map,
    }


# SymPy's own differentiation of a formula takes seconds beyond this many entries.
_EXPRESSION_ENTRIES = 50


def _panel(name: str, problem: Callable, config: Config, dtype: str) -> Panel:
    keys = jax.random.split(jax.random.key(config.seed), config.draws)
    draws = [problem(key, dtype) for key in keys]
    loss = draws[0][0]
    references = [dc.exact_grad(loss)(*args) for _, args in draws]
    entries = sum(leaf.size for leaf in jax.tree.leaves(references[0].grad))
    series = []
    for label in config.methods:
        if label.endswith("expression") and entries > _EXPRESSION_ENTRIES:
            continue
        gradient = jax.jit(dc.grad(loss, method=METHODS[label]))
        ulps, relative = [], []
        for (_, args), reference in zip(draws, references, strict=True):
            found = gradient(*args)
            ulps += [np.ravel(leaf) for leaf in jax.tree.leaves(reference.ulps(found))]
            relative.append(_relative(reference, found))
        series.append(Series(label, np.concatenate(ulps), max(relative)))
    return Panel(name, dtype, entries, series)


def _relative(reference: dc.Exact, found: Any) -> float:
    """Returns the relative error of a whole gradient, in the 2-norm."""
    truth = [entry for leaf in jax.tree.leaves(reference.grad) for entry in leaf.flat]
    computed = [float(g) for leaf in jax.tree.leaves(found) for g in np.ravel(leaf)]
    with mpmath.workdps(40):
        difference = mpmath.norm([t - c for t, c in zip(truth, computed, strict=True)])
        return float(difference / mpmath.norm(truth))


def _failure(name: str, fun: Callable, x: float, methods: tuple[Way, ...]) -> Failure:
    exact = dc.exact_grad(fun)(x)
    computed: dict[str, float] = {
        label: float(dc.grad(fun, method=METHODS[label])(jnp.asarray(x))) for label in methods
    }
    relative = {
        label: exact.error(jnp.asarray(found))[0].relative for label, found in computed.items()
    }
    digits = mpmath.nstr(exact.grad.item(), 50, min_fixed=-3, max_fixed=6)
    return Failure(name, x, digits, len(exact.kinks), computed, relative)


if __name__ == "__main__":
    raise SystemExit(main("accuracy"))
