"""Reading a scan of values: at which steps a function is regular, and which of them count."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from diffcompare.numerical.ladder import (
    Differences,
    Pairs,
    Place,
    at_all_shorter,
    differences,
    largest_of_shorter,
)

# Two steps are regular where their differences deviate from a line, or from a parabola, by
# no more than this share of what the function changes; noise, too, is then below it.
_DEVIATION = 1 / 4
# Noise and truncation are told apart where one is larger by this factor.
_CLEAR = 8
# A function which does not change at all over this share of |x|, as a power of two of the digits,
# is not a function that rounds to half of the digits.
_FLAT = 0.4
# Treads longer than this share of |x| are not taken for rounding.
_COARSE = 2.0**-10
# Beyond the last regular step the slope changes suddenly where it does by this factor more.
_SUDDEN = 4096


class Treads(NamedTuple):
    """Where a scan may have seen a staircase: a function that rounds more coarsely than others.

    On its treads it has another slope than over many of its steps, and it is the latter
    that it was written for. So has a function with a pole or a kink nearby, but that has
    the former slope in one place only, which the probe tells.
    """

    inner: jax.Array  # (), the index of a step within the tread
    outer: jax.Array  # (), the index of a step over several treads, where the probe looks
    beyond: jax.Array  # (), the exponent of the longest step that is regular again
    possible: jax.Array  # (), whether there are such steps
    fine: jax.Array  # (), whether the treads are so short that they may come from rounding


class Reach(NamedTuple):
    """Where a scan found a function regular. Exponents are of two."""

    side: jax.Array  # (), 0 for both, 1 where it is finite ahead only, -1 behind only
    flat: jax.Array  # (), whether it does not change at all
    rung: jax.Array  # (), the index of a regular step of the scan
    low: jax.Array  # (), its exponent
    high: jax.Array  # (), the exponent of a step which is not regular, or not known to be
    doubt: jax.Array  # (), how wrong the slope may be where no two steps were regular
    leads: jax.Array  # (), whether this output chooses the steps of all
    treads: Treads


class Range(NamedTuple):
    """Where to put a ladder, and what it must not be taken in by. Exponents are of two."""

    top: jax.Array  # (), the exponent of the longest regular step
    flat: jax.Array  # (), whether the function does not change at all at shorter steps
    tread: jax.Array  # (), the slope of the treads of a staircase
    slack: jax.Array  # (), how near to it a slope is taken for it; negative where there are none
    doubt: jax.Array  # (), how wrong the slope may be beside what the ladder tells


class _Regularity(NamedTuple):
    """For every step but the shortest, in relation to the next shorter one."""

    close: jax.Array  # whether they tell of one function
    share: jax.Array  # by which share of its change they disagree
    shown: jax.Array  # whether that is truncation, clear of noise
    regular: jax.Array  # whether they are close, and truncation grows from there on as it should


def read_scan(place: Place, value: jax.Array, scan: Pairs, exponents: jax.Array) -> Reach:
    """Returns the `Reach` of a function: the shortest regular steps.

    At the shortest steps there is only noise; then come steps at which the function is a
    line, or a parabola, as far as one can see; then steps at which it is another function,
    which beyond a pole or a kink may be regular again.
    """
    ahead, behind = (jnp.all(jnp.isfinite(values[-3:])) for values in (scan.above, scan.below))
    side = ahead.astype(int) - behind.astype(int)
    seen = differences(value, scan, side)
    found = _regularity(place, value, seen)
    count = exponents.shape[0]

    still = at_all_shorter(seen.swell == 0)
    longest_still = jnp.minimum(count - jnp.sum(still), count - 1)
    kink, has_kink = _kink(place, value, scan)
    flat = ~jnp.any(found.regular) & (jnp.sum(still) > 1)
    flat &= seen.run[longest_still] > place.size * jnp.exp2(-_FLAT * place.digits)
    # At a kink a change can be hidden by rounding, too.
    steepness = seen.swell[kink] / seen.run[kink] * seen.run[longest_still]
    flat &= ~has_kink | (steepness > 2**10 * place.unit * jnp.abs(value))
    # Where it is still for long and then changes by far more than rounding, it does not change.
    longer = jnp.maximum(longest_still - 1, 0)
    growth = seen.run[longer] / seen.run[longest_still]
    moves = seen.swell[longer] > _CLEAR * growth * place.unit * jnp.abs(value)
    is_wide = moves & (scan.ahead[longest_still] > place.size * _COARSE) & (place.size > 0)
    flat |= is_wide & (jnp.sum(still) > 1) & (longest_still > 0)

    rising, has_rise = _rise_out_of_noise(seen.swell)
    shortest = count - 1 - jnp.argmax(jnp.flip(found.regular))
    missed = has_rise & (shortest < rising - 1) & ~flat
    lost = missed | ~(jnp.any(found.regular) | flat | has_kink)
    rung = jnp.where(has_kink, kink, jnp.where(has_rise, rising, jnp.argmin(found.share)))
    rung = jnp.where(jnp.any(found.regular), _top_of_lowest_run(found.regular), rung)
    rung = jnp.where(missed, rising, rung)
    rung = jnp.where(flat, longest_still, rung)

    treads = _treads(place, scan, seen, found, flat, rung, exponents)
    treads = treads._replace(possible=treads.possible & (side == 0))
    # Where nothing was regular nothing is known.
    doubt = jnp.where(missed, 8 * seen.swell[rung] / seen.run[rung], jnp.where(lost, jnp.inf, 0))
    high = exponents[rung] + (exponents[0] - exponents[1])
    # Where truncation is seen at a step already, that step may be beyond the regular ones.
    low = rung + jnp.append(found.shown, False)[rung].astype(rung.dtype)
    return Reach(side, flat, low, exponents[low], high, doubt, jnp.asarray(True), treads)


def _regularity(place: Place, value: jax.Array, seen: Differences) -> _Regularity:
    ratio = seen.run[:-1] / seen.run[1:]
    swell, bend = seen.swell[:-1], jnp.abs(seen.bend)
    odd = jnp.abs(seen.rise[:-1] - ratio * seen.rise[1:])
    share = jnp.where(jnp.isfinite(odd) & (swell > 0), odd / swell, jnp.inf)
    # The noise of the rise of the shorter step is at most the first, and hardly below the second.
    noise = jnp.maximum(odd / ratio, place.unit * (jnp.abs(value) + seen.swell[1:]))
    noise = jnp.where(jnp.isfinite(noise), noise, 0)
    noise_up_to = largest_of_shorter(noise)
    noise_below = jnp.append(noise_up_to[1:], jnp.inf)

    # The second difference of a smooth function is a square of the step. At a kink it is
    # proportional to the step, at a jump constant. Where it grows faster than a square, the
    # function at the longer step is another one.
    has_bend = bend[:-1] > _DEVIATION * swell
    slow = ratio * bend[1:] > bend[:-1] / 2
    slow &= (bend[1:] > _CLEAR * noise) | (ratio * bend[1:] < 2 * bend[:-1])
    fast = bend[:-1] > 4 * ratio**2 * (bend[1:] + _CLEAR * noise_below)
    share = jnp.where(has_bend & (slow | fast), jnp.inf, share)
    close = share <= _DEVIATION
    # So is the change of its slope. At first that is hidden by noise; where it leaps out of it,
    # or then grows slower and is no small share of the slope, it is not that of one function.
    change = odd / seen.run[:-1]
    square = ratio[:-1] ** 2 * change[1:]
    hidden = ratio[:-1] ** 2 * _CLEAR * noise_below[1:] / seen.run[1:-1]
    twisted = odd[:-1] > _DEVIATION * jnp.abs(seen.rise[:-2])
    slow = twisted & (noise[1:] > _CLEAR * noise_below[1:]) & (change[:-1] < square / 4)
    close &= jnp.append(~(slow | (change[:-1] > 4 * (square + hidden))), True)

    # Three regular steps are needed to tell truncation from a noise that happened to be small.
    shown = noise_up_to > _CLEAR * noise_below
    shown &= close & jnp.append(close[1:], False) & jnp.append(close[2:], jnp.zeros(2, bool))
    grows = change[:-1] >= change[1:] * jnp.sqrt(ratio[:-1])
    regular = close & jnp.append(grows | ~shown[1:], True)
    return _Regularity(close, share, shown, regular)


def _kink(place: Place, value: jax.Array, scan: Pairs) -> tuple[jax.Array, jax.Array]:
    """Returns where either side is regular by itself, as at a kink, and whether one is."""

    def regular(side):
        return _regularity(place, value, differences(value, scan, side)).regular

    sides = jax.vmap(regular)(jnp.asarray([1, -1]))
    return jnp.max(jax.vmap(_top_of_lowest_run)(sides)), jnp.any(sides)


def _rise_out_of_noise(swell: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the first step at which a function changes far more than at all shorter ones.

    And at the next one again. Also whether there is such a step.
    """
    swell = jnp.where(jnp.isfinite(swell), swell, 0)
    loudest = jnp.append(largest_of_shorter(swell)[1:], jnp.inf)
    rises = swell > 2 * _CLEAR * loudest
    rises &= jnp.append(False, rises[:-1])
    return swell.shape[0] - 1 - jnp.argmax(jnp.flip(rises)), jnp.any(rises)


