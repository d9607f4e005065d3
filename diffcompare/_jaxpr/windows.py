"""Convolution and pooling in terms of slices and one product or reduction.

A window that slides over an array is written as one strided slice for each place in the
window, stacked: what is then done to the stack is a product of arrays, a sum, or a choice.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun

from diffcompare._jaxpr import walk

Array = Any
Function = Callable[..., Any]


def convolution(eqn: Any) -> Function:
    """Returns `conv_general_dilated` as a product of arrays, for any layout and any groups."""
    params = eqn.params
    numbers, strides = params["dimension_numbers"], params["window_strides"]
    of_batches, of_features = params["batch_group_count"], params["feature_group_count"]
    output_shape = eqn.outvars[0].aval.shape
    spaces = tuple(output_shape[axis] for axis in numbers.out_spec[2:])

    def convolve(images, kernel):
        images = lax.transpose(images, numbers.lhs_spec)  # batch, feature, space ...
        kernel = lax.transpose(kernel, numbers.rhs_spec)  # output, input, space ...
        edges = [(0, 0), (0, 0), *params["padding"]]
        gaps = [1, 1, *params["lhs_dilation"]]
        patches = _patches(
            _padded(images, 0, edges, gaps),
            kernel.shape[2:],
            strides,
            params["rhs_dilation"],
            spaces,
        )  # places, batch, feature, space ...
        groups = of_batches * of_features
        places, batch, features = patches.shape[:3]
        if of_batches > 1:
            grouped = patches.reshape(places, groups, batch // groups, features, *spaces)
            grouped = jnp.moveaxis(grouped, 1, 2)
            batch //= groups
        else:
            grouped = patches.reshape(places, batch, groups, features // groups, *spaces)
        # The summed axes are places and features, the common axis is the group.
        outputs, inputs = kernel.shape[:2]
        kernels = kernel.reshape(groups, outputs // groups, inputs, places)
        product = lax.dot_general(
            grouped,
            kernels,
            (((0, 3), (3, 2)), ((2,), (0,))),
            precision=params["precision"],
            preferred_element_type=params["preferred_element_type"],
        )  # group, batch, space ..., output
        product = jnp.moveaxis(product, (0, -1), (1, 2)).reshape(batch, outputs, *spaces)
        back = sorted(range(product.ndim), key=numbers.out_spec.__getitem__)
        return lax.transpose(product, back)

    return convolve


def window_sum(eqn: Any) -> Function:
    """Returns `reduce_window_sum` as a sum of slices."""
    return lambda x: jnp.sum(_windows(eqn, x, 0), 0, dtype=x.dtype)


def window_extreme(eqn: Any) -> Function:
    """Returns `reduce_window_max` or `_min` as a chain of choices; the first of equals is taken.

    JAX gives the whole slope to the first of several largest entries.
    """
    better = lax.ge if eqn.primitive.name == "reduce_window_max" else lax.le

    def extreme(x):
        windows = _windows(eqn, x, _worst(better, x.dtype))
        return functools.reduce(lambda best, new: _better(better, best, new)[0], windows)

    return extreme


def window_reduction(eqn: Any) -> Function:
    """Returns the general `reduce_window` as its own function of two, along the slices."""
    combine = _of_arrays(walk.close(eqn.params["jaxpr"]), eqn.params.get("consts", ()))
    count = len(eqn.outvars)

    def reduction(*inputs):
        operands, starts = inputs[:count], inputs[count:]
        windows = [_windows(eqn, x, s) for x, s in zip(operands, starts, strict=True)]
        shape = eqn.outvars[0].aval.shape
        total = [jnp.broadcast_to(start, shape) for start in starts]
        for entries in zip(*windows, strict=True):
            total = combine(*total, *entries)
        return total

    return reduction


def reduction(eqn: Any) -> Function:
    """Returns the general `reduce` as its own function of two, along the entries."""
    combine = _of_arrays(walk.close(eqn.params["jaxpr"]), ())
    axes = tuple(eqn.params["dimensions"])
    count = len(eqn.outvars)

    def reduce(*inputs):
        shape = eqn.outvars[0].aval.shape
        rows = [jnp.moveaxis(x, axes, range(len(axes))).reshape(-1, *shape) for x in inputs[:count]]
        total = [jnp.broadcast_to(start, shape) for start in inputs[count:]]
        for entries in zip(*rows, strict=True):
            total = combine(*total, *entries)
        return total

    return reduce


def select_and_scatter_add(eqn: Any) -> Function:
    """Returns the transpose of pooling by the largest: each weight goes to the entry chosen."""
    params, better = eqn.params, _comparison(eqn)
    operand = eqn.invars[1].aval
    dimensions, strides = params["window_dimensions"], params["window_strides"]

    def scatter(source, x):
        edges = params["padding"]
        padded = _padded(x, _worst(better, x.dtype), edges, [1] * x.ndim)
        ones = [1] * x.ndim
        windows = _patches(padded, dimensions, strides, ones, source.shape)
        zero = jnp.zeros((), source.dtype)
        total = jnp.zeros(operand.shape, source.dtype)
        places = itertools.product(*map(range, dimensions))
        for place, chosen in zip(places, _chosen(better, windows), strict=True):
            weights = jnp.where(chosen, source, zero)
            spread = [
                (start - low, size + low - start - (1 + (count - 1) * stride), stride - 1)
                for start, (low, _), size, count, stride in zip(
                    place, edges, operand.shape, source.shape, strides, strict=True
                )
            ]
            total = total + lax.pad(weights, zero, spread)
        return total

    return scatter


def select_and_gather_add(eqn: Any) -> Function:
    """Returns the slope of pooling by the largest: that of the entry chosen."""
    better = _comparison(eqn)

    def gather(tangents, x):
        slopes = _windows(eqn, tangents, 0)
        windows = _windows(eqn, x, _worst(better, x.dtype))
        zero = jnp.zeros((), tangents.dtype)
        return sum(
            jnp.where(chosen, slope, zero)
            for chosen, slope in zip(_chosen(better, windows), slopes, strict=True)
        )

    return gather


def _comparison(eqn):
    return lax.ge if eqn.params["select_prim"].name == "ge" else lax.le


def _worst(better, dtype):
    if jnp.issubdtype(dtype, jnp.floating):
        return -jnp.inf if better is lax.ge else jnp.inf
    info = jnp.iinfo(dtype)
    return info.min if better is lax.ge else info.max


def _better(better, best, new):
    """Returns the better of two arrays, and where it is the first; a NaN is better than all."""
    keep = better(best, new) | (best != best)
    return jnp.where(keep, best, new), keep


def _chosen(better, windows):
    """Returns for each place of the window whether its entry is the first of the best."""
    best, kept = windows[0], []
    for new in windows[1:]:
        best, keep = _better(better, best, new)
        kept.append(keep)
    chosen, later = [], jnp.ones(best.shape, bool)  # whether nothing later is better
    for keep in reversed(kept):
        chosen.append(later & ~keep)
        later = later & keep
    return [later, *reversed(chosen)]


def _windows(eqn, x, filled):
    """Returns the entries at each place of the window, stacked along a new first axis."""
    params = eqn.params
    padded = _padded(x, filled, params["padding"], params.get("base_dilation", [1] * x.ndim))
    return _patches(
        padded,
        params["window_dimensions"],
        params["window_strides"],
        params.get("window_dilation", [1] * x.ndim),
        eqn.outvars[0].aval.shape,
    )


def _padded(x, filled, edges, gaps):
    padding = [(low, high, gap - 1) for (low, high), gap in zip(edges, gaps, strict=True)]
    return lax.pad(x, jnp.asarray(filled, x.dtype), padding) if any(map(any, padding)) else x


def _patches(x, dimensions, strides, dilation, spaces):
    """Returns a strided slice for each place of a window over the last axes, stacked."""
    lead = x.ndim - len(dimensions)

    def at(place):
        starts = [i * gap for i, gap in zip(place, dilation, strict=True)]
        stops = [
            start + (count - 1) * stride + 1 if count else start
            for start, count, stride in zip(starts, spaces, strides, strict=True)
        ]
        head = list(x.shape[:lead])
        return lax.slice(x, [0] * lead + starts, head + stops, [1] * lead + list(strides))

    places = list(itertools.product(*map(range, dimensions)))
    if not places:
        return jnp.zeros((0, *x.shape[:lead], *spaces), x.dtype)
    return jnp.stack([at(place) for place in places])


def _of_arrays(body, constants: Sequence[Array]) -> Function:
    """Returns a function of scalars as one of arrays of one shape."""
    fun = jaxpr_as_fun(body)

    def combine(*arrays):
        shape = arrays[0].shape
        mapped = fun
        for _ in shape:
            mapped = jax.vmap(mapped)
        if math.prod(shape) == 0:  # which vmap does not take
            return [jnp.zeros(shape, a.dtype) for a in arrays[: len(arrays) // 2]]
        return mapped(*constants, *arrays)

    return combine
