"""The algebra of balls: every number with a radius that contains the true one, by Arb.

It is used where `python-flint` is installed. What it cannot decide in any precision, such as
which of two equal irrational numbers is larger, is left to mpmath.
"""

import functools
import importlib
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
from mpmath import libmp

from diffcompare._jaxpr.objects import Algebra
from diffcompare.exact import ball_functions, precision
from diffcompare.exact.numbers import ADVICE, MpmathAlgebra

Ball = Any

_PATIENCE = 2  # doublings of the precision for the sake of a decision


class UndecidedError(ArithmeticError):
    """Balls are too wide to decide, in this precision."""


class UnenclosedError(ArithmeticError):
    """There is no ball for a number: it is infinite, NaN, or of a function that Arb lacks."""


class BallAlgebra(Algebra):
    """Elements are balls of `bits` binary digits; to be used in that working precision."""

    name = "exact_grad"
    advice = ADVICE

    def __init__(self, flint: Any, bits: int):
        self.arb, self.bits = flint.arb, bits
        self.pi = flint.arb.pi()
        self._numbers = MpmathAlgebra(bits)
        self._rules = self._all_rules()

    @property
    def rules(self) -> Mapping[str, Callable[..., Any]]:
        return self._rules

    def number(self, value: float) -> Ball:
        return self.arb(float(value))

    def decide(self, condition):
        return condition

    def integer(self, element: Ball) -> int:
        cut = (element.floor() if element > 0 else element.ceil()).unique_fmpz()
        if cut is None:
            raise UndecidedError("integer")
        return int(cut)

    def sum(self, elements):
        return functools.reduce(operator.add, elements, self.arb(0))

    def dot(self, left, right):
        return functools.reduce(operator.add, map(operator.mul, left, right), self.arb(0))

    def is_nan(self, element: Ball) -> bool:
        if element.is_nan():
            raise UndecidedError("nan")  # or merely unknown
        return False

    def _all_rules(self):
        known = ball_functions.rules(self.arb, self._decided, self._whole)
        missing = {
            name: functools.partial(self._unenclosed, name)
            for name in self._numbers.rules
            if name not in known
        }
        guarded = {
            name: rule if name in ball_functions.UNGUARDED else self._guarded(name, rule)
            for name, rule in known.items()
        }
        return {**missing, **guarded}

    def _unenclosed(self, name, *args, **params):
        raise UnenclosedError(name)

    def _guarded(self, name, rule):
        """Returns a rule whose result is finite, or an exact infinity."""

        def guarded(*args, **params):
            result = rule(*args, **params)
            if result.is_finite():
                return result
            return self._special(name, args, params)

        return guarded

    def _special(self, name, args, params):
        """Returns what mpmath gives for exact arguments, where that is exact as well; else NaN.

        A ball that is NaN stands for a number of which nothing is known.
        """
        unknown = self.arb("nan")
        if any(not arg.is_exact() or arg.is_nan() for arg in args):
            return unknown
        context = self._numbers.context
        numbers = [
            context.make_mpf(exported(arg)._mpf_)
            if arg.is_finite()
            else self._numbers.number(float(arg))
            for arg in args
        ]
        found = self._numbers.rules[name](*numbers, **params)
        is_certain = not mpmath.isnan(found) and found in (0, 1, -1, 2, mpmath.inf, -mpmath.inf)
        return self.arb(float(found)) if is_certain else unknown

    def _decided(self, yes: Any, no: Any) -> bool:
        """Returns whether `yes`; raises where neither is certain."""
        if yes or no:
            return bool(yes)
        raise UndecidedError("comparison")

    def _whole(self, ball: Ball) -> Ball:
        """Returns an integer that is certain."""
        if not ball.is_finite() or ball.is_exact():
            return ball
        raise UndecidedError("integer")


def exported(ball: Ball) -> mpmath.mpf:
    """Returns the midpoint of a ball as a number of mpmath, unrounded."""
    mantissa, exponent = ball.mid().man_exp()
    return mpmath.mp.make_mpf(libmp.from_man_exp(int(mantissa), int(exponent)))


def solve(problem: precision.Problem, digits: int) -> precision.Solution:
    """Returns the value and the gradients to so many digits, enclosed where that is possible.

    Raises:
        PrecisionError: The digits were not reached in the largest precision.
    """
    try:
        flint = importlib.import_module("flint")
    except ImportError:
        return precision.solve(problem, digits)
    try:
        return _enclosed(flint, problem, digits)
    except UnenclosedError:
        return precision.solve(problem, digits)


def _enclosed(flint: Any, problem: precision.Problem, digits: int) -> precision.Solution:
    bits, undecided = precision.bits_for(digits), 0
    needed = math.ceil(digits * math.log2(10)) + 1
    while bits <= precision.LIMIT:
        try:
            with flint.ctx.workprec(bits):
                swept = precision.sweep(problem, BallAlgebra(flint, bits))
                balls = [flint.arb(0) if type(e) is int else e for e in swept.entries]
                accuracy = [_accuracy(ball, bits) for ball in balls]
                radii = [_radius(ball) for ball in balls]
            if swept.notes.is_refined:
                raise UnenclosedError("a number of steps")
            if not all(ball.is_finite() for ball in balls):
                raise UndecidedError("not finite")
        except UndecidedError:
            undecided += 1
            if undecided > _PATIENCE:
                raise UnenclosedError("undecided") from None
            bits *= 2
            continue
        zeros = [a is None for a in accuracy]
        if all(a is None or a >= needed for a in accuracy):
            if bits >= precision.DEEP or not any(zeros):
                return precision.Solution(
                    [
                        mpmath.mpf(0) if zero else exported(ball)
                        for ball, zero in zip(balls, zeros, strict=True)
                    ],
                    radii,
                    swept.notes,
                    precision.remarks(zeros, bits),
                    bits,
                    "arb",
                )
            bits = precision.DEEP
        else:
            bits *= 2
    raise precision.precision_error(digits)


def _accuracy(ball: Ball, bits: int) -> int | None:
    """Returns how many bits of a ball are certain; None where it may be 0."""
    if ball.is_exact():
        return bits
    return None if ball.contains(0) else int(ball.rel_accuracy_bits())


def _radius(ball: Ball) -> mpmath.mpf:
    if not ball.is_finite():
        return mpmath.inf
    if ball.is_exact() or not ball.contains(0):
        return exported(ball.rad())
    return exported(ball.abs_upper())
