"""Points without a derivative: kinks, jumps, infinite slopes, edges of a domain."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

import checking_cases.case as c


def _with_slope(fun, slope):
    """Returns a pointwise function with the reverse rule `slope(x)`."""
    return with_slope_of(fun, lambda x, g: g * slope(x))


def with_slope_of(fun, pullback):
    """Returns a function of one array whose reverse rule is `pullback(x, cotangent)`."""
    ruled = jax.custom_vjp(fun)
    ruled.defvjp(lambda x: (fun(x), x), lambda x, g: (pullback(x, g),))
    return ruled


def _relu_with(at_zero):
    def slope(x):
        return jnp.where(x > 0, c.like(x, 1), jnp.where(x == 0, c.like(x, at_zero), 0))

    return _with_slope(lambda x: jnp.maximum(x, 0), slope)


def _abs_with(at_zero):
    return _with_slope(jnp.abs, lambda x: jnp.where(x == 0, c.like(x, at_zero), jnp.sign(x)))


def _ties(share):
    """Returns the maximum, with a rule that gives each largest entry this share."""
    return with_slope_of(
        lambda x: jnp.max(x), lambda x, g: jnp.where(x == jnp.max(x), g * c.like(x, share), 0)
    )


SUBGRADIENTS = {
    "relu at 0": c.at(jax.nn.relu, [0.0, 1.0, -2.0]),
    "relu at a single 0": c.at(jax.nn.relu, 0.0),
    "relu of a layer with a zero input": lambda dtype: (
        lambda w, b: jax.nn.relu(jnp.zeros(2, dtype) @ w + b),
        (c.normal(dtype, 2, 3), c.array(dtype, [0.0, 1.0, 0.0]))),
    "abs at 0": c.at(jnp.abs, [0.0, 1.5]),
    "maximum with a tie": c.at(jnp.max, [1.0, 2.0, 2.0]),
    "minimum with a tie of three": c.at(jnp.min, [1.0, 1.0, 1.0]),
    "maximum of two equal numbers": c.at(lambda x: jnp.maximum(x[0], x[1] ** 2), [1.0, 1.0]),
    "clip at its edge": c.at(lambda x: jnp.clip(x, 0, 1), [1.0, 0.5, 0.0]),
    "leaky relu at 0": c.at(jax.nn.leaky_relu, [0.0, -1.0]),
    "relu6 at 6": c.at(jax.nn.relu6, [6.0, 3.0]),
    "hard tanh at 1": c.at(jax.nn.hard_tanh, [1.0, -1.0]),
    "hard sigmoid at 3": c.at(jax.nn.hard_sigmoid, [3.0, 0.5]),
    "selu at 0": c.at(jax.nn.selu, [0.0, 1.0]),
    "hinge at its margin": c.at(lambda z: jnp.maximum(1 - z, 0), [1.0, 2.0]),
    "quantile loss at 0": c.at(lambda e: jnp.maximum(0.9 * e, -0.1 * e), [0.0, 1.0]),
    "1-norm with a zero": c.at(lambda x: jnp.sum(jnp.abs(x)), [0.0, -2.0]),
    "median with a tie": c.at(jnp.median, [1.0, 1.0, 3.0]),
    "sort with a tie": c.at(jnp.sort, [2.0, 1.0, 1.0]),
    "top k with a tie": c.at(lambda x: lax.top_k(x, 1)[0], [1.0, 1.0, 0.0]),
    "max pooling with a tie": c.at(
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID"),
        [1.0, 1.0, 0.0, 3.0]),
    "running maximum with a tie": c.at(lax.cummax, [1.0, 1.0, 2.0]),
    "branch at its border": c.at(
        lambda x: lax.cond(x >= 0, lambda x: 3 * x, lambda x: -x, x), 0.0),
    "where at its border": c.at(lambda x: jnp.where(x >= 0, 2 * x, x), [0.0, 1.0]),
    "interpolation at a knot": c.at(
        lambda t: jnp.interp(t, c.like(t, [0.0, 1.0, 2.0]), c.like(t, [0.0, 1.0, 5.0])),
        [1.0, 0.5]),
    "safe norm at 0": c.at(
        lambda x: (lambda square: jnp.where(
            square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0))(jnp.sum(x**2)),
        [0.0, 0.0]),
    "kink beneath smooth layers": c.at(
        lambda x: jnp.tanh(jnp.sum(jax.nn.relu(x) * c.like(x, [1.0, 2.0]))), [0.0, 1.0]),
    "relu of sixty zeros": c.at(jax.nn.relu, [*[0.0] * 60, 1.0, -2.0]),
    "relu with 1/2 at 0": c.at(_relu_with(0.5), [0.0, 1.0]),
    "relu with 1 at 0": c.at(_relu_with(1.0), [0.0, 1.0]),
    "abs with 0.3 at 0": c.at(_abs_with(0.3), [0.0, 1.0]),
    "abs with -1 at 0": c.at(_abs_with(-1.0), [0.0, 1.0]),
    "maximum with half for each tie": c.at(_ties(0.5), [2.0, 2.0, 1.0]),
}  # fmt: skip
# What looks like a kink and has a derivative all the same.
NO_KINK = {
    "relu squared at 0": c.at(lambda x: jax.nn.relu(x) ** 2, [0.0, 1.0]),
    "x |x| at 0": c.at(lambda x: x * jnp.abs(x), [0.0, 1.0]),
    "elu at 0": c.at(jax.nn.elu, [0.0, 1.0]),
    "huber at its corner": c.at(
        lambda x: jnp.where(jnp.abs(x) <= 1, x**2 / 2, jnp.abs(x) - 0.5), [1.0, -1.0, 0.5]),
    "maximum of a number with itself": c.at(lambda x: jnp.maximum(x, x), [1.0, -2.0]),
    "where with equal branches": c.at(lambda x: jnp.where(x > 0, jnp.sin(x), x * 1), [0.0, 1.0]),
    "sum of a sorted tie": c.at(lambda x: jnp.sum(jnp.sort(x)), [1.0, 1.0, 2.0]),
    "kink a short way off": c.at(jnp.abs, [2.0**-12, -(2.0**-12)]),
    "relu a short way off": c.at(lambda x: jax.nn.relu(x - 1), [1 + 2.0**-7, 1 - 2.0**-7]),
    "floor between its jumps": c.at(lambda x: jnp.floor(x) * x, [1.5, -0.5]),
    "rounding between its jumps": c.at(jnp.round, [1.25, -0.25]),
    "cast to integers between jumps": c.at(
        lambda x: x.astype("int32").astype(x.dtype) * x, [1.5, 2.5]),
    "power 1.5 at 0": c.at(lambda x: x**1.5, [0.0, 1.0]),
    "power 1.5 at the end of the domain": c.at(lambda x: (1 - x) ** 1.5, [1.0, 0.5]),
    "power 0": c.at(lambda x: x**0 + x, [0.0, 1.0]),
    "double where, away from the root": c.at(
        lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0), [-1.0, 2.0]),
    "softmax of a row that is masked away": c.at(
        lambda x: jnp.where(jnp.asarray([[True], [False]]), jax.nn.softmax(jnp.where(
            jnp.asarray([[True, True], [False, False]]), x, -jnp.inf)), 0),
        [[1.0, 2.0], [3.0, 4.0]]),
    "softplus and its sign at 0": c.at(
        lambda x: jax.nn.softplus(x) + jax.nn.log_sigmoid(3 * x), [0.0, 1.0]),
    "masked logarithm": c.at(lambda x: jnp.where(x > 0, jnp.log(x), x), [-1.0, 0.5]),
    "logistic loss far out": c.at(jax.nn.softplus, [-50.0, 50.0]),
}  # fmt: skip
OUTSIDE_THE_SLOPES = {
    "relu with 2 at 0": c.at(_relu_with(2.0), [0.0, 1.0]),
    "relu with -1 at 0": c.at(_relu_with(-1.0), [0.0, 1.0]),
    "relu with 1.5 at 0": c.at(_relu_with(1.5), 0.0),
    "relu with nan at 0": c.at(_relu_with(jnp.nan), [0.0, 1.0]),
    "abs with 3 at 0": c.at(_abs_with(3.0), [0.0, 1.0]),
    "abs with -1.25 at 0": c.at(_abs_with(-1.25), 0.0),
    "sqrt(x^2) at 0": c.at(lambda x: jnp.sqrt(x**2), 0.0),
    "norm at 0": c.at(jnp.linalg.norm, [0.0, 0.0]),
    "distance of a point to itself": c.at(
        lambda x: jnp.sqrt(jnp.sum((x[:, None] - x[None]) ** 2, -1)), [[1.0, 2.0], [3.0, 4.0]]),
    "relu(x) - relu(-x) at 0": c.at(lambda x: jax.nn.relu(x) - jax.nn.relu(-x), [0.0, 1.0]),
    "2 relu(x) - |x| at 0": c.at(lambda x: 2 * jax.nn.relu(x) - jnp.abs(x), 0.0),
    "maximum with twice the gradient for each tie": c.at(_ties(2.0), [2.0, 2.0, 1.0]),
    "maximum with a negative share": c.at(_ties(-0.5), [2.0, 2.0, 1.0]),
    "right at the kink, wrong beside it": c.at(
        _with_slope(jax.nn.relu, lambda x: jnp.where(x > 0, c.like(x, 2), 0)), [0.0, 1.0]),
    "right at sixty kinks, wrong beside them": c.at(
        _with_slope(jax.nn.relu, lambda x: jnp.where(x > 0, c.like(x, 2), 0)),
        [*[0.0] * 60, 1.0, -2.0]),
    "outside the slopes at one of sixty kinks": c.at(
        _with_slope(jnp.abs, lambda x: c.like(x, [*[0.0] * 59, 2.0, 1.0, -1.0])),
        [*[0.0] * 60, 1.0, -2.0]),
    "wrong beside the kink of a smooth layer": c.at(
        _with_slope(jnp.abs, lambda x: 2 * jnp.sign(x)), [0.0, 1.0, -1.0]),
}  # fmt: skip
NOT_FINITE = {
    "double where forgotten": c.at(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0), [-1.0, 2.0]),
    "sinc by a single where": c.at(
        lambda x: jnp.where(x == 0, 1, jnp.sin(x) / x), [0.0, 1.0]),
    "masked arccosine": c.at(lambda x: jnp.where(x < 1, jnp.arccos(x), 0), [3.0, 0.5]),
    "masked overflow": c.at(
        lambda x: jnp.where(x < 80, jnp.log(1 + jnp.exp(x)), x), [4000.0, 1.0]),
    "masked division": c.at(lambda x: jnp.where(x != 0, x**2 / x, 0), [0.0, 1.0]),
    "masked power": c.at(lambda x: jnp.where(x > 0, x**0.5, -x), [-2.0, 1.0]),
    "x sqrt(x) at 0": c.at(lambda x: x * jnp.sqrt(x), [0.0, 1.0]),
    "root of a fourth power at 0": c.at(lambda x: jnp.sqrt(x**4), [0.0, 1.0]),
    "infinity in the rule": c.at(_with_slope(jnp.sin, lambda x: jnp.exp(x * 1e5)), [1.0, 0.0]),
    "nan in the rule": c.at(_with_slope(jnp.sin, lambda x: jnp.sqrt(x)), [-1.0, 0.5]),
    "logsumexp without its shift": c.at(
        lambda x: jnp.where(x[0] > 800, jnp.max(x), jnp.log(jnp.sum(jnp.exp(x)))),
        [60000.0, 0.0]),
}  # fmt: skip
INFINITE_SLOPE = {
    "root at 0": c.at(jnp.sqrt, [0.0, 1.0]),
    "cube root at 0": c.at(jnp.cbrt, [0.0, 1.0]),
    "power 1/2 at 0": c.at(lambda x: x**0.5, [0.0, 1.0]),
    "power 0.3 of the modulus at 0": c.at(lambda x: jnp.abs(x) ** 0.3, 0.0),
    "arccosine at 1": c.at(jnp.arccos, [1.0, 0.5]),
    "arcsine at -1": c.at(jnp.arcsin, [-1.0, 0.5]),
    "half circle at its end": c.at(lambda x: jnp.sqrt(1 - x**2), [1.0, 0.0]),
    "x log x at 0": c.at(lambda x: special.xlogy(x, x), [0.0, 0.5]),
    "entropy at 0": c.at(special.entr, [0.0, 0.5]),
    "arccosh at 1": c.at(jnp.arccosh, [1.0, 2.0]),
    "double where at the root": c.at(
        lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0), [0.0, 1.0]),
}  # fmt: skip
UNDEFINED = {
    "logarithm at 0": c.at(jnp.log, [0.0, 1.0]),
    "reciprocal at 0": c.at(lambda x: 1 / x, [0.0, 1.0]),
    "x log x as written, at 0": c.at(lambda x: x * jnp.log(x), [0.0, 0.5]),
    "root of a negative number": c.at(jnp.sqrt, [-1.0, 1.0]),
    "arctanh at 1": c.at(jnp.arctanh, [1.0, 0.5]),
    "logarithm of a negative number": c.at(lambda x: jnp.sum(jnp.log(x)), [-1.0, 1.0]),
    "nan among the numbers": c.at(jnp.sin, [jnp.nan, 1.0]),
}
JUMPS = {
    "floor at 3": c.at(jnp.floor, [3.0, 0.5]),
    "ceil at 2": c.at(lambda x: jnp.ceil(x) * x, [2.0, 0.5]),
    "round at 1/2": c.at(jnp.round, [0.5, 0.25]),
    "sign at 0": c.at(jnp.sign, [0.0, 1.0]),
    "sign times 1 + x at 0": c.at(lambda x: jnp.sign(x) * (1 + x), 0.0),
    "step at 0": c.at(lambda x: jnp.where(x > 0, c.like(x, 1), 0), [0.0, 1.0]),
    "cast to integers at 2": c.at(lambda x: x.astype("int32").astype(x.dtype), [2.0, 0.5]),
    "remainder at its period": c.at(lambda x: jnp.mod(x, 1), [1.0, 0.5]),
    "choice by argmax at a tie": c.at(
        lambda x: jnp.where(jnp.argmax(x) == 0, x[0] * 3, x[1] * 5), [1.0, 1.0]),
    "branch that jumps": c.at(
        lambda x: lax.cond(x >= 1, lambda x: x + 5, lambda x: x, x), 1.0),
    "bucket at its border": c.at(
        lambda x: jnp.searchsorted(
            c.like(x, [0.0, 1.0, 2.0]), x, side="right").astype(x.dtype) * x, 1.0),
    "count above a threshold": c.at(
        lambda x: jnp.sum(jnp.where(x >= 1, c.like(x, 1), 0)) + jnp.sum(x), [1.0, 2.0]),
    "heaviside by comparison": c.at(lambda x: (x >= 0).astype(x.dtype) * 2 + x, [0.0, 1.0]),
}  # fmt: skip
# An infinite number is right where the derivative exceeds the largest number of the dtype.
OVERFLOW = {
    "root with a derivative of 5e39": ("float32", lambda x: 1e25 * jnp.sqrt(x), 1e-30),
    "root with a derivative of 128000": ("float16", lambda x: 2000 * jnp.sqrt(x), 2.0**-14),
    "line with a slope of 1e310": (
        "float64", lambda x: jnp.sin(x * 1e300) * 1e10, 1e-300),
    "negative root": ("float32", lambda x: -1e25 * jnp.sqrt(x), 1e-30),
}  # fmt: skip
OVERFLOW_WRONG = {
    "root with the wrong infinity": (
        "float32", _with_slope(lambda x: 1e25 * jnp.sqrt(x), lambda x: -jnp.exp(x * 1e32)), 1e-30),
}  # fmt: skip

CASES = [
    *c.taking_turns("kinks", SUBGRADIENTS, c.FULL, c.KINK),
    *c.taking_turns("kinks", SUBGRADIENTS, c.HALF, c.KINK),
    *c.taking_turns("no kinks", NO_KINK, c.FULL, c.RIGHT),
    *c.taking_turns("no kinks", NO_KINK, c.HALF, c.RIGHT),
    *c.taking_turns("wrong at kinks", OUTSIDE_THE_SLOPES, c.FULL, c.WRONG),
    *c.taking_turns("wrong at kinks", OUTSIDE_THE_SLOPES, c.HALF, c.WRONG),
    *c.taking_turns("not finite", NOT_FINITE, c.FULL, c.WRONG),
    *c.taking_turns("not finite", NOT_FINITE, ("bfloat16",), c.WRONG),
    *c.taking_turns("infinite slopes", INFINITE_SLOPE, ("float64", "float32", "float16"), c.KINK),
    *c.taking_turns("undefined", UNDEFINED, ("float64", "bfloat16", "float32"), c.NO_DERIVATIVE),
    *c.taking_turns("jumps", JUMPS, ("float32", "float64", "bfloat16"), c.NO_DERIVATIVE),
    # Each tie is given the whole gradient: no subgradient, though along each entry alone a slope.
    *c.cases("kinks", {"maximum with all for each tie": c.at(_ties(1.0), [2.0, 2.0, 1.0])},
             c.FULL, ("wrong", "kink")),
    *[case for name, (dtype, fun, x) in OVERFLOW.items()
      for case in c.cases("overflow", {name: c.at(fun, x)}, [dtype], c.RIGHT)],
    *[case for name, (dtype, fun, x) in OVERFLOW_WRONG.items()
      for case in c.cases("overflow", {name: c.at(fun, x)}, [dtype], c.WRONG)],
]  # fmt: skip
