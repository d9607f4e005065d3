"""Custom derivative rules: traced as programs, honoured or not, and compared with the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from diffcompare._jaxpr import custom_rules


@jax.custom_jvp
def tripled(x, y):
    """x y, of which the rule claims that its slope along x is 3, and along y is 0."""
    return x * y


tripled.defjvp(lambda primals, tangents: (tripled(*primals), 3 * tangents[0]))


@jax.custom_vjp
def clipped(x):
    """x, of which the rule clips what comes back."""
    return x


clipped.defvjp(lambda x: (x, None), lambda _, weight: (jnp.clip(weight, -1, 1),))


@jax.custom_vjp
def through(x):
    """Rounds, as a straight-through estimator."""
    return jnp.round(x)


through.defvjp(lambda x: (through(x), None), lambda _, weight: (weight,))


def equation(fun, *args):
    (eqn,) = jax.make_jaxpr(fun)(*args).eqns
    assert custom_rules.is_custom(eqn)
    return eqn


def test_a_rule_of_slopes_is_traced_in_both_directions():
    eqn = equation(lambda x: tripled(x, x), jnp.ones(2))
    assert custom_rules.name_of(eqn) == "tripled"
    assert "test_custom_rules.py" in custom_rules.place_of(eqn)
    assert "test_custom_rules.py" in custom_rules.defined_at(eqn)
    x, y, v, w = (jnp.asarray([a, 2 * a]) for a in (2.0, 3.0, 5.0, 7.0))
    (slope,) = jaxpr_as_fun(custom_rules.forward(eqn, (True, True)))(x, y, v, w)
    assert slope.tolist() == (3 * v).tolist()
    by_x, by_y = jaxpr_as_fun(custom_rules.reverse(eqn, (True, True)))(x, y, w)
    assert by_x.tolist() == (3 * w).tolist()
    assert by_y.tolist() == [0.0, 0.0]
    (alone,) = jaxpr_as_fun(custom_rules.reverse(eqn, (True, False)))(x, y, w)
    assert alone.tolist() == by_x.tolist()


def test_a_rule_of_gradients_is_traced_in_reverse_only():
    eqn = equation(clipped, 1.0)
    (found,) = jaxpr_as_fun(custom_rules.reverse(eqn, (True,)))(jnp.asarray(1.0), jnp.asarray(9.0))
    assert float(found) == 1.0
    with pytest.raises(TypeError, match="custom_vjp"):
        custom_rules.forward(eqn, (True,))


def test_a_rule_with_integers_and_arguments_that_are_fixed_is_traced():
    @jax.custom_vjp
    def taken(x, place):
        return x[place], place

    taken.defvjp(
        lambda x, place: (taken(x, place), (x, place)),
        lambda saved, weight: (jnp.zeros_like(saved[0]).at[saved[1]].set(2 * weight[0]), None),
    )
    x, place = jnp.arange(3.0), jnp.asarray(1)
    eqn = equation(lambda x, place: taken(x, place), x, place)
    assert custom_rules.floating_inputs(eqn) == (True, False)
    assert custom_rules.floating_outputs(eqn) == (True, False)
    (found,) = jaxpr_as_fun(custom_rules.reverse(eqn, (True, False)))(x, place, jnp.asarray(5.0))
    assert np.asarray(found).tolist() == [0.0, 10.0, 0.0]
