"""What a wrong gradient looks like, beside the true one."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray  # float64

# An explanation leaves at most this part of what it explains: a transformation that has nothing to
# do with a mistake leaves about all of it, one that is right leaves rounding.
_LEFT = 1 / 16
# Rounding of a few operations.
_ROUNDED = 8.0
# Factors that people forget, or take twice.
_CONSTANTS: Mapping[str, float] = {
    "ln 2": math.log(2),
    "ln 10": math.log(10),
    "pi / 180": math.pi / 180,
    "2 pi": 2 * math.pi,
    "pi": math.pi,
    "sqrt 2": math.sqrt(2),
}
# Numbers of which there are many are told apart by three digits at least.
_TELLING = 1e-3
# An axis that is shorter is no batch: a factor of 2 or 3 has many reasons.
_BATCH = 4
# Entries up to this part of a leaf are few.
_FEW = 1 / 50


class Pattern(NamedTuple):
    """A kind of mistake."""

    name: str  # "factor", "sign", "zero", "clipped", "transposed", ...
    sentence: str  # what it looks like, and from what that may come


class Surroundings(NamedTuple):
    """What a leaf's gradient may be mistaken for."""

    x: Array | None = None  # the leaf itself
    siblings: Mapping[str, Array] = {}  # true gradients of other leaves, by path
    arriving: Sequence[Array] = ()  # what the outputs are weighted with
    lengths: Mapping[int, str] = {}  # of the axes of all arguments, and of which


def pattern(
    claimed: Array,
    true: Array,
    eps: float,
    surroundings: Surroundings | None = None,
    *,
    precision: float | None = None,
) -> Pattern | None:
    """Returns what kind of mistake a wrong gradient is; None where it looks like none.

    Args:
        claimed: The gradient by one leaf that is claimed, float64.
        true: The true one.
        eps: Of the dtype in which the claim was computed.
        surroundings: What else there is; the more, the more is recognized.
        precision: Up to which relative error an entry is right; by default half of the digits.

    Example:
        >>> true = np.array([3.0, -2.0, 0.5])
        >>> pattern(2 * true, true, 1e-7).sentence
        '2 times too large'
        >>> pattern(np.clip(true, -1, 1), true, 1e-7).sentence
        'clipped to -1 ... 1'
    """
    around = surroundings or Surroundings()
    claimed, true = np.asarray(claimed, np.float64), np.asarray(true, np.float64)
    if not np.all(np.isfinite(claimed)):
        return _not_finite(claimed, true)
    if not np.all(np.isfinite(true)):
        return None
    # Sums of squares neither overflow nor vanish.
    size = max(np.max(np.abs(claimed), initial=0.0), np.max(np.abs(true), initial=0.0))
    if size == 0:
        return None
    c, t = claimed / size, true / size
    defect = _norm(c - t)
    if defect <= _ROUNDED * eps * _norm(c):
        return None
    look = _Look(size, eps, eps**0.5 if precision is None else precision)
    left = min(look.precision * _norm(c) or math.inf, _LEFT * defect)
    with np.errstate(over="ignore", invalid="ignore"):  # what else there is may be of any size
        for find in _FINDERS:
            for found, model in find(c, t, look, around):
                if model.shape == c.shape and _norm(c - model) <= left:
                    return found
    return _few_entries(c, t, look)


class _Look(NamedTuple):
    """How numbers are looked at."""

    size: float  # by which they were divided
    eps: float  # of the dtype, to which constants are rounded
    precision: float  # of an entry


Found = Iterator[tuple[Pattern, Array]]


def _not_finite(claimed: Array, true: Array) -> Pattern | None:
    bad = np.isfinite(true) & ~np.isfinite(claimed)
    if not np.any(bad):
        return None
    what = "NaN" if np.any(np.isnan(claimed[bad])) else "infinite"
    return Pattern("not finite", f"it is {what} {_where(bad)}")


