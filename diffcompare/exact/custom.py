"""Rules that a program defines for itself: `jax.custom_jvp`, `jax.custom_vjp`, linear solves.

The value is that of the function's body. Going back, the program of the rule, which JAX
transposes where it is one of slopes, is walked in the same arithmetic.
"""

from typing import Any

import numpy as np

from diffcompare._jaxpr import custom_rules, walk
from diffcompare._jaxpr.objects import elementwise
from diffcompare.exact import pulls
from diffcompare.exact.weights import Operation, Weight, plain_value

CUSTOM = custom_rules.CUSTOM

# Rules of JAX for functions whose bodies have a kink, or a case apart, that the function has not.
# The primitives of the body tell them from a user's function of that name; JAX 0.12 asks of more
# than one argument whether it is 0.
_KNOWN = {
    "relu": "max",
    "relu6": "max min",
    "logaddexp": "max sub ne add abs neg exp log1p add select_n",
    "xlogy": "ne log mul broadcast_in_dim select_n",
    "xlog1py": "ne log1p mul broadcast_in_dim select_n",
}


def call(tape: Any, eqn: Any, body: Any, inputs: list[Any]) -> list[Any] | None:
    """Returns the outputs of a function with a rule of its own; None differentiates its body."""
    known = _known(eqn, body)
    if not tape.honours and known is None:
        return None
    plain = [plain_value(value) for value in inputs]
    outputs = walk.walk(body, tape, plain)
    pull = pulls.find(known) if known is not None and not tape.honours else None
    if known in ("relu", "relu6"):
        pull = _rectified
    if pull is None:
        return by_rule(tape, eqn, inputs, outputs)
    operation = tape.operation(eqn, inputs, plain, outputs)._replace(name=known)
    return tape.record(lambda weights: pull(tape, operation, weights), inputs, outputs)


def solve(tape: Any, eqn: Any, inputs: list[Any]) -> list[Any]:
    """Returns the solution of equations."""
    return by_rule(tape, eqn, inputs, tape.value(eqn, [plain_value(value) for value in inputs]))


def by_rule(tape: Any, eqn: Any, inputs: list[Any], outputs: list[Any]) -> list[Any]:
    """Returns outputs whose weights go back by the program that JAX has for an equation."""
    plain = [plain_value(value) for value in inputs]
    operation = tape.operation(eqn, inputs, plain, outputs)
    floating = custom_rules.floating_outputs(eqn)
    active = tuple(operation.active)

    def pull(weights):
        program = tape.program(eqn, lambda eqn: custom_rules.reverse(eqn, active))
        whole = [tape.lifted(elementwise(_as_number(tape), weight)) for weight in weights]
        found = iter(walk.walk(program, tape, [*plain, *whole]))
        parts: list[Weight] = [next(found) if flag else None for flag in active]
        _note_nan(tape, weights, parts)
        return parts

    kept = [value for value, flag in zip(outputs, floating, strict=True) if flag]
    nodes = iter(tape.record(pull, inputs, kept))
    return [next(nodes) if flag else value for value, flag in zip(outputs, floating, strict=True)]


def _as_number(tape):
    return lambda entry: tape.algebra.number(0.0) if type(entry) is int else entry


def _note_nan(tape, weights, parts):
    """Notes that a rule, and not the chain rule, made a NaN."""
    is_nan = tape.algebra.is_nan

    def any_nan(arrays):
        return any(
            type(entry) is not int and is_nan(entry)
            for array in arrays
            if array is not None
            for entry in array.flat
        )

    if any_nan(parts) and not any_nan(weights):
        tape.notes.has_custom_nan = True


def _known(eqn, body) -> str | None:
    name = walk.call_name(body)
    if eqn.primitive.name != "custom_jvp_call" or name not in _KNOWN:
        return None
    found = " ".join(walk.primitives(body)).replace("ne ne or", "ne")
    return name if found == _KNOWN[name] else None


def _rectified(tape: Any, operation: Operation, weights: list[Weight]) -> list[Weight]:
    """`relu` and `relu6`, whose slope at 0 and 6 is that of the convention."""
    f, number, at_kink = tape.functions, tape.algebra.number, tape.convention.relu
    corners = (0.0, 6.0) if operation.name == "relu6" else (0.0,)
    kinks = []

    def times(w, x):
        if type(w) is int or f.lt(x, number(0.0)):
            return 0
        for corner in corners:
            if f.eq(x, number(corner)):
                kinks.append(x)
                return 0 if at_kink == 0 else w * number(at_kink)
        return 0 if len(corners) > 1 and f.gt(x, number(6.0)) else w

    part = elementwise(times, weights[0], operation.inputs[0])
    tape.notes.kink(operation, len(kinks), f"slope {at_kink:g} of relu")
    return [np.asarray(part, object)]
