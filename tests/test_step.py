"""The step of a finite difference."""

import helpers
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcompare.numerical import step as steps


@given(st.floats(1e-300, 1e300))
def test_nearest_power_of_two_is_within_a_factor_of_root_two(h):
    found = float(steps.nearest_power_of_two(jnp.asarray(h)))
    assert np.frexp(found)[0] == 0.5
    assert 2**-0.5 * (1 - 1e-15) <= found / h <= 2**0.5 * (1 + 1e-15)


@pytest.mark.parametrize("dtype", helpers.DTYPES)
def test_scale_is_the_larger_of_entry_and_root_mean_square(dtype):
    x = jnp.array([3.0, 0.0, 0.0, 0.0], dtype)
    np.testing.assert_array_equal(steps.entry_scale(x), [3.0, 1.5, 1.5, 1.5])


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_scale_neither_underflows_nor_overflows(size):
    x = jnp.array([1.0, 7.0], "float32") * jnp.float32(size)
    np.testing.assert_allclose(steps.entry_scale(x) / size, [5.0, 7.0], rtol=1e-6)


def test_scale_of_zeros_is_one():
    np.testing.assert_array_equal(steps.entry_scale(jnp.zeros(3)), np.ones(3))


def test_scale_passes_over_what_is_not_finite():
    x = jnp.array([jnp.nan, jnp.inf, 2.0, 2.0])
    assert np.all(np.isfinite(steps.entry_scale(x)))
    assert float(steps.entry_scale(x)[2]) == 2.0


@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize("order", [1, 2, 4, 6, 8])
def test_automatic_step_is_visible_beside_every_entry(dtype, order):
    x = jnp.array([1e-5, 1.0, -60.0, 6e4], dtype)
    h = steps.entry_steps(None, x, order)
    assert h.dtype == x.dtype
    assert np.all(np.asarray(x + h) != np.asarray(x))
    assert np.all(np.asarray(x - h) != np.asarray(x))


def test_step_along_a_basis_vector_is_the_step_of_the_entry():
    x = {"a": jnp.array([0.5, 7.0]), "b": jnp.array([[1e-3]])}
    for index in range(2):
        v = {"a": jnp.eye(2)[index], "b": jnp.zeros((1, 1))}
        h = steps.direction_step(None, x, v, 2)
        assert float(h) == float(steps.entry_steps(None, x["a"], 2)[index])


@given(st.integers(-20, 20))
def test_step_along_a_direction_falls_as_the_direction_grows(power):
    x, v = jnp.array([0.5, 2.0]), jnp.array([1.0, -0.25])
    h = steps.direction_step(None, x, v, 2)
    assert float(steps.direction_step(None, x, 2.0**power * v, 2)) == float(h) * 2.0**-power


def test_absolute_step_is_taken_as_it_is():
    np.testing.assert_array_equal(steps.entry_steps(0.3, jnp.ones(2), 2), [0.3, 0.3])
    assert float(steps.direction_step(0.3, jnp.ones(2), jnp.ones(2), 2)) == 0.3
