"""What is checked: a function of real arrays, and the lines along which it is looked at."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr

from diffcompare._jaxpr import realify
from diffcompare.numerical.host import TRACING_ERRORS

PyTree = Any
# The leaves that move, by number, each along an array of float64.
Moves = Mapping[int, np.ndarray]

# Seeds are one number for what they are for, and then characters of a path.
_OF_WEIGHTS, _OF_DIRECTIONS = 1, 2


class Leaf(NamedTuple):
    """A real array of the arguments; a complex one is two of them."""

    path: str  # in the tuple of arguments, such as "[0]['w']"
    part: Literal["", "real", "imag"]
    shape: tuple[int, ...]
    dtype: jnp.dtype  # floating point

    @property
    def name(self) -> str:
        """Its path, and of which part."""
        return f"{self.path}.{self.part}" if self.part else self.path

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def eps(self) -> float:
        """The distance from 1 to the next number of the dtype."""
        return float(jnp.finfo(self.dtype).eps)


class Direction(NamedTuple):
    """A line through a leaf, exact in the leaf's dtype."""

    name: str  # "entry (0, 2)" or "direction 1"
    array: np.ndarray  # float64, of the leaf's shape
    entry: tuple[int, ...] | None  # the only entry that moves


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A function of real arrays with real outputs, which stands for the user's.

    Attributes:
        fun: Takes one array for each of `leaves`, and returns a list of real arrays, one for each
            of `weights`. It calls the user's function, and JAX differentiates it by the user's
            rules.
        x: The arrays, one for each leaf, in the dtypes under test.
        leaves: What the arrays are.
        weights: Numbers that contract the outputs to one, float64, one array for each output:
            short binary fractions, which are exact in every dtype. 1 where the only output is a
            scalar.
        dtypes: Of the outputs.
        jaxpr: The trace of `fun`, with real numbers only; None where there is none.
        untraced: Why there is no trace, or an empty string.
    """

    fun: Callable[..., list[jax.Array]]
    x: tuple[jax.Array, ...]
    leaves: tuple[Leaf, ...]
    weights: tuple[np.ndarray, ...]
    dtypes: tuple[jnp.dtype, ...]
    jaxpr: ClosedJaxpr | None
    untraced: str


def problem_of(fun: Callable, args: tuple[PyTree, ...]) -> Problem | None:
    """Returns what is to be checked, or None where nothing is floating point, in or out.

    Integers, booleans, random keys, empty arrays and what is no array are closed over.

    Example:
        >>> found = problem_of(lambda x, n: x["a"] * n, ({"a": 1.5, "b": None}, 2))
        >>> [leaf.name for leaf in found.leaves]
        ["[0]['a']"]
    """
    of_leaves, given = _of_floating(fun, args)
    if not given:
        return None
    pieces = [piece for path, leaf in given for piece in _pieces(path, leaf)]
    complexes = [jnp.iscomplexobj(leaf) for _, leaf in given]

    def of_reals(*arrays):
        rest = iter(arrays)
        whole = [lax.complex(next(rest), next(rest)) if is_complex else next(rest)
                 for is_complex in complexes]  # fmt: skip
        return [part for output in of_leaves(*whole) for part in _parts(output)]

    found = _problem(of_reals, *zip(*((array, leaf) for leaf, array in pieces), strict=True))
    return found if sum(weight.size for weight in found.weights) else None


def derived(problem: Problem, slopes: Callable[..., Sequence[jax.Array]]) -> Problem:
    """Returns the problem whose outputs are derivatives of another's.

    Args:
        problem: The other.
        slopes: Takes the leaves, and returns derivatives of `problem.fun`.
    """
    return _problem(lambda *x: list(slopes(*x)), problem.x, problem.leaves)


def _problem(fun, x, leaves) -> Problem:
    jaxpr, untraced = _trace(fun, x)
    outputs = fun(*x) if jaxpr is None else jaxpr.out_avals
    dtypes = tuple(output.dtype for output in outputs)
    return Problem(fun, x, leaves, _weights(outputs), dtypes, jaxpr, untraced)


def _of_floating(fun, args):
    """Returns a function of the floating-point leaves, and those leaves with their paths."""
    found, treedef = jax.tree_util.tree_flatten_with_path(args)
    leaves = [leaf for _, leaf in found]
    places = [number for number, leaf in enumerate(leaves) if _is_inexact(leaf) and np.size(leaf)]

    def of_floating(*arrays):
        filled = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            filled[place] = array
        outputs = jax.tree.leaves(fun(*treedef.unflatten(filled)))
        return [jnp.asarray(output) for output in outputs if _is_inexact(output)]

    given = [
        (jax.tree_util.keystr(found[place][0]), jnp.asarray(leaves[place])) for place in places
    ]
    return of_floating, given


def _is_inexact(leaf: Any) -> bool:
    if isinstance(leaf, float | complex):
        return True
    dtype = getattr(leaf, "dtype", None)
    is_key = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    return dtype is not None and not is_key and jnp.issubdtype(dtype, jnp.inexact)


def _pieces(path: str, leaf: jax.Array) -> Iterator[tuple[Leaf, jax.Array]]:
    parts = _parts(leaf)
    names: tuple[Any, ...] = ("real", "imag") if len(parts) == 2 else ("",)
    for name, array in zip(names, parts, strict=True):
        yield Leaf(path, name, array.shape, jnp.dtype(array.dtype)), array


def _parts(array: jax.Array) -> list[jax.Array]:
    return [jnp.real(array), jnp.imag(array)] if jnp.iscomplexobj(array) else [array]


def _trace(fun, x) -> tuple[ClosedJaxpr | None, str]:
    try:
        return realify.realified(jax.make_jaxpr(fun)(*x), of_values=True), ""
    except TRACING_ERRORS:
        return None, "the function asks a traced value for a number, so that it has no trace"
    except NotImplementedError as error:  # complex numbers without a rule
        return None, str(error)


def _weights(outputs: Sequence[Any]) -> tuple[np.ndarray, ...]:
    if sum(output.size for output in outputs) <= 1:
        return tuple(np.ones(output.shape) for output in outputs)
    for draw in itertools.count():
        weights = tuple(
            _short(np.random.default_rng([_OF_WEIGHTS, draw, number]), output.shape)
            for number, output in enumerate(outputs)
        )
        # The same mistake in all outputs must not vanish in their sum.
        if abs(sum(np.sum(weight) for weight in weights)) >= 0.5:
            return weights
    raise AssertionError("unreachable")


def _short(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Returns numbers of 1/2 to 1 in size with four binary digits, exact in every dtype."""
    return random.choice([-1.0, 1.0], shape) * random.integers(4, 9, shape) / 8.0


