"""Arithmetic in a fixed number of binary digits for walks that need no more: gmpy2, else mpmath.

gmpy2 holds its numbers in C, and NumPy adds and multiplies arrays of them; mpmath, which is always
there, gives the same to the last digits at several times the cost.
"""

import abc
import contextlib
import importlib
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from diffcompare._jaxpr import elements
from diffcompare._jaxpr.objects import Algebra
from diffcompare.exact import special
from diffcompare.exact.numbers import LOGIC, MpmathAlgebra

Number = Any

# Numbers that the functions of mpmath get and give, beyond those that are asked for.
_GUARD = 32
# Below the exponent of any number that is met.
_OF_ZERO = -(2**62)


class Arithmetic(Algebra):
    """Numbers of a fixed precision, as a walk needs them."""

    name = "the exact walk"
    advice = "The function is judged by differences of its values instead."
    bits: int

    @abc.abstractmethod
    def finite(self, x: Number) -> bool:
        """Returns whether a number is neither infinite nor NaN."""

    @abc.abstractmethod
    def scaled(self, x: Number, exponent: int) -> Number:
        """Returns `x * 2**exponent`, exactly."""

    @abc.abstractmethod
    def exponent(self, x: Number) -> int:
        """Returns the power of two just above the size of a finite number; very small for 0."""

    def magnitude(self, array: np.ndarray) -> int:
        """Returns the largest exponent of the finite entries of an array."""
        finite, exponent = self.finite, self.exponent
        return max((exponent(x) for x in array.flat if finite(x)), default=_OF_ZERO)

    @abc.abstractmethod
    def wider(self, bits: int) -> "Arithmetic":
        """Returns the same kind of arithmetic with `bits` binary digits."""

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Returns a context within which operators on numbers round to this precision."""
        return contextlib.nullcontext()


def arithmetic(bits: int) -> Arithmetic:
    """Returns the fastest arithmetic there is.

    Example:
        >>> numbers = arithmetic(640)
        >>> with numbers.active():
        ...     third = numbers.number(1.0) / numbers.number(3.0)
        ...     print(float(numbers.scaled(third * 3 - 1, 600)))
        0.0
    """
    try:
        return GmpyAlgebra(bits)
    except ImportError:
        return MpmathArithmetic(bits)


class MpmathArithmetic(MpmathAlgebra, Arithmetic):
    """Numbers of mpmath; what overflows is infinite."""

    name, advice = Arithmetic.name, Arithmetic.advice

    def __init__(self, bits: int):
        super().__init__(bits)
        m = self.context
        unary = ("exp", "exp2", "expm1", "sinh", "cosh", "sin", "cos", "tan")
        self._rules.update(
            {name: _at_its_limit(self._rules[name], m.inf) for name in unary},
            pow=_unless_too_large(self._rules["pow"], m.nan),
        )

    def finite(self, x):
        return self.context.isfinite(x)

    def scaled(self, x, exponent):
        return self.context.ldexp(x, exponent)

    def exponent(self, x):
        _, mantissa, exponent, digits = x._mpf_
        return exponent + digits if mantissa else _OF_ZERO

    def wider(self, bits):
        return MpmathArithmetic(bits)

    def integer(self, element):
        # As floating point does where it must give something.
        return int(element) if self.context.isfinite(element) else 0


def _at_its_limit(rule, infinity):
    def limited(x):
        try:
            return rule(x)
        except OverflowError:
            return rule(infinity if x > 0 else -infinity)

    return limited


def _unless_too_large(rule, unknown):
    def limited(a, b):
        try:
            return rule(a, b)
        except OverflowError:
            return unknown

    return limited


class GmpyAlgebra(Arithmetic):
    """Numbers of gmpy2, with the special values of floating point, signed zeros included.

    Its precision belongs to a context of the thread: operators on numbers round to it within
    `active()` only.

    Raises:
        ImportError: gmpy2 is not installed.
    """

    def __init__(self, bits: int):
        self.bits = bits
        self._gmpy2 = gmpy2 = importlib.import_module("gmpy2")
        self._precision = {
            "precision": bits, "emax": gmpy2.get_emax_max(), "emin": gmpy2.get_emin_min(),
        }  # fmt: skip
        with self.active():
            self.pi = gmpy2.const_pi()
            self._rules = rules(gmpy2, bits)
        self._lift = np.frompyfunc(gmpy2.mpfr, 1, 1)

    @property
    def rules(self) -> Mapping[str, Callable[..., Any]]:
        return self._rules

    @property
    def whole(self) -> Mapping[str, Callable[..., Any]]:
        return _WHOLE

    def active(self):
        # All settings but these are the usual ones: nothing traps, nothing becomes complex.
        return self._gmpy2.context(self._gmpy2.context(), **self._precision)

    def exponent(self, x):
        return self._gmpy2.get_exp(x) if x else _OF_ZERO

    def wider(self, bits):
        return GmpyAlgebra(bits)

    def number(self, value):
        return self._gmpy2.mpfr(float(value), 53)  # exact, within a context or not

    def lifted(self, array):
        with np.errstate(all="ignore"):
            return elements.as_array(self._lift(np.asarray(array).astype(np.float64)))

    def integer(self, element):
        return int(element) if self.finite(element) else 0

    def finite(self, x):
        return self._gmpy2.is_finite(x)

    def is_nan(self, element: Number) -> bool:
        return self._gmpy2.is_nan(element)

    def scaled(self, x, exponent):
        if exponent < 0:
            return self._gmpy2.div_2exp(x, -exponent)
        return self._gmpy2.mul_2exp(x, exponent)

    def sum(self, elements):
        return self._gmpy2.fsum(elements)

    def dot(self, left, right):
        return self._gmpy2.fsum([a * b for a, b in zip(left, right, strict=True)])

    def matmul(self, left, right):
        if not left.shape[2]:  # of which NumPy makes no number
            return np.full((len(left), left.shape[1], right.shape[2]), self.number(0.0))
        return np.matmul(left, right)


# Functions of whole arrays of numbers.
_WHOLE: Mapping[str, Callable[..., Any]] = {
    "abs": np.absolute,
    "add": np.add,
    "add_any": np.add,
    "div": np.true_divide,
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "square": lambda a: np.multiply(a, a),
    "sub": np.subtract,
}


def rules(g: Any, bits: int) -> Mapping[str, Callable[..., Any]]:
    """Returns a function of numbers of gmpy2 for every primitive that works entry by entry."""
    return {**_arithmetic(g), **_functions(g), **_steps(g), **_by_mpmath(g, bits), **LOGIC}


def _arithmetic(g):
    zero, one, six = g.mpfr(0), g.mpfr(1), g.mpfr(6)

    def maximum(a, b):
        if a == b:
            return a if a else a + b  # of zeros the positive one
        return a if a != a or a > b else b

    def minimum(a, b):
        if a == b:
            return a if a else -(-a - b)
        return a if a != a or a < b else b

    def integer_pow(a, y):
        # Of an exponent that is a Python integer the sign of zero would be lost.
        return a * a if y == 2 else a ** g.mpfr(y)

    return {
        "add": operator.add,
        "add_any": operator.add,
        "sub": operator.sub,
        "mul": operator.mul,
        "div": operator.truediv,
        "neg": operator.neg,
        "abs": abs,
        "square": lambda a: a * a,
        "one_minus_square": lambda a: one - a * a,
        "integer_pow": integer_pow,
        "pow": operator.pow,
        "max": maximum,
        "min": minimum,
        "clamp": lambda low, x, high: minimum(maximum(x, low), high),
        "rem": g.fmod,
        "polynomial": elements.polynomial,
        "is_finite": g.is_finite,
        "sign": lambda x: x if x != x or x == zero else one if x > zero else -one,
        "relu": lambda x: x if x != x or x > zero else zero,
        "relu6": lambda x: minimum(maximum(x, zero), six),
        "stop_gradient": lambda a: a,
    }


def _functions(g):
    zero, one, minus_infinity = g.mpfr(0), g.mpfr(1), g.mpfr("-inf")

    def logistic(x):
        small = g.exp(-abs(x))
        return small / (one + small) if x < zero else one / (one + small)

    def digamma(x):
        return g.digamma(x) if x != zero else minus_infinity

    def logaddexp(a, b):
        high, low = (a, b) if a >= b else (b, a)
        if a != a or b != b:
            return a + b
        if g.is_infinite(high) or g.is_infinite(low):
            return high + zero
        return high + g.log1p(g.exp(low - high))

    names = """acos acosh asin asinh atan atan2 atanh cbrt cos cosh erf erfc exp exp2 expm1 log
        log1p log2 sin sinh sqrt tan tanh"""
    return {
        **{name: getattr(g, name) for name in names.split()},
        "digamma": digamma,
        "lgamma": lambda x: g.lgamma(x)[0],
        "logaddexp": logaddexp,
        "logistic": logistic,
        "rsqrt": lambda x: one / g.sqrt(x),
        "xlog1py": lambda x, y: zero if x == zero and y == y else x * g.log1p(y),
        "xlogy": lambda x, y: zero if x == zero and y == y else x * g.log(y),
    }


def _steps(g):
    nearest = {0: g.rint_round, 1: g.rint}  # lax.RoundingMethod: 0 away from zero, 1 to even
    return {
        "ceil": g.rint_ceil,
        "floor": g.rint_floor,
        "round": lambda x, rounding_method: nearest[int(rounding_method)](x),
    }


def _by_mpmath(g, bits):
    """Returns the special functions that gmpy2 has not."""
    algebra = MpmathAlgebra(bits + _GUARD)
    known = special.rules(algebra.context)
    own = ("digamma", "erf", "erfc", "lgamma")
    found = {name: _converted(g, algebra, known[name]) for name in known if name not in own}
    odd = ("bessel_i1e", "erf_inv")
    return {**found, **{name: _with_signed_zero(g, found[name]) for name in odd}}


def _converted(g, algebra, rule):
    return lambda *xs: from_mpmath(g, rule(*(to_mpmath(g, algebra, x) for x in xs)))


def _with_signed_zero(g, rule):
    return lambda x: rule(x) if x and g.is_finite(x) else g.copy_sign(rule(x), x)


def to_mpmath(g: Any, algebra: MpmathAlgebra, x: Number) -> Any:
    """Returns a number of gmpy2 as one of mpmath, exactly."""
    if not g.is_finite(x):
        return algebra.number(float(x))
    mantissa, exponent = x.as_mantissa_exp()
    return algebra.context.ldexp(int(mantissa), int(exponent))


def from_mpmath(g: Any, x: Any) -> Number:
    """Returns a number of mpmath as one of gmpy2, rounded to the precision of its context."""
    sign, mantissa, exponent, _ = x._mpf_
    if not mantissa:
        return g.mpfr(float(x))
    number = g.mpfr(int(-mantissa if sign else mantissa))
    return g.mul_2exp(number, exponent) if exponent >= 0 else g.div_2exp(number, -exponent)
