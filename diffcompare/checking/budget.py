"""What walks may cost, counted in operations, so that the same check always ends the same way."""

import math
from collections.abc import Mapping
from typing import Any

from diffcompare._jaxpr import movement

# Nominal microseconds of an operation on numbers of 640 bits, measured with gmpy2 2.3.
_OF_ENTRIES: Mapping[str, float] = {
    name: cost
    for names, cost in {
        "eq ge gt le lt ne is_finite select_n": 0.1,
        "abs add add_any max min mul neg square sub": 0.25,
        "div integer_pow clamp rem round floor ceil sign": 0.6,
        "cbrt rsqrt sqrt": 1.5,
        "cos exp exp2 expm1 sin sinh cosh tan tanh logistic": 8.0,
        "log log1p log2 asinh acosh atanh": 15.0,
        "acos asin atan atan2 pow": 30.0,
        "erf erfc": 50.0,
        "lgamma": 200.0,
        "digamma igamma igammac": 700.0,
        "bessel_i0e bessel_i1e": 700.0,
        "erf_inv regularized_incomplete_beta": 2000.0,
        "polygamma": 8000.0,
        "igamma_grad_a random_gamma_grad": 20000.0,
        "zeta": 35000.0,
    }.items()
    for name in names.split()
}  # fmt: skip
_MOVED = 0.02
_CONTRACTED = 0.35  # a multiplication and an addition
_COMPARED = 0.5  # in sorting, for each entry and doubling of their number
# Of an equation, however small: what Python needs for it.
_STEP = 25.0


class OverBudget(RuntimeError):
    """A walk would cost more than it may."""


class Budget:
    """Counts what walks cost.

    Args:
        seconds: How much they may cost, in nominal seconds: about those of this kind of walk on
            a processor of 2024, and the same on every machine.

    Example:
        >>> budget = Budget(2.0)
        >>> budget.spend(0.5)
        >>> budget.left
        1.5
    """

    def __init__(self, seconds: float):
        self.seconds, self.spent, self.walks = seconds, 0.0, 0

    @property
    def left(self) -> float:
        """Nominal seconds."""
        return self.seconds - self.spent

    def spend(self, seconds: float) -> None:
        """Counts a cost.

        Raises:
            OverBudget: It is more than is left.
        """
        if seconds > self.left:
            raise OverBudget(
                f"The exact walk would take more than {self.seconds:g} seconds, of which "
                f"{self.spent:.2g} were spent."
            )
        self.spent += seconds

    def charge(self, eqn: Any) -> None:
        """Counts an equation that is about to be interpreted.

        Raises:
            OverBudget: It costs more than is left.
        """
        self.spend((_STEP + _cost(eqn)) * 1e-6)


def _cost(eqn: Any) -> float:
    """Returns the cost of an equation in nominal microseconds, without what it calls."""
    name = eqn.primitive.name
    outputs = sum(math.prod(variable.aval.shape) for variable in eqn.outvars)
    if name in movement.MOVED or name in movement.IDENTITIES:
        return _MOVED * outputs
    if name == "dot_general":
        (summed, _), _ = eqn.params["dimension_numbers"]
        return _CONTRACTED * outputs * math.prod(eqn.invars[0].aval.shape[axis] for axis in summed)
    if name in _OF_ENTRIES:
        return _OF_ENTRIES[name] * outputs
    inputs = sum(math.prod(variable.aval.shape) for variable in eqn.invars)
    if name in ("sort", "top_k"):
        return _COMPARED * inputs * math.log2(max(inputs, 2))
    return _OF_ENTRIES["add"] * max(inputs, outputs)
