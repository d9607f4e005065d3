"""What a function decides by the values of its arguments, decided at known ones."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import sympy
from sympy import S

from diffcompare.symbolic import operations
from diffcompare.symbolic.evaluation import evaluate

_DIGITS = 60  # beyond which two numbers count as one; a tie is a kink of the function


@dataclasses.dataclass(frozen=True)
class Condition:
    """Something that was decided, and how: a relation that holds, or an expression's integer."""

    expression: sympy.Basic
    outcome: bool | int

    def holds(self, values: dict[sympy.Basic, Any], dtype: Any) -> Any:
        """Returns whether it is decided in the same way by these arrays, as JAX computes them."""
        found = evaluate(sympy.sympify(self.expression), values, dtype)
        if isinstance(self.outcome, bool):
            return found == self.outcome
        # An integer is cut towards zero.
        return (found - found % 1 if self.outcome >= 0 else -((-found) // 1)) == self.outcome

    def __str__(self) -> str:
        if self.outcome is True:
            return str(self.expression)
        if self.outcome is False:
            negative = sympy.Not(self.expression)
            return str(negative)
        return f"trunc({self.expression}) = {self.outcome}"


class Path:
    """Decides by known values, and remembers what."""

    def __init__(self, known: Mapping[sympy.Symbol, float]):
        self._numbers = {symbol: operations.exact(float(value)) for symbol, value in known.items()}
        self._found: dict[sympy.Basic, Condition] = {}

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return tuple(self._found.values())

    def decide(self, condition: Any) -> bool | int | None:
        """Returns the truth of a condition, or the number of a case; None where it is open."""
        if isinstance(condition, sympy.Piecewise):  # a truth, as the number of a case
            (one, inner), *rest = (pair.args for pair in condition.args)
            if one == 1 and rest == [(S.Zero, S.true)]:
                outcome = self.decide(inner)
                return None if outcome is None else int(outcome)
        return self._outcome(condition, self._truth)

    def integer(self, element: Any) -> int | None:
        """Returns an expression cut to an integer; None where it is open."""
        return self._outcome(element, self._cut)

    def _outcome(self, expression, how):
        if not expression.free_symbols <= self._numbers.keys():
            return None
        if expression not in self._found:
            outcome = how(expression.xreplace(self._numbers))
            if outcome is None:
                return None
            self._found[expression] = Condition(expression, outcome)
        return self._found[expression].outcome

    def _truth(self, condition):
        if isinstance(condition, sympy.Expr):  # the number of a case
            return self._cut(condition)
        if condition in (S.true, S.false):
            return bool(condition)
        if isinstance(condition, sympy.core.relational.Relational):
            return _compared(condition)
        if isinstance(condition, sympy.Not):
            inner = self._truth(condition.args[0])
            return None if inner is None else not inner
        parts = [self._truth(part) for part in condition.args]
        if None in parts:
            return None
        if isinstance(condition, sympy.And):
            return all(parts)
        if isinstance(condition, sympy.Or):
            return any(parts)
        return sum(parts) % 2 == 1 if isinstance(condition, sympy.Xor) else None

    def _cut(self, expression):
        value = expression.evalf(_DIGITS)
        return int(value) if value.is_real and value.is_finite else None


def _compared(relation: Any) -> bool | None:
    """Returns the truth of a relation between numbers."""
    difference = (relation.lhs - relation.rhs).evalf(_DIGITS)
    if not difference.is_comparable and difference != 0:
        return None
    scale = max(abs(side.evalf(15)) for side in (relation.lhs, relation.rhs))
    sign = 0 if abs(difference) <= scale * S(10) ** -40 else 1 if difference > 0 else -1
    return bool(relation.func(sign, 0))
