"""Arithmetic of complex numbers as pairs of real arrays: one rule for each primitive."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from diffcompare._jaxpr import movement

Array = Any


class Pair(NamedTuple):
    """A complex array as two real ones of its shape."""

    re: Array
    im: Array


def paired(value: Any) -> Pair:
    """Returns a pair for a real array, or for a pair."""
    return value if isinstance(value, Pair) else Pair(value, jnp.zeros_like(value))


def real_dtype(dtype: Any) -> Any:
    """Returns the dtype of the two parts of a complex dtype, or a dtype that is not complex."""
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    return jnp.finfo(dtype).dtype if is_complex else dtype


def parts(eqn: Any, function: Callable[..., Any], inputs: Sequence[Any]) -> Any:
    """Returns a linear function of all the pairs among its inputs, applied to both parts."""
    values = [(paired(x).re, paired(x).im) if isinstance(x, Pair) else (x, x) for x in inputs]
    real, imaginary = (function(*each) for each in zip(*values, strict=True))
    if isinstance(real, list | tuple):
        return [Pair(*both) for both in zip(real, imaginary, strict=True)]
    return Pair(real, imaginary)


def times(a: Pair, b: Pair, product: Callable[[Array, Array], Array] = jnp.multiply) -> Pair:
    """Returns a product, of any kind that is linear in both."""
    return Pair(
        product(a.re, b.re) - product(a.im, b.im), product(a.re, b.im) + product(a.im, b.re)
    )


def _over(a, b):
    size = b.re * b.re + b.im * b.im
    return Pair((a.re * b.re + a.im * b.im) / size, (a.im * b.re - a.re * b.im) / size)


def _scaled(a, factor):
    return Pair(a.re * factor, a.im * factor)


def _one(a):
    return Pair(jnp.ones_like(a.re), jnp.zeros_like(a.re))


def _plus(a, b):
    return Pair(a.re + b.re, a.im + b.im)


def _is_zero(a):
    zero = jnp.zeros_like(a.re)
    return (a.re == zero) & (a.im == zero)


def _where(condition, a, b):
    return Pair(jnp.where(condition, a.re, b.re), jnp.where(condition, a.im, b.im))


def _size(a):
    # At 0, JAX gives the absolute value the slope 0, where a root has none.
    zero = _is_zero(a)
    square = jnp.where(zero, jnp.ones_like(a.re), a.re * a.re + a.im * a.im)
    return jnp.where(zero, jnp.zeros_like(a.re), jnp.sqrt(square))


def _sign(a):
    zero = _is_zero(a)
    safe = jnp.where(zero, jnp.ones_like(a.re), _size(a))
    return Pair(a.re / safe, a.im / safe)


def _exp(a):
    size = jnp.exp(a.re)
    return Pair(size * jnp.cos(a.im), size * jnp.sin(a.im))


def _log(a):
    return Pair(jnp.log(a.re * a.re + a.im * a.im) / 2, jnp.arctan2(a.im, a.re))


def _power_of_size(exponent):
    """Returns the rule of a principal root, by the size and the angle."""

    def root(a):
        size = (a.re * a.re + a.im * a.im) ** (exponent / 2)
        angle = jnp.arctan2(a.im, a.re) * exponent
        return Pair(size * jnp.cos(angle), size * jnp.sin(angle))

    return root


def _integer_power(a, y):
    if y < 0:
        return _over(_one(a), _integer_power(a, -y))
    total, power = _one(a), a
    while y:
        total = times(total, power) if y % 2 else total
        power, y = times(power, power), y // 2
    return total


def _power(a, b):
    zero = _is_zero(a)
    log = _log(_where(zero, _one(a), a))
    found = _exp(times(b, log))
    at_zero = Pair(jnp.where(_is_zero(b), *[f(a.re) for f in (jnp.ones_like, jnp.zeros_like)]),
                   jnp.zeros_like(a.re))  # fmt: skip
    return _where(zero, at_zero, found)


def _sinh(a):
    return Pair(jnp.sinh(a.re) * jnp.cos(a.im), jnp.cosh(a.re) * jnp.sin(a.im))


def _cosh(a):
    return Pair(jnp.cosh(a.re) * jnp.cos(a.im), jnp.sinh(a.re) * jnp.sin(a.im))


def _sin(a):
    return Pair(jnp.sin(a.re) * jnp.cosh(a.im), jnp.cos(a.re) * jnp.sinh(a.im))


def _cos(a):
    return Pair(jnp.cos(a.re) * jnp.cosh(a.im), -jnp.sin(a.re) * jnp.sinh(a.im))


def _expm1(a):
    half = jnp.sin(a.im / 2)
    return Pair(jnp.expm1(a.re) * jnp.cos(a.im) - 2 * half * half, jnp.exp(a.re) * jnp.sin(a.im))


def _log1p(a):
    return Pair(
        jnp.log1p(a.re * (a.re + 2) + a.im * a.im) / 2,
        jnp.arctan2(a.im, a.re + jnp.ones_like(a.re)),
    )


def _logistic(a):
    return _over(_one(a), _plus(_one(a), _exp(_scaled(a, -1))))


def _select(eqn, which, *cases):
    both = [paired(case) for case in cases]
    return Pair(
        lax.select_n(which, *[c.re for c in both]), lax.select_n(which, *[c.im for c in both])
    )


def _convert(eqn, a):
    dtype = real_dtype(eqn.params["new_dtype"])
    both = Pair(*(lax.convert_element_type(part, dtype) for part in paired(a)))
    return both if dtype != eqn.params["new_dtype"] else both.re


def _bilinear(eqn, a, b):
    params = dict(eqn.params)
    if params.get("preferred_element_type") is not None:
        params["preferred_element_type"] = real_dtype(params["preferred_element_type"])
    product = lambda x, y: eqn.primitive.bind(x, y, **params)
    return times(paired(a), paired(b), product)


def _by_parts(eqn, *inputs):
    changed = {}
    if eqn.primitive.name == "gather" and eqn.params["fill_value"] is not None:
        changed["fill_value"] = 0  # what a pair fills in besides is refused in `realify`
    bind = lambda *arrays: eqn.primitive.bind(*arrays, **{**eqn.params, **changed})
    return parts(eqn, bind, inputs)


def _scattered(function):
    def scatter(eqn, operand, indices, updates):
        params = {key: eqn.params[key] for key in ("indices_are_sorted", "unique_indices", "mode")}
        numbers = eqn.params["dimension_numbers"]
        bind = lambda x, u: function(x, indices, u, numbers, **params)
        return parts(eqn, bind, [paired(operand), paired(updates)])

    return scatter


def _pure(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda eqn, *inputs: function(*map(paired, inputs))


RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(movement.MOVED, _by_parts),
    **dict.fromkeys(movement.IDENTITIES - {"reduce_precision"}, _by_parts),
    "abs": _pure(_size),
    "add": _pure(_plus),
    "add_any": _pure(_plus),
    # One of them may be a number beside an array.
    "complex": lambda eqn, a, b: Pair(*jnp.broadcast_arrays(a, b)),
    "conj": _pure(lambda a: Pair(a.re, -a.im)),
    "conv_general_dilated": _bilinear,
    "convert_element_type": _convert,
    "cos": _pure(_cos),
    "cosh": _pure(_cosh),
    "cumsum": _by_parts,
    "div": _pure(_over),
    "dot_general": _bilinear,
    "eq": _pure(lambda a, b: (a.re == b.re) & (a.im == b.im)),
    "exp": _pure(_exp),
    "expm1": _pure(_expm1),
    "imag": _pure(lambda a: a.im),
    "integer_pow": lambda eqn, a: _integer_power(paired(a), eqn.params["y"]),
    "is_finite": _pure(lambda a: jnp.isfinite(a.re) & jnp.isfinite(a.im)),
    "log": _pure(_log),
    "log1p": _pure(_log1p),
    "logistic": _pure(_logistic),
    "mul": _pure(times),
    "ne": _pure(lambda a, b: (a.re != b.re) | (a.im != b.im)),
    "neg": _pure(lambda a: Pair(-a.re, -a.im)),
    "one_minus_square": _pure(lambda a: _plus(_one(a), _scaled(times(a, a), -1))),
    "pow": _pure(_power),
    "real": _pure(lambda a: a.re),
    "reduce_sum": _by_parts,
    "rsqrt": _pure(_power_of_size(-0.5)),
    "scatter": _scattered(lax.scatter),
    "scatter-add": _scattered(lax.scatter_add),
    "select_n": _select,
    "sign": _pure(_sign),
    "sin": _pure(_sin),
    "sinh": _pure(_sinh),
    "sqrt": _pure(_power_of_size(0.5)),
    "square": _pure(lambda a: times(a, a)),
    "stop_gradient": _by_parts,
    "sub": _pure(lambda a, b: Pair(a.re - b.re, a.im - b.im)),
    "tan": _pure(lambda a: _over(_sin(a), _cos(a))),
    "tanh": _pure(lambda a: _over(_sinh(a), _cosh(a))),
}