def _top_of_lowest_run(passed: jax.Array) -> jax.Array:
    """Returns the first index of the last run of true entries, or zero."""
    index = jnp.arange(passed.shape[0])
    last = jnp.max(jnp.where(passed, index, -1))
    run = at_all_shorter(passed | (index > last))
    return jnp.where(last >= 0, passed.shape[0] - jnp.sum(run), 0)


def _treads(
    place: Place,
    scan: Pairs,
    seen: Differences,
    found: _Regularity,
    flat: jax.Array,
    rung: jax.Array,
    exponents: jax.Array,
) -> Treads:
    """Returns where a staircase would show.

    Most come from arithmetic with half of the digits, whose steps are known beforehand; a
    staircase with longer steps shows by a gap between two ranges of regular steps.
    """
    count, slope = exponents.shape[0], seen.slope
    index = jnp.arange(count)

    def up_to(share):  # the longest step that is no longer than a share of |x|
        length = place.size * jnp.exp2(-share * place.digits)
        return jnp.min(jnp.where(scan.ahead <= length, index, count))

    def change(i, j):
        return jnp.abs(jnp.take(slope, i, mode="clip") - jnp.take(slope, j, mode="clip"))

    inner, outer = jnp.maximum(rung, up_to(0.49)), up_to(0.41) - 1
    # One step longer the treads matter less; but a small difference is lost in truncation.
    for _ in range(2):
        longer = jnp.maximum(outer - 1, 0)
        agrees = change(longer, inner) > 4 * change(longer - 1, longer)
        outer = jnp.where(agrees, longer, outer)
    again = found.close & (index[:-1] <= rung - 2) & (index[:-1] >= rung - 3)
    has_gap = (outer >= rung) | (scan.ahead[rung] > place.size * jnp.exp2(-0.34 * place.digits))
    has_gap &= jnp.any(again)
    inner, outer = jnp.where(has_gap, rung + 1, inner), jnp.where(has_gap, rung - 1, outer)
    inner, outer = jnp.where(flat, rung, inner), jnp.where(flat, rung - 1, outer)
    possible = (outer >= 0) & (inner < count - 1) & (outer < inner) & (flat | (place.size > 0))
    inner, outer = jnp.clip(inner, 1, count - 1), jnp.clip(outer, 0, count - 1)

    # Their height matters less the longer the step, until truncation is seen.
    step = jnp.abs(jnp.diff(slope))
    calmer = found.close & (step <= jnp.append(step[1:], jnp.inf))
    passed = jnp.sum(at_all_shorter(calmer | (index[:-1] >= outer)))
    beyond = exponents[jnp.minimum(count - 1 - passed, outer)] + exponents[0] - exponents[1]
    fine = possible & (~flat | (scan.ahead[inner] <= place.size * _COARSE))
    return Treads(inner, outer, beyond, possible, fine)


