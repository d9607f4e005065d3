"""Symbolic derivatives are those of JAX and of a derivation by hand."""

import itertools
import subprocess
import sys
import warnings

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy
from jax import lax

from diffcompare import operators
from diffcompare._jaxpr import walk
from diffcompare.symbolic import Convention, Symbolic, evaluation, expression, operations

ROUTES = ("program", "expression")
EPS = np.finfo(np.float64).eps


def grad(fun, route="program", convention=None):
    return operators.grad(fun, method=Symbolic(route, convention))


def rng(seed=0):
    return np.random.default_rng(seed)


# Every elementwise rule: the JAX function, and points in its domain. Where a kink is among the
# points, what stands there is tested further below as well.
LINE = (-2.5, -1.0, -0.3, 0.0, 0.7, 1.0, 3.0)
POSITIVE = (0.1, 0.7, 1.0, 4.5)
UNIT = (-0.9, -0.2, 0.0, 0.5)
UNARY = {
    "neg": (jnp.negative, LINE),
    "square": (jnp.square, LINE),
    "integer_pow": (lambda x: x**3, LINE),
    "integer_pow negative": (lambda x: x**-2, (-2.0, -0.5, 1.5)),
    "pow literal": (lambda x: x**2.5, POSITIVE),
    "pow literal integer": (lambda x: x**3.0, LINE),
    "pow literal base": (lambda x: 1.5**x, LINE),
    "sqrt": (jnp.sqrt, POSITIVE),
    "rsqrt": (lax.rsqrt, POSITIVE),
    "cbrt": (jnp.cbrt, (-8.0, -0.3, 0.5, 3.0)),
    "exp": (jnp.exp, LINE),
    "exp2": (jnp.exp2, LINE),
    "expm1": (jnp.expm1, (*LINE, 1e-9)),
    "log": (jnp.log, POSITIVE),
    "log1p": (jnp.log1p, (-0.9, -1e-9, 0.0, 2.0)),
    "log2": (jnp.log2, POSITIVE),
    "tanh": (jnp.tanh, LINE),
    "logistic": (jax.nn.sigmoid, (*LINE, 30.0, -30.0)),
    "sin": (jnp.sin, LINE),
    "cos": (jnp.cos, LINE),
    "tan": (jnp.tan, LINE),
    "asin": (jnp.arcsin, UNIT),
    "acos": (jnp.arccos, UNIT),
    "atan": (jnp.arctan, LINE),
    "sinh": (jnp.sinh, LINE),
    "cosh": (jnp.cosh, LINE),
    "asinh": (jnp.arcsinh, LINE),
    "acosh": (lax.acosh, (1.1, 2.0, 5.0)),
    "atanh": (jnp.arctanh, UNIT),
    "erf": (lax.erf, LINE),
    "erfc": (lax.erfc, LINE),
    "erf_inv": (lax.erf_inv, UNIT),
    "lgamma": (lax.lgamma, (-1.5, -0.3, 0.4, 3.2)),
    "digamma": (lax.digamma, (0.4, 1.3, 3.2)),
    "abs": (jnp.abs, LINE),
    "bessel_i0e": (lax.bessel_i0e, LINE),
    "bessel_i1e": (lax.bessel_i1e, LINE),
    "polygamma": (lambda x: lax.polygamma(jnp.full_like(x, 2.0), x), (0.4, 1.3, 3.2)),
    "zeta": (lambda x: jax.scipy.special.zeta(jnp.full_like(x, 2.5), x), (0.4, 1.3, 3.2)),
    "igamma": (lambda x: lax.igamma(jnp.full_like(x, 1.7), x), POSITIVE),
    "igammac": (lambda x: lax.igammac(jnp.full_like(x, 1.7), x), POSITIVE),
    "regularized_incomplete_beta": (
        lambda x: lax.betainc(jnp.full_like(x, 1.5), jnp.full_like(x, 2.5), x),
        (0.1, 0.5, 0.8),
    ),
    "sign": (jnp.sign, LINE),
    "floor": (jnp.floor, LINE),
    "ceil": (jnp.ceil, LINE),
    "round": (jnp.round, (*LINE, 0.5, 1.5, -0.5)),
    "round away": (lax.round, (*LINE, 0.5, 1.5, -0.5)),
    "clamp": (lambda x: lax.clamp(-1.0, x, 1.0), LINE),
    "stop_gradient": (lax.stop_gradient, LINE),
    "relu": (jax.nn.relu, LINE),
    "relu6": (jax.nn.relu6, (*LINE, 6.0, 7.0)),
    "max": (lambda x: jnp.maximum(x, 0.0), LINE),
    "max other side": (lambda x: jnp.maximum(1.0, x), LINE),
    "min": (lambda x: jnp.minimum(x, 1.0), LINE),
    "logaddexp": (lambda x: jnp.logaddexp(x, 0.5), (*LINE, 800.0, -800.0)),
    "one_minus_square": (getattr(lax, "one_minus_square", lambda x: 1 - x * x), LINE),
    "polynomial": (lambda x: jnp.polyval(jnp.array([2.0, -3.0, 0.5]), x), LINE),
    "copy": (lambda x: jnp.array(x, copy=True), LINE),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 8, 23), LINE),
    "convert": (lambda x: x.astype(jnp.float32).astype(jnp.float64), LINE),
    "select": (lambda x: jnp.where(x > 0, x * x, -x), LINE),
    "leaky relu": (jax.nn.leaky_relu, LINE),
    "softplus": (jax.nn.softplus, (*LINE, 50.0, -50.0)),
    "silu": (jax.nn.silu, LINE),
    "gelu": (jax.nn.gelu, LINE),
    "exact gelu": (lambda x: jax.nn.gelu(x, approximate=False), LINE),
    "elu": (jax.nn.elu, LINE),
    "selu": (jax.nn.selu, LINE),
    "clip": (lambda x: jnp.clip(x, -1, 1), LINE),
    "log sigmoid": (jax.nn.log_sigmoid, (*LINE, 50.0, -50.0)),
    "soft sign": (jax.nn.soft_sign, LINE),
    "hard tanh": (jax.nn.hard_tanh, (-2.0, -0.5, 0.5, 3.0)),
    "mish": (jax.nn.mish, LINE),
}
BINARY = {
    "add": (jnp.add, LINE, LINE),
    "add_any": (lambda a, b: a + b, LINE, LINE),
    "sub": (jnp.subtract, LINE, LINE),
    "mul": (jnp.multiply, LINE, LINE),
    "div": (jnp.divide, LINE, (-2.0, 0.5, 3.0)),
    "pow": (lax.pow, POSITIVE, LINE),
    "pow of zero": (lax.pow, (0.0,), (2.0, 3.5)),
    "atan2": (jnp.arctan2, LINE, (-2.0, 0.5, 3.0)),
    "rem": (lax.rem, (-2.7, -0.5, 5.3), (-2.0, 0.75, 3.0)),
    "max": (jnp.maximum, LINE, LINE),
    "min": (jnp.minimum, LINE, LINE),
    "logaddexp": (jnp.logaddexp, LINE, LINE),
    "logaddexp2": (jnp.logaddexp2, LINE, LINE),
    "igamma": (lax.igamma, POSITIVE, POSITIVE),
    "xlogy": (jax.scipy.special.xlogy, LINE, POSITIVE),
    "xlog1py": (jax.scipy.special.xlog1py, LINE, POSITIVE),
}
# Operands that are written into the function, where SymPy might simplify what floating point
# does not, such as 0 / x at 0.
LITERALS = (0.0, 1.0, -1.0, 2.0, -2.5, float("inf"), float("nan"))
# Second-hand formulas: JAX writes erf_inv' with exp(erf_inv**2), digamma by series, and so on.
TOLERANCE = 64 * EPS


