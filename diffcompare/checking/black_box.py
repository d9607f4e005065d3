"""The second witness: the values of the function, against the claims.

Where a program cannot be walked exactly, its slopes are known from differences of its values, with
a bound of their error. A claim is wrong where it lies outside of that bound by far, and consistent
only where the bound is so small that a mistake of a hundredth would have been seen. All is computed
in float64 where the programs can be promoted to it, so that the rounding of the dtype under test
takes no part; what that does to a claim is not seen here.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from diffcompare.checking import kinks
from diffcompare.checking.bisection import bisected
from diffcompare.checking.claims import Claims, Mode
from diffcompare.checking.findings import NO_SLOPE, NO_VALUE, Finding, summarized
from diffcompare.checking.ladders import Line, Slope, slope_of
from diffcompare.checking.problem import (
    Direction,
    Problem,
    directions,
    unit_direction,
    usual_direction,
    wide,
)
from diffcompare.checking.programs import has_loop_under_rule
from diffcompare.checking.report import Entry, LeafReport, Verdict
from diffcompare.checking.values import Values, values_of
from diffcompare.checking.wide_claims import Claim, WideClaims

# A bound is a bound for nearly all functions; four of them are one for all that were tried.
_BOUNDS = 4.0
# The mistake that has to be visible in what is called consistent, as a share of the slope.
_POWER = 0.01
# Or, where there is no slope to be a share of, as a share of the steepest secant nearby, or of the
# value: what float64 can say of a function that does not move.
_POWER_AT_ZERO, _POWER_OF_VALUE = 1e-4, 1e-10
# Constants are off by half of an eps at most, and are moved by a whole one, up or down at random.
# The largest of three changes is not a quarter of what all of them could do together.
_OF_CONSTANTS = 4.0
# Steps of values are somebody's doing where they are this many times as high as rounding errors,
# and longer than the steps that float32 would make.
_QUIET, _FINE = 2.0**16, 2.0**-24
# What rounding leaves of the slope of a function that is not promoted, in noise of its values.
_NOISY = 16.0
# Up to how many entries a leaf is looked at entry by entry, and along how many lines else.
_UNITS, _LINES = 3, 2
# How many entries that are not finite are looked at, and how many wrong ones are named.
_SUSPECTS, _NAMED = 3, 3
# Two steps at which a kink is told from a curve by how the second difference falls: it halves or
# becomes a fourth. They are so short that all curves are flat beside a kink, and no shorter.
_TELLING = 2.0**-20
_HALVES = 3.0


def judged(problem: Problem, claims: Claims, wanted: Sequence[int]) -> list[LeafReport]:
    """Returns what the values of a function say of its claimed derivatives.

    Args:
        problem: The function.
        claims: What is claimed of it.
        wanted: The numbers of the leaves to judge.
    """
    box = BlackBox(WideClaims(claims, values_of(problem)))
    return [box.report(leaf) for leaf in wanted]


@dataclasses.dataclass(frozen=True, eq=False)
class BlackBox:
    """Judges claims by values.

    Attributes:
        wide: What is claimed, and the values.
    """

    wide: WideClaims

    def report(self, leaf: int) -> LeafReport:
        """Returns what is found of a leaf."""
        which, modes = self._problem.leaves[leaf], self.wide.claims.modes
        found = list(self._findings(leaf)) if modes else []
        if not modes:
            found = [Finding("inconclusive", "", "nothing is claimed in either mode")]
        report = summarized(which, found, "differences", modes)
        is_dense = not any(each.entry is not None for each in found)
        if report.verdict == "wrong" and report.mode == "rev" and is_dense:
            report = self._located(leaf, report)
        return report

    def _findings(self, leaf: int) -> Iterator[Finding]:
        if self._changes:
            reason = "two calls give two values, so that their differences are no slopes"
            yield Finding("inconclusive", " ".join(self.wide.claims.modes), reason)
            return
        if not math.isfinite(self._value):
            yield Finding("kink", " ".join(self.wide.claims.modes), NO_VALUE)
            return
        which, x = self._problem.leaves[leaf], self._problem.x[leaf]
        modes: Sequence[Mode] = self.wide.claims.modes
        gradient = self.wide.claims.gradient
        if gradient is not None and not np.isfinite(wide(gradient[leaf])).all():
            yield from self._not_finite(leaf, wide(gradient[leaf]))
            modes = [mode for mode in modes if mode != "rev"]
        if modes:
            for direction in [*directions(which, x, _UNITS, _LINES), *self._aligned(leaf)]:
                yield from self._along(leaf, direction, modes)

    def _aligned(self, leaf: int) -> list[Direction]:
        """Returns a line along which the terms of a claimed slope do not cancel.

        Along others a gradient that is too large by a factor may be off by less than is allowed.
        """
        which, gradient = self._problem.leaves[leaf], self.wide.claims.gradient
        if gradient is None or which.size <= _UNITS:
            return []
        usual, claimed = usual_direction(which, self._problem.x[leaf]).array, wide(gradient[leaf])
        signs = np.where(np.isfinite(claimed) & (claimed != 0), np.sign(claimed * usual), 1.0)
        return [Direction("the direction of the claim", usual * signs, None)]

    def _along(self, leaf: int, direction: Direction, modes: Sequence[Mode]) -> Iterator[Finding]:
        """Yields what the claims of each mode along a direction are, beside the differences."""
        slope = slope_of(self._values.line(leaf, direction.array))
        if slope.kind == "kink" and direction.entry is None and self._values.is_promoted:
            is_smooth = functools.partial(self._is_smooth, leaf, slope)
            parts = kinks.separated(direction, is_smooth)
            if parts.kinks:
                which, x = self._problem.leaves[leaf], self._problem.x[leaf]
                for entry in parts.kinks:
                    yield from self._along(leaf, unit_direction(which, x, entry), modes)
                if parts.rest is not None:
                    yield from self._compared(leaf, parts.rest, modes, None)
                return
        yield from self._compared(leaf, direction, modes, slope)

    def _compared(
        self, leaf: int, direction: Direction, modes: Sequence[Mode], slope: Slope | None
    ) -> Iterator[Finding]:
        slope = slope or slope_of(self._values.line(leaf, direction.array))
        for mode in modes:
            if slope.kind in NO_SLOPE:
                yield Finding("kink", mode, f"{NO_SLOPE[slope.kind]} along {direction.name}")
                continue
            claim = self.wide.along(leaf, direction.array, mode)
            if claim is None:
                yield self._absent(direction, mode, slope)
                continue
            claim = self._with_noise(claim, slope)
            if slope.kind == "kink":
                yield _at_kink(direction, claim, slope)
            else:
                yield self._judged(leaf, direction, claim, slope)

    def _with_noise(self, claim: Claim, slope: Slope) -> Claim:
        """Returns a claim of a function of unknown precision, with that of its values."""
        if not self._values.is_opaque or not slope.noise or not self._value:
            return claim
        relative = min(slope.noise / abs(self._value), 1.0)
        return claim._replace(allowance=claim.allowance + _NOISY * relative * claim.size)

    def _judged(self, leaf: int, direction: Direction, claim: Claim, slope: Slope) -> Finding:
        """Judges a claim where the function has a slope."""
        which, true = self._problem.leaves[leaf], slope.middle
        size = max(claim.size, abs(true))
        bound = _BOUNDS * slope.bound
        allowed = bound + claim.allowance
        defect = abs(claim.slope - true)
        off = f"along {direction.name} it claims {claim.slope:.6g} for {true:.6g}"

        def found(verdict: Verdict, reason: str, seen: float) -> Finding:
            relative = seen / size if size else 0.0
            entry = _entry(direction, claim.slope, true)
            return Finding(verdict, claim.mode, reason, defect, size, relative, entry)

        if not math.isfinite(allowed):
            return Finding(
                "inconclusive", claim.mode, f"no step shows the slope along {direction.name}"
            )
        if self._is_staircase(slope):
            reason = f"values are a staircase along {direction.name}, which hides the slope"
            return found("inconclusive", reason, allowed)
        unexplained = allowed
        if defect > allowed:
            constants = self.wide.spread_of_constants(leaf, direction.array, claim)
            unexplained += _OF_CONSTANTS * constants
        if defect > unexplained:
            if self._has_loop_under_rule and defect <= allowed + math.sqrt(which.eps) * size:
                reason = f"{off}, which an iteration under a custom rule could explain"
                return found("inconclusive", reason, unexplained)
            if self._hides(slope) and slope.middle == 0:
                reason = f"{off}, and {which.dtype.name} shows no difference of its values"
                return found("inconclusive", reason, unexplained)
            return found("wrong", off, unexplained)
        change = max(_POWER_AT_ZERO * slope.secant, _POWER_OF_VALUE * abs(self._value))
        is_zero = size <= unexplained <= change
        if unexplained <= _POWER * size or is_zero:
            return found("consistent", "", unexplained)
        if defect > allowed:
            reason = f"{off}, which constants rounded to {which.dtype.name} could explain"
            return found("inconclusive", reason, unexplained)
        share = f"{unexplained / size:.1%} of it" if size else f"{unexplained:.1g}"
        reason = f"differences along {direction.name} show the slope within {share} only"
        return found("inconclusive", reason, unexplained)

    def _is_staircase(self, slope: Slope) -> bool:
        """Returns whether values are those of steps, which rounding cannot have made."""
        if slope.tread < _FINE or not self._values.is_promoted:
            return False
        return slope.noise > _QUIET * self._values.unit * max(abs(self._value), slope.secant)

    def _hides(self, slope: Slope) -> bool:
        """Returns whether the dtypes have too few digits to tell that nothing moves."""
        return not self._values.is_promoted and self._values.unit > float(np.finfo(np.float32).eps)

    def _absent(self, direction: Direction, mode: Mode, slope: Slope) -> Finding:
        """Judges a claimed slope that is not finite."""
        if not math.isfinite(slope.bound):
            reason = (
                f"it is claimed not finite along {direction.name}, where no step shows the slope"
            )
            return Finding("inconclusive", mode, reason)
        if mode == "fwd" and self._has_no_slope:  # infinity times a tangent of zero
            return Finding("kink", mode, f"there is no slope beside {direction.name}")
        reason = f"it is claimed not finite along {direction.name}, and is {slope.middle:.6g}"
        return Finding("wrong", mode, reason, math.inf, 1.0)

    def _not_finite(self, leaf: int, gradient: np.ndarray) -> Iterator[Finding]:
        """Judges entries of a gradient that are not finite."""
        which, x = self._problem.leaves[leaf], self._problem.x[leaf]
        largest = float(jnp.finfo(which.dtype).max)
        for place in np.argwhere(~np.isfinite(gradient))[:_SUSPECTS]:
            unit = unit_direction(which, x, tuple(map(int, place)))
            assert unit.entry is not None
            slope = slope_of(self._values.line(leaf, unit.array))
            claimed, true = (
                float(gradient[unit.entry]),
                slope.middle / float(unit.array[unit.entry]),
            )
            at, entry = f"it is {claimed} in {unit.name}", Entry(unit.entry, claimed, true)
            if slope.kind in NO_SLOPE:
                yield Finding("kink", "rev", f"{at}: {NO_SLOPE[slope.kind]}")
            elif not math.isfinite(slope.bound):
                yield Finding("inconclusive", "rev", f"{at}, where no step shows the slope")
            elif slope.kind == "kink" or abs(true) < largest / 2:
                what = "mean slope of both sides" if slope.kind == "kink" else "derivative"
                reason = f"{at}, where the {what} is {true:.6g}"
                yield Finding("wrong", "rev", reason, math.inf, 1.0, None, entry)
            elif math.isinf(claimed) and (claimed > 0) == (true > 0):
                yield Finding("consistent", "rev", "its size is beyond the dtype's numbers")
            else:
                verdict: Verdict = "wrong" if math.isinf(claimed) else "inconclusive"
                reason = f"{at}, and beyond the dtype's numbers"
                yield Finding(verdict, "rev", reason, None, None, None, entry)

    def _is_smooth(self, leaf: int, slope: Slope, part: np.ndarray) -> bool:
        """Returns whether there is no kink along a part of a direction that has one."""
        steps = np.array([1.0, -1.0, 0.5, -0.5, 0.0]) * _TELLING
        above, below, near_above, near_below, here = self._values.along(leaf, steps, part)[0]
        longer, shorter = above + below - 2 * here, near_above + near_below - 2 * here
        noise = 4 * slope.noise  # four values, each of which has some
        return bool(abs(longer) <= 4 * noise or abs(longer) >= _HALVES * abs(shorter) + noise)

    def _located(self, leaf: int, report: LeafReport) -> LeafReport:
        """Returns a report with the wrong entries of a leaf, found by halving."""
        which, x = self._problem.leaves[leaf], self._problem.x[leaf]
        usual = usual_direction(which, x).array
        line = self._values.line(leaf, usual)
        slope = slope_of(line)
        if not math.isfinite(slope.bound) or slope.kind not in ("smooth", "kink"):
            return report
        step, error = _best_step(line, slope)
        shape = which.shape

        def defects(moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            count = len(moves)
            moves = moves.reshape(count, *shape)
            steps = np.repeat([step, -step], count)
            values, away = self._values.along(leaf, steps, np.concatenate([moves, moves]))
            with np.errstate(divide="ignore", invalid="ignore"):
                true = (values[:count] - values[count:]) / (away[:count] - away[count:])
            claims = [self.wide.along(leaf, move, "rev") for move in moves]
            claimed = np.array([np.nan if c is None else c.slope for c in claims])
            noisy = [None if c is None else self._with_noise(c, slope).allowance for c in claims]
            return claimed - true, error + np.array([np.inf if a is None else a for a in noisy])

        found = bisected(defects, np.abs(usual).ravel())
        places = [tuple(map(int, np.unravel_index(each, shape))) for each in found.places]
        entries = []
        for place in places[:_NAMED]:
            looked = self._compared(leaf, unit_direction(which, x, place), ["rev"], None)
            entries += [each.entry for each in looked if each.verdict == "wrong" and each.entry]
        entries.sort(key=lambda entry: -abs(entry.claimed - entry.true))
        is_counted = found.is_all and len(entries) == min(len(places), _NAMED)
        return dataclasses.replace(
            report, entries=tuple(entries), wrong_entries=len(places) if is_counted else None
        )

    @property
    def _problem(self) -> Problem:
        return self.wide.claims.problem

    @property
    def _values(self) -> Values:
        return self.wide.values

    @functools.cached_property
    def _value(self) -> float:
        steps, still = np.zeros(1), np.zeros(self._values.x[0].shape)
        return float(self._values.along(0, steps, still)[0][0])

    @functools.cached_property
    def _changes(self) -> bool:
        return self._values.changes()

    @functools.cached_property
    def _has_no_slope(self) -> bool:
        """Whether there is a leaf along which the function has no slope."""
        lines = [
            self._values.line(number, usual_direction(leaf, x).array)
            for number, (leaf, x) in enumerate(
                zip(self._problem.leaves, self._problem.x, strict=True)
            )
        ]
        return any(slope_of(line).kind in NO_SLOPE for line in lines)

    @functools.cached_property
    def _has_loop_under_rule(self) -> bool:
        return self._problem.jaxpr is not None and has_loop_under_rule(self._problem.jaxpr)


def _at_kink(direction: Direction, claim: Claim, slope: Slope) -> Finding:
    """Judges a claim by the slopes of both sides."""
    margin = _BOUNDS * slope.bound + claim.allowance
    if direction.entry is None:
        # Subgradients of several entries add up to more than the sums at both ends.
        margin += slope.high - slope.low
    between = (
        f"along {direction.name} the slope is {slope.low:.6g} on one side and {slope.high:.6g} on "
        "the other"
    )
    if slope.low - margin <= claim.slope <= slope.high + margin:
        return Finding("kink", claim.mode, between)
    nearest = slope.low if claim.slope < slope.low else slope.high
    return Finding(
        "wrong",
        claim.mode,
        f"{between}, and is claimed {claim.slope:.6g}",
        abs(claim.slope - nearest),
        max(claim.size, abs(slope.low), abs(slope.high)),
        None,
        _entry(direction, claim.slope, nearest),
    )


def _best_step(line: Line, slope: Slope) -> tuple[float, float]:
    """Returns the step whose difference is the most accurate, and a bound of its error."""
    with np.errstate(all="ignore"):
        run = line.ahead + line.behind
        found = (line.above - line.below) / run
        error = np.abs(found - slope.middle) + _BOUNDS * (2 * slope.noise / run)
    error = np.where(np.isfinite(error), error, np.inf)
    best = int(np.argmin(error))
    return float(line.ahead[best]), _BOUNDS * (float(error[best]) + slope.bound)


def _entry(direction: Direction, slope: float, true: float) -> Entry | None:
    if direction.entry is None:
        return None
    length = float(direction.array[direction.entry])
    return Entry(direction.entry, slope / length, true / length)
