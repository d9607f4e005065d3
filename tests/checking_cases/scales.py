"""Points where steps and tolerances fail: tiny and huge numbers, mixed scales, bad conditions."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import checking_cases.case as c
from experiments._planted_mistakes import misreported, with_mistake

doubled = misreported(lambda g: 2 * g)

TINY = {
    f"{name} at 1e-30": c.at(fun, [1e-30, -3e-30])
    for name, fun in {
        "sine": jnp.sin,
        "exponential": jnp.exp,
        "square": lambda x: x**2,
        "scaled up": lambda x: jnp.tanh(x * 1e30),
        "root of the modulus": lambda x: jnp.sqrt(jnp.abs(x)),
        "logarithm of the modulus": lambda x: jnp.log(jnp.abs(x)),
        "relu": jax.nn.relu,
        "expm1": jnp.expm1,
    }.items()
}
HUGE = {
    f"{name} at 1e30": c.at(fun, [1e30, 2.5e30])
    for name, fun in {
        "logarithm": jnp.log,
        "root": jnp.sqrt,
        "tanh": jnp.tanh,
        "reciprocal": lambda x: 1 / x,
        "arc tangent": jnp.arctan,
        "softplus": jax.nn.softplus,
        "scaled down": lambda x: jnp.sin(x * 1e-30),
        "log-softmax": jax.nn.log_softmax,
        "norm": lambda x: jnp.sqrt(jnp.sum((x / 1e30) ** 2)) * 1e30,
        "sum": jnp.sum,
    }.items()
}
HUGER = {  # beyond the range of float32
    "share at 1e-30": c.at(lambda x: x / (4e-30 + x), [1e-30, -3e-30]),
    "product at 1e200": c.at(lambda x: x[0] * (x[1] / 1e200), [1e200, 3e200]),
    "root at 1e-300": c.at(jnp.sqrt, 1e-300),
    "logarithm at 1e300": c.at(jnp.log, 1e300),
    "cube at 1e-90": c.at(lambda x: x**3, 1e-90),
}
MIXED = {
    "logarithms from 1e-20 to 1e20": c.at(jnp.log, [1e-20, 1.0, 1e20]),
    "norm from 1e-8 to 1e8": c.at(jnp.linalg.norm, [1e-8, 1.0, 1e8]),
    "scaled sines": c.at(
        lambda x: jnp.sin(x * c.like(x, [1e12, 1.0, 1e-12])), [1e-12, 0.7, 1e12]),
    "softmax of far scores": c.at(jax.nn.softmax, [-60.0, 0.0, 1.0, 2.0]),
    "logsumexp of far scores": c.at(jax.nn.logsumexp, [1e4, -1e4, 0.0]),
    "rosenbrock": c.at(lambda x: 1e6 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2, [1.2, 1.5]),
    "product of far numbers": c.at(jnp.prod, [1e-10, 1e10, 3.0]),
    "sum of squares": c.at(lambda x: jnp.sum(x**2), [1e-6, 1e6, 1.0]),
}  # fmt: skip
OSCILLATING = {
    "sin(1e6 x)": c.at(lambda x: jnp.sin(1e6 * x), [0.3, 1.1]),
    "sin(x^2) at 1e4": c.at(lambda x: jnp.sin(x**2), [1e4, 1.1e4]),
    "sin(1 / x) at 1e-3": c.at(lambda x: jnp.sin(1 / x), [1e-3, 3e-3]),
    "cos(exp(x)) at 12": c.at(lambda x: jnp.cos(jnp.exp(x)), 12.0),
    "chirp beside a line": c.at(lambda x: x + 1e-3 * jnp.sin(1e5 * x), [0.3, 0.8]),
    "sine at 1e6": c.at(jnp.sin, [1e6, 1.000001e6]),
    "logistic map, chaotic": c.at(
        lambda x: lax.fori_loop(0, 30, lambda _, x: 3.9 * x * (1 - x), x), 0.3),
}  # fmt: skip


def hilbert(dtype, size):
    index = np.arange(size)
    return c.array(dtype, 1 / (1.0 + index[:, None] + index))


def _hilbert(fun, size):
    return lambda dtype: (fun, (hilbert(dtype, size),))


def _near_degenerate(gap):
    """Returns the builder's matrix: two eigenvalues lie so near to each other."""

    def matrix(dtype):
        turn, _ = np.linalg.qr(c.random_constant(3, 3))
        found = turn * np.array([1.0, 1.0 + gap, 2.0]) @ turn.T
        return c.array(dtype, (found + found.T) / 2)

    return matrix


