"""Elementary functions of mpmath numbers, with the special values of floating point."""

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpmath import libmp

from diffcompare._jaxpr import elements

Number = Any  # of a context of mpmath
Context = Any

# Beyond, the exponential has more binary digits before its point than memory holds.
_LARGEST_MAGNITUDE = 200_000


def is_special(x: Number) -> bool:
    """Returns whether a number is an infinity or NaN."""
    _, mantissa, exponent, _ = x._mpf_
    return not mantissa and bool(exponent)


def unary(
    m: Context,
    function: Callable[[Number], Number],
    at_inf: Any,
    at_minus_inf: Any,
    inside: Callable[[Number], bool] | None = None,
) -> Callable[[Number], Number]:
    """Returns a function of finite numbers, with its values elsewhere; NaN where not inside."""
    ends = m.mpf(at_inf), m.mpf(at_minus_inf)

    def rule(x):
        if is_special(x):
            return m.nan if x != x else ends[x < 0]
        return function(x) if inside is None or inside(x) else m.nan

    return rule


def rules(m: Context) -> Mapping[str, Callable[..., Any]]:
    """Returns a function of numbers of the context `m` for every elementary primitive."""
    return {**_arithmetic(m), **_roots(m), **_exponentials(m), **_circular(m), **_steps(m)}


def _arithmetic(m):
    def div(a, b):
        if b != 0:
            return a / b
        return m.nan if a == 0 or a != a else m.inf if a > 0 else -m.inf

    def integer_pow(a, y):
        if y == 0:
            return m.one  # also of infinities and NaN
        return div(m.one, integer_pow(a, -y)) if y < 0 else a**y

    def maximum(a, b):
        return a if a != a or a >= b else b

    def minimum(a, b):
        return a if a != a or a <= b else b

    def remainder(a, b):
        if is_special(a) or b == 0 or b != b:
            return m.nan
        return a if is_special(b) else _exact_remainder(m, a, b)

    return {
        "add": operator.add,
        "add_any": operator.add,
        "sub": operator.sub,
        "mul": operator.mul,
        "div": div,
        "neg": operator.neg,
        "abs": abs,
        "square": lambda a: a * a,
        "one_minus_square": lambda a: 1 - a * a,
        "integer_pow": integer_pow,
        "max": maximum,
        "min": minimum,
        "clamp": lambda low, x, high: minimum(maximum(x, low), high),
        "rem": remainder,
        "polynomial": elements.polynomial,
        "is_finite": lambda a: not is_special(a),
        "stop_gradient": lambda a: a,
        "pow": _power(m, integer_pow),
    }


def _exact_remainder(m, a, b):
    """Returns a - b trunc(a / b) without rounding: both are integers of one unit."""
    (sign, *_), unit = a._mpf_, min(a._mpf_[2], b._mpf_[2])
    left, right = (int(x._mpf_[1]) << (x._mpf_[2] - unit) for x in (a, b))
    rest = left % right
    return m.make_mpf(libmp.from_man_exp(-rest if sign else rest, unit))


def _power(m, integer_pow):
    def stand_in(x):
        """Returns a float of the same sign, parity and side of 1, which has the same limit."""
        if is_special(x) or x in (0, 1, -1):
            return float(x)
        if abs(x) < 1:
            return math.copysign(0.75, x)  # 0.5 is a square root to NumPy, which has other limits
        if not m.isint(x):
            return math.copysign(2.5, x)
        return math.copysign(2.0 + int(x) % 2, x)

    def power(a, b):
        if is_special(a) or is_special(b) or a == 0:
            with np.errstate(all="ignore"):
                return m.mpf(float(np.power(stand_in(a), stand_in(b))))
        if m.isint(b) and abs(b) < 2**20:
            return integer_pow(a, int(b))
        if a > 0:
            return holds_exponential(b * m.log(a)) and m.power(a, b)
        return m.power(-a, b) * (-1 if int(b) % 2 else 1) if m.isint(b) else m.nan

    return power


def holds_exponential(x: Number) -> bool:
    """Returns whether the exponential of `x` can be held, else raises."""
    if libmp.mpf_sign(x._mpf_) and x._mpf_[2] + x._mpf_[3] > _LARGEST_MAGNITUDE:
        raise OverflowError(
            f"exact_grad cannot hold the exponential of a number beyond 2**{_LARGEST_MAGNITUDE}. "
            "Evaluate the gradient where the function is finite."
        )
    return True


