"""What people suffer from when they check gradients today, complaint by complaint."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from diffcompare.checking import check_grads
from experiments._planted_mistakes import misreported, with_mistake


def wrong_leaves(report):
    return [leaf.path for leaf in report.leaves if leaf.verdict == "wrong"]


def numbers(dtype, *shape, scale=1.0):
    drawn = np.random.default_rng(len(shape)).normal(size=shape)
    return jnp.asarray(drawn * scale, dtype)


def test_no_tolerance_is_needed_and_none_lets_a_wrong_gradient_pass():
    parameters = inspect.signature(check_grads).parameters.values()
    assert {p.name for p in parameters if p.default is p.empty} == {"fun", "args"}
    mistaken = with_mistake(jnp.sin, lambda g, _: (2 * g[0],))
    generous = {"atol": 1e9, "rtol": 1e9, "eps": 1.0, "raises": False}
    assert check_grads(mistaken, (numbers("float32", 4),), **generous).verdict == "wrong"


@pytest.mark.parametrize("outputs", [4, 400])
def test_a_zero_tangent_of_sine_is_wrong_however_many_outputs_there_are(outputs):
    """https://github.com/jax-ml/jax/issues/3130: the tolerance grows with the output's size."""
    sine = jax.custom_jvp(jnp.sin)
    sine.defjvp(lambda primals, tangents: (sine(*primals), 0 * tangents[0]))
    report = check_grads(sine, (numbers("float32", outputs),), raises=False)
    assert report.verdict == "wrong"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_right_gradient_in_half_precision_is_consistent(dtype):
    """https://github.com/jax-ml/jax/issues/7742: one absolute step for every dtype."""
    x = numbers(dtype, 3, 4)
    fun = lambda w: jnp.mean(jax.nn.softmax(jnp.tanh(x @ w)) ** 2)
    assert check_grads(fun, (numbers(dtype, 4, 3),)).verdict == "consistent"


@pytest.mark.parametrize("size", [1e3, 1e5, 1e8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_lost_far_from_zero_is_wrong(dtype, size):
    """https://github.com/jax-ml/jax/issues/7742: the step is less than one ulp of the argument."""
    fun = lambda x: jnp.sum(jnp.log(lax.stop_gradient(x))) + jnp.sum(x) * 0
    report = check_grads(fun, (jnp.asarray([size, 3 * size], dtype),), raises=False)
    assert report.verdict == "wrong"


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_a_leaf_that_its_siblings_swamp_is_named(dtype):
    lost = misreported(lambda g: 0 * g)
    fun = lambda p: jnp.sum(p["large"] ** 2) + 2.0**-12 * jnp.sum(jnp.sin(lost(p["small"])))
    params = {"large": numbers(dtype, 20, scale=16.0), "small": numbers(dtype, 3)}
    report = check_grads(fun, (params,), raises=False)
    assert report.verdict == "wrong"
    assert wrong_leaves(report) == ["[0]['small']"]


def test_nan_is_not_taken_for_the_derivative_of_a_finite_function():
    """The numerical and the claimed derivative are both NaN, and compare as equal."""
    fun = lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0)
    report = check_grads(fun, (jnp.asarray([-1.0, 4.0]),), raises=False)
    assert report.verdict == "wrong"


def test_a_function_that_is_nan_is_not_consistent():
    report = check_grads(jnp.log, (jnp.asarray([-1.0, 2.0]),), raises=False)
    assert report.verdict in ("kink", "inconclusive")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_kink_is_no_reason_to_fail(dtype):
    """https://github.com/BVLC/caffe/issues/1334: the ReLU is taken out of the tests."""
    x = jnp.asarray([[0.0, 1.0], [2.0, 0.0]], dtype)
    fun = lambda w: jax.nn.relu(x @ w)
    report = check_grads(fun, (jnp.asarray([[1.0, 0.0], [-0.5, 3.0]], dtype),), raises=True)
    assert report.verdict == "kink"


def test_a_wrong_gradient_beside_a_kink_is_wrong_all_the_same():
    """https://github.com/BVLC/caffe/issues/1334: a kink excuses its own entry only."""
    fun = with_mistake(jax.nn.relu, lambda g, _: (2 * g[0],))
    report = check_grads(fun, (jnp.asarray([0.0, 1.0]),), raises=False)
    assert report.verdict == "wrong"


def noisy(x):
    """Rounds to seven digits on its way, so that its differences are noise at small steps."""
    return jnp.sin((x + 3e4) - 3e4)


def test_a_noisy_difference_is_no_wrong_gradient():
    """https://github.com/pasteurlabs/tesseract-core/issues/740"""
    x = jnp.asarray([0.3, 1.1], jnp.float32)
    assert check_grads(noisy, (x,)).verdict == "consistent"


def test_a_wrong_gradient_is_no_noisy_difference():
    """https://github.com/pasteurlabs/tesseract-core/issues/740"""
    x = jnp.asarray([0.3, 1.1], jnp.float32)
    mistaken = with_mistake(noisy, lambda g, _: (g[0] * 1.05,))
    assert check_grads(mistaken, (x,), raises=False).verdict == "wrong"


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1e6, 1e12, 1e30])
def test_no_right_gradient_is_accused_whatever_the_scale_of_its_argument(scale):
    """https://github.com/pasteurlabs/tesseract-core/issues/706: a relative step is absolute."""
    fun = lambda x: jnp.sin(x / scale) * scale
    x = jnp.asarray([0.3, -1.2, 2.0]) * scale
    assert check_grads(fun, (x,)).verdict == "consistent"


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_a_wrong_gradient_is_found_whatever_the_scale_of_its_argument(scale):
    """https://github.com/pasteurlabs/tesseract-core/issues/706"""
    mistaken = with_mistake(lambda x: jnp.sin(x / scale) * scale, lambda g, _: (1.01 * g[0],))
    x = jnp.asarray([0.3, -1.2, 2.0]) * scale
    assert check_grads(mistaken, (x,), raises=False).verdict == "wrong"


