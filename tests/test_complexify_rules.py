"""Every function of an entry against its derivative in fifty digits, at points of both signs."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax import lax
from slopes import EPS, slopes

from diffcompare._jaxpr import complexify_rules

REAL = [-30.25, -3.3, -0.7, -1e-3, 1e-3, 0.3, 0.999, 1.4, 5.0, 30.25]
POSITIVE = [1e-8, 1e-3, 0.3, 0.999, 1.4, 5.0, 30.25]
UNIT = [-0.999999, -0.9, -0.5, -1e-3, 1e-3, 0.25, 0.75, 0.999999]


def derivative(definition, x):
    with mp.workdps(50):
        return float(mp.re(mp.diff(definition, mp.mpf(float(x)), h=mp.mpf(10) ** -25)))


def _log_gamma(x):
    return mp.log(abs(mp.gamma(x)))


def _scaled_bessel(n):
    return lambda x: mp.besseli(n, x) * mp.exp(-abs(x))


# Primitive: the function of JAX, the mathematical definition, the points. The multiple of eps is
# what the primitive's own value is wrong by (erf_inv, lgamma, ...), relative to each derivative.
ENTRIES = {
    "acos": (lax.acos, mp.acos, UNIT),
    "acosh": (lax.acosh, mp.acosh, [1.001, 1.4, 5.0, 1e6]),
    "asin": (lax.asin, mp.asin, UNIT),
    "asinh": (lax.asinh, mp.asinh, [*REAL, -1e15, 1e15]),
    "atan": (lax.atan, mp.atan, REAL),
    "atanh": (lax.atanh, mp.atanh, UNIT),
    "bessel_i0e": (lax.bessel_i0e, _scaled_bessel(0), [-3.3, -0.7, -1e-3, 1e-3, 0.3, 1.4, 5.0]),
    "bessel_i1e": (lax.bessel_i1e, _scaled_bessel(1), [-5.0, -0.7, -1e-3, 1e-3, 0.3, 3.0]),
    "cbrt": (lax.cbrt, lambda x: mp.sign(x) * mp.cbrt(abs(x)), REAL),
    "cos": (lax.cos, mp.cos, REAL),
    "cosh": (lax.cosh, mp.cosh, REAL),
    "digamma": (lax.digamma, mp.digamma, REAL),
    "erf": (lax.erf, mp.erf, [-5.0, *UNIT, 3.0, 5.0]),
    "erf_inv": (lax.erf_inv, mp.erfinv, UNIT),
    "erfc": (lax.erfc, mp.erfc, [-5.0, *UNIT, 3.0, 5.0]),
    "exp": (lax.exp, mp.exp, REAL),
    "exp2": (lax.exp2, lambda x: mp.mpf(2) ** x, REAL),
    "expm1": (lax.expm1, mp.expm1, REAL),
    "integer_pow": (lambda x: lax.integer_pow(x, -3), lambda x: x**-3, REAL),
    "lgamma": (lax.lgamma, _log_gamma, [x for x in REAL if x != 1.4]),
    "log": (lax.log, mp.log, POSITIVE),
    "log1p": (lax.log1p, lambda x: mp.log(1 + x), UNIT),
    "log2": (jnp.log2, lambda x: mp.log(x, 2), POSITIVE),
    "logistic": (lax.logistic, lambda x: 1 / (1 + mp.exp(-x)), REAL),
    "one_minus_square": (lambda x: (1 - x) * (1 + x), lambda x: 1 - x * x, [-30.0, -0.5, 0.3, 2.0]),
    "polygamma": (lambda x: lax.polygamma(2 * jnp.ones_like(x), x), lambda x: mp.polygamma(2, x),
                  POSITIVE),
    "rsqrt": (lax.rsqrt, lambda x: 1 / mp.sqrt(x), POSITIVE),
    "sin": (lax.sin, mp.sin, REAL),
    "sinh": (lax.sinh, mp.sinh, REAL),
    "sqrt": (lax.sqrt, mp.sqrt, POSITIVE),
    "square": (lax.square, lambda x: x * x, REAL),
    "tan": (lax.tan, mp.tan, REAL),
    "tanh": (lax.tanh, mp.tanh, REAL),
    "zeta": (lambda x: lax.zeta(2.5 * jnp.ones_like(x), x), lambda x: mp.zeta(2.5, x),
             [1e-3, 0.3, 1.4, 5.0]),
}  # fmt: skip
if hasattr(lax, "one_minus_square"):
    ENTRIES["one_minus_square"] = (lax.one_minus_square, *ENTRIES["one_minus_square"][1:])

# Functions of two numbers, differentiated by each; with their definitions, at pairs.
PAIRS = {
    "atan2": (lax.atan2, mp.atan2, [(1.0, -2.0), (-1e-3, 3.0), (2.0, 1e-3), (-5.0, -5.0)]),
    "div": (lax.div, lambda a, b: a / b, [(1.0, -2.0), (-1e-3, 3.0), (2.0, 1e-3)]),
    "igamma": (lax.igamma, lambda a, x: mp.gammainc(a, 0, x, regularized=True),
               [(0.5, 0.2), (2.5, 2.0), (2.5, 0.1)]),
    "igammac": (lax.igammac, lambda a, x: mp.gammainc(a, x, mp.inf, regularized=True),
                [(0.5, 0.2), (2.5, 2.0), (2.5, 0.1)]),
    "mul": (lax.mul, lambda a, b: a * b, [(1.0, -2.0), (-1e-3, 3.0)]),
    "pow": (lax.pow, lambda a, b: a**b, [(0.3, -2.0), (2.0, 3.5), (1e-3, 0.5)]),
    "rem": (lax.rem, lambda a, b: a - b * int(a / b), [(7.5, 2.0), (-7.5, 2.0), (7.5, -2.0)]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ENTRIES)
def test_the_slope_of_a_function_is_its_derivative(name, dtype):
    fun, definition, points = ENTRIES[name]
    x = np.asarray(points, dtype)
    value, slope = slopes(fun, x)
    truth = np.array([derivative(definition, p) for p in x])
    # XLA's digamma, lgamma and Bessel functions are right to 2 to 8 eps of their largest term;
    # the others to 2, and a formula has three operations.
    error = np.abs(slope - truth) / np.abs(truth)
    assert error.max() < 12 * EPS[dtype], dict(zip(points, error / EPS[dtype], strict=True))
    assert np.array_equal(value, np.asarray(jax.jit(fun)(x), np.float64))


@pytest.mark.parametrize(("dtype", "step"), [("float32", 1e-20), ("float64", 1e-100)])
@pytest.mark.parametrize("name", sorted(complexify_rules.NATIVE & ENTRIES.keys()))
def test_complex_arithmetic_finds_the_derivative_too(name, dtype, step):
    fun, definition, points = ENTRIES[name]
    x = np.asarray(points, dtype)
    value, slope = slopes(fun, x, step=step)
    truth = np.array([derivative(definition, p) for p in x])
    # XLA's complex functions are right to 2 eps in each part; measured up to 3 here.
    assert np.abs(slope / truth - 1).max() < 6 * EPS[dtype]
    assert np.allclose(value, jax.jit(fun)(x), rtol=4 * EPS[dtype], atol=0)


def _line(definition, start, along):
    return lambda t: definition(
        *(mp.mpf(float(x)) + v * t for x, v in zip(start, along, strict=True))
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PAIRS)
def test_the_slopes_of_a_function_of_two_numbers_are_its_derivatives(name, dtype):
    fun, definition, points = PAIRS[name]
    a, b = np.asarray(points, dtype).T
    for along in ((1, 0), (0, 1), (1, -2)):
        directions = [np.full_like(a, along[0]), np.full_like(b, along[1])]
        found = slopes(fun, a, b, directions=directions)[1]
        truth = []
        for p, q in zip(a, b, strict=True):
            truth.append(derivative(_line(definition, (p, q), along), 0.0))
        # The incomplete gamma function and its derivative come from series right to 20 eps.
        assert np.abs(found - truth).max() <= 40 * EPS[dtype] * np.abs(truth).max()


def test_the_derivative_of_the_incomplete_beta_function_is_the_density():
    x = np.array([0.1, 0.5, 0.9])
    fun = lambda x: jax.scipy.special.betainc(jnp.full(3, 2.0), jnp.full(3, 3.0), x)
    # 12 x (1 - x)**2 by hand; the density is an exponential of a sum of ten or so.
    assert np.allclose(slopes(fun, x)[1], 12 * x * (1 - x) ** 2, rtol=1e-14, atol=0)


def test_every_rule_for_entries_has_a_row_above():
    others = {"nextafter", "regularized_incomplete_beta"}  # tests of their own
    assert {*complexify_rules.SLOPES, "integer_pow"} - others == {
        *ENTRIES, *(PAIRS.keys() - {"mul", "pow"})
    }  # fmt: skip


def test_the_slope_of_bessel_i1e_at_zero_is_one_half():
    assert slopes(lax.bessel_i1e, np.zeros(1))[1] == [0.5]


def test_the_next_number_moves_with_the_number():
    assert slopes(lambda x: lax.nextafter(x, jnp.ones_like(x)), np.array([0.5, -2.0]))[
        1
    ].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "fun"),
    {
        "ceil": lax.ceil,
        "floor": lax.floor,
        "round": lax.round,
        "sign": lax.sign,
        "is_finite": lambda x: lax.is_finite(x).astype(x.dtype),
        "lt": lambda x: (x < 0.5).astype(x.dtype),
        "integers": lambda x: x.astype(int).astype(x.dtype),
        "argmax": lambda x: jnp.full(x.shape, jnp.argmax(x)).astype(x.dtype),
    }.items(),
)
def test_what_is_constant_by_pieces_does_not_move(name, fun):
    x = np.array([-3.3, 0.25, 7.5])
    value, slope = slopes(fun, x)
    assert slope.tolist() == [0, 0, 0]
    assert value.tolist() == np.asarray(fun(x)).tolist()


def test_an_integer_power_has_no_trouble_with_a_base_that_is_zero_or_negative():
    x, n = np.array([-2.0, -2.0, 0.0, 0.0, 0.0, 3.0]), jnp.array([3, -1, 0, 1, 2, 0])
    expected = [12, -0.25, 0, 1, 0, 0]
    assert slopes(lambda x: lax.pow(x, n), x)[1].tolist() == expected
    assert slopes(lambda x: lax.pow(x, n.astype(x.dtype)), x)[1].tolist() == expected


def test_an_exponent_at_rest_does_not_ask_for_a_logarithm():
    x, n = np.array([-2.0, 0.0, 2.0]), np.array([3.0, 2.0, 0.0])
    along_x, along_n = ([np.ones(3), np.zeros(3)], [np.zeros(3), np.ones(3)])
    assert slopes(lax.pow, x, n, directions=along_x)[1].tolist() == [12, 0, 0]
    assert np.allclose(slopes(lax.pow, x, n, directions=along_n)[1][1:], [0, np.log(2)])


def test_the_sign_of_a_complex_number_turns():
    x = np.array([-2.0, 0.5])
    fun = lambda x: jnp.imag(jnp.sign(lax.complex(x, jnp.ones_like(x))))
    # The imaginary part of (x + i) / |x + i| is (1 + x**2) ** -1/2.
    assert np.allclose(slopes(fun, x)[1], -x / (1 + x * x) ** 1.5, rtol=1e-14)


def test_the_absolute_value_at_zero_grows_in_every_direction():
    x, v = np.zeros(3), np.array([1.0, -1.0, 0.0])
    assert slopes(jnp.abs, x, directions=[v])[1].tolist() == [1, 1, 0]
    plane = lambda x: jnp.abs(lax.complex(x, 2 * x))
    assert np.allclose(slopes(plane, x, directions=[v])[1], np.sqrt([5, 5, 0]), rtol=1e-15)


def test_where_the_first_order_does_not_decide_the_slope_is_nan():
    assert np.isnan(slopes(lambda x: jnp.cbrt(x**3), np.zeros(1))[1])
    assert np.isinf(slopes(jnp.sqrt, np.zeros(1))[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_out_a_slope_is_its_limit(dtype):
    x = np.asarray([-np.inf, -1e30, -1e10, -1000.3, 1000.3, 1e10, 1e30, np.inf], dtype)
    for fun in (lax.erf, lax.erfc, lax.tanh, lax.logistic):
        assert slopes(fun, x)[1].tolist() == [0] * 8
    outside = slopes(lax.asinh, x)[1][1:-1]
    assert np.allclose(outside, 1 / np.abs(x[1:-1], dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("step", [None, 1e-20])
@pytest.mark.parametrize("fun", [lax.log, lax.sqrt, lax.rsqrt, lax.asin, lax.acosh, lax.atanh])
def test_beyond_its_domain_a_function_has_neither_value_nor_slope(fun, step):
    value, slope = slopes(fun, np.array([-2.0]), step=step)
    assert np.isnan(value)
    assert np.isnan(slope)
    guarded = lambda x: jnp.where(x > 0, fun(x), 3 * x)
    assert np.isclose(slopes(guarded, np.array([-2.0]), step=step)[1], 3, rtol=1e-15)


def test_a_power_of_a_negative_base_is_right_with_a_step_of_ones_own():
    fun = lambda x: lax.pow(x, jnp.full_like(x, 3.0))
    assert np.allclose(slopes(fun, np.array([-2.0]), step=1e-100)[1], 12, rtol=1e-15)