def close(found, truth):
    np.testing.assert_allclose(found, truth, rtol=TOLERANCE, atol=4 * EPS)


@pytest.mark.parametrize("name", UNARY)
def test_a_function_of_one_number_has_the_value_and_the_derivative_of_jax(name):
    fun, points = UNARY[name]
    x = jnp.asarray(points)
    value, pullback = Symbolic().vjp(fun, x)
    truth, truth_pullback = jax.vjp(fun, x)
    if name == "zeta":  # JAX compiles it with its derivative, and rounds otherwise
        close(value, truth)
    else:
        assert value.tolist() == truth.tolist()
    close(pullback(jnp.ones_like(x)), truth_pullback(jnp.ones_like(x))[0])
    close(Symbolic().jvp(fun, x, jnp.ones_like(x))[1], truth_pullback(jnp.ones_like(x))[0])


@pytest.mark.parametrize("name", BINARY)
def test_a_function_of_two_numbers_has_the_derivatives_of_jax(name):
    fun, left, right = BINARY[name]
    a, b = (jnp.ravel(z) for z in np.meshgrid(left, right))
    of_pair = lambda pair: fun(*pair)
    value, pullback = Symbolic().vjp(of_pair, (a, b))
    truth, truth_pullback = jax.vjp(of_pair, (jnp.asarray(a), jnp.asarray(b)))
    close(value, truth)  # a compiled function is rounded otherwise, where it is fused
    for found, expected in zip(
        pullback(jnp.ones_like(a)), truth_pullback(jnp.ones_like(a))[0], strict=True
    ):
        close(found, expected)


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_one_expression_has_the_value_and_the_derivatives_of_jax(name):
    fun, *points = UNARY[name] if name in UNARY and name not in BINARY else BINARY[name]
    point = jnp.asarray([each[-1] for each in points]), jnp.asarray([each[0] for each in points])
    for x in point:
        of_vector = lambda x: fun(*x)
        truth = jax.grad(of_vector)(x)
        close(grad(of_vector, "expression")(x), truth)


@pytest.mark.parametrize("literal", LITERALS)
def test_a_literal_operand_changes_no_derivative(literal):
    x = jnp.asarray([-3.0, -1.0, -0.5, 0.5, 1.0, 2.0])
    y = jnp.asarray([*x, 0.0])
    for fun, points in [
        (lambda x: x * literal, y),
        (lambda x: literal - x, y),
        (lambda x: x / literal, y),
        (lambda x: literal / x, y),
        (lambda x: lax.rem(x, jnp.full_like(x, literal)), y),
        (lambda x: jnp.arctan2(x, literal), y),
        (lambda x: jnp.arctan2(literal, x), y),
        (lambda x: jnp.maximum(x, literal), y),
        (lambda x: jnp.minimum(literal, x), y),
        (lambda x: lax.pow(x, jnp.full_like(x, literal)), x),
        (lambda x: lax.pow(jnp.full_like(x, literal), x), x[3:]),
    ]:
        value = lambda x, fun=fun: jnp.sum(fun(x))
        close(grad(value)(points), jax.grad(value)(points))


