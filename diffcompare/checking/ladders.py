"""The slope of a function on a line from its values alone, with a bound of its error.

All is plain NumPy: a check looks at few lines of functions that are compiled once, and the
stages of `diffcompare.numerical.line` would take longer to compile than all of it. The tableau is
that of `diffcompare.numerical.tableau`.
"""

from typing import Literal, NamedTuple

import numpy as np

from diffcompare.numerical import tableau

Kind = Literal["smooth", "edge", "kink", "steep", "jump", "undefined"]
Array = np.ndarray

# A ladder of fewer steps says nothing of its own noise.
FEWEST = 6

# Noise is the largest of the samples of this share of a ladder, the shortest steps; or of a few
# steps above a tread.
_SHARE, _FEW = 4, 6
# A change from step to step is taken for the error of the longer one. If errors fall as slowly as
# h^p, that of the shorter is 1 / (2^p - 1) as large: p may be as small as 0.17.
_SLOW = 8.0
# How many times the bounds the slopes of two sides must be apart, and which share of their size,
# to be those of a kink. What is less is added to the bound.
_APART, _APART_OF_SIZE = 8.0, 1e-6
# Differences of one side fall as h^p: a jump does not fall, a slope is infinite where p < 0.9.
# Slopes from step to step change as h^q: those of x log x by the same, so that they grow forever.
_JUMP, _STEEP, _GROWING = 0.02, 0.9, 0.1
# How straight the logarithms lie, as a standard deviation in powers of two, over which steps, and
# how far above rounding.
_STRAIGHT, _SHORT_STEPS, _ABOVE_ROUNDING = 0.2, slice(-14, -2), 64.0
# A function that does not move by this step nor by shorter ones has the slope zero: no format
# that has more than ten binary digits hides its slope there. In shorter steps, it might.
_TREAD = 2.0**-10


class Line(NamedTuple):
    """Values of a function on a line, from the longest step to the shortest, which halve."""

    value: float  # in the middle
    ahead: Array  # (steps,), how far the points on either side are away
    behind: Array
    above: Array  # (steps,), the values there
    below: Array
    unit: float  # the relative rounding error of a value, the eps of its dtype


class Slope(NamedTuple):
    """What a line says of the slope in its middle."""

    kind: Kind
    low: float  # the slopes of both sides at a kink; else they are equal
    high: float
    bound: float  # of the error of either; infinite where nothing is known
    noise: float = 0.0  # of a value
    secant: float = 0.0  # the steepest slope of a line through two of the values
    tread: float = 0.0  # a step by which nothing moves, though it does by longer ones

    @property
    def middle(self) -> float:
        return self.low / 2 + self.high / 2


def slope_of(line: Line) -> Slope:
    """Returns the slope in the middle of a line.

    Of all extrapolations of all ladders of differences, it is the one with the smallest bound
    which no shorter steps contradict. That is what ends a ladder at a pole or a kink, and what
    keeps a function that oscillates from being taken for another.

    Example:
        >>> steps = 2.0 ** -np.arange(1, 47)
        >>> found = slope_of(Line(1.0, steps, steps, np.exp(steps), np.exp(-steps), 2.0**-52))
        >>> found.kind, abs(found.middle - 1) < found.bound < 1e-11
        ('smooth', True)
    """
    with np.errstate(all="ignore"):
        return _slope_of(line)


def _slope_of(line: Line) -> Slope:
    moves = (line.ahead > 0) & (line.behind > 0)
    line = line._replace(**{name: getattr(line, name)[moves] for name in Line._fields[1:5]})
    ahead = _finite(line.above - line.value, line.ahead, line.above)
    behind = _finite(line.value - line.below, line.behind, line.below)
    sides = [side for side in (ahead, behind) if len(side.rise) >= FEWEST]
    if not np.isfinite(line.value) or not (len(ahead.rise) or len(behind.rise)):
        return Slope("undefined" if len(line.ahead) else "smooth", np.nan, np.nan, np.inf)
    if not sides:
        return Slope("smooth", np.nan, np.nan, np.inf)
    secant = max(float(np.max(np.abs(side.slopes))) for side in sides)
    treads = [_tread(side) for side in sides]
    tread = min(treads)
    if tread >= _TREAD:
        unseen = 2 * line.unit * abs(line.value) / tread
        return Slope("smooth", 0.0, 0.0, unseen, line.unit * abs(line.value), secant)
    kind = next((kind for side in sides if (kind := _shape(side, line))), None)
    noise = max(_noise(side, tread) for side in sides)
    noise = max(noise, line.unit * abs(line.value))
    known = {"noise": noise, "secant": secant, "tread": tread}
    if kind is not None:
        return Slope(kind, np.nan, np.nan, np.inf, **known)
    found = [_extrapolated(side, noise, line.unit, tableau.ONE_SIDED) for side in sides]
    if len(sides) == 1:
        return Slope("edge", found[0][0], found[0][0], found[0][1], **known)
    (one, bound), (other, other_bound) = found
    gap, both = abs(one - other), bound + other_bound
    if gap > _APART * both and gap > _APART_OF_SIZE * (abs(one) + abs(other)):
        return Slope("kink", min(one, other), max(one, other), max(bound, other_bound), **known)
    slope, least = _extrapolated(_central(line, ahead, behind), noise, line.unit, tableau.CENTRAL)
    if not np.isfinite(least):
        slope, least = min(found, key=lambda each: each[1])
    if gap > both:  # a kink that is too small to be told
        least += gap / 2
    return Slope("smooth", slope, slope, least, **known)


