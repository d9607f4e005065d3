"""Products and convolutions of an array that is changed in one slab."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn

from diffcompare.numerical.evaluation.changed import Changed, Value, renumbered, take, widened


class _Side(NamedTuple):
    """One operand of a `dot_general`."""

    value: Value
    summed: tuple[int, ...]
    batch: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.base.shape if isinstance(self.value, Changed) else self.value.shape

    @property
    def free(self) -> list[int]:
        return [a for a in range(len(self.shape)) if a not in (*self.summed, *self.batch)]


def product(eqn: JaxprEqn, inputs: Sequence[Value], bases: Sequence[jax.Array]) -> list[Value]:
    """Returns the output of `dot_general`, of which one or both operands are changed."""
    (base,) = bases
    summed, batch = eqn.params["dimension_numbers"]
    sides = [_Side(*parts) for parts in zip(inputs, summed, batch, strict=True)]
    if all(isinstance(value, Changed) for value in inputs):
        return [_of_two(eqn, sides, base)]
    which = 0 if isinstance(inputs[0], Changed) else 1
    return [_of_one(eqn, sides, which, base)]


def _of_one(eqn, sides: list[_Side], which: int, base: jax.Array) -> Changed:
    """Returns the product where one operand is changed.

    Free and batch axes of the change are axes of the product. Over the others the change is
    contracted, with the slab of the other operand that it meets.
    """
    side, other = sides[which], sides[1 - which]
    value = side.value
    partner = {
        theirs: value.at[mine]
        for mine, theirs in zip(
            (*side.summed, *side.batch), (*other.summed, *other.batch), strict=True
        )
        if mine in value.at
    }
    first = len(side.batch) + (len(other.free) if which == 1 else 0)
    out_axis = dict(zip(side.batch, range(len(side.batch)), strict=True))
    out_axis |= {axis: first + place for place, axis in enumerate(side.free)}
    at = {out_axis[axis]: index for axis, index in value.at.items() if axis in out_axis}
    is_update = any(axis in side.summed for axis in value.at)
    slabs = [value.delta if is_update else value.new, take(other.value, partner)]
    new = _dot(eqn, slabs, [side, other], [value.at, partner], which)
    if is_update:
        new = take(base, at) + new.astype(base.dtype)
    return Changed(base, at, new)


def _of_two(eqn, sides: list[_Side], base: jax.Array) -> Changed:
    """Returns the product where both operands are changed; common batch axes are kept."""
    left, right = sides
    pairs = [
        (place, a, b)
        for place, (a, b) in enumerate(zip(left.batch, right.batch, strict=True))
        if a in left.value.at and b in right.value.at
        if left.value.at[a].key == right.value.at[b].key
    ]
    at = {place: left.value.at[a] for place, a, _ in pairs}
    removed = [{a for _, a, _ in pairs}, {b for _, _, b in pairs}]
    slabs = [widened(side.value, gone).new for side, gone in zip(sides, removed, strict=True)]
    return Changed(base, at, _dot(eqn, slabs, sides, removed, 0))


def _dot(eqn, slabs, sides, removed, which: int) -> jax.Array:
    """Returns the product of slabs, whose axes are those of the sides but for some.

    Args:
        eqn: The equation, for its precision.
        slabs: Of either side.
        sides: In the order of the slabs.
        removed: The axes that the slabs lack.
        which: Where the first slab stands in the equation, 0 or 1.
    """
    places = [
        renumbered(range(len(side.shape)), gone) for side, gone in zip(sides, removed, strict=True)
    ]
    summed = _left(places, [side.summed for side in sides])
    batch = _left(places, [side.batch for side in sides])
    if not summed[0]:
        return _outer(slabs, batch, which, eqn.params["preferred_element_type"])
    if which == 1:
        slabs, summed, batch = slabs[::-1], summed[::-1], batch[::-1]
    first, second = slabs
    return lax.dot_general(
        first,
        second,
        (summed, batch),
        precision=eqn.params["precision"],
        preferred_element_type=eqn.params["preferred_element_type"],
    )


def _left(places, groups) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns where the axes of both sides stand that are left."""
    first, second = (
        tuple(place[axis] for axis in axes if axis in place)
        for place, axes in zip(places, groups, strict=True)
    )
    return first, second


def _outer(slabs, batch, which: int, dtype: Any) -> jax.Array:
    """Returns the product of every entry with every entry, but for the batch axes.

    A loop over entries serves better here than a call of a matrix product.
    """
    if dtype is not None:
        slabs = [part.astype(dtype) for part in slabs]
    if which == 1:
        slabs, batch = slabs[::-1], batch[::-1]
    left, right = (
        part.transpose(*axes, *(a for a in range(part.ndim) if a not in axes))
        for part, axes in zip(slabs, batch, strict=True)
    )
    count = len(batch[0])
    left = jnp.expand_dims(left, tuple(range(left.ndim, left.ndim + right.ndim - count)))
    right = jnp.expand_dims(right, tuple(range(count, count + left.ndim - right.ndim)))
    return left * right