def _replaced(c, t, look: _Look, around: Surroundings) -> Found:
    """Nothing, what arrives, or another leaf's gradient, in place of this."""
    is_flat = not np.any(t)
    for each in around.arriving:
        if each.shape == c.shape:
            flat = ", where the function is flat" if is_flat else ""
            yield (
                Pattern("straight-through", f"it is what arrives, passed straight through{flat}"),
                each / look.size,
            )
    if is_flat:
        yield (
            Pattern(
                "straight-through",
                "it is not zero where the function is flat, as of a straight-through estimator",
            ),
            c,
        )
        return
    yield Pattern("zero", "it is zero: the derivative is lost, as by stop_gradient"), 0 * t
    for path, sibling in around.siblings.items():
        if sibling.size == c.size and np.any(sibling):
            yield (
                Pattern("swapped", f"it is the gradient by {path}"),
                sibling.reshape(c.shape) / look.size,
            )


def _multiplied(c, t, look: _Look, around: Surroundings) -> Found:
    factor = _fitted(c, t)
    if factor in (0.0, 1.0):
        return
    precision = max(_ROUNDED * look.eps, 4 * _norm(c - factor * t) / _norm(c))
    if 0 < factor < 1 and c.size > 1 and precision < _TELLING / 10:
        norm = _round_number(_norm(c) * look.size, precision)
        if norm is not None and _known(factor, precision) is None:
            yield (
                Pattern("rescaled", f"its direction is right, its norm was cut to {norm}"),
                factor * t,
            )
    name = "factor" if factor > 0 else "sign"
    yield Pattern(name, _times(factor, precision, around.lengths)), factor * t


def _times(factor: float, precision: float, lengths: Mapping[int, str]) -> str:
    """Returns in words that something is a multiple of what it should be."""
    if factor < 0:
        wrong = "the sign is wrong"
        if _is_close(factor, -1.0, precision):
            return wrong
        return f"{wrong}, and it is {_times(-factor, precision, lengths)}"
    known = _known(factor, precision)
    if known is None:
        if 0.1 < factor < 2:
            percent = f"{100 * abs(factor - 1):.3g} %"
            return f"{percent} too {'large' if factor > 1 else 'small'}"
        way = ("large", factor) if factor > 1 else ("small", 1 / factor)
        return f"{way[1]:.4g} times too {way[0]}"
    name, is_larger = known
    sentence = f"{name} times too {'large' if is_larger else 'small'}"
    length = int(name) if name.isdigit() else 0
    if length >= _BATCH and length in lengths:
        kinds = ("a sum in place of a mean", "a mean in place of a sum")
        sentence += f", the length of {lengths[length]}: {kinds[0 if is_larger else 1]}?"
    return sentence


def _known(factor: float, precision: float) -> tuple[str, bool] | None:
    """Returns the name of a factor above 1, and whether it is that or its reciprocal."""
    for is_larger, value in ((True, factor), (False, 1 / factor)):
        if value > 1 + precision:
            if round(value) > 1 and _is_close(value, round(value), precision):
                return str(round(value)), is_larger
            for name, constant in _CONSTANTS.items() if precision < _TELLING else ():
                known = constant if constant > 1 else 1 / constant
                if _is_close(value, known, precision):
                    return (name if constant > 1 else f"1 / ({name})"), is_larger
    return None


def _in_one_entry(c, t, look: _Look, around: Surroundings) -> Found:
    wrong = differing(c, t, look.precision)
    if np.sum(wrong) == 1 and c.size > 1:
        index = tuple(map(int, np.argwhere(wrong)[0]))
        yield Pattern("one entry", f"only entry {index} is wrong"), np.where(wrong, c, t)


