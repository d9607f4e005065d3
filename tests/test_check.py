"""`check_grads` as it is called, and what its verdicts rest on."""

import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads as check_grads_of_jax

import diffcompare as dc
from diffcompare.checking import judging, white_box
from diffcompare.checking.findings import summarized
from diffcompare.checking.problem import problem_of
from diffcompare.exact.multiprecision import MpmathArithmetic


def with_gradient(fun, gradient):
    """Returns `fun` with a rule that claims `gradient(x) * g`."""
    wrapped = jax.custom_vjp(fun)
    wrapped.defvjp(lambda x: (fun(x), x), lambda x, g: (gradient(x) * g,))
    return wrapped


def loss(params, x):
    hidden = jnp.tanh(x @ params["weight"] + params["bias"][None])
    return jnp.mean(jnp.square(hidden @ params["out"]))


def network(dtype="float32", sizes=(4, 6, 3), batch=5):
    keys = jax.random.split(jax.random.key(0), 4)
    features, hidden, outputs = sizes
    params = {
        "weight": jax.random.normal(keys[0], (features, hidden), dtype) / features**0.5,
        "bias": jax.random.normal(keys[1], (hidden,), dtype),
        "out": jax.random.normal(keys[2], (hidden, outputs), dtype) / hidden**0.5,
    }
    return params, jax.random.normal(keys[3], (batch, features), dtype)


def test_it_takes_the_arguments_of_jax():
    ours, theirs = (
        list(inspect.signature(check).parameters) for check in (dc.check_grads, check_grads_of_jax)
    )
    assert ours[: len(theirs)] == ["fun", *theirs[1:]]
    for check in (dc.check_grads, check_grads_of_jax):
        check(jnp.sin, (0.3,), 2, ("rev",), 1e-2, 1e-2, None)
        check(jnp.sin, (0.3,), 1, "fwd")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_a_network_is_consistent_in_every_dtype(dtype):
    report = dc.check_grads(loss, network(dtype))
    assert report.verdict == "consistent"
    assert report.modes == ("rev", "fwd")
    assert [leaf.path for leaf in report.leaves] == [
        "[0]['bias']",
        "[0]['out']",
        "[0]['weight']",
        "[1]",
    ]
    assert all(leaf.witness == "exact walk" for leaf in report.leaves)
    # Leaves move at once, each with a part of the slope that is near to the others': 4 eps of all
    # of them is some 16 to 40 eps of one.
    eps = float(jnp.finfo(jnp.float64 if dtype == "float64" else jnp.float32).eps)
    assert all(leaf.detectable < 40 * eps for leaf in report.leaves)


def test_a_wrong_gradient_raises_with_a_report_that_names_leaf_and_entry():
    fun = with_gradient(lambda x: jnp.sum(x**2), lambda x: 2 * x.at[3].multiply(1.001))
    with pytest.raises(AssertionError, match=r"WRONG(?s:.*)\[0\](?s:.*)3"):
        dc.check_grads(fun, (jnp.arange(1.0, 7.0),))
    report = dc.check_grads(fun, (jnp.arange(1.0, 7.0),), raises=False)
    (entry,) = report.leaves[0].entries
    assert (entry.index, entry.true) == ((3,), 8.0)
    assert np.isclose(entry.claimed, 8.008, rtol=1e-6)


def test_only_the_leaf_that_is_wrong_is_called_so():
    bias = with_gradient(lambda b: b * 1.0, lambda b: jnp.full_like(b, 1.01))
    fun = lambda params, x: loss({**params, "bias": bias(params["bias"])}, x)
    report = dc.check_grads(fun, network(), raises=False)
    assert [leaf.path for leaf in report.leaves if leaf.verdict == "wrong"] == ["[0]['bias']"]


def test_a_small_leaf_is_not_lost_beside_a_large_one():
    small = with_gradient(lambda b: b * 1.0, lambda b: jnp.full_like(b, 1.01))
    fun = lambda a, b: jnp.sum(jnp.square(a)) * 1e6 + 1e-6 * jnp.sum(jnp.sin(small(b)))
    args = jnp.ones(50, jnp.float32), jnp.ones(3, jnp.float32)
    report = dc.check_grads(fun, args, raises=False)
    assert [leaf.verdict for leaf in report.leaves] == ["consistent", "wrong"]


def test_a_wrong_entry_is_not_lost_in_a_large_leaf():
    # One of 4,000, by 1 %: 1e-6 of the slope along a direction, and less than 4 eps of half
    # precision by far.
    fun = with_gradient(lambda x: jnp.sum(jnp.sin(x)), lambda x: jnp.cos(x).at[1234].multiply(1.01))
    report = dc.check_grads(fun, (jnp.linspace(0.1, 1.2, 4000, dtype=jnp.float32),), raises=False)
    assert report.verdict == "wrong"
    assert report.leaves[0].entries[0].index == (1234,)


