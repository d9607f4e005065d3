"""How the values of a function at many perturbed points are found: densely, or incrementally."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffcompare import _tree
from diffcompare.numerical.evaluation.blocks import Blocks
from diffcompare.numerical.evaluation.cost import Cost, estimate
from diffcompare.numerical.evaluation.incremental import Trace

PyTree = Any

# How many bytes of intermediate values are in flight at once, and how many points. On a CPU
# they should stay in the second-level cache, and of what is computed incrementally most is
# fused away; an accelerator wants to be filled.
_CPU_BYTES = {"dense": 2**20, "incremental": 2**22}
_CPU_POINTS = 256
_ACCELERATOR_BYTES, _ACCELERATOR_POINTS = 2**28, 4096
# Estimates are rough. What is evaluated incrementally has to promise this much of the time.
_WORTHWHILE = 0.8
# Beside the equations of the function, a block of directions takes this many nanoseconds.
_BLOCK = 3000.0


class Plan(NamedTuple):
    """How a function is evaluated where one entry of a leaf is replaced."""

    at: Callable  # of the row, the flat position and the new value; the row is not batched
    blocks: Blocks
    time: float  # nanoseconds a direction, estimated


def of_leaves(
    fun: Callable, x: PyTree, strategy: str, points: int, batch: int | None
) -> Iterator[Plan | None]:
    """Yields a plan for every leaf of `x`, and None for a leaf without entries.

    Args:
        fun: Function of one pytree.
        x: Where it is evaluated.
        strategy: "dense" or "incremental"; "auto" takes for each leaf what promises to be faster.
        points: At how many points a direction is evaluated.
        batch: How many directions are followed at once, or None for what suits the memory.
    """
    trace = None
    if strategy != "dense" and jax.tree.leaves(x):
        # What a function does beside would be done once, and not at every point.
        trace = Trace.of(fun, x, effects=strategy == "incremental")
    for number, (leaf, of_leaf) in enumerate(_tree.functions_of_leaves(fun, x)):
        if leaf.size == 0:
            yield None
            continue
        make = functools.partial(_plan, leaf=leaf, points=points, batch=batch)
        found = [] if trace is None else list(_incremental(make, trace, number, leaf))
        best = min(found, key=lambda plan: plan.time, default=None)
        if best is not None and strategy == "incremental":
            yield best
            continue
        dense = make(functools.partial(_replaced, of_leaf, leaf), None, "dense")
        is_worthwhile = best is not None and best.time < _WORTHWHILE * dense.time
        yield best if is_worthwhile else dense


def _replaced(fun: Callable, leaf: jax.Array, row, position, value) -> PyTree:
    # A comparison with all positions is fused into what reads the leaf; a scatter is not.
    positions = jnp.arange(leaf.size, dtype=position.dtype).reshape(leaf.shape)
    return fun(jnp.where(positions == position, value, leaf))


def _incremental(make: Callable, trace: Trace, number: int, leaf: jax.Array) -> Iterator[Plan]:
    long = [axis for axis, length in enumerate(leaf.shape) if length > 1]
    for shared in (None, *long) if len(long) > 1 else (None,):
        yield make(trace.at_entry(number, shared), shared, "incremental")


def _plan(
    at: Callable,
    shared: int | None,
    strategy: str,
    *,
    leaf: jax.Array,
    points: int,
    batch: int | None,
) -> Plan:
    """Returns the plan whose batch suits the memory, with its time."""
    inner = leaf.size if shared is None else leaf.size // leaf.shape[shared]
    guess = min(inner, batch or 16)
    cost = _cost(at, leaf, guess * points)
    if batch is None:
        on_cpu = jax.default_backend() == "cpu"
        room = _CPU_BYTES[strategy] if on_cpu else _ACCELERATOR_BYTES
        most = _CPU_POINTS if on_cpu else _ACCELERATOR_POINTS
        batch = min(room * guess // max(1, cost.memory), most // points)
    batch = max(1, min(batch, inner))
    time = cost.work / guess + (cost.dispatch + _BLOCK) / batch
    return Plan(at, Blocks(leaf.shape, shared, batch), time)


def _cost(at: Callable, leaf: jax.Array, points: int) -> Cost:
    like = jax.ShapeDtypeStruct
    return estimate(
        jax.make_jaxpr(jax.vmap(at, in_axes=(None, 0, 0)))(
            like((), jnp.int32), like((points,), jnp.int32), like((points,), leaf.dtype)
        )
    )
