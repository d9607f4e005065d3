"""What stands in a program, at any depth."""

import math
from collections.abc import Callable, Iterator
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


def with_moved_constants(program: ClosedJaxpr, of: ClosedJaxpr, seed: int) -> ClosedJaxpr | None:
    """Returns a program whose own constants are off by their rounding; None if there are none.

    A rule's own constant, such as the 2 / sqrt(pi) of the error function, is rounded to its dtype.
    One that the function has as well is part of what it computes.

    Args:
        program: The claimed one.
        of: The function's.
        seed: Of the signs, up or down.
    """
    given = {abs(value) for value, _ in map(_number, _constants(of))}
    random, count = np.random.default_rng(seed), 0

    def moved(constant: Any) -> Any:
        nonlocal count
        value, eps = _number(constant)
        if eps == 0 or abs(value) in given or _is_short(value, eps):
            return constant
        count += 1
        shifted = np.full(np.shape(constant), value * (1 + eps * random.choice([-1.0, 1.0])))
        return shifted.astype(constant.dtype)[()]

    found = _rebuilt(program, moved)
    return found if count else None


def _rebuilt(jaxpr: ClosedJaxpr, moved: Callable[[Any], Any]) -> ClosedJaxpr:
    def of_parameter(value):
        if isinstance(value, tuple | list):
            items = [of_parameter(item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if _is_closed(value):
            return _rebuilt(value, moved)
        return _rebuilt(walk.close(value), moved).jaxpr if hasattr(value, "eqns") else value

    equations = [
        eqn.replace(
            invars=[
                Literal(moved(atom.val), atom.aval) if isinstance(atom, Literal) else atom
                for atom in eqn.invars
            ],
            params={key: of_parameter(value) for key, value in eqn.params.items()},
        )
        for eqn in jaxpr.jaxpr.eqns
    ]
    return ClosedJaxpr(jaxpr.jaxpr.replace(eqns=equations), [moved(c) for c in jaxpr.consts])


def computed_bytes(jaxpr: ClosedJaxpr) -> int:
    """Returns how many bytes all that a program computes in float64 would take."""
    variables = [v for place in places(jaxpr) for v in place.eqn.outvars] + jaxpr.jaxpr.invars
    return 8 * sum(math.prod(getattr(variable.aval, "shape", ())) for variable in variables)


def _constants(jaxpr: ClosedJaxpr) -> Iterator[Any]:
    yield from jaxpr.consts
    for place in places(jaxpr):
        yield from (atom.val for atom in place.eqn.invars if isinstance(atom, Literal))
        for body in _bodies(place.eqn.params.values()):
            yield from body.consts


def _number(constant: Any) -> tuple[float, float]:
    """Returns a single floating-point number and the eps of its dtype; zeros for all else."""
    dtype = getattr(constant, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or np.size(constant) != 1:
        return 0.0, 0.0
    value = float(np.asarray(constant).astype(np.float64).reshape(()))
    return (value, float(jnp.finfo(dtype).eps)) if math.isfinite(value) else (0.0, 0.0)


def _is_short(value: float, eps: float) -> bool:
    """Returns whether a number is meant as it is, as 0.75 is: it has less than half the digits.

    One in 32 rounded numbers of bfloat16 does by chance, of float32 one in 8192.
    """
    digits = (1 - round(math.log2(eps))) // 2 - 1
    mantissa = math.frexp(value)[0] * 2.0**digits
    return mantissa == round(mantissa)


def _bodies(parameters: Any) -> Iterator[ClosedJaxpr]:
    for value in parameters:
        if isinstance(value, tuple | list):
            yield from _bodies(value)
        elif hasattr(value, "eqns") or _is_closed(value):
            yield walk.close(value)


def _is_closed(value: Any) -> bool:
    return hasattr(value, "jaxpr") and hasattr(value, "consts")
