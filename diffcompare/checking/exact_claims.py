"""Claimed slopes in multiprecision: the claimed programs walked exactly, beside their results."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from diffcompare._jaxpr.walk import UnknownPrimitiveError
from diffcompare.checking.budget import Budget, OverBudget
from diffcompare.checking.claims import Claims, Mode, tangents
from diffcompare.checking.problem import Moves, Problem, directions, wide
from diffcompare.checking.slopes import Primal, Truth
from diffcompare.checking.walks import DRAWN, EXACT, ROUNDINGS, Trail, trail, walked
from diffcompare.exact.multiprecision import Arithmetic

Element = Any  # a number of the arithmetic
Elements = np.ndarray  # of such


class Claim(NamedTuple):
    """A claimed slope along a direction."""

    mode: Mode
    exact: Element | None  # the claimed program walked exactly; None where it cannot be
    machine: Element  # as its dtype computes it
    size: Element  # sum of the sizes of its terms
    terms: Element  # the same of the terms of the gradient, which are more where that is known

    @property
    def slope(self) -> Element:
        """The claim without its rounding, where that is known."""
        return self.machine if self.exact is None else self.exact


@dataclasses.dataclass(frozen=True, eq=False)
class ExactClaims:
    """The claims of a problem as numbers of an arithmetic.

    Attributes:
        problem: The function.
        claims: What is claimed of it.
        arithmetic: The numbers.
        budget: What walks may cost.
    """

    problem: Problem
    claims: Claims
    arithmetic: Arithmetic
    budget: Budget

    def along(
        self, moves: Moves, mode: Mode, truth: Truth, primal: Primal
    ) -> tuple[Claim | None, Truth]:
        """Returns the claim along a direction, None where it is not finite, and the truth for it.

        Forward mode may have been asked for a shorter direction, and slopes that overflow as they
        must are left out of both.
        """
        if mode == "rev":
            return self._reverse(moves), truth
        slopes, factor = self.claims.slopes(moves)
        if factor != 1.0:
            truth = truth.times(self.arithmetic.number(factor))
        if not all(np.all(np.isfinite(wide(each))) for each in slopes):
            return self._overflown(slopes, truth, primal.slopes_of_outputs(moves))
        machine, size = self.contracted(map(self.lifted, slopes))
        shorter = {leaf: array * factor for leaf, array in moves.items()}
        gradient, found = self.gradient_along(shorter), self.slope(shorter)
        terms = size if gradient is None else max(size, gradient[1])
        if found is None or not self.arithmetic.finite(found[1]):
            return Claim("fwd", None, machine, size, terms), truth
        return Claim("fwd", found[0], machine, max(size, found[1]), terms), truth

    def slope(self, moves: Moves) -> tuple[Element, Element] | None:
        """Returns the slope claimed in forward mode, walked exactly, and its terms' sizes."""
        base, jaxpr = self._slope_base, self.claims.slope_jaxpr
        if base is None or jaxpr is None:
            return None
        # What depends on the tangents is walked anew; the values at the point are known.
        inputs = list(base.inputs)
        for leaf, direction in moves.items():
            dtype = self.problem.leaves[leaf].dtype
            inputs[len(self.inputs) + leaf] = self.lifted(jnp.asarray(direction, dtype))
        found = trail(jaxpr, inputs, self.arithmetic, self.budget, base=base)
        return self.contracted(found.outcome)

    @functools.cached_property
    def _slope_base(self) -> Trail | None:
        """The claimed program of slopes, walked where no leaf moves."""
        jaxpr = self.claims.slope_jaxpr
        if jaxpr is None:
            return None
        still = [self.lifted(each) for each in tangents(self.problem, {})]
        try:
            return trail(jaxpr, [*self.inputs, *still], self.arithmetic, self.budget)
        except UnknownPrimitiveError:
            return None

    def balanced(self, leaves: Sequence[int], line: int) -> Moves:
        """Returns a direction in which several leaves move at once.

        Each moves by a power of two of its own direction, so that its part of the slope is claimed
        to be near 1, and none masks another; no leaf's part depends on the others.
        """
        moves = {}
        for number in leaves:
            leaf, x = self.problem.leaves[number], self.problem.x[number]
            array = directions(leaf, x, units=0, lines=line + 1)[-1].array
            size = self._size_along({number: array})
            info, longest = jnp.finfo(leaf.dtype), math.log2(np.max(np.abs(array)))
            # Half of the dtype's range of exponents is left to what is computed.
            low, high = (math.log2(float(end)) / 2 - longest for end in (info.tiny, info.max))
            exponent = -math.log2(size) if 0 < size < math.inf else 0.0
            moves[number] = array * 2.0 ** round(min(max(exponent, min(low, 0)), max(high, 0)))
        return moves

    def _size_along(self, moves: Moves) -> float:
        """Returns the sum of the sizes of the terms that a slope is claimed to have."""
        found = self.gradient_along(moves)
        if found is None and self.gradient:
            found = self._summed(self.dot(self.gradient[n], d) for n, d in moves.items())
        return 1.0 if found is None else float(found[1])

    def gradient_along(self, moves: Moves) -> tuple[Element, Element] | None:
        """Returns the slope claimed in reverse mode, walked exactly, and its terms' sizes."""
        if self.exact_gradient is None:
            return None
        return self._summed(self.dot(self.exact_gradient[n], d) for n, d in moves.items())

    def _reverse(self, moves: Moves) -> Claim:
        machine, size = self._summed(self.dot(self.gradient[n], d) for n, d in moves.items())
        exact = self.gradient_along(moves)
        if exact is None or not self.arithmetic.finite(exact[1]):
            return Claim("rev", None, machine, size, size)
        return Claim("rev", exact[0], machine, exact[1], exact[1])

    def _overflown(self, slopes, truth: Truth, true: list[Elements]) -> tuple[Claim | None, Truth]:
        """Returns the claim without slopes that are infinite as they must be; None for others."""
        kept, wanted = [], []
        for claimed, exact, weight, dtype in zip(
            slopes, true, self.problem.weights, self.problem.dtypes, strict=True
        ):
            half = self.arithmetic.number(float(jnp.finfo(dtype).max) / 2)
            for c, t, w in zip(wide(claimed).flat, exact.flat, weight.flat, strict=True):
                if np.isfinite(c):
                    kept.append(self.arithmetic.number(float(c * w)))
                    wanted.append(t * self.arithmetic.number(float(w)))
                elif not (np.isinf(c) and abs(t) > half and (c > 0) == (t > 0)):
                    return None, truth
        size = self.arithmetic.sum([abs(term) for term in kept])
        claim = Claim("fwd", None, self.arithmetic.sum(kept), size, size)
        slope = self.arithmetic.sum(wanted)
        return claim, truth._replace(low=slope, high=slope)

    @functools.cached_property
    def inputs(self) -> list[Elements]:
        """The leaves."""
        return [self.lifted(array) for array in self.problem.x]

    @functools.cached_property
    def gradient(self) -> list[Elements]:
        """The gradients that were computed in their dtypes."""
        return [self.lifted(each) for each in self.claims.gradient or ()]

    @functools.cached_property
    def exact_gradient(self) -> list[Elements] | None:
        """The gradients of the claimed program walked exactly; None where it cannot be walked."""
        jaxpr = self.claims.gradient_jaxpr
        return None if jaxpr is None else self._walked(jaxpr, self.inputs)

    def program(
        self, traced: Callable[[], ClosedJaxpr], directions: Iterable[Elements]
    ) -> list[Elements] | None:
        """Returns what a program of the leaves and directions gives, walked exactly."""
        try:
            jaxpr = traced()
        except NotImplementedError:  # complex numbers without a rule
            return None
        return self._walked(jaxpr, [*self.inputs, *directions])

    def rounding(self, jaxpr: ClosedJaxpr) -> list[float] | None:
        """Returns by how much rounding may change each output of a program of the leaves.

        None where it cannot be walked, and infinity where an output is not finite.
        """
        try:
            exact, *rounded = (
                walked(jaxpr, self.inputs, self.arithmetic, self.budget, variation)
                for variation in (EXACT, *ROUNDINGS)
            )
        except (UnknownPrimitiveError, OverBudget):
            return None
        with self.arithmetic.active():
            changes = [
                [np.asarray(abs(a - b), np.float64) for a, b in zip(exact, other, strict=True)]
                for other in rounded
            ]
        return [
            DRAWN * float(np.nan_to_num(np.max(of_output, initial=0.0), nan=np.inf))
            for of_output in zip(*changes, strict=True)
        ]

    def _walked(self, jaxpr, inputs) -> list[Elements] | None:
        try:
            return walked(jaxpr, inputs, self.arithmetic, self.budget)
        except UnknownPrimitiveError:
            return None

    def lifted(self, array: Any) -> Elements:
        """Returns an array of elements, each of them the binary fraction that the entry is."""
        return self.arithmetic.lifted(wide(array))

    def dot(self, elements: Elements, numbers: np.ndarray) -> tuple[Element, Element]:
        """Returns the sum of products, and of their sizes."""
        moved = np.flatnonzero(numbers)
        factors = self.arithmetic.lifted(np.asarray(numbers).ravel()[moved])
        terms = elements.ravel()[moved] * factors
        return self.arithmetic.sum(list(terms)), self.arithmetic.sum(list(np.abs(terms)))

    def contracted(self, outputs: Iterable[Elements]) -> tuple[Element, Element]:
        """Returns the weighted sum of outputs, and of the sizes of its terms."""
        return self._summed(
            self.dot(*each) for each in zip(outputs, self.problem.weights, strict=True)
        )

    def _summed(self, pairs: Iterable[tuple[Element, Element]]) -> tuple[Element, Element]:
        sums, sizes = zip(*pairs, strict=True)
        return self.arithmetic.sum(list(sums)), self.arithmetic.sum(list(sizes))
