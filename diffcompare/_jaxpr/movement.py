"""Primitives that only move entries: one rule for them all.

A primitive such as `transpose` or `gather` does the same whatever the entries are. Bound
on integers that count the entries, it says where each entry of its output comes from, and
no kind of value needs a rule of its own.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
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


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
