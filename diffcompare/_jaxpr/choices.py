"""Choices by comparing elements: sorting, the place of the largest, scattering.

Which of two elements is smaller, the algebra decides, exactly: a tie is a tie, whatever the
digits. An algebra that cannot decide says so. What is chosen by place is an integer, and stays
concrete.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffcompare._jaxpr import indexing
from diffcompare._jaxpr.elements import array_of, concrete, is_object

Array = Any


def sort(interpreter: Any, eqn: Any, inputs: Sequence[Array]) -> Sequence[Array]:
    """Returns operands put in the order of the first of them; equal entries keep their order."""
    if not any(map(is_object, inputs)):
        return [interpreter.constant(output) for output in concrete(eqn, inputs)]
    axis, keys = eqn.params["dimension"], inputs[: eqn.params["num_keys"]]
    order = _order(interpreter.algebra, [np.asarray(key) for key in keys], axis)
    return [np.take_along_axis(np.asarray(x), order, axis) for x in inputs]


def top_k(interpreter: Any, eqn: Any, inputs: Sequence[Array]) -> Sequence[Array]:
    """Returns the largest entries, and their places; of equal ones the first come first."""
    (values,) = inputs
    if not is_object(values):
        return [interpreter.constant(output) for output in concrete(eqn, inputs)]
    axis = eqn.params.get("axis", values.ndim - 1)
    order = _order(interpreter.algebra, [values], axis, descending=True)
    order = np.take(order, np.arange(eqn.params["k"]), axis)
    places = order.astype(eqn.outvars[1].aval.dtype)
    return [np.take_along_axis(values, order, axis), places]


def first_extreme(sign: int) -> Callable[..., Sequence[Array]]:
    """Returns the rule of `argmax` (1) or `argmin` (-1): the first of equals, or the first NaN."""

    def place(interpreter, eqn, inputs):
        (values,) = inputs
        if not is_object(values):
            return concrete(eqn, inputs)
        ahead = _ahead(interpreter.algebra, descending=sign > 0, is_nan_first=True)
        (axis,) = eqn.params["axes"]
        rows = np.moveaxis(values, axis, -1)
        found = np.zeros(rows.shape[:-1], int)
        for position in np.ndindex(*found.shape):
            row, best = rows[position], 0
            for new in range(1, len(row)):
                best = new if ahead(row[new], row[best]) else best
            found[position] = best
        return [found.astype(eqn.params["index_dtype"])]

    return place


def scatter(combine: Callable[[Any, list[Any]], Any]) -> Callable[..., Sequence[Array]]:
    """Returns the rule of a scattering operation.

    Args:
        combine: Returns one element for what stood at a place and what arrives there, given
            the algebra and all of these.
    """

    def scattered(interpreter, eqn, inputs):
        operand, indices, updates = inputs
        if not is_object(operand) and not is_object(updates):
            return [interpreter.constant(output) for output in concrete(eqn, inputs)]
        indices = interpreter.integers(eqn, indices)
        targets = indexing.scattered(eqn, np.shape(operand), indices, np.shape(updates))
        flat, arriving = list(interpreter.lifted(operand).flat), interpreter.lifted(updates).ravel()
        found: dict[int, list[Any]] = {}
        for target, update in zip(targets.flat, arriving, strict=True):
            if target < len(flat):  # what falls beyond the edge is dropped
                found.setdefault(int(target), [flat[target]]).append(update)
        for target, elements in found.items():
            flat[target] = combine(interpreter.algebra, elements)
        return [array_of(flat, operand.shape)]

    return scattered


def _ahead(algebra, descending=False, is_nan_first=False) -> Callable[[Any, Any], bool]:
    """Returns whether one element comes strictly before another.

    In sorting a NaN comes last, or first where the order is descending, as in JAX.
    """
    is_nan_first |= descending
    less, differs = algebra.rules["lt"], algebra.rules["ne"]
    unknown = lambda a: bool(algebra.decide(differs(a, a)))

    def ahead(a, b):
        if unknown(a) or unknown(b):
            return unknown(a) > unknown(b) if is_nan_first else unknown(b) > unknown(a)
        return bool(algebra.decide(less(b, a) if descending else less(a, b)))

    return ahead


def _plainly_ahead(a, b):
    return bool(a < b)


def _order(algebra, keys, axis, descending=False):
    """Returns the places from which a stable sort takes its entries, along an axis."""
    rows = [np.moveaxis(key, axis, -1) for key in keys]
    tests = [_ahead(algebra, descending) if is_object(key) else _plainly_ahead for key in keys]
    order = np.zeros(rows[0].shape, int)
    for position in np.ndindex(*rows[0].shape[:-1]):
        columns = [row[position] for row in rows]

        def compare(i, j, columns=columns):
            for column, ahead in zip(columns, tests, strict=True):
                if ahead(column[i], column[j]):
                    return -1
                if ahead(column[j], column[i]):
                    return 1
            return 0

        order[position] = sorted(range(rows[0].shape[-1]), key=functools.cmp_to_key(compare))
    return np.moveaxis(order, -1, axis)


CHOICES: dict[str, Callable[..., Sequence[Any]]] = {
    "argmax": first_extreme(1),
    "argmin": first_extreme(-1),
    "scatter-add": scatter(lambda algebra, elements: algebra.sum(elements)),
    "scatter-max": scatter(lambda algebra, elements: algebra.largest(elements)),
    "scatter-min": scatter(lambda algebra, elements: algebra.smallest(elements)),
    "scatter-mul": scatter(lambda algebra, elements: algebra.product(elements)),
    "scatter-sub": scatter(
        lambda algebra, elements: functools.reduce(algebra.rules["sub"], elements)
    ),
    "sort": sort,
    "top_k": top_k,
}
