"""The algebra of SymPy expressions, for interpreting a jaxpr over arrays of them."""

import sympy
from sympy import S

from diffcompare._jaxpr.objects import Algebra
from diffcompare.symbolic import functions as f
from diffcompare.symbolic import operations
from diffcompare.symbolic.budget import Clock
from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.paths import Path

_ADVICE = "Use Symbolic(route='program'), a numerical method, or ReverseMode()."


class SympyAlgebra(Algebra):
    """Elements are SymPy expressions in real symbols.

    A comparison that SymPy can decide is a `bool`; another is a relational, and selecting
    by it gives a `Piecewise`. Where a choice has to be made, it is made by known values.

    Args:
        convention: What the derivative is at a kink.
        path: Decides by known values, and remembers what it decided.
        clock: Stops what takes too long.
    """

    name = "Symbolic(route='expression')"
    advice = _ADVICE

    def __init__(
        self, convention: Convention, path: Path | None = None, clock: Clock | None = None
    ):
        rules = {**operations.elementwise(convention), **_LOGIC}
        self._path = Path({}) if path is None else path
        self._rules = rules if clock is None else {k: _timed(r, clock) for k, r in rules.items()}

    @property
    def rules(self):
        return self._rules

    def number(self, value):
        return operations.exact(value)

    def select(self, which, cases):
        if not _is_open(which):
            return cases[int(which)]
        if all(case == cases[0] for case in cases):
            return cases[0]
        if isinstance(which, sympy.Expr):  # the number of a case
            *numbered, last = enumerate(cases)
            pairs = [(case, sympy.Eq(which, number)) for number, case in numbered]
            return sympy.Piecewise(*pairs, (last[1], True), evaluate=False)
        return sympy.Piecewise((cases[1], which), (cases[0], True), evaluate=False)

    def decide(self, condition):
        if not _is_open(condition):
            return condition
        outcome = self._path.decide(condition)
        if outcome is None:
            raise NotImplementedError(
                f"{self.name} cannot follow a choice, a branch or a loop whose condition depends "
                f"on the argument, {_short(condition)}, where the argument is not known, as under "
                f"jit. {_ADVICE}"
            )
        return outcome

    def integer(self, element):
        if element.is_number:
            return int(element)
        outcome = self._path.integer(element)
        if outcome is None:
            raise NotImplementedError(
                f"{self.name} cannot round {_short(element)} to an integer, since it depends on "
                f"the argument, which is not known, as under jit. {_ADVICE}"
            )
        return outcome

    def sum(self, elements):
        return sympy.Add(*elements)

    def product(self, elements):
        return sympy.Mul(*elements)

    def largest(self, elements):
        return elements[0] if len(elements) == 1 else f.largest(*elements)

    def smallest(self, elements):
        return elements[0] if len(elements) == 1 else f.smallest(*elements)

    def call(self, name, body):
        known = operations.known_call(name, body)
        return None if known is None else self.rules[known]


def _timed(rule, clock: Clock):
    def timed(*arguments, **params):
        clock.check()
        return rule(*arguments, **params)

    return timed


def _short(expression) -> str:
    text = str(expression)
    return text if len(text) < 200 else f"{text[:200]} ..."


def _is_open(condition) -> bool:
    """Returns whether a condition, or the number of a case, depends on symbols."""
    return isinstance(condition, sympy.Basic) and bool(condition.free_symbols)


def _decided(condition):
    """Returns a bool where SymPy knows the truth, so that arrays of conditions stay concrete."""
    return bool(condition) if condition in (S.true, S.false) else condition


def _comparison(relation):
    def compare(a, b):
        if operations.NAN in (a, b):  # a NaN compares as unequal
            return relation is sympy.Ne
        return _decided(relation(a, b))

    return compare


def _is_finite(a):
    # Symbols stand for finite numbers.
    return not (a is operations.NAN or a in (S.Infinity, S.NegativeInfinity))


_LOGIC = {
    "lt": _comparison(sympy.Lt),
    "le": _comparison(sympy.Le),
    "gt": _comparison(sympy.Gt),
    "ge": _comparison(sympy.Ge),
    "eq": _comparison(sympy.Eq),
    "ne": _comparison(sympy.Ne),
    "and": lambda a, b: _decided(sympy.And(_plain(a), _plain(b))),
    "or": lambda a, b: _decided(sympy.Or(_plain(a), _plain(b))),
    "xor": lambda a, b: _decided(sympy.Xor(_plain(a), _plain(b))),
    "not": lambda a: _decided(sympy.Not(_plain(a))),
    "is_finite": _is_finite,
}


def _plain(condition):
    return condition if _is_open(condition) else bool(condition)
