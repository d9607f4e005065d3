"""Finite differences of functions that JAX cannot trace, evaluated one point at a time."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from diffcompare import _tree
from diffcompare._arguments import check_scalar
from diffcompare._progress import progress as show_progress
from diffcompare.method import ColumnMethod
from diffcompare.numerical import step as steps
from diffcompare.numerical.difference import Difference

PyTree = Any
Point = tuple[int, int, Any]  # the number of a leaf, a flat position in it, what to put there

# What JAX raises where a function asks a traced value for a number, or hands it to NumPy.
TRACING_ERRORS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)

# Two evaluations at one point may differ by rounding where a library sums in parallel.
_REPEAT_TOLERANCE = 64


class EvaluationError(RuntimeError):
    """A black box raised an error at one of the points of a finite difference."""


@dataclasses.dataclass(frozen=True)
class BlackBox:
    """A function that is called with concrete arrays, never traced; see `black_box`."""

    fun: Callable
    workers: int | Callable = 1
    progress: bool | None = None

    @property
    def __name__(self) -> str:
        return getattr(self.fun, "__name__", type(self.fun).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns what the function returns."""
        return self.fun(*args, **kwargs)


def black_box(
    fun: Callable, *, workers: int | Callable = 1, progress: bool | None = None
) -> BlackBox:
    """Returns `fun`, marked to be evaluated on the host, a point at a time.

    Finite differences need values only, so they also differentiate what JAX cannot trace:
    NumPy, SciPy, a simulator in another process. Where tracing fails by itself, as it does
    for most NumPy code, a difference evaluates on the host without being told; the mark
    makes sure of it, and says how. Beside its steps, a difference takes the value at the
    beginning and at the end, which differ where the function is not deterministic.

    Args:
        fun: Function of pytrees, called with arrays of the kind and dtype it was given:
            NumPy for NumPy, so that float64 stays float64 whatever JAX is set to. Every
            call gets arrays of its own.
        workers: How many threads call `fun` at the same time; or a function like `map`,
            such as that of a `concurrent.futures.ProcessPoolExecutor`.
        progress: Whether to show a progress bar on stderr; None shows one on a terminal
            from 100 evaluations on.

    Raises:
        TypeError: `fun` is not callable.
        ValueError: `workers` is an integer below one.

    Example:
        >>> import math
        >>> import diffcompare as dc
        >>> fun = dc.black_box(lambda x: math.sin(x), workers=2)
        >>> float(dc.grad(fun, method=dc.CentralDifference())(0.0))
        1.000
    """
    if not callable(fun):
        raise TypeError(f"black_box needs a function, but it is {fun!r}.")
    if not callable(workers) and not (isinstance(workers, int) and workers >= 1):
        raise ValueError(
            f"workers must be a positive integer or a function like map, but it is {workers!r}."
        )
    return BlackBox(fun, workers, progress)


def value_on_host(fun: Callable, x: PyTree) -> PyTree:
    """Returns `fun(x)`, called with arrays that it may change."""
    return fun(_copied(x))


def outline_on_host(fun: Callable, x: PyTree) -> PyTree:
    """Returns `fun(x)` as NumPy arrays, which say its structure, shapes and dtypes."""
    return jax.tree.map(np.asarray, value_on_host(fun, x))


def host_columns(method: ColumnMethod, box: BlackBox, fun: Callable, x: PyTree) -> PyTree:
    """Returns the columns of `fun` at `x`, as `ColumnMethod.columns` does.

    Args:
        method: A finite difference.
        box: How to evaluate.
        fun: The function of `x` alone.
        x: A pytree of NumPy or JAX arrays, which `fun` is called with.

    Returns:
        The columns as arrays of the kind of each leaf of `x`.

    Raises:
        EvaluationError: The function raised an error at one of the points.
        NotImplementedError: The method is not a finite difference.
        ValueError: The function is not deterministic, or its outputs change their shapes.
    """
    method = _check_difference(method)
    leaves, treedef = jax.tree.flatten(x)
    stencils = [_Stencil(method, leaf) for leaf in leaves]
    points = [None, *(point for k, s in enumerate(stencils) for point in s.points(k)), None]

    evaluate = functools.partial(_value_at, box, fun, x)
    values = list(_evaluated(evaluate, points, box))
    out_leaves, out_treedef = jax.tree.flatten(values[0])
    rows = [jax.tree.leaves(value) for value in values]
    _check_outputs(box, values, rows)

    columns, start = [], 1
    for stencil in stencils:
        count = stencil.count
        by_output = [
            stencil.slopes(np.stack([row[k] for row in rows[start : start + count]]), base)
            if count
            else np.zeros((0, *base.shape), base.dtype)
            for k, base in enumerate(out_leaves)
        ]
        if isinstance(stencil.leaf, jax.Array):
            by_output = jax.tree.map(jax.numpy.asarray, by_output)
        columns.append(jax.tree.unflatten(out_treedef, by_output))
        start += count
    return jax.tree.unflatten(treedef, columns)


