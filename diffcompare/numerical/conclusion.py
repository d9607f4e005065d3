"""The estimate of a slope that all values of a function on a line support."""

import enum
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare.numerical import tableau
from diffcompare.numerical.ladder import (
    HEADROOM,
    LADDER,
    SCAN,
    ZOOM,
    Pairs,
    Place,
    at_all_shorter,
    differences,
)
from diffcompare.numerical.scan import Range, Reach
from diffcompare.numerical.tableau import Tableau

# A bound is useful where it is at most the first share of the slope; or, since a slope may be
# zero, the second share of the steepest line through two of the values.
_USEFUL, _USEFUL_AT_ZERO = 0.1, 1e-4
# Estimates from steps below this share of |x|, as a power of two of the digits, could come from
# the treads of a staircase that half of the digits make.
_SUSPICIOUS = 0.31

# How many times more accurate than the gap between the slopes of both sides a central difference
# has to be, if it is to say that they are not those at x.
_BLIND = 16

_SIDES = (0, 1, -1)  # both, ahead, behind; each is the index of itself


@functools.cache
def _weights() -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights of all estimates, and the shortest step of those of the ladder.

    The weights, of shape `(sides, estimates, differences)`, are of the differences of the
    ladder, the scan and the zoom.
    """
    factors = [tableau.ONE_SIDED if side else tableau.CENTRAL for side in _SIDES]
    tables = [tableau.weights(LADDER, factor) for factor in factors]
    others = np.eye(SCAN + ZOOM)
    corner = np.zeros((len(tables[0].rung), len(others)))
    blocks = [np.block([[t.matrix, corner], [corner.T[:, :LADDER], others]]) for t in tables]
    return np.stack(blocks), tables[0].rung  # which is the same for all


class Status(enum.IntEnum):
    """How an estimate was found, or why it is not a good one."""

    CONVERGED = 0
    """The bound is useful."""
    NOISE = 1
    """It is not: noise hides the slope."""
    KINK = 2
    """The slopes of both sides differ; the estimate is their mean, and the bound covers both."""
    NOT_FINITE = 3
    """The value is not finite, or no value nearby is."""
    DOMAIN = 4
    """Only the values of one side are finite; the estimate is the slope of that side."""
    FLAT = 5
    """Nothing nearby changes the value: the slope is zero as far as one can see."""


class Slope(NamedTuple):
    """The slope of a function along a line."""

    slope: jax.Array  # ()
    bound: jax.Array  # (), of its absolute error
    step: jax.Array  # (), the shortest step that it was found from
    status: jax.Array  # (), a `Status` as int8


class Sampled(NamedTuple):
    """All values of a function on a line."""

    value: jax.Array  # ()
    scan: Pairs
    zoom: Pairs
    ladder: Pairs
    steps: jax.Array  # (LADDER,), the steps of the ladder as they were asked for


class _Estimates(NamedTuple):
    """All estimates of the slope of one side."""

    slope: jax.Array  # (estimates,)
    bound: jax.Array  # (estimates,)
    low: jax.Array  # (intervals,), in which the slope lies if the function is regular there
    high: jax.Array  # (intervals,)


def conclude(sampled: Sampled, place: Place, reach: Reach, span: Range) -> Slope:
    """Returns the smallest bound that nothing at shorter steps contradicts, and its slope.

    The slope can be differentiated: which values it is a sum of, and with which weights, is
    taken as given.
    """
    seen, side = jax.lax.stop_gradient(sampled), reach.side
    estimates = functools.partial(_estimates, seen, span, _noise(seen, side, span), place.unit)
    all_weights, rung = _weights()
    weights = jnp.asarray(all_weights, seen.value.dtype)
    found = jax.vmap(estimates)(jnp.asarray(_SIDES), weights)
    step = jnp.concatenate([seen.steps[rung], seen.scan.ahead, seen.zoom.ahead])
    at = jnp.concatenate([seen.steps, seen.scan.ahead, seen.zoom.ahead])

    # Estimates of one side contradict those of both from the same step, too: beside a kink
    # both are regular.
    main = jax.tree.map(lambda leaf: leaf[side], found)
    low, high = (
        jnp.where(side == 0, e[1:], -s * jnp.inf) for e, s in ((found.low, 1), (found.high, -1))
    )
    at_all = jnp.concatenate([at, at * 0.98, at * 0.98])
    bound = tableau.uncontradicted(
        main.slope, main.bound, step, at_all, jnp.append(main.low, low), jnp.append(main.high, high)
    )
    # Where everything is contradicted the slope may still be of use; its bound is infinite.
    best = jnp.argmin(jnp.where(jnp.any(jnp.isfinite(bound)), bound, main.bound))
    # At a kink each side is regular by itself.
    sides = [jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in (1, 2)]
    alone = [tableau.uncontradicted(s.slope, s.bound, step, at, s.low, s.high) for s in sides]
    own = [jnp.argmin(each) for each in alone]
    slopes = [s.slope[i] for s, i in zip(sides, own, strict=True)]
    bounds = [b[i] for b, i in zip(alone, own, strict=True)]
    gap = jnp.abs(slopes[0] - slopes[1])
    # Central differences are blind to a kink at x itself, so they may be accurate in spite of it;
    # if by far, they are of steps that are shorter than the way to a kink nearby.
    is_kink = (side == 0) & (bound[best] > gap / _BLIND) & (gap > bounds[0] + bounds[1])
    # Where noise hides whether there is one, the bound covers both sides.
    both = gap / 2 + jnp.maximum(*bounds)
    may_be_kink = (side == 0) & (bound[best] > gap / _BLIND**2) & (2 * gap > bounds[0] + bounds[1])

    slope = jnp.where(is_kink, slopes[0] / 2 + slopes[1] / 2, main.slope[best])
    least = jnp.where(may_be_kink, jnp.maximum(both, bound[best]), bound[best])
    least = jnp.where(is_kink, both, least) + span.doubt
    shortest = jnp.where(is_kink, jnp.minimum(step[own[0]], step[own[1]]), step[best])
    contradicted = main.slope[jnp.argmin(main.bound)]  # or the best itself
    suspicion = _suspicion(seen, place, reach, slope, shortest, contradicted)
    least = jnp.maximum(least, jnp.where(side == 0, suspicion, 0))
    known = is_kink | jnp.any(jnp.isfinite(main.bound))
    finite = jnp.isfinite(seen.value) & jnp.any(
        jnp.isfinite(seen.scan.above) | jnp.isfinite(seen.scan.below)
    )
    status = _status(seen, slope, least, side, span, is_kink, finite)

    rows = jnp.stack([jnp.where(is_kink, 0, 1), *[jnp.where(is_kink, 0.5, 0)] * 2])
    chosen = jnp.stack([weights[side, best], weights[1, own[0]], weights[2, own[1]]])
    slope += _derivative(sampled, side, rows[:, None].astype(slope.dtype) * chosen)
    return Slope(
        jnp.where(finite, slope, jnp.nan),
        jnp.where(finite & known, least, jnp.inf),
        jnp.where(finite & known, shortest, jnp.nan),
        status,
    )


def _estimates(
    seen: Sampled,
    span: Range,
    noise: "_Noise",
    unit: jax.Array,
    side: jax.Array,
    weights: jax.Array,
) -> _Estimates:
    """Returns the tableau of the ladder, and the differences of the scan and the zoom."""
    rung = _weights()[1]
    extrapolated = _extrapolated(seen, span, noise, unit, side, weights[: len(rung), :LADDER])
    low, high = tableau.interval_of_rungs(extrapolated, rung, LADDER)
    rest = [
        _singles(seen, pairs, span, extrapolated, noise.leaps, unit, side)
        for pairs in (seen.scan, seen.zoom)
    ]
    return _Estimates(
        jnp.concatenate([extrapolated.slope, *(each.slope for each in rest)]),
        jnp.concatenate([extrapolated.bound, *(each.bound for each in rest)]),
        jnp.concatenate([low, *(each.slope - each.bound for each in rest)]),
        jnp.concatenate([high, *(each.slope + each.bound for each in rest)]),
    )


def _extrapolated(
    seen: Sampled,
    span: Range,
    noise: "_Noise",
    unit: jax.Array,
    side: jax.Array,
    matrix: jax.Array,
) -> Tableau:
    found = differences(seen.value, seen.ladder, side)
    finite = at_all_shorter(jnp.isfinite(found.rise) & jnp.isfinite(found.bend))
    asked = jnp.where(side == 0, 2 * seen.steps, seen.steps)
    exact = jnp.abs(found.run - asked) <= asked / 64
    on_tread = at_all_shorter(jnp.abs(found.slope - span.tread) <= span.slack)
    moves = (found.swell > 0) | span.flat | (jnp.all(found.swell == 0) & (side != 0))
    usable = finite & exact & ~on_tread & moves
    above, below = jnp.abs(seen.ladder.above), jnp.abs(seen.ladder.below)
    size = jnp.where(side == 0, jnp.maximum(above, below), jnp.where(side > 0, above, below))
    size = jnp.where(side == 0, size, jnp.maximum(size, jnp.abs(seen.value)))
    return tableau.tableau(matrix, found, usable, size, noise.short, noise.leaps, unit)


def _singles(
    seen: Sampled,
    pairs: Pairs,
    span: Range,
    rungs: Tableau,
    leaps: jax.Array,
    unit: jax.Array,
    side: jax.Array,
) -> Tableau:
    found = differences(seen.value, pairs, side)
    size = jnp.maximum(jnp.abs(pairs.above), jnp.abs(pairs.below))
    usable = jnp.isfinite(found.slope) & (found.swell > 0)
    usable &= jnp.abs(found.slope - span.tread) > span.slack
    # What lies beyond the ladder is another function, whatever its steps agree on.
    wanted = usable & (pairs.ahead <= seen.steps[0])
    return tableau.singles(found, usable, wanted, size, rungs, leaps, unit)


class _Noise(NamedTuple):
    """What is known of the noise of a difference beside what the ladder says."""

    short: jax.Array  # (), at steps shorter than those of the ladder
    leaps: jax.Array  # (), at least, at all steps that count


def _noise(seen: Sampled, side: jax.Array, span: Range) -> _Noise:
    def off_tread(found):
        return jnp.abs(found.slope - span.tread) > span.slack

    found = differences(seen.value, seen.scan, side)
    short = seen.scan.ahead < seen.steps[-1]
    short = tableau.noise_of_singles(found, short & off_tread(found))
    pairs = _all_pairs(seen)
    found = differences(seen.value, pairs, side)
    found = found._replace(bend=jnp.where(off_tread(found), found.bend, jnp.nan))
    return _Noise(short, tableau.noise_of_leaps(found, pairs.ahead, seen.steps[HEADROOM]))


def _all_pairs(seen: Sampled) -> Pairs:
    return jax.tree.map(lambda *p: jnp.concatenate(p), seen.ladder, seen.scan, seen.zoom)


def _derivative(sampled: Sampled, side: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns zero, with the derivative of a sum of weighted differences.

    The rows of the weights are for the differences of `side`, those ahead and those behind.
    """
    pairs = _all_pairs(sampled)

    def weighted(which, row):
        found = differences(sampled.value, pairs, which)
        used = row != 0  # the others need not be finite
        return jnp.sum(row * jnp.where(used, found.rise, 0) / jnp.where(used, found.run, 1))

    total = jnp.sum(
        jax.vmap(weighted)(jnp.stack([side, jnp.ones_like(side), -jnp.ones_like(side)]), weights)
    )
    return total - jax.lax.stop_gradient(total)


