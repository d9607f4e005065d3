"""The claimed slopes, computed in float64 wherever their programs can be promoted."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from diffcompare.checking.claims import Claims, Mode
from diffcompare.checking.programs import is_opaque, with_moved_constants
from diffcompare.checking.values import FAILURES, Values, wide_function

# A slope is a sum of terms, each of which some operations round.
_ROUNDED = 16.0
# By how much a claim changes when its inputs move by one unit in their last place, at random, is
# a sample of how it is conditioned; the largest of three is not eight times too small.
_DRAWS, _DRAWN = 3, 8.0

Arrays = Sequence[np.ndarray]


class Claim(NamedTuple):
    """A claimed slope of the weighted sum of outputs."""

    mode: Mode
    slope: float
    size: float  # of the terms that it sums
    allowance: float  # what rounding may have done to it
    is_wide: bool  # whether it was computed in float64


@dataclasses.dataclass(frozen=True, eq=False)
class WideClaims:
    """What is claimed, as float64 where that is possible.

    Attributes:
        claims: What is claimed in the dtypes under test.
        values: Of the function.
    """

    claims: Claims
    values: Values

    def along(self, leaf: int, direction: np.ndarray, mode: Mode) -> Claim | None:
        """Returns the claimed slope as one leaf moves; None where it is not finite."""
        find = self._reverse if mode == "rev" else self._forward
        claim = find(leaf, direction)
        return claim if np.isfinite(claim.slope) and np.isfinite(claim.size) else None

    def gradient(self, leaf: int) -> np.ndarray:
        """Returns the claimed gradient by a leaf."""
        return self._gradients.draws[0][leaf]

    def _reverse(self, leaf: int, direction: np.ndarray) -> Claim:
        moves = direction != 0
        terms = [g[leaf][moves] * direction[moves] for g in self._gradients.draws]
        return _claim("rev", terms, self._unit, self._gradients.is_wide)

    def _forward(self, leaf: int, direction: np.ndarray) -> Claim:
        machine, factor = self.claims.slopes({leaf: direction})
        terms, is_wide = [self._weighted(machine, factor)], False
        if self._wide_slopes is not None and np.isfinite(terms[0]).all():
            tangents = [np.zeros(each.shape) for each in self.claims.problem.leaves]
            tangents[leaf] = direction
            found = [self._weighted(self._wide_slopes(*x, *tangents)) for x in self._near]
            is_wide = bool(np.isfinite(found).all())
            terms = found if is_wide else terms
        claim = _claim("fwd", terms, self._unit, is_wide)
        if "rev" in self.claims.modes:
            # Terms that cancel were added within the program; and it is conditioned alike.
            reverse = self._reverse(leaf, direction)
            size = max(claim.size, reverse.size)
            if np.isfinite(size) and not is_wide:
                claim = claim._replace(allowance=max(claim.allowance, reverse.allowance))
            claim = claim._replace(size=size) if np.isfinite(size) else claim
        return claim

    def _weighted(self, outputs: Arrays, factor: float = 1.0) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            return np.concatenate(
                [
                    (np.asarray(y).astype(np.float64) / factor * w).ravel()
                    for y, w in zip(outputs, self.claims.problem.weights, strict=True)
                ]
            )

    @functools.cached_property
    def _gradients(self) -> "_Gradients":
        usual = self.claims.gradient or []
        if self._wide_gradient is not None:
            found = [list(self._wide_gradient(*x)) for x in self._near]
            # What only the dtype under test can hold at all is judged as that does.
            if all(
                np.isfinite(wide).all() or not np.isfinite(g.astype(np.float64)).all()
                for wide, g in zip(found[0], usual, strict=True)
            ):
                return _Gradients(found, True)
        problem = self.claims.problem
        moved = [
            [jnp.asarray(each, leaf.dtype) for each, leaf in zip(x, problem.leaves, strict=True)]
            for x in self._beside([leaf.eps for leaf in problem.leaves])
        ]
        found = [self.claims.gradients(problem.weights, x) for x in moved]
        return _Gradients([[g.astype(np.float64) for g in gradient] for gradient in found], False)

    def spread_of_constants(self, leaf: int, direction: np.ndarray, claim: Claim) -> float:
        """Returns the largest change of a claim when the constants of its program are moved."""
        if not claim.is_wide:
            return 0.0
        x: list[np.ndarray] = [each.astype(np.float64) for each in self.values.x]
        if claim.mode == "rev":
            slopes = [
                float(np.sum(program(*x)[leaf] * direction)) for program in self._moved["rev"]
            ]
        else:
            tangents = [np.zeros(each.shape) for each in self.claims.problem.leaves]
            tangents[leaf] = direction
            found = [program(*x, *tangents) for program in self._moved["fwd"]]
            slopes = [float(np.sum(self._weighted(each))) for each in found]
        return max((abs(slope - claim.slope) for slope in slopes), default=0.0)

    @functools.cached_property
    def _moved(self) -> dict[Mode, list[Callable[..., Arrays]]]:
        """The claimed programs with constants that are off by their rounding."""
        primal = self.claims.problem.jaxpr
        found: dict[Mode, list[Callable[..., Arrays]]] = {"rev": [], "fwd": []}
        for mode in self.claims.modes:
            program = self._program(mode)
            if program is not None and primal is not None:
                draws = [with_moved_constants(program, primal, seed) for seed in range(_DRAWS)]
                found[mode] = [_compiled(draw) for draw in draws if draw is not None]
        return found

    def _program(self, mode: Mode) -> ClosedJaxpr | None:
        """Returns the claimed program, where it can be promoted."""
        if not self.values.is_promoted or mode not in self.claims.modes:
            return None
        claims = self.claims
        program = claims.gradient_jaxpr if mode == "rev" else claims.slope_jaxpr
        return None if program is None or is_opaque(program) else program

    @functools.cached_property
    def _wide_gradient(self) -> Callable[..., Arrays] | None:
        return self._widened("rev", self.values.x)

    @functools.cached_property
    def _wide_slopes(self) -> Callable[..., Arrays] | None:
        return self._widened("fwd", (*self.values.x, *map(np.zeros_like, self.values.x)))

    def _widened(self, mode: Mode, inputs: Arrays) -> Callable[..., Arrays] | None:
        program = self._program(mode)
        if program is None:
            return None

        try:
            computed = _compiled(program)
            computed(*inputs)
        except FAILURES:
            return None
        return computed

    @functools.cached_property
    def _near(self) -> list[list[np.ndarray]]:
        return self._beside([float(np.finfo(np.float64).eps)] * len(self.values.x))

    def _beside(self, units: Sequence[float]) -> list[list[np.ndarray]]:
        """Returns the leaves, and leaves that are a unit in the last place beside them."""
        random = np.random.default_rng(_DRAWS)
        x = [each.astype(np.float64) for each in self.values.x]
        return [x] + [
            [
                each * (1 + unit * random.choice([-1.0, 1.0], each.shape))
                for each, unit in zip(x, units, strict=True)
            ]
            for _ in range(_DRAWS)
        ]

    @property
    def _unit(self) -> float:
        """The rounding error of claims in the dtypes under test."""
        problem = self.claims.problem
        dtypes = [*problem.dtypes, *(leaf.dtype for leaf in problem.leaves)]
        return max(float(jnp.finfo(dtype).eps) for dtype in dtypes)


class _Gradients(NamedTuple):
    """Gradients by all leaves: where it is wanted, and beside."""

    draws: list[list[np.ndarray]]
    is_wide: bool


def _compiled(program: ClosedJaxpr) -> Callable[..., Arrays]:
    with jax.enable_x64(True):
        compiled = jax.jit(wide_function(program))

    def computed(*inputs: np.ndarray) -> Arrays:
        with jax.enable_x64(True):
            return [np.asarray(each) for each in compiled(*inputs)]

    return computed


def _claim(mode: Mode, terms: Arrays, unit: float, is_wide: bool) -> Claim:
    slopes = [float(np.sum(each)) for each in terms]
    size = float(np.sum(np.abs(terms[0])))
    spread = max((abs(each - slopes[0]) for each in slopes[1:]), default=0.0)
    unit = float(np.finfo(np.float64).eps) if is_wide else unit
    return Claim(mode, slopes[0], size, _ROUNDED * unit * size + _DRAWN * spread, is_wide)
