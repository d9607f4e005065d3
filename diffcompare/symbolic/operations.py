"""What each primitive that works entry by entry is, as a SymPy expression."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import sympy
from jax.extend.core import ClosedJaxpr
from sympy import S

from diffcompare._jaxpr import elements, walk
from diffcompare.symbolic import functions as f
from diffcompare.symbolic import special
from diffcompare.symbolic.convention import Convention

# A NaN in a program, as a constant: SymPy's own would differentiate to 0 and swallow its branch.
NAN = sympy.Dummy("nan", real=True)


def exact(value: float) -> sympy.Expr:
    """Returns the binary fraction that a floating-point number is.

    Example:
        >>> exact(0.1)
        3602879701896397/36028797018963968
    """
    if value != value:
        return NAN
    if value in (float("inf"), float("-inf")):
        return S.Infinity if value > 0 else S.NegativeInfinity
    return sympy.Rational(*float(value).as_integer_ratio())


def _round(x, rounding_method=None):
    # lax.RoundingMethod: 0 away from zero, 1 to the nearest even integer.
    return f.round_even(x) if int(rounding_method) == 1 else f.round_away(x)


_SMOOTH = {
    **special.ROWS,
    "add": lambda a, b: a + b,
    "add_any": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "square": lambda a: a**2,
    "one_minus_square": lambda a: 1 - a**2,
    "integer_pow": lambda a, y: a**y,
    "pow": f.power,
    "sqrt": sympy.sqrt,
    "rsqrt": lambda a: 1 / sympy.sqrt(a),
    "cbrt": f.cbrt,
    "exp": sympy.exp,
    "exp2": lambda a: S(2) ** a,
    "expm1": f.expm1,
    "log": sympy.log,
    "log1p": f.log1p,
    "log2": lambda a: sympy.log(a) / sympy.log(2),
    "tanh": f.tanh,
    "logistic": f.logistic,
    "logaddexp": f.logaddexp,
    "logaddexp2": f.logaddexp2,
    "xlogy": f.xlogy,
    "xlog1py": f.xlog1py,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "asin": sympy.asin,
    "acos": sympy.acos,
    "atan": sympy.atan,
    "atan2": sympy.atan2,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "asinh": sympy.asinh,
    "acosh": sympy.acosh,
    "atanh": sympy.atanh,
    "erf": sympy.erf,
    "erfc": sympy.erfc,
    "erf_inv": sympy.erfinv,
    "lgamma": sympy.loggamma,
    "digamma": lambda a: sympy.polygamma(0, a),
    "polynomial": elements.polynomial,
    "rem": f.remainder,
    "sign": lambda a: f.signum(a, S.Zero),
    "floor": f.floor,
    "ceil": f.ceil,
    "round": _round,
    "clamp": f.clamp,
    "stop_gradient": f.frozen,
}


@functools.lru_cache(maxsize=16)
def elementwise(convention: Convention) -> Mapping[str, Callable[..., Any]]:
    """Returns a function of SymPy expressions for every primitive that works entry by entry."""
    tie = sympy.nsimplify(convention.maximum, rational=True)
    tie_with_zero = sympy.nsimplify(convention.maximum_of_zero, rational=True)
    relu = sympy.nsimplify(convention.relu, rational=True)
    absolute = sympy.nsimplify(convention.absolute, rational=True)

    def maximum(a, b):
        if a.is_zero:
            return f.maximum(a, b, 1 - tie_with_zero)
        return f.maximum(a, b, tie_with_zero if b.is_zero else tie)

    kinked = {
        "max": maximum,
        "min": lambda a, b: f.minimum(a, b, tie),
        "abs": lambda a: f.absolute(a, absolute),
        "relu": lambda a: f.relu(a, relu),
        "relu6": lambda a: f.relu6(a, relu),
    }
    return MappingProxyType({**_SMOOTH, **kinked})


# The custom rules of JAX that are known by name: their bodies have a kink, or a case apart, that
# the function has not. The primitives of the body tell them from a user's function of that name;
# JAX 0.12 asks of more than one argument whether it is 0.
_KNOWN_CALLS = {
    "relu": "max",
    "relu6": "max min",
    "logaddexp": "max sub ne add abs neg exp log1p add select_n",
    "logaddexp2": "max sub ne add abs neg exp2 log1p mul add select_n",
    "xlogy": "ne log mul broadcast_in_dim select_n",
    "xlog1py": "ne log1p mul broadcast_in_dim select_n",
}


def known_call(primitive: str, body: ClosedJaxpr) -> str | None:
    """Returns the row of `elementwise` for a call with a known custom rule, if it is one."""
    name = walk.call_name(body)
    if primitive != "custom_jvp_call" or name not in _KNOWN_CALLS:
        return None
    found = " ".join(walk.primitives(body)).replace("ne ne or", "ne")
    return name if found == _KNOWN_CALLS[name] else None
