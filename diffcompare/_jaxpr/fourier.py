"""The discrete Fourier transform as sums, over pairs of real arrays."""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax

from diffcompare._jaxpr.pairs import Pair, paired, times

Array = Any


def fft(eqn: Any, x: Any) -> Any:
    """Returns a Fourier transform of any of the four kinds, by its definition.

    The angles are computed with the inputs, in whatever arithmetic interprets the sums, so
    that no constant is rounded to the digits of a machine.
    """
    kind = str(getattr(eqn.params["fft_type"], "name", eqn.params["fft_type"])).upper()
    lengths = eqn.params["fft_lengths"]
    *outer, last = range(-len(lengths), 0)
    of_outer = [(axis, length) for axis, length in zip(outer, lengths[:-1], strict=True)]
    if kind == "IRFFT":
        for axis, length in of_outer:
            x = _transformed(paired(x), axis, length, length, 1)
        return _real_inverse(paired(x), lengths[-1])
    count = lengths[-1] // 2 + 1 if kind == "RFFT" else lengths[-1]
    sign = 1 if kind == "IFFT" else -1
    x = _transformed(paired(x), last, lengths[-1], count, sign)
    for axis, length in of_outer:
        x = _transformed(x, axis, length, length, sign)
    return x


def _transformed(x: Pair, axis: int, length: int, count: int, sign: int) -> Pair:
    """Returns the sums over an axis with exp(sign 2 pi i j k / n); divided by n where sign is 1."""
    cosines, sines = _roots(length, length, count, x.re.dtype)
    roots = Pair(cosines, sines if sign > 0 else -sines)
    if sign > 0:
        roots = Pair(roots.re / length, roots.im / length)
    found = times(_last(x, axis), roots, _product)
    return Pair(*(jnp.moveaxis(part, -1, axis) for part in found))


def _real_inverse(x: Pair, length: int) -> Array:
    """Returns the real array whose transform has these entries; others are their conjugates."""
    count = length // 2 + 1
    cosines, sines = _roots(length, count, length, x.re.dtype)
    # The first frequency, and the middle one of an even length, are their own conjugates.
    places = jnp.arange(count, dtype=jnp.int32)[:, None]
    single = (places == 0) | (2 * places == length)
    one = jnp.ones((), x.re.dtype)
    zero = jnp.zeros((), x.re.dtype)
    cosines = jnp.where(single, one, one + one) * cosines / length
    sines = jnp.where(single, zero, one + one) * sines / length
    return _product(x.re, cosines) - _product(x.im, sines)


def _roots(length: int, rows: int, columns: int, dtype: Any) -> tuple[Array, Array]:
    """Returns cos and sin of 2 pi j k / n, of shape (rows, columns)."""
    shape = (rows, columns)
    places = lax.broadcasted_iota(jnp.int32, shape, 0) * lax.broadcasted_iota(jnp.int32, shape, 1)
    turns = jnp.remainder(places, jnp.int32(max(length, 1))).astype(dtype)
    zero = jnp.zeros((), dtype)
    pi = lax.atan2(zero, zero - jnp.ones((), dtype))
    angles = turns * (pi * 2) / length
    return jnp.cos(angles), jnp.sin(angles)


def _product(x: Array, matrix: Array) -> Array:
    if math.prod(x.shape) == 0:
        return jnp.zeros((*x.shape[:-1], matrix.shape[1]), x.dtype)
    return lax.dot_general(x, matrix, (((x.ndim - 1,), (0,)), ((), ())), precision="highest")


def _last(x: Pair, axis: int) -> Pair:
    return Pair(*(jnp.moveaxis(part, axis, -1) for part in x))
