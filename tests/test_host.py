"""Finite differences of functions that JAX cannot trace."""

import math
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffcompare as dc

DIFFERENCES = [
    pytest.param(dc.ForwardDifference(), 1e-7, id="forward"),
    pytest.param(dc.BackwardDifference(), 1e-7, id="backward"),
    pytest.param(dc.CentralDifference(), 1e-9, id="central"),
    pytest.param(dc.CentralDifference(order=8), 1e-11, id="order 8"),
]


def with_numpy(x):
    return float(np.sum(np.sin(x["a"])) * x["b"])


@pytest.mark.parametrize(("method", "error"), DIFFERENCES)
@pytest.mark.parametrize("mark", [lambda fun: fun, dc.black_box], ids=["unmarked", "marked"])
def test_numpy_function_is_differentiated(method, error, mark):
    x = {"a": np.array([0.5, 1.0]), "b": np.array(2.0), "none": None}
    value, found = dc.value_and_grad(mark(with_numpy), method=method)(x)
    assert value == with_numpy(x)
    np.testing.assert_allclose(found["a"], 2 * np.cos(x["a"]), rtol=4 * error)
    np.testing.assert_allclose(found["b"], np.sin(x["a"]).sum(), rtol=4 * error)
    assert found["none"] is None


@pytest.mark.parametrize(("method", "error"), DIFFERENCES)
def test_host_and_traced_differences_agree(method, error):
    x = jnp.linspace(0.5, 1.5, 5)
    fun = lambda x: jnp.cumprod(x)
    traced = dc.jacobian(fun, method=method)(x)
    host = dc.jacobian(dc.black_box(fun), method=method)(x)
    assert isinstance(host, jax.Array)
    # They differ by the rounding of the values alone.
    np.testing.assert_allclose(host, traced, atol=8 * error)


def test_control_flow_by_the_value_is_followed():
    fun = lambda x: jnp.sin(x) if x > 0 else -x
    gradient = dc.grad(fun, method=dc.CentralDifference())
    assert float(gradient(1.0)) == pytest.approx(np.cos(1), rel=1e-9)
    assert float(gradient(-1.0)) == pytest.approx(-1, rel=1e-9)


def test_control_flow_by_another_argument_needs_no_host():
    fun = lambda x, power: x**2 if power > 1.5 else x
    assert float(dc.grad(fun, method=dc.CentralDifference())(2.0, 1.75)) == pytest.approx(4)
    assert float(dc.grad(fun, method=dc.CentralDifference())(2.0, 1.25)) == pytest.approx(1)


def test_argument_is_passed_in_its_own_dtype_and_a_copy_of_its_own():
    seen = []

    def fun(x):
        seen.append(x.dtype)
        x += 1.0  # must not reach the caller, nor the next evaluation
        return np.sum(x**2)

    x = np.array([1.0, 2.0], np.float32)
    found = dc.grad(dc.black_box(fun), method=dc.CentralDifference())(x)
    assert set(seen) == {np.dtype(np.float32)}
    assert found.dtype == np.float32
    np.testing.assert_array_equal(x, [1.0, 2.0])
    np.testing.assert_allclose(found, [4.0, 6.0], rtol=1e-3)


def test_float64_is_kept_where_jax_is_set_to_float32():
    code = (
        "import numpy as np, diffcompare as dc\n"
        "g = dc.grad(lambda x: np.exp(x), method=dc.CentralDifference())(1.0)\n"
        "assert g.dtype == np.float64, g.dtype\n"
        "assert abs(g / np.e - 1) < 1e-9, g\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_another_program_is_differentiated():
    def simulator(x):
        code = "import sys; print(float(sys.argv[1]) ** 3)"
        done = subprocess.run(
            [sys.executable, "-c", code, repr(float(x))], capture_output=True, check=True
        )
        return float(done.stdout)

    found = dc.grad(dc.black_box(simulator, workers=2), method=dc.CentralDifference())(2.0)
    assert float(found) == pytest.approx(12, rel=1e-8)


@pytest.mark.parametrize("workers", [3, map], ids=["threads", "map"])
def test_workers_give_what_one_gives(workers):
    threads = set()

    def fun(x):
        threads.add(threading.get_ident())
        return np.cumsum(np.exp(x))

    x = np.linspace(0, 1, 20)
    alone = dc.jacobian(dc.black_box(fun), method=dc.CentralDifference())(x)
    found = dc.jacobian(dc.black_box(fun, workers=workers), method=dc.CentralDifference())(x)
    np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize(
    ("method", "evaluations"), [(dc.ForwardDifference(), 7 + 1), (dc.CentralDifference(), 14)]
)
def test_evaluations_are_those_of_the_scheme(method, evaluations):
    calls = []
    dc.grad(dc.black_box(lambda x: calls.append(1) or np.sum(x)), method=method)(np.ones(7))
    # Beside them the value, and the point itself twice, to notice a function that is not
    # deterministic; the first of these serves the one-sided schemes.
    extra = 2 if isinstance(method, dc.ForwardDifference) else 3
    assert len(calls) == evaluations + extra


def test_progress_is_shown_when_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    dc.grad(dc.black_box(np.sum, progress=True), method=dc.CentralDifference())(np.ones(2))
    assert "evaluation 6/6" in capsys.readouterr().err


def test_nan_at_a_point_spoils_only_its_entry():
    fun = lambda x: np.where(x[0] > 1, np.nan, x[0]) + 3 * x[1]
    with np.errstate(all="ignore"):
        found = dc.grad(dc.black_box(fun), method=dc.CentralDifference())(np.ones(2))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(3)


def test_error_of_the_function_names_the_point():
    def fun(t):
        return math.sqrt(t["x"][1])

    with pytest.raises(
        dc.EvaluationError, match=r"fun raised ValueError where entry 1 of argument.*'x'.* is -"
    ):
        dc.grad(dc.black_box(fun), method=dc.CentralDifference())({"x": np.array([1.0, 0.0])})
    with pytest.raises(ValueError, match="bad input"):
        dc.grad(dc.black_box(_raises), method=dc.CentralDifference())(1.0)


def _raises(x):
    raise ValueError("bad input")


def test_function_that_is_not_deterministic_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="returned two values at one point"):
        dc.grad(dc.black_box(lambda x: x + rng.normal()), method=dc.CentralDifference())(1.0)


