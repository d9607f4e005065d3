"""Library functions with a mistake planted in the gradient of their argument, at any size."""

import jax.numpy as jnp

import checking_cases.case as c
from checking_cases import library
from experiments._planted_mistakes import misreported


def _largest_doubled(g):
    return jnp.where(jnp.abs(g) == jnp.max(jnp.abs(g)), 2 * g, g)


MISTAKES = {
    "doubled": lambda g: 2 * g,
    "negated": lambda g: -g,
    "lost": lambda g: 0 * g,
    "largest entry doubled": _largest_doubled,
    "a tenth too large": lambda g: g * 1.1,
    "constant": lambda g: g * 0 + 0.37,
}
BARELY = {
    "a hundredth too large": lambda g: g * 1.01,
    "a thousandth too small": lambda g: g * 0.999,
}


def _corrupted(build, change):
    def corrupted(dtype):
        fun, (x,) = build(dtype)
        return lambda x: fun(misreported(change)(x)), (x,)

    return corrupted


def _each_with(mistakes, builders):
    """Returns builders of the functions, with mistakes in turns."""
    names = tuple(mistakes)
    return {
        f"{name}, {names[number % len(names)]}": _corrupted(
            build, mistakes[names[number % len(names)]])
        for number, (name, build) in enumerate(builders.items())
    }  # fmt: skip


CASES = [
    *c.taking_turns("corrupted", _each_with(MISTAKES, library.ANY_PRECISION), c.REAL, c.WRONG),
    *c.taking_turns("corrupted", _each_with(MISTAKES, library.FULL_PRECISION), c.FULL, c.WRONG),
    *c.taking_turns("corrupted", _each_with(BARELY, library.ELEMENTARY), c.FULL, c.WRONG),
    *c.taking_turns("corrupted", _each_with(MISTAKES, library.OF_COMPLEX), c.COMPLEX, c.WRONG),
]
