"""The values of a function convict a wrong derivative, and no right one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from diffcompare.checking import black_box
from diffcompare.checking.black_box import judged
from diffcompare.checking.claims import claims_of
from diffcompare.checking.problem import problem_of
from diffcompare.checking.programs import (
    has_loop_under_rule,
    is_opaque,
    with_moved_constants,
)
from diffcompare.checking.values import values_of


def reports(fun, *args, modes=("rev", "fwd")):
    problem = problem_of(fun, args)
    return judged(problem, claims_of(problem, modes), range(len(problem.leaves)))


def report(fun, *args, modes=("rev", "fwd")):
    (found,) = reports(fun, *args, modes=modes)
    return found


def with_slope(fun, slope):
    """Returns a function whose slope is claimed to be another function, in both modes."""
    ruled = jax.custom_jvp(fun)
    ruled.defjvp(lambda x, t: (fun(*x), slope(*x) * t[0]))
    return ruled


def with_gradient(fun, gradient):
    """Returns a function whose gradient is claimed to be another function, in reverse mode."""
    ruled = jax.custom_vjp(fun)
    ruled.defvjp(lambda x: (fun(x), x), lambda x, g: (g * gradient(x),))
    return ruled


def on_host(fun, dtype=None):
    """Returns a function that NumPy computes, in a dtype of its own."""

    def called(x):
        compute = lambda x: np.asarray(fun(np.asarray(x, dtype))).astype(x.dtype)
        return jax.pure_callback(compute, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    return called


def array(values, dtype="float64"):
    return jnp.asarray(values, dtype)


# Functions of one number, with slopes by hand.
SMOOTH = {
    "sine": (jnp.sin, jnp.cos, 0.7, "bfloat16"),
    "fast": (lambda x: jnp.sin(1e6 * x), lambda x: 1e6 * jnp.cos(1e6 * x), 0.7, "float64"),
    "tiny argument": (jnp.sqrt, lambda x: 0.5 / jnp.sqrt(x), 1e-30, "float32"),
    "huge argument": (jnp.log, lambda x: 1 / x, 1e30, "float32"),
    "beyond the dtype": (lambda x: x * x * x, lambda x: 3 * x * x, 100.0, "float16"),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_the_right_slope_is_consistent_and_a_share_of_it_is_wrong(name):
    fun, slope, x, dtype = SMOOTH[name]
    right = report(with_slope(fun, slope), array(x, dtype))
    assert (right.verdict, right.witness) == ("consistent", "differences")
    assert right.detectable <= 0.01
    # A factor that every dtype holds, in few digits.
    wrong = report(with_slope(fun, lambda x: slope(x) * 1.125), array(x, dtype))
    assert wrong.verdict == "wrong"
    assert wrong.mode in ("rev", "fwd")
    (entry,) = wrong.entries
    assert np.isclose(entry.claimed / entry.true, 1.125, rtol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 0.01), ("float64", 1e-3), ("float64", 1e-6)]
)
def test_a_small_mistake_is_found(dtype, size):
    wrong = with_slope(jnp.tanh, lambda x: (1 - jnp.tanh(x) ** 2) * (1 + size))
    found = report(wrong, array([-1.0, 0.25, 1.5], dtype))
    assert found.verdict == "wrong"
    assert np.isclose(found.error, size, rtol=0.01)


def test_a_leaf_is_judged_by_itself():
    def fun(right, small):
        return jnp.sum(jnp.sin(right)) * 1e6 + jnp.sum(with_slope(jnp.exp, jnp.sin)(small))

    first, second = reports(fun, jnp.arange(5.0), jnp.array([0.1, 0.2]))
    assert (first.verdict, second.verdict) == ("consistent", "wrong")
    assert first.path == "[0]"
    assert second.path == "[1]"


def test_code_in_half_precision_is_judged_by_what_it_means():
    x = array(np.linspace(-2, 2, 9), "bfloat16")
    # Differences of its own values would not see a third of the slope.
    assert report(lambda x: jax.nn.softmax(x)[0], x).verdict == "consistent"
    lost = lambda x: jax.nn.softmax(x - jax.lax.stop_gradient(x[0] ** 2))[0] + x[0]
    assert report(lambda x: lost(x) * jax.lax.stop_gradient(x[1]), x).verdict == "wrong"


def test_ill_conditioned_functions_are_not_accused():
    hilbert = 1 / (np.arange(6)[:, None] + np.arange(6) + 1.0)
    fun = lambda b: jnp.sum(jnp.linalg.solve(jnp.asarray(hilbert), b) ** 2)
    assert report(fun, jnp.arange(1.0, 7.0)).verdict in ("consistent", "inconclusive")
    cancelling = lambda x: (1e12 + x) - 1e12
    assert report(cancelling, jnp.array(0.3)).verdict in ("consistent", "inconclusive")


KINKS = {"within": (0.5, "kink"), "at an end": (0.0, "kink"), "above": (1.25, "wrong"),
         "below": (-0.5, "wrong")}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_at_a_kink_slopes_between_those_of_both_sides_are_valid(name):
    at_zero, verdict = KINKS[name]
    slope = lambda x: jnp.where(x > 0, 1.0, jnp.where(x < 0, 0.0, at_zero))
    relu = with_slope(lambda x: jnp.maximum(x, 0), slope)
    assert report(relu, array(0.0)).verdict == verdict
    # Among entries that have slopes it is told from them.
    found = report(relu, array([0.5, -1.0, 0.0, 2.0, 0.25, -3.0]))
    assert found.verdict == verdict


def test_a_mistake_beside_a_kink_is_found():
    slope = lambda x: jnp.where(x > 1.5, 1.25, jnp.where(x > 0, 1.0, 0.0))
    relu = with_slope(lambda x: jnp.maximum(x, 0), slope)
    assert report(relu, array([0.5, -1.0, 0.0, 2.0, 0.25, -3.0])).verdict == "wrong"


NO_SLOPE = {
    "jump": (jnp.sign, 0.0, "jumps"),
    "root": (jnp.sqrt, 0.0, "infinite"),
    "no value": (jnp.log, -1.0, "not finite here"),
}


@pytest.mark.parametrize("name", NO_SLOPE)
def test_where_there_is_no_slope_no_claim_is_wrong(name):
    fun, x, reason = NO_SLOPE[name]
    found = report(fun, array(x))
    assert found.verdict == "kink"
    assert reason in found.reason


def test_an_infinite_slope_in_one_entry_says_nothing_of_the_others():
    # In forward mode it is infinity times a tangent of zero, NaN.
    found = report(lambda x: jnp.sum(jnp.sqrt(x)), array([1.0, 0.0, 4.0]))
    assert found.verdict == "kink"


def test_a_claim_that_is_not_finite_is_wrong_where_a_slope_is():
    double_where = lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))
    found = report(double_where, array([1.0, -1.0, 4.0]))
    assert found.verdict == "wrong"
    (entry,) = found.entries
    assert entry.index == (1,)
    assert np.isnan(entry.claimed)
    assert entry.true == 0


def test_what_overflows_is_right_if_its_sign_is():
    # The slope is 1e40.
    steep = lambda sign: with_gradient(
        lambda x: jnp.float32(1e20) * x * jnp.float32(1e20), lambda x: jnp.float32(sign * np.inf)
    )
    assert report(steep(1), array(1e-10, "float32")).verdict == "consistent"
    assert report(steep(-1), array(1e-10, "float32")).verdict == "wrong"


def test_the_edge_of_a_domain_is_looked_at_from_within():
    fun = lambda x: 3 * x + x * x * jnp.sqrt(x)
    right = with_slope(fun, lambda x: 3 + 2.5 * x * jnp.sqrt(x))
    wrong = with_slope(fun, lambda x: 2.5 + 2.5 * x * jnp.sqrt(x))
    assert report(right, array(0.0)).verdict == "consistent"
    assert report(wrong, array(0.0)).verdict == "wrong"


STILL = {
    "constant": (lambda x: 0 * x + 3, jnp.zeros_like, jnp.ones_like),
    "long tread": (jnp.floor, jnp.zeros_like, jnp.ones_like),
    "minimum": (lambda x: (x - 2.5) ** 2, lambda x: 2 * (x - 2.5), lambda x: 2 * (x - 2.4)),
}


@pytest.mark.parametrize("name", STILL)
def test_a_slope_of_zero_is_seen(name):
    fun, right, wrong = STILL[name]
    assert report(with_slope(fun, right), array(2.5)).verdict == "consistent"
    assert report(with_slope(fun, wrong), array(2.5)).verdict == "wrong"


def test_fine_stairs_are_not_judged():
    stairs = lambda x: jnp.floor(x * 1e5) / 1e5
    for slope in (jnp.zeros_like, jnp.ones_like):
        found = report(with_slope(stairs, slope), array(0.7000032))
        assert found.verdict == "inconclusive"
        assert "staircase" in found.reason


def test_noise_of_float32_within_a_callback_is_no_mistake():
    x = array([0.3, 0.7])
    sine = on_host(np.sin, np.float32)
    assert report(with_slope(sine, jnp.cos), x).verdict == "consistent"
    found = report(with_slope(sine, lambda x: 1.02 * jnp.cos(x)), x)
    assert found.verdict == "wrong"


def test_a_callback_is_judged_by_what_its_dtype_can_show():
    found = report(with_slope(on_host(np.sin), jnp.cos), array(0.7, "float32"))
    assert found.verdict == "consistent"
    assert 1e-5 < found.detectable < 0.01
    found = report(with_slope(on_host(np.sin), jnp.cos), array(0.7, "bfloat16"))
    assert found.verdict == "inconclusive"


def test_a_callback_in_the_rule_is_judged_too():
    by_host = on_host(lambda x: 1 / (1 + x**2))
    assert report(with_gradient(jnp.arctan, by_host), array([0.3, 0.7])).verdict == "consistent"
    by_host = on_host(lambda x: 1 / (1 + np.abs(x)))
    assert report(with_gradient(jnp.arctan, by_host), array([0.3, 0.7])).verdict == "wrong"


def test_a_function_without_a_trace_is_called():
    def fun(x, scale):
        return jnp.sum(jnp.sin(x)) * scale if x[0] > 0 else jnp.sum(x)

    x = array([0.5])
    assert report(lambda x: fun(x, 1.0), x).verdict == "consistent"
    lost = lambda x: fun(x, 1.0) + jax.lax.stop_gradient(fun(x, 0.5))
    assert report(lost, x).verdict == "wrong"


def test_a_function_that_changes_is_not_judged():
    calls = itertools.count()
    noise = on_host(lambda x: np.full_like(x, next(calls)))
    found = report(lambda x: jnp.sin(x) + noise(jax.lax.stop_gradient(x)), array(0.7))
    assert found.verdict == "inconclusive"
    assert "two values" in found.reason


def test_a_limit_is_not_the_slope_of_the_last_pass():
    def iterated(x):  # converges to the root of x, from far away in so many passes
        step = lambda y, _: (0.5 * (y + x / y), None)
        return jax.lax.scan(step, jnp.ones_like(x), length=4)[0]

    of_limit = lambda x: 0.5 / jnp.sqrt(x)
    # The root of 4 after 4 passes is off by 9e-8; float32 has half of its digits.
    found = report(with_slope(iterated, of_limit), array(4.0, "float32"))
    assert found.verdict == "inconclusive"
    assert "iteration" in found.reason
    found = report(with_slope(iterated, lambda x: 0.51 / jnp.sqrt(x)), array(4.0, "float32"))
    assert found.verdict == "wrong"


def test_constants_of_a_rule_are_rounded_to_its_dtype():
    # Its slope has the constant 2 / sqrt(pi), in float32.
    found = report(jax.lax.erf, array(0.7, "float32"))
    assert found.verdict == "consistent"
    assert found.detectable > 1e-8
    # There they could be off by more than a hundredth.
    found = report(jax.lax.erf, array(0.7, "bfloat16"))
    assert found.verdict == "inconclusive"
    assert "constants" in found.reason


def test_a_factor_is_seen_where_the_terms_of_a_slope_cancel():
    # 1 %, of which a thousand terms of random signs leave a thirtieth.
    fun = with_gradient(lambda x: jnp.sum(jnp.sin(x)), lambda x: jnp.cos(x) * 1.01)
    x = array(np.linspace(0.1, 1.2, 1000), "float16")
    assert report(fun, x).verdict == "wrong"


@pytest.mark.parametrize("places", [[5], [3, 1000, 1999]])
def test_wrong_entries_among_many_are_named(places):
    factor = np.ones(2000)
    factor[places] = 1.25
    fun = with_gradient(lambda x: jnp.sum(jnp.sin(x)), lambda x: jnp.cos(x) * factor)
    found = report(fun, jnp.linspace(0.1, 1.2, 2000))
    assert found.verdict == "wrong"
    assert sorted(entry.index[0] for entry in found.entries) == places
    assert found.wrong_entries == len(places)
    for entry in found.entries:
        assert np.isclose(entry.claimed / entry.true, 1.25, rtol=1e-6)


def test_a_wrong_forward_rule_beside_a_right_reverse_rule_is_found():
    def slopes(primals, tangents):
        (x,), (t,) = primals, tangents
        return jnp.sin(x), 1.5 * jnp.cos(x) * t

    fun = jax.custom_jvp(jnp.sin)
    fun.defjvp(slopes)
    found = report(fun, array([0.3, 0.7]), modes=("fwd",))
    assert (found.verdict, found.mode) == ("wrong", "fwd")


def test_it_works_without_x64():
    with jax.enable_x64(False):
        x = jnp.asarray([0.3, 0.7], jnp.float32)
        assert report(lambda x: jnp.exp(jnp.sin(x)), x).verdict == "consistent"
        wrong = with_slope(jnp.sin, lambda x: 1.001 * jnp.cos(x))
        assert report(wrong, x).verdict == "wrong"


def test_the_same_is_found_again():
    fun = lambda x: jnp.sum(jnp.tanh(x) ** 2)
    first, second = (report(fun, jnp.linspace(-1, 1, 50)) for _ in range(2))
    assert first == second


def test_values_of_many_parameters_take_little_memory():
    problem = problem_of(lambda x: jnp.sum(jnp.sin(x)), (jnp.ones(100_000, jnp.float32),))
    values = values_of(problem)
    assert values.is_promoted
    # Points, and what is made of them, in float64.
    assert values._batch * 3 * 8 * 100_000 <= 2**26


def test_what_cannot_be_batched_is_called_one_by_one():
    once = jax.custom_batching.custom_vmap(jnp.sin)

    @once.def_vmap
    def refuse(*_):
        raise NotImplementedError

    found = report(with_slope(once, jnp.cos), array([0.3, 0.7]), modes=("rev",))
    assert found.verdict == "consistent"


def test_a_program_is_searched_at_every_depth():
    def looped(fun):
        return lambda x: jax.lax.scan(lambda y, _: (fun(y), None), x, length=2)[0]

    x = array(0.7, "float32")
    trace = lambda fun: jax.make_jaxpr(fun)(x)
    assert is_opaque(trace(looped(on_host(np.sin))))
    assert not is_opaque(trace(looped(jnp.sin)))
    assert has_loop_under_rule(trace(with_slope(looped(jnp.sin), jnp.cos)))
    assert not has_loop_under_rule(trace(looped(with_slope(jnp.sin, jnp.cos))))


def test_only_the_constants_of_a_rule_are_moved():
    def looped(factor):
        return lambda x: jax.lax.scan(lambda y, _: (y * factor, None), x, length=2)[0]

    x = array(0.7, "float32")
    trace = lambda fun: jax.make_jaxpr(fun)(x)
    third, short, other = trace(looped(0.3)), trace(looped(0.75)), trace(jnp.sin)
    assert with_moved_constants(short, other, 0) is None
    assert with_moved_constants(third, third, 0) is None
    moved = with_moved_constants(third, other, 0)
    (value,) = jax.jit(jaxpr_as_fun(moved))(x)
    # The factor, which is applied twice, is off by one unit in its last place.
    assert np.isclose(abs(value / looped(jnp.float32(0.3))(x) - 1), 2 * 2.0**-23, rtol=0.6)


def test_nothing_claimed_is_nothing_judged():
    fun = on_host(np.sin)
    found = report(fun, array(0.7))
    assert found.verdict == "inconclusive"


def test_thresholds_may_move(monkeypatch):
    fun = lambda x: jnp.sum(jnp.exp(jnp.sin(3 * x)))
    x = jnp.linspace(-1.0, 1.0, 6)
    wrong = with_slope(jnp.exp, lambda x: 1.01 * jnp.exp(x))
    for factor in (0.25, 4.0):
        monkeypatch.setattr(black_box, "_BOUNDS", 4.0 * factor)
        assert report(fun, x).verdict == "consistent"
        assert report(wrong, x).verdict == "wrong"
