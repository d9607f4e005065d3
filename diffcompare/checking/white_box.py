"""The first witness: the function walked exactly, against the claims walked exactly.

Where a program can be walked in multiprecision, its slopes are known to far more digits than any
dtype has, without a derivative rule. What JAX claims is a program too: walked in the same
arithmetic, its rounding is gone, and a wrong rule shows at any size. How far the claim, as its
dtype computes it, is from the truth is judged apart, by what rounding does to the function itself.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffcompare.checking import kinks
from diffcompare.checking.claims import Mode
from diffcompare.checking.exact_claims import Claim, Element, Elements, ExactClaims
from diffcompare.checking.findings import NO_SLOPE, Finding
from diffcompare.checking.problem import Direction, directions, unit_direction, unit_lengths, wide
from diffcompare.checking.report import Entry, Verdict
from diffcompare.checking.slopes import Primal, Truth
from diffcompare.checking.walks import DRAWN

# A slope is a sum of terms, each of which a rule may have rounded twice, with a constant that was
# rounded too: 4 eps of the sum of their sizes is nobody's mistake.
_ROUNDED = 4.0
# How far the limit of an iteration may lie beyond the change of its last two passes.
_ITERATED = 4.0
# Constants of functions in half precision are rounded, and those of their rules; leaves that move
# at once have to agree better.
_FLOAT32 = 2.0**-23
# A claim from which the dtype's own result is this much nearer to the truth was walked wrongly.
_NEARER = 8.0
# Up to how many entries a leaf is looked at entry by entry, by how much room there is for it.
_UNITS = ((16.0, 8), (8.0, 3), (0.0, 0))
# How many suspicious entries of a leaf are looked at.
_SUSPECTS = 3
# Among many kinks, where any subgradient is right and hardly one is that of the guide.
_AT_KINKS = 100


def units_and_lines(room: float, leaves: int) -> tuple[int, int]:
    """Returns up to which size leaves are looked at by entry, and along how many lines.

    Args:
        room: How many directions can be afforded.
        leaves: How many leaves there are.
    """
    units = next(count for factor, count in _UNITS if room >= factor * leaves)
    return units, 2 if room >= 5 * leaves else 1


@dataclasses.dataclass(frozen=True, eq=False)
class WhiteBox:
    """Judges claims by exact walks.

    Attributes:
        exact: What is claimed, and of what.
        primal: The function walked exactly.
        guide: The gradients by the rules of calculus, by which suspicious entries are found; what
            they are is said by `primal` alone. None where there are none.
    """

    exact: ExactClaims
    primal: Primal
    guide: Sequence[Elements] | None

    def findings(self, units: int, lines: int) -> list[list[Finding]]:
        """Returns what is found of every leaf.

        Args:
            units: Up to which size a leaf that is not consistent at once is looked at entry by
                entry.
            lines: Along how many directions leaves are looked at.

        Raises:
            UnknownPrimitiveError: The function has an operation that no rule is known for.
            OverBudget: The walks would cost too much.
        """
        problem, gradient = self.exact.problem, self.exact.claims.gradient
        found: list[list[Finding]] = [[] for _ in problem.leaves]
        usual = []
        for leaf, array in enumerate(gradient or problem.x):
            if gradient is not None and not np.all(np.isfinite(wide(array))):
                found[leaf] += self._not_finite(leaf, wide(array))
                found[leaf] += self._alone(leaf, units, lines, ["fwd"])
            else:
                usual.append(leaf)
        for leaf, some in self._together(usual, units, lines):
            found[leaf] += some
        if gradient is not None:
            for leaf in usual:
                found[leaf] += self._entries(leaf, found[leaf])
        return _without_products_of_infinity(found)

    def _together(
        self, leaves: Sequence[int], units: int, lines: int
    ) -> Iterator[tuple[int, Sequence[Finding]]]:
        """Yields what is found of leaves, all at once where nothing is the matter with them."""
        suspicious = [leaf for leaf in leaves if self._suspects(leaf)]
        others = [leaf for leaf in leaves if leaf not in suspicious]
        groups = [*([leaf] for leaf in suspicious), *([others] if others else [])]
        while groups:
            group = groups.pop()
            if len(group) == 1:
                yield group[0], list(self._alone(group[0], units, lines, self.exact.claims.modes))
                continue
            agreed = []
            for line in range(lines):
                found = self._agreed(group, line)
                if found is None:
                    half = len(group) // 2
                    groups += [group[half:], group[:half]]
                    break
                agreed.append(found)
            else:
                for each in agreed:
                    yield from each.items()

    def _agreed(self, group: Sequence[int], line: int) -> dict[int, list[Finding]] | None:
        """Returns findings of leaves that move at once; None where they have to move alone.

        What agrees here agrees for each leaf within the number of leaves times as much, since each
        has the same part of the slope.
        """
        problem, moves = self.exact.problem, self.exact.balanced(group, line)
        truth = self.primal.truth(moves)
        if truth.kind != "smooth":
            return None
        own_eps = min(problem.leaves[leaf].eps for leaf in group)
        eps = min(_FLOAT32, own_eps)
        found: dict[int, list[Finding]] = {leaf: [] for leaf in group}
        for mode in self.exact.claims.modes:
            claim, true = self.exact.along(moves, mode, truth, self.primal)
            if claim is None or claim.exact is None:
                return None
            size = max(claim.size, abs(true.slope))
            defect, least = _residue(claim.exact, true), _ROUNDED * eps * size
            if defect > least or self._has_lost(claim, true, own_eps):
                return None
            for leaf in group:
                part = self.exact.gradient_along({leaf: moves[leaf]})
                own = size if part is None else part[1]
                seen = float(least / own) if own else 0.0
                found[leaf].append(Finding("consistent", mode, "", 0.0, float(own), seen))
        return found

    def _alone(self, leaf: int, units: int, lines: int, modes: Sequence[Mode]) -> Iterator[Finding]:
        """Yields what is found of a leaf that moves alone."""
        modes = [mode for mode in modes if mode in self.exact.claims.modes]
        which, x = self.exact.problem.leaves[leaf], self.exact.problem.x[leaf]
        for direction in directions(which, x, units, lines):
            yield from self._along(leaf, direction, modes)

    def _entries(self, leaf: int, found: Sequence[Finding]) -> Iterator[Finding]:
        """Yields what is found of single entries that are suspicious."""
        if _any(found, "wrong"):
            return
        which, x = self.exact.problem.leaves[leaf], self.exact.problem.x[leaf]
        for entry in self._suspects(leaf, _AT_KINKS if _any(found, "kink") else _SUSPECTS):
            yield from self._along(leaf, unit_direction(which, x, entry), ["rev"])
        if not _any(found, "kink"):
            yield from self._inaccurate(leaf)

    def precision_loss(self, leaf: int) -> float | None:
        """Returns the largest relative error that rounding makes in an entry of a gradient."""
        exact = self.exact.exact_gradient
        if exact is None:
            return None
        worst = 0.0
        for machine, claimed in zip(self.exact.gradient[leaf].flat, exact[leaf].flat, strict=True):
            if claimed != 0 and self._is_finite(machine) and self._is_finite(claimed):
                worst = max(worst, float(abs(machine - claimed) / abs(claimed)))
        return worst

    def contradiction(self) -> str:
        """Returns how the walk differs from the program by more than rounding; empty if not."""
        outputs, dtypes = self.exact.claims.outputs, self.exact.problem.dtypes
        if not all(np.all(np.isfinite(wide(output))) for output in outputs):
            return ""
        computed, size = self.exact.contracted(map(self.exact.lifted, outputs))
        distance = abs(computed - self.primal.value)
        if distance <= math.sqrt(max(float(jnp.finfo(dtype).eps) for dtype in dtypes)) * size:
            return ""
        rounding = DRAWN * self.primal.value_spread() + max(map(_underflow, dtypes))
        if not self._is_finite(rounding) or distance <= rounding:
            return ""
        return (
            f"the program's value is {float(computed):.6g}, walked exactly it is "
            f"{float(self.primal.value):.6g}, and rounding explains {float(rounding):.1g}"
        )

    def _along(self, leaf: int, direction: Direction, modes: Sequence[Mode]) -> Iterator[Finding]:
        """Yields what the claims of each mode along a direction are, beside the truth."""
        truth = self.primal.truth({leaf: direction.array})
        if truth.kind == "kink" and direction.entry is None:
            smooth = lambda part: self.primal.truth({leaf: part}).kind == "smooth"
            parts = kinks.separated(direction, smooth)
            if parts.kinks:
                x, which = self.exact.problem.x[leaf], self.exact.problem.leaves[leaf]
                for entry in parts.kinks:
                    yield from self._along(leaf, unit_direction(which, x, entry), modes)
                if parts.rest is not None:
                    yield from self._along(leaf, parts.rest, modes)
                return
        for mode in modes:
            if truth.kind in NO_SLOPE:
                yield Finding("kink", mode, f"{NO_SLOPE[truth.kind]} along {direction.name}")
                continue
            claim, true = self.exact.along({leaf: direction.array}, mode, truth, self.primal)
            if claim is None:
                reason = (
                    f"the slope along {direction.name} is claimed not finite, and is "
                    f"{float(true.slope):.6g}"
                )
                yield Finding("wrong", mode, reason, math.inf, 1.0)
            elif truth.kind == "kink":
                yield self._at_kink(leaf, direction, claim, true)
            else:
                yield self._compared(leaf, direction, claim, true)

    def _compared(self, leaf: int, direction: Direction, claim: Claim, truth: Truth) -> Finding:
        """Judges a claim where the function has a slope."""
        which, true = self.exact.problem.leaves[leaf], truth.slope
        size = max(claim.size, abs(true))
        least = _ROUNDED * which.eps * size
        if claim.exact is not None and _residue(claim.machine, truth) * _NEARER < _residue(
            claim.exact, truth
        ):
            claim = claim._replace(exact=None)
        defect = _residue(claim.slope, truth)
        off = f"along {direction.name} it claims {float(claim.slope):.6g} for {float(true):.6g}"

        def found(verdict: Verdict, reason: str, allowed: Element, slope=claim.slope) -> Finding:
            return Finding(
                verdict,
                claim.mode,
                reason,
                float(_residue(slope, truth)),
                float(size),
                float(allowed / size) if size else 0.0,
                self._entry(direction, slope, true),
            )

        spread = lambda kind: self.primal.spread({leaf: direction.array}, true, kind)
        if claim.exact is None:
            if defect <= least:
                return found("consistent", "", least)
            rounding = spread("rounding")
            if not self._is_finite(rounding):
                return found("inconclusive", "rounding decides which branch is taken", least)
            allowed = DRAWN * rounding + least
            if defect > allowed:
                return found("wrong", off, allowed)
            if DRAWN * rounding > size / 4:  # else a claim of zero could pass
                reason = "rounding errors are as large as the derivative"
                return found("inconclusive", reason, allowed)
            return found("consistent", "", allowed)
        if defect > least:
            passes = spread("passes") if self.primal.loops_under_rules else self._zero
            unexplained = _ITERATED * passes + least
            allowed = DRAWN * spread("constants") + unexplained
            if defect > allowed:
                return found("wrong", off, allowed)
            if defect > unexplained and defect > math.sqrt(which.eps) * size:
                reason = f"{off}, which constants rounded to {which.dtype.name} could explain"
                return found("inconclusive", reason, allowed)
            return found("consistent", "", allowed)
        if claim.mode == "fwd" and self._has_lost(claim, truth, which.eps):
            lost = _residue(claim.machine, truth)
            rounding = spread("rounding")
            allowed = DRAWN * rounding + least
            length = max(1.0, float(np.max(np.abs(direction.array))))
            underflow = _underflow(which.dtype) * length
            excused = max(allowed, underflow, self._unnoticed(which.eps))
            if self._is_finite(rounding) and lost > excused:
                reason = (
                    f"along {direction.name} it computes {float(claim.machine):.6g} for "
                    f"{float(true):.6g}: rounding errors of the rule, not of the function"
                )
                return found("wrong", reason, allowed, claim.machine)
        return found("consistent", "", least)

    def _has_lost(self, claim: Claim, truth: Truth, eps: float) -> bool:
        """Returns whether a dtype lost half of a slope's digits, and more than a sum must lose."""
        lost = _residue(claim.machine, truth)
        return lost > math.sqrt(eps) * abs(truth.slope) and lost > DRAWN * eps * claim.terms

    def _unnoticed(self, eps: float) -> Element:
        """Returns an error of a slope that the rounding of the value hides.

        Along a direction as long as the argument, the slope is a change of the value. The slope of
        tanh(5) is 2e-4, and where it is computed as 1 - tanh(5)**2 it is off by eps: that is less
        than what rounding takes from tanh(5), which is near to 1.
        """
        return DRAWN * eps * self._size_of_value

    @functools.cached_property
    def _size_of_value(self) -> Element:
        return self.exact.contracted(self.primal.outputs)[1]

    def _at_kink(self, leaf: int, direction: Direction, claim: Claim, truth: Truth) -> Finding:
        """Judges a claim by the slopes of both sides."""
        low, high, slope = truth.low, truth.high, claim.slope
        eps = self.exact.problem.leaves[leaf].eps
        margin = 2 * _ROUNDED * eps * (claim.size + abs(low) + abs(high))
        if direction.entry is None:
            # Subgradients of several entries add up to more than the sums at both ends.
            margin = margin + (high - low)
        between = (
            f"along {direction.name} the slope is {float(low):.6g} on one side and "
            f"{float(high):.6g} on the other"
        )
        if low - margin <= slope <= high + margin:
            return Finding("kink", claim.mode, between)
        nearest = low if slope < low else high
        return Finding(
            "wrong",
            claim.mode,
            f"{between}, and is claimed {float(slope):.6g}",
            float(abs(slope - nearest)),
            float(max(claim.size, abs(low), abs(high))),
            None,
            self._entry(direction, slope, nearest),
        )

    def _not_finite(self, leaf: int, gradient: np.ndarray) -> Iterator[Finding]:
        """Judges entries of a gradient that are not finite."""
        largest = float(jnp.finfo(self.exact.problem.leaves[leaf].dtype).max)
        for place in np.argwhere(~np.isfinite(gradient))[:_SUSPECTS]:
            entry = tuple(map(int, place))
            unit = np.zeros(gradient.shape)
            unit[entry] = 1.0
            truth, claimed = self.primal.truth({leaf: unit}), float(gradient[entry])
            if truth.kind in NO_SLOPE:
                yield Finding("kink", "rev", f"{NO_SLOPE[truth.kind]} at entry {entry}")
            elif truth.kind == "kink" or abs(truth.slope) < largest / 2:
                true = float(truth.slope)
                where = f"the derivative is {true:.6g}"
                if truth.kind == "kink":
                    low, high = float(truth.low), float(truth.high)
                    where = f"the slopes of both sides are {low:.6g} and {high:.6g}"
                reason = f"it is {claimed} at entry {entry}, where {where}"
                yield Finding(
                    "wrong", "rev", reason, math.inf, 1.0, None, Entry(entry, claimed, true)
                )
            elif math.isinf(claimed) and (claimed > 0) == (truth.slope > 0):
                yield Finding("consistent", "rev", "its size is beyond the dtype's numbers")
            else:
                reason = f"it is {claimed} at entry {entry}, and beyond the dtype's numbers"
                verdict: Verdict = "wrong" if math.isinf(claimed) else "inconclusive"
                yield Finding(verdict, "rev", reason)

    def _suspects(self, leaf: int, most: int = _SUSPECTS) -> list[tuple[int, ...]]:
        """Returns the entries of the claim, walked exactly, that the guide contradicts most."""
        exact = self.exact.exact_gradient
        if self.guide is None or exact is None:
            return []
        eps = self.exact.problem.leaves[leaf].eps
        scores = []
        for number, (claimed, true) in enumerate(
            zip(exact[leaf].flat, self.guide[leaf].flat, strict=True)
        ):
            distance, size = abs(claimed - true), max(abs(claimed), abs(true))
            if distance > _ROUNDED * eps * size:
                scores.append((float(distance / size), float(distance), number))
        return self._worst(leaf, scores, most)

    def _inaccurate(self, leaf: int) -> Iterator[Finding]:
        """Judges entries that lost half of their digits, by what rounding does to the function."""
        exact = self.exact.exact_gradient
        if exact is None:
            return
        x, which = self.exact.problem.x[leaf], self.exact.problem.leaves[leaf]
        half, lost = math.sqrt(which.eps), _underflow(which.dtype)
        unnoticed = float(self._unnoticed(which.eps))
        lengths = unit_lengths(which, x).ravel()
        scores = []
        for number, (machine, claimed) in enumerate(
            zip(self.exact.gradient[leaf].flat, exact[leaf].flat, strict=True)
        ):
            distance = abs(machine - claimed)
            # Of many entries some cancel by chance, by less than the value's own rounding.
            noticed = max(lost, unnoticed / float(lengths[number]))
            if distance > half * abs(claimed) and distance > noticed:
                relative = float(distance / abs(claimed)) if claimed != 0 else math.inf
                scores.append((relative, float(distance), number))
        for entry in self._worst(leaf, scores, _SUSPECTS):
            unit = unit_direction(which, x, entry)
            length = float(unit.array[entry])
            truth = self.primal.truth({leaf: unit.array})
            if truth.kind not in ("smooth", "edge"):
                yield Finding("kink", "rev", f"there is no slope at entry {entry}")
                continue
            slope, true = self.exact.gradient[leaf][entry] * length, truth.slope
            error = _residue(slope, truth)
            rounding = self.primal.spread({leaf: unit.array}, true, "rounding")
            if not self._is_finite(rounding):
                yield Finding("inconclusive", "rev", "rounding decides which branch is taken")
            elif error > max(
                DRAWN * rounding, half * abs(true), lost * length, self._unnoticed(which.eps)
            ):
                found = self._entry(unit, slope, true)
                assert found is not None
                reason = (
                    f"at entry {entry} it computes {found.claimed:.6g} for {found.true:.6g}: "
                    "rounding errors of the rule, not of the function"
                )
                yield Finding("wrong", "rev", reason, float(error), float(abs(true)), None, found)

    def _worst(
        self, leaf: int, scores: list[tuple[float, float, int]], most: int
    ) -> list[tuple[int, ...]]:
        """Returns the entries that are worst relatively, and the one that is worst absolutely."""
        relative = sorted(scores, key=lambda score: (-score[0], score[2]))[: most - 1]
        absolute = sorted(scores, key=lambda score: (-score[1], score[2]))[:1]
        numbers = dict.fromkeys(score[2] for score in (*relative, *absolute))
        shape = self.exact.problem.leaves[leaf].shape
        return [tuple(map(int, np.unravel_index(number, shape))) for number in numbers]

    def _entry(self, direction: Direction, slope: Element, true: Element) -> Entry | None:
        if direction.entry is None:
            return None
        length = self.exact.arithmetic.number(float(direction.array[direction.entry]))
        return Entry(direction.entry, float(slope / length), float(true / length))

    def _is_finite(self, element: Element) -> bool:
        return self.exact.arithmetic.finite(element)

    @property
    def _zero(self) -> Element:
        return self.exact.arithmetic.number(0.0)


def _without_products_of_infinity(found: list[list[Finding]]) -> list[list[Finding]]:
    """Returns findings without those of NaN that an infinite slope makes, times a zero tangent."""
    steep = [any(NO_SLOPE["steep"] in each.reason for each in some) for some in found]

    def is_product(each: Finding, leaf: int) -> bool:
        is_nan = each.verdict == "wrong" and each.defect == math.inf
        return is_nan and (steep[leaf] or (each.mode == "fwd" and any(steep)))

    return [
        [each for each in some if not is_product(each, leaf)] for leaf, some in enumerate(found)
    ]


def _residue(slope: Element, truth: Truth) -> Element:
    """Returns by how much a slope is off for certain."""
    distance = abs(slope - truth.slope) - truth.error
    return distance if distance > 0 else distance * 0


def _underflow(dtype: Any) -> float:
    """Returns a size below which digits are lost for want of smaller numbers."""
    return float(jnp.finfo(dtype).tiny) / float(jnp.finfo(dtype).eps)


def _any(findings: Sequence[Finding], verdict: Verdict) -> bool:
    return any(each.verdict == verdict for each in findings)