def probe_step(reach: Reach, steps: jax.Array) -> jax.Array:
    """Returns the step of the probe, just beside one of the scan, shape `(1,)`."""
    return (steps[reach.treads.outer] + steps[reach.treads.inner] / 8)[None]


def read_zoom(
    place: Place,
    value: jax.Array,
    scan: Pairs,
    zoom: Pairs,
    exponents: jax.Array,
    probe: Pairs,
    reach: Reach,
) -> Range:
    """Returns the range of steps in which the slope is to be found."""
    # The zoom stands on three steps of the scan.
    lower = jax.tree.map(lambda p: jnp.take(p, reach.rung + jnp.arange(3), mode="clip"), scan)
    seen = differences(value, jax.tree.map(jnp.append, zoom, lower), reach.side)
    regular = jnp.where(reach.flat, seen.swell[:-1] == 0, _regularity(place, value, seen).regular)[
        :-2
    ]
    passed = jnp.sum(at_all_shorter(regular))
    top = jnp.append(exponents, reach.low)[exponents.shape[0] - passed]

    is_staircase, tread, gap, height = _staircase(place, value, scan, probe, reach)
    climbs = is_staircase & reach.treads.fine
    below = reach.flat | (top < jnp.log2(scan.ahead[reach.treads.outer]))
    gap_beyond = _gap_beyond(value, scan, zoom, jnp.exp2(top))
    gap_beyond = jnp.where((reach.side == 0) & ~reach.flat, gap_beyond, 0)
    return Range(
        jnp.where(climbs & below, reach.treads.beyond, top),
        reach.flat & ~climbs,
        tread,
        jnp.where(climbs, gap / 4, -1),
        reach.doubt
        + jnp.where(climbs, 0, height / scan.ahead[reach.treads.inner] + 2 * gap_beyond),
    )


