"""The networks that gradients are taken of, for JAX and written in NumPy."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare import learn

BATCH = 64
SIZES = {
    "P = 1,008, 2 layers": (16, 40, 8),
    "P = 9,610, 2 layers": (64, 128, 10),
    "P = 9,942, 3 layers": (64, 80, 52, 10),
    "P = 99,738, 3 layers": (784, 112, 96, 10),
}


class Problem(NamedTuple):
    """A loss of a tanh network, in float64."""

    sizes: Sequence[int]
    loss: Callable[..., jax.Array]  # of weights, inputs and targets
    params: Any
    x: jax.Array
    y: jax.Array

    @property
    def count(self) -> int:
        """How many weights there are."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.params))

    @property
    def flat(self) -> np.ndarray:
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(self.params)])


def problem(name: str) -> Problem:
    keys = jax.random.split(jax.random.key(0), 3)
    sizes = SIZES[name]

    def loss(params, x, y):
        return jnp.mean(learn.half_squared_error(learn.apply(params, x, jnp.tanh), y))

    return Problem(
        sizes,
        loss,
        learn.init(keys[0], sizes, dtype="float64"),
        jax.random.normal(keys[1], (BATCH, sizes[0]), "float64"),
        jax.random.normal(keys[2], (BATCH, sizes[-1]), "float64"),
    )


def numpy_loss(of: Problem) -> Callable[[np.ndarray], float]:
    """Returns the same loss as a function of the flat weights, in NumPy.

    A compiled one that is called from Python for every direction would be a straw man.
    """
    x, y = np.asarray(of.x), np.asarray(of.y)
    layers = list(itertools.pairwise(of.sizes))

    def loss(weights):
        values, start = x, 0
        for number, (inputs, outputs) in enumerate(layers):
            end = start + inputs * outputs
            matrix = weights[start:end].reshape(outputs, inputs)
            values = values @ matrix.T + weights[end : end + outputs]
            start = end + outputs
            if number < len(layers) - 1:
                values = np.tanh(values)
        error = values - y
        return 0.5 * np.vdot(error, error) / len(x)

    return loss
