"""How a formula swells when it is differentiated, and a program does not.

Lecture row 27: symbolic differentiation, by chain and product rule, is accurate and tedious.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import diffcompare as dc
from diffcompare.plot import style
from experiments._cost_measure import clock
from experiments._runner import run_module as main

CLAIM = (
    "The derivative of a formula grows faster than the formula; one line for each operation, or "
    "matrix symbols, keep it as long as the function."
)
ENABLE_X64 = True

# Operations of l_n, of its derivative by SymPy, and of a program with one symbol for each
# operation, for l_(n+1) = 4 l_n (1 - l_n): the swell of table 1 in Baydin et al., "Automatic
# differentiation in machine learning: a survey", JMLR 18, 2018.
PUBLISHED = {
    2: (3, 2, 5),
    3: (8, 21, 12),
    4: (18, 82, 19),
    5: (38, 264, 26),
    6: (78, 768, 33),
    7: (158, 2096, 40),
    8: (318, 5472, 47),
}
STOPPED = -1  # in place of operations, where a formula is beyond its budget


@dataclasses.dataclass(frozen=True)
class Config:
    """The networks have tanh between their layers, and half the squared error as their loss."""

    steps: int = 8
    """The logistic map is followed to l_steps."""
    widths: tuple[int, ...] = (1, 2, 3, 4, 8, 16, 32)
    """Of all layers of networks of two layers."""
    depths: tuple[int, ...] = (1, 2, 3, 4, 8, 16)
    """Of networks of 2 units in each layer."""
    operations: int = 20_000
    """How many the formulas of all derivatives may have together, written out."""

    def __post_init__(self):
        if not 2 <= self.steps <= 8 or min(*self.widths, *self.depths, self.operations) < 1:
            raise ValueError(
                "steps must be from 2 to 8, and widths, depths and operations positive, but they "
                f"are {self.steps}, {self.widths}, {self.depths} and {self.operations}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(steps=5, widths=(1, 2, 8), depths=(1, 2, 4), operations=1000)


class Size(NamedTuple):
    """How many operations each way to write a derivative has; -1 where a formula is stopped."""

    size: int  # n, the width, or the depth
    weights: int
    function: int  # the formula of the function
    naive: int  # the formulas of the derivatives, written out
    shared: int  # formulas of function and derivatives, common subexpressions once
    program: int
    matrix: int
    error: float  # the largest relative error of a route against jax.grad
    seconds: float  # of `clock`, until the formula was derived, or stopped


class Result(NamedTuple):
    """What the figure shows."""

    logistic: list[Size]
    widths: list[Size]
    depths: list[Size]
    budget: int  # operations that a formula may have


def run(config: Config) -> Result:
    """Returns the operations of every derivative in every route."""
    # Operations decide where formulas end, on every machine at the same size, and not the seconds.
    budget = dc.Budget(operations=config.operations, seconds=60.0)
    x = jnp.asarray(0.3)
    logistic = [_measured(n, _logistic(n), (x,), budget) for n in range(2, config.steps + 1)]
    widths = [_network((width,) * 3, width, budget) for width in config.widths]
    depths = [_network((2,) * (depth + 1), depth, budget) for depth in config.depths]
    return Result(logistic, widths, depths, budget.operations)


def plot(result: Result) -> Figure:
    """Returns the figure."""
    drawing, axes = style.figure(1, 3, width=10.0, height=4.2)
    panels = [
        (result.logistic, "n of the logistic map", "The logistic map"),
        (result.widths, "units of each layer", "Networks of two layers"),
        (result.depths, "layers of 2 units", "Networks by depth"),
    ]
    for place, (sizes, label, title) in zip(axes, panels, strict=True):
        _draw(place, sizes, label, title, result.budget)
    published = [row for n, row in PUBLISHED.items() if n <= result.logistic[-1].size]
    steps = range(2, 2 + len(published))
    look = {"linestyle": "", "marker": "o", "markersize": 9, "fillstyle": "none", "color": "black"}
    for column in (1, 2):
        label = "published" if column == 1 else "_"
        axes[0].plot(steps, [row[column] for row in published], label=label, **look)
    handles, labels = axes[0].get_legend_handles_labels()
    more = axes[1].get_legend_handles_labels()
    found = dict(zip([*labels, *more[1]], [*handles, *more[0]], strict=True))
    drawing.legend(list(found.values()), list(found), loc="outside upper center", ncols=4)
    return drawing


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every function."""
    kinds = {"l_n": result.logistic, "width": result.widths, "depth": result.depths}
    return [
        {
            "function": f"{kind} {row.size}",
            "weights": row.weights,
            "formula": _shown(row.function),
            "derivatives": _shown(row.naive),
            "shared": _shown(row.shared),
            "program": row.program,
            "matrix": _shown(row.matrix),
            "published": str(PUBLISHED[row.size]) if kind == "l_n" else "",
            "error": row.error,
        }
        for kind, rows in kinds.items()
        for row in rows
    ]