def _gap_beyond(value: jax.Array, scan: Pairs, zoom: Pairs, top: jax.Array) -> jax.Array:
    """Returns by how much the slope differs at steps beyond a sudden end of the regular ones.

    A smooth function is left gradually. A single kink or jump is left suddenly, but seen on one
    side. What is left suddenly on both sides, and is regular again over longer steps, may be
    a staircase, whose treads have another slope than what it was written for. Otherwise zero.
    """
    # A step of the zoom may be one of the scan.
    again = jnp.abs(scan.ahead[:, None] / zoom.ahead[None, :] - 1) < 0.01
    pairs = jax.tree.map(jnp.append, scan, zoom)
    key = jnp.append(jnp.where(jnp.any(again, axis=1), 0, scan.ahead), zoom.ahead)
    order = jnp.argsort(-key)
    pairs = jax.tree.map(lambda leaf: leaf[order], pairs)
    seen = differences(value, pairs, 0)
    beyond = (key[order] > 1.1 * top) & jnp.isfinite(seen.slope)
    last = jnp.sum(key > 1.1 * top)
    here, shorter = (jnp.take(seen.slope, last + i, mode="clip") for i in (0, 1))
    bend = jnp.take(seen.bend, last, mode="clip") / jnp.take(seen.run, last, mode="clip") ** 2
    # Slopes of pairs of steps, without their leading truncation.
    ratio = (seen.run[:-1] / seen.run[1:]) ** 2
    slope = seen.slope[1:] - jnp.diff(-seen.slope) / jnp.maximum(ratio - 1, 0.5)
    gap = jnp.abs(slope[1:] - here)
    rise, bend = seen.rise - here * seen.run, seen.bend - bend * seen.run**2
    two_sided = jnp.abs(bend) < jnp.abs(rise) / 2
    agree = jnp.abs(jnp.diff(slope))
    shown = (agree <= gap / 2) & beyond[:-2] & beyond[1:-1] & beyond[2:] & two_sided[2:]
    shown &= jnp.abs(here - shorter) <= gap / _SUDDEN
    best = jnp.argmin(jnp.where(shown, agree, jnp.inf))
    return jnp.where(jnp.any(shown), gap[best], 0)


def _staircase(
    place: Place, value: jax.Array, scan: Pairs, probe: Pairs, reach: Reach
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns whether the function is a staircase, by the slope of its treads elsewhere.

    Also that slope, by how much it differs from the other one, and the height of a step if
    the function is flat and has steps.
    """
    inner, outer = reach.treads.inner, reach.treads.outer
    seen = differences(value, scan, 0)
    tread, slope = seen.slope[inner], seen.slope[outer]
    gap = jnp.abs(slope - tread)
    ahead = (probe.above[0] - scan.above[outer]) / (probe.ahead[0] - scan.ahead[outer])
    behind = (scan.below[outer] - probe.below[0]) / (probe.behind[0] - scan.behind[outer])
    # One of the two may happen to cross the end of a tread, and then is far steeper.
    off_ahead, off_behind = jnp.abs(ahead - tread), jnp.abs(behind - tread)
    crosses_ahead = (off_ahead > 4 * gap) & (off_behind <= gap / 4)
    crosses_behind = (off_behind > 4 * gap) & (off_ahead <= gap / 4)
    ahead, behind = (
        jnp.where(crosses_ahead, behind, ahead),
        jnp.where(crosses_behind, ahead, behind),
    )
    # Curvature changes the slopes there, of either side by as much in opposite directions.
    away = jnp.maximum(jnp.abs(ahead - tread), jnp.abs(behind - tread))
    same = jnp.abs((ahead + behind) / 2 - tread) <= gap / 4
    same &= away <= jnp.maximum(gap, jnp.abs(tread)) / 8
    # A single jump has the same slopes on both of its sides as well, but bends.
    jump = jnp.abs(seen.bend[outer] - (ahead - behind) * seen.run[outer] / 4)
    shorter = jnp.minimum(inner + 1, scan.ahead.shape[0] - 1)
    noise = jnp.abs(tread - seen.slope[shorter]) * seen.run[shorter] / seen.run[inner]
    is_staircase = same & (jump <= 0.75 * gap * seen.run[outer]) & (reach.flat | (gap > 16 * noise))
    # A pole is left gradually, so truncation is seen before. Short steps hide it by noise.
    around = jnp.take(seen.slope, inner + jnp.arange(3), mode="clip")
    before, earlier = jnp.abs(jnp.diff(around))
    is_sudden = before <= jnp.maximum(gap / _SUDDEN, earlier)
    is_staircase &= reach.flat | (scan.ahead[inner] < place.size * _COARSE) | is_sudden
    has_steps = reach.treads.possible & reach.flat & (ahead == 0) & (behind == 0)
    height = jnp.where(has_steps, seen.swell[outer], 0)
    return is_staircase & reach.treads.possible, tread, gap, height
