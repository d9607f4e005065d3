"""The complex step: right where complex numbers are not, and at home among the other methods."""

import helpers
import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax import lax

import diffcompare as dc
from diffcompare._jaxpr.walk import UnknownPrimitiveError
from diffcompare.numerical.complex_step import ComplexStep

METHOD = ComplexStep()
_array = np.random.default_rng(0).normal
PROMISE = 4 * 2.0**-52  # of the largest gradient, in float64


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


@pytest.mark.parametrize("name", ["softplus", "abs", "norm", "var"])
def test_where_complex_numbers_are_silently_wrong_the_method_is_right(name):
    fun = {
        "softplus": lambda x: jnp.sum(jax.nn.softplus(x)),
        "abs": lambda x: jnp.sum(jnp.abs(x)),
        "norm": jnp.linalg.norm,
        "var": jnp.var,
    }[name]
    x, v, h = jnp.array([-2.0, 3.0]), jnp.array([1.0, 0.0]), 1e-100
    truth = jax.grad(fun)(x)[0]
    naive = jnp.imag(fun(lax.complex(x, h * v))) / h
    assert abs(naive - truth) > 0.1  # the trap
    assert abs(slope(fun, x, v) - truth) <= PROMISE
    assert abs(dc.jvp(fun, (x,), (v,), method=ComplexStep(step=h))[1] - truth) <= 1e-15


@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize("problem", helpers.PROBLEMS, ids=lambda problem: problem.name)
def test_every_problem_is_solved_to_the_precision_of_its_dtype(problem, dtype):
    x, truth = problem.at(dtype)
    found = dc.grad(problem.fun, method=METHOD)(x)
    # Half precision: its constants are rounded, and the result is. Otherwise ten operations.
    assert helpers.relative_error(found, truth) <= 8 * float(jnp.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    fun = lambda x: jnp.sum((x + 1000 - 1000) ** 2 * 2)  # float16 keeps one digit of it
    x = jnp.array([0.2, 0.3], dtype)
    value, found = METHOD.jvp(fun, x, jnp.ones_like(x))
    assert value.dtype == found.dtype == jnp.dtype(dtype)
    exact = np.asarray(x, np.float64)
    # One rounding of the result; 1000 costs float32 three of its seven digits.
    rounding = float(jnp.finfo(dtype).eps) / 2 + 2e-4
    assert np.isclose(float(found), 4 * exact.sum(), rtol=rounding)
    assert np.isclose(float(value), 2 * (exact**2).sum(), rtol=rounding)


def test_a_loop_in_half_precision_keeps_its_dtype_where_nothing_moves():
    def fun(x):
        body = lambda _, c: (c[0] * x, c[1] + jnp.ones_like(x))
        moved, still = lax.fori_loop(0, 3, body, (jnp.ones_like(x), jnp.zeros_like(x)))
        return jnp.floor(moved) + still + moved

    value, found = METHOD.jvp(fun, jnp.bfloat16(1.5), jnp.bfloat16(1.0))
    assert (float(value), float(found)) == (3 + 3 + 3.375, 6.75)


def test_a_wider_dtype_within_is_kept():
    fun = lambda x: jnp.sin(x.astype(jnp.float64)).astype(jnp.float32)
    value, found = METHOD.jvp(fun, jnp.float32(0.5), jnp.float32(1))
    assert found == np.float32(np.cos(0.5))
    assert value == np.float32(np.sin(0.5))


def test_the_size_of_the_direction_does_not_matter():
    x = jnp.array([0.5, 2.0])
    for size in (1e-200, 1e-20, 1.0, 1e200):
        found = slope(lambda x: jnp.sum(x**3), x, jnp.array([size, -size]))
        assert np.isclose(found, size * (0.75 - 12), rtol=1e-15, atol=0)
    for method in (METHOD, ComplexStep(step=1e-100)):
        value, found = method.jvp(jnp.sum, x, jnp.zeros(2))
        assert (float(value), float(found)) == (2.5, 0)


def test_slopes_and_values_of_any_size_in_float32_neither_underflow_nor_overflow():
    for scale in (1e-30, 1e-10, 1e10, 1e30):
        x = jnp.float32(scale)
        assert np.isclose(slope(jnp.log, x, jnp.float32(1)), 1 / float(x), rtol=1e-7)
        scaled = lambda x, scale=scale: scale * jnp.sin(x)
        assert np.isclose(slope(scaled, jnp.float32(0), jnp.float32(1)), scale, rtol=1e-7)


def test_a_guard_against_zero_holds():
    safe = lambda x: jnp.where(x * x == 0, 7 * x, jnp.sqrt(x * x))
    assert slope(safe, 0.0, 1.0) == 7
    assert slope(safe, -2.0, 1.0) == -1


def test_a_constant_function_and_a_constant_output_have_no_slope():
    values, found = dc.jvp(lambda x: (x, jnp.ones(3), jnp.floor(x)), (1.5,), (1.0,), method=METHOD)
    assert [v.tolist() for v in values] == [1.5, [1, 1, 1], 1]
    assert [s.tolist() for s in found] == [1, [0, 0, 0], 0]


@pytest.mark.parametrize("step", [0.5, 0.25])
def test_a_step_of_ones_own_has_the_error_of_truncation(step):
    # Im (1 + i h)**3 / h = 3 - h**2; exact in binary.
    method = ComplexStep(step=step)
    assert dc.grad(lambda x: x**3, method=method)(1.0) == 3 - step**2
    # Twice the direction is twice the slope at the same step.
    assert dc.jvp(lambda x: x**3, (1.0,), (2.0,), method=method)[1] == 2 * (3 - step**2)


def test_the_error_falls_with_the_square_of_the_step():
    fun = lambda x: jnp.exp(x) / (jnp.sin(x) ** 3 + jnp.cos(x) ** 3)  # of Squire and Trapp
    truth = derivative(lambda x: mp.exp(x) / (mp.sin(x) ** 3 + mp.cos(x) ** 3), 1.5)
    steps = 2.0 ** -np.arange(4, 24, 4)
    sweep = jax.jit(
        jax.vmap(lambda h: ComplexStep(step=h).jvp(fun, jnp.asarray(1.5), jnp.asarray(1.0))[1])
    )
    errors = np.abs(np.asarray(sweep(steps)) - truth)
    # 2**8 at every step of 2**4; the next term has the fourth power, below 2 % from here on.
    assert np.allclose(errors[1:] / errors[:-1], 2.0**-8, rtol=0.02)
    for step in (1e-20, 1e-100, None):
        found = dc.grad(fun, method=ComplexStep(step=step))(1.5)
        assert abs(found - truth) <= 4 * PROMISE * abs(truth)  # a dozen operations


@pytest.mark.parametrize("step", [None, 1e-100])
def test_native_arithmetic_and_the_limit_agree(step):
    fun = lambda x: jnp.sum(
        jnp.sqrt(x) ** 1.5 * jnp.log1p(x) / jnp.tan(x) + jnp.arctan(x) * jnp.arcsinh(x) + x**x
    )
    x, v = jnp.array([0.3, 0.7]), jnp.array([1.0, -2.0])
    truth = jax.jvp(fun, (x,), (v,))[1]
    assert np.isclose(ComplexStep(step=step).jvp(fun, x, v)[1], truth, rtol=1e-15)


def _tanh_net(p):
    return jnp.sum(jnp.tanh(p["w"] @ jnp.tanh(p["x"])) ** 2)


_NET = {"w": jnp.asarray(_array(size=(3, 4))), "x": jnp.asarray(_array(size=4))}


def test_it_works_under_jit_and_vmap():
    gradient = dc.grad(_tanh_net, method=METHOD)
    expected = gradient(_NET)
    assert largest_error(jax.jit(gradient)(_NET), expected) <= PROMISE
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), _NET)
    rows = jax.vmap(gradient)(batch)
    first = jax.tree.map(lambda leaf: leaf[0], rows)
    assert largest_error(first, expected) <= PROMISE