def _shown(operations: int) -> object:
    return "stopped" if operations == STOPPED else operations


def _logistic(n: int):
    def value(x):
        for _ in range(n - 1):
            x = 4 * x * (1 - x)
        return x

    return value


def _network(sizes: tuple[int, ...], size: int, budget: dc.Budget) -> Size:
    # Drawn by NumPy: JAX would compile a program for every shape.
    normal = np.random.default_rng(0).normal
    weights = [jnp.asarray(normal(size=(m, n)) / n**0.5) for n, m in itertools.pairwise(sizes)]
    x = jnp.linspace(0.5, 1.0, sizes[0])
    y = jnp.linspace(-1.0, 1.0, sizes[-1])

    def loss(weights, x, y):
        for weight in weights[:-1]:
            x = jnp.tanh(weight @ x)
        return jnp.sum(jnp.square(weights[-1] @ x - y)) / 2

    return _measured(size, loss, (weights, x, y), budget)


def _measured(size: int, fun, args, budget: dc.Budget) -> Size:
    import sympy

    weights = sum(leaf.size for leaf in jax.tree.leaves(args[0]))
    truth = jax.jit(jax.grad(fun))(*args)
    program = dc.derive(fun, *args, route="program")
    matrix = dc.derive(fun, *args, route="matrix")
    derived = [program, matrix]
    started = clock()
    function = naive = shared = STOPPED
    try:
        formula = dc.derive(fun, *args, route="expression", budget=budget)
    except NotImplementedError:  # beyond its budget
        seconds = clock() - started
    else:
        seconds = clock() - started
        entries = [e for leaf in jax.tree.leaves(formula.expression) for e in np.ravel(leaf)]
        route: Any = formula.derived
        function = int(sympy.count_ops(route.value))
        naive = int(sum(sympy.count_ops(entry) for entry in entries))
        shared = formula.operations
        derived.append(formula)
    error = max(_error(each.function(*args), truth) for each in derived if _is_quick(each))
    return Size(size, weights, function, naive, shared, program.operations, matrix.operations,
                error, seconds)  # fmt: skip


def _is_quick(derivation: dc.Derivation) -> bool:
    """Returns whether evaluating takes less than a second; a formula takes its operations."""
    return derivation.route != "expression" or derivation.operations < 1000


def _error(found, truth) -> float:
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True)
    return float(max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs))


def _draw(place, sizes: list[Size], label: str, title: str, budget: int) -> None:
    steps = [row.size for row in sizes]
    curves = [
        ("formulas of the derivatives", [row.naive for row in sizes]),
        ("with common subexpressions once", [row.shared for row in sizes]),
        ("program", [row.program for row in sizes]),
        ("matrix", [row.matrix for row in sizes]),
    ]
    for number, (name, values) in enumerate(curves):
        shown = [np.nan if value == STOPPED else value for value in values]
        place.semilogy(steps, shown, label=name, **style.series(number))
    stopped = [row.size for row in sizes if row.naive == STOPPED]
    if stopped:
        heights = [budget] * len(stopped)
        place.plot(stopped, heights, "x", color="black", label="stopped at the budget")
    place.xaxis.set_major_locator(MaxNLocator(integer=True))
    place.set_xlabel(label)
    place.set_ylabel("operations" if title == "The logistic map" else "")
    place.set_title(title)
    place.set_ylim(1, 4 * budget)


if __name__ == "__main__":
    raise SystemExit(main("expression_swell"))