def test_a_function_of_numbers_is_a_number():
    rows = operations.elementwise(Convention.jax())
    for number in ("-5/2", "-1/2", "0", "1/2", "3/2", "7"):
        exact = sympy.Rational(number)
        for name, fun in [
            ("relu", jax.nn.relu),
            ("relu6", jax.nn.relu6),
            ("abs", jnp.abs),
            ("sign", jnp.sign),
            ("floor", jnp.floor),
            ("ceil", jnp.ceil),
            ("tanh", jnp.tanh),
            ("logistic", jax.nn.sigmoid),
            ("expm1", jnp.expm1),
            ("cbrt", jnp.cbrt),
        ]:
            close(float(rows[name](exact)), fun(jnp.asarray(float(exact))))
        for method, fun in [(1, jnp.round), (0, lax.round)]:
            found = rows["round"](exact, rounding_method=method)
            assert float(found) == float(fun(jnp.asarray(float(exact))))
        for name, fun in [("max", jnp.maximum), ("min", jnp.minimum), ("logaddexp", jnp.logaddexp),
                          ("rem", lax.rem)]:  # fmt: skip
            close(float(rows[name](exact, sympy.S(2))), fun(jnp.asarray(float(exact)), 2.0))


def test_the_expression_of_an_operation_has_the_value_of_the_operation():
    rows = operations.elementwise(Convention.jax())
    for name, (fun, points) in UNARY.items():
        if name not in rows or name in ("integer_pow", "round", "clamp", "max", "min", "polynomial",
                                        "logaddexp", "polygamma", "zeta", "igamma", "igammac",
                                        "regularized_incomplete_beta"):  # fmt: skip
            continue
        symbol = sympy.Dummy("x", real=True)
        values = {symbol: jnp.asarray(points)}
        close(evaluation.evaluate(rows[name](symbol), values, jnp.float64), fun(values[symbol]))


def test_every_elementwise_rule_has_a_row_in_these_tables():
    tested = {*UNARY, *BINARY, "igamma_grad_a"}  # of which JAX has no derivative; see below
    assert set(operations.elementwise(Convention.jax())) <= tested


def test_the_slope_of_the_incomplete_gamma_function_by_its_parameter_has_a_slope():
    # The order of two derivatives does not matter: that of the density by its parameter.
    density = lambda a, x: jnp.exp(-x + (a - 1) * jnp.log(x) - lax.lgamma(a))
    for x in POSITIVE:
        found = grad(lambda x: lax.igamma_grad_a(jnp.asarray(1.7), x))(jnp.asarray(x))
        close(found, jax.grad(density)(1.7, x))


# The lecture's numbers.


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("relu", [jax.nn.relu, lambda z: jnp.maximum(0, z)])
def test_the_scalar_example_gives_80_and_40_exactly(route, relu):
    """Lecture row 31."""
    loss = lambda w1, w2: jnp.square(w2 * relu(w1 * 5.0) - 2.0) / 2
    both = operators.grad(loss, (0, 1), method=Symbolic(route))
    assert [float(g) for g in both(1.0, 2.0)] == [80.0, 40.0]


@pytest.mark.parametrize("route", ROUTES)
def test_the_convention_says_what_the_derivative_is_at_a_kink(route):
    """Lecture row 30."""
    lecture = Convention.lecture()
    kinks = {
        jax.nn.relu: (0.0, 1.0),
        jax.nn.relu6: (0.0, 1.0),
        jnp.abs: (1.0, 1.0),
        jax.nn.leaky_relu: (1.0, 1.0),
        (lambda x: jnp.maximum(x, 0)): (0.5, 1.0),
        (lambda x: jnp.maximum(0, x)): (0.5, 1.0),
        (lambda x: jnp.maximum(x, 2 * x)): (1.5, 1.5),
        (lambda x: jnp.minimum(x, 0)): (0.5, 0.5),
    }
    for fun, (of_jax, of_lecture) in kinks.items():
        zero = jnp.asarray(0.0)
        assert float(jax.grad(fun)(zero)) == of_jax
        assert float(grad(fun, route)(zero)) == of_jax
        assert float(grad(fun, route, lecture)(zero)) == of_lecture


@pytest.mark.parametrize("route", ROUTES)
def test_a_tie_of_three_is_shared_by_three(route):
    x = jnp.asarray([1.0, 1.0, 0.0, 1.0])
    assert grad(jnp.max, route)(x).tolist() == jax.grad(jnp.max)(x).tolist()
    assert grad(lambda x: jnp.min(-x), route)(x).tolist() == (-jax.grad(jnp.max)(x)).tolist()


# Networks.

ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}
LOSSES = {
    "half squared error": lambda scores, y: jnp.sum(
        optax.l2_loss(scores, jax.nn.one_hot(y, 4, dtype=scores.dtype))
    ),
    "cross-entropy of labels": lambda scores, y: jnp.mean(
        optax.softmax_cross_entropy_with_integer_labels(scores, y)
    ),
    "cross-entropy of shares": lambda scores, y: jnp.mean(
        optax.softmax_cross_entropy(scores, jax.nn.one_hot(y, 4, dtype=scores.dtype))
    ),
    "log softmax": lambda scores, y: -jnp.sum(jax.nn.log_softmax(scores)[:, 0]),
    "softmax": lambda scores, y: jnp.sum(jax.nn.softmax(scores)[:, 1] ** 2),
}