def _in_part(c, t, look: _Look, around: Surroundings) -> Found:
    """A factor in some of the entries, while the others are right."""
    wrong = differing(c, t, look.precision)
    count = int(np.sum(wrong))
    if not 1 < count < c.size:
        return
    where = _where(wrong)
    factor = _fitted(c[wrong], t[wrong])
    precision = max(
        _ROUNDED * look.eps, 4 * _norm(c[wrong] - factor * t[wrong]) / max(_norm(c[wrong]), 1e-300)
    )
    if factor == 0:
        yield Pattern("zero", f"it is zero {where}, and right elsewhere"), np.where(wrong, 0.0, t)
    elif np.any(t[wrong]):
        yield (
            Pattern("part", f"{_times(factor, precision, around.lengths)} {where}"),
            np.where(wrong, factor * t, t),
        )


def _few_entries(c: Array, t: Array, look: _Look) -> Pattern | None:
    """Returns that few entries are wrong, or that the wrong ones stand in one row."""
    wrong = differing(c, t, look.precision)
    count = int(np.sum(wrong))
    is_row = wrong.ndim > 1 and "axis" in _where(wrong)
    if not 0 < count < c.size or not (is_row or count <= max(3, c.size * _FEW)):
        return None
    return Pattern("part", f"it is wrong {_where(wrong)}, and right elsewhere")


def _where(wrong: Array) -> str:
    """Returns in words where a leaf is wrong."""
    places, count = np.argwhere(wrong), int(np.sum(wrong))
    if count == wrong.size:
        return "everywhere"
    if count == 1:
        return f"in entry {tuple(map(int, places[0]))}"
    for axis in range(wrong.ndim):
        if wrong.shape[axis] > 1 and np.all(places[:, axis] == places[0, axis]):
            return f"at index {places[0, axis]} of axis {axis}"
    for axis in range(wrong.ndim):
        first, last = int(places[:, axis].min()), int(places[:, axis].max())
        # A range of the axis in which all is wrong.
        inside = np.take(wrong, range(first, last + 1), axis)
        if last - first + 1 < wrong.shape[axis] and np.all(inside):
            return f"at indices {first} to {last} of axis {axis}"
    return f"in {count} of {wrong.size} entries"


def _moved(c, t, look: _Look, around: Surroundings) -> Found:
    """The right numbers in wrong places."""
    for axes in _permutations(t.ndim):
        if t.transpose(axes).shape == t.shape:
            words = "transposed" if t.ndim == 2 else f"its axes are permuted to {axes}"
            yield Pattern("transposed", words), t.transpose(axes)
        elif t.ndim == 2:
            yield (
                Pattern("transposed", "its entries are those of the transpose, reshaped"),
                t.transpose(axes).reshape(t.shape),
            )
    for axis in range(t.ndim):
        of = f" along axis {axis}" if t.ndim > 1 else ""
        yield Pattern("reversed", f"its entries are in reverse order{of}"), np.flip(t, axis)
        shift = _shift(c, t, axis)
        if shift:
            yield (
                Pattern("rolled", f"its entries are moved by {shift}{of}"),
                np.roll(t, shift, axis),
            )
    if c.size > 2 and np.unique(t).size > 2:
        order = np.empty(c.size, int)
        order[np.argsort(c, axis=None, kind="stable")] = np.argsort(t, axis=None, kind="stable")
        yield (
            Pattern("permuted", "its entries are the right numbers in another order"),
            t.ravel()[order].reshape(t.shape),
        )


def _permutations(count: int) -> Iterator[tuple[int, ...]]:
    """Yields the exchanges of two axes."""
    for a in range(count):
        for b in range(a + 1, count):
            axes = list(range(count))
            axes[a], axes[b] = b, a
            yield tuple(axes)


def _shift(c: Array, t: Array, axis: int) -> int:
    """Returns by how much an axis is rolled at best: the shorter way round."""
    length = t.shape[axis]
    if length < 3:  # of two, a roll is the reverse order
        return 0
    # All correlations at once, by the theorem of convolution.
    transform = lambda array: np.fft.fft(array, axis=axis)
    products = np.fft.ifft(transform(c) * np.conj(transform(t)), axis=axis).real
    others = tuple(other for other in range(t.ndim) if other != axis)
    best = int(np.argmax(np.sum(products, axis=others)))
    return best if best <= length // 2 else best - length


