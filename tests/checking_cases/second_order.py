"""Second derivatives: right ones, and wrong ones beneath right first derivatives."""

import jax
import jax.numpy as jnp
from jax import lax

import checking_cases.case as c
from checking_cases.rules import both, reverse

stop = lax.stop_gradient
SMOOTH = {
    "cubic": c.of_vector(lambda x: jnp.sum(x**3), 3),
    "softmax": c.of_vector(lambda x: jnp.sum(jax.nn.softmax(x) ** 2), 3),
    "tanh layer": c.of_matrix(lambda w: jnp.sum(jnp.tanh(w @ w.T)), 2, 2),
    "softplus": c.of_vector(lambda x: jnp.sum(jax.nn.softplus(x)), 3),
    "sine by a rule for both modes": c.of_vector(
        lambda x: jnp.sum(both(jnp.sin, lambda a, y, t: t[0] * jnp.cos(a[0]))(x)), 3
    ),
    "line": c.of_vector(lambda x: jnp.sum(3 * x), 3),
    "vector of outputs": c.of_vector(lambda x: jnp.sin(x) * x[0], 3),
}
# The first derivative is right.
HIDDEN = {
    "slope held constant": c.of_vector(
        lambda x: jnp.sum(both(jnp.sin, lambda a, y, t: t[0] * stop(jnp.cos(a[0])))(x)), 3),
    "slope of the output held constant": c.of_vector(
        lambda x: jnp.sum(both(jnp.exp, lambda a, y, t: t[0] * stop(y))(x)), 3),
    "slope with a wrong rule": c.of_vector(
        lambda x: jnp.sum(both(
            jnp.sin, lambda a, y, t: t[0] * both(jnp.cos, lambda a, y, t: t[0] * jnp.sin(a[0]))(
                a[0]))(x)), 3),
    "slope whose argument is doubled in reverse": c.of_vector(
        lambda x: jnp.sum(both(
            jnp.sin, lambda a, y, t: t[0] * jnp.cos(reverse(
                lambda x: x * 1, lambda a, y, g: (2 * g,))(a[0])))(x)), 3),
    "half of the slope held constant": c.of_vector(
        lambda x: jnp.sum(both(
            lambda x: x**3, lambda a, y, t: t[0] * 3 * a[0] * stop(a[0]))(x)), 3),
}  # fmt: skip
WRONG_AT_ONCE = {
    "first derivative doubled": c.of_vector(
        lambda x: jnp.sum(both(lambda x: x**3, lambda a, y, t: 2 * t[0] * 3 * a[0] ** 2)(x)), 3
    ),
    "first derivative lost": c.of_vector(lambda x: jnp.sum(stop(x) * x**2), 3),
}

CASES = [
    *c.taking_turns("second order", SMOOTH, c.FULL, c.RIGHT),
    *[case._replace(order=2) for case in c.taking_turns("second order", SMOOTH, c.FULL, c.RIGHT)],
    *c.taking_turns("second order", HIDDEN, c.FULL, c.RIGHT),
    *[case._replace(order=2) for case in c.taking_turns("second order", HIDDEN, c.FULL, c.WRONG)],
    *c.cases("second order", WRONG_AT_ONCE, c.DOUBLE, c.WRONG, order=2),
]
CASES = [case._replace(name=f"{case.name}, order {case.order}") for case in CASES]
