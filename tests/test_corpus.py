"""A hundred functions that users write: right, or refused by name, and never wrong."""

import functools

import corpus
import jax
import numpy as np
import pytest

import diffcompare as dc
from diffcompare._jaxpr import walk

ROUTES = {
    "exact_grad": lambda fun, x: dc.exact_grad(fun, digits=20)(x).grad,
    "program": lambda fun, x: dc.grad(fun, method=dc.Symbolic(route="program"))(x),
    "matrix": lambda fun, x: dc.grad(fun, method=dc.Symbolic(route="matrix"))(x),
}

# Relative to the largest entry of a gradient: what jax.grad itself rounds away, hundreds of
# operations for each entry in float64, and steps of a solver that stops at 1e-12. Lower
# precision rounds at every operation, of which these functions have about ten.
TOLERANCE = {"float16": 1e-2, "bfloat16": 8e-2, "float32": 1e-5, "mixed precision": 1e-2}
PRECISE = 1e-9


@functools.cache
def truth(name):
    fun, x = corpus.CORPUS[name]
    # JAX differentiates a `while` forwards only.
    derive = jax.jacfwd if "while" in name else jax.grad
    return jax.tree.map(np.asarray, derive(fun)(x))


@functools.cache
def outcome(route, name):
    """Returns the relative error of a gradient, or the error that refuses it."""
    fun, x = corpus.CORPUS[name]
    try:
        found = ROUTES[route](fun, x)
    except NotImplementedError as error:
        return str(error)
    expected = jax.tree.leaves(truth(name))
    largest = max(np.max(np.abs(y.astype(float))) for y in expected)
    errors = [
        np.max(np.abs(np.asarray(a).astype(float) - b.astype(float)))
        for a, b in zip(jax.tree.leaves(found), expected, strict=True)
    ]
    return max(errors) / largest


def is_right(route, name):
    found = outcome(route, name)
    return not isinstance(found, str) and found <= TOLERANCE.get(name, PRECISE)


@pytest.mark.parametrize("name", corpus.CORPUS)
@pytest.mark.parametrize("route", ROUTES)
def test_a_gradient_is_right_or_refused_by_name(route, name):
    found = outcome(route, name)
    if isinstance(found, str):
        assert route in found or "route=" in found
        assert "'" in found  # what it lacks
    else:
        assert found <= TOLERANCE.get(name, PRECISE)


@pytest.mark.parametrize(
    ("routes", "share"), [(("exact_grad",), 0.95), (("program", "matrix"), 0.85)]
)
def test_most_functions_that_users_write_are_differentiated(routes, share):
    right = [any(is_right(route, name) for route in routes) for name in corpus.CORPUS]
    assert len(right) >= 100
    assert np.mean(right) >= share


# What the corpus is made of, on JAX 0.10 to 0.12. A primitive that a later JAX traces instead is
# seen here first; whether the routes have rules for it, the tests above say.
PRIMITIVES = {
    "abs", "add", "add_any", "and", "argmax", "atan2", "bessel_i0e", "bessel_i1e",
    "bitcast_convert_type", "broadcast_in_dim", "call_hi_primitive", "ceil", "checkpoint",
    "cholesky", "clamp", "complex", "concatenate", "cond", "conv_general_dilated",
    "convert_element_type", "copy", "cos", "cummax", "cumprod", "cumsum", "custom_jvp_call",
    "custom_linear_solve", "device_put", "digamma", "div", "dot_general", "dynamic_slice", "eigh",
    "eq", "erf", "erf_inv", "erfc", "exp", "expm1", "fft", "floor", "gather", "ge", "gt",
    "igamma", "imag", "integer_pow", "iota", "is_finite", "jit", "le", "lgamma", "log", "log1p",
    "log2", "logistic", "lt", "lt_to", "lu", "max", "min", "mul", "ne", "neg", "one_minus_square",
    "or", "pad", "pjit", "platform_index", "polynomial", "pow", "qr", "random_bits",
    "random_seed", "real", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod",
    "reduce_sum", "reduce_window_max", "reduce_window_sum", "regularized_incomplete_beta", "rem",
    "remat2", "reshape", "rev", "round", "rsqrt", "scan", "scatter", "scatter-add", "scatter-max",
    "scatter-mul", "select_n", "shift_right_logical", "sign", "sin", "slice", "sort", "split",
    "sqrt", "square", "squeeze", "stack", "stop_gradient", "sub", "svd", "tanh", "top_k",
    "transpose", "triangular_solve", "while",
}  # fmt: skip


def primitives(jaxpr):
    """Returns the names of all primitives in a jaxpr, and in those that it calls."""
    names = set()
    for eqn in walk.close(jaxpr).jaxpr.eqns:
        names.add(eqn.primitive.name)
        for value in eqn.params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    names |= primitives(inner)
    return names


def test_the_corpus_meets_no_primitive_that_is_new():
    met = set().union(*(primitives(jax.make_jaxpr(fun)(x)) for fun, x in corpus.CORPUS.values()))
    assert met <= PRIMITIVES, f"new in this JAX: {sorted(met - PRIMITIVES)}"