def _limited(c, t, look: _Look, around: Surroundings) -> Found:
    """Cut to a range, or to a sign."""
    if c.size < 2:
        return
    yield Pattern("absolute", "it has lost its sign"), np.abs(t)
    yield Pattern("sign only", "only its sign is left"), np.sign(t) * np.max(np.abs(c))
    low, high = float(np.min(c)), float(np.max(c))
    above, below = int(np.sum(t > high)), int(np.sum(t < low))
    # One entry is cut to whatever it is; two are cut to the same number, or to opposite ones.
    if above + below < 2 or (
        above == below == 1 and not _is_close(low, -high, _ROUNDED * look.eps)
    ):
        return
    bounds = f"to {low * look.size:.4g} ... {high * look.size:.4g}"
    if not above or not below:
        bounds = f"at {(high if above else low) * look.size:.4g}"
    yield Pattern("clipped", f"clipped {bounds}"), np.clip(t, low, high)


def _added(c, t, look: _Look, around: Surroundings) -> Found:
    """A constant, or a multiple of the argument, too much."""
    if c.size > 2:
        offset = float(np.mean(c - t))
        yield Pattern("offset", f"{offset * look.size:.4g} too large everywhere"), t + offset
        if around.x is not None and around.x.shape == c.shape and np.any(around.x):
            x = around.x / np.max(np.abs(around.x))
            slope = _fitted(c - t, x)
            times = slope * look.size / float(np.max(np.abs(around.x)))
            yield (
                Pattern(
                    "argument",
                    f"it has {times:.4g} times the argument too much, as of weight decay",
                ),
                t + slope * x,
            )


def _summed(c, t, look: _Look, around: Surroundings) -> Found:
    """The same along an axis, or by another factor at each index of an axis."""
    for axis in range(t.ndim):
        if t.shape[axis] < 2:
            continue
        for name, reduce in (("sum", np.sum), ("mean", np.mean)):
            yield (
                Pattern("summed", f"it is the {name} over axis {axis}, repeated along it"),
                np.broadcast_to(reduce(t, axis, keepdims=True), t.shape),
            )
        yield (
            Pattern("repeated", f"the first index of axis {axis} is repeated along it"),
            np.broadcast_to(np.take(t, [0], axis), t.shape),
        )
        others = tuple(other for other in range(t.ndim) if other != axis)
        if t.size >= _BATCH * t.shape[axis]:
            below = np.sum(t * t, axis=others, keepdims=True)
            factors = np.sum(c * t, axis=others, keepdims=True) / np.where(below > 0, below, 1.0)
            yield (
                Pattern("factors", f"it has another factor at each index of axis {axis}"),
                factors * t,
            )


# The most specific first: what has no number of its own, then one, then several.
_FINDERS: Sequence[Callable[..., Found]] = (
    _replaced, _multiplied, _in_one_entry, _limited, _in_part, _moved, _added, _summed,
)  # fmt: skip


def differing(claimed: Array, true: Array, precision: float) -> Array:
    """Returns which entries differ by more than a relative error."""
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(claimed), np.abs(true))
        # What is left of terms that cancelled is as inexact as they were: where a precision is half
        # of the digits, some units in the last place of the largest entry.
        floor = 16 * precision**2 * np.max(np.abs(true), initial=0.0, where=np.isfinite(true))
        return ~(np.abs(claimed - true) <= precision * size + floor)


def _fitted(c: Array, t: Array) -> float:
    """Returns the multiple of `t` that is nearest to `c`."""
    below = float(np.sum(t * t))
    return float(np.sum(c * t)) / below if below else 0.0


def _norm(array: Any) -> float:
    return float(np.sqrt(np.sum(np.square(array))))


def _is_close(a: float, b: float, precision: float) -> bool:
    return abs(a - b) <= precision * abs(b)


def _round_number(value: float, precision: float) -> str | None:
    """Returns a number of at most two digits, if that is what it is."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:g}" if _is_close(value, rounded, precision) else None