def _roots(m):
    positive = lambda x: x >= 0

    def rsqrt(x):
        return m.inf if x == 0 else 1 / m.sqrt(x)

    def cbrt(x):
        return -m.cbrt(-x) if x < 0 else m.cbrt(x)

    return {
        "sqrt": unary(m, m.sqrt, m.inf, m.nan, positive),
        "rsqrt": unary(m, rsqrt, 0, m.nan, positive),
        "cbrt": unary(m, cbrt, m.inf, -m.inf),
    }


def _exponentials(m):
    exp = unary(m, lambda x: holds_exponential(x) and m.exp(x), m.inf, 0)
    log = unary(m, lambda x: m.log(x) if x else -m.inf, m.inf, m.nan, lambda x: x >= 0)
    two = m.mpf(2)

    def logistic(x):
        small = exp(-abs(x))
        return small / (1 + small) if x < 0 else 1 / (1 + small)

    def log1p(x):
        return m.log1p(x) if x > -1 else -m.inf

    whole_log1p = unary(m, log1p, m.inf, m.nan, lambda x: x >= -1)

    def logaddexp(a, b):
        high, low = (a, b) if a >= b else (b, a)
        if a != a or b != b:
            return m.nan
        return high if is_special(high) or is_special(low) else high + log1p(exp(low - high))

    return {
        "exp": exp,
        "exp2": unary(m, lambda x: holds_exponential(x) and m.power(two, x), m.inf, 0),
        "expm1": unary(m, lambda x: holds_exponential(x) and m.expm1(x), m.inf, -1),
        "log": log,
        "log2": unary(m, lambda x: m.log(x, 2) if x else -m.inf, m.inf, m.nan, lambda x: x >= 0),
        "log1p": whole_log1p,
        "logistic": unary(m, logistic, 1, 0),
        "tanh": unary(m, m.tanh, 1, -1),
        "sinh": unary(m, lambda x: holds_exponential(x) and m.sinh(x), m.inf, -m.inf),
        "cosh": unary(m, lambda x: holds_exponential(x) and m.cosh(x), m.inf, m.inf),
        "asinh": unary(m, m.asinh, m.inf, -m.inf),
        "acosh": unary(m, m.acosh, m.inf, m.nan, lambda x: x >= 1),
        "atanh": unary(
            m,
            lambda x: m.atanh(x) if abs(x) < 1 else x * m.inf,
            m.nan,
            m.nan,
            lambda x: abs(x) <= 1,
        ),
        "logaddexp": logaddexp,
        "relu": lambda x: x if x != x or x > 0 else m.zero,
        "relu6": lambda x: x if x != x else min(max(x, m.zero), m.mpf(6)),
        "xlogy": lambda x, y: m.zero if x == 0 and y == y else x * log(y),
        "xlog1py": lambda x, y: m.zero if x == 0 and y == y else x * whole_log1p(y),
    }


def _circular(m):
    within = lambda x: abs(x) <= 1
    half = m.pi / 2

    def periodic(function):
        return unary(m, lambda x: holds_exponential(x) and function(x), m.nan, m.nan)

    def atan2(y, x):
        if y != y or x != x:
            return m.nan
        if not is_special(y) and not is_special(x) and (y or x):
            return m.atan2(y, x)
        return round(np.arctan2(float(y), float(x)) * 4 / math.pi) * half / 2

    return {
        "sin": periodic(m.sin),
        "cos": periodic(m.cos),
        "tan": periodic(m.tan),
        "asin": unary(m, m.asin, m.nan, m.nan, within),
        "acos": unary(m, m.acos, m.nan, m.nan, within),
        "atan": unary(m, m.atan, half, -half),
        "atan2": atan2,
    }


def _steps(m):
    def away(x):
        whole = m.floor(abs(x) + m.mpf(0.5))
        return -whole if x < 0 else whole

    nearest = {0: away, 1: m.nint}  # lax.RoundingMethod: 0 away from zero, 1 to even

    def rounded(x, rounding_method):
        return x if is_special(x) else nearest[int(rounding_method)](x)

    return {
        "floor": unary(m, m.floor, m.inf, -m.inf),
        "ceil": unary(m, m.ceil, m.inf, -m.inf),
        "round": rounded,
        "sign": unary(m, m.sign, 1, -1),
    }
