"""Arithmetic on pytrees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcompare import _tree


@settings(max_examples=15)  # each compiles
@given(st.integers(1, 20), st.integers(1, 25))
def test_batches_of_every_size_give_all_results_in_order(count, batch):
    found = _tree.map_in_batches(lambda i: {"twice": 2 * i}, count, batch)
    np.testing.assert_array_equal(found["twice"], 2 * np.arange(count))


def test_functions_of_leaves_put_every_leaf_in_its_place():
    x = {"a": jnp.array(1.0), "b": (jnp.array(10.0), None)}
    fun = lambda t: t["a"] + 2 * t["b"][0]
    found = [float(of_leaf(jnp.array(0.0))) for _, of_leaf in _tree.functions_of_leaves(fun, x)]
    assert found == [20.0, 1.0]


def test_inner_product_is_summed_in_the_widest_dtype():
    a = {"x": jnp.full(3, 1 / 3, "float16"), "y": jnp.ones(2)}
    found = _tree.vdot(a, a)
    assert found.dtype == jnp.float64
    assert float(found) == pytest.approx(3 * float(a["x"][0]) ** 2 + 2, rel=1e-15)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_one_hot_vectors_are_the_basis(shape):
    leaf = jnp.zeros(shape)
    basis = jax.vmap(lambda i: _tree.one_hot(leaf, i))(jnp.arange(leaf.size))
    np.testing.assert_array_equal(basis.reshape(leaf.size, leaf.size), np.eye(leaf.size))


def test_paths_are_written_as_a_user_would():
    assert _tree.leaf_paths({"w": [1.0, 2.0]}) == ["['w'][0]", "['w'][1]"]
