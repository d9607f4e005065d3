"""Loops and branches on a tape: the steps that are taken, one after the other."""

from collections.abc import Callable
from typing import Any

import numpy as np

from diffcompare._jaxpr import objects, walk
from diffcompare.exact.weights import Node, plain_value


def _scan(tape, eqn, inputs):
    scan = walk.scan_parts(eqn)
    first = scan.constants + scan.carry
    sliced = [_split(tape, value) if isinstance(value, Node) else value for value in inputs[first:]]

    def entry(values, step):
        if isinstance(values, list):
            return values[step]
        taken = values[step]
        is_scalar = objects.is_object(values) and values.ndim == 1
        return objects.array_of([taken], ()) if is_scalar else taken

    def run(body, values):
        return tape.inside(eqn, body, values)

    def stack(column, variable):
        return _stacked(tape, column, variable)

    return walk.unrolled_scan(eqn, [*inputs[:first], *sliced], run, entry, stack)


def _split(tape, node):
    """Returns a node for each entry along the first axis."""
    entries = [np.asarray(entry, object).reshape(node.shape[1:]) for entry in node.value]
    if not entries:
        return []
    return tape.record(lambda weights: [np.stack(weights).reshape(node.shape)], [node], entries)


def _stacked(tape, column, variable):
    plain = [plain_value(value) for value in column]
    if not plain:
        return tape.constant(np.zeros(variable.aval.shape, variable.aval.dtype))
    if any(map(objects.is_object, plain)):
        plain = [tape.lifted(value) for value in plain]
    stacked = np.stack(plain)
    if not any(isinstance(value, Node) for value in column):
        return stacked

    def pull(weights):
        (weight,) = weights
        return [np.asarray(entry, object).reshape(weight.shape[1:]) for entry in weight]

    return tape.record(pull, column, [stacked])[0]


def _cond(tape, eqn, inputs):
    index, *operands = inputs
    choice = int(tape.algebra.decide(index.item() if objects.is_object(index) else index))
    bodies = walk.branches(eqn)
    return tape.inside(eqn, bodies[min(max(choice, 0), len(bodies) - 1)], operands)


def _while(tape, eqn, inputs):
    loop = walk.while_parts(eqn)
    start = loop.condition_constants + loop.body_constants
    tested, used = inputs[: loop.condition_constants], inputs[loop.condition_constants : start]
    carry = list(inputs[start:])
    while True:
        (again,) = tape.inside(eqn, loop.condition, [*tested, *carry])
        again = plain_value(again)
        if not tape.algebra.decide(again.item() if objects.is_object(again) else again):
            return carry
        carry = tape.inside(eqn, loop.body, [*used, *carry])


LOOPS: dict[str, Callable[..., list[Any]]] = {"cond": _cond, "scan": _scan, "while": _while}