def test_a_mistake_beside_a_kink_is_seen():
    fun = with_gradient(lambda x: jnp.sum(jnp.abs(x)), lambda x: jnp.sign(x).at[2].multiply(1.5))
    report = dc.check_grads(fun, (jnp.array([1.0, 0.0, 3.0, -2.0]),), raises=False)
    assert report.verdict == "wrong"
    assert report.leaves[0].entries[0].index == (2,)


@pytest.mark.parametrize("slope", [-1.0, -0.3, 0.0, 1.0])
def test_a_subgradient_is_a_kink_and_what_lies_outside_is_wrong(slope):
    inside = with_gradient(lambda x: jnp.sum(jnp.abs(x)), lambda x: jnp.full_like(x, slope))
    outside = with_gradient(
        lambda x: jnp.sum(jnp.abs(x)), lambda x: jnp.full_like(x, 1.5 + slope**2)
    )
    assert dc.check_grads(inside, (jnp.zeros(1),)).verdict == "kink"
    assert dc.check_grads(outside, (jnp.zeros(1),), raises=False).verdict == "wrong"


def test_the_second_derivative_is_checked_as_the_derivative_of_the_first():
    @jax.custom_jvp
    def fun(x):
        return jnp.sin(x)

    # The first derivative is right, and the rule's own derivative is lost.
    fun.defjvp(lambda x, t: (fun(*x), jax.lax.stop_gradient(jnp.cos(*x)) * t[0]))
    assert dc.check_grads(fun, (0.5,), order=1).verdict == "consistent"
    report = dc.check_grads(fun, (0.5,), order=2, raises=False)
    assert [leaf.verdict for leaf in report.leaves] == ["consistent", "wrong"]
    assert report.leaves[1].reason.startswith("order 2: ")


def test_only_the_modes_that_are_asked_for_are_checked():
    fun = with_gradient(lambda x: x**2, lambda x: 2 * x)
    report = dc.check_grads(fun, (1.5,))
    assert report.modes == ("rev",)
    assert "fwd" in report.missing
    assert dc.check_grads(jnp.sin, (1.5,), modes=("fwd",)).modes == ("fwd",)


def test_a_function_that_cannot_be_linearized_is_checked_in_forward_mode():
    # A window of a reducer that is not known has no transpose.
    zero = lambda x: jnp.zeros((), x.dtype)[()]
    layer = lambda x: jax.lax.reduce_window(x, zero(x), jax.lax.add, (2,), (1,), "VALID")
    report = dc.check_grads(layer, (np.arange(1.0, 5.0),))
    assert report.verdict == "consistent"
    assert report.modes == ("fwd",)
    (left,) = [each for each in report.examinations if each.name == "linearize against jvp"]
    assert left.passed is None
    assert left.detail.startswith("left out: jax.linearize does not work on it: Linearization")


def test_the_same_input_gives_the_same_report_byte_for_byte():
    texts = {
        (str(report), report.to_json())
        for report in (dc.check_grads(loss, network(), raises=False) for _ in range(2))
    }
    assert len(texts) == 1
    ((_, found),) = texts
    assert json.loads(found)["verdict"] == "consistent"


def test_the_first_line_says_where_nothing_was_checked_or_something_allowed():
    first = lambda report: str(report).splitlines()[0]
    assert first(dc.check_grads(jnp.log, (-1.0,))) == (
        "KINK: log has no finite value at this point, so that no derivative was checked."
    )
    assert first(dc.check_grads(lambda n: n * 2, (3,))) == (
        "CONSISTENT: <lambda> has nothing to differentiate, so that nothing was checked."
    )
    rounded = lambda x: x + jax.lax.stop_gradient(jnp.round(x) - x)
    allowed = dc.check_grads(rounded, (0.7,), allow=("straight-through",))
    assert allowed.verdict == "consistent"
    assert first(allowed).startswith("CONSISTENT but for what is allowed")


def test_a_claim_of_nan_at_a_kink_is_wrong_by_both_slopes():
    report = dc.check_grads(lambda x: jnp.sqrt(x**2), (0.0,), raises=False)
    assert report.verdict == "wrong"
    (leaf,) = report.leaves
    assert leaf.reason.endswith("the slopes of both sides are -1 and 1")


def test_nothing_floating_point_is_consistent():
    report = dc.check_grads(lambda n: n + 1, (3,))
    assert (report.verdict, report.leaves) == ("consistent", ())