def _suspicion(
    seen: Sampled,
    place: Place,
    reach: Reach,
    slope: jax.Array,
    step: jax.Array,
    contradicted: jax.Array,
) -> jax.Array:
    """Returns the least bound of a slope that may be that of a tread.

    The treads of a staircase that a small part of the function makes differ little from the
    whole; the bound is to hold for both. The whole is known by a longer step of the scan, or
    by what would be the estimate if shorter steps did not contradict it.
    """
    short = step < place.size * jnp.exp2(-_SUSPICIOUS * place.digits)
    gap = jnp.abs(slope - differences(seen.value, seen.scan, 0).slope[reach.treads.outer])
    gaps = jnp.stack([jnp.where(short, gap, 0), jnp.abs(slope - contradicted)])
    return jnp.max(jnp.where(gaps <= jnp.abs(slope) / 10, 2 * gaps, 0))


def _status(
    seen: Sampled,
    slope: jax.Array,
    bound: jax.Array,
    side: jax.Array,
    span: Range,
    is_kink: jax.Array,
    finite: jax.Array,
) -> jax.Array:
    found = differences(seen.value, seen.ladder, side)
    secants = jnp.where(jnp.isfinite(found.swell), found.swell, 0) / found.run
    useful = (bound <= _USEFUL * jnp.abs(slope)) | (bound <= _USEFUL_AT_ZERO * jnp.max(secants))
    good = jnp.where(side == 0, Status.CONVERGED, Status.DOMAIN)
    flat = span.flat & (slope == 0)
    status = jnp.where(useful, good, jnp.where(flat, Status.FLAT, Status.NOISE))
    status = jnp.where(is_kink, Status.KINK, status)
    return jnp.where(finite, status, Status.NOT_FINITE).astype(jnp.int8)
