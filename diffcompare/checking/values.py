"""The values of a problem's function, in float64 wherever its trace can be promoted."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from diffcompare._jaxpr.promote import promote
from diffcompare.checking.ladders import Line
from diffcompare.checking.problem import Problem
from diffcompare.checking.programs import computed_bytes, is_opaque

# What JAX raises for a program that it can neither trace, nor batch, nor compile.
FAILURES = (NotImplementedError, RuntimeError, TypeError, ValueError)

# Down to 2^-46 of a direction, whose entries are as large as those of x: 64 units in the last
# place of float64. Formats with fewer digits end three of them before their last one.
_STEPS, _SPARE_DIGITS = 46, 3

# What a batch of points may take, with all that is computed from them.
_BYTES = 2**24

# Two calls may differ by rounding where a library sums in parallel.
_REPEATED = 64.0


@dataclasses.dataclass(frozen=True, eq=False)
class Values:
    """The weighted sum of a problem's outputs, as a function of one leaf at a time.

    Attributes:
        problem: Whose outputs.
        is_promoted: Whether it computes in float64, whatever the dtypes of the problem are.
        is_opaque: Whether it may be computed in another precision than its dtypes say.
        unit: The relative rounding error of a value.
        x: The leaves, in the dtypes of the points.
    """

    problem: Problem
    is_promoted: bool
    is_opaque: bool
    unit: float
    x: tuple[np.ndarray, ...]
    _evaluate: Callable[[list[np.ndarray]], np.ndarray]
    _batch: int

    def along(
        self, leaf: int, steps: np.ndarray, directions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns values where one leaf has moved, and how far it has.

        Args:
            leaf: Its number.
            steps: By how much of a direction, shape `(points,)`.
            directions: One for all points, or one for each, shape `(points, *shape)`.

        Returns:
            The values and the distances, in units of the steps, both of shape `(points,)`.
        """
        here = self.x[leaf]
        middle = here.astype(np.float64)
        values, away = [], []
        for start in range(0, len(steps), self._batch):
            part = steps[start : start + self._batch]
            each = directions.ndim > here.ndim
            moved = directions[start : start + self._batch] if each else directions[None]
            scale = part.reshape(-1, *(1,) * here.ndim)
            with np.errstate(over="ignore"):
                points = (middle + scale * moved).astype(here.dtype)
            away.append(_distances(points.astype(np.float64) - middle, moved, part))
            arrays = [np.broadcast_to(x, (len(part), *x.shape)) for x in self.x]
            arrays[leaf] = points
            values.append(self._evaluate(arrays))
        return np.concatenate(values), np.concatenate(away)

    @property
    def steps(self) -> np.ndarray:
        """The steps of a ladder, longest first."""
        digits = min(int(jnp.finfo(x.dtype).nmant) for x in self.x)
        return 2.0 ** -np.arange(1, min(_STEPS, max(digits - _SPARE_DIGITS, 1)) + 1)

    def line(self, leaf: int, direction: np.ndarray) -> Line:
        """Returns the values on a line through a leaf."""
        steps = self.steps
        values, away = self.along(leaf, np.concatenate([[0.0], steps, -steps]), direction)
        above, below = np.split(values[1:], 2)
        ahead, behind = np.split(np.abs(away[1:]), 2)
        return Line(float(values[0]), ahead, behind, above, below, self.unit)

    def changes(self) -> bool:
        """Returns whether two calls at one point give two values."""
        arrays = [x[None] for x in self.x]
        first, second = (float(self._evaluate(arrays)[0]) for _ in range(2))
        if np.isnan(first) or np.isnan(second):
            return np.isnan(first) != np.isnan(second)
        return first != second and not abs(first - second) <= _REPEATED * self.unit * abs(first)


def values_of(problem: Problem) -> Values:
    """Returns the values of a problem, promoted where that is possible."""
    jaxpr = problem.jaxpr
    if jaxpr is not None and not is_opaque(jaxpr):
        try:
            return _promoted(problem, jaxpr)
        except FAILURES:
            pass
    return _plain(problem)


def wide_function(jaxpr: ClosedJaxpr) -> Callable[..., Sequence[jax.Array]]:
    """Returns the function of a jaxpr in float64; it is to be called with x64 enabled."""
    return jaxpr_as_fun(promote(jaxpr, 64))


def _promoted(problem: Problem, jaxpr: ClosedJaxpr) -> Values:
    x = tuple(np.asarray(each).astype(np.float64) for each in problem.x)
    with jax.enable_x64(True):
        fun = wide_function(jaxpr)
        weights = [jnp.asarray(weight) for weight in problem.weights]

        def contracted(*x):
            terms = [jnp.sum(y * w) for y, w in zip(fun(*x), weights, strict=True)]
            return sum(terms[1:], terms[0])

        batched, single = jax.jit(jax.vmap(contracted)), jax.jit(contracted)
    batch = max(1, min(2 * _STEPS + 1, _BYTES // computed_bytes(jaxpr)))

    def evaluate(arrays):
        count = len(arrays[0])
        # All batches have one shape, for which it is compiled once.
        full = [np.concatenate([a, np.repeat(a[:1], batch - count, axis=0)]) for a in arrays]
        with jax.enable_x64(True):
            return np.asarray(batched(*full))[:count]

    def evaluate_one_by_one(arrays):
        with jax.enable_x64(True):
            return np.array([float(single(*point)) for point in zip(*arrays, strict=True)])

    unit = float(np.finfo(np.float64).eps)
    try:
        evaluate([each[None] for each in x])
    except FAILURES:  # something in it cannot be batched
        evaluate_one_by_one([each[None] for each in x])
        evaluate = evaluate_one_by_one
    return Values(problem, True, False, unit, x, evaluate, batch)


def _plain(problem: Problem) -> Values:
    fun = problem.fun if problem.jaxpr is None else jax.jit(problem.fun)
    x = tuple(np.asarray(each) for each in problem.x)

    def value(point):
        outputs = fun(*map(jnp.asarray, point))
        terms = [
            np.sum(np.asarray(y).astype(np.float64) * w)
            for y, w in zip(outputs, problem.weights, strict=True)
        ]
        return float(sum(terms))

    def evaluate(arrays: list[np.ndarray]) -> np.ndarray:
        return np.array([value(point) for point in zip(*arrays, strict=True)])

    dtypes: list[Any] = [*problem.dtypes, *(leaf.dtype for leaf in problem.leaves)]
    unit = max(float(jnp.finfo(dtype).eps) for dtype in dtypes)
    batch = max(1, _BYTES // (8 * sum(each.size for each in x)))
    is_hidden = problem.jaxpr is None or is_opaque(problem.jaxpr)
    return Values(problem, False, is_hidden, unit, x, evaluate, batch)


def _distances(moved: np.ndarray, directions: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Returns how far points have moved along their directions, in units of these."""
    count = len(steps)
    moved = moved.reshape(count, -1)
    directions = directions.reshape(len(directions), -1)
    # Squares of tiny entries would vanish.
    size = np.max(np.abs(directions), axis=1, keepdims=True, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    unit = directions / size
    with np.errstate(invalid="ignore", over="ignore"):
        along = np.sum((moved / size) * unit, axis=1)
    return along / np.maximum(np.sum(unit * unit, axis=1), np.finfo(np.float64).tiny)