def network(sizes, batch, seed=0, scale=1.0):
    numbers = rng(seed)
    params = [
        {"w": jnp.asarray(numbers.normal(size=(m, n)) * scale), "b": jnp.zeros(m) + 0.1}
        for n, m in itertools.pairwise(sizes)
    ]
    x = jnp.asarray(numbers.normal(size=(batch, sizes[0])))
    return params, x, jnp.asarray(numbers.integers(0, sizes[-1], batch))


def scores_of(params, x, activation):
    for layer in params[:-1]:
        x = activation(x @ layer["w"].T + layer["b"])
    return x @ params[-1]["w"].T + params[-1]["b"]


def loss_of(activation, loss, x, y):
    with_rank = lambda params: [{"w": layer["w"], "b": layer["b"][None, :]} for layer in params]
    return lambda params: loss(scores_of(with_rank(params), x, activation), y)


# Three layers do all that two do; of two, every activation and every loss comes once.
NETWORKS = [
    (layers, activation, loss)
    for layers in (2, 3)
    for activation in ACTIVATIONS
    for loss in LOSSES
    if layers == 3 or activation == "tanh" or loss == "half squared error"
]


@pytest.mark.parametrize(("layers", "activation", "loss"), NETWORKS)
def test_the_gradient_of_a_network_is_that_of_jax(layers, activation, loss):
    params, x, y = network((6, 9, 7, 4) if layers == 3 else (6, 8, 4), batch=5)
    fun = loss_of(ACTIVATIONS[activation], LOSSES[loss], x, y)
    found, truth = jax.jit(lambda p: (grad(fun)(p), jax.grad(fun)(p)))(params)
    # Asked for; a few roundings of each operation, relative to the norm, are far below.
    assert helpers.relative_error(found, truth) < 1e-12


@pytest.mark.parametrize(
    "loss", [name for name in LOSSES if "squared" not in name and name != "softmax"]
)
@pytest.mark.parametrize("scale", [30.0, 300.0])
def test_large_logits_keep_their_gradient(loss, scale):
    logits = jnp.asarray(rng(1).normal(size=(5, 4)) * scale)
    y = jnp.asarray([0, 1, 2, 3, 0])
    fun = lambda scores: LOSSES[loss](scores, y)
    found, truth = grad(fun)(logits), jax.grad(fun)(logits)
    assert np.all(np.isfinite(found))
    assert helpers.relative_error(found, truth) < 1e-12


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_one_expression_of_a_small_network_has_the_gradient_of_jax(loss, activation):
    params, x, _ = network((2, 2, 4), batch=1)
    fun = loss_of(ACTIVATIONS[activation], LOSSES[loss], x, jnp.asarray([2]))
    found = grad(fun, "expression")(params)
    assert helpers.relative_error(found, jax.grad(fun)(params)) < 1e-12


def test_a_network_with_thousands_of_weights_compiles():
    params, x, y = network((64, 100, 10), batch=32)
    fun = loss_of(jnp.tanh, LOSSES["cross-entropy of labels"], x, y)
    found = jax.jit(grad(fun))(params)
    assert helpers.relative_error(found, jax.grad(fun)(params)) < 1e-12


def test_slopes_that_jax_rounds_to_zero_are_kept():
    # 4 exp(-40), exp(-40) and exp(-40), which JAX's 1 - t**2 and e - 1 + 1 cannot hold.
    x = jnp.asarray(20.0)
    for slope, truth in [
        (grad(jnp.tanh)(x), 4 * np.exp(-40.0)),
        (grad(jax.nn.sigmoid)(2 * x), np.exp(-40.0)),
        (grad(jnp.expm1)(-2 * x), np.exp(-40.0)),
    ]:
        # A rounding of the exponent, 40, is 40 roundings of the exponential.
        np.testing.assert_allclose(slope, truth, rtol=40 * EPS)


# Operations on arrays.

matrix = jnp.asarray(rng(2).normal(size=(3, 4)))
other = jnp.asarray(rng(3).normal(size=(4, 2)))
places = jnp.asarray([2, 0, 2])
weights = jnp.arange(1.0, 13).reshape(3, 4)


def rnn(x):
    def step(state, row):
        state = jnp.tanh(0.5 * state + row)
        return state, state * row

    return jnp.sum(jax.lax.scan(step, jnp.zeros(4), x)[1] * weights)


def counted_rnn(x):
    step = lambda state, row: ((state[0] + 1, state[1] * row[0]), state[1])
    (count, last), rows = jax.lax.scan(step, (0, jnp.ones(())), x, reverse=True)
    return last * count.astype(x.dtype) + jnp.sum(rows)


def gram(x):
    return x @ x.T + 2 * jnp.eye(3)


def singular(x):
    u, s, vt = jnp.linalg.svd(x, full_matrices=False)
    return jnp.sum(s**3) + jnp.sum(jnp.cos(u) ** 2) + jnp.sum(jnp.sin(u @ vt))


