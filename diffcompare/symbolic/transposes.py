"""The transposes of linear operations: how weights of the outputs become weights of inputs."""

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from diffcompare._jaxpr import movement

Array = Any
Transpose = Callable[[JaxprEqn, Sequence[Array], Sequence[Array]], list[Array]]


def dot_general(
    eqn: JaxprEqn, inputs: Sequence[Array], weight: Array, active: Sequence[bool]
) -> list[Array | None]:
    """Returns the gradients of a product of arrays by its two operands, where they are active."""
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right = inputs
    letters = iter(string.ascii_letters)
    of_left = [next(letters) for _ in range(left.ndim)]
    of_right = [next(letters) for _ in range(right.ndim)]
    for i, j in zip([*left_sum, *left_batch], [*right_sum, *right_batch], strict=True):
        of_right[j] = of_left[i]
    of_output = [of_left[i] for i in left_batch]
    of_output += [c for i, c in enumerate(of_left) if i not in (*left_sum, *left_batch)]
    of_output += [c for i, c in enumerate(of_right) if i not in (*right_sum, *right_batch)]

    def gradient(other, of_other, wanted, of_wanted):
        formula = f"{''.join(of_output)},{''.join(of_other)}->{''.join(of_wanted)}"
        found = jnp.einsum(
            formula, weight, other.astype(weight.dtype), precision=eqn.params["precision"]
        )
        return found.astype(wanted.dtype)

    return [
        gradient(right, of_right, left, of_left) if active[0] else None,
        gradient(left, of_left, right, of_right) if active[1] else None,
    ]


def _reshape(eqn, inputs, weights):
    return [weights[0].reshape(jnp.shape(inputs[0]))]


def _transpose(eqn, inputs, weights):
    permutation = eqn.params["permutation"]
    return [lax.transpose(weights[0], sorted(range(len(permutation)), key=permutation.__getitem__))]


def _broadcast(eqn, inputs, weights):
    shape, axes = jnp.shape(inputs[0]), eqn.params["broadcast_dimensions"]
    kept = [axis for axis, length in zip(axes, shape, strict=True) if length > 1]
    new = [axis for axis in range(weights[0].ndim) if axis not in kept]
    return [jnp.sum(weights[0], tuple(new)).reshape(shape)]


def _reduce_sum(eqn, inputs, weights):
    shape, axes = jnp.shape(inputs[0]), eqn.params["axes"]
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    return [lax.broadcast_in_dim(weights[0], shape, kept)]


def _reverse(eqn, inputs, weights):
    return [lax.rev(weights[0], eqn.params["dimensions"])]


def _cumsum(eqn, inputs, weights):
    params = eqn.params
    return [lax.cumsum(weights[0], params["axis"], reverse=not params["reverse"])]


def _convert(eqn, inputs, weights):
    return [weights[0].astype(inputs[0].dtype)]


def _identity(eqn, inputs, weights):
    return list(weights)


def _slice(eqn, inputs, weights):
    starts = eqn.params["start_indices"]
    strides = eqn.params["strides"] or [1] * len(starts)
    padding = [
        (start, length - start - (1 + (count - 1) * stride if count else 0), stride - 1)
        for start, stride, length, count in zip(
            starts, strides, jnp.shape(inputs[0]), weights[0].shape, strict=True
        )
    ]
    return [lax.pad(weights[0], jnp.zeros((), weights[0].dtype), padding)]


def _concatenate(eqn, inputs, weights):
    axis, start, parts = eqn.params["dimension"], 0, []
    for operand in inputs:
        stop = start + jnp.shape(operand)[axis]
        parts.append(lax.slice_in_dim(weights[0], start, stop, axis=axis))
        start = stop
    return parts


def _moved(eqn, inputs, weights):
    """The general rule: every weight goes back to where its entry came from."""
    operands = [inputs[position] for position in movement.moved_operands(eqn)]
    sizes = [math.prod(jnp.shape(operand)) for operand in operands]
    pool = jnp.zeros(sum(sizes), weights[0].dtype)
    for source, weight in zip(movement.sources(eqn, inputs), weights, strict=True):
        # What was filled in has a source beyond the end, and is dropped.
        pool = pool.at[source.ravel()].add(weight.ravel(), mode="drop")
    starts = [sum(sizes[:position]) for position in range(len(sizes))]
    return [
        pool[start : start + size].reshape(jnp.shape(operand))
        for start, size, operand in zip(starts, sizes, operands, strict=True)
    ]


def _scatter_add(eqn, inputs, weights):
    met = movement.met(eqn, weights[0], inputs[1], jnp.shape(inputs[2]))
    return [weights[0], met]


def _first(eqn):
    return (0,)


def _all(eqn):
    return tuple(range(len(eqn.invars)))


_SPECIAL: dict[str, tuple[Callable[[JaxprEqn], tuple[int, ...]], Transpose]] = {
    "broadcast_in_dim": (_first, _broadcast),
    "concatenate": (_all, _concatenate),
    "convert_element_type": (_first, _convert),
    "cumsum": (_first, _cumsum),
    "reduce_sum": (_first, _reduce_sum),
    "reshape": (_first, _reshape),
    "rev": (_first, _reverse),
    "scatter-add": (lambda eqn: (0, 2), _scatter_add),
    "slice": (_first, _slice),
    "squeeze": (_first, _reshape),
    "transpose": (_first, _transpose),
}

# For every linear operation, the operands it is linear in, and its transpose.
LINEAR = {
    **dict.fromkeys(movement.MOVED, (movement.moved_operands, _moved)),
    **dict.fromkeys(movement.IDENTITIES, (_all, _identity)),
    **_SPECIAL,
}
