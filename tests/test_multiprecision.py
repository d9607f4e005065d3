"""Every rule of the exact walk gives what the primitive gives, anywhere, infinities included."""

import threading
import types

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax import lax

from diffcompare.exact import multiprecision
from diffcompare.exact.multiprecision import MpmathArithmetic

BITS = 640
inf, nan = float("inf"), float("nan")


def arithmetics():
    kinds = {"mpmath": MpmathArithmetic}
    try:
        import gmpy2  # noqa: F401

        kinds["gmpy2"] = multiprecision.GmpyAlgebra
    except ImportError:
        pass
    return {name: kind(BITS) for name, kind in kinds.items()}


ARITHMETICS = arithmetics()
random = np.random.default_rng(0)
SPECIAL = (0.0, -0.0, inf, -inf, nan, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 1.5, -1.5, 2.5, -2.5)
FAR = (1e-300, -1e-300, 1e300, -1e300, 700.0, -700.0, 1e-9, -1e-9, 20.0, -20.0)
ANYWHERE = [*SPECIAL, *FAR, *random.normal(size=6), *30 * random.normal(size=4)]
SOME = (0.0, -0.0, inf, -inf, nan, 1.0, -1.0, 3.0, -2.0, 0.5, -2.5, 1e-300, 1e300, 0.875)

UNARY = {
    "abs": lax.abs, "acos": lax.acos, "acosh": lax.acosh, "asin": lax.asin, "asinh": lax.asinh,
    "atan": lax.atan, "atanh": lax.atanh, "bessel_i0e": lax.bessel_i0e,
    "bessel_i1e": lax.bessel_i1e, "cbrt": lax.cbrt, "ceil": lax.ceil, "cos": lax.cos,
    "cosh": lax.cosh, "digamma": lax.digamma, "erf": lax.erf, "erf_inv": lax.erf_inv,
    "erfc": lax.erfc, "exp": lax.exp, "exp2": lax.exp2, "expm1": lax.expm1, "floor": lax.floor,
    "is_finite": lax.is_finite, "lgamma": lax.lgamma, "log": lax.log, "log1p": lax.log1p,
    "logistic": lax.logistic, "neg": lax.neg, "rsqrt": lax.rsqrt, "sign": lax.sign,
    "sin": lax.sin, "sinh": lax.sinh, "sqrt": lax.sqrt, "square": lax.square, "tan": lax.tan,
    "tanh": lax.tanh, "stop_gradient": lax.stop_gradient, "relu": jax.nn.relu,
    "relu6": jax.nn.relu6, "log2": jnp.log2,
    # Primitives of JAX 0.12 only.
    "one_minus_square": lambda x: 1 - x * x,
}  # fmt: skip
WITH_PARAMETERS = {
    **{f"integer_pow {y}": ("integer_pow", {"y": y}, lambda x, y=y: lax.integer_pow(x, y))
       for y in (-3, -2, -1, 0, 1, 2, 3, 5)},
    **{f"round {method}": ("round", {"rounding_method": int(method)},
                           lambda x, method=method: lax.round(x, method))
       for method in lax.RoundingMethod},
}  # fmt: skip
BINARY = {
    "add": lax.add, "add_any": lax.add, "atan2": lax.atan2, "div": lax.div, "eq": lax.eq,
    "ge": lax.ge, "gt": lax.gt, "le": lax.le, "lt": lax.lt, "max": lax.max, "min": lax.min,
    "mul": lax.mul, "ne": lax.ne, "pow": lax.pow, "rem": lax.rem, "sub": lax.sub,
    "xlogy": jax.scipy.special.xlogy, "xlog1py": jax.scipy.special.xlog1py,
    "logaddexp": jnp.logaddexp,
}  # fmt: skip
# The order of NaN is no function of JAX's own; sorting is tested with the walk.
ELSEWHERE = {"and", "or", "xor", "not", "lt_to", "le_to", "eq_to"}
# Where JAX agrees with itself: at the edge of the domain its versions differ.
OF_GAMMA = {
    "igamma": (lax.igamma, (0.25, 3.5, nan, -1.0), (0.25, 3.5, 0.0, inf, nan, -1.0)),
    "igammac": (lax.igammac, (0.25, 3.5, nan, -1.0), (0.25, 3.5, 0.0, inf, nan, -1.0)),
    "igamma_grad_a": (lax.igamma_grad_a, (0.25, 3.5, nan), (0.75, 0.0, nan)),
    "random_gamma_grad": (lax.random_gamma_grad, (0.25, 3.5, nan), (0.75, nan)),
    "polygamma": (lax.polygamma, (0.0, 1.0, 2.0, 5.0, nan), (0.25, 3.5, -0.5, -2.5, inf, nan)),
    "zeta": (lax.zeta, (1.0, 1.5, 6.0, nan), (0.25, 3.5)),
}
TERNARY = {
    "clamp": (lax.clamp, [(0.5, x, 2.0) for x in ANYWHERE] + [(nan, 1.0, 2.0), (0.0, 1.0, nan)]),
    "regularized_incomplete_beta": (
        lax.betainc, [(a, b, x) for a in (0.5, 3.5) for b in (1.0, 2.25)
                      for x in (0.0, 0.25, 0.875, 1.0, -0.5, 1.5, nan)]),
    "polynomial": (lambda x, a, b: b * x + a, [(x, 0.5, -2.0) for x in (0.0, 1.5, -3.0, nan)]),
}  # fmt: skip