ARRAYS = {
    "dot product": lambda x: x[0] @ x[1],
    "matrix product": lambda x: jnp.sum((x @ other) ** 2),
    "product with itself": lambda x: jnp.sum((x @ x.T) ** 3),
    "batched product": lambda x: jnp.sum(jnp.einsum("bi,bij->bj", x, jnp.exp(x)[:, :, None]) ** 2),
    "outer product": lambda x: jnp.sum(jnp.outer(x[0], x[1]) * jnp.arange(16.0).reshape(4, 4)),
    "tensor product": lambda x: jnp.sum(jnp.einsum("ai,bj,ij->ab", x, x, jnp.eye(4)) ** 2),
    "sum": lambda x: jnp.sum(x) ** 2,
    "sum over an axis": lambda x: jnp.sum(jnp.sum(x, 0) ** 3),
    "mean": lambda x: jnp.mean(x**2),
    "variance": lambda x: jnp.sum(jnp.var(x, 1)),
    "standard deviation": jnp.std,
    "largest": lambda x: jnp.sum(jnp.max(x, 1) ** 2),
    "smallest": lambda x: jnp.sum(jnp.min(x, 0) ** 2),
    "product": lambda x: jnp.sum(jnp.prod(x, 1)),
    "product with a zero": lambda x: jnp.prod(x.at[0, 1].set(0.0), 1)[0] + jnp.prod(x),
    "norm": jnp.linalg.norm,
    "cumulative sum": lambda x: jnp.sum(jnp.cumsum(x, 1) ** 2),
    "cumulative product": lambda x: jnp.sum(jnp.cumprod(x, 1)),
    "cumulative largest": lambda x: jnp.sum(jax.lax.cummax(x, 0, reverse=True) * weights),
    "cumulative logsumexp": lambda x: jnp.sum(jax.lax.cumlogsumexp(x, 1)),
    "logsumexp": lambda x: jnp.sum(jax.nn.logsumexp(x, 1) ** 2),
    "softmax": lambda x: jnp.sum(jax.nn.softmax(x) * weights),
    "reshape": lambda x: jnp.sum(x.reshape(4, 3) ** 2 @ jnp.arange(3.0)),
    "transpose": lambda x: jnp.sum(jnp.transpose(x) * jnp.arange(12.0).reshape(4, 3)),
    "broadcast": lambda x: jnp.sum(x[:, None, :] * x[None, :, :] * weights[:, None, :]),
    "slice": lambda x: jnp.sum(x[1:, ::2] ** 3),
    "reverse": lambda x: jnp.sum(x[::-1, ::-1] * weights),
    "concatenate": lambda x: jnp.sum(jnp.concatenate([x, x * x], 0)[1:5] ** 2),
    "stack": lambda x: jnp.sum(jnp.stack([x, x * x], 1) ** 2),
    "split": lambda x: jnp.sum(jnp.split(x, 2, axis=1)[1] ** 2),
    "pad": lambda x: jnp.sum(jnp.pad(x, 1)[:2] ** 2),
    "tile": lambda x: jnp.sum(jnp.tile(x, (2, 1)) ** 2 * jnp.arange(6.0)[:, None]),
    "roll": lambda x: jnp.sum(jnp.roll(x, 1, 1) * weights),
    "gather": lambda x: jnp.sum(x[places] * weights),
    "gather beyond the end": lambda x: jnp.nansum(
        x.at[places + 1].get(mode="fill", fill_value=0) * weights
    ),
    "take along an axis": lambda x: jnp.sum(jnp.take_along_axis(x, places[:, None], 1) ** 2),
    "scatter": lambda x: jnp.sum(x.at[0, :2].set(x[1, :2] ** 2) * weights),
    "scatter-add": lambda x: jnp.sum(x.at[places].add(x**2) * weights),
    "dynamic slice": lambda x: jnp.sum(jax.lax.dynamic_slice(x, (1, 1), (2, 2)) ** 2),
    "dynamic update": lambda x: jnp.sum(
        jax.lax.dynamic_update_slice(x, x[:1] ** 2, (2, 0)) * weights
    ),
    "sort": lambda x: jnp.sum(jnp.sort(x, 1) * weights),
    "median": lambda x: jnp.median(x[0]),
    "where": lambda x: jnp.sum(jnp.where(x > 0, x**2, 3 * x)),
    "select of three": lambda x: jnp.sum(
        jax.lax.select_n((x > 0).astype(int) + (x > 1).astype(int), x, x**2, x**3)
    ),
    "clip by arrays": lambda x: jnp.sum(jnp.clip(x, -(x**2) / 4, x**2 / 4) * weights),
    "scan": rnn,
    "scan with a counter": counted_rnn,
    "cond": lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sum, lambda x: jnp.sum(x**2), x),
    "fori": lambda x: jnp.sum(jax.lax.fori_loop(0, 3, lambda _, v: jnp.sin(v) * v, x)),
    "remat": lambda x: jnp.sum(jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)))(x)),
    "argmax": lambda x: x[0, jnp.argmax(x[0])] ** 2,
    "trace": lambda x: jnp.trace(x @ x.T),
    "top k": lambda x: jnp.sum(jax.lax.top_k(x, 2)[0] ** 3),
    "scatter-max": lambda x: jnp.sum(x.at[0, places].max(x[1, :3]) * weights),
    "scatter-max of ties": lambda x: jnp.sum(x.at[0, places].max(x[0, places]) ** 2),
    "scatter-min": lambda x: jnp.sum(x.at[0, places].min(x[1, :3]) * weights),
    "scatter-mul": lambda x: jnp.sum(x.at[0, :2].multiply(x[1, :2], unique_indices=True) * weights),
    "convolution": lambda x: jnp.sum(
        jax.lax.conv(x[None, None], other[None, None, :2], (1, 1), "SAME") ** 3
    ),
    "pooling": lambda x: jnp.sum(
        jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2), (1, 1), "SAME") * weights
    ),
    "cholesky": lambda x: jnp.sum(jnp.linalg.cholesky(gram(x)) ** 3),
    "lu": lambda x: jnp.sum(jax.lax.linalg.lu(x[:, :3])[0] ** 2),
    "lu of a tall matrix": lambda x: jnp.sum(jax.lax.linalg.lu(x.T)[0] ** 2),
    "triangular solve": lambda x: jnp.sum(
        jax.lax.linalg.triangular_solve(gram(x), x, left_side=True, lower=True) ** 2
    ),
    "turned triangular solve": lambda x: jnp.sum(
        jax.lax.linalg.triangular_solve(gram(x), x.T, transpose_a=True, unit_diagonal=True) ** 2
    ),
    "solve": lambda x: jnp.sum(jnp.linalg.solve(gram(x), x) ** 2),
    "inverse": lambda x: jnp.sum(jnp.linalg.inv(x[:, :3]) ** 2),
    "conjugate gradients": lambda x: jnp.sum(
        jax.scipy.sparse.linalg.cg(gram(x), x[:, 0], tol=1e-15)[0] ** 2
    ),
    "qr": lambda x: jnp.sum(jnp.linalg.qr(x.T)[0] * weights.T) + jnp.linalg.qr(x[:, :3])[1][0, 1],
    "eigenvectors": lambda x: jnp.sum(jnp.linalg.eigh(gram(x))[1] ** 2 * weights[:, :3]),
    "eigenvalues": lambda x: jnp.sum(jnp.linalg.eigvalsh(gram(x)) ** 3),
    "singular values": lambda x: jnp.sum(jnp.linalg.svd(x, compute_uv=False) ** 3),
    "singular vectors": lambda x: singular(x) + singular(x.T),
    "pseudo-inverse": lambda x: jnp.sum(jnp.linalg.pinv(x) ** 2),
    "spectrum": lambda x: jnp.sum(jnp.abs(jnp.fft.rfft2(x)) ** 2 * weights[:, :3]),
    "constant": lambda x: jnp.asarray(3.0),
    "itself": lambda x: x[0, 0],
}
FACTORED = {"singular values", "singular vectors", "pseudo-inverse", "eigenvectors", "eigenvalues",
            "solve", "inverse", "conjugate gradients", "lu", "lu of a tall matrix", "cholesky",
            "qr", "triangular solve",
            "turned triangular solve"}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_an_operation_on_arrays_has_the_derivatives_of_jax(name):
    fun = ARRAYS[name]
    direction = jnp.cos(matrix)

    @jax.jit
    def all_three(x):
        return grad(fun)(x), jax.grad(fun)(x), Symbolic().jvp(fun, x, direction)[1]

    found, truth, slope = all_three(matrix)
    # A factorization multiplies roundings by the condition of its matrix, here below 100.
    factor = 100 if name in FACTORED else 1
    np.testing.assert_allclose(found, truth, rtol=factor * TOLERANCE, atol=factor * 4 * EPS)
    # The sum over the entries cancels.
    np.testing.assert_allclose(slope, jnp.vdot(truth, direction), rtol=1e-13, atol=1e-13)