# Two derivatives of three layers, whose terms cancel to a tenth, in two orders of summation.
ROUNDING = 1e-14


@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
def test_jax_differentiates_it(outer):
    fun = lambda w: _tanh_net({**_NET, "w": w})
    found = outer(dc.grad(fun, method=METHOD))(_NET["w"])
    assert largest_error(found, jax.hessian(fun)(_NET["w"])) <= ROUNDING


@pytest.mark.parametrize(
    "inner", [METHOD, dc.ReverseMode(), dc.ForwardMode(), dc.CentralDifference()]
)
def test_it_differentiates_other_methods_and_itself(inner):
    fun = lambda w: _tanh_net({**_NET, "w": w})
    found = dc.hessian(fun, method=(METHOD, inner))(_NET["w"])
    # The gradient of a central difference has its error, eps ** (2/3).
    tolerance = 1e-8 if isinstance(inner, dc.CentralDifference) else ROUNDING
    assert largest_error(found, jax.hessian(fun)(_NET["w"])) <= tolerance


def test_nested_steps_find_a_second_derivative():
    for method in (METHOD, ComplexStep(step=1e-20)):
        found = dc.hessian(lambda x: jnp.sum(jnp.exp(x) * jnp.sin(x)), method=method)(
            jnp.array([0.5])
        )
        assert np.isclose(found[0, 0], 2 * np.exp(0.5) * np.cos(0.5), rtol=1e-15)


def test_a_jacobian_has_the_layout_output_by_input():
    fun = lambda x: {"a": jnp.stack([x[0] * x[1], x[1]]), "b": x[0] ** 2}
    found = dc.jacobian(fun, method=METHOD)(jnp.array([2.0, 3.0]))
    assert found["a"].tolist() == [[3, 2], [0, 1]]
    assert found["b"].tolist() == [4, 0]


def test_what_cannot_be_done_names_the_primitive():
    fun = lambda x: jax.pure_callback(lambda x: np.sin(x), x, x)
    message = (
        "ComplexStep has no rule for the primitive 'pure_callback', met at .*test_complex_step"
    )
    with pytest.raises(UnknownPrimitiveError, match=message):
        dc.grad(fun, method=METHOD)(1.0)
    # What does not depend on the argument may be anything.
    assert dc.grad(lambda x, y: x * fun(y), method=METHOD)(1.0, 0.5) == np.sin(0.5)


@pytest.mark.parametrize("step", [0.0, -1.0, np.inf, np.nan])
def test_a_step_must_be_positive_and_finite(step):
    with pytest.raises(ValueError, match="step must be positive and finite"):
        ComplexStep(step=step)


def test_the_method_is_a_frozen_value():
    assert repr(METHOD) == "ComplexStep(step=None)"
    assert ComplexStep() == METHOD
    assert jax.tree.leaves(ComplexStep(step=0.5)) == [0.5]