ILL_CONDITIONED = {
    "solve with Hilbert's matrix": _hilbert(lambda a: jnp.linalg.solve(a, a[0] ** 2), 5),
    "inverse of Hilbert's matrix": _hilbert(jnp.linalg.inv, 4),
    "cholesky of Hilbert's matrix": _hilbert(jnp.linalg.cholesky, 4),
    "log-determinant of Hilbert's matrix": _hilbert(lambda a: jnp.linalg.slogdet(a)[1], 5),
    "determinant of Hilbert's matrix": _hilbert(jnp.linalg.det, 4),
    "eigenvalues that nearly coincide": lambda dtype: (
        jnp.linalg.eigvalsh, (_near_degenerate(1e-6)(dtype),)),
    "eigenvectors of eigenvalues that nearly coincide": lambda dtype: (
        lambda a: jnp.linalg.eigh(a)[1] ** 2, (_near_degenerate(1e-3)(dtype),)),
    "nearly collinear least squares": c.at(
        lambda a: jnp.linalg.lstsq(a, c.like(a, [1.0, 2.0, 4.0]))[0],
        [[1.0, 1.0], [1.0, 1.001], [1.0, 0.999]]),
    "nearly singular solve": c.at(
        lambda a: jnp.linalg.solve(a, c.like(a, [1.0, 2.0])), [[1.0, 2.0], [2.0, 4.001]]),
    "stiff matrix exponential": c.at(
        lambda a: jax.scipy.linalg.expm(a), [[-20.0, 19.0], [0.5, -1.0]]),
}  # fmt: skip


def _two(scale, wrap):
    """Returns the builder of a sum over a large leaf and a leaf that adds a little."""

    def build(dtype):
        def fun(leaves):
            return jnp.sum(leaves["large"] ** 2) + scale * jnp.sum(jnp.sin(wrap(leaves["small"])))

        return fun, ({"large": c.normal(dtype, 6), "small": c.normal(dtype, 3, seed=1)},)

    return build


def _small_numbers(wrap):
    def build(dtype):
        fun = lambda large, small: jnp.sum(jnp.tanh(large)) * (1 + jnp.sum(wrap(small) ** 2))
        return fun, (c.normal(dtype, 6), c.normal(dtype, 3, seed=1) * c.array(dtype, 2.0**-12))

    return build


same = lambda x: x
SMALL_LEAF = {
    "leaf that adds a millionth": _two(2.0**-20, same),
    "leaf of small numbers": _small_numbers(same),
}
SMALL_LEAF_WRONG = {
    "leaf that adds a millionth, doubled": _two(2.0**-20, doubled),
    "leaf that adds a millionth, lost": _two(2.0**-20, lax.stop_gradient),
}
SMALL_NUMBERS_WRONG = {
    "leaf of small numbers, doubled": _small_numbers(doubled),
    "leaf of small numbers, reversed": _small_numbers(misreported(lambda g: -g)),
}


def _many(wrap):
    def build(dtype):
        weights = c.array(dtype, c.random_constant(100, 100))
        return lambda x: jnp.sum(jnp.sin(wrap(x)) * weights), (c.normal(dtype, 100, 100),)

    return build


def _entry(factor):
    return misreported(lambda g: g.at[37, 61].multiply(factor, unique_indices=True))


