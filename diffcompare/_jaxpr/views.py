"""Primitives that move entries by a fixed pattern, as NumPy does them: nothing is compiled."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def moved(eqn: Any, inputs: Sequence[Array]) -> list[Array] | None:
    """Returns the outputs of an equation that moves entries, None where it is not one of these.

    Args:
        eqn: The equation.
        inputs: Its operands; those that are moved are all of one kind of entries.

    Example:
        >>> import jax
        >>> eqn = jax.make_jaxpr(lambda x: x.T)(np.zeros((2, 3))).eqns[0]
        >>> moved(eqn, [np.arange(6).reshape(2, 3)])[0].tolist()
        [[0, 3], [1, 4], [2, 5]]
    """
    rule = _RULES.get(eqn.primitive.name)
    if rule is None:
        return None
    found = rule(eqn, *inputs)
    return found if isinstance(found, list) else [found]


def _reshape(eqn, x, *sizes):
    if eqn.params.get("dimensions") is not None:
        x = x.transpose(eqn.params["dimensions"])
    return x.reshape(eqn.outvars[0].aval.shape)


def _broadcast_in_dim(eqn, x, *sizes):
    shape = eqn.outvars[0].aval.shape
    spread = [1] * len(shape)
    for axis, length in zip(eqn.params["broadcast_dimensions"], x.shape, strict=True):
        spread[axis] = length
    return np.broadcast_to(x.reshape(spread), shape)


def _slice(eqn, x):
    params = eqn.params
    strides = params["strides"] or [None] * x.ndim
    starts, limits = params["start_indices"], params["limit_indices"]
    return _cut(x, *(slice(*each) for each in zip(starts, limits, strides, strict=True)))


def _cut(x, *slices):
    return x[(*slices, ...)]  # the dots keep an array of shape ()


def _pad(eqn, x, filling):
    whole = np.empty(eqn.outvars[0].aval.shape, x.dtype)
    whole[...] = filling[()]
    into: list[slice] = []
    out_of: list[slice] = []
    for (low, _, gap), length, size in zip(
        eqn.params["padding_config"], x.shape, whole.shape, strict=True
    ):
        step = gap + 1
        first = max(0, -(low // step))  # the first entry that is not cut off
        stop = min(length, max(first, -((low - size) // step)))
        start = low + first * step
        out_of.append(slice(first, stop))
        into.append(slice(start, start + (stop - first - 1) * step + 1, step) if stop > first
                    else slice(0, 0))  # fmt: skip
    whole[tuple(into)] = x[tuple(out_of)]
    return whole


def _window(indices, shape, sizes):
    """Returns the slices of a window, moved inside where it begins too far out."""
    starts = [
        min(max(int(index), 0), length - size)
        for index, length, size in zip(indices, shape, sizes, strict=True)
    ]
    return [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def _dynamic_slice(eqn, x, *indices):
    sizes = eqn.params["slice_sizes"]
    return _cut(x, *_window(indices[: x.ndim], x.shape, sizes))


def _dynamic_update_slice(eqn, x, update, *indices):
    whole = x.copy()
    whole[(*_window(indices, x.shape, update.shape), ...)] = update
    return whole


def _split(eqn, x):
    return np.split(x, np.cumsum(eqn.params["sizes"])[:-1], eqn.params["axis"])


def _unstack(eqn, x):
    rows = np.moveaxis(x, eqn.params["axis"], 0)
    return [rows[number, ...] for number in range(len(rows))]


_RULES: Mapping[str, Callable[..., Array | list[Array]]] = {
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": lambda eqn, *xs: np.concatenate(xs, eqn.params["dimension"]),
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "pad": _pad,
    "reshape": _reshape,
    "rev": lambda eqn, x: np.flip(x, eqn.params["dimensions"]),
    "slice": _slice,
    "split": _split,
    "squeeze": lambda eqn, x: x.reshape(eqn.outvars[0].aval.shape),
    "stack": lambda eqn, *xs: np.stack(xs, eqn.params["axis"]),
    "tile": lambda eqn, x: np.tile(x, eqn.params["reps"]),
    "transpose": lambda eqn, x: x.transpose(eqn.params["permutation"]),
    "unstack": _unstack,
}
