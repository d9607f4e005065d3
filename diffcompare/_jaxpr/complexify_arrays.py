"""Sums, products, extremes and movements of entries, extended to lifted values."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from diffcompare._jaxpr import movement
from diffcompare._jaxpr.complexify_rules import joined, larger, smaller, times
from diffcompare._jaxpr.lifted import (
    Lifted,
    bind,
    imaginary,
    is_inexact,
    is_lifted,
    lift,
    real,
)

# Primitives that are linear in some operands, by position; None is all. The others are indices.
LINEAR: dict[str, tuple[int, ...] | None] = {
    **movement.MOVED,
    "complex": None,
    "conj": (0,),
    "cumsum": (0,),
    "fft": (0,),
    "imag": (0,),
    "neg": (0,),
    "real": (0,),
    "reduce_sum": (0,),
    "reduce_window_sum": (0,),
    "scatter-add": (0, 2),
    "scatter-sub": (0, 2),
    "select_and_gather_add": (0,),
    "select_and_scatter_add": (0,),
    "stack": None,
    "unstack": (0,),
}

# Primitives that return their operands, one by one.
IDENTITIES = movement.IDENTITIES | {"layout_constraint", "stop_gradient"}

# Primitives that are linear in each of two operands.
BILINEAR = frozenset({"conv_general_dilated", "dot_general", "ragged_dot_general"})


def _linear(interpreter, eqn, inputs):
    re = bind(eqn, [real(value) for value in inputs])
    moved = LINEAR[eqn.primitive.name]
    positions = range(len(inputs)) if moved is None else moved
    if not any(is_lifted(inputs[position]) for position in positions):
        return re
    operands = [
        imaginary(value) if position in positions else real(value)
        for position, value in enumerate(inputs)
    ]
    # What is filled in does not move.
    changes = {"fill_value": 0} if eqn.primitive.name == "gather" else {}
    return [Lifted(*parts) for parts in zip(re, bind(eqn, operands, **changes), strict=True)]


def _identity(interpreter, eqn, inputs):
    outputs = bind(eqn, [real(value) for value in inputs])
    return [
        Lifted(output, value.im) if is_lifted(value) else output
        for output, value in zip(outputs, inputs, strict=True)
    ]


def _bilinear(interpreter, eqn, inputs):
    # Not on complex arrays: three real products where those take four, and for a convolution
    # XLA's three products of sums of both parts, in which the small part is lost.
    a, b, *rest = inputs

    def product(left, right):
        return bind(eqn, [left, right, *rest])[0]

    re = product(real(a), real(b))
    terms = []
    if is_lifted(a):
        terms.append(product(a.im, real(b)))
    if is_lifted(b):
        terms.append(product(real(a), b.im))
    if interpreter.is_native and len(terms) == 2:
        re = re - product(a.im, b.im)
    return [joined(re, sum(terms[1:], terms[0]))]


def _held(is_largest: bool, re: Any, im: Any, best: Any) -> Any:
    """Returns the imaginary parts where the real one is the best, and elsewhere the worst."""
    return jnp.where(re == best, im, -math.inf if is_largest else math.inf)


def _or_nan(re: Any, im: Any) -> Lifted:
    """Returns a lifted value whose imaginary part is NaN where no entry was the best."""
    return Lifted(re, jnp.where(jnp.isnan(re), re, im))


def _reduce_extreme(is_largest: bool):
    def rule(interpreter, eqn, inputs):
        (x,) = inputs
        axes = eqn.params["axes"]
        (y,) = bind(eqn, [x.re])
        held = _held(is_largest, x.re, x.im, lax.expand_dims(y, axes))
        (im,) = bind(eqn, [held])
        return [_or_nan(y, im)]

    return rule


def _reduce_prod(interpreter, eqn, inputs):
    (x,) = inputs
    axes = eqn.params["axes"]
    (y,) = bind(eqn, [x.re])
    kept = [axis for axis in range(x.re.ndim) if axis not in axes]

    def rows(values):
        shape = [values.shape[axis] for axis in kept]
        return values.transpose(*kept, *axes).reshape(*shape, -1)

    factors = rows(x.re)
    one = jnp.ones_like(factors[..., :1])
    axis = len(kept)
    # The product of all factors but one, without a division, so that zeros are no trouble.
    before = lax.cumprod(jnp.concatenate([one, factors[..., :-1]], axis), axis)
    after = lax.cumprod(jnp.concatenate([factors[..., 1:], one], axis), axis, reverse=True)
    im = jnp.sum(rows(x.im) * before * after, axis) if factors.shape[-1] else jnp.zeros_like(y)
    return [Lifted(y, im)]


def _cumulative(combine: Callable[[Lifted, Lifted], Lifted]):
    def rule(interpreter, eqn, inputs):
        (x,) = inputs
        (y,) = bind(eqn, [x.re])
        axis, reverse = eqn.params["axis"], eqn.params["reverse"]
        # Both parts in one shape, also where only one of them belongs to a batch.
        _, im = lax.associative_scan(combine, x, reverse=reverse, axis=axis)
        return [Lifted(y, im)]

    return rule


def _log_add_exp(a: Lifted, b: Lifted) -> Lifted:
    re = jnp.logaddexp(a.re, b.re)

    def share(of):
        return jnp.where(of == re, 1, lax.exp(of - re))  # also where both are infinite

    total = share(a.re) * a.im + share(b.re) * b.im
    alone = jnp.where(a.re > b.re, a.im, b.im)
    return Lifted(re, jnp.where(jnp.isinf(re), alone, total))


def _sort(interpreter, eqn, inputs):
    dimension, keys = eqn.params["dimension"], eqn.params["num_keys"]
    if len(inputs) == 1 and is_inexact(inputs[0].re):
        # Equal entries in the order into which the step brings them.
        (x,) = inputs
        (re,) = bind(eqn, [x.re])
        order = jnp.lexsort((x.im, x.re), axis=dimension)
        return [Lifted(re, jnp.take_along_axis(x.im, order, dimension))]
    parts = [real(value) for value in inputs]
    places = lax.broadcasted_iota(jnp.int32, parts[0].shape, dimension)
    *outputs, order = lax.sort(
        (*parts, places),
        dimension=dimension,
        is_stable=eqn.params["is_stable"],
        num_keys=keys,
    )
    return [
        Lifted(output, jnp.take_along_axis(value.im, order, dimension))
        if is_lifted(value)
        else output
        for output, value in zip(outputs, inputs, strict=True)
    ]


def _top_k(axis_key: str):
    def rule(interpreter, eqn, inputs):
        (x,) = inputs
        values, indices = bind(eqn, [x.re])
        axis = eqn.params.get(axis_key, -1)
        return [Lifted(values, jnp.take_along_axis(x.im, indices, axis)), indices]

    return rule


def _window_slices(eqn, values: Any, fill: Any, shape: Sequence[int]):
    """Yields, for each place in a window, the entries that stand there, of the given shape."""
    params = eqn.params
    dilation = params.get("base_dilation") or (1,) * len(shape)
    spacing = params.get("window_dilation") or (1,) * len(shape)
    padding = [
        (low, high, d - 1) for (low, high), d in zip(params["padding"], dilation, strict=True)
    ]
    padded = lax.pad(values, jnp.asarray(fill, values.dtype), padding)
    strides = params["window_strides"]
    for place in itertools.product(*map(range, params["window_dimensions"])):
        starts = [p * s for p, s in zip(place, spacing, strict=True)]
        limits = [
            start + (size - 1) * stride + 1
            for start, size, stride in zip(starts, shape, strides, strict=True)
        ]
        yield lax.slice(padded, starts, limits, strides)


def _window_extreme(is_largest: bool):
    def rule(interpreter, eqn, inputs):
        (x,) = inputs
        (y,) = bind(eqn, [x.re])
        worst = -math.inf if is_largest else math.inf
        choose = jnp.maximum if is_largest else jnp.minimum
        best: Any = worst
        for re, im in zip(
            _window_slices(eqn, x.re, worst, y.shape),
            _window_slices(eqn, x.im, worst, y.shape),
            strict=True,
        ):
            best = choose(best, _held(is_largest, re, im, y))
        # Where a window holds nothing but padding, the worst is left.
        return [_or_nan(y, jnp.where(jnp.isinf(y) & (best == worst), 0, best))]

    return rule


def _fold(interpreter, eqn, accumulated, entries):
    """Returns `reduction(accumulated, entries)`, for scalars a reduction is traced for."""
    shape = jnp.shape(real(accumulated[0]))
    flat = jax.tree.map(lambda part: part.reshape(-1), (accumulated, entries))

    def one(accumulated, entries):
        outputs = interpreter.run(eqn.params["jaxpr"], [*accumulated, *entries])
        return _like(accumulated, outputs)

    folded = jax.vmap(one)(*flat)
    return jax.tree.map(lambda part: part.reshape(shape), folded)


def _like(patterns, values):
    return [
        lift(value) if is_lifted(pattern) else value
        for pattern, value in zip(patterns, values, strict=True)
    ]


def _all_lifted(values):
    return [lift(value) if is_inexact(real(value)) else value for value in values]


def _reduce(interpreter, eqn, inputs):
    half = len(inputs) // 2
    operands, start = _all_lifted(inputs[:half]), _all_lifted(inputs[half:])
    axes = eqn.params["dimensions"]
    kept = [axis for axis in range(real(operands[0]).ndim) if axis not in axes]

    def rows(values):
        shape = [values.shape[axis] for axis in kept]
        return values.transpose(*axes, *kept).reshape(-1, *shape)

    entries = jax.tree.map(rows, operands)
    shape = real(entries[0]).shape[1:]
    start = jax.tree.map(lambda part: jnp.broadcast_to(part, shape), start)
    step = lambda total, row: (_fold(interpreter, eqn, total, row), None)
    return lax.scan(step, start, entries)[0]


def _reduce_window(interpreter, eqn, inputs):
    half = len(inputs) // 2
    operands, start = _all_lifted(inputs[:half]), _all_lifted(inputs[half:])
    shape = eqn.outvars[0].aval.shape
    total = jax.tree.map(lambda part: jnp.broadcast_to(part, shape), start)
    slices = jax.tree.map(
        lambda part, fill: list(_window_slices(eqn, part, fill, shape)), operands, start
    )
    count = math.prod(eqn.params["window_dimensions"])
    for place in range(count):
        entries = [
            Lifted(value.re[place], value.im[place]) if is_lifted(value) else value[place]
            for value in slices
        ]
        total = _fold(interpreter, eqn, total, entries)
    return total


def _scatter_mul(interpreter, eqn, inputs):
    operand, indices, updates = inputs
    if not all(jnp.issubdtype(real(value).dtype, jnp.floating) for value in (operand, updates)):
        raise interpreter.unknown(eqn, "It multiplies complex numbers.")
    (re,) = bind(eqn, [real(operand), indices, real(updates)])
    # Many updates may meet in one entry. Complex multiplication knows the rule of products, with
    # a step so small that its square is nothing beside one.
    top = jnp.maximum(*(jnp.max(jnp.abs(imaginary(v)), initial=0) for v in (operand, updates)))
    unit = jnp.where(top > 0, top, 1)
    h = 1e-20 if re.dtype == jnp.float32 else 1e-100
    z = lax.scatter_mul(
        lax.complex(real(operand), imaginary(operand) / unit * h),
        indices,
        lax.complex(real(updates), imaginary(updates) / unit * h),
        eqn.params["dimension_numbers"],
        indices_are_sorted=eqn.params["indices_are_sorted"],
        unique_indices=eqn.params["unique_indices"],
        mode=eqn.params["mode"],
    )
    return [Lifted(re, jnp.imag(z) / h * unit)]


def _scatter_extreme(is_largest: bool):
    def rule(interpreter, eqn, inputs):
        operand, indices, updates = inputs
        (y,) = bind(eqn, [real(operand), indices, real(updates)])
        best = _gathered(eqn, y, indices, real(updates).shape)
        held = _held(is_largest, real(operand), imaginary(operand), y)
        moved = _held(is_largest, real(updates), imaginary(updates), best)
        return [_or_nan(y, bind(eqn, [held, indices, moved])[0])]

    return rule


def _gathered(eqn, values, indices, updates_shape):
    """Returns the entries of `values` to which a scatter sends its updates."""
    to = eqn.params["dimension_numbers"]
    fixed = {*to.inserted_window_dims, *to.operand_batching_dims}
    window = iter(to.update_window_dims)
    sizes = [1 if axis in fixed else updates_shape[next(window)] for axis in range(values.ndim)]
    numbers = lax.GatherDimensionNumbers(
        offset_dims=to.update_window_dims,
        collapsed_slice_dims=to.inserted_window_dims,
        start_index_map=to.scatter_dims_to_operand_dims,
        operand_batching_dims=to.operand_batching_dims,
        start_indices_batching_dims=to.scatter_indices_batching_dims,
    )
    return lax.gather(values, indices, numbers, sizes, mode=eqn.params["mode"])


RULES: Mapping[str, Callable[..., Sequence[Any]]] = {
    **dict.fromkeys(LINEAR, _linear),
    **dict.fromkeys(IDENTITIES, _identity),
    **dict.fromkeys(BILINEAR, _bilinear),
    "approx_top_k": _top_k("reduction_dimension"),
    "cumlogsumexp": _cumulative(_log_add_exp),
    "cummax": _cumulative(larger),
    "cummin": _cumulative(smaller),
    "cumprod": _cumulative(times),
    "reduce": _reduce,
    "reduce_max": _reduce_extreme(True),
    "reduce_min": _reduce_extreme(False),
    "reduce_prod": _reduce_prod,
    "reduce_window": _reduce_window,
    "reduce_window_max": _window_extreme(True),
    "reduce_window_min": _window_extreme(False),
    "scatter-max": _scatter_extreme(True),
    "scatter-min": _scatter_extreme(False),
    "scatter-mul": _scatter_mul,
    "sort": _sort,
    "top_k": _top_k("axis"),
}
