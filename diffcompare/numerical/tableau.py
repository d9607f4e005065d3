"""Extrapolating differences to step zero, and how far the result can be trusted."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare.numerical.ladder import LADDER, Differences, count_of_shorter, largest_of_shorter

COLUMNS = 7  # of the tableau; more gain nothing, since steps get no longer
CENTRAL, ONE_SIDED = 4, 2  # by which the leading error falls when the step is halved

# Noise is measured on the shortest steps, at several orders of difference.
_WINDOW, _FEWEST = 6, 3
# The largest of a few samples of noise, each relative to the sum of all that could have
# entered, times this is what noise may be. It was set by the coverage of random functions.
_SAFETY = 6.0
# The largest of many samples needs less of it.
_LEAP_SAFETY = 3.0
# A second difference that is smaller than a shorter one by this factor is not so by chance.
_CHANCE = 1024.0
# The change from step to step is the error of the longer one, hardly more than that of the
# shorter if the error falls as slowly as the step, as it may where nothing was extrapolated.
_RAW_SAFETY = 8.0
# Errors of a tableau's own arithmetic, in units of the result.
_ARITHMETIC = 4.0


class Weights(NamedTuple):
    """Richardson's tableau as a matrix: every entry is a weighted sum of slopes."""

    matrix: np.ndarray  # (entries, rungs)
    rung: np.ndarray  # (entries,), the shortest step of an entry
    column: np.ndarray  # (entries,), how many times it was extrapolated
    left: np.ndarray  # (entries,), the entry with the same shortest step in the column before
    upper: np.ndarray  # (entries,), the entry without that step in the column before
    above: np.ndarray  # (entries,), the entry without that step in the same column, or -1


@functools.cache
def weights(rungs: int, factor: int) -> Weights:
    """Returns the tableau for `rungs` steps, each half of the one before.

    Args:
        rungs: How many steps.
        factor: By which the leading error falls from step to step: `CENTRAL`, since the
            error of a central difference has even powers only, or `ONE_SIDED`.
    """
    place = {
        key: number
        for number, key in enumerate(
            (r, c) for r in range(rungs) for c in range(min(r + 1, COLUMNS))
        )
    }
    rows: list[np.ndarray] = []
    for rung, column in place:
        if column == 0:
            rows.append(np.eye(rungs)[rung])
        else:
            left, upper = (rows[place[r, column - 1]] for r in (rung, rung - 1))
            rows.append((factor**column * left - upper) / (factor**column - 1))

    def neighbours(up, back):
        # In the first column, where there is nothing to the left, the entry above stands in.
        return np.array(
            [place.get((r - up if c else r - 1, c - back if c else 0), -1) for r, c in place],
            np.int32,
        )

    rung, column = np.array(list(place), np.int32).T
    return Weights(
        np.array(rows), rung, column, neighbours(0, 1), neighbours(1, 1), neighbours(1, 0)
    )


class Tableau(NamedTuple):
    """Estimates of one slope, each with a bound of its error."""

    slope: jax.Array  # (entries,)
    bound: jax.Array  # (entries,), infinite where an entry cannot be used
    noise: jax.Array  # (), of one difference of values where they are smallest
    smallest: jax.Array  # (), that size


def tableau(
    matrix: jax.Array,
    seen: Differences,
    usable: jax.Array,
    size: jax.Array,
    noise: jax.Array,
    leaps: jax.Array,
    unit: jax.Array,
) -> Tableau:
    """Returns all extrapolations of a ladder, with bounds of truncation and of rounding.

    Args:
        matrix: The weights of the entries, shape `(entries, rungs)`.
        seen: The differences, of steps that halve.
        usable: Which of them to use, shape `(rungs,)`.
        size: The larger of the values at each step, shape `(rungs,)`: where they grow with
            the step, so does their noise.
        noise: Of a difference at shorter steps, where it is known; else zero.
        leaps: What the noise is at least, see `noise_of_leaps`.
        unit: The relative error of a value that is rounded well, `eps`.
    """
    table = weights(usable.shape[0], CENTRAL)  # the places of the entries are the same for all
    inverse = jnp.where(usable, 1 / jnp.where(usable, seen.run, 1), 0)
    slope = _combined(matrix, jnp.where(usable, seen.rise, 0) * inverse)
    amplified = _combined(jnp.abs(matrix), inverse)
    valid = jnp.all((matrix == 0) | usable[None, :], axis=1)

    noise = _SAFETY * jnp.maximum(_noise(table, slope, amplified, valid, usable), noise)
    noise = jnp.maximum(noise, leaps)
    smallest = jnp.min(jnp.where(usable, size, jnp.inf))
    rounding = _grown(noise, smallest, size) + unit * size
    rounding = _combined(jnp.abs(matrix), jnp.where(usable, rounding, 0) * inverse)

    truncation = jnp.maximum(
        jnp.abs(slope - slope[table.left]), jnp.abs(slope - slope[table.upper])
    )
    truncation *= jnp.where(table.column == 0, _RAW_SAFETY, 1).astype(slope.dtype)
    bound = truncation + rounding + _ARITHMETIC * unit * jnp.abs(slope)
    valid &= (table.left >= 0) & valid[table.left] & valid[table.upper]
    return Tableau(slope, jnp.where(valid & jnp.isfinite(bound), bound, jnp.inf), noise, smallest)