def test_outputs_that_change_their_shape_are_refused():
    fun = dc.black_box(lambda x: np.ones(2 if x > 1 else 3))
    with pytest.raises(ValueError, match="outputs of one structure, shape and dtype"):
        dc.jacobian(fun, method=dc.CentralDifference())(1.0)


def test_function_without_a_scalar_output_is_refused():
    with pytest.raises(TypeError, match=r"returned shape \(2,\)"):
        dc.grad(dc.black_box(lambda x: np.ones(2) * x), method=dc.CentralDifference())(1.0)
    with pytest.raises(TypeError, match="dtype int64"):
        dc.grad(dc.black_box(lambda x: 1), method=dc.CentralDifference())(1.0)


def test_traced_argument_cannot_reach_the_host():
    with pytest.raises(jax.errors.TracerArrayConversionError):
        jax.jit(dc.grad(lambda x: np.sin(x), method=dc.CentralDifference()))(1.0)


def test_method_that_needs_a_trace_refuses_a_black_box():
    with pytest.raises(TypeError, match="ReverseMode needs a function that JAX can trace"):
        dc.grad(dc.black_box(np.sin))
    with pytest.raises(TypeError, match="black_box needs a function"):
        dc.black_box(3)
    with pytest.raises(ValueError, match="workers must be a positive integer"):
        dc.black_box(np.sin, workers=0)


@pytest.mark.parametrize("mark", [lambda fun: fun, dc.black_box], ids=["unmarked", "marked"])
def test_black_box_has_an_estimate_whose_bound_covers_the_truth(mark):
    x = {"a": np.array([0.5, 1.0]), "b": np.array(2.0)}
    found = dc.estimate(mark(with_numpy))(x)
    truth = {"a": 2 * np.cos(x["a"]), "b": np.sin(x["a"]).sum()}
    assert found.value == with_numpy(x)
    for name in x:
        assert isinstance(found.grad[name], np.ndarray)
        assert np.all(np.abs(found.grad[name] - truth[name]) <= found.bound[name])
        assert np.all(found.bound[name] <= 1e-9)


def test_noise_of_a_solver_is_within_the_bound():
    integrate = pytest.importorskip("scipy.integrate")

    def decay(angle):
        slope = lambda t, y: -np.sin(angle) * y
        return integrate.solve_ivp(slope, (0, 1), [1.0], rtol=1e-5, atol=1e-8).y[0, -1]

    found = dc.estimate(dc.black_box(decay))(1.0)
    truth = -np.cos(1) * np.exp(-np.sin(1))
    # A step size control makes the solution rough: its error of 1e-5 is not that of rounding.
    assert abs(found.grad - truth) <= found.bound + 1e-4
    assert found.bound <= 0.1 * abs(truth)


def test_estimate_takes_an_error_far_away_for_the_edge_of_the_domain():
    found = dc.estimate(dc.black_box(lambda x: math.sqrt(x)))(4.0)
    assert abs(found.grad - 0.25) <= found.bound <= 1e-6
    with pytest.raises(dc.EvaluationError, match="raised ValueError at the arguments"):
        dc.estimate(dc.black_box(lambda x: math.sqrt(x)))(-1.0)


def two_outputs(p):
    return {"sum": np.sum(np.sin(p["a"])) * p["b"], "both": np.stack([p["b"] ** 2, p["a"][0]])}


BOTH = {"a": np.array([0.5, 1.0]), "b": np.array(2.0)}
JACOBIAN = {  # by hand
    "sum": {"a": 2 * np.cos(BOTH["a"]), "b": np.sin(BOTH["a"]).sum()},
    "both": {"a": np.array([[0.0, 0.0], [1.0, 0.0]]), "b": np.array([4.0, 0.0])},
}
# The error of a central difference is some eps ** (2 / 3) of the derivative.
CLOSE = {"rtol": 1e-8, "atol": 1e-8}