def host_jvp(
    method: ColumnMethod, box: BlackBox, fun: Callable, x: PyTree, v: PyTree
) -> tuple[PyTree, PyTree]:
    """Returns the value of `fun` at `x` and its slope along `v`, as `JvpMethod.jvp` does.

    Args:
        method: A finite difference.
        box: How to evaluate.
        fun: The function of `x` alone.
        x: A pytree of NumPy arrays, which `fun` is called with.
        v: The direction, like `x`.

    Raises:
        EvaluationError: The function raised an error at one of the points.
        NotImplementedError: The method is not a finite difference.
        ValueError: The function is not deterministic, or its outputs change their shapes.
    """
    method = _check_difference(method)
    h = np.asarray(steps.direction_step(method.step, x, v, method.accuracy), np.float64)
    offsets = sorted({offset for a, b, _ in method.quotients for offset in (a, b)} - {0})

    def moved(offset):
        return jax.tree.map(lambda p, q: (p + offset * h * q).astype(p.dtype), x, v)

    points = {offset: moved(offset) for offset in offsets} | {0: x}
    order = [0, *offsets, 0]
    evaluate = functools.partial(_value_along, box, fun, points)
    values = list(_evaluated(evaluate, order, box))
    rows = [jax.tree.leaves(value) for value in values]
    _check_outputs(box, values, rows)
    at = dict(zip(order, rows, strict=True))
    top = max((float(np.max(np.abs(q), initial=0)) for q in jax.tree.leaves(v)), default=0.0)
    unit = [q.astype(np.float64) / (top or 1.0) for q in jax.tree.leaves(v)]
    square = sum(float(np.vdot(q, q)) for q in unit)

    def away(a, b):  # how far apart two points really are, as a multiple of v
        pairs = zip(jax.tree.leaves(points[a]), jax.tree.leaves(points[b]), unit, strict=True)
        return sum(np.vdot(p.astype(u.dtype) - q.astype(u.dtype), u) for p, q, u in pairs) / (
            square * top
        )

    def slope(place):
        wide = {k: row[place].astype(np.float64) for k, row in at.items()}
        total = np.zeros_like(wide[0])
        for a, b, weight in method.quotients if top else ():
            total += weight * (wide[a] - wide[b]) / away(a, b)
        return total.astype(rows[0][place].dtype)

    slopes = [slope(place) for place in range(len(rows[0]))]
    return values[0], jax.tree.unflatten(jax.tree.structure(values[0]), slopes)


def host_pullback(columns: PyTree, x: PyTree, weights: PyTree) -> PyTree:
    """Returns the gradient by `x` of weighted outputs, from columns as `host_columns` gives."""

    def of_leaf(leaf, column):
        total = np.zeros(leaf.size, _tree.working_dtype(leaf.dtype))
        for part, weight in zip(jax.tree.leaves(column), jax.tree.leaves(weights), strict=True):
            total += np.tensordot(
                np.asarray(part, total.dtype), np.asarray(weight, total.dtype), weight.ndim
            )
        return total.reshape(leaf.shape).astype(leaf.dtype)

    return jax.tree.map(of_leaf, x, columns)


def _check_difference(method: ColumnMethod) -> Difference:
    if not isinstance(method, Difference):
        raise NotImplementedError(
            f"{type(method).__name__} needs a function that JAX can trace. For a black box use a "
            "finite difference, such as diffcompare.CentralDifference()."
        )
    return method


def _value_along(box: BlackBox, fun: Callable, points: dict[int, PyTree], offset: int) -> PyTree:
    where = "at the arguments as they were given"
    return _called(fun, box, points[offset], where if offset == 0 else f"{offset} steps along v")


