"""Slopes of functions that are known by hand, and what kind of point they are taken at."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.scipy import special

from diffcompare.checking.budget import Budget
from diffcompare.checking.problem import problem_of
from diffcompare.checking.slopes import Primal, Truth
from diffcompare.exact.multiprecision import GmpyAlgebra, MpmathArithmetic, arithmetic

NUMBERS = arithmetic(640)


def primal_of(fun, *args, numbers=NUMBERS, budget=60.0):
    return Primal(problem_of(fun, args), numbers, Budget(budget))


def truth(fun, x, direction=None, **options):
    direction = np.ones(np.shape(x)) if direction is None else np.asarray(direction, float)
    return primal_of(fun, x, **options).truth({0: direction})


def guarded(fun):
    """Returns a function that is 0 at 0, and otherwise what is given."""
    return lambda x: jnp.where(x == 0, 0.0, fun(jnp.where(x == 0, 1.0, x)))


SMOOTH = {
    "sine": (jnp.sin, 0.5, math.cos(0.5)),
    "at a zero": (jnp.sin, 0.0, 1.0),
    "at an extremum": (jnp.cos, 0.0, 0.0),
    "square at 0": (lambda x: x * x, 0.0, 0.0),
    "fast": (lambda x: jnp.sin(1e6 * x), 1.0, 1e6 * math.cos(1e6)),
    "tiny argument": (lambda x: x * 3.0, 1e-300, 3.0),
    "tiny argument of a square": (lambda x: x * x, 1e-150, 2e-150),
    "tiny argument of a logarithm": (jnp.log, 1e-300, 1e300),
    "huge argument": (jnp.log, 1e300, 1e-300),
    "huge argument of a square root": (jnp.sqrt, 1e300, 0.5e-150),
    "beside a kink": (jax.nn.relu, 1e-30, 1.0),
    "dead": (jax.nn.relu, -1.0, 0.0),
    "off a step": (jnp.floor, 2.5, 0.0),
    "staircase far above": (lambda x: jnp.round(x * 1e8), 0.12345678912, 0.0),
    "contact of second order": (lambda x: jnp.where(x > 0, x * x, 0.0), 0.0, 0.0),
    "contact with equal slope": (lambda x: jnp.where(x > 1, x * x, 2 * x - 1), 1.0, 2.0),
    "power slightly above 1": (lambda x: jnp.abs(x) ** 1.25, 0.0, 0.0),
    "such a power beside a line": (lambda x: 2 * x + jnp.abs(x) ** 1.25, 0.0, 2.0),
    "oscillation that dies out": (guarded(lambda x: x * x * jnp.sin(1 / x)), 0.0, 0.0),
    "unused branch is NaN": (lambda x: jnp.where(x > 0, jnp.sqrt(x), x), -1.0, 1.0),
    "cancelling kinks": (lambda x: jax.nn.relu(x) - jax.nn.relu(-x), 0.0, 1.0),
    "tie of equals": (lambda x: jnp.maximum(x, x), 0.5, 1.0),
    "constant": (lambda x: 0 * x + 3.0, 0.5, 0.0),
    "value without derivative rule": (lambda x: lax.stop_gradient(x) ** 2, 1.5, 3.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_slopes_of_smooth_points(name):
    fun, x, slope = SMOOTH[name]
    found = truth(fun, x)
    assert found.kind == "smooth"
    # Of a power h**0.25 of the distance that is left, the error says so; the rest is float64's.
    error = abs(float(found.slope) - slope)
    assert error <= 2e-15 * abs(slope) + float(found.error)
    assert float(found.error) <= 1e-20 * max(abs(slope), 1e-3)


@pytest.mark.parametrize("x", [1.0, 1e200, 1e-200])
def test_a_direction_may_be_shorter_or_longer_than_the_argument(x):
    # Of 1e200 a step of 2**-200 is nothing, and of 1e-200 it is far away.
    found = truth(lambda x: x**3, x, 1.0)
    with mpmath.workprec(800):
        wanted = 3 * mpmath.mpf(x) ** 2
        assert found.kind == "smooth"
        assert abs(mpmath.mpf(str(found.slope)) - wanted) <= wanted * mpmath.mpf(2) ** -180


def test_entries_of_very_different_size_move_together():
    x = np.array([1.0, 1e-300, 1e300])
    found = truth(lambda x: jnp.sum(jnp.log(x)), x)
    assert found.kind == "smooth"
    np.testing.assert_allclose(float(found.slope), 1e300, rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_on_the_way_may_be_as_large_as_there_are(dtype):
    # A row that is masked everywhere: the softmax of its scores, as the mask is taken away again.
    lowest = float(jnp.finfo(dtype).min)
    fun = lambda x: jax.nn.softmax(x + jnp.asarray(lowest, dtype))[0]
    x = np.array([0.5, -0.25, 1.0], dtype)
    found = truth(fun, x, [1.0, 0.0, 0.0])
    share = np.exp(x.astype(float))[0] / np.sum(np.exp(x.astype(float)))
    assert found.kind == "smooth"
    np.testing.assert_allclose(float(found.slope), share * (1 - share), rtol=1e-14)


KINKS = {
    "relu": (jax.nn.relu, 0.0, 0.0, 1.0),
    "absolute value": (jnp.abs, 0.0, -1.0, 1.0),
    "tie of a maximum": (lambda x: jnp.maximum(x, 2 - x), 1.0, -1.0, 1.0),
    "concave": (lambda x: jnp.minimum(3 * x, x), 0.0, 1.0, 3.0),
    "beside a large slope": (lambda x: 1e6 * x + jnp.abs(x), 0.0, 1e6 - 1, 1e6 + 1),
    "small one": (lambda x: x + 1e-12 * jnp.abs(x), 0.0, 1 - 1e-12, 1 + 1e-12),
    "clipped": (lambda x: jnp.clip(x, -1.0, 1.0), 1.0, 0.0, 1.0),
    "curved": (lambda x: jnp.abs(jnp.sin(x)) + jnp.exp(x), 0.0, 0.0, 2.0),
    "tiny argument": (lambda x: jnp.abs(x - 1e-300), 1e-300, -1.0, 1.0),
    "sorted": (lambda x: jnp.sort(jnp.stack([x, 1.0 + 0 * x]))[0], 1.0, 0.0, 1.0),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_have_the_slopes_of_both_sides(name):
    fun, x, low, high = KINKS[name]
    found = truth(fun, x)
    assert found.kind == "kink"
    np.testing.assert_allclose([float(found.low), float(found.high)], [low, high], atol=1e-15)
    np.testing.assert_allclose(float(found.slope), (low + high) / 2, atol=1e-15)


EDGES = {
    "power 3/2": (lambda x: x * jnp.sqrt(x), 0.0, 0.0),
    "one side of a root": (lambda x: jnp.where(x < 0, jnp.nan, 5 * x), 0.0, 5.0),
    "left side": (lambda x: (1 - x) * jnp.sqrt(1 - x) + 2 * x, 1.0, 2.0),
}


@pytest.mark.parametrize("name", EDGES)
def test_at_an_edge_of_the_domain_the_other_side_counts(name):
    fun, x, slope = EDGES[name]
    found = truth(fun, x)
    assert found.kind == "edge"
    np.testing.assert_allclose(float(found.slope), slope, atol=1e-15)


OTHERS = {
    "floor": (jnp.floor, 2.0, "jump"),
    "rounding at a half": (jnp.round, 2.5, "jump"),
    "sign": (jnp.sign, 0.0, "jump"),
    "condition": (lambda x: jnp.where(x > 1, 5.0, x), 1.0, "jump"),
    "jump beside a slope": (lambda x: x + 1e-9 * jnp.sign(x - 1), 1.0, "jump"),
    "pole bent to a jump": (lambda x: jnp.arctan(1 / x), 0.0, "jump"),
    "remainder": (lambda x: jnp.mod(x, 1.0), 3.0, "jump"),
    "square root": (jnp.sqrt, 0.0, "steep"),
    "cube root": (jnp.cbrt, 0.0, "steep"),
    "root of both signs": (lambda x: jnp.sqrt(jnp.abs(x)), 0.0, "steep"),
    "power slightly below 1": (lambda x: jnp.abs(x) ** 0.9, 0.0, "steep"),
    "root of a tiny one": (lambda x: 1e-8 * jnp.cbrt(x - 1) + x, 1.0, "steep"),
    "arc cosine": (jnp.arccos, 1.0, "steep"),
    "logarithmic": (lambda x: special.xlogy(x, x), 0.0, "steep"),
    "logarithm": (jnp.log, 0.0, "undefined"),
    "pole": (lambda x: 1 / x, 0.0, "undefined"),
    "oscillation": (guarded(lambda x: x * jnp.sin(1 / x)), 0.0, "undefined"),
    "NaN at the point": (lambda x: x / x, 0.0, "undefined"),
    "NaN around": (lambda x: jnp.where(x == 1, 1.0, jnp.nan), 1.0, "undefined"),
    "infinite argument": (jnp.exp, jnp.inf, "undefined"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_points_without_a_slope_are_told_apart(name):
    fun, x, kind = OTHERS[name]
    assert truth(fun, x).kind == kind


@pytest.mark.parametrize("name", ["relu", "curved", "small one"])
def test_kinds_do_not_depend_on_the_arithmetic(name):
    fun, x, *_ = KINKS[name]
    here, there = truth(fun, x), truth(fun, x, numbers=MpmathArithmetic(640))
    assert here.kind == there.kind
    assert float(here.low) == float(there.low)


@pytest.mark.parametrize("shift", [-40, -2, 2, 40])
def test_kinds_do_not_depend_on_the_length_of_the_direction(shift):
    for table in (SMOOTH, KINKS, EDGES, OTHERS):
        for name in list(table)[::4]:
            fun, x, *_ = table[name]
            assert truth(fun, x, 2.0**shift).kind == truth(fun, x).kind, name


def test_a_longer_direction_has_a_longer_slope():
    found = Truth("smooth", 2.0, 3.0, 0.5).times(4.0)
    assert found == Truth("smooth", 8.0, 12.0, 2.0)
    assert found.slope == 10.0


# Compositions with derivatives by hand, as pairs (value, slope) of mpmath.

ATOMS = {
    "sin": (jnp.sin, mpmath.sin, mpmath.cos),
    "exp": (lambda x: jnp.exp(x / 8), lambda x: mpmath.exp(x / 8), lambda x: mpmath.exp(x / 8) / 8),
    "tanh": (jnp.tanh, mpmath.tanh, lambda x: mpmath.sech(x) ** 2),
    "square": (lambda x: x * x / 4, lambda x: x * x / 4, lambda x: x / 2),
    "atan": (jnp.arctan, mpmath.atan, lambda x: 1 / (1 + x * x)),
    "root": (lambda x: jnp.sqrt(1 + x * x), lambda x: mpmath.sqrt(1 + x * x),
             lambda x: x / mpmath.sqrt(1 + x * x)),
}  # fmt: skip
short = st.integers(-64, 64).map(lambda n: n / 16)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(names=st.lists(st.sampled_from(sorted(ATOMS)), min_size=1, max_size=4), x=short)
def test_slopes_of_compositions_are_those_of_the_chain_rule(names, x):
    def fun(x):
        for name in names:
            x = ATOMS[name][0](x)
        return x

    found = truth(fun, x)
    with mpmath.workprec(700):
        value, slope = mpmath.mpf(x), mpmath.mpf(1)
        for name in names:
            _, function, derivative = ATOMS[name]
            slope, value = slope * derivative(value), function(value)
        assert found.kind == "smooth"
        assert distance(found.slope, slope) <= mpmath.mpf(2) ** -150


@settings(max_examples=25, deadline=None, derandomize=True)
@given(coefficients=st.lists(short, min_size=1, max_size=6), x=short)
def test_slopes_of_polynomials_are_those_of_their_coefficients(coefficients, x):
    found = truth(lambda x: sum(c * x**n for n, c in enumerate(coefficients)) + 0 * x, x)
    with mpmath.workprec(700):
        slope = sum(n * c * mpmath.mpf(x) ** (n - 1) for n, c in enumerate(coefficients) if n)
        assert found.kind == "smooth"
        assert distance(found.slope, slope) <= mpmath.mpf(2) ** -150 * 2**15


def distance(element, number):
    """Returns how far a number of either arithmetic is from one of mpmath, at its precision."""
    if hasattr(element, "as_mantissa_exp"):
        element = mpmath.ldexp(*map(int, element.as_mantissa_exp()))
    return abs(mpmath.mpf(element) - number)


# Several outputs, several leaves.


def test_outputs_are_contracted_with_the_weights_of_the_problem():
    fun = lambda x: {"a": jnp.sin(x), "b": (x**2).astype(jnp.float32)}
    x = np.array([0.5, -1.5])
    problem = problem_of(fun, (x,))
    primal = Primal(problem, NUMBERS, Budget(1.0))
    found = primal.truth({0: np.array([1.0, 2.0])})
    a, b = problem.weights
    wanted = np.sum(a * np.cos(x) * [1, 2]) + np.sum(b * 2 * x * [1, 2])
    np.testing.assert_allclose(float(found.slope), wanted, rtol=1e-14)
    np.testing.assert_allclose(float(primal.value), np.sum(a * np.sin(x)) + np.sum(b * x**2))
    assert float(primal.largest) == 2.25
    sines, squares = primal.slopes_of_outputs({0: np.array([1.0, 2.0])})
    np.testing.assert_allclose(sines.astype(float), np.cos(x) * [1, 2], rtol=1e-15)
    np.testing.assert_allclose(squares.astype(float), 2 * x * [1, 2], rtol=1e-15)


def test_several_leaves_move_at_once():
    args = {"x": np.array([0.5, 2.0]), "y": np.array(3.0)}
    primal = primal_of(lambda t: jnp.sum(t["x"] ** 2) * t["y"], args)
    found = primal.truth({0: np.array([1.0, 0.0]), 1: np.array(2.0)})
    np.testing.assert_allclose(float(found.slope), 2 * 0.5 * 3.0 + 4.25 * 2.0, rtol=1e-15)


def test_a_complex_argument_is_two_leaves():
    primal = primal_of(lambda z: jnp.abs(z) ** 2, np.array(3.0 + 4.0j))
    np.testing.assert_allclose(float(primal.truth({0: np.array(1.0)}).slope), 6.0, rtol=1e-14)
    np.testing.assert_allclose(float(primal.truth({1: np.array(1.0)}).slope), 8.0, rtol=1e-14)


# Variations.


def spread(fun, x, kind, numbers=NUMBERS):
    primal = primal_of(fun, x, numbers=numbers)
    moves = {0: np.ones(np.shape(x))}
    slope = primal.truth(moves).slope
    return float(primal.spread(moves, slope, kind)), float(slope)


def test_rounding_spreads_a_slope_as_far_as_the_function_loses_digits():
    eps = 2.0**-52
    found, slope = spread(lambda x: jnp.sin(x) * x, 0.5, "rounding")
    assert 0.1 * eps < found / slope < 5 * eps
    # (1 + x) - 1 loses all but 20 of 52 digits, and its square half as much again.
    found, slope = spread(lambda x: jnp.sqrt((1 + x) - 1), 2.0**-32, "rounding")
    assert 2.0**-22 < found / slope < 2.0**-17


def test_rounding_leaves_alone_what_stops_gradients():
    # The value x * stop(x) moves by both factors, its derivative by one, whatever is rounded.
    primal = primal_of(lambda x: x * lax.stop_gradient(x), 3.0)
    moves = {0: np.array(1.0)}
    found = primal.spread(moves, NUMBERS.number(3.0), "rounding")
    assert float(found) < 3 * 3 * 2.0**-52


def test_constants_spread_a_slope_only_if_they_were_rounded():
    assert spread(lambda x: 0.5 * x + 3 * x, 1.0, "constants")[0] == 0
    found, slope = spread(lambda x: 0.1 * x, 1.0, "constants")
    np.testing.assert_allclose(found / slope, 2.0**-52)


@jax.custom_jvp
def root(x):
    return lax.fori_loop(0, 3, lambda _, y: (y + x / y) / 2, x)


@root.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    y = root(x)
    return y, t / (2 * y)


def slope_of_heron(x, passes):
    y, s = x, 1.0
    for _ in range(passes):
        y, s = (y + x / y) / 2, (s + 1 / y - x * s / y**2) / 2
    return s


def test_passes_spread_a_slope_as_far_as_an_iteration_was_stopped_early():
    assert primal_of(root, 3.0).loops_under_rules
    assert not primal_of(jnp.sin, 3.0).loops_under_rules
    found, slope = spread(root, 3.0, "passes")
    np.testing.assert_allclose(slope, slope_of_heron(3.0, 3), rtol=1e-14)
    changes = [abs(slope_of_heron(3.0, 3 + more) - slope) for more in (1, 2)]
    np.testing.assert_allclose(found, max(changes), rtol=1e-9)
    found, _ = spread(root, 3.0, "rounding")
    np.testing.assert_allclose(found, abs(slope_of_heron(3.0, 2) - slope), rtol=1e-9)


def test_rounding_that_leaves_the_domain_spreads_a_slope_infinitely():
    found, _ = spread(lambda x: jnp.sqrt(x * (1 / x) - 1) + x, 0.5, "rounding")
    assert found == math.inf


def test_rounding_spreads_the_value():
    primal = primal_of(lambda x: (1 + x) - 1, np.array(2.0**-32))
    assert 2.0**-53 < float(primal.value_spread()) < 2.0**-50


# What it costs.


def test_leaves_that_matter_late_cost_little():
    random = np.random.default_rng(0)
    weights = [random.normal(size=(60, 60)) / 8 for _ in range(3)]
    data = random.normal(size=(4, 60))

    def fun(weights):
        y = data
        for w in weights:
            y = jnp.tanh(y @ w)
        return jnp.sum(y)

    primal = primal_of(fun, weights)
    costs = []
    for leaf in range(3):
        before = primal.budget.spent
        primal.truth({leaf: np.ones((60, 60))})
        costs.append(primal.budget.spent - before)
    assert costs[0] > 1.3 * costs[1] > 1.3 * 1.3 * costs[2]


def test_the_precision_of_the_caller_is_left_alone():
    gmpy2 = pytest.importorskip("gmpy2")
    before = gmpy2.get_context().precision
    truth(jnp.sin, 0.5, numbers=GmpyAlgebra(640))
    assert gmpy2.get_context().precision == before
