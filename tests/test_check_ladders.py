"""A ladder of differences knows the slope of a line, or says that it does not."""

import numpy as np
import pytest

from diffcompare.checking.ladders import Line, slope_of

STEPS = 2.0 ** -np.arange(1, 47)
EPS = 2.0**-52
# What a verdict takes for the error of a slope, as a multiple of its bound.
BOUNDS = 4


def line(fun, x, d=1.0, dtype=np.float64, steps=STEPS):
    """Returns the values of a function of NumPy beside x, computed in a dtype."""
    x, above, below = (np.asarray(p).astype(dtype) for p in (x, x + steps * d, x - steps * d))
    with np.errstate(all="ignore"):
        values = [np.asarray(fun(p)).astype(np.float64) for p in (x, above, below)]
    ahead = (above.astype(np.float64) - x.astype(np.float64)) / d
    behind = (x.astype(np.float64) - below.astype(np.float64)) / d
    return Line(float(values[0]), ahead, behind, *values[1:], float(np.finfo(dtype).eps))


SMOOTH = {
    "sine": (np.sin, 0.7, 0.5, np.cos(0.7)),
    "fast oscillation": (lambda x: np.sin(1e6 * x), 0.7, 0.5, 1e6 * np.cos(0.7e6)),
    "steps of whole periods": (lambda x: np.sin(2 * np.pi * 1024 * x), 0.0, 1.0, 2048 * np.pi),
    "large exponential": (np.exp, 300.0, 256.0, np.exp(300.0)),
    "tiny argument": (np.log, 1e-300, 2.0**-997, 1e300),
    "huge argument": (np.sqrt, 1e300, 2.0**996, 0.5e-150),
    "nearby pole": (lambda x: 1 / (x - 1e-3), 0.0, 1.0, -1e6),
    "nearby kink": (lambda x: np.abs(x - 1e-3) + 2 * x, 0.0, 1.0, 1.0),
    "cancelling values": (lambda x: (1 + 1e-8 * np.sin(x)) - 1, 0.7, 0.5, 1e-8 * np.cos(0.7)),
    "large constant": (lambda x: 1e8 + x**2, 3.0, 2.0, 6.0),
    "minimum": (lambda x: x**2, 0.0, 1.0, 0.0),
    "saturation": (lambda x: 1 / (1 + np.exp(-x)), 40.0, 32.0, np.exp(-40.0)),
    "constant": (lambda x: 0 * x + 3, 1.0, 1.0, 0.0),
    "tread of a staircase": (np.floor, 2.5, 2.0, 0.0),
    "slowly converging": (lambda x: x + np.abs(x) ** 1.25, 0.0, 1.0, 1.0),
    "float32 within": (lambda x: np.sin(np.float32(x)), 0.7, 0.5, np.cos(0.7)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_slope_lies_within_its_bound(name):
    fun, x, d, true = SMOOTH[name]
    found = slope_of(line(fun, x, d))
    assert found.kind == "smooth"
    assert abs(found.middle - true * d) <= BOUNDS * found.bound
    # Rounding of the value itself hides this much of a slope, wherever it is looked for.
    assert found.bound <= 1e-4 * abs(true * d) + 1e-13 * (1 + found.secant)


def random_function(random):
    """Returns a smooth function of many scales, and its derivative by hand."""
    a, b, c, e = random.normal(size=4)
    w = 10 ** random.uniform(-2, 2)
    fun = lambda x: a * np.sin(w * x + b) + c * np.exp(-0.5 * (x - e) ** 2) + e * x * np.tanh(x)
    slope = lambda x: (
        a * w * np.cos(w * x + b)
        - c * (x - e) * np.exp(-0.5 * (x - e) ** 2)
        + e * (np.tanh(x) + x / np.cosh(x) ** 2)
    )
    return fun, slope


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_bounds_hold_and_are_useful_for_random_functions(dtype):
    random = np.random.default_rng(0)
    digits = np.finfo(dtype).nmant
    useful = 0
    for _ in range(400):
        fun, slope = random_function(random)
        x = float(dtype(random.normal()))
        found = slope_of(line(fun, x, 1.0, dtype, STEPS[: digits - 6]))
        assert abs(found.middle - slope(x)) <= BOUNDS * found.bound
        useful += BOUNDS * found.bound <= 0.01 * max(abs(slope(x)), found.secant)
    assert useful >= 0.9 * 400


KINKS = {
    "absolute value": (np.abs, 0.0, -1.0, 1.0),
    "kink on a slope": (lambda x: np.abs(x) + np.sin(3 * x), 0.0, 2.0, 4.0),
    "relu": (lambda x: np.maximum(x, 0), 0.0, 0.0, 1.0),
    "small kink": (lambda x: np.exp(x) + 1e-4 * np.abs(x), 0.0, 1 - 1e-4, 1 + 1e-4),
}


@pytest.mark.parametrize("name", KINKS)
def test_a_kink_has_two_slopes(name):
    fun, x, low, high = KINKS[name]
    found = slope_of(line(fun, x))
    assert found.kind == "kink"
    assert abs(found.low - low) <= BOUNDS * found.bound
    assert abs(found.high - high) <= BOUNDS * found.bound
    assert found.bound < 1e-6


NO_SLOPE = {
    "jump": (lambda x: np.where(x >= 0, 1.0, 0.0) + x, "jump"),
    "jump on the other side": (lambda x: np.where(x > 0, 1.0, 0.0) + x, "jump"),
    "root": (np.sqrt, "steep"),
    "cube root": (np.cbrt, "steep"),
    "x log x": (lambda x: np.where(x == 0, 0.0, x * np.log(x)), "steep"),
    "pole": (lambda x: 1 / x, "undefined"),
    "hole": (lambda x: np.where(x == 0, 0.0, np.nan), "undefined"),
}


@pytest.mark.parametrize("name", NO_SLOPE)
def test_where_there_is_no_slope_that_is_said(name):
    fun, kind = NO_SLOPE[name]
    found = slope_of(line(fun, 0.0))
    assert found.kind == kind
    assert found.bound == np.inf


def test_at_the_edge_of_the_domain_the_inner_side_decides():
    found = slope_of(line(lambda x: x**2 * np.sqrt(x) + 3 * x, 0.0))
    assert found.kind == "edge"
    assert abs(found.middle - 3) <= BOUNDS * found.bound < 1e-4


def test_noise_that_hides_the_slope_leaves_a_large_bound():
    random = np.random.default_rng(1)
    found = slope_of(line(lambda x: 1e-3 * x + random.normal(size=np.shape(x)), 1.0))
    assert found.bound > 0.1


def test_an_oscillation_below_all_steps_is_not_taken_for_a_slope():
    found = slope_of(line(lambda x: np.sin(1e14 * x), 0.7))
    assert found.kind != "smooth" or found.bound > 1


def test_noise_is_measured_in_units_of_a_value():
    random = np.random.default_rng(2)
    noisy = line(lambda x: np.sin(x) + 1e-9 * random.normal(size=np.shape(x)), 0.7)
    # The largest of a dozen samples, each of which sums several values.
    assert 1e-9 < slope_of(noisy).noise < 1e-8


def test_a_tread_is_told_from_a_slope_of_zero():
    assert slope_of(line(lambda x: np.floor(1000 * x), 0.5003)).tread > 2.0**-24
    assert slope_of(line(lambda x: x**2 + 1, 1.0)).tread == 0
