"""The slope of `estimate` as a method, within any program."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare import _tree
from diffcompare.method import ColumnMethod
from diffcompare.numerical import line
from diffcompare.numerical import step as steps
from diffcompare.numerical.estimation import rows_at_once
from diffcompare.numerical.ladder import Place

PyTree = Any


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Richardson(ColumnMethod):
    """Central differences extrapolated to step zero, with steps found from the values.

    Of the methods that need values only it is the most accurate, about as much as the values
    are, and it needs no step. A derivative takes 69 evaluations; a program makes 78, in rounds
    of 13. `diffcompare.estimate` is the same with a bound of the error.

    Where no value is finite the slope is NaN. At a kink it is the mean of those of both sides.

    Args:
        batch: How many entries are perturbed at once, or None for as many as suit the
            memory.

    Raises:
        ValueError: The batch is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> float(dc.grad(jnp.exp, method=dc.Richardson())(0.0))
        1.0000

    References:
        Richardson, "The approximate arithmetical solution by finite differences", Phil.
        Trans. R. Soc. A 210, 1911; Ridders, "Accurate computation of F'(x) and F'(x) F''(x)",
        Adv. Eng. Software 4, 1982.
    """

    batch: int | None = None

    def __post_init__(self):
        if self.batch is not None and not (isinstance(self.batch, int) and self.batch >= 1):
            raise ValueError(f"batch must be None or a positive integer, but it is {self.batch!r}.")

    def check(self, x: PyTree) -> None:
        pass  # the steps follow from the values

    def nested(self) -> tuple[ColumnMethod, ColumnMethod]:
        return self, self  # noise is measured, also that of an inner derivative

    def columns(self, fun: Callable, x: PyTree) -> PyTree:
        like = jax.eval_shape(fun, x)
        columns = [_unraveled(slopes, like) for slopes in _slopes_of_leaves(fun, x, self.batch)]
        return jax.tree.unflatten(jax.tree.structure(x), columns)

    def jvp(self, fun: Callable, x: PyTree, v: PyTree) -> tuple[PyTree, PyTree]:
        outputs, dtype = _outputs(fun, x)
        wide = jnp.promote_types(_tree.widest(x), _tree.working_dtype(dtype))
        value = fun(x)
        unit_v, square, length, furthest = _direction(x, v, wide)

        def end(t):
            point = jax.tree.map(
                lambda p, q: steps.rounded(p.astype(wide) + t * q.astype(wide), p.dtype), x, v
            )
            moved = jax.tree.map(lambda p, q: p.astype(wide) - q.astype(wide), point, x)
            return jnp.abs(_tree.vdot(moved, unit_v)) / square, _raveled(fun(point), wide)

        if outputs == 0:
            return value, value
        coarsest = min(
            (leaf.dtype for leaf in jax.tree.leaves(x)), key=lambda d: jnp.finfo(d).nmant
        )
        place = Place.of(1 / furthest, 1 / furthest, coarsest, dtype)
        found = line.slope_on_line(jax.vmap(end), outputs, place)
        slope = jnp.where(length > 0, found.slope, 0)
        return value, _unraveled(slope, value)


def _slopes_of_leaves(fun: Callable, x: PyTree, batch: int | None = None) -> list[jax.Array]:
    """Returns the slopes of all outputs of `fun` by every entry of every leaf of `x`.

    A program holds `fun` once for each leaf, and what reads the values once for all of them.

    Args:
        fun: Function of `x`, returning a pytree of floating-point arrays.
        x: Where to differentiate.
        batch: How many entries are perturbed at once, or None for as many as suit the memory.

    Returns:
        For each leaf an array of shape `(leaf.size, outputs)`, where all outputs are raveled.
    """
    outputs, dtype = _outputs(fun, x)
    wide = jnp.promote_types(_tree.widest(x), _tree.working_dtype(dtype))
    parts = [(leaf, of_leaf) for leaf, of_leaf in _tree.functions_of_leaves(fun, x) if leaf.size]
    if outputs == 0 or not parts:
        return [jnp.zeros((leaf.size, outputs), wide) for leaf in jax.tree.leaves(x)]
    most = max(1, min(min(rows_at_once(leaf) for leaf, _ in parts) // line.ROUND, 256 // outputs))
    largest = max(leaf.size for leaf, _ in parts)
    rounds = -(-largest // (batch or most))
    size = -(-largest // rounds)
    # A leaf begins a batch. Its last one is filled up with repeats of its last entry.
    batches = [-(-leaf.size // size) for leaf, _ in parts]
    numbers = np.repeat(np.arange(len(parts)), batches)
    indices = [
        np.minimum(np.arange(count * size), leaf.size - 1).reshape(count, size)
        for count, (leaf, _) in zip(batches, parts, strict=True)
    ]
    places = [
        jax.tree.map(lambda each, at=at: each[at], _places(leaf, wide, dtype))
        for at, (leaf, _) in zip(indices, parts, strict=True)
    ]

    def values_of(leaf, of_leaf):
        positions = _tree.positions(leaf)

        def values(index, h):
            middle = leaf.reshape(-1)[index].astype(wide)
            ends = steps.rounded(middle + h, leaf.dtype)
            at = lambda end: _raveled(of_leaf(jnp.where(positions == index, end, leaf)), wide)
            return jnp.abs(ends.astype(wide) - middle), jax.vmap(at)(ends)

        return values

    of_leaves = [values_of(*part) for part in parts]

    def slopes(part):
        number, *entries = part

        def slope(index, place):
            evaluate = lambda h: jax.lax.switch(number, of_leaves, index, h)
            return line.slope_on_line(evaluate, outputs, place).slope

        return jax.vmap(slope)(*entries)

    every = numbers, np.concatenate(indices), jax.tree.map(lambda *p: jnp.concatenate(p), *places)
    if len(numbers) == 1:
        found = slopes((0, *jax.tree.map(lambda each: each[0], every[1:])))[None]
    else:
        found = jax.lax.map(slopes, every)
    ends = np.cumsum([0, *batches])
    of_part = (found[start:end].reshape(-1, outputs) for start, end in itertools.pairwise(ends))
    return [
        next(of_part)[: leaf.size] if leaf.size else jnp.zeros((0, outputs), wide)
        for leaf in jax.tree.leaves(x)
    ]


def _places(leaf: jax.Array, wide: Any, outputs: Any) -> Place:
    """Returns what is known of every entry of a leaf, arrays of shape `(leaf.size,)`."""
    size, scale = (
        each.reshape(-1).astype(wide) for each in (jnp.abs(leaf), steps.entry_scale(leaf))
    )
    return Place.of(size, scale, leaf.dtype, outputs)


def _outputs(fun: Callable, x: PyTree) -> tuple[int, jnp.dtype]:
    """Returns how many outputs there are, and the least precise of their dtypes."""
    leaves = jax.tree.leaves(jax.eval_shape(fun, x))
    dtypes = [leaf.dtype for leaf in leaves]
    coarsest = max(dtypes, key=lambda dtype: float(jnp.finfo(dtype).eps), default=jnp.float32)
    return sum(math.prod(leaf.shape) for leaf in leaves), jnp.dtype(coarsest)


def _raveled(tree: PyTree, dtype: Any) -> jax.Array:
    return jnp.concatenate([leaf.reshape(-1).astype(dtype) for leaf in jax.tree.leaves(tree)])


def _unraveled(flat: jax.Array, like: PyTree) -> PyTree:
    """Returns the last axis of `flat` as a pytree like another, in its shapes and dtypes."""
    leaves, treedef = jax.tree.flatten(like)
    ends = np.cumsum([math.prod(leaf.shape) for leaf in leaves])
    parts = [
        flat[..., end - math.prod(leaf.shape) : end].reshape(*flat.shape[:-1], *leaf.shape)
        for leaf, end in zip(leaves, ends, strict=True)
    ]
    return jax.tree.unflatten(
        treedef, [part.astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    )


def _direction(
    x: PyTree, v: PyTree, wide: jnp.dtype
) -> tuple[PyTree, jax.Array, jax.Array, jax.Array]:
    """Returns a direction of largest entry one, its square, its length, and its reach.

    The displacement along `v` is measured as a multiple of `v`, so the square is that of the
    unit direction times the length; the reach is the largest relative change of an entry.
    """
    zero = jnp.zeros((), wide)

    def largest(tree):
        tops = jax.tree.map(lambda q: jnp.max(jnp.abs(q.astype(wide)), initial=0), tree)
        return jax.tree.reduce(jnp.maximum, tops, zero)

    length = largest(v)
    safe = jnp.where(length > 0, length, 1)
    unit_v = jax.tree.map(lambda q: q.astype(wide) / safe, v)
    square = jnp.where(length > 0, _tree.vdot(unit_v, unit_v), 1) * safe
    relative = jax.tree.map(lambda p, q: q.astype(wide) / steps.entry_scale(p).astype(wide), x, v)
    furthest = largest(relative)
    return unit_v, square, length, jnp.where(furthest > 0, furthest, 1)
