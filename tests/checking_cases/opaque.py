"""Functions that no trace shows: callbacks, branches of Python, and functions that change."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import checking_cases.case as c
from checking_cases.rules import both, reverse


def on_host(fun):
    """Returns a pointwise function that NumPy computes."""

    def called(x):
        result = jax.ShapeDtypeStruct(x.shape, x.dtype)
        compute = lambda x: np.asarray(fun(np.asarray(x)), x.dtype)
        return jax.pure_callback(compute, result, x, vmap_method="expand_dims")

    return called


def _reverse(fun, slope):
    """Returns the builder of a function of NumPy with a reverse rule `slope`."""
    return c.of_vector(reverse(on_host(fun), lambda a, y, g: (g * slope(a[0]),)), 3)


def _both(fun, slope):
    return c.of_vector(both(on_host(fun), lambda a, y, t: t[0] * slope(a[0])), 3)


BLACK_BOXES = {
    "sine of NumPy": _reverse(np.sin, jnp.cos),
    "sine of NumPy, in both modes": _both(np.sin, jnp.cos),
    "square of NumPy within a sine": c.of_vector(
        lambda x: jnp.sin(reverse(on_host(np.square), lambda a, y, g: (2 * g * a[0],))(x)), 3
    ),
    "slope by NumPy": _reverse(np.arctan, on_host(lambda x: 1 / (1 + x**2))),
    "exponential of NumPy": _reverse(np.exp, jnp.exp),
}
BLACK_BOXES_WRONG = {
    "sine of NumPy, doubled": _reverse(np.sin, lambda x: 2 * jnp.cos(x)),
    "sine of NumPy, negated in both modes": _both(np.sin, lambda x: -jnp.cos(x)),
    "sine of NumPy, lost": _reverse(np.sin, jnp.zeros_like),
    "slope by NumPy, without its square": _reverse(
        np.arctan, on_host(lambda x: 1 / (1 + np.abs(x)))
    ),
    "exponential of NumPy, a tenth too large": _reverse(np.exp, lambda x: 1.1 * jnp.exp(x)),
    "one entry of NumPy's sine": _reverse(
        np.sin, lambda x: jnp.cos(x) * c.like(x, [1.0, 1.0, 1.5])
    ),
}
# No rule for either mode: nothing is claimed.
NO_CLAIM = {
    "callback without a rule": c.of_vector(on_host(np.sin), 3),
    "rule that raises": c.of_vector(reverse(jnp.sin, lambda a, y, g: (_raise(),)), 3),
}


def _raise():
    raise NotImplementedError("no gradient")


def _changing(dtype):
    """Returns a function that is another one at every call, as with a generator of NumPy."""
    calls = itertools.count()
    noise = on_host(lambda x: next(calls) % 7 * np.arange(1.0, 1 + x.size).reshape(x.shape))
    return lambda x: jnp.sin(x) + noise(lax.stop_gradient(x)), (c.normal(dtype, 3),)


def _changing_when_traced(dtype):
    calls = itertools.count(1)
    return lambda x: jnp.sin(x) * (1 + 1 / next(calls)), (c.normal(dtype, 3),)


CHANGING = {
    "noise from the host": _changing,
    "another function at each trace": _changing_when_traced,
}


def branch_of_python(wrap):
    """Returns a function that asks its argument for a number: it has a gradient and no trace."""

    def fun(x):
        if x[0] > 0:
            return jnp.sum(x**2)
        return jnp.sum(jnp.sin(wrap(x)))

    return c.at(fun, [-0.5, 1.0])


def loop_of_python(slope):
    def fun(x):
        y = x
        while y < 10:
            y = y * 2 + x * slope
        return y

    return c.at(fun, 1.5)


UNTRACED = {
    "branch of Python": branch_of_python(lambda x: x),
    "loop of Python": loop_of_python(1.0),
}
UNTRACED_WRONG = {
    "branch of Python, lost": branch_of_python(lax.stop_gradient),
    "branch of Python, doubled": branch_of_python(
        reverse(lambda x: x * 1, lambda a, y, g: (2 * g,))
    ),
}

CASES = [
    *c.cases("black boxes", BLACK_BOXES, c.DOUBLE, c.RIGHT),
    *c.cases("black boxes", BLACK_BOXES_WRONG, c.DOUBLE, c.WRONG),
    *c.taking_turns("black boxes", BLACK_BOXES, c.SINGLE, ("consistent", "inconclusive")),
    *c.cases("no claim", NO_CLAIM, c.SINGLE, c.UNDECIDED),
    *c.cases("changing functions", CHANGING, c.DOUBLE, c.NOT_CONSISTENT),
    *c.cases("untraced", UNTRACED, c.FULL, c.RIGHT),
    *c.cases("untraced", UNTRACED_WRONG, c.DOUBLE, c.WRONG),
]