class _Stencil:
    """The points of a difference by every entry of one leaf, and what to make of the values."""

    def __init__(self, method: Difference, leaf: Any):
        self.leaf = leaf
        self.quotients = method.quotients
        offsets = {offset for a, b, _ in self.quotients for offset in (a, b)}
        self.moving = sorted(offsets - {0})
        self.entries = np.asarray(leaf).reshape(-1)
        # In NumPy: this runs within a callback of JAX, where JAX itself might wait for ever.
        h = (
            steps.entry_steps(method.step, self.entries, method.accuracy)
            if leaf.size
            else self.entries
        )
        self.at = {k: self.entries + h.dtype.type(k) * h for k in self.moving} | {0: self.entries}
        self.count = len(self.moving) * self.entries.size

    def points(self, position: int) -> Iterable[tuple[int, int, Any]]:
        for offset in self.moving:
            yield from ((position, i, value) for i, value in enumerate(self.at[offset]))

    def slopes(self, values: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Returns slopes of shape `(entries, ...)` from values of shape `(points, ...)`."""
        dtype = _tree.working_dtype(values.dtype)
        parts = values.astype(dtype).reshape(len(self.moving), self.entries.size, *values.shape[1:])
        by_offset = dict(zip(self.moving, parts, strict=True)) | {0: base.astype(dtype)}
        wide = {k: at.astype(_tree.working_dtype(at.dtype)) for k, at in self.at.items()}
        shape = (self.entries.size, *(1,) * base.ndim)
        total = np.zeros_like(parts[0])
        with np.errstate(invalid="ignore", divide="ignore"):
            for a, b, weight in self.quotients:
                divisor = (wide[a] - wide[b]).astype(dtype).reshape(shape)
                total += weight * (by_offset[a] - by_offset[b]) / divisor
        return total.astype(values.dtype)


def scalar_on_host(box: BlackBox, fun: Callable, x: PyTree) -> np.ndarray:
    """Returns the scalar `fun(x)`.

    Raises:
        EvaluationError: The function raised an error.
        TypeError: It did not return a floating-point scalar.
    """
    value = _value_at(box, fun, x, None)
    check_scalar("estimate", box, value)
    return value


def values_on_host(
    box: BlackBox,
    fun: Callable,
    x: PyTree,
    here: np.ndarray,
    position: int,
    entries: np.ndarray,
    values: np.ndarray,
) -> np.ndarray:
    """Returns the scalar values of `fun` with one entry of one leaf of `x` replaced.

    Args:
        box: How to evaluate.
        fun: The function of `x` alone.
        x: A pytree of NumPy or JAX arrays.
        here: The value at `x`.
        position: Which leaf.
        entries: Flat positions in it, of shape `(points,)`.
        values: What to put there, of shape `(points,)`.

    Returns:
        The values, NaN where the function raised an error: such points lie outside its domain.
    """

    def evaluate(point):
        try:
            return _value_at(box, fun, x, point)
        except EvaluationError:
            return np.full_like(here, np.nan)

    points = [(position, int(i), value) for i, value in zip(entries, values, strict=True)]
    return np.stack(list(_evaluated(evaluate, points, box)))


def _value_at(box: BlackBox, fun: Callable, x: PyTree, point: Point | None) -> PyTree:
    """Returns the value of `fun` at `x` with one entry replaced, or at `x` itself."""
    leaves, treedef = jax.tree.flatten(x)
    if point is not None:
        position, entry, value = point
        new = np.array(leaves[position])
        new.reshape(-1)[entry] = value
        is_jax = isinstance(leaves[position], jax.Array)
        leaves[position] = jax.numpy.asarray(new) if is_jax else new
    x = jax.tree.unflatten(treedef, leaves)
    return _called(fun, box, x, _where(x, point))


def _copied(x: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, x)


def _called(fun: Callable, box: BlackBox, x: PyTree, where: str) -> PyTree:
    try:
        return outline_on_host(fun, x)
    except Exception as error:
        raise EvaluationError(
            f"{box.__name__} raised {type(error).__name__} {where}: {error}. A finite "
            "difference needs a value there; a smaller step or BackwardDifference may avoid it."
        ) from error


def _where(x: PyTree, point: Point | None) -> str:
    if point is None:
        return "at the arguments as they were given"
    position, entry, value = point
    path = _tree.leaf_paths(x)[position]
    return f"where entry {entry} of argument{path} is {float(value)!r}"


def _evaluated(evaluate: Callable, points: list, box: BlackBox) -> Iterable[PyTree]:
    wanted = len(points) >= 100 if box.progress is None else box.progress
    if callable(box.workers):
        results = box.workers(evaluate, points)
    elif box.workers == 1:
        results = map(evaluate, points)
    else:
        with ThreadPoolExecutor(box.workers) as pool:
            yield from _reported(pool.map(evaluate, points), len(points), wanted)
        return
    yield from _reported(results, len(points), wanted)


def _reported(results: Iterable, total: int, wanted: bool) -> Iterable[PyTree]:
    if not wanted:
        yield from results
        return
    with show_progress(total, "evaluation") as report:
        for result in results:
            report("")
            yield result


def _check_outputs(box: BlackBox, values: list[PyTree], rows: list[list[np.ndarray]]) -> None:
    structure = jax.tree.structure(values[0])
    shapes = [(leaf.shape, leaf.dtype) for leaf in rows[0]]
    for value, row in zip(values, rows, strict=True):
        if jax.tree.structure(value) != structure or shapes != [(r.shape, r.dtype) for r in row]:
            raise ValueError(
                f"{box.__name__} must return outputs of one structure, shape and dtype, but it "
                f"returned {structure} of {shapes}, and then {jax.tree.structure(value)} of "
                f"{[(r.shape, r.dtype) for r in row]}."
            )
    for first, last in zip(rows[0], rows[-1], strict=True):
        if first.dtype.kind not in "fV":  # bfloat16 has kind V; other kinds are refused later
            continue
        wide = _tree.working_dtype(first.dtype)
        gap = np.abs(first.astype(wide) - last.astype(wide))
        eps = float(jax.numpy.finfo(first.dtype).eps)
        allowed = _REPEAT_TOLERANCE * eps * np.abs(first.astype(wide))
        if np.any(gap > allowed):
            raise ValueError(
                f"{box.__name__} returned two values at one point that differ by up to "
                f"{float(np.nanmax(gap)):.3g}; a difference of its values would be noise. Make it "
                "deterministic, for example by a fixed seed."
            )
