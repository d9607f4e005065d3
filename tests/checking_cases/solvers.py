"""Derivatives of solutions, of linear maps with a rule of their own, and the accuracy of rules."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import linear_call

import checking_cases.case as c
from checking_cases.rules import both, reverse
from experiments._planted_mistakes import with_mistake


def _contraction(w, b, z):
    return jnp.tanh(w @ z + b)


def _iterated(w, b, tolerance):
    def step(state):
        z, _ = state
        new = _contraction(w, b, z)
        return new, jnp.max(jnp.abs(new - z))

    start = jnp.zeros_like(b), jnp.ones((), b.dtype)
    return lax.while_loop(lambda state: state[1] > tolerance, step, start)[0]


def fixed_point(backward, tolerance=1e-7):
    """Returns the builder of a fixed point z = tanh(w z + b) with the reverse rule `backward`.

    The rule is given the Jacobian of the contraction at the fixed point, the pullback of its
    parameters, and the cotangent.
    """

    def build(dtype):
        solution = reverse(
            lambda w, b: _iterated(w, b, tolerance),
            lambda args, z, g: backward(
                jax.jacrev(lambda z: _contraction(*args, z))(z),
                lambda u: jax.vjp(lambda w, b: _contraction(w, b, z), *args)[1](u), g))  # fmt: skip
        return solution, (c.normal(dtype, 3, 3) / 8, c.normal(dtype, 3, seed=1))

    return build


def _adjoint(jacobian, g):
    return jnp.linalg.solve(jnp.eye(len(g), dtype=g.dtype) - jacobian.T, g)


def _series(jacobian, g, terms):
    total = g
    for _ in range(terms):
        total = g + jacobian.T @ total
    return total


FIXED_POINTS = {
    "fixed point": fixed_point(lambda jacobian, pull, g: pull(_adjoint(jacobian, g))),
    "fixed point by a series": fixed_point(
        lambda jacobian, pull, g: pull(_series(jacobian, g, 40))
    ),
}
FIXED_POINTS_TO_THE_END = {
    "fixed point to the last digits": fixed_point(
        lambda jacobian, pull, g: pull(_adjoint(jacobian, g)), 1e-14
    ),
}
FIXED_POINTS_WRONG = {
    "fixed point, doubled": fixed_point(lambda jacobian, pull, g: pull(2 * _adjoint(jacobian, g))),
    "fixed point, one step only": fixed_point(lambda jacobian, pull, g: pull(g)),
    "fixed point, not transposed": fixed_point(
        lambda jacobian, pull, g: pull(_adjoint(jacobian.T, g))
    ),
    "fixed point, sign of the Jacobian": fixed_point(
        lambda jacobian, pull, g: pull(_adjoint(-jacobian, g))
    ),
    "fixed point, two terms of the series": fixed_point(
        lambda jacobian, pull, g: pull(_series(jacobian, g, 1))
    ),
}


def newton_root(factor):
    """Returns the builder of a cube root by Newton's iteration, with an implicit rule."""

    def root(a):
        def step(state):
            x, _ = state
            new = x - (x**3 - a) / (3 * x**2)
            return new, jnp.abs(new - x)

        start = jnp.ones_like(a), jnp.ones_like(a)
        return lax.while_loop(lambda state: state[1] > 1e-3, step, start)[0]

    rule = lambda args, x, t: t[0] / (factor * x**2)
    return lambda dtype: (both(root, rule), (c.array(dtype, 2.5),))


ROOTS = {"newton's cube root": newton_root(3.0)}
ROOTS_WRONG = {
    "newton's cube root, slope of the square": newton_root(2.0),
    "newton's cube root, sign": newton_root(-3.0),
}


def linear_solve(transposed, solve=jnp.linalg.solve):
    """Returns the builder of a solution by `lax.custom_linear_solve`, of matrix and right side."""

    def build(dtype):
        def solution(a, b):
            return lax.custom_linear_solve(
                lambda x: a @ x, b, lambda _, b: solve(a, b),
                transpose_solve=lambda _, b: transposed(a, b))  # fmt: skip

        shift = 3 * jnp.eye(3, dtype=dtype)
        return solution, (c.normal(dtype, 3, 3) + shift, c.normal(dtype, 3, seed=1))

    return build


LINEAR_SOLVES = {
    "linear solve": linear_solve(lambda a, b: jnp.linalg.solve(a.T, b)),
}
# The reverse rule of both leaves goes through the wrong solution.
LINEAR_SOLVES_WRONG = {
    "linear solve, not transposed": linear_solve(jnp.linalg.solve),
    "linear solve, transposed one negated": linear_solve(lambda a, b: -jnp.linalg.solve(a.T, b)),
    "linear solve, one step of Jacobi": linear_solve(lambda a, b: b / jnp.diagonal(a)),
}
# What it solves is not what it says: the solution is twice as large, its rule for `a` four times.
MATRIX_WRONG = {
    "linear solve of another system": linear_solve(
        lambda a, b: 2 * jnp.linalg.solve(a.T, b), lambda a, b: 2 * jnp.linalg.solve(a, b)
    ),
}


def _linear(forward, transposed):
    """Returns a matrix product by `linear_call`, in which each mode has a rule of its own."""

    def build(dtype):
        matrix = c.normal(dtype, 3, 3, seed=4)
        product = lambda x: linear_call(
            lambda a, x: a @ x, lambda a, y: transposed(a, y), matrix, x
        )
        return (lambda x: jnp.sin(product(forward(x)))), (c.normal(dtype, 3),)

    return build


