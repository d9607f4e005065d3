"""Primitives that only move entries: one rule for them all.

A primitive such as `transpose` or `gather` does the same whatever the entries are. Bound
on integers that count the entries, it says where each entry of its output comes from, and
no kind of value needs a rule of its own.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

# The operands whose entries are moved; None is all of them. The others are indices.
MOVED: dict[str, tuple[int, ...] | None] = {
    "broadcast_in_dim": (0,),
    "concatenate": None,
    "dynamic_slice": (0,),
    "dynamic_update_slice": (0, 1),
    "gather": (0,),
    "pad": None,
    "reshape": (0,),
    "rev": (0,),
    "scatter": (0, 2),
    "slice": (0,),
    "split": (0,),
    "squeeze": (0,),
    "stack": None,
    "tile": (0,),
    "transpose": (0,),
    "unstack": (0,),
}

# Primitives whose outputs are their inputs.
IDENTITIES = frozenset(
    {"copy", "copy_p", "device_put", "name", "optimization_barrier", "reduce_precision",
     "sharding_constraint"}
)  # fmt: skip


def moved_operands(eqn: JaxprEqn) -> tuple[int, ...]:
    """Returns the positions of the operands whose entries are moved."""
    operands = MOVED[eqn.primitive.name]
    return tuple(range(len(eqn.invars))) if operands is None else operands


def sources(eqn: JaxprEqn, inputs: Sequence[Any]) -> list[jax.Array]:
    """Returns where every entry of every output comes from.

    Args:
        eqn: An equation whose primitive is in `MOVED`.
        inputs: Its inputs. Of those that are moved only the shape matters, the others are
            integer arrays, which may be traced.

    Returns:
        For each output an integer array of its shape: positions in the moved operands,
        flattened and put one after the other. An entry that was filled in has their total
        size, a position just beyond the end.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> eqn = jax.make_jaxpr(lambda x: x.T)(jnp.zeros((2, 3))).eqns[0]
        >>> sources(eqn, [jnp.zeros((2, 3))])[0].tolist()
        [[0, 3], [1, 4], [2, 5]]
    """
    moved = moved_operands(eqn)
    operands = list(inputs)
    total = 0
    for position in moved:
        shape = jnp.shape(inputs[position])
        size = _size(shape)
        operands[position] = jnp.arange(total, total + size, dtype=jnp.int32).reshape(shape)
        total += size
    params = dict(eqn.params)
    if eqn.primitive.name == "gather":
        params["fill_value"] = total
    outputs = eqn.primitive.bind(*operands, **params)
    return outputs if eqn.primitive.multiple_results else [outputs]


def met(eqn: JaxprEqn, values: Any, indices: Any, shape: Sequence[int], fill: float = 0) -> Any:
    """Returns for each update of a scattering equation what it meets in an array.

    Args:
        eqn: The equation, of `scatter-add` or one of its kind.
        values: An array of the shape of the operand.
        indices: Where the equation scatters.
        shape: The shape of the updates.
        fill: What updates meet that fall beyond the edge.
    """
    numbers = eqn.params["dimension_numbers"]
    omitted = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    lengths = iter(shape[axis] for axis in numbers.update_window_dims)
    return lax.gather(
        values,
        indices,
        lax.GatherDimensionNumbers(
            offset_dims=numbers.update_window_dims,
            collapsed_slice_dims=numbers.inserted_window_dims,
            start_index_map=numbers.scatter_dims_to_operand_dims,
            operand_batching_dims=numbers.operand_batching_dims,
            start_indices_batching_dims=numbers.scatter_indices_batching_dims,
        ),
        [1 if axis in omitted else next(lengths) for axis in range(jnp.ndim(values))],
        mode=eqn.params["mode"],
        fill_value=fill,
    )


def targets(eqn: JaxprEqn, operand: Sequence[int], indices: Any, updates: Sequence[int]) -> Any:
    """Returns the flat place in the operand where each update of a scattering equation lands.

    Updates that fall beyond the edge have the size of the operand, a place just beyond.

    Args:
        eqn: The equation.
        operand: The shape of the operand.
        indices: Where the equation scatters; they may be traced.
        updates: The shape of the updates.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> fun = lambda x: x.at[jnp.array([2, 0])].add(1.0)
        >>> eqn = jax.make_jaxpr(fun)(jnp.zeros(3)).eqns[-1]
        >>> targets(eqn, (3,), jnp.array([[2], [0]]), (2,)).tolist()
        [2, 0]
    """
    size = _size(operand)
    places = jnp.arange(size, dtype=jnp.int32).reshape(operand)
    return met(eqn, places, jnp.asarray(indices), updates, size)


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
