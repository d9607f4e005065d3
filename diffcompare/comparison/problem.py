"""What is compared: a scalar function, split in what is differentiated and the other arrays."""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from diffcompare import _arguments, _calls
from diffcompare.numerical.host import TRACING_ERRORS, black_box

PyTree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A scalar function of two pytrees of arrays, which stands for the user's.

    Attributes:
        name: Of the user's function.
        fun: Takes `x` and `others`.
        x: The arguments to differentiate, a tuple.
        others: Arrays in other arguments; what is no array is closed over.
        jaxpr: The trace of `fun`; None where it cannot be traced, so that `fun` is a black box.
        is_single: Whether `argnums` is one number, so that a gradient is no tuple.
    """

    name: str
    fun: Callable
    x: tuple[PyTree, ...]
    others: list[Any]
    jaxpr: ClosedJaxpr | None
    is_single: bool

    @property
    def leaves(self) -> list[Any]:
        """The arrays to differentiate by."""
        return jax.tree.leaves(self.x)

    @property
    def entries(self) -> int:
        """How many numbers the function is differentiated by."""
        return sum(leaf.size for leaf in self.leaves)

    def unwrapped(self, grads: tuple[PyTree, ...]) -> PyTree:
        """Returns a gradient as the caller expects it."""
        return operator.itemgetter(0)(grads) if self.is_single else grads


def problem_of(fun: Callable, args: Sequence[PyTree], argnums: _calls.Argnums) -> Problem:
    """Returns what is to be compared.

    Raises:
        TypeError: `fun` did not return a floating-point scalar, or an argument to differentiate is
            not floating point.
        ValueError: There is no such argument, or nothing in it to differentiate by.
    """
    positions, is_single = _arguments.check_argnums(argnums)
    _arguments.check_positions("compare", fun, positions, len(args))
    positions = tuple(position % len(args) for position in positions)
    x = tuple(_arguments.to_arrays(args[position]) for position in positions)
    for position, argument in zip(positions, x, strict=True):
        _arguments.check_floating("compare", argument, f"argument {position}")
    rest = [None if number in positions else arg for number, arg in enumerate(args)]
    if _arguments.is_traced((x, rest)):
        raise TypeError(
            "compare needs the numbers themselves, but an argument is traced, as within jit, vmap "
            "or grad. Call it outside of them."
        )
    if not sum(leaf.size for leaf in jax.tree.leaves(x)):
        raise ValueError(f"compare needs something to differentiate by, but got {x!r}.")

    def of_all(x, leaves):
        filled = treedef.unflatten(leaves)
        for position, argument in zip(positions, x, strict=True):
            filled[position] = argument
        value = fun(*filled)
        _arguments.check_scalar("compare", fun, value)
        return value

    leaves, treedef = jax.tree.flatten(rest)
    places = [number for number, leaf in enumerate(leaves) if _is_array(leaf)]

    def of_arrays(x, others):
        filled = list(leaves)
        for place, array in zip(places, others, strict=True):
            filled[place] = array
        return of_all(x, filled)

    def of_x(x, others):
        return of_all(x, leaves)

    for traced in (of_arrays, of_x):  # a program may steer by the values of other arguments
        others = [leaves[place] for place in places] if traced is of_arrays else []
        try:
            jaxpr = jax.make_jaxpr(traced)(x, others)
        except TRACING_ERRORS:
            continue
        return Problem(_arguments.name_of(fun), _named(traced, fun), x, others, jaxpr, is_single)
    # The host calls it with NumPy's arrays, in the precision that they were given in.
    x = tuple(_arguments.to_numpy(args[position]) for position in positions)
    box = black_box(_named(of_x, fun), progress=False)
    box(x, [])  # an output that is no scalar is told now
    return Problem(_arguments.name_of(fun), box, x, [], None, is_single)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _named(function: Callable, fun: Callable) -> Callable:
    """Returns a function that errors call as the user does."""

    @functools.wraps(function)
    def named(x, others):
        return function(x, others)

    named.__name__ = _arguments.name_of(fun)
    return named
