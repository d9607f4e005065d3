"""The derivative of each primitive that works entry by entry, in any algebra that has its rules.

A slope takes the functions of the algebra, then the operands and the output, all elements. None
stands where JAX and mathematics have none in closed form. Kinks are in `pulls`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Element = Any
Functions = Any  # the rules of an algebra as attributes, and `number`
Slope = Callable[..., Element]
Factor = Slope | int | None  # 1, -1 and 0 need no multiplication


def of(name: str, operands: int, params: Mapping[str, Any]) -> Sequence[Factor]:
    """Returns one factor for each operand of a primitive in `SLOPES`."""
    if name == "polynomial":
        return [_polynomial, *map(_power, range(operands - 1))]
    if name == "integer_pow":
        y = params["y"]
        return [
            lambda f, x, _: f.number(float(y)) * f.integer_pow(x, y=y - 1) if y else f.number(0)
        ]
    return SLOPES[name]


def _polynomial(f, x, *rest):
    *coefficients, _ = rest
    terms = [f.number(float(degree)) * c for degree, c in enumerate(coefficients)][1:]
    *lower, total = terms or [f.number(0.0)]
    for term in reversed(lower):
        total = total * x + term
    return total


def _power(degree):
    return lambda f, x, *rest: f.integer_pow(x, y=degree)


def _pow_base(f, a, b, _):
    return f.number(0.0) if b == 0 else b * f.pow(a, b - 1)


def _pow_exponent(f, a, b, y):
    # The limit at a = 0 is 0, which the product of y = 0 and the logarithm is not.
    return f.number(0.0) if a == 0 and b > 0 else y * f.log(a)


def _bell(f, x):
    """Returns e / (1 + e)**2 with e = exp(-|x|), that of the logistic function."""
    small = f.exp(-abs(x))
    return small / f.square(1 + small)


def _gauss(f, x):
    return f.exp(-f.square(x)) * 2 * f.rsqrt(f.pi)


def _gamma_density(f, a, x, _):
    if x == 0:
        return f.number(0.0) if a > 1 else f.number(1.0 if a == 1 else float("inf"))
    return f.exp((a - 1) * f.log(x) - x - f.lgamma(a))


def _beta_density(f, a, b, x, _):
    log = (a - 1) * f.log(x) + (b - 1) * f.log1p(-x)
    return f.exp(log + f.lgamma(a + b) - f.lgamma(a) - f.lgamma(b))


def _next_bessel(f, x, y):
    if x == 0:
        return f.number(0.5)
    return f.bessel_i0e(x) - y * (f.sign(x) + 1 / x)


def _share(f, of, total):
    """Returns exp(of - total), 1 where both are the same infinity."""
    return f.number(1.0) if of == total else f.exp(of - total)


def _trigamma(f, x, _):
    return f.polygamma(f.number(1.0), x)


SLOPES: Mapping[str, Sequence[Factor]] = {
    "add": (1, 1),
    "add_any": (1, 1),
    "sub": (1, -1),
    "neg": (-1,),
    "mul": (lambda f, a, b, y: b, lambda f, a, b, y: a),
    "div": (lambda f, a, b, y: f.div(f.number(1.0), b), lambda f, a, b, y: -f.div(y, b)),
    "square": (lambda f, x, y: 2 * x,),
    "one_minus_square": (lambda f, x, y: -2 * x,),
    "pow": (_pow_base, _pow_exponent),
    "rem": (1, lambda f, a, b, y: -f.round(f.div(a - y, b), rounding_method=1)),
    "sqrt": (lambda f, x, y: f.div(f.number(0.5), y),),
    "rsqrt": (lambda f, x, y: -f.div(y, 2 * x),),
    "cbrt": (lambda f, x, y: f.div(f.number(1.0), 3 * y * y),),
    "exp": (lambda f, x, y: y,),
    "exp2": (lambda f, x, y: y * f.log(f.number(2.0)),),
    "expm1": (lambda f, x, y: f.exp(x),),
    "log": (lambda f, x, y: f.div(f.number(1.0), x) if x >= 0 else f.number(float("nan")),),
    "log2": (lambda f, x, y: f.div(f.number(1.0), x * f.log(f.number(2.0))),),
    "log1p": (lambda f, x, y: f.div(f.number(1.0), 1 + x),),
    "tanh": (lambda f, x, y: 4 * _bell(f, 2 * x),),
    "logistic": (lambda f, x, y: _bell(f, x),),
    "sinh": (lambda f, x, y: f.cosh(x),),
    "cosh": (lambda f, x, y: f.sinh(x),),
    "asinh": (lambda f, x, y: f.rsqrt(1 + x * x),),
    "acosh": (lambda f, x, y: f.rsqrt((x - 1) * (x + 1)),),
    "atanh": (lambda f, x, y: f.div(f.number(1.0), (1 - x) * (1 + x)),),
    "sin": (lambda f, x, y: f.cos(x),),
    "cos": (lambda f, x, y: -f.sin(x),),
    "tan": (lambda f, x, y: 1 + y * y,),
    "asin": (lambda f, x, y: f.rsqrt((1 - x) * (1 + x)),),
    "acos": (lambda f, x, y: -f.rsqrt((1 - x) * (1 + x)),),
    "atan": (lambda f, x, y: 1 / (1 + x * x),),
    "atan2": (
        lambda f, a, b, y: f.div(b, a * a + b * b),
        lambda f, a, b, y: -f.div(a, a * a + b * b),
    ),
    "erf": (lambda f, x, y: _gauss(f, x),),
    "erfc": (lambda f, x, y: -_gauss(f, x),),
    "erf_inv": (lambda f, x, y: f.sqrt(f.pi) / 2 * f.exp(y * y),),
    "lgamma": (lambda f, x, y: f.digamma(x),),
    "digamma": (_trigamma,),
    "polygamma": (None, lambda f, n, x, y: f.polygamma(n + 1, x)),
    "zeta": (None, lambda f, s, q, y: -s * f.zeta(s + 1, q)),
    "igamma": (lambda f, a, x, y: f.igamma_grad_a(a, x), _gamma_density),
    "igammac": (
        lambda f, a, x, y: -f.igamma_grad_a(a, x),
        lambda f, a, x, y: -_gamma_density(f, a, x, y),
    ),
    "regularized_incomplete_beta": (None, None, _beta_density),
    "bessel_i0e": (lambda f, x, y: f.bessel_i1e(x) - f.sign(x) * y,),
    "bessel_i1e": (_next_bessel,),
    "logaddexp": (lambda f, a, b, y: _share(f, a, y), lambda f, a, b, y: _share(f, b, y)),
    "xlogy": (
        lambda f, x, y, _: f.log(y),
        lambda f, x, y, _: f.number(0.0) if x == 0 else f.div(x, y),
    ),
    "xlog1py": (
        lambda f, x, y, _: f.log1p(y),
        lambda f, x, y, _: f.number(0.0) if x == 0 else f.div(x, 1 + y),
    ),
}