def directions(leaf: Leaf, x: Any, units: int, lines: int = 2) -> list[Direction]:
    """Returns the lines along which a leaf moves.

    They depend on the leaf alone: its path, its numbers. Each entry moves by a short binary
    fraction of its own size; in the first line, small entries move by the size of the others,
    so that both scales are seen.

    Args:
        leaf: The leaf.
        x: Its array.
        units: Up to how many entries a leaf is looked at entry by entry.
        lines: How many lines move all entries at once.
    """
    values = np.abs(np.asarray(x).astype(np.float64))
    finite = values[np.isfinite(values)]
    usual = (
        float(np.sqrt(np.mean(np.square(finite / finite.max())))) * finite.max()
        if np.any(finite)
        else 1.0
    )
    found = []
    if leaf.size <= max(units, 1):
        lengths = _power_of_two(np.where(values > 0, values, usual), leaf)
        for entry in np.ndindex(*leaf.shape):
            found.append(unit_direction(leaf, x, entry, float(lengths[entry])))
        if leaf.size == 1:
            return found
    random = np.random.default_rng([_OF_DIRECTIONS, *map(ord, leaf.name)])
    for number in range(lines):
        sizes = (
            np.maximum(values, usual) if number % 2 == 0 else np.where(values > 0, values, usual)
        )
        array = _short(random, leaf.shape) * _power_of_two(sizes, leaf)
        found.append(Direction(f"direction {number + 1}", array, None))
    return found


def usual_direction(leaf: Leaf, x: Any) -> Direction:
    """Returns a line along which all entries of a leaf move."""
    return directions(leaf, x, units=0, lines=1)[-1]


def unit_direction(
    leaf: Leaf, x: Any, entry: tuple[int, ...], length: float | None = None
) -> Direction:
    """Returns the line along one entry; its length is a power of two near the entry's size."""
    array = np.zeros(leaf.shape)
    array[entry] = unit_lengths(leaf, np.asarray(x)[entry]) if length is None else length
    return Direction(f"entry {entry}" if entry else "the only entry", array, entry)


def unit_lengths(leaf: Leaf, x: Any) -> np.ndarray:
    """Returns the lengths of the lines along entries: powers of two near their sizes."""
    sizes = np.abs(wide(x))
    return _power_of_two(np.where(sizes > 0, sizes, 1.0), leaf)


def _power_of_two(sizes: np.ndarray, leaf: Leaf) -> np.ndarray:
    # Shorter than the smallest normal number, a direction would vanish in the leaf's dtype.
    sizes = np.maximum(sizes, float(jnp.finfo(leaf.dtype).tiny))
    usable = np.isfinite(sizes) & (sizes > 0)
    return np.where(usable, np.exp2(np.floor(np.log2(np.where(usable, sizes, 1.0)))), 1.0)


def wide(array: Any) -> np.ndarray:
    """Returns numbers of any floating-point dtype in the widest that NumPy knows well."""
    return np.asarray(array).astype(np.float64)
