"""Custom derivative rules: traced as programs, honoured or not, and compared with the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from diffcompare import operators
from diffcompare._jaxpr import custom_rules
from diffcompare.symbolic import Symbolic

EPS = np.finfo(np.float64).eps


def grad(fun, rules, route="program"):
    return operators.grad(fun, method=Symbolic(route, rules=rules))


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


POINT = jnp.asarray(0.7)
CLAIMS = {
    "wrong slopes": lambda x: jnp.sin(tripled(x**2, x)),
    "a clipped gradient": lambda x: jnp.sin(3 * clipped(5 * x)),
    "a straight-through estimator": lambda x: jnp.exp(through(3 * x)),
    "within a scan": lambda x: jax.lax.scan(lambda c, _: (tripled(c, c), None), x, None, 3)[0],
    "within a branch": lambda x: jax.lax.cond(x > 0, lambda x: through(x) ** 2, jnp.sin, x),
    "of an array": lambda x: jnp.sum(tripled(x * jnp.ones(3), jnp.arange(3.0)) ** 2),
    "silu": jax.nn.silu,
    "softplus at 0": lambda x: jax.nn.softplus(x - 0.7),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_rule_claims_is_honoured_as_jax_does(name):
    fun = CLAIMS[name]
    truth = jax.grad(fun)(POINT)
    # The same operations, grouped otherwise: a few roundings.
    np.testing.assert_allclose(grad(fun, "jax")(POINT), truth, rtol=8 * EPS)
    if name not in ("silu", "softplus at 0"):
        assert abs(grad(fun, "math")(POINT) - truth) > 0.1


def test_a_rule_of_slopes_is_honoured_along_a_direction():
    fun = CLAIMS["wrong slopes"]
    found = operators.jvp(fun, (POINT,), (jnp.ones(()),), method=Symbolic(rules="jax"))
    assert np.allclose(found, jax.jvp(fun, (POINT,), (jnp.ones(()),)), rtol=8 * EPS)
    with pytest.raises(TypeError, match="clipped has a custom_vjp rule"):
        operators.jvp(clipped, (POINT,), (jnp.ones(()),), method=Symbolic(rules="jax"))


def test_rules_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="rules must be 'math' or 'jax', but it is 'mine'"):
        Symbolic(rules="mine")
