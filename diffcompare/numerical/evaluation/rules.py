"""What each primitive does to an array that is changed in one slab.

A rule keeps the changed axes along which the primitive works position by position, and
binds the primitive on the slab. Every other axis is spread out first, except in what is
linear: there the change of the slab is pushed through, and added to the result as it was.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from diffcompare.numerical.evaluation import contraction
from diffcompare.numerical.evaluation.changed import (
    Changed,
    Index,
    Value,
    common,
    full,
    renumbered,
    slab,
    take,
    widened,
)

# Entry by entry, of operands of one shape, or of scalars beside them.
_ELEMENTWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil "
    "clamp clz complex conj convert_element_type copy copy_p cos cosh digamma div eq eq_to erf "
    "erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow is_finite le le_to "
    "lgamma log log1p logistic lt lt_to max min mul ne neg nextafter not or polygamma "
    "population_count pow real reduce_precision regularized_incomplete_beta rem round rsqrt "
    "select_n shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square "
    "stop_gradient sub tan tanh xor zeta "
)
ELEMENTWISE = frozenset(_ELEMENTWISE.split())


def apply(eqn: JaxprEqn, inputs: Sequence[Value], bases: Sequence[jax.Array]) -> list[Value] | None:
    """Returns the outputs of an equation with changed inputs, or None where it has no rule.

    Args:
        eqn: The equation.
        inputs: Its inputs, at least one of them a `Changed`.
        bases: Its outputs before the change.
    """
    name = eqn.primitive.name
    rule = _elementwise if name in ELEMENTWISE else _RULES.get(name)
    if rule is None or 0 in itertools.chain(*(jnp.shape(base) for base in bases)):
        return None
    return rule(eqn, inputs, bases)


def _bind(eqn: JaxprEqn, *operands: jax.Array, **params: Any) -> Any:
    return eqn.primitive.bind(*operands, **{**eqn.params, **params})


def _elementwise(eqn, inputs, bases):
    if len(bases) > 1:
        return None
    (base,) = bases
    changed = [value for value in inputs if isinstance(value, Changed)]
    at = common([value for value in changed if value.base.ndim == base.ndim] or changed)
    scalars = base.ndim > 0
    slabs = [full(value) if scalars and _rank(value) == 0 else slab(value, at) for value in inputs]
    return [Changed(base, at, _bind(eqn, *slabs))]


def _rank(value: Value) -> int:
    return jnp.ndim(value.base if isinstance(value, Changed) else value)


def _only_first(inputs: Sequence[Value]) -> bool:
    """Whether the first input is changed, and no other."""
    return isinstance(inputs[0], Changed) and not any(
        isinstance(value, Changed) for value in inputs[1:]
    )


def _broadcast_in_dim(eqn, inputs, bases):
    (value, *_), (base,) = inputs, bases
    axes = eqn.params["broadcast_dimensions"]
    at = {axes[axis]: index for axis, index in value.at.items()}
    shape = [length for axis, length in enumerate(base.shape) if axis not in at]
    places = renumbered(range(base.ndim), at)
    kept = [places[axes[axis]] for axis in range(value.base.ndim) if axis not in value.at]
    return [Changed(base, at, lax.broadcast_in_dim(value.new, shape, kept))]


def _reshape(eqn, inputs, bases):
    (value, *_), (base,) = inputs, bases
    if eqn.params.get("dimensions") is not None:
        return None
    at: dict[int, Index] = {}
    kept: list[int] = []
    for before, after in _groups(value.base.shape, base.shape):
        long = [axis for axis in before if value.base.shape[axis] > 1]
        if long and all(axis in value.at for axis in long):
            kept += long
            at |= _regrouped(value, long, base.shape, after)
    value = widened(value, kept)
    shape = [length for axis, length in enumerate(base.shape) if axis not in at]
    return [Changed(base, at, value.new.reshape(shape))]


def _groups(before: Sequence[int], after: Sequence[int]):
    """Yields the smallest groups of axes of both shapes that hold the same entries."""
    i = j = 0
    while i < len(before) or j < len(after):
        left: list[int] = []
        right: list[int] = []
        many, other = 1, 1
        while (not left and not right) or many != other:
            if j >= len(after) or (i < len(before) and many <= other):
                many *= before[i]
                left.append(i)
                i += 1
            else:
                other *= after[j]
                right.append(j)
                j += 1
        yield left, right


def _regrouped(value: Changed, before: list[int], shape: Sequence[int], after: list[int]):
    """Returns the position along the axes `after` of `shape`, from that along `before`."""
    indices = [value.at[axis] for axis in before]
    lengths = [value.base.shape[axis] for axis in before]
    long = [axis for axis in after if shape[axis] > 1]
    if len(before) == len(long) == 1:
        return {long[0]: indices[0]}
    is_shared = all(index.is_shared for index in indices)
    position = indices[0].value
    for index, length in zip(indices[1:], lengths[1:], strict=True):
        position = position * length + index.value
    key = tuple(zip((index.key for index in indices), lengths, strict=True))
    at = {}
    for axis in reversed(long):
        remaining = tuple(shape[other] for other in long if other >= axis)
        whole = key if len(long) == 1 else (key, remaining)
        at[axis] = Index(whole, position % shape[axis], is_shared)
        position = position // shape[axis]
    return at


def _transpose(eqn, inputs, bases):
    (value,), (base,) = inputs, bases
    order = eqn.params["permutation"]
    at = {order.index(axis): index for axis, index in value.at.items()}
    places = renumbered(range(base.ndim), value.at)
    kept = [places[axis] for axis in order if axis not in value.at]
    return [Changed(base, at, lax.transpose(value.new, kept))]


def _squeeze(eqn, inputs, bases):
    (value,), (base,) = inputs, bases
    gone = eqn.params["dimensions"]
    after = renumbered(range(value.base.ndim), gone)
    places = renumbered(range(value.base.ndim), value.at)
    at = {after[axis]: index for axis, index in value.at.items()}
    return [Changed(base, at, lax.squeeze(value.new, [places[axis] for axis in gone]))]


def _rev(eqn, inputs, bases):
    (value,), (base,) = inputs, bases
    flipped = eqn.params["dimensions"]
    at = {
        axis: Index(("rev", index.key), base.shape[axis] - 1 - index.value, index.is_shared)
        if axis in flipped
        else index
        for axis, index in value.at.items()
    }
    places = renumbered(range(base.ndim), at)
    kept = [places[axis] for axis in flipped if axis not in at]
    return [Changed(base, at, lax.rev(value.new, kept))]


def _slice(eqn, inputs, bases):
    (value,), (base,) = inputs, bases
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or (1,) * base.ndim
    value = widened(
        value, [axis for axis in value.at if strides[axis] == 1 and base.shape[axis] > 1]
    )
    kept = [axis for axis in range(base.ndim) if axis not in value.at]
    part = lax.slice(
        value.new, *([whole[axis] for axis in kept] for whole in (starts, limits, strides))
    )
    at, inside = {}, jnp.ones((), bool)
    for axis, index in value.at.items():
        if base.shape[axis] == value.base.shape[axis]:
            at[axis] = index
            continue
        moved = index.value - starts[axis]
        inside &= (moved >= 0) & (moved < base.shape[axis])
        moved = jnp.clip(moved, 0, base.shape[axis] - 1)
        at[axis] = Index(("slice", index.key, starts[axis], base.shape[axis]), moved, False)
    # Where the position lies outside, the nearest slab inside is "changed" to what it was.
    return [Changed(base, at, jnp.where(inside, part, take(base, at)))]


def _pad(eqn, inputs, bases):
    if not _only_first(inputs):
        return None
    (value, padding), (base,) = inputs, bases
    config = eqn.params["padding_config"]
    value = widened(value, [a for a in value.at if config[a][2] == 0 and min(config[a]) >= 0])
    at = {
        axis: Index(
            ("pad", index.key, config[axis]), index.value + config[axis][0], index.is_shared
        )
        if any(config[axis])
        else index
        for axis, index in value.at.items()
    }
    kept = [config[axis] for axis in range(base.ndim) if axis not in at]
    return [Changed(base, at, lax.pad(value.new, padding, kept))]


def _concatenate(eqn, inputs, bases):
    (base,) = bases
    along = eqn.params["dimension"]
    changed = [value for value in inputs if isinstance(value, Changed)]
    if len(changed) == 1 and along in changed[0].at:
        (value,) = changed
        before = itertools.takewhile(lambda other: other is not value, inputs)
        offset = sum(other.shape[along] for other in before)
        old = value.at[along]
        moved = Index(("concatenate", old.key, offset), old.value + offset, old.is_shared)
        return [Changed(base, {**value.at, along: moved}, value.new)]
    at = {axis: index for axis, index in common(changed).items() if axis != along}
    new = lax.concatenate([slab(value, at) for value in inputs], renumbered([along], at)[along])
    return [Changed(base, at, new)]


def _split(eqn, inputs, bases):
    (value,) = inputs
    axis = eqn.params["axis"]
    value = widened(value, [other for other in value.at if other != axis])
    news = _bind(eqn, value.new, axis=renumbered([axis], value.at)[axis])
    return [Changed(base, value.at, new) for base, new in zip(bases, news, strict=True)]


def _cumulative(eqn, inputs, bases):
    (value,), (base,) = inputs, bases
    axis = eqn.params["axis"]
    value = widened(value, [other for other in value.at if other != axis])
    new = _bind(eqn, value.new, axis=renumbered([axis], value.at)[axis])
    return [Changed(base, value.at, new)]


def _reduction(eqn, inputs, bases):
    (value,), (base,) = inputs, bases
    axes = eqn.params["axes"]
    value = widened(value, [axis for axis in value.at if axis not in axes])
    return [_reduced(eqn, value, value.new, base)]


def _reduce_sum(eqn, inputs, bases):
    (value,), (base,) = inputs, bases
    if value.at.keys().isdisjoint(eqn.params["axes"]):
        return [_reduced(eqn, value, value.new, base)]
    change = _reduced(eqn, value, value.delta, base)
    return [change._replace(new=take(base, change.at) + change.new)]


def _reduced(eqn, value: Changed, operand: jax.Array, base: jax.Array) -> Changed:
    """Returns a slab reduced over what it has of the axes."""
    axes = eqn.params["axes"]
    places = renumbered(range(value.base.ndim), value.at)
    after = renumbered(range(value.base.ndim), axes)
    at = {after[axis]: index for axis, index in value.at.items() if axis not in axes}
    kept = tuple(places[axis] for axis in axes if axis not in value.at)
    return Changed(base, at, _bind(eqn, operand, axes=kept) if kept else operand)


def _dynamic_slice(eqn, inputs, bases):
    if not _only_first(inputs):
        return None
    (value, *starts), (base,) = inputs, bases
    value = widened(value, [a for a in value.at if base.shape[a] == value.base.shape[a]])
    kept = [axis for axis in range(base.ndim) if axis not in value.at]
    new = lax.dynamic_slice(
        value.new, [starts[axis] for axis in kept], [base.shape[axis] for axis in kept]
    )
    return [Changed(base, value.at, new)]


def _dynamic_update_slice(eqn, inputs, bases):
    operand, update, *starts = inputs
    (base,) = bases
    if any(isinstance(start, Changed) for start in starts):
        return None
    changed = [value for value in (operand, update) if isinstance(value, Changed)]
    narrow = update.base.shape if isinstance(update, Changed) else update.shape
    at = {axis: i for axis, i in common(changed).items() if narrow[axis] == base.shape[axis]}
    kept = [starts[axis] for axis in range(base.ndim) if axis not in at]
    new = lax.dynamic_update_slice(slab(operand, at), slab(update, at), kept)
    return [Changed(base, at, new)]


def _gather(eqn, inputs, bases):
    if not _only_first(inputs):
        return None
    (value, indices), (base,) = inputs, bases
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    batching = tuple(numbers.operand_batching_dims)
    offsets = [
        axis
        for axis in range(value.base.ndim)
        if axis not in numbers.collapsed_slice_dims and axis not in batching
    ]
    out_axis = dict(zip(offsets, numbers.offset_dims, strict=True))
    value = widened(
        value,
        [
            axis
            for axis in offsets
            if axis in value.at
            and axis not in numbers.start_index_map
            and sizes[axis] == value.base.shape[axis]
        ],
    )
    places = renumbered(range(value.base.ndim), value.at)
    at = {out_axis[axis]: index for axis, index in value.at.items()}
    out_places = renumbered(range(base.ndim), at)
    new = _bind(
        eqn,
        value.new,
        indices,
        dimension_numbers=numbers._replace(
            offset_dims=tuple(out_places[out_axis[a]] for a in offsets if a not in value.at),
            collapsed_slice_dims=tuple(places[a] for a in numbers.collapsed_slice_dims),
            start_index_map=tuple(places[a] for a in numbers.start_index_map),
            operand_batching_dims=tuple(places[a] for a in batching),
        ),
        slice_sizes=tuple(size for axis, size in enumerate(sizes) if axis not in value.at),
    )
    return [Changed(base, at, new)]


def _reduce_window(eqn, inputs, bases):
    if not _only_first(inputs):
        return None
    (value, *_), (base,) = inputs, bases
    params = eqn.params
    still = {"window_dimensions": 1, "window_strides": 1, "base_dilation": 1, "window_dilation": 1}
    value = widened(
        value,
        [
            axis
            for axis in value.at
            if all(params[name][axis] == one for name, one in still.items())
            and not any(params["padding"][axis])
        ],
    )
    changes = {
        name: tuple(entry for axis, entry in enumerate(params[name]) if axis not in value.at)
        for name in (*still, "padding")
    }
    return [Changed(base, value.at, _bind(eqn, value.new, *inputs[1:], **changes))]


_RULES: dict[str, Callable[..., list[Value] | None]] = {
    "argmax": _reduction,
    "argmin": _reduction,
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "conv_general_dilated": contraction.convolution,
    "cumlogsumexp": _cumulative,
    "cummax": _cumulative,
    "cummin": _cumulative,
    "cumprod": _cumulative,
    "cumsum": _cumulative,
    "dot_general": contraction.product,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "pad": _pad,
    "reduce_and": _reduction,
    "reduce_max": _reduction,
    "reduce_min": _reduction,
    "reduce_or": _reduction,
    "reduce_prod": _reduction,
    "reduce_sum": _reduce_sum,
    "reduce_window_max": _reduce_window,
    "reduce_window_min": _reduce_window,
    "reduce_window_sum": _reduce_window,
    "reduce_xor": _reduction,
    "reshape": _reshape,
    "rev": _rev,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "transpose": _transpose,
}
