"""What elements of arrays are, and what can be done with them: one row for each primitive."""

import abc
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr

from diffcompare._jaxpr.elements import array_of, elementwise

# Parameters of primitives that change what an entry becomes. Others (accuracy, sharding)
# concern how a machine computes it.
PARAMETERS = {
    "integer_pow": ("y",),
    "round": ("rounding_method",),
}


class Algebra(abc.ABC):
    """What elements are, and what can be done with them.

    A new algebra gives `number`, the rows of `rules`, and whatever below it can do better.
    """

    name: str  # how messages call it
    advice: str = ""  # what to do where a rule is missing

    @property
    @abc.abstractmethod
    def rules(self) -> Mapping[str, Callable[..., Any]]:
        """One function of elements for each primitive that works entry by entry.

        The keys are names of primitives. Comparisons (`lt`, `eq`, ...) return a `bool` or
        a condition of the algebra's own; `and`, `or`, `not` take those. Parameters listed
        in `PARAMETERS` come as keywords.
        """

    @abc.abstractmethod
    def number(self, value: float) -> Any:
        """Returns the element for a binary fraction, exactly; `value` may be inf or nan."""

    def select(self, which: Any, cases: Sequence[Any]) -> Any:
        """Returns the case that `which` names, a `bool`, an `int` or a condition."""
        return cases[int(self.decide(which))]

    def decide(self, condition: Any) -> bool | int:
        """Returns a condition as a number, or raises where it depends on what is unknown."""
        return condition

    def integer(self, element: Any) -> int:
        """Returns an element cut to an integer, or raises where it is unknown."""
        return math.trunc(element)

    def approximate(self, element: Any) -> float:
        """Returns a machine number near to an element, or raises where it is unknown."""
        try:
            return float(element)
        except TypeError as error:
            raise NotImplementedError(
                f"{self.name} has no number for {str(element)[:60]}, from which eigenvalues and "
                f"singular values are refined. {self.advice}"
            ) from error

    @property
    def whole(self) -> Mapping[str, Callable[..., Any]]:
        """Functions of whole arrays of elements, which broadcast, in place of `rules`."""
        return {}

    def lifted(self, array: Any) -> np.ndarray:
        """Returns an array of elements for an array of numbers."""
        return elementwise(lambda entry: self.number(float(entry)), np.asarray(array))

    def matmul(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Returns products of matrices of elements, (batch, m, k) with (batch, k, n)."""
        products = [
            self.dot(list(row), list(column))
            for rows, columns in zip(left, right, strict=True)
            for row in rows
            for column in columns.T
        ]
        return array_of(products, (len(left), left.shape[1], right.shape[2]))

    def sum(self, elements: Sequence[Any]) -> Any:
        return functools.reduce(self.rules["add"], elements, self.number(0.0))

    def dot(self, left: Sequence[Any], right: Sequence[Any]) -> Any:
        return self.sum([self.rules["mul"](a, b) for a, b in zip(left, right, strict=True)])

    def product(self, elements: Sequence[Any]) -> Any:
        return functools.reduce(self.rules["mul"], elements, self.number(1.0))

    def largest(self, elements: Sequence[Any]) -> Any:
        return functools.reduce(self.rules["max"], elements)

    def smallest(self, elements: Sequence[Any]) -> Any:
        return functools.reduce(self.rules["min"], elements)

    def call(self, name: str, body: ClosedJaxpr) -> Callable[..., Any] | None:
        """Returns a function of elements for a known custom rule; None differentiates its body."""
        return None