def test_a_function_without_a_derivative_of_its_values_is_never_consistent():
    calls = iter(range(1000))

    def fun(x):
        shape = jax.ShapeDtypeStruct((), x.dtype)
        noise = jax.pure_callback(lambda: np.asarray(next(calls), x.dtype), shape)
        return jnp.sin(x) + jax.lax.stop_gradient(noise)

    assert dc.check_grads(fun, (0.5,), raises=False).verdict == "inconclusive"


def test_mpmath_finds_what_gmpy2_finds(monkeypatch):
    monkeypatch.setattr(judging, "arithmetic", MpmathArithmetic)
    assert dc.check_grads(loss, network()).verdict == "consistent"
    fun = with_gradient(lambda x: jnp.sum(x**2), lambda x: 2 * x.at[3].multiply(1.001))
    assert dc.check_grads(fun, (jnp.arange(1.0, 7.0),), raises=False).verdict == "wrong"


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_no_verdict_hangs_on_a_threshold(monkeypatch, factor):
    for name in ("_ROUNDED", "DRAWN", "_ITERATED"):
        monkeypatch.setattr(white_box, name, getattr(white_box, name) * factor)
    assert dc.check_grads(loss, network()).verdict == "consistent"
    assert dc.check_grads(jax.nn.gelu, (jnp.bfloat16(0.7),)).verdict == "consistent"
    bias = with_gradient(lambda b: b * 1.0, lambda b: jnp.full_like(b, 1.01))
    fun = lambda params, x: loss({**params, "bias": bias(params["bias"])}, x)
    assert dc.check_grads(fun, network(), raises=False).verdict == "wrong"
    assert dc.check_grads(jnp.abs, (0.0,)).verdict == "kink"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"args": 1.0}, TypeError, r"tuple of the function's arguments.*\(x,\)"),
        ({"order": 0}, ValueError, "order must be at least 1"),
        ({"order": 1.5}, TypeError, "order must be an integer"),
        ({"modes": ("backward",)}, ValueError, "modes must be 'rev', 'fwd' or both"),
        ({"modes": ()}, ValueError, "modes must be"),
        ({"allow": ("luck",)}, ValueError, "allow knows"),
        ({"fun": 3}, TypeError, "needs a function"),
    ],
)
def test_options_are_what_they_have_to_be(arguments, error, message):
    with pytest.raises(error, match=message):
        dc.check_grads(**{"fun": jnp.sin, "args": (1.0,), **arguments})


def test_a_traced_argument_is_refused():
    with pytest.raises(TypeError, match="numbers themselves"):
        jax.jit(lambda x: dc.check_grads(jnp.sin, (x,)))(1.0)


def test_a_leaf_of_which_nothing_was_found_has_not_passed():
    problem = problem_of(jnp.sin, (0.5,))
    report = summarized(problem.leaves[0], [], "exact walk", ("fwd",))
    assert report.verdict == "inconclusive"
    assert "no claim" in report.reason


def test_a_report_says_what_the_check_cost():
    report = dc.check_grads(jnp.sin, (0.5,))
    # The function, to both sides of the point, and what is claimed of it in both modes.
    assert report.evaluations.walks >= 5
    assert f"{report.evaluations.walks} exact walks" in str(report)


def test_a_value_that_rounding_may_change_by_a_thousandth_is_no_mistake():
    # Compiled as a whole, a mean is rounded less often than by its parts, and all but a thousandth
    # of it cancels.
    x = np.array([100.5, 101.0, 99.0], np.float32)
    assert dc.check_grads(lambda x: jnp.mean(x**2) - jnp.mean(x) ** 2, (x,)).verdict == "consistent"


def test_what_does_something_else_where_it_is_traced_is_wrong():
    def fun(x):
        return x * (1.01 if isinstance(x, jax.core.Tracer) else 1.0)

    report = dc.check_grads(fun, (np.array([0.5, 2.0], np.float32),), raises=False)
    assert report.verdict == "wrong"
    (found,) = [each for each in report.examinations if each.passed is False]
    assert (found.name, found.detail) == (
        "compiled against eager",
        "the value differs by 0.01 of its size",
    )


def test_what_differs_where_it_is_traced_does_not_pass_without_an_exact_walk(monkeypatch):
    def fun(x):
        return x * (1.01 if isinstance(x, jax.core.Tracer) else 1.0)

    monkeypatch.setattr(judging, "_by_walks", lambda *_: (None, None, ["no exact walk"], []))
    report = dc.check_grads(fun, (np.array([0.5, 2.0], np.float32),), raises=False)
    assert report.verdict == "inconclusive"
    (leaf,) = report.leaves
    assert "differs by 0.01 of its size, of which rounding may be the cause" in leaf.reason
