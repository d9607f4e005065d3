"""How far a finite difference steps."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare import _tree


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class AutomaticStep:
    """A step that balances truncation against rounding, for every entry by itself.

    With a scheme of order `p` for a derivative of order `d` the truncation error is
    proportional to `h**p` and the rounding error to `eps / h**d`; they are of one size
    at `h = eps ** (1 / (p + d))`, in units of the scale on which the function changes.
    That scale is not known; `entry_scale` stands for it. The step is rounded to a power
    of two, so that `x + h` loses as little as possible.

    Attributes:
        derivative: The order `d` of the derivative, 1 for a slope, 2 where a difference
            is taken of a difference.

    References:
        Gill, Murray, Saunders and Wright, "Computing forward-difference intervals for
        numerical optimization", SIAM J. Sci. Stat. Comput. 4, 1983.
    """

    derivative: int = 1

    def fraction(self, dtype: Any, order: int) -> float:
        """Returns the step of a scheme of the given order, in units of the scale."""
        # Where derivatives grow like n!, as they do for a function with a pole at distance
        # one, the truncation error of the central scheme of order 2 m is (m!)**2 * h**(2 m).
        growth = math.factorial(order // 2) ** 2
        return (float(jnp.finfo(dtype).eps) / growth) ** (1 / (order + self.derivative))


Step = float | jax.Array | AutomaticStep | None


def check_step(step: Step) -> None:
    """Raises `TypeError` or `ValueError` unless a concrete step is a positive finite number."""
    number = _concrete(step)
    is_text = isinstance(step, str | bytes)  # JAX puts other placeholders here while it traces
    if is_text or (number is not None and (number.ndim != 0 or number.dtype.kind not in "iuf")):
        raise TypeError(f"step must be None or one real number, but it is {step!r}.")
    if number is None:
        return
    if not (np.isfinite(number) and number > 0):
        raise ValueError(
            f"step must be positive and finite, but it is {step}. "
            "Leave it at None for a step that suits each entry."
        )


def check_visible(step: Step, x: Any) -> None:
    """Raises `ValueError` where an absolute step vanishes when it is added to an entry."""
    number = _concrete(step)
    if number is None:
        return
    for path, leaf in zip(_tree.leaf_paths(x), jax.tree.leaves(x), strict=True):
        if isinstance(leaf, jax.core.Tracer):
            continue
        entries = np.asarray(leaf)
        entries = entries[np.isfinite(entries)]
        h = number.astype(entries.dtype)
        lost = (entries + h == entries) | (entries - h == entries)
        if lost.any():
            worst = entries[lost][np.argmax(np.abs(entries[lost]))]
            needed = float(jnp.finfo(entries.dtype).eps) * abs(float(worst))
            raise ValueError(
                f"step {float(number):g} is too small: x + step == x for the entry "
                f"{float(worst):g} of argument{path}, of dtype {entries.dtype}. It has to be at "
                f"least about {needed:.1g}. Leave it at None for a step that suits each entry."
            )


def _concrete(step: Step) -> np.ndarray | None:
    if isinstance(step, int | float | np.ndarray | np.generic):
        return np.asarray(step)
    if isinstance(step, jax.Array) and not isinstance(step, jax.core.Tracer):
        return np.asarray(step)
    return None


def entry_scale(leaf: Any) -> Any:
    """Returns the scale of every entry: the larger of its size and the leaf's RMS.

    Entries that are not finite do not count. Where everything is zero the scale is one.
    Half precision is scaled in float32. The sum of squares is taken of `leaf / max`,
    since it would underflow below 1e-19 and overflow above 1e19 in float32. A NumPy array
    is scaled by NumPy, in its own precision whatever JAX is set to.
    """
    xp = _namespace(leaf)
    values = xp.abs(leaf.astype(_tree.working_dtype(leaf.dtype)))
    values = xp.where(xp.isfinite(values), values, xp.zeros_like(values))
    top = xp.max(values, initial=0)
    rms = top * xp.sqrt(xp.mean((values / xp.where(top > 0, top, xp.ones_like(top))) ** 2))
    scale = xp.maximum(values, rms)
    return xp.where(scale > 0, scale, xp.ones_like(scale))


def nearest_power_of_two(h: Any) -> Any:
    """Returns the power of two that is nearest to `h > 0` in ratio."""
    xp = _namespace(h)
    mantissa, _ = xp.frexp(h)
    above = h / mantissa  # exact: h is mantissa * 2**exponent
    return xp.where(mantissa > 2**-0.5, above, above / 2)


def entry_steps(step: Step, leaf: Any, order: int) -> Any:
    """Returns the step of every entry of `leaf`, in its shape, dtype and kind of array."""
    xp = _namespace(leaf)
    if not (step is None or isinstance(step, AutomaticStep)):
        return xp.broadcast_to(xp.asarray(step).astype(leaf.dtype), leaf.shape)
    fraction = (step or AutomaticStep()).fraction(leaf.dtype, order)
    scale = entry_scale(leaf)
    if xp is jnp:  # a step follows the value in steps of its own: its derivative is zero
        scale = jax.lax.stop_gradient(scale)
    h = nearest_power_of_two(scale * fraction)
    return xp.maximum(h, float(jnp.finfo(leaf.dtype).smallest_normal)).astype(leaf.dtype)


def rounded(x: jax.Array, dtype: Any = None) -> jax.Array:
    """Returns `x` in a dtype, by default its own, certain to be rounded to it.

    XLA may keep a half-precision intermediate in float32. The displacement would then be
    that of a point at which the function is not evaluated.
    """
    dtype = x.dtype if dtype is None else dtype
    info = jnp.finfo(dtype)
    reduced = jax.lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=info.nmant)
    return reduced.astype(dtype)


def _namespace(array: Any) -> Any:
    return np if isinstance(array, np.ndarray | np.generic) else jnp


def direction_step(step: Step, x: Any, v: Any, order: int) -> jax.Array:
    """Returns the one step `h` for which `x + h * v` moves no entry by more than it should.

    Along a basis vector it is the step of that entry. It falls as `v` grows, so that a
    slope is as accurate along `10 * v` as along `v`.
    """
    dtype = _tree.widest(x)
    if not (step is None or isinstance(step, AutomaticStep)):
        return jnp.asarray(step).astype(dtype)
    fractions = [
        (step or AutomaticStep()).fraction(leaf.dtype, order) for leaf in jax.tree.leaves(x)
    ]

    def reach(leaf, along):
        ratio = jnp.abs(along.astype(_tree.working_dtype(leaf.dtype))) / entry_scale(leaf)
        return jnp.max(ratio, initial=0).astype(dtype)

    furthest = jax.tree.reduce(jnp.maximum, jax.tree.map(reach, x, v), jnp.zeros((), dtype))
    furthest = jax.lax.stop_gradient(jnp.where(furthest > 0, furthest, 1))
    return nearest_power_of_two(max(fractions, default=1.0) / furthest)