# A formula for every entry of a factorization would fill books.
@pytest.mark.parametrize("name", [name for name in ARRAYS if name not in FACTORED])
def test_one_expression_of_arrays_has_the_derivatives_of_jax(name):
    fun = ARRAYS[name]
    close(grad(fun, "expression")(matrix), jax.grad(fun)(matrix))


@pytest.mark.parametrize("name", ["rnn", "softmax", "product", "gather", "scatter", "cond", "norm",
                                  "matrix product", "sort", "where"])  # fmt: skip
def test_a_second_derivative_is_derived_from_the_first(name):
    fun = ARRAYS.get(name, rnn)
    ours = operators.hessian(fun, method=Symbolic())
    found, truth = jax.jit(lambda x: (ours(x), jax.hessian(fun)(x)))(matrix)
    np.testing.assert_allclose(found, truth, rtol=1e-12, atol=1e-12)


# Structures, dtypes, transformations.


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("dtype", helpers.DTYPES)
def test_results_have_the_structure_and_dtype_of_the_argument(route, dtype):
    x = {
        "a": jnp.ones((2, 1), dtype),
        "b": (None, jnp.zeros((0, 3), dtype)),
        "c": jnp.ones((), dtype),
    }
    fun = lambda t: jnp.sum(jnp.tanh(t["a"])) / 3 + jnp.sum(t["b"][1])
    value, pullback, aux = Symbolic(route).vjp(
        lambda t: (fun(t), {"n": 3, "t": t}), x, has_aux=True
    )
    found = pullback(jnp.ones_like(value))
    assert value.dtype == dtype
    assert aux["n"] == 3
    assert jax.tree.structure(found) == jax.tree.structure(x)
    assert [(g.shape, g.dtype) for g in jax.tree.leaves(found)] == [
        (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(x)
    ]
    assert float(found["c"]) == 0  # the function does not depend on it
    truth = jax.grad(fun)(x)["a"].astype(float)
    np.testing.assert_allclose(
        found["a"].astype(float), truth, rtol=4 * float(jnp.finfo(dtype).eps)
    )


@pytest.mark.parametrize("route", ROUTES)
def test_several_outputs_are_weighted(route):
    fun = lambda x: {"p": x[0] * x[1], "q": jnp.sin(x)}
    x, u = jnp.asarray([2.0, 3.0]), {"p": jnp.asarray(2.0), "q": jnp.asarray([1.0, -1.0])}
    value, pullback = Symbolic(route).vjp(fun, x)
    assert jax.tree.structure(value) == jax.tree.structure(u)
    close(pullback(u), jax.vjp(fun, x)[1](u)[0])
    v = jnp.asarray([0.5, -0.25])
    for found, truth in zip(
        jax.tree.leaves(Symbolic(route).jvp(fun, x, v)),
        jax.tree.leaves(jax.jvp(fun, (x,), (v,))),
        strict=True,
    ):
        close(found, truth)


@pytest.mark.parametrize("route", ROUTES)
def test_what_a_function_closes_over_may_be_traced(route):
    def outer(scale, x):
        return grad(lambda x: jnp.sum(jnp.sin(scale * x)), route)(x)

    x, scales = jnp.asarray([0.5, 1.0]), jnp.asarray([2.0, 3.0])
    truth = scales[:, None] * jnp.cos(scales[:, None] * x[None])
    close(jax.jit(outer)(scales[0], x), truth[0])
    close(jax.vmap(outer, (0, None))(scales, x), truth)
    # The derivative of the derivative by what is closed over.
    slope = jax.jacfwd(outer)(scales[0], x)
    close(slope, jnp.cos(scales[0] * x) - scales[0] * x * jnp.sin(scales[0] * x))


def test_integers_that_a_function_closes_over_may_be_traced():
    logits = jnp.asarray([[1.0, 2.0, 0.5]])

    @jax.jit
    def slope(label):
        loss = optax.softmax_cross_entropy_with_integer_labels
        return grad(lambda z: loss(z, label)[0])(logits)

    close(slope(jnp.asarray([2])), jax.nn.softmax(logits) - jnp.asarray([[0.0, 0, 1]]))


def test_one_expression_cannot_know_a_traced_integer():
    fun = jax.jit(lambda place: grad(lambda x: x[place], "expression")(jnp.ones(3)))
    with pytest.raises(NotImplementedError, match=r"is traced.*route='program'"):
        fun(1)


@pytest.mark.parametrize("route", ROUTES)
def test_a_derivative_maps_over_a_batch(route):
    fun = lambda x: jnp.prod(jnp.tanh(x))
    x = jnp.asarray(rng().normal(size=(5, 3)))
    close(jax.vmap(grad(fun, route))(x), jax.vmap(jax.grad(fun))(x))


def test_under_jit_a_shape_is_derived_once():
    count = []

    def fun(x):
        count.append(x.shape)
        return jnp.sum(jnp.sin(x))

    slope = jax.jit(grad(fun))
    for _ in range(3):
        slope(jnp.ones(2))
    slope(jnp.ones(3))
    assert count == [(2,), (3,)]


def test_the_value_of_a_where_that_is_not_taken_may_be_nan():
    fun = lambda x: jnp.sum(jnp.where(x > 0, x, jnp.nan)[1:])
    for route in ROUTES:
        assert grad(fun, route)(jnp.asarray([-1.0, 2.0])).tolist() == [0.0, 1.0]


# Custom rules and what has none.


def test_a_custom_rule_of_a_user_is_not_consulted():
    @jax.custom_jvp
    def wrong(x):
        return x**2

    wrong.defjvp(lambda primals, tangents: (primals[0] ** 2, tangents[0]))
    for route in ROUTES:
        assert float(grad(wrong, route)(3.0)) == 6.0


def test_a_function_of_a_user_called_relu_is_not_taken_for_the_known_one():
    @jax.custom_jvp
    def relu(x):
        return jnp.minimum(x, 0)

    relu.defjvp(lambda primals, tangents: (relu(*primals), tangents[0]))
    for route in ROUTES:
        assert float(grad(relu, route)(2.0)) == 0.0


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_primitive_is_named_with_its_line(route):
    fun = lambda x: jnp.sum(lax.nextafter(x, 2 * x))
    with pytest.raises(
        walk.UnknownPrimitiveError, match=r"'nextafter', met at .*test_symbolic\.py"
    ):
        grad(fun, route)(jnp.eye(2))


@pytest.mark.parametrize("route", ROUTES)
def test_what_complex_numbers_lack_is_refused_by_name(route):
    # JAX would differentiate through them, and their real part is a floating-point number.
    fun = lambda x: jnp.sum(jnp.abs(jnp.linalg.eigvals(x)))
    with pytest.raises(walk.UnknownPrimitiveError, match=r"complex numbers.*'eig'"):
        grad(fun, route)(jnp.eye(3))


@pytest.mark.parametrize("route", ROUTES)
def test_complex_numbers_may_be_within(route):
    fun = lambda x: jnp.sum(jnp.abs(jnp.fft.fft(x)[1:]) ** 2)
    x = jnp.asarray([1.0, -0.5, 2.0])
    close(grad(fun, route)(x), jax.grad(fun)(x))


@pytest.mark.parametrize("route", ROUTES)
def test_random_numbers_and_printing_may_be_within(route, capsys):
    key = jax.random.key(0)

    def fun(x):
        jax.debug.print("x = {}", x)
        return jnp.sum(jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x**2, 0.0))

    x = jnp.asarray([0.5, -1.0, 2.0])
    close(grad(fun, route)(x), jax.grad(fun)(x))


