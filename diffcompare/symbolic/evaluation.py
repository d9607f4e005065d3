"""Evaluating SymPy expressions as JAX code, on arrays.

SymPy's own printer for JAX emits functions of the `math` module, which fail on traced
values, and knows none of the functions here.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import sympy
from jax import lax
from sympy import S
from sympy.logic import boolalg

from diffcompare.symbolic import functions as f
from diffcompare.symbolic import special

Env = dict[sympy.Basic, Any]


def evaluate(expression: sympy.Basic, values: Env, dtype: Any) -> jax.Array:
    """Returns the value of an expression, computed by JAX.

    Equal subexpressions are computed once: their values are kept in `values`.

    Args:
        expression: In the functions of `functions` and SymPy's elementary ones.
        values: The value of every symbol, arrays of one shape or scalars, of dtype `dtype`.
            What was computed is added.
        dtype: The floating-point dtype of the computation.

    Example:
        >>> import jax.numpy as jnp, sympy
        >>> x = sympy.Symbol("x", real=True)
        >>> dtype = jnp.zeros(()).dtype
        >>> evaluate(sympy.sin(x).diff(x) ** -2, {x: jnp.zeros(2)}, dtype).tolist()
        [1.0, 1.0]
    """
    # Not recursive: an expression may be deeper than Python's stack.
    stack = [expression]
    while stack:
        node = stack[-1]
        if node in values:
            stack.pop()
        elif _is_constant(node):
            values[stack.pop()] = _constant(node, dtype)
        elif missing := [part for part in _parts(node) if part not in values]:
            stack.extend(missing)
        else:
            values[stack.pop()] = _apply(node, values)
    return values[expression]


def _is_constant(node: sympy.Basic) -> bool:
    return node in (S.true, S.false) or (node.is_number and not node.has(f.RealFunction))


def _parts(node: sympy.Basic) -> tuple[sympy.Basic, ...]:
    if isinstance(node, sympy.Piecewise):
        return tuple(part for pair in node.args for part in pair.args)
    if node.func.__name__ == "claimed":  # only its value is one
        return node.args[:1]
    if node.is_Pow and node.exp.is_number:
        return (node.base,)
    if node.is_Mul:
        return tuple(_without_reciprocal(factor)[0] for factor in node.args)
    return node.args


@functools.lru_cache(maxsize=4096)
def _number(node: sympy.Basic) -> float:
    if node.is_Rational:
        try:
            return node.p / node.q  # rounded once
        except OverflowError:
            return math.inf if node.p > 0 else -math.inf
    # Two roundings, of which the first is far below the last digit of float64.
    value = node.evalf(40)
    return math.nan if value is S.ComplexInfinity or not value.is_extended_real else float(value)


def _constant(node: sympy.Basic, dtype: Any) -> Any:
    if node in (S.true, S.false):
        return jnp.asarray(node == S.true)
    return jnp.asarray(_number(node), dtype)


def _apply(node: sympy.Basic, values: Env) -> Any:
    if isinstance(node, sympy.Piecewise):
        return _piecewise(node, values)
    if node.is_Mul:
        return _product(node, values)
    if node.is_Pow:
        return _power(node, values)
    if node.func.__name__ == "claimed":
        return values[node.args[0]]
    rule = _RULES.get(type(node))
    if rule is None:
        raise NotImplementedError(
            f"There is no JAX code for the SymPy function '{type(node).__name__}', which a "
            "derivative contains."
        )
    return rule(*[values[argument] for argument in node.args])


def _piecewise(node, values):
    *cases, last = node.args
    result = values[last.args[0]]
    for expression, condition in reversed(cases):
        result = jnp.where(values[condition], values[expression], result)
    return result


def _without_reciprocal(factor):
    """Returns what to divide by and how often, (x, n) for x**-n; or the factor itself and 0."""
    if factor.is_Pow and factor.exp in (S.NegativeOne, S(-2)):
        return factor.base, -int(factor.exp)
    return factor, 0


def _product(node, values):
    # Dividing n times rounds no worse than one division by a power, which could overflow.
    factors = [_without_reciprocal(factor) for factor in node.args]
    numerator = [values[factor] for factor, times in factors if not times]
    result = functools.reduce(_multiply, numerator) if numerator else 1
    for factor, times in factors:
        for _ in range(times):
            result = result / values[factor]
    return result


def _multiply(a, b):
    return a * b


def _power(node, values):
    base, exponent = node.args
    if not exponent.is_number:
        return jnp.exp2(values[exponent]) if base == 2 else lax.pow(*_alike(values, *node.args))
    x = values[base]
    if exponent.is_Integer and abs(exponent) < 2**31:
        return lax.integer_pow(x, int(exponent))
    if (2 * exponent).is_Integer and abs(exponent) < 8:
        # x**(n + 1/2) as x**n sqrt(x), which is exact where sqrt is.
        root, whole = (lax.sqrt, int(exponent - S.Half)) if exponent > 0 else (
            lax.rsqrt, int(exponent + S.Half))  # fmt: skip
        return root(x) if whole == 0 else lax.integer_pow(x, whole) * root(x)
    return lax.pow(x, jnp.full_like(x, _number(exponent)))


def _alike(values, *nodes):
    return jnp.broadcast_arrays(*[values[node] for node in nodes])


def _logical(function):
    return lambda *conditions: functools.reduce(function, conditions)


def _share(x, extreme, *entries):
    count = sum((entry == extreme).astype(extreme.dtype) for entry in entries)
    return jnp.where(x == extreme, 1 / count, jnp.zeros_like(extreme))


def _signum(x, at_zero):
    return jnp.where(x > 0, jnp.ones_like(x), jnp.where(x < 0, -jnp.ones_like(x), at_zero))


def _step(a, b, tie):
    one = jnp.ones(jnp.broadcast_shapes(jnp.shape(a), jnp.shape(b)), jnp.result_type(a, b))
    return jnp.where(a > b, one, jnp.where(a == b, tie * one, 0 * one))


def _truncate(x):
    return lax.sign(x) * lax.floor(lax.abs(x))


_RULES: Mapping[type, Callable[..., Any]] = {
    **special.EVALUATION,
    sympy.Add: lambda *terms: functools.reduce(lambda a, b: a + b, terms),
    sympy.exp: jnp.exp,
    sympy.log: jnp.log,
    sympy.sin: jnp.sin,
    sympy.cos: jnp.cos,
    sympy.tan: jnp.tan,
    sympy.asin: jnp.arcsin,
    sympy.acos: jnp.arccos,
    sympy.atan: jnp.arctan,
    sympy.atan2: jnp.arctan2,
    sympy.sinh: jnp.sinh,
    sympy.cosh: jnp.cosh,
    sympy.tanh: jnp.tanh,
    sympy.asinh: jnp.arcsinh,
    sympy.acosh: jnp.arccosh,
    sympy.atanh: jnp.arctanh,
    sympy.erf: lax.erf,
    sympy.erfc: lax.erfc,
    sympy.erfinv: lax.erf_inv,
    sympy.loggamma: lax.lgamma,
    sympy.polygamma: lambda order, x: lax.polygamma(jnp.full_like(x, order), x),
    sympy.Abs: jnp.abs,
    sympy.sign: jnp.sign,
    sympy.Max: lambda *xs: functools.reduce(jnp.maximum, xs),
    sympy.Min: lambda *xs: functools.reduce(jnp.minimum, xs),
    boolalg.And: _logical(jnp.logical_and),
    boolalg.Or: _logical(jnp.logical_or),
    boolalg.Not: jnp.logical_not,
    boolalg.ITE: jnp.where,
    boolalg.Xor: _logical(jnp.logical_xor),
    sympy.Lt: lambda a, b: a < b,
    sympy.Le: lambda a, b: a <= b,
    sympy.Gt: lambda a, b: a > b,
    sympy.Ge: lambda a, b: a >= b,
    sympy.Eq: lambda a, b: a == b,
    sympy.Ne: lambda a, b: a != b,
    f.step: _step,
    f.signum: _signum,
    f.inside: lambda low, x, high: jnp.where(
        (low < x) & (x < high), jnp.ones_like(x), jnp.zeros_like(x)
    ),
    f.share: _share,
    f.frozen: lax.stop_gradient,
    f.floor: lax.floor,
    f.ceil: lax.ceil,
    f.round_even: jnp.round,
    f.round_away: lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
    f.truncate: _truncate,
    f.remainder: lambda a, b: lax.rem(*jnp.broadcast_arrays(a, b)),
    f.relu: lambda x, _: jnp.maximum(x, 0),
    f.relu6: lambda x, _: jnp.clip(x, 0, 6),
    f.absolute: lambda x, _: jnp.abs(x),
    f.maximum: lambda a, b, _: jnp.maximum(a, b),
    f.minimum: lambda a, b, _: jnp.minimum(a, b),
    f.clamp: lambda low, x, high: jnp.minimum(jnp.maximum(x, low), high),
    f.largest: lambda *xs: functools.reduce(jnp.maximum, xs),
    f.smallest: lambda *xs: functools.reduce(jnp.minimum, xs),
    f.logistic: jax.nn.sigmoid,
    f.tanh: jnp.tanh,
    f.log1p: jnp.log1p,
    f.expm1: jnp.expm1,
    f.logaddexp: jnp.logaddexp,
    f.logaddexp2: jnp.logaddexp2,
    f.xlogy: jax.scipy.special.xlogy,
    f.xlog1py: jax.scipy.special.xlog1py,
    f.cbrt: jnp.cbrt,
    f.power: lambda a, b: lax.pow(*jnp.broadcast_arrays(a, b)),
}
