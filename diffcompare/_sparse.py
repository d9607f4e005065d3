"""Jacobians of which most entries are known to be zero, by colouring."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare import _tree
from diffcompare.automatic.mode import ForwardMode
from diffcompare.method import ColumnMethod, JvpMethod, Method, VjpMethod
from diffcompare.numerical import step as steps
from diffcompare.numerical.difference import Difference

# How many eps a slope along a random direction may be off the product of that direction and
# the Jacobian, relative to the sum of the sizes of the terms.
_SLACK = 64
# In how many suspected rows the entry outside the pattern is looked for.
_SEARCHED = 16


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class SparseJacobian:
    """A Jacobian by its entries within a pattern; all others are zero.

    Attributes:
        values: The entries, of shape `(nonzeros,)`.
        rows: The flat position in the output of each of them, of shape `(nonzeros,)`.
        columns: The flat position in the argument, of shape `(nonzeros,)`.
        shape: The shape of the output followed by that of the argument.
        evaluations: How many slopes, or pullbacks, it took: the number of colours.
    """

    values: jax.Array
    rows: np.ndarray
    columns: np.ndarray
    shape: tuple[tuple[int, ...], tuple[int, ...]]
    evaluations: int

    def todense(self) -> jax.Array:
        """Returns the Jacobian as `jacobian` without a pattern does, of shape `(*out, *in)`."""
        out, into = self.shape
        dense = jnp.zeros((_size(out), _size(into)), self.values.dtype)
        return dense.at[self.rows, self.columns].set(self.values).reshape(*out, *into)

    def tree_flatten(self) -> tuple[Any, Any]:
        """Returns the values, and the rest as static data."""
        rest = (self.rows.tobytes(), self.columns.tobytes(), self.shape, self.evaluations)
        return (self.values,), rest

    @classmethod
    def tree_unflatten(cls, static: Any, children: Any) -> "SparseJacobian":
        """Returns the Jacobian that `tree_flatten` took apart."""
        rows, columns, shape, evaluations = static
        rows, columns = (np.frombuffer(each, np.int64) for each in (rows, columns))
        return cls(children[0], rows, columns, shape, evaluations)


@dataclasses.dataclass(frozen=True, eq=False)
class Pattern:
    """Where a Jacobian may differ from zero, and the colours of its columns or rows."""

    rows: np.ndarray
    columns: np.ndarray
    shape: tuple[int, int]

    def colours(self, of_rows: bool) -> np.ndarray:
        """Returns a colour for every column, or row, such that no two of one colour meet.

        Greedy, the fullest first: Curtis, Powell and Reid, "On the estimation of sparse
        Jacobian matrices", J. Inst. Maths Applics 13, 1974.
        """
        ours, theirs = (self.rows, self.columns) if of_rows else (self.columns, self.rows)
        count, met = self.shape[0 if of_rows else 1], self.shape[1 if of_rows else 0]
        order = np.argsort(ours, kind="stable")
        degrees = np.bincount(ours, minlength=count)
        touched = np.split(theirs[order], np.cumsum(degrees)[:-1])
        taken: list[set[int]] = [set() for _ in range(met)]
        colours = np.zeros(count, np.int64)
        for each in np.argsort(-degrees, kind="stable"):
            forbidden = set().union(*(taken[other] for other in touched[each]))
            colour = next(c for c in range(len(forbidden) + 1) if c not in forbidden)
            colours[each] = colour
            for other in touched[each]:
                taken[other].add(colour)
        return colours


def check_pattern(sparsity: Any) -> Pattern:
    """Returns the pattern of a matrix, dense or of SciPy.

    Raises:
        TypeError: It is no matrix of booleans or numbers.
    """
    if hasattr(sparsity, "tocoo"):
        coo = sparsity.tocoo()
        kept = np.asarray(coo.data) != 0
        rows, columns = np.asarray(coo.row)[kept], np.asarray(coo.col)[kept]
        return Pattern(rows.astype(np.int64), columns.astype(np.int64), tuple(coo.shape))
    matrix = np.asarray(sparsity)
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
        raise TypeError(
            "sparsity must be a matrix of shape (outputs, inputs), true where the Jacobian may "
            f"differ from zero, but it has shape {matrix.shape} and dtype {matrix.dtype}."
        )
    rows, columns = np.nonzero(matrix)
    return Pattern(rows, columns, matrix.shape)


def jacobian_by_colour(
    method: Method, fun: Callable, x: jax.Array, pattern: Pattern
) -> tuple[SparseJacobian, jax.Array]:
    """Returns the Jacobian within the pattern, and which rows seem to have entries outside.

    Args:
        method: Any method.
        fun: Function of one array, returning one array.
        x: Where to differentiate.
        pattern: Of the Jacobian with both arrays flattened.

    Returns:
        The Jacobian, and booleans of shape `(outputs,)`. The latter compare a slope along a
        random direction with the product of that direction and the Jacobian.

    Raises:
        ValueError: The shape of the pattern is not that of the Jacobian.
    """
    out = jax.eval_shape(fun, x)
    if pattern.shape != (out.size, x.size):
        raise ValueError(
            f"sparsity must have shape ({out.size}, {x.size}), an output by an input, but it has "
            f"shape {pattern.shape}."
        )

    def flat(entries):
        return fun(entries.reshape(x.shape)).reshape(-1)

    entries = x.reshape(-1)
    suspects = _suspects(flat, entries, pattern)
    if isinstance(method, VjpMethod) and not isinstance(method, JvpMethod):
        colours = pattern.colours(of_rows=True)
        _, pullback = method.vjp(flat, entries)[:2]
        seeds = _seeds(colours, out.dtype)
        slopes = jax.vmap(pullback)(seeds)
        values = slopes[colours[pattern.rows], pattern.columns]
        # An entry outside the pattern is added to those of the other rows of its colour.
        suspects = (seeds @ suspects.astype(seeds.dtype) > 0)[colours]
    else:
        colours = pattern.colours(of_rows=False)
        find = _differences if isinstance(method, Difference) else _slopes
        values = find(method, flat, entries, pattern, colours)
    count = int(colours.max(initial=-1)) + 1
    values = values.astype(x.dtype)
    shape = (out.shape, x.shape)
    found = SparseJacobian(values, pattern.rows, pattern.columns, shape, count)
    return found, suspects


def _seeds(colours: np.ndarray, dtype: Any) -> jax.Array:
    return jnp.asarray(colours == np.arange(colours.max(initial=-1) + 1)[:, None]).astype(dtype)


def _slopes(method, fun, entries, pattern, colours):
    seeds = _seeds(colours, entries.dtype)
    slopes = jax.vmap(lambda seed: method.jvp(fun, entries, seed)[1])(seeds)
    return slopes[colours[pattern.columns], pattern.rows]


def _differences(method, fun, entries, pattern, colours):
    """Moves all entries of one colour at once, each by its own step."""
    h = steps.entry_steps(method.step, entries, method.accuracy)
    offsets = sorted({offset for a, b, _ in method.quotients for offset in (a, b)})
    at = {k: steps.rounded(entries + jnp.asarray(k).astype(h.dtype) * h) for k in offsets}
    points = jnp.stack([at[k] for k in offsets])
    palette = jnp.asarray(colours)

    def values_of_colour(colour):
        move = lambda place: fun(jnp.where(palette == colour, place, entries))
        return jax.vmap(move)(points)

    count = int(colours.max(initial=-1)) + 1
    values = _tree.map_in_batches(jax.vmap(values_of_colour), count, max(1, method.batch or 16))
    wide = values.astype(_tree.working_dtype(values.dtype))
    by_offset = dict(zip(offsets, jnp.moveaxis(wide, 1, 0), strict=True))
    total = jnp.zeros(pattern.rows.shape, wide.dtype)
    for a, b, weight in method.quotients:
        rise = (by_offset[a] - by_offset[b])[colours[pattern.columns], pattern.rows]
        run = at[a].astype(wide.dtype) - at[b].astype(wide.dtype)
        total = total + weight * rise / run[pattern.columns]
    return total


def _suspects(fun: Callable, entries: jax.Array, pattern: Pattern) -> jax.Array:
    """Returns which rows have another slope along a random direction than the pattern allows.

    The slopes are exact, whatever the method, so that the error of a difference accuses
    nobody. It takes as many slopes as there are colours, and one more.
    """
    exact = ForwardMode()
    wide = _tree.working_dtype(entries.dtype)
    scale = steps.entry_scale(entries).astype(entries.dtype)
    signs = np.random.default_rng(0).choice([-1.0, -0.75, 0.625, 0.875], entries.size)
    v = jnp.asarray(signs, entries.dtype) * scale
    values = _slopes(exact, fun, entries, pattern, pattern.colours(of_rows=False))
    _, slope = exact.jvp(fun, entries, v)
    terms = values.astype(wide) * v.astype(wide)[pattern.columns]
    rows = jnp.zeros(pattern.shape[0], wide)
    product = rows.at[pattern.rows].add(terms)
    size = rows.at[pattern.rows].add(jnp.abs(terms)) + jnp.abs(slope.astype(wide))
    eps = float(jnp.finfo(entries.dtype).eps)
    return jnp.abs(slope.astype(wide) - product) > _SLACK * eps * size


def outside_entry(
    method: Method, fun: Callable, x: jax.Array, pattern: Pattern, suspects: jax.Array
) -> tuple[int, int]:
    """Returns row and column of the largest entry outside the pattern, in suspected rows.

    A row that shares its colour with the culprit is suspected as well.
    """
    entries = x.reshape(-1)

    def largest(row):
        slopes = _row(method, lambda e: fun(e.reshape(x.shape)).reshape(-1)[row], entries)
        outside = np.abs(np.asarray(slopes, np.float64))
        outside[pattern.columns[pattern.rows == row]] = 0
        return float(np.max(outside)), row, int(np.argmax(outside))

    rows = np.flatnonzero(np.asarray(suspects))[:_SEARCHED]
    _, row, column = max(largest(int(row)) for row in rows)
    return row, column


def _row(method: Method, fun: Callable, entries: jax.Array) -> jax.Array:
    if isinstance(method, ColumnMethod):
        return method.columns(fun, entries)
    if isinstance(method, JvpMethod):
        basis = jnp.eye(entries.size, dtype=entries.dtype)
        return jax.vmap(lambda v: method.jvp(fun, entries, v)[1])(basis)
    assert isinstance(method, VjpMethod)
    value, pullback = method.vjp(fun, entries)[:2]
    return pullback(jnp.ones_like(value))


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
