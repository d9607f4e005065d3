"""Where gathering and scattering find their entries, where the indices are known: by NumPy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax

Array = np.ndarray


def gathered(eqn: Any, shape: Sequence[int], indices: Any) -> Array:
    """Returns the flat place of every entry of a `gather`, the size where it is filled in.

    Args:
        eqn: The equation.
        shape: The shape of the operand.
        indices: Where the equation gathers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> take = lambda x: x.at[jnp.array([2, 0])].get(mode="clip")
        >>> eqn = jax.make_jaxpr(take)(jnp.zeros(3)).eqns[-1]
        >>> gathered(eqn, (3,), np.array([[2], [0]])).tolist()
        [2, 0]
    """
    params = eqn.params
    return _places(
        params["dimension_numbers"], params["slice_sizes"], params["mode"], shape, indices
    )


def scattered(eqn: Any, shape: Sequence[int], indices: Any, updates: Sequence[int]) -> Array:
    """Returns the flat place where every update of a scattering equation lands.

    Updates that fall beyond the edge have the size of the operand, a place just beyond.

    Args:
        eqn: The equation, of `scatter` or one of its kind.
        shape: The shape of the operand.
        indices: Where the equation scatters.
        updates: The shape of the updates.
    """
    numbers = eqn.params["dimension_numbers"]
    omitted = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    lengths = iter(updates[axis] for axis in numbers.update_window_dims)
    sizes = [1 if axis in omitted else next(lengths) for axis in range(len(shape))]
    as_gather = lax.GatherDimensionNumbers(
        offset_dims=numbers.update_window_dims,
        collapsed_slice_dims=numbers.inserted_window_dims,
        start_index_map=numbers.scatter_dims_to_operand_dims,
        operand_batching_dims=numbers.operand_batching_dims,
        start_indices_batching_dims=numbers.scatter_indices_batching_dims,
    )
    return _places(as_gather, sizes, eqn.params["mode"], shape, indices)


def _places(numbers, sizes, mode, shape, indices) -> Array:
    indices = np.asarray(indices).astype(np.int64)
    batch = indices.shape[:-1]
    starts = np.zeros((*batch, len(shape)), np.int64)
    for column, axis in enumerate(numbers.start_index_map):
        starts[..., axis] = indices[..., column]
    for axis, of_indices in zip(
        numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True
    ):
        spread = [-1 if place == of_indices else 1 for place in range(len(batch))]
        starts[..., axis] = np.arange(batch[of_indices]).reshape(spread)
    last = np.array(shape, np.int64) - np.array(sizes, np.int64)
    is_inside = np.all((starts >= 0) & (starts <= last), axis=-1)
    starts = np.clip(starts, 0, last)  # what the machine does where nothing is filled in

    strides = np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], np.int64)
    rank = len(batch) + len(numbers.offset_dims)
    of_batch = [axis for axis in range(rank) if axis not in numbers.offset_dims]

    def spread_batch(array):
        lengths = [1] * rank
        for axis, length in zip(of_batch, batch, strict=True):
            lengths[axis] = length
        return array.reshape(lengths)

    places = spread_batch(np.sum(starts * strides, axis=-1))
    omitted = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    windows = [axis for axis in range(len(shape)) if axis not in omitted]
    for axis, into in zip(windows, numbers.offset_dims, strict=True):
        lengths = [1] * rank
        lengths[into] = sizes[axis]
        places = places + (np.arange(sizes[axis]) * strides[axis]).reshape(lengths)
    if mode != lax.GatherScatterMode.FILL_OR_DROP:
        return places
    return np.where(spread_batch(is_inside), places, math.prod(shape))
