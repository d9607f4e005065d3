"""The slopes of a function along lines, by differences that are infinitely small for all purposes.

In 640 binary digits a difference over 2**-200 of the argument has neither truncation nor rounding
that a dtype could see. What a slope is, a second look closer to the point decides, where the two
sides do not agree at once.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from diffcompare._jaxpr.elements import as_array, is_object
from diffcompare.checking.budget import Budget
from diffcompare.checking.problem import Moves, Problem
from diffcompare.checking.walks import EXACT, ROUNDINGS, Trail, Variation, trail
from diffcompare.exact.multiprecision import Arithmetic

Element = Any  # a number of the arithmetic
Kind = Literal["smooth", "edge", "kink", "steep", "jump", "undefined"]

# The first look moves the argument by 2**-200 of its size. That is far below the size of anything
# a dtype can tell apart (2**-52), so that what is a kink, a jump or a branch for the dtype lies
# either at the point or beyond the line; and of 640 digits 440 remain for the difference.
_NEAR = 200
# Every further look is 2**-40 closer. Powers of the distance h are told apart by it: what changes
# like h**q does so by 2**(-40 q).
_CLOSER = 40
# Looks go on until both sides have settled, at most to 2**-320, where a slope still has 2**-220 of
# the largest value.
_LOOKS = 4
# How many digits of the value the walk itself may lose, by rounding and by cancellation. Where
# numbers on the way are larger than the value by more than that, such as the lowest number of
# float64 in a mask, the walk has more digits instead: what the program's sums lose, it must not.
_LOST = 100
# Sides that agree to that have one slope: the eps of every dtype is far larger, and a curvature
# that a dtype could follow far smaller than 2**140 slopes for the size of the argument.
_AGREED = 60
# Where the function is smooth, sides come together like h, by 2**-40 a look; and like h**0.75 by
# 2**-30. The same tells that a side has settled, by itself.
_SHRUNK = 30
# A slope that grows like 1 / h belongs to a jump, by 2**40 a look. Between are h**0.05 and others
# whose slope is infinite.
_JUMPED = 38
# What comes nearer to its limit by half or more a look, like h**(1/40), has one; slower ones, and
# logarithms, which do not come nearer, are not distinguished.
_CONVERGES = 0.5
# What the looks need. Entries of very different size need more; some digits are to spare.
_BITS, _SPARED = 640, 64
_RANGE = 2**20  # beyond any exponent of a dtype


class Truth(NamedTuple):
    """The slope of a function along a direction.

    Attributes:
        kind: "smooth"; "edge", only one side has values, and the slope is that side's; "kink", the
            sides have different slopes; "steep", a slope is infinite; "jump"; "undefined", the
            function has no value, or no slope, here.
        low: The slope, or the smaller of both sides.
        high: The slope, or the larger of both sides.
        error: What truncation and rounding of the walk may have done to it.
    """

    kind: Kind
    low: Element
    high: Element
    error: Element

    @property
    def slope(self) -> Element:
        """The slope, or the mean of both sides."""
        # Equal, they keep all digits also where the arithmetic is not active.
        return self.low if self.low == self.high else (self.low + self.high) / 2

    def times(self, factor: Element) -> "Truth":
        """Returns the slope along a direction that is longer by a positive factor."""
        return self._replace(
            low=self.low * factor, high=self.high * factor, error=self.error * factor
        )


class Primal:
    """A function walked exactly.

    Args:
        problem: The function; it has a trace.
        arithmetic: Numbers of at least 640 bits.
        budget: What walks may cost.

    Attributes:
        value: The weighted sum of the outputs.
        outputs: Arrays of numbers.
        largest: The largest size of a finite output.
        loops_under_rules: Whether a loop stands inside a function with a rule of its own.

    Raises:
        UnknownPrimitiveError: There is no rule for an operation.
        OverBudget: Walks would cost more than is left of the budget.
    """

    def __init__(self, problem: Problem, arithmetic: Arithmetic, budget: Budget):
        assert problem.jaxpr is not None
        self.problem, self.arithmetic, self.budget = problem, arithmetic, budget
        self._jaxpr = problem.jaxpr
        self._constants: dict[int, Any] = {}
        self._others: dict[int, Primal] = {}  # by how many digits more
        self._sizes = [np.asarray(x).astype(np.float64) for x in problem.x]
        self._inputs = [arithmetic.lifted(size) for size in self._sizes]
        self._weights = [arithmetic.lifted(weight) for weight in problem.weights]
        self._base = self._walk(self._inputs, EXACT, None)
        with arithmetic.active():
            self.outputs = self._base.outcome
            self.value = self._contracted(self.outputs)
            sizes = [abs(y) for array in self.outputs for y in array.flat if arithmetic.finite(y)]
            self.largest = max(sizes, default=arithmetic.number(0.0))
        self.loops_under_rules = self._base.has_loops_under_rules
        self._cancelled = self._excess()

    def truth(self, moves: Moves) -> Truth:
        """Returns the slope of the value when leaves move."""
        able = self._able(moves)
        with able.arithmetic.active():
            return able._truth(moves)

    def spread(
        self,
        moves: Moves,
        slope: Element,
        kind: Literal["rounding", "constants", "passes"],
    ) -> Element:
        """Returns by how much varied walks change a slope; infinity where one has none.

        Args:
            moves: The leaves that move, and along what.
            slope: The slope of the exact walk.
            kind: What is varied. Rounding: four draws, and one pass less of loops under rules;
                constants: four draws; passes: of those loops one more, and two more.
        """
        able = self._able(moves)
        passes = [Variation("passes", passes=-1)] if self.loops_under_rules else []
        variations = {
            "rounding": [*ROUNDINGS, *passes],
            "constants": [each._replace(kind="constants") for each in ROUNDINGS],
            "passes": [Variation("passes", passes=1), Variation("passes", passes=2)],
        }[kind]
        with able.arithmetic.active():
            return self._largest(
                abs(able._central(moves, variation) - slope) for variation in variations
            )

    def value_spread(self) -> Element:
        """Returns by how much rounding changes the value; infinity where it has none then."""
        with self.arithmetic.active():
            found = [
                self._contracted(self._walk(self._inputs, variation, None).outcome)
                for variation in ROUNDINGS
            ]
            return self._largest(abs(value - self.value) for value in found)

    def slopes_of_outputs(self, moves: Moves) -> list[np.ndarray]:
        """Returns the slopes of all outputs, from both sides."""
        exponent, able = self._distance(moves), self._able(moves)
        with able.arithmetic.active():
            beyond, before = able._ends(moves, EXACT, able._base, exponent)
            scale = able._power(exponent - 1)
            return [
                as_array((a - b) * scale)
                for a, b in zip(beyond.outcome, before.outcome, strict=True)
            ]

    # Looks.

    def _truth(self, moves):
        near = self._distance(moves)
        finite, zero = self.arithmetic.finite, self.arithmetic.number(0.0)
        undefined = Truth("undefined", zero, zero, zero)
        if not finite(self.value):
            return undefined
        looks: list[tuple[Element, Element]] = []
        for number in range(_LOOKS):
            exponent = near + _CLOSER * number
            looks.append(self._sides(moves, exponent))
            if not any(map(finite, looks[-1])) and number:
                return undefined
            slope = self._agreed(looks, self._unseen(exponent))
            if slope is not None:
                return slope
        return self._by_side(looks, self._unseen(exponent))

    def _agreed(self, looks, unseen) -> Truth | None:
        """Returns the slope where both sides have the same, beyond doubt."""
        if not all(self.arithmetic.finite(side) for look in looks[-2:] for side in look):
            return None
        right, left = looks[-1]
        biggest, apart = max(abs(right), abs(left)), abs(right - left)
        if biggest <= unseen:
            zero = self.arithmetic.number(0.0)
            return Truth("smooth", zero, zero, unseen)
        slope = (right + left) / 2
        if len(looks) == 1:
            # A jump to both sides alike has the same huge slope on both, and what grows like x |x|
            # the same tiny one, of the size of the distance.
            low, high = (self._power(sign * _NEAR // 2) * self._size() for sign in (-1, 1))
            is_agreed = apart <= biggest * self._power(-_AGREED) and low <= biggest <= high
            return Truth("smooth", slope, slope, apart + unseen) if is_agreed else None
        before, behind = looks[-2]
        change, earlier = abs(slope - (before + behind) / 2), abs(before - behind)
        has_met = apart <= earlier * self._power(-_SHRUNK) + unseen
        if has_met and change <= earlier + biggest * self._power(-_AGREED) + unseen:
            return Truth("smooth", slope, slope, apart + change + unseen)
        return None

    def _by_side(self, looks, unseen) -> Truth:
        zero = self.arithmetic.number(0.0)
        sides = [self._side(list(values), unseen) for values in zip(*looks, strict=True)]
        kinds = {side.kind for side in sides}
        for kind in ("jump", "steep"):
            if kind in kinds:
                return Truth(kind, zero, zero, zero)
        settled = [side for side in sides if side.kind == "settled"]
        if "wild" in kinds or not settled:
            return Truth("undefined", zero, zero, zero)
        error = self.arithmetic.sum([side.error for side in settled])
        low, high = (f(side.limit for side in settled) for f in (min, max))
        if len(settled) == 1:
            return Truth("edge", low, high, error)
        if high - low > error + max(abs(low), abs(high)) * self._power(-_AGREED):
            return Truth("kink", low, high, error)
        mean = (low + high) / 2
        return Truth("smooth", mean, mean, error + (high - low))

    def _side(self, values, unseen) -> "_Side":
        """Returns what becomes of the slope of one side at closer and closer looks."""
        finite, zero = self.arithmetic.finite, self.arithmetic.number(0.0)
        if not finite(values[-1]):
            return _Side("none", zero, zero)
        if not all(map(finite, values)):
            return _Side("wild", zero, zero)
        changes = [b - a for a, b in itertools.pairwise(values)]
        before, last, change = values[-2], values[-1], abs(changes[-1])
        if change <= max(abs(last), abs(before)) * self._power(-_SHRUNK) + unseen:
            return _Side("settled", last, change + unseen)
        if abs(last) >= abs(before) * self._power(_JUMPED):
            return _Side("jump", zero, zero)
        half = self.arithmetic.number(_CONVERGES)
        one_way = len({c > 0 for c in changes}) == 1  # as no oscillation goes, but by chance
        if one_way and all(abs(b) <= abs(a) * half for a, b in itertools.pairwise(changes)):
            # What is left of a geometric series; of another, it is of that size.
            rest = changes[-1] * change / (abs(changes[-2]) - change)
            return _Side("settled", last + rest, 4 * abs(rest) + unseen)
        grows = all(abs(b) > abs(a) and (a > 0) == (b > 0) for a, b in itertools.pairwise(values))
        return _Side("steep" if grows else "wild", zero, zero)

    # Walks.

    def _ends(self, moves, variation, base, exponent) -> list[Trail]:
        """Returns walks that begin beyond the point, and before it."""
        return [self._walk(inputs, variation, base) for inputs in self._moved(moves, exponent)]

    def _sides(self, moves, exponent):
        """Returns the slopes of both sides, over the distance 2**-exponent."""
        ends = self._ends(moves, EXACT, self._base, exponent)
        beyond, before = (self._contracted(end.outcome) for end in ends)
        scaled = self.arithmetic.scaled
        return scaled(beyond - self.value, exponent), scaled(self.value - before, exponent)

    def _central(self, moves, variation):
        exponent = self._distance(moves)
        base = self._walk(self._inputs, variation, None)
        ends = self._ends(moves, variation, base, exponent)
        beyond, before = (self._contracted(end.outcome) for end in ends)
        return self.arithmetic.scaled(beyond - before, exponent - 1)

    def _walk(self, inputs, variation, base) -> Trail:
        return trail(
            self._jaxpr, inputs, self.arithmetic, self.budget, variation, base,
            self._constants,
        )  # fmt: skip

    def _moved(self, moves, exponent):
        """Returns the inputs with leaves moved forwards, and moved back."""
        for moved in (np.add, np.subtract):
            inputs = list(self._inputs)
            for leaf, direction in moves.items():
                places = np.flatnonzero(direction)
                self.budget.spend(_MOVING / 2 * places.size)
                steps = self.arithmetic.lifted(np.asarray(direction).ravel()[places])
                inputs[leaf] = inputs[leaf].copy()
                inputs[leaf].flat[places] = moved(
                    inputs[leaf].ravel()[places], steps * self._power(-exponent)
                )
            yield inputs

    def _contracted(self, outputs: Sequence[np.ndarray]) -> Element:
        return self.arithmetic.sum(
            [
                y * w
                for output, weight in zip(outputs, self._weights, strict=True)
                for y, w in zip(output.flat, weight.flat, strict=True)
            ]
        )

    def _unseen(self, exponent):
        """Returns what a slope may be by the rounding of the walk alone."""
        return self._size() * self._power(exponent - self.arithmetic.bits + _LOST)

    def _size(self):
        return max(abs(self.value), self.largest)

    def _power(self, exponent):
        return self.arithmetic.scaled(self.arithmetic.number(1.0), exponent)

    def _largest(self, changes):
        found = list(changes)
        if not all(map(self.arithmetic.finite, found)):
            return self.arithmetic.number(math.inf)
        return max(found)

    # Digits.

    def _distance(self, moves) -> int:
        """Returns how close the first look is: `_NEAR` for a step of about the size of what moves.

        Of an entry that is much smaller than its step, only a closer look sees the slope.
        """
        low, _ = self._ratios(moves)
        return _NEAR if -_SPARED <= low <= 0 else _NEAR - low

    def _able(self, moves) -> "Primal":
        """Returns this, or the same with as many digits as the direction needs."""
        _, high = self._ratios(moves)
        more = self._distance(moves) + high - _NEAR - _SPARED + max(0, self._cancelled - _LOST)
        bits = _BITS * (1 + max(0, -(-more // _BITS)))
        if bits <= self.arithmetic.bits:
            return self
        if bits not in self._others:
            self._others[bits] = Primal(self.problem, self.arithmetic.wider(bits), self.budget)
        return self._others[bits]

    def _excess(self) -> int:
        """Returns by how many digits numbers on the way are larger than the value."""
        magnitude = self.arithmetic.magnitude
        ways = [magnitude(array) for found in self._base.outputs for array in found
                if is_object(array)]  # fmt: skip
        ends = [magnitude(array) for array in (*self.outputs, *self._inputs)]
        usual = ends[: len(self.outputs)] if self.largest else ends
        return max(0, max(ways, default=0) - max(usual)) if max(usual) > -_RANGE else 0

    def _ratios(self, moves) -> tuple[int, int]:
        """Returns the smallest and the largest size of an entry in units of its step, as powers."""
        values = np.abs(np.concatenate([self._sizes[leaf].ravel() for leaf in moves]))
        steps = np.abs(np.concatenate([np.ravel(direction) for direction in moves.values()]))
        usable = (steps > 0) & (values > 0) & np.isfinite(values)
        ratios = np.frexp(values[usable])[1] - np.frexp(steps[usable])[1]
        return (int(ratios.min()), int(ratios.max())) if ratios.size else (0, 0)


class _Side(NamedTuple):
    kind: Literal["settled", "steep", "jump", "wild", "none"]
    limit: Element
    error: Element


_MOVING = 3e-6  # nominal seconds for an entry that moves
