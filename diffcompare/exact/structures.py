"""Reductions, cumulative operations, sorting and scattering on a tape."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from diffcompare._jaxpr import movement, objects
from diffcompare._jaxpr.objects import elementwise
from diffcompare.exact.pulls import Pull, scaled
from diffcompare.exact.weights import Node, plain_value, zeros


def _rows(values, axes):
    """Returns values as (kept, reduced), and how to shape such an array like the values again."""
    kept = [axis for axis in range(values.ndim) if axis not in axes]
    order = [*kept, *axes]
    length = math.prod(values.shape[axis] for axis in axes)
    rows = values.transpose(order).reshape(math.prod(values.shape[axis] for axis in kept), length)

    def back(array):
        return array.reshape([values.shape[axis] for axis in order]).transpose(np.argsort(order))

    return rows, back


def _filled(rows, fill):
    result = np.empty_like(rows)
    for number, row in enumerate(rows):
        for place, entry in enumerate(fill(number, list(row))):
            result[number, place] = entry
    return result


def _sum(tape, operation, weights):
    (values,) = operation.inputs
    rows, back = _rows(values, operation.eqn.params["axes"])
    weight = weights[0].reshape(-1, 1)
    return [back(np.broadcast_to(weight, rows.shape))]


def _product(tape, operation, weights):
    (values,) = operation.inputs
    rows, back = _rows(values, operation.eqn.params["axes"])
    weight = weights[0].ravel()

    def fill(number, row):
        return _others(tape, weight[number], row) if row else []

    return [back(_filled(rows, fill))]


def _extreme(tape, operation, weights):
    (values,) = operation.inputs
    rows, back = _rows(values, operation.eqn.params["axes"])
    weight, extreme = weights[0].ravel(), operation.outputs[0].ravel()
    kinks: list[int] = []

    def fill(number, row):
        return _shares(tape, weight[number], row, extreme[number], kinks)

    part = back(_filled(rows, fill))
    tape.notes.kink(operation, sum(kinks), _TIE)
    return [part]


_TIE = "the share of an entry of a tie, all equal"


def _shares(tape, weight, elements, extreme, kinks):
    """Returns the parts of a weight: those that attain the extreme share it equally."""
    if type(weight) is int:
        return [0] * len(elements)
    attains = [bool(tape.algebra.rules["eq"](entry, extreme)) for entry in elements]
    count = sum(attains)
    if not count:  # NaN, of which every entry has a share
        return [weight * tape.algebra.number(math.nan)] * len(elements)
    if count > 1:
        kinks.append(count)
    part = weight if count == 1 else weight / count
    return [part if flag else 0 for flag in attains]


def _others(tape, weight, elements):
    """Returns a weight times the product of all other elements, for each."""
    mul, one = tape.algebra.rules["mul"], tape.algebra.number(1.0)
    # The products of what stands before and after, so that no quotient by a 0 is needed.
    before, after = [one], [one]
    for entry in elements[:-1]:
        before.append(mul(before[-1], entry))
    for entry in elements[:0:-1]:
        after.append(mul(after[-1], entry))
    return [scaled(tape, weight, mul(a, b)) for a, b in zip(before, after[::-1], strict=True)]


def _along(values, axis):
    """Returns values as (others, axis), and how to shape such an array like the values again."""
    return _rows(values, (axis,))


def _cumulative_sum(tape, operation, weights):
    params = operation.eqn.params
    rows, back = _along(weights[0], params["axis"])

    def fill(number, row):
        order = row if params["reverse"] else row[::-1]
        totals, total = [], 0
        for entry in order:
            total = tape.add(total, entry)
            totals.append(total)
        return totals if params["reverse"] else totals[::-1]

    return [back(_filled(rows, fill))]


def _cumulative_product(tape, operation, weights):
    params = operation.eqn.params
    axis, step = params["axis"], -1 if params["reverse"] else 1
    rows, back = _along(weights[0], axis)
    entries, _ = _along(operation.inputs[0], axis)
    products, _ = _along(operation.outputs[0], axis)
    one = tape.algebra.number(1.0)

    def fill(number, row):
        xs, before = list(entries[number][::step]), [one, *products[number][::step][:-1]]
        parts, carried = [], 0
        for weight, x, product in zip(row[::step][::-1], xs[::-1], before[::-1], strict=True):
            total = tape.add(weight, carried)
            parts.append(scaled(tape, total, product))
            carried = scaled(tape, total, x)
        return parts[::-1][::step]

    return [back(_filled(rows, fill))]


def _before(tape, a, b):
    """Returns -1 where `a` is sorted before `b`, 1 where after, 0 where neither; NaN is last."""
    if not objects.is_object(np.asarray(a, object)):
        return (a > b) - (a < b)
    is_nan, rules = tape.algebra.is_nan, tape.algebra.rules
    if is_nan(a) or is_nan(b):
        return int(is_nan(a)) - int(is_nan(b))
    if rules["lt"](a, b):
        return -1
    return 1 if rules["gt"](a, b) else 0


def _permuted(tape, eqn, inputs, axis, orders, size):
    """Returns inputs whose rows along an axis are taken in the orders given, and records it."""

    def taken(values):
        rows, _ = _along(values, axis)
        shape = list(values.shape)
        shape[axis] = size
        kept = [length for place, length in enumerate(shape) if place != axis]
        chosen = np.stack([row[order] for row, order in zip(rows, orders, strict=True)])
        return np.moveaxis(chosen.reshape(*kept, size), -1, axis)

    def returned(weight, shape):
        rows, _ = _along(weight, axis)
        _, back = _along(np.empty(shape, object), axis)
        whole = zeros((len(rows), shape[axis]))
        for row, order, result in zip(rows, orders, whole, strict=True):
            for entry, place in zip(row, order, strict=True):
                result[place] = entry
        return back(whole)

    outputs = []
    for value in inputs:
        if isinstance(value, Node):
            shape = value.shape
            pull = lambda weights, shape=shape: [returned(weights[0], shape)]
            outputs += tape.record(pull, [value], [taken(value.value)])
        else:
            outputs.append(taken(np.asarray(value)))
    return outputs


def _order(tape, eqn, keys, sign=1):
    """Returns the stable order of each row by its keys, and notes ties."""
    rows = [list(zip(*columns, strict=True)) for columns in zip(*keys, strict=True)]
    orders, ties = [], 0

    def compare(row, i, j):
        for a, b in zip(row[i], row[j], strict=True):
            found = _before(tape, a, b)
            if found:
                return sign * found
        return 0

    for row in rows:
        key = functools.cmp_to_key(functools.partial(compare, row))
        order = sorted(range(len(row)), key=key)
        ties += sum(not compare(row, i, j) for i, j in itertools.pairwise(order))
        orders.append(np.array(order, int))
    return orders, ties


def _sort(tape, eqn, inputs):
    axis, count = eqn.params["dimension"], eqn.params["num_keys"]
    plain = [plain_value(value) for value in inputs]
    keys = [_along(np.asarray(value), axis)[0] for value in plain[:count]]
    orders, ties = _order(tape, eqn, keys)
    tape.notes.kink(tape.operation(eqn, inputs, plain, []), ties, "the order of the input at a tie")
    return _permuted(tape, eqn, inputs, axis, orders, plain[0].shape[axis])


def _top_k(tape, eqn, inputs):
    (values,) = inputs
    axis = eqn.params.get("axis", -1)
    axis = (-1 if axis is None else axis) % values.value.ndim
    size = eqn.params["k"]
    orders, _ = _order(tape, eqn, [_along(values.value, axis)[0]], sign=-1)
    orders = [order[:size] for order in orders]
    places = np.moveaxis(
        np.broadcast_to(np.arange(values.shape[axis]), np.moveaxis(values.value, axis, -1).shape),
        -1,
        axis,
    )
    found, indices = _permuted(tape, eqn, [values, places], axis, orders, size)
    return [found, np.asarray(indices).astype(eqn.outvars[1].aval.dtype)]


def _targets(operation):
    """Returns the flat place in the operand where each update lands, its size beyond the edge."""
    operand, indices, updates = operation.inputs
    shapes = np.shape(operand), np.shape(updates)
    with jax.ensure_compile_time_eval():
        found = movement.targets(operation.eqn, shapes[0], indices, shapes[1])
    return np.asarray(found).ravel().tolist()


def _scatter_sum(sign):
    def pull(tape, operation, weights):
        (weight,) = weights
        pool = [*weight.ravel(), 0]
        taken = [pool[place] for place in _targets(operation)]
        part = objects.array_of(taken, np.shape(operation.inputs[2]))
        return [weight, None, part if sign > 0 else elementwise(lambda w: -w, part)]

    return pull


def _scatter_each(spread):
    """Returns the rule of a scattering operation, of how a weight is spread over what met."""

    def pull(tape, operation, weights):
        (weight,) = weights
        operand, _, updates = (np.asarray(value) for value in operation.inputs)
        elements, arriving = list(tape.lifted(operand).flat), list(tape.lifted(updates).flat)
        met: dict[int, list[int]] = {}
        for number, place in enumerate(_targets(operation)):
            met.setdefault(place, []).append(number)
        met.pop(len(elements), None)
        of_operand, of_updates = list(weight.flat), [0] * len(arriving)
        outputs = operation.outputs[0].ravel()
        kinks: list[int] = []
        for place, numbers in met.items():
            group = [elements[place], *(arriving[number] for number in numbers)]
            parts = spread(tape, weight.ravel()[place], group, outputs[place], kinks)
            of_operand[place], *rest = parts
            for number, part in zip(numbers, rest, strict=True):
                of_updates[number] = part
        tape.notes.kink(operation, sum(kinks), _TIE)
        return [
            objects.array_of(of_operand, operand.shape),
            None,
            objects.array_of(of_updates, updates.shape),
        ]

    return pull


PULLS: dict[str, Pull] = {
    "cumprod": _cumulative_product,
    "cumsum": _cumulative_sum,
    "reduce_max": _extreme,
    "reduce_min": _extreme,
    "reduce_prod": _product,
    "reduce_sum": _sum,
    "scatter-add": _scatter_sum(1),
    "scatter-max": _scatter_each(_shares),
    "scatter-min": _scatter_each(_shares),
    "scatter-mul": _scatter_each(lambda tape, w, group, *_: _others(tape, w, group)),
    "scatter-sub": _scatter_sum(-1),
}

# Primitives that the tape interprets itself: value and way back together.
STRUCTURES: dict[str, Callable[[Any, Any, Sequence[Any]], list[Any]]] = {
    "sort": _sort,
    "top_k": _top_k,
}