def assert_agree(name, function, points, parameters=None, key=None):
    """Asserts that a rule gives what a function of JAX gives in float64."""
    truth = np.asarray(jax.jit(jax.vmap(function))(*map(jnp.asarray, zip(*points, strict=True))))
    for kind, algebra in ARITHMETICS.items():
        rule = algebra.rules[key or name]
        for point, expected in zip(points, truth, strict=True):
            with algebra.active():
                found = float(rule(*map(algebra.number, point), **(parameters or {})))
            expected = float(expected)
            has_sign = kind == "gmpy2"  # mpmath's zero has none
            if not has_sign and any(x == 0 and np.signbit(x) for x in point):
                continue
            where = f"{name}{point} by {kind}"
            # XLA's functions are right to about 1e-13, the hardest being those of gamma, and take
            # numbers that are not normal for 0.
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=3e-308, err_msg=where)
            if has_sign and expected == 0 == found:
                assert np.signbit(found) == np.signbit(expected), where


def test_every_rule_is_tested():
    tested = {*UNARY, *BINARY, *OF_GAMMA, *TERNARY, "integer_pow", "round"}
    for algebra in ARITHMETICS.values():
        assert set(algebra.rules) == tested | ELSEWHERE


@pytest.mark.parametrize("name", UNARY)
def test_a_rule_of_one_operand_agrees_with_the_primitive(name):
    points = [(x,) for x in ANYWHERE if not (name == "digamma" and x == 0)]  # JAX has changed there
    assert_agree(name, UNARY[name], points)


@pytest.mark.parametrize("name", WITH_PARAMETERS)
def test_a_rule_with_parameters_agrees_with_the_primitive(name):
    key, parameters, function = WITH_PARAMETERS[name]
    assert_agree(name, function, [(x,) for x in ANYWHERE], parameters, key)


@pytest.mark.parametrize("name", BINARY)
def test_a_rule_of_two_operands_agrees_with_the_primitive(name):
    points = [(a, b) for a in SOME for b in SOME]
    if name.startswith("xlog"):  # of 0 and NaN it is 0 to some versions of JAX
        points = [(a, b) for a, b in points if a != 0 or b == b]
    assert_agree(name, BINARY[name], points)


@pytest.mark.parametrize("name", OF_GAMMA)
def test_a_rule_of_the_gamma_family_agrees_with_the_primitive(name):
    function, left, right = OF_GAMMA[name]
    assert_agree(name, function, [(a, b) for a in left for b in right])


@pytest.mark.parametrize("name", TERNARY)
def test_a_rule_of_three_operands_agrees_with_the_primitive(name):
    assert_agree(name, *TERNARY[name])


@pytest.mark.parametrize("name", ["and", "or", "xor", "not"])
def test_conditions_agree_with_the_primitive(name):
    function = {"and": jnp.logical_and, "or": jnp.logical_or, "xor": jnp.logical_xor,
                "not": jnp.logical_not}[name]  # fmt: skip
    for algebra in ARITHMETICS.values():
        for a in (False, True):
            for b in (False, True):
                operands = (a,) if name == "not" else (a, b)
                assert algebra.rules[name](*operands) == bool(function(*operands))


