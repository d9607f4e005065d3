"""From what a method provides to whole Jacobians, by columns or by rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffcompare import _arguments, _tree
from diffcompare.method import ColumnMethod, JvpMethod, Method, VjpMethod

PyTree = Any

# How many bytes of tangents or cotangents are pushed through a function at once.
_BATCH_BYTES = 2**28


def columns(method: Method, fun: Callable, x: PyTree) -> PyTree:
    """Returns the columns of the Jacobian, as `ColumnMethod.columns` does."""
    if isinstance(method, ColumnMethod):
        return method.columns(fun, x)
    assert isinstance(method, JvpMethod)

    def columns_of_leaf(leaf, of_leaf):
        if leaf.size == 0:
            out = jax.eval_shape(of_leaf, leaf)
            return jax.tree.map(lambda o: jnp.zeros((0, *o.shape), o.dtype), out)

        def slope(index):
            return method.jvp(of_leaf, leaf, _tree.one_hot(leaf, index))[1]

        batch = max(1, _BATCH_BYTES // leaf.nbytes)
        return _tree.map_in_batches(jax.vmap(slope), leaf.size, batch)

    by_leaf = [columns_of_leaf(*each) for each in _tree.functions_of_leaves(fun, x)]
    return jax.tree.unflatten(jax.tree.structure(x), by_leaf)


def rows(method: VjpMethod, fun: Callable, of_x: Callable, x: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the value, and in place of each of its leaves a pytree like `x` of rows.

    `of_x` is `fun` as a function of `x` alone; errors name `fun`.
    """
    value, pullback = method.vjp(of_x, x)[:2]
    _arguments.check_outputs("jacobian", fun, value)
    zeros = jax.tree.map(jnp.zeros_like, value)
    leaves, treedef = jax.tree.flatten(zeros)
    x_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(x))

    def rows_of_leaf(position, out):
        def row(index):
            weights = [*leaves]
            weights[position] = _tree.one_hot(out, index)
            return pullback(jax.tree.unflatten(treedef, weights))

        if out.size == 0:
            return jax.tree.map(lambda leaf: jnp.zeros((*out.shape, *leaf.shape), leaf.dtype), x)
        batch = max(1, _BATCH_BYTES // max(1, x_bytes))
        flat = _tree.map_in_batches(jax.vmap(row), out.size, batch)
        return jax.tree.map(lambda r, leaf: r.reshape(*out.shape, *leaf.shape), flat, x)

    by_output = [rows_of_leaf(position, out) for position, out in enumerate(leaves)]
    return value, jax.tree.unflatten(treedef, by_output)


def transposed(value: PyTree, x: PyTree, columns: PyTree) -> PyTree:
    """Returns columns, a pytree like `x` of pytrees like `value`, the other way round."""
    outs, treedef = jax.tree.flatten(value)
    x_leaves, x_treedef = jax.tree.flatten(x)
    by_leaf: list[list[jax.Array]] = []
    jax.tree.map(lambda _, column: by_leaf.append(jax.tree.leaves(column)), x, columns)

    def rows_of(position, out):
        by_input = [
            column[position]
            .transpose(*range(1, column[position].ndim), 0)
            .reshape((*out.shape, *leaf.shape))
            .astype(leaf.dtype)
            for leaf, column in zip(x_leaves, by_leaf, strict=True)
        ]
        return jax.tree.unflatten(x_treedef, by_input)

    return jax.tree.unflatten(treedef, [rows_of(*each) for each in enumerate(outs)])


def pulled(method: Method, fun: Callable, x: PyTree, weights: PyTree) -> PyTree:
    """Returns the gradient of the sum of the outputs of `fun`, weighted, at `x`."""
    slopes = columns(method, lambda x: _tree.vdot(fun(x), weights), x)
    return jax.tree.map(lambda leaf, c: c.reshape(leaf.shape).astype(leaf.dtype), x, slopes)
