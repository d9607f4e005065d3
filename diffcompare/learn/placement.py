"""Where arrays are during training: on one device, or on all those of a mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffcompare import _arguments

PyTree = Any


def checked_mesh(mesh: Any, batch_size: int) -> Mesh | None:
    """Returns the mesh with axes over which the compiler spreads what it is told.

    Raises:
        TypeError: `mesh` is not a mesh.
        ValueError: Its devices cannot share a batch equally.
    """
    _arguments.check_mesh(mesh, "batch")
    if mesh is None:
        return None
    if batch_size % mesh.size:
        raise ValueError(
            f"batch_size must be a multiple of the number of devices in the mesh, {mesh.size}, "
            f"but it is {batch_size}. Take {-(-batch_size // mesh.size) * mesh.size}."
        )
    # One with explicit axes would ask for the sharding of every operation in the loss.
    return Mesh(mesh.devices, mesh.axis_names)


def join_processes(coordinator: str, num_processes: int, process_id: int) -> None:
    """Connects this process with the others of a run, before anything else asks JAX for devices.

    Args:
        coordinator: HOST:PORT of the first of them, a port that is free.
        num_processes: How many there are.
        process_id: Which one this is, counted from 0.

    Raises:
        ValueError: There is no process of that number.
    """
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"process_id must be from 0 to {num_processes - 1}, but it is {process_id}."
        )
    # Without it, several processes on CPUs could not exchange what they computed.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes, process_id)


def everywhere(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Returns arrays that are there on every device of a mesh, also of other processes.

    Every process has to give the same ones. With None they stay where they are.
    """
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec())

    def place(leaf):
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = place(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(leaf.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place, tree)


def shared(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Returns arrays whose first axis the devices of a mesh share, within compiled code."""
    if mesh is None:
        return tree
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    return jax.lax.with_sharding_constraint(tree, jax.tree.map(lambda _: sharding, tree))


def here(tree: PyTree, mesh: Mesh | None) -> PyTree:
    """Returns the arrays that `everywhere` placed, as they are on one device of this process."""
    if mesh is None:
        return tree
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
