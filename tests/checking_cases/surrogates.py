"""Gradients that are changed on purpose, or lost by accident."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

import checking_cases.case as c
from checking_cases.rules import reverse
from experiments._planted_mistakes import misreported

stop = lax.stop_gradient
straight_through = lambda x: x + stop(jnp.round(x) - x)
reversed_gradient = misreported(lambda g: -g)
clipped = misreported(lambda g: jnp.clip(g, -0.125, 0.125))


def _rescaled(g):
    return g * (0.01 / jnp.linalg.norm(g))


def _quantize(x):
    return jnp.round(x * 4) / 4


LOST = {
    "gradient lost": c.of_vector(lambda x: stop(x) * x),
    "gradient lost everywhere": c.of_vector(lambda x: jnp.sin(stop(x))),
    "gradient of a norm lost": c.of_vector(lambda x: x / stop(jnp.linalg.norm(x))),
    "gradient of a mean lost": c.of_vector(lambda x: (x - stop(jnp.mean(x))) ** 2),
    "bootstrapped target": c.of_vector(lambda x: (x[0] - stop(0.9 * x[1] + 1)) ** 2 + x[2] * x[1]),
    "gradient lost far out": c.at(
        lambda x: jnp.sum(x * (x / 4096)) + jnp.sum(stop(x)), [1000.0, 5000.0]),
    "gradient lost by NumPy's constant": c.of_vector(
        lambda x: x * jnp.asarray(c.random_constant(5), x.dtype) + stop(x / 2)),
    "attention weights held constant": c.of_matrix(lambda x: stop(jax.nn.softmax(x @ x.T)) @ x,
                                                   3, 2),
}  # fmt: skip
NO_LOSS = {
    "maximum held constant, as in a softmax": c.of_vector(
        lambda x: jnp.log(jnp.sum(jnp.exp(x - stop(jnp.max(x))))) + stop(jnp.max(x))
    ),
    "constant that is held constant": c.of_vector(lambda x: jnp.sin(x) * stop(jnp.ones_like(x))),
    "sign held constant": c.of_vector(lambda x: x * stop(jnp.sign(x))),
    "mask held constant": c.of_vector(lambda x: jnp.where(stop(x > 0), x, x / 4)),
}
# What `stop_gradient` takes away here is no constant: only the sum of both is right.
ON_PURPOSE = {
    "straight-through rounding": c.at(lambda x: straight_through(x) ** 2, [0.3, 1.2, -0.8]),
    "straight-through rounding by a rule": c.at(
        reverse(jnp.round, lambda a, y, g: (g,)), [0.3, 1.2, -0.8]),
    "straight-through step": c.at(
        reverse(lambda x: (x > 0).astype(x.dtype), lambda a, y, g: (g,)), [0.5, -1.0]),
    "straight-through sign": c.at(
        reverse(jnp.sign, lambda a, y, g: (g * jnp.where(jnp.abs(a[0]) < 1, c.like(g, 1), 0),)),
        [0.5, -0.25]),
    "straight-through choice": c.at(
        lambda x: (lambda p: stop(jax.nn.one_hot(jnp.argmax(p), 3, dtype=p.dtype) - p) + p)(
            jax.nn.softmax(x)), [0.1, 0.9, -0.5]),
    "spike with the slope of a sigmoid": c.at(
        reverse(
            lambda x: (x > 0).astype(x.dtype),
            lambda a, y, g: (g * jax.nn.sigmoid(4 * a[0]) * (1 - jax.nn.sigmoid(4 * a[0])),)),
        [0.5, -0.25]),
    "quantized by fours": c.at(lambda x: x + stop(_quantize(x) - x), [0.3, 1.2, -0.8]),
    "gradient reversed": c.of_vector(lambda x: jnp.tanh(reversed_gradient(x))),
    "gradient reversed and scaled": c.of_vector(
        lambda x: jnp.tanh(misreported(lambda g: -0.1 * g)(x))),
    "gradient clipped": c.of_vector(lambda x: jnp.sum(jnp.sin(clipped(x)) * 3)),
    "gradient of a limited norm": c.of_vector(
        lambda x: jnp.sum(jnp.sin(misreported(_rescaled)(x)))),
    "gradient scaled": c.of_vector(lambda x: optax.scale_gradient(x, 0.5) ** 3),
    "gradient rounded to bfloat16": c.of_vector(
        misreported(lambda g: (g * 3.14159).astype("bfloat16").astype(g.dtype) / 3)),
    "leaky slope for a relu": c.at(
        reverse(jax.nn.relu, lambda a, y, g: (jnp.where(a[0] > 0, g, g / 4),)), [1.0, -2.0]),
    "noise on the gradient": c.of_vector(
        misreported(lambda g: g + jax.random.normal(jax.random.key(0), g.shape, g.dtype) / 8)),
}  # fmt: skip

# Right for an output whose cotangent is positive, wrong for others: which, the checker chooses.
GUIDED = {
    "guided backpropagation": c.of_vector(
        reverse(jax.nn.relu,
                lambda a, y, g: (jnp.where((a[0] > 0) & (g > 0), g, 0),)), 8),
}  # fmt: skip

CASES = [
    *c.taking_turns("lost gradients", LOST, c.FULL, c.WRONG),
    *c.taking_turns("lost gradients", LOST, c.HALF, c.WRONG),
    *c.taking_turns("no lost gradients", NO_LOSS, ("float32", "float64", "bfloat16"), c.RIGHT),
    *c.taking_turns("surrogates", ON_PURPOSE, c.REAL, c.WRONG),
    *c.cases("surrogates", GUIDED, c.FULL, c.WRONG, ()),
]
