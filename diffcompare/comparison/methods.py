"""Which methods are compared, what they are called, and what is known of them beforehand."""

import dataclasses
import re
from typing import Any

from diffcompare.automatic import ForwardMode, ReverseMode
from diffcompare.method import Method, VjpMethod
from diffcompare.numerical import (
    BackwardDifference,
    CentralDifference,
    ComplexStep,
    Difference,
    ForwardDifference,
    ladder,
)
from diffcompare.numerical.richardson import Richardson
from diffcompare.symbolic import Budget, Symbolic

ORDERS = (2, 4, 6, 8)

# Seconds, on one core. XLA compiles an equation of a program in 3 to 7 ms; forwards, or by
# differences, a program has about twice the equations of the function for every array. What is
# derived symbolically takes up to 25 ms for each equation of the function. A formula of
# the route "expression" has an equation for each operation, of some 8 ms.
_COMPILED = 2 * 4e-3
_DERIVED = 25e-3
_PRINTED = 8e-3


def default(seconds: float) -> tuple[Method, ...]:
    """Returns the methods that are compared unless others are given, in the lecture's order."""
    budget = Budget(operations=max(1, int(seconds / _PRINTED)), seconds=seconds)
    return (
        ForwardDifference(),
        BackwardDifference(),
        *(CentralDifference(order=order) for order in ORDERS),
        Richardson(),
        ComplexStep(),
        Symbolic(route="matrix"),
        Symbolic(route="program"),
        Symbolic(route="expression", budget=budget),
        ForwardMode(),
        ReverseMode(),
    )


def name_of(method: Method) -> str:
    """Returns the name of a method in words.

    Example:
        >>> name_of(CentralDifference(order=4, step=0.5)), name_of(Symbolic(route="matrix"))
        ('central difference, order 4, step 0.5', 'symbolic, matrix')
    """
    kind = type(method).__name__
    # A word for each capital letter; Richardson is a name.
    words = kind if kind == "Richardson" else re.sub(r"(?<!^)(?=[A-Z])", " ", kind).lower()
    parts = [words]
    fields: Any = dataclasses.fields(method) if dataclasses.is_dataclass(method) else ()
    for field in fields:
        value = getattr(method, field.name)
        if field.name in ("order", "step") and value is not None:
            parts.append(f"{field.name} {value}")
        elif field.name == "route":
            parts.append(str(value))
        elif field.name not in ("budget", "step") and value != field.default:
            parts.append(f"{field.name} {value}")
    # The order belongs to the kind, the step to the call.
    return ", ".join(sorted(parts, key=lambda part: (part != words, part.startswith("step "))))


def evaluations(method: Method, entries: int) -> int | None:
    """Returns at how many points a method evaluates the function for a gradient.

    None is returned for a method that is none of the package's own.
    """
    if isinstance(method, Difference):
        offsets = {offset for a, b, _ in method.quotients for offset in (a, b)}
        return len(offsets - {0}) * entries + (0 in offsets)
    if isinstance(method, Richardson):
        return ladder.EVALUATIONS * entries
    if isinstance(method, ComplexStep | ForwardMode):
        return entries
    return 1 if isinstance(method, ReverseMode | Symbolic) else None


def preparation(method: Method, equations: int, arrays: int) -> float:
    """Returns about how many seconds it takes to derive and compile a gradient.

    What follows the function once, as reverse mode does, takes a few times as long as the
    function itself, and is not worth an estimate.
    """
    if isinstance(method, Symbolic):
        return _DERIVED * equations
    return 0.0 if isinstance(method, VjpMethod) else _COMPILED * equations * arrays