# Independently of float64: digits that only hold if the whole function was computed in 640 bits.
IDENTITIES = {
    "exp and log": (lambda f, x: f.log(f.exp(x)), lambda x: x),
    "expm1 and log1p": (lambda f, x: f.log1p(f.expm1(x)), lambda x: x),
    "sin and asin": (lambda f, x: f.asin(f.sin(x)), lambda x: x),
    "cos and acos": (lambda f, x: f.acos(f.cos(x)), lambda x: x),
    "tan and atan": (lambda f, x: f.atan(f.tan(x)), lambda x: x),
    "sinh and asinh": (lambda f, x: f.asinh(f.sinh(x)), lambda x: x),
    "cosh and acosh": (lambda f, x: f.acosh(f.cosh(x)), lambda x: x),
    "tanh and atanh": (lambda f, x: f.atanh(f.tanh(x)), lambda x: x),
    "cbrt": (lambda f, x: f.cbrt(x * x * x), lambda x: x),
    "sqrt and rsqrt": (lambda f, x: f.sqrt(x) * f.rsqrt(x), lambda x: 1),
    "erf and erf_inv": (lambda f, x: f.erf_inv(f.erf(x)), lambda x: x),
    "erf and erfc": (lambda f, x: f.erf(x) + f.erfc(x), lambda x: 1),
    "lgamma": (lambda f, x: f.exp(f.lgamma(x + 1) - f.lgamma(x)), lambda x: x),
    "digamma": (lambda f, x: 1 / (f.digamma(x + 1) - f.digamma(x)), lambda x: x),
    "igamma": (lambda f, x: f.igamma(x, x) + f.igammac(x, x), lambda x: 1),
    "logistic": (lambda f, x: f.logistic(x) + f.logistic(-x), lambda x: 1),
    "pow": (lambda f, x: f.pow(f.pow(x, x), 1 / x), lambda x: x),
    "exp2 and log2": (lambda f, x: f.log2(f.exp2(x)), lambda x: x),
}


@pytest.mark.parametrize("kind", ARITHMETICS)
@pytest.mark.parametrize("name", IDENTITIES)
def test_functions_are_computed_in_all_digits(name, kind):
    algebra, (left, right) = ARITHMETICS[kind], IDENTITIES[name]
    functions = types.SimpleNamespace(**algebra.rules)
    with algebra.active():
        x = algebra.number(0.8125) / algebra.number(1.3)
        # An inverse loses the digits that its function has too few of: less than 20 bits here.
        assert abs(left(functions, x) - right(x)) < algebra.scaled(algebra.number(1.0), -BITS + 20)


@pytest.mark.parametrize("kind", ARITHMETICS)
def test_numbers_are_exact_and_shift_exactly(kind):
    algebra = ARITHMETICS[kind]
    for value in (0.1, -3.0, 1e300, 5e-324):
        number = algebra.number(value)
        assert float(number) == value
        with algebra.active():
            assert algebra.scaled(algebra.scaled(number, -3000), 3000) == number
            assert abs(algebra.scaled(number, -3000)) > 0
    for value in (inf, -inf, nan):
        assert not algebra.finite(algebra.number(value))
    lifted = algebra.lifted(np.array([[0.1, 2.0]], np.float32))
    assert lifted.shape == (1, 2)
    assert float(lifted[0, 0]) == float(np.float32(0.1))
    assert algebra.lifted(1.5).shape == ()


@pytest.mark.parametrize("kind", ARITHMETICS)
def test_exponentials_beyond_all_numbers_are_infinite_or_zero(kind):
    algebra = ARITHMETICS[kind]
    with algebra.active():
        huge = algebra.scaled(algebra.number(1.0), 300_000)
        assert algebra.rules["exp"](huge) == algebra.number(inf)
        assert algebra.rules["exp"](-huge) == 0
        large = algebra.rules["exp"](algebra.number(1e6))
        assert algebra.finite(large)
        assert abs(algebra.rules["log"](large) - 1_000_000) < 1e-180


@pytest.mark.parametrize("kind", ARITHMETICS)
def test_products_of_matrices_are_sums_of_products(kind):
    algebra = ARITHMETICS[kind]
    left, right = random.normal(size=(2, 3, 4)), random.normal(size=(2, 4, 5))
    with algebra.active():
        found = algebra.matmul(algebra.lifted(left), algebra.lifted(right))
        assert found.shape == (2, 3, 5)
        np.testing.assert_allclose(found.astype(float), left @ right, rtol=1e-13)
        empty = algebra.matmul(algebra.lifted(left[:, :, :0]), algebra.lifted(right[:, :0]))
        assert empty.shape == (2, 3, 5)
        assert all(entry == 0 for entry in empty.flat)


def test_the_precision_of_the_thread_is_left_as_it_was():
    gmpy2 = pytest.importorskip("gmpy2")
    algebra = multiprecision.GmpyAlgebra(BITS)

    def check():
        before = gmpy2.get_context().precision
        with algebra.active():
            assert gmpy2.get_context().precision == BITS
            with algebra.wider(2 * BITS).active():
                assert gmpy2.get_context().precision == 2 * BITS
            assert gmpy2.get_context().precision == BITS
            with pytest.raises(ZeroDivisionError):
                raise ZeroDivisionError
        assert gmpy2.get_context().precision == before
        done.append(True)

    done = []
    check()
    thread = threading.Thread(target=check)
    thread.start()
    thread.join()
    assert len(done) == 2
    assert mpmath.mp.prec == 53


def test_without_gmpy2_the_arithmetic_is_that_of_mpmath(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(multiprecision.importlib, "import_module", missing)
    assert isinstance(multiprecision.arithmetic(BITS), MpmathArithmetic)
