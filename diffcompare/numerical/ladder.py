"""The steps at which a function is evaluated on a line, and the differences of its values.

A function is known by its values only. The steps at which its differences are accurate
depend on the scale on which it changes, which is not known either and need not be near
the size of `x`. So values are asked for in three batches, each of pairs `x ± h`:

1. a *scan* of few steps over all sizes that could matter,
2. a *zoom* into the gap of the scan in which the function stops to look like a line,
   with one pair apart, the *probe* (see `diffcompare.numerical.scan`),
3. a *ladder* of steps, each half of the one before, from just above that place.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SCAN, ZOOM, PROBE, LADDER = 12, 5, 1, 16  # pairs of evaluations
EVALUATIONS = 1 + 2 * (SCAN + ZOOM + PROBE + LADDER)  # for one derivative

# The ladder begins above the longest regular step by this power of two: the tableau gains
# from steps which are too long by themselves.
HEADROOM = 2


class Place(NamedTuple):
    """What is known of a line before the function is evaluated on it."""

    size: jax.Array  # (), of the coordinate, |x|
    scale: jax.Array  # (), another length that could matter, such as the RMS of the leaf
    digits: jax.Array  # (), bits in the mantissa of a point
    smallest: jax.Array  # (), exponents of two of the normal numbers
    largest: jax.Array  # ()
    unit: jax.Array  # (), the relative rounding error of a value, the eps of its dtype

    @classmethod
    def of(cls, size: Any, scale: Any, points: Any, values: Any) -> "Place":
        """Returns a place, from the dtypes of the points and of the values."""
        info = jnp.finfo(points)
        numbers = (info.nmant, info.minexp, info.maxexp, jnp.finfo(values).eps)
        shape, dtype = np.shape(size), jnp.result_type(size)
        constants: list[Any] = [np.full(shape, number, dtype) for number in numbers]
        return cls(size, scale, *constants)


class Pairs(NamedTuple):
    """Values of a function at pairs of points, from the longest step to the shortest."""

    ahead: jax.Array  # (pairs,), how far the points above x really are from it
    behind: jax.Array  # (pairs,), how far the points below x really are from it
    above: jax.Array  # (pairs,), the values there
    below: jax.Array  # (pairs,)


class Differences(NamedTuple):
    """What pairs of values say about a slope."""

    rise: jax.Array  # (pairs,), the difference of two values
    run: jax.Array  # (pairs,), the displacement between them
    bend: jax.Array  # (pairs,), the second difference; zero where there is one side only
    swell: jax.Array  # (pairs,), the larger change from the value at x

    @property
    def slope(self) -> jax.Array:
        return self.rise / self.run


def differences(value: jax.Array, pairs: Pairs, side: jax.Array | int) -> Differences:
    """Returns the central differences where `side` is 0, those ahead at 1, behind at -1."""
    up, down = pairs.above - value, value - pairs.below

    def of_side(both, ahead, behind):
        return jnp.where(side == 0, both, jnp.where(side > 0, ahead, behind))

    return Differences(
        of_side(pairs.above - pairs.below, up, down),
        of_side(pairs.ahead + pairs.behind, pairs.ahead, pairs.behind),
        of_side(up - down, jnp.zeros_like(up), jnp.zeros_like(up)),
        of_side(jnp.maximum(jnp.abs(up), jnp.abs(down)), jnp.abs(up), jnp.abs(down)),
    )


def scan_exponents(place: Place) -> jax.Array:
    """Returns the exponents of the steps of the scan, longest first, shape `(SCAN,)`.

    They reach from a few units in the last place of `x` to far beyond everything that is
    known to be of length. At `x = 0` nothing bounds them from below but the format.
    """
    size, scale, digits = place.size, place.scale, place.digits
    # Of the very smallest exponent XLA's exp2 may be 0, which nothing is below.
    is_zero = size < jnp.exp2(place.smallest + 2)
    spare = jnp.where(digits < 16, 1, digits / 7)  # at the last place there is only noise
    longest = jnp.maximum(jnp.maximum(size, scale), jnp.ones_like(size))
    low = jnp.log2(jnp.where(is_zero, scale, size)) - jnp.where(is_zero, 2.8, 1) * digits
    low = jnp.maximum(low + jnp.where(is_zero, 0, spare), place.smallest + 1)
    high = jnp.where(is_zero, jnp.log2(scale) + 1.2 * digits, jnp.log2(longest) + 0.4 * digits)
    high = jnp.minimum(jnp.maximum(high, low + 0.8 * SCAN), place.largest - 2)
    return high - (high - low) * (jnp.arange(SCAN).astype(size.dtype) / (SCAN - 1))


def zoom_exponents(low: jax.Array, high: jax.Array) -> jax.Array:
    """Returns the exponents of the steps of the zoom between two others, shape `(ZOOM,)`."""
    return low + (high - low) * (jnp.arange(ZOOM, 0, -1).astype(low.dtype) / (ZOOM + 1))


def ladder_exponents(longest_regular: jax.Array) -> jax.Array:
    """Returns the exponents of the steps of the ladder, shape `(LADDER,)`."""
    return longest_regular + HEADROOM - jnp.arange(LADDER).astype(longest_regular.dtype)


def steps_of(exponents: jax.Array, place: Place) -> jax.Array:
    """Returns `2**exponents`, rounded to so few digits that `x ± h` loses nothing.

    They are not powers of two where the format has digits to spare: if the function rounds
    its argument to a coarser format, points that are powers of two apart are all rounded
    alike, and their differences look more exact than they are.
    """
    kept = jnp.exp2(jnp.where(place.digits < 16, 1, jnp.floor(0.4 * place.digits)))
    whole = jnp.floor(exponents)
    return jnp.ldexp(jnp.round(jnp.exp2(exponents - whole) * kept) / kept, whole.astype(int))


def at_all_shorter(holds: jax.Array) -> jax.Array:
    """Returns for each step whether something holds there and at all shorter steps."""
    return jnp.all(holds[None, :] | ~_no_longer(holds), axis=1)


def largest_of_shorter(values: jax.Array) -> jax.Array:
    """Returns for each step the largest value there and at all shorter steps."""
    return jnp.max(jnp.where(_no_longer(values), values[None, :], -jnp.inf), axis=1)


def count_of_shorter(holds: jax.Array) -> jax.Array:
    """Returns for each step at how many steps something holds, of it and all shorter ones."""
    return jnp.sum(holds[None, :] & _no_longer(holds), axis=1)


def _no_longer(steps: jax.Array) -> np.ndarray:
    # As matrices these compile faster than cumulative sums, for so few steps.
    return np.triu(np.ones((steps.shape[0], steps.shape[0]), bool))
