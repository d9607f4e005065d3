"""The study of accuracy against step size."""

import helpers
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from experiments import _reference, step_size

# Relative error of the best step: dtype -> forward, central, order 4, measured on another random
# network of the same shape. A factor 4 covers the difference between networks.
BEST = {
    "float16": (5.9e-2, 1.4e-2, 8.3e-3),
    "bfloat16": (0.12, 4.9e-2, 4.0e-2),
    "float32": (5.5e-4, 3.2e-5, 8.8e-6),
    "float64": (2.4e-8, 5.2e-11, 7.7e-13),
}


@pytest.fixture(scope="module")
def tanh_panels():
    result = step_size.run(step_size.Config(networks=("tanh",)))
    return {panel.dtype: panel for panel in result.panels}


def test_best_errors_are_those_of_theory_in_every_dtype(tanh_panels):
    """Lecture row 26."""
    for dtype, expected in BEST.items():
        for curve, error in zip(tanh_panels[dtype].curves, expected, strict=True):
            assert error / 4 <= curve.best_error <= error * 4, (dtype, curve.scheme)


def test_slopes_are_those_of_theory(tanh_panels):
    """Lecture row 26."""
    for curve, order in zip(tanh_panels["float64"].curves, (1, 2, 4), strict=True):
        assert curve.falling == pytest.approx(order, abs=0.1)
    for dtype in ("float32", "float64"):
        for curve in tanh_panels[dtype].curves:
            assert curve.rising == pytest.approx(-1, abs=0.1)


def test_the_step_of_the_lecture_is_far_too_small_in_float32_only(tanh_panels):
    errors = {dtype: tanh_panels[dtype].curves for dtype in ("float32", "float64")}
    for curve in errors["float32"]:
        assert curve.lecture_error > 0.05
    forward, central, _ = errors["float64"]
    assert forward.lecture_error < 3e-6
    assert central.lecture_error < 3e-9


def test_theory_bounds_the_measured_error(tanh_panels):
    # The rounding term takes eps |f| as the error of one value; it is a bound, and at most
    # about 30 times too large. Beyond h = 1/8 the first term does not bound the truncation.
    for curve in tanh_panels["float64"].curves:
        inside = slice(3, 40)
        bound = (curve.truncation + curve.rounding)[inside]
        assert np.all(curve.errors[inside] <= 1.5 * bound)
        assert np.all(curve.errors[inside] >= bound / 30)


def test_automatic_and_symbolic_gradients_are_exact_to_rounding(tanh_panels):
    for dtype, panel in tanh_panels.items():
        eps = float(jnp.finfo(dtype).eps)
        # A handful of roundings in a network of two layers.
        assert panel.automatic <= 4 * eps
        assert panel.symbolic <= 4 * eps


def test_relu_has_no_truncation_error_until_a_kink_is_crossed():
    """Lecture row 26: the loss is quadratic in every weight between two kinks."""
    result = step_size.run(step_size.Config(networks=("relu",), dtypes=("float64",)))
    (panel,) = result.panels
    central = next(curve for curve in panel.curves if curve.scheme == "central")
    assert central.best_error <= 1e-13
    assert central.best_step >= 2**-8
    safe = result.steps <= panel.first_kink
    assert np.all(central.errors[safe] <= 1.5 * central.rounding[safe])
    assert central.errors[0] > 1e-3  # a step of 1 crosses one


def test_function_of_baydin_et_al_reaches_the_published_errors():
    published = step_size._published(2.0 ** -np.arange(51))
    assert published.slope == pytest.approx(9.0660864, abs=1e-14)
    # Published: 2.4e-8 and 5.5e-11, on another grid of steps.
    assert np.nanmin(published.forward) <= 2 * 2.4e-8
    assert np.nanmin(published.central) <= 2 * 5.5e-11


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_reference_is_the_gradient_of_jax(activation):
    rng = np.random.default_rng(0)
    layers = [(rng.normal(size=(5, 4)), rng.normal(size=5)), (rng.normal(size=(3, 5)), np.ones(3))]
    x, y = rng.normal(size=4), rng.normal(size=3)

    def loss(layers):
        (w1, b1), (w2, b2) = layers
        hidden = getattr(jax.nn, activation)(w1 @ x + b1)
        return jnp.sum((w2 @ hidden + b2 - y) ** 2) / 2

    found = _reference.gradient_of_half_squared_error(layers, x, y, activation)
    close = jax.grad(loss)(layers)
    assert helpers.relative_error(found, close) <= 8 * np.finfo(np.float64).eps


def test_two_parts_hold_a_hundred_bits():
    with mpmath.workdps(50):
        exact = np.array([mpmath.mpf(1) / 3], dtype=object)
        high, low = _reference.in_two_parts(exact)
        assert abs(mpmath.mpf(high[0]) + mpmath.mpf(low[0]) - exact[0]) < mpmath.mpf(2) ** -106


@pytest.mark.parametrize("options", [{"smallest": 0}, {"hidden": 0}])
def test_bad_config_is_refused(options):
    with pytest.raises(ValueError, match="smallest must be from 1 to 1000 and hidden positive"):
        step_size.Config(**options)
