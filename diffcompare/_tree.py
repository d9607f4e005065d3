"""Arithmetic on pytrees of arrays."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def leaf_paths(tree: PyTree) -> list[str]:
    """Returns the path of every leaf as a user would write it, such as `['w'][0]`."""
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def functions_of_leaves(fun: Callable, x: PyTree) -> Iterator[tuple[jax.Array, Callable]]:
    """Yields every leaf of `x`, and `fun` as a function of that leaf alone.

    The other leaves stay as they are, so that a batch of perturbed copies of one leaf
    does not copy the others, and what depends on them only is computed once.
    """
    leaves, treedef = jax.tree.flatten(x)
    for position, leaf in enumerate(leaves):

        def of_leaf(new, position=position):
            return fun(
                jax.tree.unflatten(treedef, [*leaves[:position], new, *leaves[position + 1 :]])
            )

        yield leaf, of_leaf


def working_dtype(dtype: Any) -> jnp.dtype:
    """Returns the dtype in which numbers of `dtype` are divided and summed.

    Half precision is too coarse to hold the quotient of a difference and a step.
    """
    return jnp.dtype(dtype) if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def widest(tree: PyTree) -> jnp.dtype:
    """Returns the working dtype of the most precise leaf of `tree`."""
    dtypes = [working_dtype(leaf.dtype) for leaf in jax.tree.leaves(tree)]
    return max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits, default=jnp.dtype(jnp.float32))


def vdot(a: PyTree, b: PyTree) -> jax.Array:
    """Returns the inner product of two pytrees of one structure, in the widest dtype."""
    dtype = widest(a)
    products = jax.tree.map(lambda p, q: jnp.sum(p.astype(dtype) * q.astype(dtype)), a, b)
    return jax.tree.reduce(jnp.add, products, jnp.zeros((), dtype))


def one_hot(leaf: jax.Array, index: jax.Array, value: Any = 1) -> jax.Array:
    """Returns zeros like `leaf` with `value` at the flat position `index`."""
    return jnp.where(positions(leaf) == index, jnp.asarray(value, leaf.dtype), jnp.zeros_like(leaf))


def positions(leaf: jax.Array) -> jax.Array:
    """Returns the flat position of every entry of `leaf`, in its shape."""
    return jnp.arange(leaf.size).reshape(leaf.shape)


def map_in_batches(function: Callable, count: int, batch: int) -> PyTree:
    """Returns `function` of the indices 0 to `count - 1`, computed a batch at a time.

    Args:
        function: Takes indices of shape `(batch,)` and returns a pytree of arrays of
            shape `(batch, ...)`.
        count: How many indices there are, at least one.
        batch: How many of them may be in memory at once. Batches are made equal, and the
            last one is filled up with repeats of the last index, so that one compiled body
            serves them all.

    Returns:
        A pytree of arrays of shape `(count, ...)`.
    """
    batches = -(-count // batch)
    if batches == 1:
        return function(jnp.arange(count))
    batch = -(-count // batches)
    indices = jnp.minimum(jnp.arange(batches * batch), count - 1).reshape(batches, batch)
    results = jax.lax.map(function, indices)
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:count], results)
