"""Functions that work entry by entry, extended to lifted values.

`f(re + j im)` is `f(re) + j f'(re) im` to first order in the step. The derivatives below are
those of the mathematical functions, never rules of JAX, in a form that keeps its relative
precision: `sech(x)**2` and not `1 - tanh(x)**2`.

At a tie of `max`, `min` and the like, and at zero for `abs`, the imaginary part decides: the
result is the derivative from the side to which the step moves. So `max(x, 0) + min(x, 0)`
has the slope 1 at zero. Where a derivative is infinite and the imaginary part vanishes, as for
the square root of a square at zero, the first order does not decide, and the slope is NaN.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from diffcompare._jaxpr.lifted import Lifted, bind, imaginary, is_lifted, lift, real

LOG_2 = math.log(2)
SQRT_PI = math.sqrt(math.pi)

# Primitives whose complex version in XLA is the extension, to a few roundings in both parts and
# for any step. Not among them: `tanh`, `sinh`, `cosh`, `expm1` and `logistic`, whose complex
# versions cancel, and `exp2`; measured with steps of 1e-20 and 1e-100.
NATIVE = frozenset(
    {"acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "div", "exp", "integer_pow", "log",
     "log1p", "rsqrt", "sin", "sqrt", "square", "tan"}
)  # fmt: skip

# Primitives that are constant wherever they are differentiable, or have no slope at all.
CONSTANT = frozenset(
    {"argmax", "argmin", "ceil", "eq", "eq_to", "floor", "ge", "gt", "is_finite", "le", "le_to",
     "lt", "lt_to", "ne", "round"}
)  # fmt: skip


def _sech_squared(x):
    return 4 * lax.logistic(2 * x) * lax.logistic(-2 * x)


def _exp_of_square(sign: int, x: Any) -> Any:
    """Returns `exp(sign * x**2)` to full relative precision."""
    # The error of a rounded square is amplified by its size: exp(-9**2) would lose two digits. The
    # square of the first half of the digits is exact, and the rest is small. Beyond 40 the result
    # is zero or infinite in every dtype.
    info = jnp.finfo(x.dtype)
    x = jnp.clip(x, -40, 40)
    head = lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=info.nmant // 2 - 1)
    return lax.exp(sign * head * head) * lax.exp(sign * (x - head) * (x + head))


def _erf_inv(d, y, x):
    # One step of Newton's iteration: XLA's result near 1 has half of its digits.
    tail = 1 - jnp.abs(x)  # exact where it matters, above 1/2
    missing = jnp.where(
        jnp.abs(x) < 0.5, x - lax.erf(y), jnp.sign(x) * (lax.erfc(jnp.abs(y)) - tail)
    )
    growth = SQRT_PI / 2 * _exp_of_square(1, y)
    y = jnp.where(jnp.isfinite(growth), y + missing * growth, y)
    return d * (SQRT_PI / 2 * _exp_of_square(1, y))


def _trigamma(x):
    # By reflection for negative x, where the series of `polygamma` does not converge.
    turn = jnp.sin(math.pi * (x - jnp.round(x)))
    right = lax.polygamma(jnp.ones_like(x), jnp.where(x > 0, x, 1 - x))
    return jnp.where(x > 0, right, (math.pi / turn) ** 2 - right)


def _bessel_i1e(d, y, x):
    # At zero the quotient is one half, that of the first term of the series.
    quotient = jnp.where(x == 0, 0.5, y / jnp.where(x == 0, 1, x))
    return d * (lax.bessel_i0e(x) - jnp.sign(x) * y - quotient)


def _gamma_density(d, x, a):
    return d * lax.exp((a - 1) * lax.log(x) - x - lax.lgamma(a))


def _beta_density(d, y, a, b, x):
    log_beta = lax.lgamma(a) + lax.lgamma(b) - lax.lgamma(a + b)
    return d * lax.exp((a - 1) * lax.log(x) + (b - 1) * lax.log1p(-x) - log_beta)


def _atan2(sign: int):
    def slope(d, angle, y, x):
        # Scaled, so that the squares neither overflow nor underflow.
        size = jnp.maximum(jnp.abs(x), jnp.abs(y))
        p, q = x / size, y / size
        return sign * d * ((p if sign > 0 else q) / (p * p + q * q) / size)

    return slope


def _asinh(d, y, x):
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return d / jnp.sqrt(1 + x * x)
    large = jnp.abs(x) > 1e8  # 1 + x**2 would round to x**2, and overflow further out
    return d * jnp.where(large, 1 / jnp.abs(x), lax.rsqrt(1 + jnp.where(large, 0, x) ** 2))


def _integer_pow(n: int):
    def slope(d, y, x):
        return jnp.zeros_like(x) if n == 0 else d * (n * lax.integer_pow(x, n - 1))

    return slope


# For each operand, the change of the result for a change `d` of that operand, where `y` is the
# result; None where no formula is known.
Slope = Callable[..., Any] | None
SLOPES: Mapping[str, tuple[Slope, ...]] = {
    "acos": (lambda d, y, x: -d * lax.rsqrt((1 - x) * (1 + x)),),
    "acosh": (lambda d, y, x: d * lax.rsqrt(x - 1) * lax.rsqrt(x + 1),),
    "asin": (lambda d, y, x: d * lax.rsqrt((1 - x) * (1 + x)),),
    "asinh": (_asinh,),
    "atan": (lambda d, y, x: d / (1 + x * x),),
    "atan2": (_atan2(+1), _atan2(-1)),
    "atanh": (lambda d, y, x: d / ((1 - x) * (1 + x)),),
    "bessel_i0e": (lambda d, y, x: d * (lax.bessel_i1e(x) - jnp.sign(x) * y),),
    "bessel_i1e": (_bessel_i1e,),
    "cbrt": (lambda d, y, x: d / (3 * y) / y,),
    "cos": (lambda d, y, x: -d * jnp.sin(x),),
    "cosh": (lambda d, y, x: d * jnp.sinh(x),),
    "digamma": (lambda d, y, x: d * _trigamma(x),),
    "div": (lambda d, y, a, b: d / b, lambda d, y, a, b: -(y / b) * d),
    "erf": (lambda d, y, x: d * (2 / SQRT_PI * _exp_of_square(-1, x)),),
    "erf_inv": (_erf_inv,),
    "erfc": (lambda d, y, x: d * (-2 / SQRT_PI * _exp_of_square(-1, x)),),
    "exp": (lambda d, y, x: d * y,),
    "exp2": (lambda d, y, x: d * (LOG_2 * y),),
    "expm1": (lambda d, y, x: d * lax.exp(x),),
    "igamma": (
        lambda d, y, a, x: d * lax.igamma_grad_a(a, x),
        lambda d, y, a, x: _gamma_density(d, x, a),
    ),
    "igammac": (
        lambda d, y, a, x: -d * lax.igamma_grad_a(a, x),
        lambda d, y, a, x: -_gamma_density(d, x, a),
    ),
    "lgamma": (lambda d, y, x: d * lax.digamma(x),),
    "log": (lambda d, y, x: d / x,),
    "log1p": (lambda d, y, x: d / (1 + x),),
    "log2": (lambda d, y, x: d / x / LOG_2,),
    "logistic": (lambda d, y, x: d * y * lax.logistic(-x),),
    "nextafter": (lambda d, y, x, to: d, lambda d, y, x, to: jnp.zeros_like(d)),
    "one_minus_square": (lambda d, y, x: -2 * x * d,),
    "polygamma": (None, lambda d, y, n, x: d * lax.polygamma(n + 1, x)),
    "regularized_incomplete_beta": (None, None, _beta_density),
    "rem": (lambda d, y, a, b: d, lambda d, y, a, b: -d * jnp.trunc(a / b)),
    "rsqrt": (lambda d, y, x: d * (-0.5 * y / x),),
    "sin": (lambda d, y, x: d * jnp.cos(x),),
    "sinh": (lambda d, y, x: d * jnp.cosh(x),),
    "sqrt": (lambda d, y, x: 0.5 * d / y,),
    "square": (lambda d, y, x: 2 * x * d,),
    "tan": (lambda d, y, x: d * (1 + y * y),),
    "tanh": (lambda d, y, x: d * _sech_squared(x),),
    "zeta": (None, lambda d, y, s, q: -s * lax.zeta(s + 1, q) * d),
}


def smooth(interpreter, eqn, inputs: Sequence[Any]) -> list[Any]:
    """Returns the output of a function in `SLOPES`, natively where a step asks for it."""
    name, operands = eqn.primitive.name, [real(value) for value in inputs]
    slopes = SLOPES.get(name) or (_integer_pow(eqn.params["y"]),)
    (y,) = bind(eqn, operands)
    total: Any = None
    for position, (slope, value) in enumerate(zip(slopes, inputs, strict=True)):
        if not is_lifted(value):
            continue
        if slope is None:
            raise interpreter.unknown(eqn, f"Its operand {position} depends on the argument.")
        term = slope(value.im, y, *operands)
        total = term if total is None else total + term
    # Beyond the domain there is no slope, whatever the formula says: log(-1) is NaN.
    first = joined(y, jnp.where(jnp.isnan(y), y, total))
    if interpreter.is_native and name in NATIVE and _are_real(operands):
        (z,) = bind(eqn, [lax.complex(real(value), imaginary(value)) for value in inputs])
        # Nor does it continue into the plane, where the logarithm of -1 is a number.
        inside = jnp.isfinite(y) & jnp.isfinite(z)
        return [Lifted(*(jnp.where(inside, p, q) for p, q in zip(_parts(z), first, strict=True)))]
    return [first]


def _parts(z):
    return jnp.real(z), jnp.imag(z)


def constant(interpreter, eqn, inputs):
    """Returns outputs that do not move: those of the real parts."""
    return bind(eqn, [real(value) for value in inputs])


def joined(re: Any, im: Any) -> Lifted:
    """Returns a lifted value, its imaginary part in the shape and dtype of the real one."""
    return Lifted(re, jnp.broadcast_to(im, jnp.shape(re)).astype(re.dtype))


def _are_real(values: Sequence[Any]) -> bool:
    return all(jnp.issubdtype(jnp.result_type(value), jnp.floating) for value in values)


def plus(a: Any, b: Any) -> Any:
    """Returns the sum of two values."""
    if not (is_lifted(a) or is_lifted(b)):
        return a + b
    terms = [value.im for value in (a, b) if is_lifted(value)]
    return joined(real(a) + real(b), sum(terms[1:], terms[0]))


def times(a: Any, b: Any) -> Any:
    """Returns the product of two values, to first order."""
    terms = []
    if is_lifted(a):
        terms.append(a.im * real(b))
    if is_lifted(b):
        terms.append(real(a) * b.im)
    product = real(a) * real(b)
    return joined(product, sum(terms[1:], terms[0])) if terms else product


def larger(a: Any, b: Any) -> Lifted:
    """Returns the larger of two values; at a tie, the one that the step makes larger."""
    return _chosen(lax.max(*_of_one_shape(a, b)), real(a) > real(b), a, real(a) < real(b), b, True)


def smaller(a: Any, b: Any) -> Lifted:
    """Returns the smaller of two values; at a tie, the one that the step makes smaller."""
    return _chosen(lax.min(*_of_one_shape(a, b)), real(a) < real(b), a, real(a) > real(b), b, False)


def _of_one_shape(a, b):
    shape = jnp.broadcast_shapes(jnp.shape(real(a)), jnp.shape(real(b)))
    return jnp.broadcast_to(real(a), shape), jnp.broadcast_to(real(b), shape)


def _chosen(re, first, a, second, b, is_larger):
    p, q = imaginary(a), imaginary(b)
    tie = jnp.maximum(p, q) if is_larger else jnp.minimum(p, q)
    return joined(re, jnp.where(first, p, jnp.where(second, q, tie)))


def _extreme(choose):
    def rule(interpreter, eqn, inputs):
        return [choose(*inputs)]

    return rule


def _clamp(interpreter, eqn, inputs):
    low, x, high = inputs
    return [smaller(larger(x, low), high)]


def _abs(interpreter, eqn, inputs):
    (x,) = inputs
    (y,) = bind(eqn, [x.re])
    if jnp.issubdtype(x.re.dtype, jnp.complexfloating):
        unit = x.re / jnp.where(y == 0, 1, y).astype(x.re.dtype)
        along = jnp.real(jnp.conj(unit) * x.im)
        return [Lifted(y, jnp.where(y == 0, jnp.abs(x.im), along))]
    return [Lifted(y, jnp.where(x.re > 0, x.im, jnp.where(x.re < 0, -x.im, jnp.abs(x.im))))]


def _sign(interpreter, eqn, inputs):
    (x,) = inputs
    (y,) = bind(eqn, [x.re])
    if jnp.issubdtype(x.re.dtype, jnp.floating):
        return [y]
    # z / |z| moves at a right angle to itself.
    across = x.im - y * jnp.real(jnp.conj(y) * x.im).astype(y.dtype)
    return [joined(y, across / jnp.abs(x.re).astype(y.dtype))]


def _pow(interpreter, eqn, inputs):
    base, exponent = inputs
    x, n = real(base), real(exponent)
    (y,) = bind(eqn, [x, n])
    total = jnp.zeros_like(y)
    if is_lifted(base):
        less = jnp.broadcast_to(n - 1, y.shape)
        factor = n.astype(x.dtype) * lax.pow(jnp.broadcast_to(x, y.shape), less)
        total += jnp.where(n == 0, 0, factor) * base.im
    if is_lifted(exponent):
        # A negative number has no logarithm, which does not matter to an exponent at rest.
        rests = (exponent.im == 0) | ((x == 0) & (jnp.real(n) > 0))
        total += jnp.where(rests, 0, y * jnp.log(x) * exponent.im)
    return [joined(y, total)]


def _add(interpreter, eqn, inputs):
    return [plus(*inputs)]


def _sub(interpreter, eqn, inputs):
    a, b = inputs
    return [plus(a, Lifted(-b.re, -b.im) if is_lifted(b) else -b)]


def _mul(interpreter, eqn, inputs):
    a, b = inputs
    product = times(a, b)
    if interpreter.is_native and is_lifted(a) and is_lifted(b):
        product = product._replace(re=product.re - a.im * b.im)
    return [product]


def _polynomial(interpreter, eqn, inputs):
    x, *coefficients = inputs
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = plus(times(value, x), coefficient)
    (y,) = bind(eqn, [real(operand) for operand in inputs])
    return [joined(y, imaginary(value))]


def _select_n(interpreter, eqn, inputs):
    which, *cases = inputs
    lifted = [lift(case) for case in cases]
    (re,) = bind(eqn, [which, *(case.re for case in lifted)])
    (im,) = bind(eqn, [which, *(case.im for case in lifted)])
    return [Lifted(re, im)]


def _convert(interpreter, eqn, inputs):
    (x,) = inputs
    dtype = eqn.params["new_dtype"]
    if not jnp.issubdtype(dtype, jnp.inexact):
        return bind(eqn, [x.re])
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        x = Lifted(jnp.real(x.re), jnp.real(x.im))
    return [Lifted(x.re.astype(dtype), x.im.astype(dtype))]


RULES: Mapping[str, Callable[..., Sequence[Any]]] = {
    **dict.fromkeys(SLOPES, smooth),
    **dict.fromkeys(CONSTANT, constant),
    "abs": _abs,
    "add": _add,
    "add_any": _add,
    "clamp": _clamp,
    "convert_element_type": _convert,
    "integer_pow": smooth,
    "max": _extreme(larger),
    "min": _extreme(smaller),
    "mul": _mul,
    "polynomial": _polynomial,
    "pow": _pow,
    "select_n": _select_n,
    "sign": _sign,
    "sub": _sub,
}
