"""The algebra of mpmath numbers: a jaxpr in as many digits as one asks for.

What each primitive gives at infinities, NaN and outside of its domain is what it gives in
floating point: the logarithm of a negative number is NaN, 1 / 0 is an infinity.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
from mpmath import libmp

from diffcompare._jaxpr.objects import Algebra
from diffcompare.exact import elementary, special

ADVICE = "Leave it out, write it with other functions, or use estimate for a gradient with a bound."


class MpmathAlgebra(Algebra):
    """Elements are mpmath numbers of a context of their own, of `bits` binary digits.

    Example:
        >>> import jax
        >>> from diffcompare._jaxpr import objects, walk
        >>> interpreter = objects.ObjectInterpreter(MpmathAlgebra(bits=100))
        >>> jaxpr = jax.make_jaxpr(lambda x: 1 / x)(3.0)
        >>> (output,) = walk.walk(jaxpr, interpreter, [interpreter.lifted(3.0)])
        >>> print(mpmath.nstr(output.item(), 25))
        0.3333333333333333333333333
    """

    name = "exact_grad"
    advice = ADVICE

    def __init__(self, bits: int):
        self.bits = bits
        self.context = mpmath.MPContext()
        self.context.prec = bits
        self.pi = +self.context.pi
        self._rules = {**elementary.rules(self.context), **special.rules(self.context), **LOGIC}

    @property
    def rules(self) -> Mapping[str, Callable[..., Any]]:
        return self._rules

    def number(self, value: float) -> Any:
        # Not rounded, whatever the precision: it is what the program holds.
        return self.context.make_mpf(libmp.from_float(float(value)))

    def integer(self, element: Any) -> int:
        if not self.context.isfinite(element):
            raise ValueError(f"exact_grad cannot cut {element} to an integer.")
        return int(element)

    def sum(self, elements):
        return self.context.fsum(elements)

    def dot(self, left, right):
        return self.context.fdot(zip(left, right, strict=True))

    def is_nan(self, element: Any) -> bool:
        return self.context.isnan(element)


def _ordered_before(a: Any, b: Any) -> bool:
    """Returns whether `a` comes before `b` where NaN comes last."""
    return a < b or (b != b and a == a)


LOGIC: Mapping[str, Callable[..., Any]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt_to": _ordered_before,
    "le_to": lambda a, b: not _ordered_before(b, a),
    "eq_to": lambda a, b: a == b or (a != a and b != b),
    "and": lambda a, b: bool(a) and bool(b),
    "or": lambda a, b: bool(a) or bool(b),
    "xor": lambda a, b: bool(a) != bool(b),
    "not": lambda a: not a,
}
