"""In what order the entries of an array are perturbed, how many at once, and where."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

PyTree = Any


class Blocks(NamedTuple):
    """A way to divide the entries of an array of some shape into blocks of equal size."""

    shape: tuple[int, ...]
    shared: int | None  # the axis along which all entries of a block have one position
    batch: int  # at most so many entries a block

    @property
    def rows(self) -> int:
        """How many positions there are along the shared axis."""
        return 1 if self.shared is None else self.shape[self.shared]

    @property
    def chunks(self) -> int:
        """How many blocks the entries of one position are divided into."""
        return -(-(math.prod(self.shape) // self.rows) // self.batch)

    def row(self, position: jax.Array) -> jax.Array:
        """Returns the position of an entry along the shared axis, from its flat position."""
        if self.shared is None:
            return jnp.zeros((), position.dtype)
        return position // math.prod(self.shape[self.shared + 1 :]) % self.rows

    def positions(self) -> jax.Array:
        """Returns the flat positions of the entries of every block, of shape `(blocks, size)`.

        Blocks are made equal; the last of a row is filled up with its last entry.
        """
        count = math.prod(self.shape)
        table = jnp.arange(count, dtype=jnp.int32).reshape(self.shape)
        if self.shared is not None:
            table = jnp.moveaxis(table, self.shared, 0)
        table = table.reshape(self.rows, -1)
        size = -(-table.shape[1] // self.chunks)
        missing = self.chunks * size - table.shape[1]
        table = jnp.pad(table, ((0, 0), (0, missing)), mode="edge")
        return table.reshape(self.rows * self.chunks, size)

    def in_order(self, results: jax.Array) -> jax.Array:
        """Returns results of shape `(blocks, size, ...)` as `(entries, ...)`, in their order."""
        out = results.shape[2:]
        inner = math.prod(self.shape) // self.rows
        results = results.reshape(self.rows, -1, *out)[:, :inner]
        if self.shared is not None:
            others = [length for axis, length in enumerate(self.shape) if axis != self.shared]
            results = jnp.moveaxis(results.reshape(self.rows, *others, *out), 0, self.shared)
        return results.reshape(self.rows * inner, *out)


def map_blocks(parts: Sequence[tuple[Callable, Blocks]], mesh: Mesh | None) -> list[PyTree]:
    """Returns functions of every entry's flat position, computed a block at a time.

    Args:
        parts: Functions and what they go over. A function takes positions of shape
            `(size,)` and returns a pytree of arrays of shape `(size, ...)`.
        mesh: The devices over which the blocks are spread; None is one device.

    Returns:
        For every function a pytree of arrays of shape `(entries, ...)`, in the order of the
        entries. Every device has all of it.
    """
    functions = [function for function, _ in parts]
    tables = [blocks.positions() for _, blocks in parts]
    if mesh is None:
        results = [_map(*part) for part in zip(functions, tables, strict=True)]
    else:
        results = _map_over_devices(functions, tables, mesh)
    return [
        jax.tree.map(blocks.in_order, result)
        for (_, blocks), result in zip(parts, results, strict=True)
    ]


def _map(function: Callable, table: jax.Array) -> PyTree:
    if len(table) == 1:
        return jax.tree.map(lambda y: y[None], function(table[0]))
    return jax.lax.map(function, table)


def _map_over_devices(functions: list[Callable], tables: list[jax.Array], mesh: Mesh):
    counts = [len(table) for table in tables]
    shares = [-(-count // mesh.size) for count in counts]
    tables = [
        jnp.pad(table, ((0, share * mesh.size - len(table)), (0, 0)), mode="edge")
        for table, share in zip(tables, shares, strict=True)
    ]

    def of_device(tables):
        # Every device is given all positions and takes its own: that suits meshes of every
        # kind of axis, where a division beforehand would have to know the kind.
        number = jax.lax.axis_index(mesh.axis_names)
        results = [
            jax.lax.map(function, jax.lax.dynamic_slice_in_dim(table, number * share, share))
            for function, table, share in zip(functions, tables, shares, strict=True)
        ]
        # A device that went on to an exchange while another still computes would wait.
        results = jax.lax.optimization_barrier(results)
        return jax.tree.map(
            lambda y: jax.lax.all_gather(y, mesh.axis_names, axis=0, tiled=True), results
        )

    everything = PartitionSpec()
    spread = jax.shard_map(
        of_device, mesh=mesh, in_specs=everything, out_specs=everything, check_vma=False
    )
    return [
        jax.tree.map(lambda y, count=count: y[:count], result)
        for result, count in zip(spread(tables), counts, strict=True)
    ]
