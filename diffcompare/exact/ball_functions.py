"""What each primitive that works entry by entry is, over the balls of Arb."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from diffcompare._jaxpr import elements

Ball = Any

# These say themselves what they know of infinities, or decide instead of computing.
_LOGIC = "and eq eq_to ge gt is_finite le le_to lt lt_to ne not or xor"  # these decide
UNGUARDED = frozenset(
    f"{_LOGIC} add add_any sub mul neg abs max min clamp stop_gradient relu relu6".split()
)


def rules(arb: Any, decided: Callable[..., bool], whole: Callable) -> Mapping[str, Callable]:
    """Returns a function of balls for every primitive that Arb encloses.

    Args:
        arb: The class of balls.
        decided: Of what is certainly true and what is certainly false says which.
        whole: Returns an integer that is certain.
    """
    logic = _comparisons(decided)
    return {
        **logic,
        **_arithmetic(arb, logic),
        **_exponentials(arb),
        **_methods(),
        **_steps(arb, logic, whole),
        **_special(arb, logic),
    }


def _comparisons(decided):
    lt = lambda a, b: decided(a < b, a >= b)
    le = lambda a, b: decided(a <= b, a > b)
    # A number is equal to itself, however little is known of it; that asks whether it is NaN.
    eq = lambda a, b: decided(a == b or (a is b and a.is_finite()), a != b)
    return {
        "lt": lt,
        "le": le,
        "gt": lambda a, b: lt(b, a),
        "ge": lambda a, b: le(b, a),
        "eq": eq,
        "ne": lambda a, b: not eq(a, b),
        "lt_to": lt,
        "le_to": le,
        "eq_to": eq,
        "is_finite": lambda a: decided(a.is_finite(), a.is_exact() and not a.is_nan()),
        "and": lambda a, b: bool(a) and bool(b),
        "or": lambda a, b: bool(a) or bool(b),
        "xor": lambda a, b: bool(a) != bool(b),
        "not": lambda a: not a,
    }


def _arithmetic(arb, logic):
    one = arb(1)

    def integer_pow(a, y):
        return one / a ** (-y) if y < 0 else a**y

    def power(a, b):
        whole = b.unique_fmpz() if b.is_exact() and b.is_finite() else None
        if whole is not None and abs(int(whole)) < 2**20:
            return integer_pow(a, int(whole))
        return a**b if a > 0 else arb("nan")

    return {
        "add": operator.add,
        "add_any": operator.add,
        "sub": operator.sub,
        "mul": operator.mul,
        "div": operator.truediv,
        "neg": operator.neg,
        "abs": abs,
        "square": lambda a: a * a,
        "one_minus_square": lambda a: 1 - a * a,
        "integer_pow": integer_pow,
        "pow": power,
        "max": lambda a, b: a.max(b),
        "min": lambda a, b: a.min(b),
        "clamp": lambda low, x, high: x.max(low).min(high),
        "relu": lambda x: x.max(arb(0)),
        "relu6": lambda x: x.max(arb(0)).min(arb(6)),
        "polynomial": elements.polynomial,
        "stop_gradient": lambda a: a,
    }


def _exponentials(arb):
    two = arb(2)

    def logistic(x):
        # Each formula holds everywhere; which is narrower depends on the sign.
        if x.mid() < 0:
            small = x.exp()
            return small / (1 + small)
        return 1 / (1 + (-x).exp())

    def logaddexp(a, b):
        high, low = (a, b) if a.mid() >= b.mid() else (b, a)
        return high + (low - high).exp().log1p()

    return {
        "exp2": lambda x: (x * two.log()).exp(),
        "log2": lambda x: x.log() / two.log(),
        "logistic": logistic,
        "logaddexp": logaddexp,
        "xlogy": lambda x, y: arb(0) if x == 0 else x * y.log(),
        "xlog1py": lambda x, y: arb(0) if x == 0 else x * y.log1p(),
        "cbrt": lambda x: x if x == 0 else x.root(3) if x > 0 else -((-x).root(3)),
    }


def _methods():
    names = (
        "sqrt rsqrt exp expm1 log log1p tanh sinh cosh asinh acosh atanh sin cos tan asin acos "
        "atan erf erfc digamma"
    )
    return {
        **{name: operator.methodcaller(name) for name in names.split()},
        "erf_inv": operator.methodcaller("erfinv"),
        "atan2": lambda y, x: type(y).atan2(y, x),
    }


def _steps(arb, logic, whole):
    half = arb(0.5)

    def away(x):
        return whole((abs(x) + half).floor()) * sign(x)

    def even(x):
        up = whole((x + half).floor())
        is_tie = logic["eq"](up, x + half)
        return up - 1 if is_tie and int(up.unique_fmpz()) % 2 else up

    def sign(x):
        return arb(0) if logic["eq"](x, arb(0)) else arb(1 if x > 0 else -1)

    def remainder(a, b):
        quotient = a / b
        cut = quotient.floor() if logic["ge"](quotient, arb(0)) else quotient.ceil()
        return a - b * whole(cut)

    nearest = {0: away, 1: even}  # lax.RoundingMethod: 0 away from zero, 1 to even
    return {
        "floor": lambda x: whole(x.floor()),
        "ceil": lambda x: whole(x.ceil()),
        "round": lambda x, rounding_method: nearest[int(rounding_method)](x),
        "sign": sign,
        "rem": remainder,
    }


def _special(arb, logic):
    def lgamma(x):
        if x > 0:
            return x.lgamma()
        # The reflection formula; both terms are real.
        return (arb.pi() / abs(arb.sin_pi(x))).log() - (1 - x).lgamma()

    def polygamma(order, x):
        number = order.unique_fmpz() if order.is_exact() else None
        if number is None or number < 0 or not x > 0:
            return arb("nan")
        if number == 0:
            return x.digamma()
        return (-1) ** (int(number) + 1) * arb.fac_ui(int(number)) * (order + 1).zeta(x)

    def bessel(order):
        return lambda x: x.bessel_i(arb(order)) * (-abs(x)).exp()

    return {
        "lgamma": lgamma,
        "polygamma": polygamma,
        "zeta": lambda s, q: s.zeta(q) if s > 1 and q > 0 else arb("nan"),
        "igamma": lambda a, x: x.gamma_lower(a, regularized=1) if x > 0 < a else arb("nan"),
        "igammac": lambda a, x: x.gamma_upper(a, regularized=1) if x > 0 < a else arb("nan"),
        "regularized_incomplete_beta": lambda a, b, x: (
            x.beta_lower(a, b, regularized=1) if 0 < x < 1 and a > 0 and b > 0 else arb("nan")
        ),
        "bessel_i0e": bessel(0),
        "bessel_i1e": bessel(1),
    }
