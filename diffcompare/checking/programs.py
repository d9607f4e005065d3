"""What stands in a program, at any depth."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from diffcompare._jaxpr import walk

# What computes where no promotion reaches, in a precision that is not known.
_OPAQUE = frozenset(
    {"call_hi_primitive", "custom_partitioning", "ffi_call", "io_callback", "pallas_call",
     "pure_callback", "random_gamma", "shard_map"}
)  # fmt: skip
_LOOPS = ("scan", "while")
# Numbers that leave this many digits of their mantissa free are meant as they are, as 0.75 is.
_FREE = 3


class Place(NamedTuple):
    """An equation, and where it stands."""

    eqn: JaxprEqn
    jaxpr: ClosedJaxpr
    is_under_rule: bool  # in the function of a custom rule


def places(jaxpr: ClosedJaxpr | Jaxpr, is_under_rule: bool = False) -> Iterator[Place]:
    """Yields all equations of a program, those of loops and branches too."""
    closed = walk.close(jaxpr)
    for eqn in closed.jaxpr.eqns:
        yield Place(eqn, closed, is_under_rule)
        within = is_under_rule or eqn.primitive.name.startswith("custom_")
        for body in _bodies(eqn.params.values()):
            yield from places(body, within)


def is_opaque(jaxpr: ClosedJaxpr) -> bool:
    """Returns whether a part of a program is not seen by a promotion."""
    return any(place.eqn.primitive.name in _OPAQUE for place in places(jaxpr))


def has_loop_under_rule(jaxpr: ClosedJaxpr) -> bool:
    """Returns whether a loop stands in the function of a custom rule.

    A rule for the limit of an iteration is not wrong because the iteration was stopped.
    """
    return any(p.is_under_rule and p.eqn.primitive.name in _LOOPS for p in places(jaxpr))


def rounding_of_constants(program: ClosedJaxpr, of: ClosedJaxpr) -> float:
    """Returns the largest eps of the constants that a program has and another does not.

    A rule's own constant, such as the 2 / sqrt(pi) of the error function, is rounded to its dtype;
    that of the function itself is part of what it computes.
    """
    given = {abs(value) for value, _ in _constants(of)}
    return max(
        (
            eps
            for value, eps in _constants(program)
            if abs(value) not in given and not _is_short(value, eps)
        ),
        default=0.0,
    )


def computed_bytes(jaxpr: ClosedJaxpr) -> int:
    """Returns how many bytes all that a program computes in float64 would take."""
    variables = [v for place in places(jaxpr) for v in place.eqn.outvars] + jaxpr.jaxpr.invars
    return 8 * sum(math.prod(getattr(variable.aval, "shape", ())) for variable in variables)


def _constants(jaxpr: ClosedJaxpr) -> Iterator[tuple[float, float]]:
    """Yields the single floating-point numbers in a program, each with the eps of its dtype."""
    numbers: list[Any] = list(jaxpr.consts)
    for place in places(jaxpr):
        numbers += [atom.val for atom in place.eqn.invars if isinstance(atom, Literal)]
        numbers += [value for body in _bodies(place.eqn.params.values()) for value in body.consts]
    for number in numbers:
        dtype = getattr(number, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or np.size(number) != 1:
            continue
        value = float(np.asarray(number).astype(np.float64).reshape(()))
        if math.isfinite(value):
            yield value, float(jnp.finfo(dtype).eps)


def _is_short(value: float, eps: float) -> bool:
    digits = math.frexp(value)[0] / (eps * 2.0**_FREE)
    return digits == round(digits)


def _bodies(parameters: Any) -> Iterator[ClosedJaxpr]:
    for value in parameters:
        if isinstance(value, tuple | list):
            yield from _bodies(value)
        elif hasattr(value, "eqns") or (hasattr(value, "jaxpr") and hasattr(value, "consts")):
            yield walk.close(value)
