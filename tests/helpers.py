"""The table of methods and the table of problems; most tests are their product."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import diffcompare as dc

DTYPES = ("float16", "bfloat16", "float32", "float64")


class MethodRow(NamedTuple):
    """A method, and how much of the precision it keeps."""

    name: str
    method: dc.Method
    power: float  # the relative error is about eps ** power


METHODS = (
    MethodRow("forward_difference", dc.ForwardDifference(), 1 / 2),
    MethodRow("backward_difference", dc.BackwardDifference(), 1 / 2),
    MethodRow("central_difference", dc.CentralDifference(), 2 / 3),
    MethodRow("central_difference_4", dc.CentralDifference(order=4), 4 / 5),
    MethodRow("central_difference_6", dc.CentralDifference(order=6), 6 / 7),
    MethodRow("central_difference_8", dc.CentralDifference(order=8), 8 / 9),
    MethodRow("complex_step", dc.ComplexStep(), 1),
    MethodRow("symbolic", dc.Symbolic(), 1),
    MethodRow("forward_mode", dc.ForwardMode(), 1),
    MethodRow("reverse_mode", dc.ReverseMode(), 1),
)


class Point(NamedTuple):
    """A NamedTuple among the pytrees."""

    x: Any
    y: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    """A registered dataclass among the pytrees."""

    weight: Any
    bias: Any


class Problem(NamedTuple):
    """A function of one pytree, and its gradient derived by hand with NumPy in float64."""

    name: str
    fun: Callable[[Any], Any]
    argument: Any  # of NumPy arrays in float64
    gradient: Callable[[Any], Any]

    def at(self, dtype: str) -> tuple[Any, Any]:
        """Returns the argument in `dtype`, and the gradient at that rounded argument."""
        rounded = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.argument)
        exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), rounded)
        return rounded, self.gradient(exact)


_rng = np.random.default_rng(0)
_inputs = _rng.normal(size=3)
_target = _rng.normal(size=2)


def _constant(values, like):
    return jnp.asarray(values, like.dtype)


def _two_layers(params):
    hidden = jnp.tanh(params["w1"] @ _constant(_inputs, params["w1"]))
    error = params["w2"] @ hidden - _constant(_target, params["w2"])
    return jnp.sum(error * error) / 2


def _two_layers_gradient(params):
    # The constants are rounded with the arguments; the problem is stated with their values.
    hidden = np.tanh(params["w1"] @ _inputs)
    error = params["w2"] @ hidden - _target
    back = (params["w2"].T @ error) * (1 - hidden**2)
    return {"w1": np.outer(back, _inputs), "w2": np.outer(error, hidden)}


def _softmax_loss(scores):
    return jax.nn.logsumexp(scores) - scores[1]


def _softmax_gradient(scores):
    shares = np.exp(scores - scores.max())
    return shares / shares.sum() - np.eye(scores.size)[1]


def _relu_layer(layer):
    return jnp.sum(jax.nn.relu(layer.weight @ jnp.ones(2, layer.weight.dtype) + layer.bias))


def _relu_gradient(layer):
    active = (layer.weight.sum(1) + layer.bias > 0).astype(np.float64)
    return Layer(np.outer(active, np.ones(2)), active)


PROBLEMS = (
    Problem("sines", lambda x: jnp.sum(jnp.sin(x)), np.linspace(0.25, 1.25, 5), np.cos),
    Problem("cubic", lambda x: x * x * x - 2 * x, np.asarray(1.5), lambda x: 3 * x**2 - 2),
    Problem(
        "bilinear form",
        lambda t: t["a"] @ t["m"] @ t["b"],
        {
            "a": np.array([1.0, -2.0]),
            "m": np.array([[0.5, 1, 2], [3, -1, 1]]),
            "b": np.arange(1.0, 4),
        },
        lambda t: {
            "a": t["m"] @ t["b"],
            "m": np.outer(t["a"], t["b"]),
            "b": t["a"] @ t["m"],
        },
    ),
    Problem(
        "pytree with holes",
        lambda p: jnp.sum(p.x[0] ** 2) + 3 * p.y["z"],
        Point([np.array([[1.0, 2.0]]), None, np.zeros((0, 2))], {"z": np.asarray(0.5)}),
        lambda p: Point([2 * p.x[0], None, np.zeros((0, 2))], {"z": np.asarray(3.0)}),
    ),
    Problem(
        "two-layer network",
        _two_layers,
        {"w1": _rng.normal(size=(4, 3)), "w2": _rng.normal(size=(2, 4))},
        _two_layers_gradient,
    ),
    Problem("softmax cross-entropy", _softmax_loss, np.array([0.5, -1.0, 2.0]), _softmax_gradient),
    Problem(
        "ReLU layer away from its kinks",
        _relu_layer,
        Layer(np.array([[1.0, 2.0], [-3.0, -2.0]]), np.array([1.0, -2.0])),
        _relu_gradient,
    ),
    Problem(
        "leaves of very different size",
        lambda t: jnp.sum(t["small"] * 1024) + jnp.sum(t["large"]) / 1024,
        {"small": np.array([1.0, 3.0]) / 512, "large": np.array([512.0, 1536.0])},
        lambda t: {"small": np.full(2, 1024.0), "large": np.full(2, 1 / 1024)},
    ),
)


def relative_error(found: Any, truth: Any) -> float:
    """Returns the 2-norm of the difference of two pytrees, relative to that of the truth."""
    flat = [
        np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])
        for tree in (found, truth)
    ]
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))