def squared_until_large(x):
    step = lambda carry: (carry[0] + 1, carry[1] * carry[1] * x[1], jnp.sin(carry[1]))
    count, large, last = lax.while_loop(lambda carry: carry[1] < 50, step, (0, x[0], x[1]))
    return large * last + count.astype(x.dtype) * x[0]


def test_a_loop_of_unknown_length_has_the_derivatives_of_jax():
    x = jnp.asarray([1.7, 1.1])
    # Which JAX knows forwards only. Under jit the number of steps is not known either.
    truth = jax.jacfwd(squared_until_large)(x)
    for found in (grad(squared_until_large)(x), jax.jit(grad(squared_until_large))(x)):
        np.testing.assert_allclose(found, truth, rtol=16 * TOLERANCE)
    slope = Symbolic().jvp(squared_until_large, x, jnp.asarray([1.0, -2.0]))[1]
    np.testing.assert_allclose(slope, truth[0] - 2 * truth[1], rtol=16 * TOLERANCE)
    second = operators.hessian(squared_until_large, method=Symbolic())(x)
    truth = jax.jacfwd(jax.jacfwd(squared_until_large))(x)
    np.testing.assert_allclose(second, truth, rtol=64 * TOLERANCE)


def test_a_loop_that_does_not_run_has_the_derivative_of_its_start():
    assert grad(squared_until_large)(jnp.asarray([60.0, 2.0])).tolist() == [2.0, 60.0]


