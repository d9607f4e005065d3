"""What a gradient check looks at, and what is claimed there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffcompare.checking import kinks
from diffcompare.checking.claims import claims_of, derivative_of
from diffcompare.checking.problem import directions, problem_of, usual_direction

ARGS = (
    {"weight": jnp.array([[1.0, -2.0], [1e-9, 0.0]]), "name": "layer", "count": 3},
    jnp.array([1 + 2j, -0.5j], jnp.complex64),
    jax.random.key(0),
    jnp.zeros((0, 3)),
    0.25,
    None,
)


def of_everything(layer, z, key, nothing, number, absent):
    noise = jax.random.normal(key, (2,))
    return {"y": jnp.abs(layer["weight"] @ noise) * number, "z": z * 2, "n": layer["count"]}


def test_floating_leaves_are_looked_at_and_others_left_alone():
    problem = problem_of(of_everything, ARGS)
    assert [(leaf.path, leaf.part) for leaf in problem.leaves] == [
        ("[0]['weight']", ""),
        ("[1]", "real"),
        ("[1]", "imag"),
        ("[4]", ""),
    ]
    assert [weight.shape for weight in problem.weights] == [(2,), (2,), (2,)]


def test_nothing_floating_is_nothing_to_check():
    assert problem_of(lambda n: n * 2, (3,)) is None
    assert problem_of(lambda x: x > 0, (3.0,)) is None
    assert problem_of(lambda x: x[:0], (jnp.ones(3),)) is None


def test_a_scalar_output_is_taken_as_it_is():
    (weight,) = problem_of(jnp.sum, (jnp.ones(3),)).weights
    assert weight == 1.0


def test_a_function_that_steers_by_numbers_has_no_trace():
    problem = problem_of(lambda x: x if x > 0 else -x, (2.0,))
    assert problem.jaxpr is None
    assert "asks a traced value" in problem.untraced


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_directions_are_exact_in_the_dtype_of_their_leaf(dtype):
    x = jnp.array([3.0, -1e-3, 0.0, 7.7], dtype)
    problem = problem_of(jnp.sum, (x,))
    for direction in directions(problem.leaves[0], x, units=8):
        assert np.array_equal(
            np.asarray(jnp.asarray(direction.array, dtype), float), direction.array
        )


def test_a_leaf_keeps_its_directions_when_others_come_and_go():
    fun = lambda tree: sum(jnp.sum(leaf) for leaf in tree.values())
    tree = {"b": jnp.arange(20.0), "c": jnp.ones(3)}
    alone, beside = (problem_of(fun, (t,)) for t in (tree, {"a": jnp.ones(4), **tree}))
    of_b = [usual_direction(p.leaves[n], p.x[n]) for p, n in ((alone, 0), (beside, 1))]
    assert np.array_equal(of_b[0].array, of_b[1].array)


def test_entries_move_by_a_power_of_two_of_their_own_size():
    x = jnp.array([5.0, 1e-20, 0.0])
    problem = problem_of(jnp.sum, (x,))
    units = [d for d in directions(problem.leaves[0], x, units=3) if d.entry is not None]
    assert [d.array[d.entry] for d in units[:2]] == [4.0, 2.0 ** np.floor(np.log2(1e-20))]
    # An entry of zero moves by the size of the others.
    assert units[2].array[2] == 2.0


def test_a_missing_mode_is_told_from_a_rule_that_does_not_fit():
    @jax.custom_vjp
    def fun(x):
        return jnp.sin(x)

    fun.defvjp(lambda x: (fun(x), x), lambda x, g: (g * jnp.cos(x),))
    claims = claims_of(problem_of(fun, (jnp.ones(3),)))
    assert claims.modes == ("rev",)
    assert "forward-mode" in claims.missing["fwd"]
    assert not claims.misfits
    fun.defvjp(lambda x: (fun(x), x), lambda x, g: (g[0],))
    claims = claims_of(problem_of(fun, (jnp.ones(3),)))
    assert claims.modes == ()
    assert "bwd" in claims.misfits["rev"]


def test_a_while_loop_has_no_reverse_mode():
    def fun(x):
        return jax.lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] * x, s[1] + 1), (x, 0))[0]

    claims = claims_of(problem_of(fun, (2.0,)))
    assert claims.modes == ("fwd",)
    assert "while_loop" in claims.missing["rev"]
    (slope,), factor = claims.slopes({0: np.asarray(1.0)})
    assert (float(slope), factor) == (32.0, 1.0)  # d(x^4) = 4 x^3


def test_a_direction_that_overflows_is_tried_shorter():
    claims = claims_of(problem_of(lambda x: x * jnp.float32(1e30), (jnp.float32(1e8),)), ("fwd",))
    (slope,), factor = claims.slopes({0: np.asarray(2.0**40)})
    assert factor == 2.0**-20
    assert np.isclose(float(slope), 2.0**20 * 1e30)


def test_complex_leaves_are_claimed_by_their_parts():
    z = jnp.array(1.0 + 2.0j)
    claims = claims_of(problem_of(lambda z: jnp.real(z * z), (z,)))
    # Re (a + bi)^2 = a^2 - b^2
    assert [float(part) for part in claims.gradient] == [2.0, -4.0]


def test_the_second_order_is_the_derivative_of_the_first():
    problem = derivative_of(
        claims_of(problem_of(lambda x: jnp.sum(x**3), (jnp.array([1.0, 2.0]),)))
    )
    (gradient,) = problem.fun(*problem.x)
    assert gradient.tolist() == [3.0, 12.0]
    (weight,) = problem.weights
    assert np.allclose(claims_of(problem).gradient[0], np.array([6.0, 12.0]) * weight)


def test_few_kinks_are_told_from_the_other_entries():
    problem = problem_of(jnp.sum, (jnp.arange(1.0, 33.0),))
    direction = usual_direction(problem.leaves[0], problem.x[0])
    at_kink = {5, 17}
    parts = kinks.separated(direction, lambda part: at_kink.isdisjoint(np.flatnonzero(part)))
    assert sorted(parts.kinks) == [(5,), (17,)]
    assert set(np.flatnonzero(parts.rest.array)) == set(range(32)) - at_kink
    many = kinks.separated(direction, lambda part: False)
    assert many == ([], None)