class _Side(NamedTuple):
    """Differences, of the longest run of the shortest steps whose values are finite."""

    rise: Array
    run: Array
    size: Array  # the larger of the values

    @property
    def slopes(self) -> Array:
        return self.rise / self.run


def _finite(rise: Array, run: Array, values: Array) -> _Side:
    usable = np.isfinite(rise / run)
    start = len(usable) - int(np.argmin(usable[::-1])) if not usable.all() else 0
    return _Side(rise[start:], run[start:], np.abs(values[start:]))


def _central(line: Line, ahead: _Side, behind: _Side) -> _Side:
    count = min(len(ahead.rise), len(behind.rise))
    rise = line.above[-count:] - line.below[-count:]
    size = np.maximum(ahead.size[-count:], behind.size[-count:])
    return _Side(rise, ahead.run[-count:] + behind.run[-count:], size)


def _tread(side: _Side) -> float:
    """Returns the longest step from which on nothing moves; zero where there is none."""
    moved = np.flatnonzero(side.rise)
    start = moved[-1] + 1 if moved.size else 0
    return float(side.run[start]) if start + 4 <= len(side.run) else 0.0


def _noise(side: _Side, tread: float) -> float:
    """Returns the noise of a value: what differences are off that should be halves of another.

    A sample sums three values, one of them twice, so that twice the noise of one is a usual size;
    the largest of several is larger.
    """
    sample = np.abs(side.rise[:-1] - side.rise[1:] * (side.run[:-1] / side.run[1:]))
    count = max(_SHARE, len(side.run) // _SHARE + 1)
    if tread:  # formats within the function hide shorter steps
        sample, count = sample[side.run[1:] > tread], _FEW
    return float(np.max(sample[-count:], initial=0.0)) / 2


def _shape(side: _Side, line: Line) -> Kind | None:
    """Returns whether there is no finite slope on a side."""
    rounding = _ABOVE_ROUNDING * line.unit * np.maximum(side.size, abs(line.value))
    power = _power(np.abs(side.rise), rounding, side.run)
    growth = _power(np.abs(np.diff(side.slopes)), (rounding / side.run)[1:], side.run[1:])
    if abs(power) < _JUMP:
        return "jump"
    return "steep" if 0 < power < _STEEP or growth < _GROWING else None


def _power(size: Array, rounding: Array, run: Array) -> float:
    """Returns the power of short steps that something falls by; infinite where it is none."""
    size, rounding, run = size[_SHORT_STEPS], rounding[_SHORT_STEPS], run[_SHORT_STEPS]
    if len(size) < _SHORT_STEPS.stop - _SHORT_STEPS.start or not np.all(size > rounding):
        return np.inf
    logs, steps = np.log2(size), np.log2(run)
    power, start = np.polyfit(steps, logs, 1)
    is_straight = np.std(logs - power * steps - start) <= _STRAIGHT
    return float(power) if is_straight else np.inf


def _extrapolated(side: _Side, noise: float, unit: float, factor: int) -> tuple[float, float]:
    """Returns a slope and its bound, which is infinite where shorter steps contradict all."""
    if len(side.run) < FEWEST:
        return np.nan, np.inf
    table = tableau.weights(len(side.run), factor)
    slope = table.matrix @ side.slopes
    rounding = np.abs(table.matrix) @ ((2 * noise + 2 * unit * side.size) / side.run)
    change = np.maximum(np.abs(slope - slope[table.left]), np.abs(slope - slope[table.upper]))
    bound = _SLOW * change + rounding + unit * np.abs(slope)
    bound = np.where((table.column > 0) & np.isfinite(bound), bound, np.inf)
    bound = np.where(_contradicted(table.rung, slope, bound), np.inf, bound)
    best = int(np.argmin(bound))
    return float(slope[best]), float(bound[best])


def _contradicted(rung: Array, slope: Array, bound: Array) -> Array:
    """Returns which slopes lie outside of an interval of shorter steps."""
    usable = np.isfinite(bound)
    low, high = np.full(rung.max() + 2, -np.inf), np.full(rung.max() + 2, np.inf)
    np.maximum.at(low, rung[usable], (slope - bound)[usable])
    np.minimum.at(high, rung[usable], (slope + bound)[usable])
    # Of all steps from one on.
    low = np.maximum.accumulate(low[::-1])[::-1]
    high = np.minimum.accumulate(high[::-1])[::-1]
    return (slope + bound < low[rung + 1]) | (slope - bound > high[rung + 1])
