"""The algebra of SymPy expressions, for interpreting a jaxpr over arrays of them."""

import sympy
from sympy import S

from diffcompare._jaxpr.objects import Algebra
from diffcompare.symbolic import functions as f
from diffcompare.symbolic import operations
from diffcompare.symbolic.convention import Convention

_ADVICE = "Use Symbolic(route='program'), a numerical method, or ReverseMode()."


class SympyAlgebra(Algebra):
    """Elements are SymPy expressions in real symbols.

    A comparison that SymPy can decide is a `bool`; another is a relational, and selecting
    by it gives a `Piecewise`.
    """

    name = "Symbolic(route='expression')"
    advice = _ADVICE

    def __init__(self, convention: Convention):
        self._rules = {**operations.elementwise(convention), **_LOGIC}

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
        if _is_open(condition):
            raise NotImplementedError(
                f"{self.name} cannot follow a branch or a loop whose condition depends on the "
                f"argument, {condition}. {_ADVICE}"
            )
        return condition

    def integer(self, element):
        if not element.is_number:
            raise NotImplementedError(
                f"{self.name} cannot round {element} to an integer, since it depends on the "
                f"argument. {_ADVICE}"
            )
        return int(element)

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
