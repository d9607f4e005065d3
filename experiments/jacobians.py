"""The Jacobians of a matrix product and of an elementwise product, by all three methods.

Lecture rows 29 and 37 to 40: "output x input", d(W2 g)/dg = W2, d(f ⊙ g)/df = diag(g), and the
chain of shapes (1 x M)(M x H)(H x H)(H x HD).
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import diffcompare as dc
from experiments import _jacobians_figure
from experiments._runner import run_module as main

CLAIM = (
    "Numerical, symbolic and automatic Jacobians share one layout, output x input: that of W2 g by "
    "g is W2, that of f ⊙ g by f is diag(g), and the chain of shapes (1 x M)(M x H)(H x H)(H x HD) "
    "fits; its transpose is the product in the other order."
)
ENABLE_X64 = True

METHODS = {
    "numerical": dc.CentralDifference(),
    "symbolic": dc.Symbolic(),
    "automatic": dc.ReverseMode(),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The sizes are those of the lecture's two-layer network."""

    outputs: int = 4
    """M, the entries of y."""
    hidden: int = 6
    """H, the entries of f and g."""
    inputs: int = 5
    """D, the entries of x."""
    seed: int = 0
    """Of the weights, the input and the target."""

    def __post_init__(self):
        if min(self.outputs, self.hidden, self.inputs) < 1:
            raise ValueError(
                "outputs, hidden and inputs must be positive, but they are "
                f"{self.outputs}, {self.hidden} and {self.inputs}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(outputs=2, hidden=3, inputs=2)


class Jacobian(NamedTuple):
    """The Jacobian of one function, by every method."""

    formula: str
    exact: np.ndarray  # (output, input), what the lecture says it is
    found: dict[str, np.ndarray]  # method -> (output, input)
    errors: dict[str, float]  # method -> largest error of an entry


class Factor(NamedTuple):
    """A factor of the chain rule, as a matrix "output x input"."""

    formula: str
    matrix: np.ndarray
    error: float  # largest difference from the lecture's formula


class Result(NamedTuple):
    """What the figure shows."""

    jacobians: list[Jacobian]
    chain: list[Factor]
    product: np.ndarray  # (1, H D), of the chain from left to right
    flipped: np.ndarray  # (H D, 1), of the transposed factors from right to left
    gradient: np.ndarray  # (H, D), by jax.grad
    by_reverse: int  # multiplications of the chain from the left, as in reverse mode
    by_forward: int  # from the right, as in forward mode


def run(config: Config) -> Result:
    """Returns the Jacobians and the chain."""
    rng = np.random.default_rng(config.seed)
    m, h, d = config.outputs, config.hidden, config.inputs
    w1, w2, x, y = (jnp.asarray(rng.normal(size=shape)) for shape in ((h, d), (m, h), d, m))
    f = w1 @ x
    g = jax.nn.relu(f) + 0.5
    return Result(
        [
            _jacobian("d(W2 g)/dg = W2", lambda g: w2 @ g, g, w2),
            _jacobian("d(f ⊙ g)/df = diag(g)", lambda f: f * g, f, jnp.diag(g)),
        ],
        *_chain(w1, w2, x, y),
    )


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _jacobians_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every function and method, and for every factor of the chain."""
    rows: list[dict[str, object]] = [
        {"what": found.formula, "method": method, "shape": _shape(matrix),
         "largest error": found.errors[method]}
        for found in result.jacobians
        for method, matrix in found.found.items()
    ]  # fmt: skip
    gradient = result.gradient.reshape(1, -1)
    for factor in result.chain:
        rows.append({"what": factor.formula, "method": "automatic", "shape": _shape(factor.matrix),
                     "largest error": factor.error})  # fmt: skip
    error = float(np.max(np.abs(result.product - gradient)))
    shape = _shape(result.product)
    rows.append({"what": "the product: dL/dW1", "method": "chain", "shape": shape,
                 "largest error": error})  # fmt: skip
    return rows


def _shape(matrix: np.ndarray) -> str:
    return " x ".join(map(str, matrix.shape))


def _jacobian(formula: str, fun, at: jax.Array, exact: jax.Array) -> Jacobian:
    found = {
        name: np.asarray(dc.jacobian(fun, method=method)(at)) for name, method in METHODS.items()
    }
    errors = {name: float(np.max(np.abs(matrix - exact))) for name, matrix in found.items()}
    return Jacobian(formula, np.asarray(exact), found, errors)


def _chain(w1, w2, x, y):
    """Returns the factors of dL/dW1 and their product, in both orders."""

    def loss(y_hat):
        return 0.5 * jnp.sum((y_hat - y) ** 2)

    f = w1 @ x
    g = jax.nn.relu(f)
    y_hat = w2 @ g
    steps = (
        ("dL/dŷ = (ŷ - y)ᵀ", loss, y_hat, (y_hat - y)[None]),
        ("dŷ/dg = W2", lambda g: w2 @ g, g, w2),
        ("dg/df = diag(f > 0)", jax.nn.relu, f, np.diag(np.asarray(f) > 0)),
        ("df/dW1 = I ⊗ xᵀ", lambda w1: w1 @ x, w1, np.kron(np.eye(f.size), x[None])),
    )
    chain = []
    for formula, fun, at, exact in steps:
        jacobian = np.asarray(dc.jacobian(fun)(at))
        outputs = int(np.prod(jacobian.shape[: jacobian.ndim - at.ndim]))
        # Both the output and the input are flattened, the last axis fastest.
        matrix = jacobian.reshape(outputs, at.size)
        chain.append(Factor(formula, matrix, float(np.max(np.abs(matrix - exact)))))
    matrices = [factor.matrix for factor in chain]
    product = functools.reduce(np.matmul, matrices)
    flipped = functools.reduce(np.matmul, [matrix.T for matrix in reversed(matrices)])
    gradient = jax.grad(lambda w1: loss(w2 @ jax.nn.relu(w1 @ x)))(w1)
    return (
        chain,
        product,
        flipped,
        np.asarray(gradient),
        _work([matrix.shape for matrix in matrices]),
        _work([matrix.shape[::-1] for matrix in reversed(matrices)]),
    )


def _work(shapes: list[tuple[int, ...]]) -> int:
    """Returns the multiplications of a product of matrices from left to right."""
    rows = shapes[0][0]
    return sum(rows * inner * columns for inner, columns in shapes[1:])


if __name__ == "__main__":
    raise SystemExit(main("jacobians"))
