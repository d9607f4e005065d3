"""Custom derivative rules: traced as programs, honoured or not, and compared with the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import jaxpr_as_fun

import diffcompare as dc
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


# Where rules and calculus disagree.


@pytest.mark.parametrize("name", CLAIMS)
def test_a_rule_that_disagrees_with_calculus_is_reported_and_no_other(name):
    found = dc.rule_disagreements(CLAIMS[name], POINT)
    if name in ("silu", "softplus at 0"):
        assert found == ()
        return
    (record,) = found
    assert record.place.startswith(__file__)
    assert record.defined.startswith(__file__)
    assert record.kind == ("custom_jvp" if record.function == "tripled" else "custom_vjp")
    assert record.calls == (3 if name == "within a scan" else 1)


def test_a_report_says_what_is_claimed_and_what_is_true():
    (wrong,) = dc.rule_disagreements(lambda x: tripled(x, 5.0), POINT)
    assert [float(d) for d in (*wrong.claimed, *wrong.mathematical)] == [3.0, 5.0]
    assert wrong.error == pytest.approx(2 / 5)
    assert "claims 3 where the derivative is 5, a relative error of 0.4" in str(wrong)
    (clips,) = dc.rule_disagreements(clipped, POINT)
    assert not clips.is_linear
    assert "is not linear in the gradient that arrives" in str(clips)
    # As long as no more than 1 arrives, it agrees.
    assert clips.cotangent == 2
    assert [float(d) for d in (*clips.claimed, *clips.mathematical)] == [1.0, 2.0]
    assert "claims 1 for 2 where 2 arrives, a relative error of 0.5" in str(clips)
    (estimator,) = dc.rule_disagreements(through, POINT)
    assert [float(d) for d in (*estimator.claimed, *estimator.mathematical)] == [1.0, 0.0]


def test_a_straight_through_estimator_of_stop_gradient_is_reported():
    rounded = lambda x: x + jax.lax.stop_gradient(jnp.round(x) - x)
    (record,) = dc.rule_disagreements(lambda x: jnp.sum(rounded(x) ** 2), jnp.asarray([0.7, 1.2]))
    assert record.kind == "stop_gradient"
    assert record.place.startswith(__file__)
    assert record.claimed[0].tolist() == [2.0, 2.0]
    assert record.mathematical[0].tolist() == [0.0, 0.0]
    assert "holds a value constant that depends on the argument" in str(record)


VECTOR = jnp.asarray([1.0, -2.0, 0.3])
TARGET = jnp.asarray([1.0, 0.0, 0.0])
HONEST = {
    "relu": lambda x: jnp.sum(jax.nn.relu(x)),
    "relu at 0": lambda x: jnp.sum(jax.nn.relu(0 * x)),
    "relu6 and elu": lambda x: jnp.sum(jax.nn.relu6(x) + jax.nn.elu(x)),
    "softplus": lambda x: jnp.sum(jax.nn.softplus(x)),
    "gelu": lambda x: jnp.sum(jax.nn.gelu(x)),
    "logsumexp": jax.nn.logsumexp,
    "log softmax": lambda x: jax.nn.log_softmax(x)[0],
    "softmax": lambda x: jax.nn.softmax(x)[0],
    "sinc at 0": lambda x: jnp.sum(jnp.sinc(0 * x)),
    "norm": jnp.linalg.norm,
    "cross-entropy": lambda x: optax.softmax_cross_entropy(x, TARGET),
    "cross-entropy of a label": lambda x: optax.softmax_cross_entropy_with_integer_labels(x, 1),
    "binary cross-entropy": lambda x: jnp.sum(optax.sigmoid_binary_cross_entropy(x, TARGET)),
    "huber": lambda x: jnp.sum(optax.huber_loss(x)),
    "incomplete beta": lambda x: jnp.sum(jax.scipy.special.betainc(2.0, jnp.abs(x), 0.3)),
    "a safe root": lambda x: safe_root(0 * x[0]),
}


@jax.custom_jvp
def safe_root(x):
    """The root of a square, of which the body has a NaN at 0 and the rule has not."""
    return jnp.sqrt(x * x)


safe_root.defjvp(lambda x, v: (safe_root(*x), v[0] * jnp.sign(x[0])))


@pytest.mark.parametrize("name", HONEST)
def test_nothing_is_reported_where_rules_are_right(name):
    assert dc.rule_disagreements(HONEST[name], VECTOR) == ()


def test_a_function_that_only_looks_like_one_of_jax_is_compared():
    @jax.custom_jvp
    def relu(x):
        return jnp.maximum(x, 0)

    relu.defjvp(lambda primals, tangents: (relu(*primals), 2 * tangents[0]))
    (record,) = dc.rule_disagreements(relu, 1.0)
    assert [float(record.claimed[0]), float(record.mathematical[0])] == [2.0, 1.0]
    assert float(grad(relu, "jax")(1.0)) == 2.0
    assert float(grad(relu, "jax", "expression")(1.0)) == 2.0


def test_an_expression_honours_rules_and_says_where_it_cannot():
    for name in ("wrong slopes", "a straight-through estimator"):
        fun = CLAIMS[name]
        found = grad(fun, "jax", "expression")(POINT)
        np.testing.assert_allclose(found, jax.grad(fun)(POINT), rtol=8 * EPS)
    with pytest.raises(NotImplementedError, match=r"custom rule of clipped: it is not linear"):
        grad(clipped, "jax", "expression")(POINT)


def test_the_matrix_route_asks_no_rules():
    with pytest.raises(NotImplementedError, match=r"matrix.*tripled has a custom derivative rule"):
        grad(lambda x: jnp.sum(tripled(x, x)), "jax", "matrix")(VECTOR)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [((3,), TypeError, "floating-point"), ((), ValueError, "argument 0")],
)
def test_what_has_no_derivative_is_refused(args, error, message):
    with pytest.raises(error, match=message):
        dc.rule_disagreements(jnp.sin, *args)


def test_a_traced_argument_is_refused():
    with pytest.raises(TypeError, match="needs numbers"):
        jax.jit(lambda x: len(dc.rule_disagreements(jnp.sin, x)))(1.0)


def test_a_rule_is_reported_where_the_true_slope_is_infinite():
    @jax.custom_jvp
    def safe_sqrt(x):
        return jnp.sqrt(x)

    safe_sqrt.defjvps(lambda t, y, x: t * jnp.where(x > 0, 0.5 / y, 0.0))
    (found,) = dc.rule_disagreements(lambda x: jnp.sum(safe_sqrt(x)), jnp.array([0.0, 1.0]))
    assert found.error == float("inf")
    assert "claims 0 where the derivative is inf" in str(found)
    assert dc.rule_disagreements(lambda x: jnp.sum(safe_sqrt(x)), jnp.array([4.0, 1.0])) == ()
