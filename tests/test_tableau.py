"""Richardson's tableau: weights, noise, bounds, and what contradicts them."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffcompare.numerical import tableau
from diffcompare.numerical.ladder import LADDER, Differences

RUNGS = 10


@pytest.mark.parametrize("factor", [tableau.CENTRAL, tableau.ONE_SIDED])
def test_an_entry_cancels_as_many_powers_as_it_was_extrapolated(factor):
    table = tableau.weights(RUNGS, factor)
    steps = 2.0 ** -np.arange(RUNGS)
    power = {tableau.CENTRAL: 2, tableau.ONE_SIDED: 1}[factor]
    for column in range(tableau.COLUMNS):
        rows = table.matrix[table.column == column]
        error = sum(steps ** (power * k) for k in range(1, column + 1))
        # Weights are at most about eight, so rounding stays within a few units.
        np.testing.assert_allclose(rows @ (3 + error * np.ones(RUNGS)), 3, atol=1e-13)


def test_weights_follow_the_recursion():
    table = tableau.weights(RUNGS, tableau.CENTRAL)
    for row, left, upper, column in zip(
        table.matrix, table.left, table.upper, table.column, strict=True
    ):
        if column > 0:
            wanted = table.matrix[left] + (table.matrix[left] - table.matrix[upper]) / (
                4.0**column - 1
            )
            np.testing.assert_allclose(row, wanted, atol=1e-15)


def measured(function, noise, seed=0, usable=None):
    """Returns the tableau of a function at zero, whose values have noise of some size."""
    rng = np.random.default_rng(seed)
    steps = 2.0 ** -np.arange(16)
    above, below = (function(s * steps) + noise * rng.uniform(-1, 1, 16) for s in (1, -1))
    seen = Differences(
        *map(jnp.asarray, (above - below, 2 * steps, above + below - 2 * function(0.0), abs(above)))
    )
    matrix = jnp.asarray(tableau.weights(16, tableau.CENTRAL).matrix)
    everywhere = jnp.ones(16, bool) if usable is None else usable
    size = jnp.maximum(abs(above), abs(below))
    return tableau.tableau(matrix, seen, everywhere, size, *map(jnp.asarray, (0.0, 0.0, 2.0**-52)))


@pytest.mark.parametrize("noise", [1e-12, 1e-8, 1e-4])
@pytest.mark.parametrize("seed", range(5))
def test_noise_is_measured_within_a_factor(noise, seed):
    found = float(measured(np.exp, noise, seed).noise)
    # A difference has the noise of two values; the safety factor is six, and truncation only adds.
    assert noise / 2 < found < 12 * noise


def test_noise_of_exact_values_is_that_of_rounding():
    assert float(measured(np.exp, 0.0).noise) < 20 * 2.0**-52


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-8, 1e-4])
def test_bounds_hold_for_every_entry_within_the_radius_of_convergence(noise):
    found = measured(lambda t: np.exp(t) / (3 - t), noise)
    truth = 1 / 3 + 1 / 9
    assert np.all(np.abs(found.slope - truth) <= found.bound)


def test_the_best_entry_is_about_as_accurate_as_the_values():
    found = measured(np.exp, 0.0)
    best = int(jnp.argmin(found.bound))
    assert abs(float(found.slope[best]) - 1) < 100 * 2.0**-52  # steps of about 1/8


def test_an_entry_with_a_step_that_is_not_usable_has_no_bound():
    found = measured(np.exp, 0.0, usable=jnp.arange(16) != 5)
    table = tableau.weights(16, tableau.CENTRAL)
    uses = table.matrix[:, 5] != 0
    assert np.all(np.isinf(np.asarray(found.bound)[uses]))
    assert np.isfinite(np.asarray(found.bound)[~uses]).sum() > 50


def test_an_interval_of_a_shorter_step_contradicts_and_one_of_a_longer_does_not():
    slope, bound, step = jnp.asarray([1.0, 1.0]), jnp.asarray([0.1, 0.1]), jnp.asarray([2.0, 1.0])
    left = tableau.uncontradicted(
        slope, bound, step, jnp.asarray([1.5]), jnp.asarray([1.2]), jnp.asarray([1.4])
    )
    assert left.tolist() == [np.inf, 0.1]


def test_intervals_that_touch_do_not_contradict():
    slope, bound, step = jnp.asarray([1.0]), jnp.asarray([0.25]), jnp.asarray([2.0])
    left = tableau.uncontradicted(
        slope, bound, step, jnp.asarray([1.0]), jnp.asarray([1.25]), jnp.asarray([1.5])
    )
    assert left.tolist() == [0.25]


def leaps(function, noise):
    """Returns the noise that second differences at zero show, on a ladder from one down."""
    steps = 2.0 ** -np.arange(LADDER)
    above, below = (function(s * steps) for s in (1, -1))
    bend = above + below - 2 * function(np.float64(0)) + 2 * noise
    seen = Differences(
        *map(jnp.asarray, (above - below, 2 * steps, bend, np.maximum(abs(above), abs(below))))
    )
    return float(tableau.noise_of_leaps(seen, jnp.asarray(steps), jnp.asarray(0.25)))


def test_one_second_difference_that_leaps_is_noise():
    noise = np.zeros(LADDER)
    noise[9] = 1e-3  # far above the curvature there, 4e-6
    assert leaps(np.exp, 0.0 * noise) < 1e-12
    # Half of a second difference is the noise of one difference; the safety factor is three.
    np.testing.assert_allclose(leaps(np.exp, noise), 3e-3, rtol=0.01)


def test_an_oscillation_beyond_the_regular_steps_is_no_noise():
    for rate in (1.0, 10.0, 100.0):
        assert leaps(lambda t, rate=rate: np.cos(rate * t), np.zeros(LADDER)) < 1e-12
