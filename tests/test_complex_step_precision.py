"""The complex step against definitions and gradients of fifty digits, at the promised precision."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax import lax

import diffcompare as dc
from diffcompare.numerical.complex_step import ComplexStep

METHOD = ComplexStep()
# What is promised, times the largest gradient: 4 eps in float64, and 1e-6 in float32.
PROMISE = {"float64": 4 * 2.0**-52, "float32": 1e-6}
GRID = np.array(
    [-300, -30, -8, -4, -2.5, -1.25, -0.7, -1e-3, -1e-9, -1e-30,
     1e-30, 1e-9, 1e-3, 0.3, 0.7, 1.25, 2.5, 4, 8, 30, 300]
)  # fmt: skip

_SELU = (1.0507009873554805, 1.6732632423543772)
_relu = lambda x: x if x > 0 else mp.mpf(0)
_relu6 = lambda x: min(max(x, 0), 6)
_sigmoid = lambda x: 1 / (1 + mp.exp(-x))
_elu = lambda x: x if x > 0 else mp.expm1(x)
_softplus = lambda x: mp.log1p(mp.exp(x))
_sparse_plus = lambda x: 0 if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4
# The functions of jax.nn as they are defined; jax.nn rounds the constants of selu and gelu.
DEFINITIONS = {
    "celu": _elu,
    "elu": _elu,
    "gelu": lambda x: x * (1 + mp.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "hard_sigmoid": lambda x: _relu6(x + 3) / 6,
    "hard_silu": lambda x: x * _relu6(x + 3) / 6,
    "hard_swish": lambda x: x * _relu6(x + 3) / 6,
    "hard_tanh": lambda x: min(max(x, -1), 1),
    "identity": lambda x: x,
    "leaky_relu": lambda x: x if x >= 0 else mp.mpf(0.01) * x,
    "log_sigmoid": lambda x: -_softplus(-x),
    "mish": lambda x: x * mp.tanh(_softplus(x)),
    "relu": _relu,
    "relu6": _relu6,
    "selu": lambda x: _SELU[0] * (x if x > 0 else _SELU[1] * mp.expm1(x)),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "soft_sign": lambda x: x / (1 + abs(x)),
    "softplus": _softplus,
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": lambda x: min(max((x + 1) / 2, 0), 1),
    "squareplus": lambda x: (x + mp.sqrt(x * x + 4)) / 2,
    "swish": lambda x: x * _sigmoid(x),
    "tanh": mp.tanh,
}


def _activations():
    """Returns every public function of jax.nn that maps one array to another like it."""
    found = {}
    for name, fun in inspect.getmembers(jax.nn, callable):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = jax.eval_shape(fun, jax.ShapeDtypeStruct((4,), jnp.float32))
        except (TypeError, ValueError):  # it takes other arguments
            continue
        if jax.tree.structure(out) == jax.tree.structure(0) and out.shape == (4,):
            found[name] = fun
    return found


ACTIVATIONS = _activations()
LIKE_SUMS = {"softmax", "log_softmax", "standardize", "normalize", "log1mexp", "logmeanexp"}


def derivative(definition, x):
    with mp.workdps(60):
        # Small beside the smallest distance to a kink in the grid.
        return float(mp.diff(definition, mp.mpf(float(x)), h=mp.mpf(10) ** -40))


def slope(fun, x, v):
    return jax.jit(lambda x, v: METHOD.jvp(fun, x, v))(x, v)[1]


def largest_error(found, truth):
    """Returns the largest error of any entry over the largest entry of the truth."""
    found, truth = (
        np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])
        for tree in (found, truth)
    )
    return np.abs(found - truth).max() / np.abs(truth).max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_an_activation_has_the_slope_of_its_definition(name, dtype):
    x = GRID.astype(dtype)
    truth = np.array([derivative(DEFINITIONS[name], p) for p in x])
    found = slope(getattr(jax.nn, name), x, np.ones_like(x))
    assert found.dtype == dtype
    assert largest_error(found, truth) <= PROMISE[dtype]


def test_the_exact_gelu_has_the_slope_of_its_definition():
    fun = lambda x: jax.nn.gelu(x, approximate=False)
    truth = [derivative(lambda x: x * mp.ncdf(x), p) for p in GRID]
    assert (
        largest_error(slope(fun, GRID, np.ones_like(GRID)), np.array(truth)) <= PROMISE["float64"]
    )


def test_every_activation_of_jax_is_in_the_table():
    assert ACTIVATIONS.keys() - LIKE_SUMS == DEFINITIONS.keys()


@pytest.mark.parametrize("name", sorted(LIKE_SUMS & ACTIVATIONS.keys()))
def test_the_other_functions_of_an_array_have_the_slope_of_forward_mode(name):
    x = np.array([0.25, 3.0, 1.5])
    v = np.array([1.0, -2.0, 0.5])
    truth = jax.jvp(ACTIVATIONS[name], (x,), (v,))[1]
    assert largest_error(slope(ACTIVATIONS[name], x, v), truth) <= 2 * PROMISE["float64"]


@pytest.mark.parametrize("name", DEFINITIONS)
def test_at_zero_an_activation_has_the_slope_from_the_right(name):
    found = slope(getattr(jax.nn, name), np.zeros(1), np.ones(1))
    # Beside zero the derivatives change by no more than that. selu compares, and takes a branch.
    side = derivative(DEFINITIONS[name], -1e-30 if name == "selu" else 1e-30)
    assert abs(found[0] - side) <= 2 * PROMISE["float64"]


def test_relu_at_zero_has_the_slope_one_of_the_lecture():
    """Lecture row 31."""
    assert dc.grad(jax.nn.relu, method=METHOD)(0.0) == 1


_rng = np.random.default_rng(0)
_array = lambda *shape: _rng.normal(size=shape)
_exp, _sqrt, _sin, _tanh, _log = (
    np.frompyfunc(fun, 1, 1) for fun in (mp.exp, mp.sqrt, mp.sin, mp.tanh, mp.log)
)


class _Exact:
    """The functions of `jnp` that the models need, on arrays of numbers of fifty digits."""

    exp, sqrt, sin, tanh, log = map(staticmethod, (_exp, _sqrt, _sin, _tanh, _log))
    sum, mean, stack, einsum = map(staticmethod, (np.sum, np.mean, np.stack, np.einsum))
    softmax = staticmethod(lambda x: _exp(x) / np.sum(_exp(x), -1, keepdims=True))
    norm = staticmethod(lambda x: _sqrt(np.sum(x * x, -1)))
    logsumexp = staticmethod(lambda x: _log(np.sum(_exp(x), -1)))
    var = staticmethod(lambda x: np.mean(x * x, -1) - np.mean(x, -1) ** 2)
    std = staticmethod(lambda x: _sqrt(_Exact.var(x)))
    hidden = staticmethod(lambda scores, mask: np.where(mask, scores, mp.mpf(-1000)))


class _Float:
    """The same functions in JAX."""

    exp, sqrt, sin, tanh = jnp.exp, jnp.sqrt, jnp.sin, jnp.tanh
    sum, mean, stack, einsum = jnp.sum, jnp.mean, jnp.stack, jnp.einsum
    softmax = staticmethod(lambda x: jax.nn.softmax(x, -1))
    norm = staticmethod(lambda x: jnp.linalg.norm(x, axis=-1))
    logsumexp = staticmethod(lambda x: jax.nn.logsumexp(x, -1))
    var = staticmethod(lambda x: jnp.var(x, -1))
    std = staticmethod(lambda x: jnp.std(x, -1))
    hidden = staticmethod(lambda scores, mask: jnp.where(mask, scores, -jnp.inf))


def _layer_norm(m, x):
    centred = x - m.mean(x, -1, keepdims=True)
    return m.sum((centred / m.sqrt(m.mean(centred**2, -1, keepdims=True) + 1e-5)) ** 3)


def _attention(m, p):
    scores = m.einsum("bthd,bshd->bhts", p["q"], p["k"]) / 2
    shares = m.softmax(m.hidden(scores, np.tri(scores.shape[-1], dtype=bool)[None, None]))
    return m.sum(m.einsum("bhts,bshd->bthd", shares, p["v"]) ** 2)


def _recurrent(m, p):
    def step(h, x):
        h = m.tanh(m.einsum("ij,j->i", p["w"], h) + x)
        return h, m.sum(h * h)

    h, squares = p["x"][0] * 0, []
    if m is _Float:
        h, squares = lax.scan(step, h, p["x"])
    else:
        for x in p["x"]:
            h, square = step(h, x)
            squares.append(square)
    return m.sum(h) + m.sum(squares)


def _loop(m, x):
    if m is _Float:
        body = lambda carry: (carry[0] + 1, jnp.sin(carry[1]) * x + carry[1])
        return jnp.sum(lax.while_loop(lambda carry: carry[0] < 5, body, (0, x))[1])
    y = x
    for _ in range(5):
        y = _sin(y) * x + y
    return np.sum(y)


_QKV = {"q": _array(1, 4, 2, 3), "k": _array(1, 4, 2, 3), "v": _array(1, 4, 2, 3)}
MODELS = {
    "logsumexp": (lambda m, x: m.sum(m.logsumexp(x) ** 2), _array(3, 5)),
    "softmax": (lambda m, x: m.sum(m.softmax(x) ** 2), _array(3, 5)),
    "norm": (lambda m, x: m.sum(m.norm(x) ** 3), _array(3, 5)),
    "var": (lambda m, x: m.sum(m.var(x)), _array(3, 5)),
    "std": (lambda m, x: m.sum(m.std(x)), _array(3, 5)),
    "layer norm": (_layer_norm, _array(3, 5)),
    "attention": (_attention, _QKV),
    "scan": (_recurrent, {"w": 0.5 * _array(3, 3), "x": _array(5, 3)}),
    "while": (_loop, _array(6)),
}


def _exact_gradient(model, x):
    """Returns the gradient at the rounded argument, by differences of numbers of fifty digits."""
    with mp.workdps(50):
        h = mp.mpf(10) ** -20
        leaves, treedef = jax.tree.flatten(x)
        leaves = [np.vectorize(lambda v: mp.mpf(float(v)), [object])(leaf) for leaf in leaves]

        def slope(position, index):
            values = []
            for sign in (1, -1):
                moved = [leaf.copy() for leaf in leaves]
                moved[position][index] += sign * h
                values.append(model(_Exact, jax.tree.unflatten(treedef, moved)))
            return float((values[0] - values[1]) / (2 * h))

        return [
            np.array([slope(i, index) for index in np.ndindex(leaf.shape)])
            for i, leaf in enumerate(leaves)
        ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_gradient_of_fifty_digits(name, dtype):
    model, argument = MODELS[name]
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), argument)
    fun = lambda x: model(_Float, x)
    value, found = dc.value_and_grad(fun, method=METHOD)(x)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(dtype)}
    assert np.isclose(value, jax.jit(fun)(x), rtol=4 * float(jnp.finfo(dtype).eps))
    assert largest_error(found, _exact_gradient(model, x)) <= PROMISE[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_convolutional_network_has_the_gradient_of_reverse_mode_in_float64(dtype):
    def fun(p):
        numbers = ("NHWC", "HWIO", "NHWC")
        out = lax.conv_general_dilated(p["x"], p["w"], (1, 1), "SAME", dimension_numbers=numbers)
        window = ((1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        out = jax.nn.relu(out)
        largest = lax.reduce_window(out, np.asarray(-np.inf, out.dtype), lax.max, *window)
        mean = lax.reduce_window(out, np.asarray(0, out.dtype), lax.add, *window)
        return jnp.sum(largest**2) + jnp.sum(mean)

    wide = {"x": _array(2, 6, 6, 3), "w": _array(3, 3, 3, 4)}
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), wide)
    truth = jax.grad(fun)(jax.tree.map(lambda leaf: leaf.astype(jnp.float64), x))
    assert largest_error(dc.grad(fun, method=METHOD)(x), truth) <= PROMISE[dtype]


def test_the_attention_of_jax_has_the_gradient_of_attention():
    def attention(p):
        # jax.nn mixes float32 and float64 in it.
        with jax.numpy_dtype_promotion("standard"):
            out = jax.nn.dot_product_attention(p["q"], p["k"], p["v"], scale=0.5, is_causal=True)
        return jnp.sum(out**2)

    truth = _exact_gradient(_attention, _QKV)
    # Its softmax is rounded to float32, in a dtype of its own; the gradient is not.
    assert largest_error(jax.grad(attention)(_QKV), truth) > 1e-9
    assert largest_error(dc.grad(attention, method=METHOD)(_QKV), truth) <= PROMISE["float64"]