def convolution(
    eqn: JaxprEqn, inputs: Sequence[Value], bases: Sequence[jax.Array]
) -> list[Value] | None:
    """Returns the output of a convolution with one changed operand, or None without a rule."""
    params, (base,) = eqn.params, bases
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return None
    if all(isinstance(value, Changed) for value in inputs):
        return None
    images, kernel = inputs
    if isinstance(images, Changed):
        return [_of_changed_images(eqn, images, kernel, base)]
    return [_of_changed_kernel(eqn, images, kernel, base)]


def _convolve(eqn, images: jax.Array, kernel: jax.Array) -> jax.Array:
    params = eqn.params
    return lax.conv_general_dilated(
        images,
        kernel,
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        params["dimension_numbers"],
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )


def _of_changed_images(eqn, images: Changed, kernel: jax.Array, base: jax.Array) -> Changed:
    numbers = eqn.params["dimension_numbers"]
    example, feature = numbers.lhs_spec[:2]
    # A kernel that differs from direction to direction would be a grouped convolution, which
    # is slow: then the change is spread out instead.
    kept = [
        axis
        for axis in images.at
        if axis == example or (axis == feature and images.at[axis].is_shared)
    ]
    images = widened(images, kept)
    at = {numbers.out_spec[0]: images.at[example]} if example in images.at else {}
    if feature not in images.at:
        new = _convolve(eqn, jnp.expand_dims(images.new, list(images.at)), kernel)
        return Changed(base, at, jnp.squeeze(new, list(at)))
    of_kernel = numbers.rhs_spec[1]
    met = lax.dynamic_slice_in_dim(kernel, images.at[feature].value, 1, of_kernel)
    change = _convolve(eqn, jnp.expand_dims(images.delta, sorted(images.at)), met)
    new = take(base, at) + jnp.squeeze(change, list(at))
    return Changed(base, at, new)


def _of_changed_kernel(eqn, images: jax.Array, kernel: Changed, base: jax.Array) -> Changed:
    numbers = eqn.params["dimension_numbers"]
    out_feature, in_feature, *spatial = numbers.rhs_spec
    is_entry = all(a in kernel.at for a in (in_feature, *spatial) if kernel.base.shape[a] > 1)
    if not is_entry:
        kernel = widened(kernel, [axis for axis in kernel.at if axis == out_feature])
        at = {numbers.out_spec[1]: kernel.at[out_feature]} if kernel.at else {}
        new = _convolve(eqn, images, jnp.expand_dims(kernel.new, list(kernel.at)))
        return Changed(base, at, jnp.squeeze(new, list(at)))
    at = {}
    if out_feature in kernel.at:
        at = {numbers.out_spec[1]: kernel.at[out_feature]}
    if kernel.base.shape[out_feature] > 1 and not at:
        kernel = widened(kernel, ())
        return Changed(base, {}, _convolve(eqn, images, kernel.new))
    seen = _seen_by_entry(eqn, images, kernel, base)  # (batch, *spatial)
    order = [
        axis - (axis > numbers.out_spec[1]) for axis in (numbers.out_spec[0], *numbers.out_spec[2:])
    ]
    seen = seen.transpose(*(order.index(axis) for axis in range(seen.ndim)))
    change = (kernel.delta.reshape(()).astype(base.dtype)) * seen.astype(base.dtype)
    if not at:  # one output feature only, along an axis of length one
        change = jnp.expand_dims(change, numbers.out_spec[1])
    return Changed(base, at, take(base, at) + change)


def _seen_by_entry(eqn, images: jax.Array, kernel: Changed, base: jax.Array) -> jax.Array:
    """Returns what one entry of the kernel is multiplied by, of shape `(batch, *spatial)`."""
    params, numbers = eqn.params, eqn.params["dimension_numbers"]
    _, in_feature, *spatial = numbers.rhs_spec
    ordered = images.transpose(numbers.lhs_spec)
    if in_feature in kernel.at:
        ordered = take(ordered, {1: kernel.at[in_feature]})
    else:
        ordered = ordered[:, 0]
    config = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(params["padding"], params["lhs_dilation"], strict=True)
    ]
    padded = lax.pad(ordered, jnp.zeros((), ordered.dtype), [(0, 0, 0), *config])
    for place, axis in enumerate(spatial):
        count = base.shape[numbers.out_spec[2 + place]]
        span = (count - 1) * params["window_strides"][place] + 1
        start = kernel.at[axis].value * params["rhs_dilation"][place] if axis in kernel.at else 0
        padded = lax.dynamic_slice_in_dim(padded, start, span, place + 1)
        padded = lax.slice_in_dim(padded, 0, span, params["window_strides"][place], axis=place + 1)
    return padded
