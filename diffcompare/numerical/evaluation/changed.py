"""An array that differs from a known one in a slab only."""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Index(NamedTuple):
    """A position along an axis that is only known when the program runs."""

    key: Hashable  # two indices with one key are the same position
    value: jax.Array  # an integer of shape ()
    is_shared: bool  # whether all directions of a batch have this position


class Changed(NamedTuple):
    """An array that is `base`, except in the slab at some position along some axes.

    Without any axis the whole array is changed. An axis of length one is never among them.
    """

    base: jax.Array  # the same for every direction
    at: Mapping[int, Index]
    new: jax.Array  # the slab: the shape of `base` without the axes of `at`

    @property
    def full(self) -> jax.Array:
        """The whole array, in the shape of `base`."""
        return widened(self, ()).new

    @property
    def delta(self) -> jax.Array:
        """What is added to the slab; zero where nothing changes, also at infinity."""
        old = take(self.base, self.at)
        return jnp.where(self.new == old, jnp.zeros_like(old), self.new - old)


Value = Any  # an array, the same for every direction, or a `Changed`


def take(array: jax.Array, at: Mapping[int, Index]) -> jax.Array:
    """Returns the slab of an array at some position along some axes, without these axes."""
    for axis in sorted(at, reverse=True):
        array = lax.dynamic_index_in_dim(array, at[axis].value, axis, keepdims=False)
    return array


def widened(value: Changed, kept: Collection[int]) -> Changed:
    """Returns the same array as a change of a larger slab, located along the axes kept only."""
    lost = {axis: index for axis, index in value.at.items() if axis not in kept}
    if not lost:
        return value
    kept_at = {axis: index for axis, index in value.at.items() if axis in kept}
    slab = take(value.base, kept_at)
    places = renumbered(range(value.base.ndim), kept_at)
    hit = jnp.ones((1,) * slab.ndim, bool)
    for axis, index in lost.items():
        hit &= lax.broadcasted_iota(jnp.int32, slab.shape, places[axis]) == index.value.astype(
            jnp.int32
        )
    new = jnp.expand_dims(value.new, [places[axis] for axis in lost])
    return Changed(value.base, kept_at, jnp.where(hit, new, slab))


def full(value: Value) -> jax.Array:
    """Returns the whole array of a value, changed or not."""
    return value.full if isinstance(value, Changed) else value


def slab(value: Value, at: Mapping[int, Index]) -> jax.Array:
    """Returns the slab of a value at axes that, where it is changed, are among its own."""
    if isinstance(value, Changed):
        return widened(value, at).new
    return take(value, at)


def common(values: Iterable[Changed]) -> dict[int, Index]:
    """Returns the axes along which all of these values are changed at one position."""
    first, *others = values
    return {
        axis: index
        for axis, index in first.at.items()
        if all(axis in other.at and other.at[axis].key == index.key for other in others)
    }


def renumbered(axes: Iterable[int], removed: Collection[int]) -> dict[int, int]:
    """Returns where each axis stands once some are removed; those have no place."""
    return {
        axis: axis - sum(gone < axis for gone in removed) for axis in axes if axis not in removed
    }
