"""Finite differences."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import diffcompare as dc

ORDERS = [
    (dc.ForwardDifference, {}, 1),
    (dc.BackwardDifference, {}, 1),
    (dc.CentralDifference, {"order": 2}, 2),
    (dc.CentralDifference, {"order": 4}, 4),
    (dc.CentralDifference, {"order": 6}, 6),
    (dc.CentralDifference, {"order": 8}, 8),
]


@pytest.mark.parametrize(("method", "options", "order"), ORDERS)
def test_error_falls_with_the_order_of_the_method(method, options, order):
    """Lecture row 26."""
    # Steps at which truncation is far above rounding for every order.
    steps = np.array([2.0**-2, 2.0**-3])
    errors = [
        abs(float(dc.grad(jnp.exp, method=method(step=h, **options))(0.0)) - 1) for h in steps
    ]
    slope = np.log2(errors[0] / errors[1])
    # The next term of the expansion is smaller by h, or by h**2 for a central scheme.
    assert slope == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("method", "options", "order"), ORDERS)
def test_polynomials_up_to_the_order_are_differentiated_exactly(method, options, order):
    powers = jnp.arange(order + 1.0)
    fun = lambda x: jnp.sum(x**powers)
    found = dc.grad(fun, method=method(step=0.5, **options))(1.0)
    # Values are sums of up to 9 powers; a quotient loses a few ulps of the largest.
    largest = float(fun(3.0))
    assert float(found) == pytest.approx(order * (order + 1) / 2, abs=8 * 2**-52 * largest)


@pytest.mark.parametrize("dtype", helpers.DTYPES)
def test_divisor_is_the_displacement_that_happened(dtype):
    # 1 + 0.3 is rounded in every dtype; a linear function shows a wrong divisor at once.
    x = jnp.asarray(1000.0 if dtype != "float16" else 100.0, dtype)
    for method in (dc.ForwardDifference, dc.BackwardDifference, dc.CentralDifference):
        found = dc.grad(lambda x: x, method=method(step=3.3))(x)
        assert float(found) == 1.0


@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e4, 1e30])
def test_automatic_step_follows_the_size_of_the_argument(dtype, scale):
    if dtype == "float16" and scale in (1e-30, 1e30):
        scale = 2.0**-4 if scale < 1 else 2.0**4
    x = (jnp.array([0.5, 1.0, 2.0]) * scale).astype(dtype)
    found = dc.grad(
        lambda x: jnp.sum(jnp.sin(x / jnp.asarray(scale, dtype))), method=dc.CentralDifference()
    )(x)
    truth = np.cos(np.asarray(x, np.float64) / scale) / scale
    eps = float(jnp.finfo(dtype).eps)
    assert helpers.relative_error(found, truth) <= 8 * eps ** (2 / 3)


def test_automatic_step_of_a_small_entry_follows_its_leaf():
    # By its own size alone the entry 1e-9 would get a step far below the scale of the function.
    x = jnp.array([1e-9, 1.0, -1.0])
    found = dc.grad(lambda x: jnp.sum(jnp.sin(x)), method=dc.CentralDifference())(x)
    np.testing.assert_allclose(found, np.cos(np.asarray(x)), rtol=1e-9)


def test_entry_that_is_not_finite_spoils_only_itself():
    x = jnp.array([1.0, jnp.inf, jnp.nan, 2.0])
    found = dc.grad(
        lambda x: jnp.sum(jnp.where(jnp.isfinite(x), x**2, 0.0)), method=dc.CentralDifference()
    )(x)
    np.testing.assert_allclose(found[jnp.array([0, 3])], [2.0, 4.0], rtol=1e-9)
    assert np.all(np.isnan(found[1:3]))


def test_quotient_is_nan_where_a_traced_step_vanishes():
    sweep = jax.jit(jax.vmap(lambda h: dc.grad(jnp.sin, method=dc.CentralDifference(step=h))(1.0)))
    found = sweep(jnp.array([2.0**-10, 2.0**-60]))
    assert float(found[0]) == pytest.approx(np.cos(1), abs=1e-6)
    assert np.isnan(found[1])


@pytest.mark.parametrize("batch", [1, 3, 100])
@pytest.mark.parametrize(
    "row", [row for row in helpers.METHODS if row.power < 1], ids=lambda row: row.name
)
def test_batches_of_every_size_give_the_same_slopes(row, batch):
    x = jnp.linspace(0.5, 1.5, 7)
    fun = lambda x: jnp.prod(x) + x[0]
    batched = type(row.method)(**{**vars(row.method), "batch": batch})
    found = dc.grad(fun, method=batched)(x)
    whole = dc.grad(fun, method=row.method)(x)
    eps = float(jnp.finfo(x.dtype).eps)
    np.testing.assert_allclose(found, whole, rtol=8 * eps**row.power)


def count_evaluations(method, n):
    """Returns how many points a compiled gradient evaluates a function of `n` entries at."""
    points = []

    def fun(x):
        jax.debug.callback(lambda _: points.append(1), x[0])
        return jnp.sum(x**2)

    jax.block_until_ready(jax.jit(dc.grad(fun, method=method))(jnp.ones(n)))
    jax.effects_barrier()
    return len(points)


@pytest.mark.parametrize(
    ("method", "evaluations"),
    [
        (dc.ForwardDifference(batch=7), 7 + 1),
        (dc.BackwardDifference(batch=7), 7 + 1),
        (dc.CentralDifference(batch=7), 2 * 7),
        (dc.CentralDifference(order=4, batch=7), 4 * 7),
    ],
)
def test_gradient_takes_n_plus_one_or_order_times_n_evaluations(method, evaluations):
    """Lecture row 26: N + 1 and 2 N, and the value itself for `value_and_grad`."""
    # The operator evaluates the value once more; a compiler may or may not see that twice.
    assert count_evaluations(method, 7) in (evaluations, evaluations + 1)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_slope_is_linear_in_the_length_of_the_direction(x, length):
    _, slope = dc.jvp(
        lambda x: 3.0 * x, (jnp.asarray(x),), (jnp.asarray(length),), method=dc.CentralDifference()
    )
    # f is linear: what is left is rounding, eps |f| over a step of eps ** (1 / 3).
    assert float(slope) == pytest.approx(3 * length, rel=1e-9, abs=1e-9 * abs(length))


@pytest.mark.parametrize("step", [0.0, -1e-3, float("nan"), float("inf")])
def test_step_that_is_not_positive_and_finite_is_refused(step):
    for method in (dc.ForwardDifference, dc.BackwardDifference, dc.CentralDifference):
        with pytest.raises(ValueError, match="step must be positive and finite"):
            method(step=step)


@pytest.mark.parametrize("step", ["small", np.ones(3)])
def test_step_that_is_not_a_number_is_refused(step):
    with pytest.raises(TypeError, match="step must be"):
        dc.CentralDifference(step=step)


@pytest.mark.parametrize("order", [0, 1, 3, 10, 2.5, "2"])
def test_order_that_does_not_exist_is_refused(order):
    with pytest.raises(ValueError, match="order must be 2, 4, 6 or 8"):
        dc.CentralDifference(order=order)


@pytest.mark.parametrize("batch", [0, -1, 2.5])
def test_batch_that_is_not_a_positive_integer_is_refused(batch):
    with pytest.raises(ValueError, match="batch must be None or a positive integer"):
        dc.CentralDifference(batch=batch)


@pytest.mark.parametrize("dtype", helpers.DTYPES)
def test_step_that_vanishes_beside_an_entry_is_refused(dtype):
    x = {"w": jnp.array([1.0, 100.0], dtype)}
    step = 100 * float(jnp.finfo(dtype).eps) / 8
    method = dc.CentralDifference(step=step)
    with pytest.raises(
        ValueError, match=r"too small: x \+ step == x for the entry 100 of argument.*'w'"
    ):
        dc.grad(lambda t: jnp.sum(t["w"]), method=method)(x)
