"""What goes back through a tape: nodes, weights, and notes of kinks on the way."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

Array = np.ndarray  # of elements
Weight = Array | None  # None is zero everywhere


class Node:
    """An array that depends on the argument."""

    __slots__ = ("key", "value")

    def __init__(self, value: Array, key: int):
        self.value, self.key = value, key

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


class Operation(NamedTuple):
    """An equation that was interpreted, and what its way back needs."""

    name: str  # of the primitive, or of a function that is known as a whole
    eqn: JaxprEqn
    inputs: Sequence[Array]
    outputs: Sequence[Array]
    active: Sequence[bool]  # of each input, whether it depends on the argument
    place: str  # the user's line


class Kink(NamedTuple):
    """Entries where an operation has no derivative, or two."""

    primitive: str
    place: str  # the user's line, or an empty string
    entries: int
    convention: str  # what was taken for the derivative


@dataclasses.dataclass
class Notes:
    """What a sweep over the tape met."""

    kinks: dict[tuple[str, str, str], int] = dataclasses.field(default_factory=dict)
    has_custom_nan: bool = False  # a user's rule said NaN
    is_refined: bool = False  # eigenvalues were found by a number of steps, not to any precision

    def kink(self, operation: Operation, entries: int, convention: str) -> None:
        if entries:
            key = (operation.name, operation.place, convention)
            self.kinks[key] = self.kinks.get(key, 0) + entries


def plain_value(value: Any) -> Any:
    """Returns the array of a node; other values are left alone."""
    return value.value if isinstance(value, Node) else value


def zeros(shape: Sequence[int]) -> Array:
    """Returns weights that are zero by structure."""
    array = np.empty(shape, object)
    array[...] = 0
    return array


def is_zero(weight: Weight) -> bool:
    """Returns whether a weight is zero by structure, in all entries."""
    return weight is None or all(type(entry) is int for entry in weight.flat)


def is_floating(variable: Any) -> bool:
    """Returns whether a variable of a jaxpr holds real floating-point numbers."""
    return jnp.issubdtype(variable.aval.dtype, jnp.floating)