MANY = {"10,000 entries": _many(same)}
MANY_WRONG = {
    "one entry of 10,000 doubled": _many(_entry(2.0)),
    "one entry of 10,000 lost": _many(_entry(0.0)),
    "one entry of 10,000 negated": _many(_entry(-1.0)),
    "one entry of 10,000 off by a tenth": _many(_entry(1.1)),
}
_wrong = lambda fun: with_mistake(fun, lambda gradients, _: (gradients[0] * 2,))
SCALES_WRONG = {
    "sine at 1e-30, doubled": c.at(_wrong(jnp.sin), [1e-30, -3e-30]),
    "tanh of scaled 1e-30, doubled": c.at(_wrong(lambda x: jnp.tanh(x * 1e30)), [1e-30, -3e-30]),
    "logarithm at 1e30, doubled": c.at(_wrong(jnp.log), [1e30, 2.5e30]),
    "logarithm at 1e30, lost": c.at(lambda x: jnp.log(lax.stop_gradient(x)), [1e30, 2.5e30]),
    "mixed logarithms, the smallest doubled": c.at(
        lambda x: jnp.log(misreported(lambda g: g * c.like(g, [2.0, 1.0, 1.0]))(x)),
        [1e-20, 1.0, 1e20]),
    "mixed logarithms, the largest doubled": c.at(
        lambda x: jnp.log(misreported(lambda g: g * c.like(g, [1.0, 1.0, 2.0]))(x)),
        [1e-20, 1.0, 1e20]),
    "sin(1e6 x), doubled": c.at(_wrong(lambda x: jnp.sin(1e6 * x)), [0.3, 1.1]),
    "sin(1e6 x), its phase wrong": c.at(
        with_mistake(
            lambda x: jnp.sin(1e6 * x),
            lambda g, x: (g[0] / jnp.cos(1e6 * x[0]) * jnp.cos(1e6 * x[0] + 1),)), [0.3, 1.1]),
    "chirp beside a line, of which only the line": c.at(
        lambda x: x + 1e-3 * jnp.sin(1e5 * lax.stop_gradient(x)), [0.3, 0.8]),
    "solve with Hilbert's matrix, negated": _hilbert(
        lambda a: jnp.linalg.solve(misreported(lambda g: -g)(a), a[0] ** 2), 4),
    "log-determinant of Hilbert's matrix, transposed": lambda dtype: (
        lambda a: jnp.linalg.slogdet(misreported(lambda g: g.T)(a))[1],
        (hilbert(dtype, 4) + c.array(dtype, np.triu(c.random_constant(4, 4)) / 64),)),
    "eigenvalues that nearly coincide, doubled": lambda dtype: (
        lambda a: jnp.linalg.eigvalsh(doubled(a)), (_near_degenerate(1e-6)(dtype),)),
}  # fmt: skip

# The square of the denominator is 0 in float32, so that the slope of 1e29 becomes NaN.
UNDERFLOWING = {"share at 1e-30": c.at(lambda x: x / (4e-30 + x), [1e-30, -3e-30])}

CASES = [
    *c.cases("not finite", UNDERFLOWING, c.SINGLE, c.WRONG),
    *c.taking_turns("tiny", TINY, c.FULL, c.RIGHT),
    *c.taking_turns("tiny", TINY, ("float64", "bfloat16"), c.RIGHT),
    *c.taking_turns("huge", HUGE, c.FULL, c.RIGHT),
    *c.taking_turns("huge", HUGE, ("bfloat16", "float32"), c.RIGHT),
    *c.cases("huge", HUGER, c.DOUBLE, c.RIGHT),
    *c.taking_turns("mixed scales", MIXED, c.FULL, c.RIGHT),
    *c.taking_turns("oscillation", OSCILLATING, c.DOUBLE, c.RIGHT),
    *c.taking_turns("oscillation", OSCILLATING, c.SINGLE, c.RIGHT),
    *c.taking_turns("ill-conditioned", ILL_CONDITIONED, c.DOUBLE, c.RIGHT),
    *c.taking_turns("ill-conditioned", ILL_CONDITIONED, c.SINGLE, c.RIGHT),
    *c.cases("small leaf", SMALL_LEAF, ("bfloat16", "float32"), c.RIGHT),
    *c.cases("small leaf", SMALL_LEAF_WRONG, ("bfloat16", "float64"), c.WRONG, ("[0]['small']",)),
    *c.cases("small leaf", SMALL_NUMBERS_WRONG, ("float16", "float32"), c.WRONG, ("[1]",)),
    *c.cases("one entry", MANY, c.SINGLE, c.RIGHT),
    *c.cases("one entry", MANY_WRONG, c.FULL, c.WRONG),
    *c.cases("scales", SCALES_WRONG, c.DOUBLE, c.WRONG),
    *c.taking_turns("scales", dict(list(SCALES_WRONG.items())[:7]), c.SINGLE, c.WRONG),
]
