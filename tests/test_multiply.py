"""The lecture's product with its own forward and backward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffcompare as dc
from diffcompare.automatic.multiply import multiply


def test_value_and_gradients_are_those_of_a_product():
    """Lecture row 35."""
    value, pullback = jax.vjp(multiply, 3.0, -4.0)
    assert float(value) == -12.0
    assert [float(gradient) for gradient in pullback(10.0)] == [-40.0, 30.0]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["plain", "jit", "vmap"])
def test_it_holds_compiled_and_mapped(wrap):
    """Lecture row 35."""
    x, y = np.array([1.5, -2.0, 0.25]), np.array([4.0, 0.5, -8.0])
    value, pullback = jax.vjp(wrap(multiply), jnp.asarray(x), jnp.asarray(y))
    upstream = jnp.asarray([1.0, 2.0, -3.0])
    np.testing.assert_array_equal(value, x * y)  # products of short binary fractions are exact
    for found, other in zip(pullback(upstream), (y, x), strict=True):
        np.testing.assert_array_equal(found, np.asarray(upstream) * other)


def test_the_rule_is_the_one_that_is_used():
    jaxpr = jax.make_jaxpr(multiply)(1.0, 2.0)
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["custom_vjp_call"]
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(multiply, (1.0, 2.0), (1.0, 1.0))


def test_it_saves_its_factors_for_the_backward_pass():
    """Lecture rows 32 and 35."""
    graph = dc.computational_graph(multiply)(3.0, 4.0)
    assert sorted(residual.expression for residual in graph.residuals) == ["x", "y"]
    assert [float(wire.local.value) for wire in graph["out"].inputs] == [4.0, 3.0]