def _noise(
    table: Weights, slope: jax.Array, amplified: jax.Array, valid: jax.Array, usable: jax.Array
) -> jax.Array:
    """Returns the noise of one difference, measured on the shortest steps.

    Entries of one column differ by truncation and by noise. Truncation is smaller the
    further to the right, so the column that says the least is right; each column says what
    the largest of its samples says.
    """
    sample = jnp.abs(slope - slope[table.above]) / (amplified + amplified[table.above])
    rank = count_of_shorter(usable)
    inside = (table.above >= 0) & valid & valid[table.above]
    inside &= rank[table.rung] <= _WINDOW
    among = inside[None, :] & (table.column == np.arange(COLUMNS)[:, None])  # (columns, entries)
    largest = jnp.max(jnp.where(among, sample, 0), axis=1)
    enough = jnp.sum(among, axis=1) >= _FEWEST
    least = jnp.min(jnp.where(enough, largest, jnp.inf))
    return jnp.where(jnp.any(enough), least, jnp.max(largest))


def singles(
    seen: Differences,
    usable: jax.Array,
    wanted: jax.Array,
    size: jax.Array,
    ladder: Tableau,
    leaps: jax.Array,
    unit: jax.Array,
) -> Tableau:
    """Returns the wanted differences as they are, each bounded by the next longer one.

    Their noise is that of the ladder, or less if the differences of shorter steps have less.
    """
    slope = jnp.where(usable, seen.rise, 0) / jnp.where(usable, seen.run, 1)
    longer = jnp.append(jnp.full(1, jnp.inf, slope.dtype), jnp.where(usable, slope, jnp.inf)[:-1])
    noise = _grown(ladder.noise, ladder.smallest, size)
    noise = jnp.maximum(jnp.minimum(noise, _own_noise(seen, usable)), leaps)
    bound = _RAW_SAFETY * jnp.abs(slope - longer) + (noise + unit * size) / seen.run
    bound += _ARITHMETIC * unit * jnp.abs(slope)
    return ladder._replace(
        slope=slope, bound=jnp.where(wanted & jnp.isfinite(bound), bound, jnp.inf)
    )


def _own_noise(seen: Differences, usable: jax.Array) -> jax.Array:
    """Returns for every step the noise that it and all shorter steps show.

    What a step disagrees by with the next shorter one may be its own noise alone, as on the
    treads of a staircase. It is infinite for the shortest, of which there are too few.
    """
    sample = jnp.append(_samples(seen, usable), 0)
    whole = sample * jnp.append(1 + seen.run[:-1] / seen.run[1:], 1)
    few = jnp.arange(sample.shape[0]) >= sample.shape[0] - _FEWEST
    own = jnp.maximum(whole, _SAFETY * largest_of_shorter(sample))
    return jnp.where(few, jnp.inf, own)


def _samples(seen: Differences, usable: jax.Array) -> jax.Array:
    """Returns what two successive differences differ by, as the noise of one of them."""
    ratio = seen.run[:-1] / seen.run[1:]
    sample = jnp.abs(seen.rise[:-1] - ratio * seen.rise[1:]) / (1 + ratio)
    return jnp.where(usable[:-1] & usable[1:] & jnp.isfinite(sample), sample, jnp.inf)


