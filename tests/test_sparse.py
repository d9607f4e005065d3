"""Jacobians with a known sparsity."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import diffcompare as dc
from diffcompare import _sparse

METHODS = [pytest.param(row, id=row.name) for row in helpers.METHODS]


def tridiagonal(x):
    padded = jnp.concatenate([jnp.zeros(1, x.dtype), x, jnp.zeros(1, x.dtype)])
    return jnp.sin(x) * padded[:-2] + padded[2:] ** 2


def band(n):
    i = np.arange(n)
    return np.abs(i[:, None] - i) <= 1


@pytest.mark.parametrize("row", METHODS)
def test_banded_jacobian_takes_three_slopes_and_is_that_without_a_pattern(row):
    x = jnp.linspace(0.5, 1.5, 30)
    found = dc.jacobian(tridiagonal, method=row.method, sparsity=band(30))(x)
    assert found.evaluations == 3
    truth = jax.jacobian(tridiagonal)(x)
    error = 8 * float(jnp.finfo(x.dtype).eps) ** row.power
    np.testing.assert_allclose(found.todense(), truth, atol=3 * error)


@pytest.mark.parametrize("row", METHODS)
def test_entry_outside_the_pattern_is_named(row):
    fun = lambda x: tridiagonal(x).at[4].add(0.5 * x[17])
    x = jnp.linspace(0.5, 1.5, 30)
    with pytest.raises(ValueError, match=r"output 4 depends on input 17. Add \(4, 17\)"):
        dc.jacobian(fun, method=row.method, sparsity=band(30))(x)
    compiled = jax.jit(dc.jacobian(fun, method=row.method, sparsity=band(30)))(x).todense()
    assert np.isnan(compiled[4, 3:6]).all()
    right = np.isfinite(compiled).all(axis=1)
    assert right.sum() >= 15  # by rows, all of one colour are spoiled
    error = 8 * float(jnp.finfo(x.dtype).eps) ** row.power
    truth = jax.jacobian(fun)(x)
    np.testing.assert_allclose(compiled[right], truth[right], atol=3 * error)


def test_steps_are_those_of_every_entry():
    # Entries of very different size share a colour, and each moves by the step it has alone.
    x = jnp.array([1e-6, 1.0, 1e6, 1.0])
    fun = lambda x: x**3
    found = dc.jacobian(fun, method=dc.CentralDifference(), sparsity=np.eye(4))(x)
    dense = dc.jacobian(fun, method=dc.CentralDifference())(x)
    # Where an entry does not matter at all, compiled values may differ by an ulp.
    np.testing.assert_allclose(found.todense(), dense, rtol=1e-12, atol=1e-30)


def test_matrix_of_scipy_is_a_pattern():
    sparse = pytest.importorskip("scipy.sparse")
    x = jnp.linspace(0.5, 1.5, 5)
    found = dc.jacobian(tridiagonal, sparsity=sparse.csr_array(band(5)))(x)
    np.testing.assert_allclose(found.todense(), jax.jacobian(tridiagonal)(x), rtol=1e-15)


def test_result_is_a_pytree_under_jit_and_vmap():
    xs = jnp.linspace(0.5, 1.5, 10).reshape(2, 5)
    find = dc.jacobian(tridiagonal, method=dc.CentralDifference(), sparsity=band(5))
    found = jax.jit(jax.vmap(find))(xs)
    np.testing.assert_allclose(found.values[1], find(xs[1]).values, rtol=1e-9)


def test_arrays_of_any_shape_are_flattened():
    fun = lambda x, a: a * x[:, ::-1]
    x = jnp.arange(1.0, 7.0).reshape(2, 3)
    dense = jax.jacobian(fun)(x, 2.0)
    pattern = np.asarray(dense).reshape(6, 6) != 0
    found = dc.jacobian(fun, method=dc.ForwardMode(), sparsity=pattern)(x, 2.0)
    np.testing.assert_array_equal(found.todense(), dense)
    assert found.evaluations == 1


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31), st.booleans())
def test_no_two_of_one_colour_meet(rows, columns, seed, of_rows):
    matrix = np.random.default_rng(seed).random((rows, columns)) < 0.3
    colours = _sparse.check_pattern(matrix).colours(of_rows)
    lines = matrix if of_rows else matrix.T
    for colour in np.unique(colours):
        assert lines[colours == colour].sum(0).max(initial=0) <= 1


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: dc.jacobian(jnp.sin, sparsity=np.ones(3)), TypeError, "sparsity must be a matrix"),
        (
            lambda: dc.jacobian(jnp.sin, sparsity=np.eye(3))(jnp.ones(2)),
            ValueError,
            r"shape \(2, 2\)",
        ),
        (lambda: dc.jacobian(jnp.sin, (0,), sparsity=np.eye(3)), TypeError, "one argnum"),
        (
            lambda: dc.jacobian(lambda t: t, sparsity=np.eye(3))({"a": jnp.ones(3)}),
            TypeError,
            "from one array to one array",
        ),
    ],
)
def test_what_has_no_such_pattern_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
