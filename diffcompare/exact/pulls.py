"""Reverse rules: what the weights of the outputs of an operation are, as weights of its inputs.

A rule takes the tape, the operation and one array of weights for each output, None for an output
that has none, and returns one array for each input.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from diffcompare._jaxpr import movement, objects
from diffcompare._jaxpr.objects import elementwise
from diffcompare.exact import slopes
from diffcompare.exact.weights import Array, Operation, Weight, plain_value, zeros

Pull = Callable[[Any, Operation, list[Weight]], Sequence[Weight]]


def find(name: str) -> Pull | None:
    """Returns the rule of a primitive, if there is one."""
    if name in _PULLS:
        return _PULLS[name]
    if name in slopes.SLOPES or name in ("integer_pow", "polynomial"):
        return _pointwise
    if name in movement.MOVED:
        return _moved
    return _identity if name in movement.IDENTITIES else None


def note_comparison(tape: Any, operation: Operation, inputs: Sequence[Any]) -> None:
    """Notes where a comparison is one of equal numbers: a branch begins there."""
    if operation.name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        return
    if plain_value(inputs[0]) is plain_value(inputs[1]):  # x != x asks for NaN
        return
    left, right = operation.inputs
    equal = elementwise(tape.algebra.rules["eq"], tape.lifted(left), tape.lifted(right))
    tape.notes.kink(operation, int(np.sum(equal.astype(bool))), "that of the branch taken")


def scaled(tape: Any, weight: Any, slope: Any) -> Any:
    """Returns a weight times a slope; a zero by structure stays one."""
    return 0 if type(weight) is int else tape.algebra.rules["mul"](weight, slope)


def summed_to(tape: Any, weight: Array, shape: Sequence[int]) -> Array:
    """Returns the sums of weights over the axes along which an operand was repeated."""
    if weight.shape == tuple(shape):
        return weight
    own = (1,) * (weight.ndim - len(shape)) + tuple(shape)
    repeated = [axis for axis, length in enumerate(own) if length != weight.shape[axis]]
    kept = [axis for axis in range(weight.ndim) if axis not in repeated]
    count = math.prod(weight.shape[axis] for axis in repeated)
    rows = weight.transpose(*kept, *repeated).reshape(-1, count)
    return objects.array_of([tape.sum(list(row)) for row in rows], shape)


def _pointwise(tape, operation, weights):
    (weight,) = weights
    eqn, inputs = operation.eqn, operation.inputs
    operands = [tape.lifted(value) for value in inputs]
    factors = slopes.of(operation.name, len(inputs), eqn.params)
    parts: list[Weight] = []
    for factor, operand, active in zip(factors, operands, operation.active, strict=True):
        if not active:
            parts.append(None)
            continue
        if factor is None:
            raise NotImplementedError(
                f"{tape.algebra.name} has no derivative of '{operation.name}' by operand "
                f"{len(parts)}, met at {operation.place or 'an unknown line'}: there is none in "
                f"closed form. {tape.algebra.advice}"
            )
        part = _times(tape, factor, weight, [*operands, operation.outputs[0]])
        parts.append(summed_to(tape, part, operand.shape))
    return parts


def _times(tape, factor, weight, values):
    if factor == 1:
        return weight
    if factor == -1:
        return elementwise(lambda w: -w, weight)
    functions = tape.functions

    def times(w, *entries):
        return 0 if type(w) is int else scaled(tape, w, factor(functions, *entries))

    return elementwise(times, weight, *values)


def _identity(tape, operation, weights):
    return weights


def _flat(tape, operation, weights):
    """Steps: the derivative is 0 but at the jumps, where it is taken for 0 as well."""
    name, x = operation.name, operation.inputs[0]
    offset = {"round": tape.algebra.number(0.5)}.get(name, tape.algebra.number(0.0))
    f = tape.functions

    def jumps(w, entry):
        if type(w) is int or not f.is_finite(entry):
            return False
        edge = entry == 0 if name == "sign" else f.floor(entry + offset) == entry + offset
        return bool(edge)

    if name != "stop_gradient":
        jumped = elementwise(jumps, weights[0], x)
        tape.notes.kink(operation, int(np.sum(jumped.astype(bool))), "0 at the jump")
    return [None]


def _extreme(tape, operation, weights):
    """`max` and `min` of two: at a tie each gets the share of the convention."""
    (weight,) = weights
    left, right = map(tape.lifted, operation.inputs)
    f, number, convention = tape.functions, tape.algebra.number, tape.convention
    is_maximum = operation.name == "max"
    wins, loses = (f.gt, f.lt) if is_maximum else (f.lt, f.gt)
    ties = []

    def share(active_other, w, own, other):
        """Returns the weight of `own`."""
        if type(w) is int or loses(own, other):
            return 0
        if wins(own, other):
            return w
        if not f.eq(own, other):  # one is NaN
            return w * number(math.nan)
        tie = convention.maximum
        if is_maximum:
            if not active_other and f.eq(other, number(0.0)):
                tie = convention.maximum_of_zero
            ties.append(tie)
        else:
            ties.append(tie)
        return 0 if tie == 0 else w * number(tie)

    active = operation.active
    parts = [
        elementwise(functools.partial(share, active[1]), weight, left, right),
        elementwise(functools.partial(share, active[0]), weight, right, left),
    ]
    if all(active):
        del ties[len(ties) // 2 :]
    elif not active[0]:
        del ties[: len(ties) // 2]
    else:
        del ties[len(ties) // 2 :]
    if ties:
        tape.notes.kink(operation, len(ties), f"{ties[0]:g} to an argument of a tie")
    return [
        summed_to(tape, part, operand.shape) if flag else None
        for part, operand, flag in zip(parts, (left, right), active, strict=True)
    ]


def _absolute(tape, operation, weights):
    f, at_zero, kinks = tape.functions, tape.convention.absolute, []
    slope = tape.algebra.number(at_zero)

    def times(w, x):
        if type(w) is int:
            return 0
        if f.eq(x, tape.algebra.number(0.0)):
            kinks.append(x)
            return w * slope
        return w if f.gt(x, tape.algebra.number(0.0)) else w * f.sign(x)

    part = elementwise(times, weights[0], operation.inputs[0])
    tape.notes.kink(operation, len(kinks), f"{at_zero:g} at 0")
    return [part]


def _clamp(tape, operation, weights):
    (weight,) = weights
    low, x, high = map(tape.lifted, operation.inputs)
    f, kinks = tape.functions, []

    def within(w, lo, entry, hi):
        if type(w) is not int and (f.eq(lo, entry) or f.eq(entry, hi)):
            kinks.append(entry)
        return w if f.lt(lo, entry) and f.lt(entry, hi) else 0

    parts = [
        elementwise(lambda w, lo, entry: w if f.gt(lo, entry) else 0, weight, low, x),
        elementwise(within, weight, low, x, high),
        elementwise(lambda w, hi, entry: w if f.lt(hi, entry) else 0, weight, high, x),
    ]
    tape.notes.kink(operation, len(kinks), "0 at the bound")
    return [
        summed_to(tape, part, bound.shape)
        for part, bound in zip(parts, (low, x, high), strict=True)
    ]


def _select(tape, operation, weights):
    which, *cases = operation.inputs
    chosen = np.broadcast_to(np.asarray(which).astype(int), np.shape(weights[0]))
    return [
        None,
        *(np.where(chosen == case, weights[0], zeros(())) for case in range(len(cases))),
    ]


def _convert(tape, operation, weights):
    return weights


def _moved(tape, operation, weights):
    """Every weight goes back to where its entry came from; what was filled in is dropped."""
    eqn, inputs = operation.eqn, operation.inputs
    moved = movement.moved_operands(eqn)
    sizes = [np.size(inputs[position]) for position in moved]
    pool = [0] * (sum(sizes) + 1)
    with jax.ensure_compile_time_eval():
        sources = [np.asarray(index) for index in movement.sources(eqn, inputs)]
    for index, weight in zip(sources, weights, strict=True):
        if weight is not None:
            for place, entry in zip(index.ravel().tolist(), weight.flat, strict=True):
                pool[place] = tape.add(pool[place], entry)
    parts: list[Weight] = [None] * len(inputs)
    start = 0
    for position, size in zip(moved, sizes, strict=True):
        part = objects.array_of(pool[start : start + size], np.shape(inputs[position]))
        parts[position] = part if operation.active[position] else None
        start += size
    return parts


def _dot_general(tape, operation, weights):
    (left_sum, right_sum), (left_batch, right_batch) = operation.eqn.params["dimension_numbers"]
    left, left_order = _grouped(tape.lifted(operation.inputs[0]), left_batch, left_sum)
    right, right_order = _grouped(tape.lifted(operation.inputs[1]), right_batch, right_sum)
    weight = weights[0].reshape(left.shape[0], left.shape[1], right.shape[1])
    parts: list[Weight] = [None, None]
    if operation.active[0]:
        part = _product(tape, weight, right)
        parts[0] = _ungrouped(part, operation.inputs[0].shape, left_order)
    if operation.active[1]:
        part = _product(tape, weight.transpose(0, 2, 1), left)
        parts[1] = _ungrouped(part, operation.inputs[1].shape, right_order)
    return parts


def _grouped(values, batch_axes, summed_axes):
    """Returns values as (batch, free, summed), and the order of their axes."""
    free = [axis for axis in range(values.ndim) if axis not in (*batch_axes, *summed_axes)]
    order = (*batch_axes, *free, *summed_axes)
    groups = [math.prod(values.shape[axis] for axis in axes) for axes in (batch_axes, free)]
    summed = math.prod(values.shape[axis] for axis in summed_axes)
    return values.transpose(order).reshape(*groups, summed), order


def _ungrouped(values, shape, order):
    return values.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def _product(tape, weight, values):
    """Returns weights (batch, m, r) times values (batch, r, k)."""
    mul, dot = tape.algebra.rules["mul"], tape.algebra.dot
    result = zeros((weight.shape[0], weight.shape[1], values.shape[2]))
    for batch, rows in enumerate(weight):
        columns = values[batch].T.tolist()
        for number, row in enumerate(rows):
            places = [place for place, entry in enumerate(row) if type(entry) is not int]
            kept = [row[place] for place in places]
            if len(places) == 1:
                ((place,), (entry,)) = places, kept
                found = [mul(entry, column[place]) for column in columns]
            elif len(places) == len(row):
                found = [dot(kept, column) for column in columns]
            else:
                found = [dot(kept, [column[p] for p in places]) for column in columns]
            if places:
                result[batch, number] = objects.array_of(found, (len(found),))
    return result


_PULLS: dict[str, Pull] = {
    "abs": _absolute,
    "ceil": _flat,
    "clamp": _clamp,
    "convert_element_type": _convert,
    "dot_general": _dot_general,
    "floor": _flat,
    "max": _extreme,
    "min": _extreme,
    "round": _flat,
    "select_n": _select,
    "sign": _flat,
    "stop_gradient": _flat,
}