def test_a_second_derivative_crosses_a_linear_solve():
    fun = lambda a: jnp.sum(jnp.linalg.solve(a @ a.T + jnp.eye(2), a[0]) ** 2)
    a = matrix[:2, :2]
    found = operators.hessian(fun, method=Symbolic())(a)
    np.testing.assert_allclose(found, jax.hessian(fun)(a), rtol=1e-11, atol=1e-11)


def test_the_cholesky_factor_depends_on_the_lower_triangle_alone():
    # JAX 0.10 differentiates as if a change were symmetric, also where only a triangle is read.
    read = lambda a: jnp.sum(lax.linalg.cholesky(a, symmetrize_input=False) ** 3)
    mirrored = lambda a: jnp.sum(jnp.linalg.cholesky(jnp.tril(a) + jnp.tril(a, -1).T) ** 3)
    a = gram(matrix) + jnp.triu(matrix[:, :3], 1)
    np.testing.assert_allclose(grad(read)(a), jax.grad(mirrored)(a), rtol=100 * TOLERANCE)
    slope = Symbolic().jvp(read, a, matrix[:, :3])[1]
    truth = jnp.vdot(jax.grad(mirrored)(a), matrix[:, :3])
    np.testing.assert_allclose(slope, truth, rtol=100 * TOLERANCE)


def test_a_solver_without_a_transpose_is_refused_by_name():
    fun = lambda b: lax.custom_linear_solve(lambda x: 2 * x, b, solve=lambda _, b: b / 2)
    assert float(Symbolic().jvp(fun, 3.0, 1.0)[1]) == 0.5
    with pytest.raises(NotImplementedError, match=r"transpose_solve.*symmetric=True"):
        grad(fun)(3.0)


def test_what_does_not_depend_on_the_argument_needs_no_rule():
    fun = lambda x: jnp.sum(x * jnp.linalg.cholesky(4 * jnp.eye(2)))
    assert grad(fun)(jnp.ones((2, 2))).tolist() == [[2.0, 0.0], [0.0, 2.0]]


def test_an_expression_beyond_its_budget_is_refused():
    params, x, y = network((20, 30, 4), batch=8)
    fun = loss_of(jnp.tanh, LOSSES["softmax"], x, y)
    with pytest.raises(NotImplementedError, match=r"more than 100000 operations.*route='program'"):
        grad(fun, "expression")(params)


def test_a_number_rounded_to_an_integer_is_refused_by_one_expression():
    fun = lambda x: x * x.astype(int).astype(x.dtype)
    with pytest.raises(NotImplementedError, match="cannot round"):
        jax.jit(grad(fun, "expression"))(2.5)
    assert float(grad(fun, "expression")(2.5)) == 2.0
    assert float(grad(fun)(2.5)) == 2.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"route": "magic"}, ValueError, "route must be one of 'auto', 'program', 'expression'"),
        ({"convention": "jax"}, TypeError, "convention must be a Convention.*'jax'"),
    ],
)
def test_a_bad_option_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Symbolic(**arguments)


# Expressions.


def test_the_size_of_an_expression_is_that_of_what_is_written_out():
    x = sympy.Symbol("x", real=True)
    shared = x + 1
    assert expression.size(shared * sympy.sin(shared), {}) == 4
    tower = x
    for _ in range(60):  # 2**60 when written out
        tower = sympy.Add(tower, sympy.sin(tower), evaluate=False)
    assert expression.size(tower, {}) == 2 * (2**60 - 1)


def test_literals_are_the_binary_fractions_that_they_are():
    assert operations.exact(0.1) == sympy.Rational(0.1)
    assert operations.exact(float("-inf")) == -sympy.oo
    assert operations.exact(float("nan")) is operations.NAN


def test_division_by_a_square_does_not_overflow():
    x = sympy.Symbol("x", real=True)
    found = evaluation.evaluate(3 / x**2, {x: jnp.asarray(300, jnp.float16)}, jnp.float16)
    assert float(found) == pytest.approx(3 / 300**2, rel=2e-2)  # subnormal in float16


def test_a_function_without_jax_code_is_named():
    x = sympy.Symbol("x", real=True)
    with pytest.raises(NotImplementedError, match="'besselj'"):
        evaluation.evaluate(sympy.besselj(0, x), {x: jnp.ones(())}, jnp.float64)


def test_importing_the_package_does_not_load_sympy():
    code = "import sys, diffcompare.symbolic; assert 'sympy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_warning_is_given():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grad(ARRAYS["softmax"])(matrix)
