"""Estimates: their bounds hold, their status says why, and Richardson composes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import PROBLEMS, relative_error

import diffcompare as dc
from diffcompare.numerical import ladder, line
from diffcompare.numerical.estimation import Estimate, estimate
from diffcompare.numerical.richardson import Richardson
from experiments import _random_functions

SMOOTH = [problem for problem in PROBLEMS if problem.name != "pytree with holes"]


def entries(tree):
    leaves = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves)


@pytest.mark.parametrize("kind", _random_functions.CLASSES)
def test_the_bound_covers_the_error_on_random_functions(kind):
    drawn = _random_functions.draw(kind, 60, seed=3)
    x = np.array([each.x for each in drawn])
    truth = np.array([each.truth for each in drawn])

    def evaluate(points):
        return np.stack([each.fun(row) for each, row in zip(drawn, points, strict=True)])

    _, found = line.slopes_of_lines(evaluate, x, np.where(x == 0, 1, np.abs(x)))
    covered = np.abs(found.slope - truth) <= found.bound
    useful = found.bound <= np.abs(truth) / 10
    # 98 % are to be covered; that 4 or more of 60 are not then has a probability of 3 %.
    assert covered.mean() > 0.93
    assert useful.mean() > 0.75


@pytest.mark.parametrize("kind", _random_functions.CLASSES)
def test_the_derivatives_of_random_functions_are_those_of_their_arithmetic(kind):
    drawn = _random_functions.draw(kind, 20, seed=0)
    again = _random_functions.draw(kind, 20, seed=0)
    assert [(each.x, each.truth) for each in drawn] == [(each.x, each.truth) for each in again]
    assert [each.truth for each in drawn] != [
        each.truth for each in _random_functions.draw(kind, 20, seed=1)
    ]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
def test_bounds_hold_for_every_problem_and_dtype(problem, dtype):
    x, truth = problem.at(dtype)
    found = estimate(problem.fun)(x)
    assert jax.tree.structure(found.grad) == jax.tree.structure(x)
    for leaf, grad, bound, step, status in zip(
        *map(jax.tree.leaves, (x, found.grad, found.bound, found.step, found.status)), strict=True
    ):
        assert grad.shape == bound.shape == step.shape == status.shape == leaf.shape
        assert grad.dtype == leaf.dtype
        assert status.dtype == jnp.int8
    covered = np.abs(entries(found.grad) - entries(truth)) <= entries(found.bound)
    # Of half precision an entry has three usable steps, of which noise may agree.
    assert covered.mean() >= (1 if dtype in ("float32", "float64") else 0.8)


@pytest.mark.parametrize("problem", SMOOTH, ids=lambda problem: problem.name)
def test_an_estimate_is_far_more_accurate_than_a_central_difference(problem):
    x, truth = problem.at("float64")
    # Steps of a tenth of the scale, extrapolated: about a hundred units of rounding.
    assert relative_error(estimate(problem.fun)(x).grad, truth) < 1e-11


def test_bounds_are_useful_where_the_function_is_smooth():
    found = estimate(lambda x: jnp.sum(jnp.sin(x)))(jnp.linspace(0.25, 1.25, 5))
    assert np.all(found.bound < 1e-11)
    assert found.reasons.tolist() == ["converged"] * 5


def test_an_estimate_has_value_and_evaluations():
    found = estimate(lambda x: jnp.sum(x * x))(jnp.asarray([1.0, 2.0]))
    assert isinstance(found, Estimate)
    assert float(found.value) == 5
    assert found.evaluations == 2 * ladder.EVALUATIONS
    assert ladder.EVALUATIONS <= 70


def test_as_many_evaluations_are_made_as_are_reported():
    calls = []

    def evaluate(points):
        calls.append(points.shape)
        return np.sin(points)

    line.slopes_of_lines(evaluate, np.asarray([1.0, 2.0, 3.0]), np.ones(3))
    assert sum(shape[1] for shape in calls) == ladder.EVALUATIONS
    assert len(calls) == 3


def test_functions_are_compiled_once_and_not_for_every_call():
    traced = []

    def fun(x):
        traced.append(0)
        return jnp.sum(jnp.tanh(x))

    estimated = estimate(fun)
    estimated(jnp.arange(3.0))
    count = len(traced)
    estimated(jnp.arange(3.0) + 1)
    assert len(traced) == count


def status_of(fun, x):
    found = estimate(fun)(jnp.asarray(x))
    return str(found.reasons), float(found.grad), float(found.bound)


@pytest.mark.parametrize(("side", "slopes"), [(jnp.abs, (-1, 1)), (jax.nn.relu, (0, 1))])
def test_a_kink_is_reported_with_a_bound_that_covers_both_slopes(side, slopes):
    for fun, x in ((side, 0.0), (lambda t: side(t - 1) + t, 1.0)):
        shift = 1 if x else 0
        reason, grad, bound = status_of(fun, x)
        assert reason == "kink"
        for slope in slopes:
            # The bound is half of the gap, and errors of both slopes.
            assert abs(grad - slope - shift) <= bound <= 0.51 * (slopes[1] - slopes[0])


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.3, 3.0, 30.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_kink_at_zero_is_no_noise(dtype, offset):
    # Central differences do not see it at any step, and their noise is no reason to say so.
    fun = lambda t: jnp.abs(t) + jnp.sin(t) + t.dtype.type(offset)
    reason, grad, bound = status_of(fun, np.asarray(0, dtype))
    assert reason == "kink"
    # Of float32 values some 1e-3 of the one-sided slopes is noise, and six times that allowed.
    assert max(abs(grad - 0), abs(grad - 2)) <= bound <= 1.02


def test_a_kink_that_noise_hides_is_covered_all_the_same():
    """The function is symmetric about x, so that central differences see nothing."""
    random = np.random.default_rng(0)
    for _ in range(25):
        at = jnp.float32(random.uniform(0.1, 3))
        height, constant = np.float32(random.uniform(-3, 3)), np.float32(10 ** random.uniform(0, 2))
        found = estimate(lambda x, c=constant, h=height, a=at: jnp.abs(x - a) * h * x + c)(at)
        slope = abs(float(height * at))
        # The bound is rounded to float32, too.
        assert abs(float(found.grad)) + float(found.bound) >= slope * (1 - 1e-6)


@pytest.mark.parametrize("distance", [1e-5, 1e-3, 0.1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_kink_nearby_ends_the_ladder(distance, sign):
    reason, grad, bound = status_of(lambda t: jnp.abs(t - 1) + jnp.sin(t), 1 + sign * distance)
    truth = sign + np.cos(1 + sign * distance)
    assert reason == "converged"
    assert abs(grad - truth) <= bound < 1e-6


@pytest.mark.parametrize("distance", [1e-6, 1e-3, 0.1])
def test_a_pole_nearby_ends_the_ladder(distance):
    x = 1 + distance
    reason, grad, bound = status_of(lambda t: 1 / (t - 1), x)
    truth = -1 / (x - 1) ** 2
    assert reason == "converged"
    # The displacement is known to eps / distance, and so is the derivative.
    assert abs(grad - truth) <= bound < 1e-6 * abs(truth)


def test_a_function_that_ends_at_x_is_differentiated_from_one_side():
    def fun(t):
        return jnp.where(t >= 1, t * t, jnp.nan)

    reason, grad, bound = status_of(fun, 1.0)
    assert reason == "domain"
    assert abs(grad - 2) <= bound < 1e-6
    reason, grad, bound = status_of(lambda t: fun(2 - t), 1.0)
    assert reason == "domain"
    assert abs(grad + 2) <= bound < 1e-6


@pytest.mark.parametrize(
    "fun",
    [
        lambda t: jnp.log(t),
        lambda t: 0 * t + jnp.inf,
        lambda t: jnp.where(t == -1, 0.0, jnp.nan),
    ],
)
def test_what_is_not_finite_is_said_and_never_a_number(fun):
    reason, grad, bound = status_of(fun, -1.0)
    assert reason == "not finite"
    assert np.isnan(grad)
    assert bound == np.inf


@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.parametrize("x", [0.0, 1.0, -1e20, 1e-20])
def test_a_constant_has_slope_zero(value, x):
    reason, grad, bound = status_of(lambda t: value + 0 * t, x)
    assert reason in ("flat", "converged")
    assert grad == 0
    # What rounding could hide over the longest step.
    assert bound <= 1e-16 * value / max(abs(x), 1)


def test_a_stationary_point_converges_to_zero():
    reason, grad, bound = status_of(jnp.cos, 0.0)
    assert reason == "converged"
    assert abs(grad) <= bound < 1e-15


def test_noise_that_hides_the_slope_is_said():
    def fun(t):  # of t only the first digit is left
        return (t * 1e-15 + 1.0) - 1.0

    reason, grad, bound = status_of(fun, 1.0)
    assert reason == "noise" or bound < 1e-16
    assert abs(grad - 1e-15) <= bound


@pytest.mark.parametrize("constant", [1e3, 1e6, 1e9])
def test_noise_that_is_not_of_the_size_of_the_value_is_noticed(constant):
    _, grad, bound = status_of(lambda t: (jnp.sin(t) + constant) - constant, 1.0)
    error = abs(grad - np.cos(1.0))
    assert error <= bound
    assert bound < 1e-12 * constant  # steps are about the scale of the function


def test_single_precision_inside_is_noticed():
    def fun(t):
        return jnp.sin(t.astype(jnp.float32)).astype(jnp.float64)

    _, grad, bound = status_of(fun, 1.0)
    assert abs(grad - np.cos(1.0)) <= bound < 1e-4


def test_the_treads_of_a_part_in_single_precision_are_doubted():
    def fun(t):
        coarse = (np.float32(2.0**-6) * jnp.sin(t.astype(jnp.float32)) + 1).astype(jnp.float64)
        return coarse + 1e-3 * t

    for x in np.linspace(0.3, 1.2, 10):
        _, grad, bound = status_of(fun, x)
        # On a tread, which is about 1e-5 long, the slope is 1e-3.
        assert abs(grad - 2.0**-6 * np.cos(x) - 1e-3) <= bound


def test_rounding_that_moves_both_sides_alike_is_noticed():
    def fun(t):  # of two roundings of one number, whose difference is constant over many steps
        return jnp.sin(t + 1e7) - jnp.sin(t + 1e-4 * t + 1e7)

    for x in np.linspace(0.3, 1.2, 10):
        _, grad, bound = status_of(fun, x)
        truth = np.cos(np.longdouble(x) + 1e7)
        truth -= 1.0001 * np.cos(np.longdouble(x) * np.longdouble(1.0001) + 1e7)
        assert abs(grad - float(truth)) <= bound


def test_a_function_without_any_regular_step_has_a_slope_of_which_nothing_is_known():
    fun = lambda t: jnp.mod(jnp.sin(t * 1e9) * 43758.5453, 1.0)
    reason, grad, bound = status_of(fun, 0.7)
    assert reason == "noise"
    assert np.isfinite(grad)
    assert bound > abs(grad)


def test_values_that_are_rounded_to_a_grid_have_the_slope_of_what_is_rounded():
    reason, grad, bound = status_of(lambda t: jnp.round(jnp.sin(t) * 1e6) / 1e6, 0.5)
    assert reason == "converged"
    assert abs(grad - np.cos(0.5)) <= bound < 1e-4


def test_steps_much_wider_than_rounding_are_no_slope():
    reason, grad, bound = status_of(lambda t: jnp.floor(t), 5.5)
    assert reason == "flat"
    assert grad == 0
    assert bound >= 1  # which also covers the slope over many steps


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e30])
@pytest.mark.parametrize("height", [1e-30, 1.0, 1e30])
def test_units_do_not_matter(size, height):
    reason, grad, bound = status_of(lambda t: height * jnp.sin(t / size), 0.7 * size)
    truth = np.cos(0.7) * height / size
    assert reason == "converged"
    assert abs(grad - truth) <= bound < 1e-10 * abs(truth)


@pytest.mark.parametrize("size", [1e-20, 1e-6, 1e6, 1e20])
def test_at_zero_the_scale_is_found_from_the_values(size):
    reason, grad, bound = status_of(lambda t: jnp.exp(t / size), 0.0)
    assert reason == "converged"
    assert abs(grad * size - 1) <= bound * size < 1e-9


@pytest.mark.parametrize("rate", [1.0, 1e3, 1e6])
def test_an_oscillation_is_not_aliased(rate):
    reason, grad, bound = status_of(lambda t: jnp.sin(rate * t), 1.0)
    truth = rate * np.cos(rate)
    assert reason == "converged"
    # The argument is rounded, to rate * eps of a radian.
    assert abs(grad - truth) <= bound < 1e-12 * rate * rate


def test_a_relu_network_is_covered_in_seconds():
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(32, n))) for n in (12, 5))
    params = {
        "w": jnp.asarray(rng.normal(size=(12, 16))) / 4,
        "b": jnp.zeros((1, 16)),
        "v": jnp.asarray(rng.normal(size=(16, 5))) / 4,
    }

    def loss(p):
        return jnp.mean((jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"] - y) ** 2)

    found, truth = estimate(loss)(params), jax.grad(loss)(params)
    error = np.abs(entries(found.grad) - entries(truth))
    assert np.mean(error <= entries(found.bound)) > 0.98
    assert np.mean(entries(found.status) == line.conclusion.Status.CONVERGED) > 0.95


def test_arguments_are_chosen_as_by_grad():
    fun = lambda a, b, flag: a * a * b if flag else b
    both = estimate(fun, (0, 1))(2.0, 3.0, True)
    np.testing.assert_allclose(both.grad, (12, 4), rtol=1e-12)
    assert isinstance(both.bound, tuple)
    np.testing.assert_allclose(estimate(fun, 1)(2.0, 3.0, True).grad, 4, rtol=1e-12)
    np.testing.assert_allclose(estimate(fun, -2)(2.0, 3.0, True).grad, 4, rtol=1e-12)
    assert float(estimate(fun, 0)(2.0, 3.0, False).grad) == 0


def test_nothing_to_differentiate_gives_nothing():
    found = estimate(lambda x, y: y, 0)((), 3.0)
    assert found.grad == ()
    assert float(found.value) == 3
    assert found.evaluations == 0


def test_a_function_that_is_not_scalar_is_refused():
    with pytest.raises(TypeError, match="scalar output"):
        estimate(lambda x: x)(jnp.ones(3))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating-point arrays to differentiate"):
        estimate(lambda x: 1.0 * x)(1)


def test_a_missing_argument_is_refused():
    with pytest.raises(ValueError, match="argument 1"):
        estimate(lambda x: x, 1)(1.0)


def test_traced_arguments_are_refused_with_the_way_out():
    with pytest.raises(TypeError, match="Richardson"):
        jax.jit(estimate(jnp.sin))(1.0)


def test_an_error_of_the_function_reaches_the_caller():
    def fun(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        estimate(fun)(1.0)


# A program takes some ten seconds to compile; `estimate`, which finds the same, has them all.
@pytest.mark.parametrize(
    "problem",
    [p for p in PROBLEMS if p.name in ("two-layer network", "pytree with holes", "sines")],
    ids=lambda problem: problem.name,
)
def test_richardson_finds_the_gradient(problem):
    x, truth = problem.at("float64")
    assert relative_error(dc.grad(problem.fun, method=Richardson())(x), truth) < 1e-11


def test_richardson_is_what_estimate_finds():
    x = jnp.linspace(0.1, 2.0, 7)
    fun = lambda x: jnp.sum(jnp.tanh(x) * x)
    np.testing.assert_allclose(
        dc.grad(fun, method=Richardson())(x), estimate(fun)(x).grad, rtol=1e-12
    )


def test_richardson_works_under_jit_vmap_and_grad():
    slope = lambda x: dc.grad(lambda t: t * jnp.sin(t), method=Richardson())(x)
    x = jnp.asarray([0.5, 1.0, 2.0])
    truth = np.sin(x) + x * np.cos(x)
    np.testing.assert_allclose(jax.jit(jax.vmap(slope))(x), truth, rtol=1e-12)
    # A derivative of weighted values, whose weights do not depend on x.
    np.testing.assert_allclose(jax.grad(slope)(1.0), 2 * np.cos(1) - np.sin(1), rtol=1e-11)


def test_richardson_has_jacobians_slopes_and_pullbacks():
    fun = lambda p: {"a": p["x"][0] * p["x"][1], "b": jnp.sin(1e3 * p["x"])}
    x, v = {"x": jnp.asarray([0.5, 2.0])}, {"x": jnp.asarray([1.0, -3.0])}
    method = Richardson()
    slope = jax.jit(lambda v: dc.jvp(fun, (x,), (v,), method=method))  # compiled once for both
    for found, wanted in (
        (slope(v), jax.jvp(fun, (x,), (v,))),
        (dc.jacobian(fun, method=method)(x), jax.jacobian(fun)(x)),
    ):
        assert jax.tree.structure(found) == jax.tree.structure(wanted)
        # One ladder for outputs whose scales differ by a thousand.
        np.testing.assert_allclose(entries(found), entries(wanted), rtol=1e-8, atol=1e-8)
    still = jax.tree.map(jnp.zeros_like, x)
    assert not np.any(entries(slope(still)[1]))


def test_richardson_has_second_derivatives():
    slope = dc.grad(lambda x: x**2 * jnp.sin(x), method=Richardson())
    # The noise of the inner derivative, 1e-14, is measured by the outer one.
    truth = 2 * math.sin(2) + 8 * math.cos(2) - 4 * math.sin(2)
    assert float(dc.grad(slope, method=Richardson())(2.0)) == pytest.approx(truth, abs=1e-9)


def test_a_program_of_richardson_holds_the_function_once_for_each_leaf_and_its_readers_once():
    x = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}
    fun = lambda x: jnp.sum(jnp.sinh(x["a"])) + jnp.sum(jnp.sinh(x["b"]))

    def counts(program):
        text = str(jax.make_jaxpr(program)(x))
        return text.count(" sinh "), text.count(" sort[")

    one_line = counts(lambda x: dc.jvp(fun, (x,), (x,), method=Richardson()))
    # Of the two parts of the function: by its value, and where either leaf moves.
    assert counts(dc.grad(fun, method=Richardson())) == (2 * 3, one_line[1])
    assert one_line[0] == 2 * 2


def test_richardson_finds_the_jacobian_of_leaves_of_any_size_and_dtype_together():
    x = {
        "double": jnp.linspace(0.1, 2.0, 7),
        "empty": jnp.zeros((0, 3)),
        "half": jnp.asarray([0.5, -2.0], jnp.bfloat16),
        "single": jnp.asarray([[1.5, 0.25]], jnp.float32),
    }

    def fun(x):
        wide = {name: leaf.astype("float64") for name, leaf in x.items()}
        return jnp.sin(wide["double"][:3]) * jnp.prod(wide["half"]), jnp.sum(wide["single"] ** 3)

    found = dc.jacobian(fun, method=Richardson(batch=3))(x)
    wanted = jax.jacobian(fun)(x)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        # What values in float64 give, rounded to the dtype of the slope.
        near = 1e-10 + float(jnp.finfo(one.dtype).eps)
        both = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(*both, rtol=near, atol=near)


def test_the_batch_does_not_change_the_result():
    x = jnp.linspace(0.1, 2.0, 7)
    fun = lambda x: jnp.sum(jnp.tanh(x) * x)
    some = dc.grad(fun, method=Richardson(batch=4))(x)
    np.testing.assert_allclose(some, estimate(fun)(x).grad, rtol=1e-12)


@pytest.mark.parametrize("batch", [0, -1, 1.5])
def test_a_batch_that_is_not_positive_is_refused(batch):
    with pytest.raises(ValueError, match="batch must be None or a positive integer"):
        Richardson(batch=batch)


def test_without_64_bits_the_steps_at_zero_are_no_shorter():
    # As short as the smallest numbers the square vanishes, and with it the kink.
    with jax.enable_x64(False):
        found = estimate(lambda x: jnp.sqrt(x**2))(jnp.float32(0))
        assert found.reasons == "kink"
        assert found.bound >= 1
    assert estimate(lambda x: jnp.sqrt(x**2))(jnp.float32(0)).reasons == "kink"


def test_without_64_bits_bounds_are_wider_and_hold():
    with jax.enable_x64(False):
        found = estimate(lambda x: jnp.sum(jnp.sin(x)))(jnp.linspace(0.25, 1.25, 5))
        assert found.grad.dtype == found.bound.dtype == jnp.float32
    truth = np.cos(np.linspace(0.25, 1.25, 5, dtype=np.float32).astype(np.float64))
    bound = np.asarray(found.bound)
    assert np.all(np.abs(np.asarray(found.grad, np.float64) - truth) <= bound)
    assert np.all(bound < 1e-3)  # eps of float32, over steps of a tenth, and safety