@pytest.mark.parametrize(
    "change",
    [lambda g: jnp.roll(g, 1), lambda g: 0 * g, lambda g: g.at[17].set(0.0)],
    ids=["another row", "zero", "one entry"],
)
def test_a_wrong_sparse_jacobian_is_wrong(change):
    """https://github.com/pytorch/pytorch/issues/59615: a tolerance for dense Jacobians."""
    mistaken = with_mistake(lambda x: jnp.sin(x) * 1e-3, lambda g, _: (change(g[0]),))
    report = check_grads(mistaken, (numbers("float64", 500),), raises=False)
    assert report.verdict == "wrong"


def test_a_step_that_meets_whole_periods_hides_nothing():
    """A difference whose step is a period of the function sees a constant."""
    x = jnp.asarray([0.1, 0.37])
    fun = lambda x: jnp.sin(2 * np.pi * 1e4 * x)
    assert check_grads(fun, (x,)).verdict == "consistent"
    lost = lambda x: fun(lax.stop_gradient(x)) + 0 * x
    assert check_grads(lost, (x,), raises=False).verdict == "wrong"


def test_the_mode_that_does_not_exist_is_a_note_and_no_failure():
    """A `custom_vjp` has no forward mode, and a `while` loop no reverse mode."""
    ruled = jax.custom_vjp(jnp.sin)
    ruled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))
    assert check_grads(ruled, (jnp.asarray(0.5),)).verdict == "consistent"
    halved = lambda x: lax.while_loop(lambda y: y > 1, lambda y: y / 2, x)
    assert check_grads(halved, (jnp.asarray(5.0),)).verdict == "consistent"


def test_arguments_that_are_no_real_arrays_are_left_alone():
    tree = {"w": numbers("float32", 3), "n": 3, "name": "layer", "key": jax.random.key(0),
            "none": None, "mask": jnp.asarray([True, False, True])}  # fmt: skip
    fun = lambda p: jnp.sum(jnp.where(p["mask"], p["w"], 0) ** 2) * p["n"]
    report = check_grads(fun, (tree,))
    assert report.verdict == "consistent"
    assert [leaf.path for leaf in report.leaves] == ["[0]['w']"]


def test_a_wrong_gradient_raises_and_names_leaf_and_entry():
    """`AssertionError: Not equal to tolerance` says neither which argument nor which entry."""
    mistaken = misreported(lambda g: g.at[1, 2].multiply(3.0, unique_indices=True))
    fun = lambda p: jnp.sum(jnp.sin(p["v"])) + jnp.sum(jnp.cos(mistaken(p["w"])))
    params = {"v": numbers("float32", 3), "w": numbers("float32", 2, 3)}
    with pytest.raises(AssertionError, match=r"\['w'\]"):
        check_grads(fun, (params,))
    report = check_grads(fun, (params,), raises=False)
    (leaf,) = [leaf for leaf in report.leaves if leaf.verdict == "wrong"]
    (entry,) = leaf.entries
    assert entry.index == (1, 2)
    true = -np.sin(float(params["w"][1, 2]))
    np.testing.assert_allclose([entry.claimed, entry.true], [3 * true, true], rtol=1e-6)


def test_the_same_check_gives_the_same_report():
    fun = with_mistake(jnp.sin, lambda g, _: (g[0] * 1.5,))
    one, two = (check_grads(fun, (numbers("float32", 4),), raises=False) for _ in range(2))
    assert str(one) == str(two)


def test_a_further_leaf_changes_nothing_in_what_is_said_of_the_others():
    fun = with_mistake(jnp.sin, lambda g, _: (g[0] * 1.5,))
    x = numbers("float32", 4)
    alone = check_grads(lambda t: fun(t["x"]), ({"x": x},), raises=False)
    beside = check_grads(lambda t: fun(t["x"]) + 0 * t["y"], ({"x": x, "y": x + 1},), raises=False)
    (found,) = [leaf for leaf in beside.leaves if leaf.path == "[0]['x']"]
    assert (found.verdict, found.entries) == (alone.leaves[0].verdict, alone.leaves[0].entries)