def by_mode(forward, transposed):
    """Returns a sine, the rules of which are these factors of its slope in the two modes."""

    def build(dtype):
        def rule(args, y, t):
            slope = jnp.cos(args[0])
            return linear_call(
                lambda s, t: forward * s * t, lambda s, g: transposed * s * g, slope, t[0]
            )

        return both(jnp.sin, rule), (c.normal(dtype, 3),)

    return build


LINEAR = {
    "linear call": _linear(lambda x: x, lambda a, y: a.T @ y),
    "sine with a rule for each mode": by_mode(1.0, 1.0),
}
LINEAR_WRONG = {
    "linear call, not transposed": _linear(lambda x: x, lambda a, y: a @ y),
    "linear call, doubled in reverse": _linear(lambda x: x, lambda a, y: 2 * a.T @ y),
    "linear call, zero in reverse": _linear(lambda x: x, lambda a, y: 0 * y),
    "forward wrong, reverse right": by_mode(2.0, 1.0),
    "forward right, reverse wrong": by_mode(1.0, 2.0),
    "forward negated, reverse right": by_mode(-1.0, 1.0),
    "forward right, reverse off by a hundredth": by_mode(1.0, 1.01),
    "both wrong, and against each other": by_mode(0.5, 2.0),
}

ROUNDED = {  # the program cancels, and its derivative with it
    "log(1 + x) at 1e-12": c.at(lambda x: jnp.log(1 + x), [1e-12, 3e-12]),
    "exp(x) - 1 at 1e-9": c.at(lambda x: jnp.exp(x) - 1, [1e-9, -2e-9]),
    "a large number added and taken away": c.at(lambda x: jnp.sin((x + 1e6) - 1e6), [0.5, 1.5]),
    "variance as a difference of means": c.at(
        lambda x: jnp.mean(x**2) - jnp.mean(x) ** 2, [100.5, 101.0, 99.0]
    ),
    "1 - cos(x)": c.at(lambda x: (1 - jnp.cos(x)) / x**2, [0.01, 0.02]),
    "root of a difference": c.at(lambda x: jnp.sqrt(x + 1) - jnp.sqrt(x), [1e4, 3e4]),
    "quadratic formula": c.at(lambda b: -b + jnp.sqrt(b**2 - 4), [100.0, 300.0]),
}
ACCURATE = {
    "tanh at 2": c.at(jnp.tanh, [2.0, -2.0]),
    "log1p at 1e-12": c.at(jnp.log1p, [1e-12, 3e-12]),
    "sigmoid at -30": c.at(jax.nn.sigmoid, [-30.0, 3.0]),
    "log-sigmoid at 40": c.at(jax.nn.log_sigmoid, [40.0, -40.0]),
    "constant literal that is rounded": c.at(lambda x: jnp.sin(0.1 * x) * 1.1, [0.5, 7.0]),
}
# The rule is right in exact arithmetic and loses its digits in the dtype.
INACCURATE = {
    "rule through a large number": c.at(
        with_mistake(
            jnp.sin, lambda g, a: (((g[0] + 1e6) - 1e6),)), [1.0, 2.0]),
    "slope of tanh as a difference of exponentials": c.at(
        reverse(
            lambda x: x / (1 + x**2),
            lambda a, y, g: (g * ((1 / (1 + a[0] ** 2) + 1e7) - 1e7
                                  - 2 * a[0] ** 2 / (1 + a[0] ** 2) ** 2),)), [0.5, 2.5]),
    "slope by a difference quotient": c.at(
        reverse(
            jnp.sin,
            lambda a, y, g: (g * (jnp.sin(a[0] + 2.0**-23) - jnp.sin(a[0])) * 2.0**23,)),
        [1.0, 2.0]),
    "slope of log1p as a quotient of differences": c.at(
        reverse(
            jnp.log1p,
            lambda a, y, g: (g * a[0] / ((1 + a[0]) * a[0] + 1e5 - 1e5),)), [0.01, 0.03]),
}  # fmt: skip

CASES = [
    *c.taking_turns("implicit", FIXED_POINTS, c.FULL, c.RIGHT),
    *c.cases("implicit", FIXED_POINTS_TO_THE_END, c.DOUBLE, c.RIGHT),
    *[case for name, build in FIXED_POINTS_WRONG.items()
      for case in c.cases("implicit", {name: build}, c.FULL, c.WRONG, ("[0]", "[1]"))],
    *c.cases("implicit", ROOTS, c.FULL, c.RIGHT),
    *c.taking_turns("implicit", ROOTS_WRONG, c.FULL, c.WRONG),
    *c.cases("linear maps", LINEAR_SOLVES, c.FULL, c.RIGHT),
    *[case for name, build in LINEAR_SOLVES_WRONG.items()
      for case in c.cases("linear maps", {name: build}, c.DOUBLE, c.WRONG, ("[0]", "[1]"))],
    *c.cases("linear maps", MATRIX_WRONG, c.SINGLE, c.WRONG),
    *c.cases("linear maps", LINEAR, c.FULL, c.RIGHT),
    *c.taking_turns("linear maps", LINEAR_WRONG, c.FULL, c.WRONG),
    *c.taking_turns("accuracy", ROUNDED, c.DOUBLE, c.RIGHT),
    *c.taking_turns("accuracy", ROUNDED, c.SINGLE, c.RIGHT),
    *c.taking_turns("accuracy", ACCURATE, c.REAL, c.RIGHT),
    *c.cases("accuracy", INACCURATE, c.SINGLE, c.WRONG),
]  # fmt: skip