def noise_of_leaps(seen: Differences, steps: jax.Array, top: jax.Array) -> jax.Array:
    """Returns the largest second difference that cannot be one of a smooth function.

    That of a smooth function grows as the square of the step. What is larger than at longer
    steps is noise: also noise that rises do not show, since values ahead and behind have the
    same, or steps have it that are not the shortest.

    Args:
        seen: Differences, first those of the ladder.
        steps: Their steps, of the same shape.
        top: The longest step that the function is known to be regular at, shape `()`.

    Returns:
        The noise of one difference of values with some safety, shape `()`.
    """
    sample = jnp.where(jnp.isfinite(seen.bend), jnp.abs(seen.bend) / 2, jnp.inf)
    longer = steps[None, :] > 1.05 * steps[:, None]  # (which, among)
    # Each step once: those of the ladder, which come first.
    counts = (steps <= 1.05 * top) & (np.arange(steps.shape[0]) < LADDER)
    among = longer & counts[None, :]
    several = jnp.sum(among & (sample[None, :] < sample[:, None] / 2), axis=1) >= 2
    # One may be small by chance, or because the function beyond is another one.
    near = longer & (steps <= 4.2 * top)[None, :]
    one = jnp.any(near & (sample[None, :] < sample[:, None] / _CHANCE), axis=1)
    leap = (several | one) & jnp.isfinite(sample) & (steps <= 4.2 * top)
    leap &= ~_grows_smoothly(sample)
    return _LEAP_SAFETY * jnp.max(jnp.where(leap, sample, 0))


def _grows_smoothly(sample: jax.Array) -> jax.Array:
    """Returns which second differences a ladder reaches in steps of about four.

    What then is smaller at longer steps is a function that oscillates.
    """
    ladder = sample[:LADDER]
    growth = ladder[:-1] / jnp.where(ladder[1:] > 0, ladder[1:], jnp.inf)
    near_four = jnp.pad((growth > 1.5) & (growth < 6), (0, 3))
    smooth = near_four[:-2] & near_four[1:-1] & near_four[2:]
    return jnp.pad(smooth[:LADDER], (0, sample.shape[0] - LADDER))


def _grown(noise: jax.Array, smallest: jax.Array, size: jax.Array) -> jax.Array:
    """Returns the noise of values of some size: if they are larger, so is their noise."""
    growth = jnp.where(smallest > 0, size / jnp.where(smallest > 0, smallest, 1), 1)
    return noise * jnp.maximum(growth, 1)


def noise_of_singles(seen: Differences, usable: jax.Array) -> jax.Array:
    """Returns the largest sample of noise among steps so short that there is nothing else."""
    sample = _samples(seen, usable)
    return jnp.max(jnp.where(jnp.isfinite(sample), sample, 0))


def uncontradicted(
    slope: jax.Array,
    bound: jax.Array,
    step: jax.Array,
    other_step: jax.Array,
    low: jax.Array,
    high: jax.Array,
) -> jax.Array:
    """Returns the bounds of estimates, infinite where an interval of a shorter step excludes one.

    This is what ends a ladder at a pole or a kink, and what stops aliasing: longer steps
    agree with each other there, more closely than the shorter ones do.

    Args:
        slope: The estimates, shape `(estimates,)`.
        bound: Their bounds.
        step: The shortest step of each.
        other_step: The steps of the intervals, shape `(intervals,)`.
        low: Their lower ends.
        high: Their upper ends.
    """
    shorter = other_step[None, :] < 0.99 * step[:, None]
    lowest = jnp.max(jnp.where(shorter, low[None, :], -jnp.inf), axis=1)
    highest = jnp.min(jnp.where(shorter, high[None, :], jnp.inf), axis=1)
    excluded = (slope + bound < lowest) | (slope - bound > highest)
    return jnp.where(excluded, jnp.inf, bound)


def interval_of_rungs(found: Tableau, rung: np.ndarray, rungs: int) -> tuple[jax.Array, jax.Array]:
    """Returns for each shortest step the interval common to all estimates of a tableau."""
    ends = jnp.full(rungs, jnp.inf, found.slope.dtype)
    low = (-ends).at[rung].max(found.slope - found.bound)
    return low, ends.at[rung].min(found.slope + found.bound)


def _combined(matrix: jax.Array, quantity: jax.Array) -> jax.Array:
    # Not a matrix product, for which accelerators round to fewer digits.
    return jnp.sum(matrix * quantity[None, :], axis=1)