@pytest.mark.parametrize("mark", [lambda fun: fun, dc.black_box], ids=["unmarked", "marked"])
def test_black_box_has_slopes_pullbacks_and_jacobians(mark):
    fun, method = mark(two_outputs), dc.CentralDifference()
    v = {"a": np.array([1.0, -3.0]), "b": np.array(0.5)}
    value, slope = dc.jvp(fun, (BOTH,), (v,), method=method)
    assert jax.tree.structure(slope) == jax.tree.structure(value)
    for name, row in JACOBIAN.items():
        np.testing.assert_array_equal(value[name], two_outputs(BOTH)[name])
        np.testing.assert_allclose(slope[name], row["a"] @ v["a"] + row["b"] * v["b"], **CLOSE)

    weights = {"sum": np.array(3.0), "both": np.array([1.0, -2.0])}
    value, pullback = dc.vjp(fun, BOTH, method=method)
    (found,) = pullback(weights)
    for name in BOTH:
        wanted = 3 * JACOBIAN["sum"][name] + weights["both"] @ JACOBIAN["both"][name]
        assert found[name].dtype == BOTH[name].dtype
        np.testing.assert_allclose(found[name], wanted, **CLOSE)

    found = dc.jacobian(fun, method=method)(BOTH)
    assert jax.tree.structure(found) == jax.tree.structure(JACOBIAN)
    jax.tree.map(lambda f, w: np.testing.assert_allclose(f, w, **CLOSE), found, JACOBIAN)


def test_slope_of_a_black_box_takes_two_evaluations_and_twice_that_at_x():
    calls = []

    def fun(x):
        calls.append(x.copy())
        return np.sum(x * x)

    x, v = np.array([1.0, 2.0]), np.array([4.0, 0.0])
    slope = dc.jvp(dc.black_box(fun), (x,), (v,), method=dc.CentralDifference())[1]
    assert len(calls) == 4  # the last, at x again, is to notice what is not deterministic
    np.testing.assert_allclose(slope, 8.0, **CLOSE)
    assert dc.jvp(dc.black_box(fun), (x,), (0 * v,), method=dc.CentralDifference())[1] == 0


@pytest.mark.parametrize("derivative", [dc.grad, dc.jacobian, "jvp", "vjp"])
def test_methods_that_trace_refuse_a_black_box_in_every_operator(derivative):
    def run(method):
        fun = dc.black_box(lambda x: np.sin(x))
        if derivative == "jvp":
            return dc.jvp(fun, (1.0,), (1.0,), method=method)
        if derivative == "vjp":
            return dc.vjp(fun, 1.0, method=method)[1](np.asarray(1.0))
        return derivative(fun, method=method)(1.0)

    with pytest.raises(TypeError, match="ReverseMode needs a function that JAX can trace"):
        run(dc.ReverseMode())
    with pytest.raises(NotImplementedError, match="For a black box use a finite difference"):
        run(dc.ComplexStep())


def test_slope_of_a_black_box_that_raises_says_where():
    def fun(x):
        return math.sqrt(x)

    with pytest.raises(dc.EvaluationError, match="steps along v"):
        dc.jvp(dc.black_box(fun), (0.0,), (1.0,), method=dc.CentralDifference())


def test_every_evaluation_of_an_estimate_is_counted():
    calls = []

    def fun(x, y):
        calls.append(0)
        return float(np.sum(np.sin(x)) * y)

    found = dc.estimate(dc.black_box(fun), (0, 1))(np.array([0.5, 1.0]), np.array(2.0))
    assert found.evaluations == len(calls)


def test_estimate_of_what_is_not_deterministic_is_noise_within_its_bound():
    rng = np.random.default_rng(0)
    found = dc.estimate(dc.black_box(lambda x: float(np.sin(x)) + 1e-3 * rng.normal()))(1.0)
    # Normal noise of 1e-3 over steps of at most the scale of sin.
    assert abs(found.grad - np.cos(1)) <= found.bound
    assert found.bound > 1e-4


@pytest.mark.parametrize("operator", [dc.estimate, dc.grad])
def test_a_function_that_overwrites_its_argument_harms_nothing(operator):
    def fun(x):
        x *= 2.0
        return np.sum(x**2)

    x = np.array([1.0, 2.0])
    options = {} if operator is dc.estimate else {"method": dc.CentralDifference()}
    found = operator(dc.black_box(fun), **options)(x)
    np.testing.assert_allclose(getattr(found, "grad", found), [8.0, 16.0], rtol=1e-8)
    np.testing.assert_array_equal(x, [1.0, 2.0])


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad], ids=lambda f: f.__name__)
def test_a_black_box_under_a_transformation_is_refused_with_the_way_out(transform):
    box = dc.black_box(lambda x: float(np.sum(np.sin(x))))
    derived = dc.grad(box, method=dc.CentralDifference())
    fun = (lambda x: derived(x)[0]) if transform is jax.grad else derived
    x = jnp.ones((2, 3)) if transform is jax.vmap else jnp.ones(3)
    with pytest.raises(TypeError, match=r"traced by jit, vmap or grad.*differentiable\(fun"):
        transform(fun)(x)
