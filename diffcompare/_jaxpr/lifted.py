"""Values that are moved along the step: a real part, and an imaginary part beside it."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import jax.numpy as jnp
from jax.extend.core import JaxprEqn


class Lifted(NamedTuple):
    """A value `re + j im`, where `j` is the unit of the complex step, with `j * j == -1`.

    The parts have one shape and one dtype, which is complex where the function itself
    computes with complex numbers: their `i` is another unit than `j`. Kept apart, the real
    part is not copied when a batch of directions gives the imaginary part one axis more.
    """

    re: Any
    im: Any


class Bits(NamedTuple):
    """An integer made of the bits of a lifted value.

    It must not become a float again, unless all that happened to it is that last digits were
    cleared: that is rounding.
    """

    value: Any
    source: Lifted | None  # whose bits they are, but for last digits


def is_lifted(value: Any) -> TypeGuard[Lifted]:
    return isinstance(value, Lifted)


def real(value: Any) -> Any:
    """Returns the real part of a value, which is all of it unless it is lifted."""
    return value.re if is_lifted(value) else value


def imaginary(value: Any) -> Any:
    """Returns the imaginary part of a value, zeros unless it is lifted."""
    return value.im if is_lifted(value) else jnp.zeros_like(value)


def lift(value: Any) -> Lifted:
    """Returns a value with an imaginary part, of zeros where it has none."""
    return Lifted(real(value), imaginary(value))


def is_inexact(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


def bind(eqn: JaxprEqn, operands: Sequence[Any], **changes: Any) -> list[Any]:
    """Returns the outputs of an equation's primitive for other operands and parameters."""
    params = {**eqn.primitive.get_bind_params(eqn.params), **changes}
    outputs = eqn.primitive.bind(*operands, **params)
    return list(outputs) if eqn.primitive.multiple_results else [outputs]
