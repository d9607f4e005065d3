"""A case of the gradient checker: a function, its arguments, and the verdicts that are right."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

HALF = ("bfloat16", "float16")
SINGLE = ("float32",)
DOUBLE = ("float64",)
FULL = ("float32", "float64")
REAL = ("bfloat16", "float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")

RIGHT = ("consistent",)
WRONG = ("wrong",)
KINK = ("kink",)
# At a jump no derivative is right; who cannot tell may say so.
NO_DERIVATIVE = ("kink", "inconclusive")
UNDECIDED = ("inconclusive",)
NOT_CONSISTENT = ("wrong", "inconclusive")

Build = Callable[[str], tuple[Callable, tuple[Any, ...]]]


class Case(NamedTuple):
    """What is checked, and what may come out.

    Nothing is built, no array is made, before `build` is called.
    """

    name: str
    category: str
    dtype: str
    verdicts: tuple[str, ...]  # any of them is right
    wrong_leaves: tuple[str, ...]  # as `jax.tree_util.keystr` names them in the tuple of arguments
    of_dtype: Build
    order: int = 1

    def build(self) -> tuple[Callable, tuple[Any, ...]]:
        """Returns the function and its arguments."""
        return self.of_dtype(self.dtype)


def cases(
    category: str,
    builders: Mapping[str, Build],
    dtypes: Iterable[str],
    verdicts: tuple[str, ...],
    wrong_leaves: tuple[str, ...] | None = None,
    order: int = 1,
) -> list[Case]:
    """Returns one case for each builder and dtype.

    Args:
        category: What they have in common.
        builders: By name: functions of a dtype that return a function and a tuple of arguments.
        dtypes: In which each is built.
        verdicts: Those that are right.
        wrong_leaves: The leaves whose derivative is wrong; None is the first argument, where the
            verdict can be "wrong" only, and no leaf otherwise.
        order: Of the derivatives that are checked.
    """
    if wrong_leaves is None:
        wrong_leaves = ("[0]",) if verdicts == WRONG else ()
    return [
        Case(f"{name} in {dtype}", category, dtype, verdicts, wrong_leaves, build, order)
        for name, build in builders.items()
        for dtype in dtypes
    ]


def taking_turns(
    category: str, builders: Mapping[str, Build], dtypes: Iterable[str], verdicts: tuple[str, ...]
) -> list[Case]:
    """Returns one case for each builder; they take turns in the dtypes."""
    dtypes = tuple(dtypes)
    return [
        case
        for number, (name, build) in enumerate(builders.items())
        for case in cases(category, {name: build}, [dtypes[number % len(dtypes)]], verdicts)
    ]


def of_vector(fun: Callable, size: int = 5, seed: int = 0) -> Build:
    """Returns the builder of `fun` at a random vector."""
    return lambda dtype: (fun, (normal(dtype, size, seed=seed),))


def of_matrix(fun: Callable, *shape: int, seed: int = 0) -> Build:
    """Returns the builder of `fun` at a random array of that shape."""
    return lambda dtype: (fun, (normal(dtype, *shape, seed=seed),))


def at(fun: Callable, *args: Any) -> Build:
    """Returns the builder of `fun` at these numbers, lists of numbers or pytrees of them."""
    return lambda dtype: (fun, tuple(array(dtype, arg) for arg in args))


def array(dtype: str, values: Any) -> jax.Array:
    """Returns numbers as an array of the dtype."""
    return jnp.asarray(np.asarray(values), dtype)


def normal(dtype: str, *shape: int, seed: int = 0) -> jax.Array:
    """Returns random numbers of a normal distribution; complex ones in a complex dtype."""
    random = np.random.default_rng([seed, *shape])
    values = random.normal(size=shape)
    return array(dtype, values + 1j * random.normal(size=shape) if "complex" in dtype else values)


def between(dtype: str, low: float, high: float, *shape: int, seed: int = 0) -> jax.Array:
    """Returns random numbers between two."""
    return array(dtype, np.random.default_rng([seed, *shape]).uniform(low, high, shape))


def definite(dtype: str, size: int = 3, seed: int = 0) -> jax.Array:
    """Returns a symmetric (Hermitian) positive definite matrix with eigenvalues above 1."""
    square = normal("complex128" if "complex" in dtype else "float64", size, size, seed=seed)
    return (square @ square.conj().T + jnp.eye(size, dtype=square.dtype)).astype(dtype)


def like(x: jax.Array, values: Any) -> jax.Array:
    """Returns constants in the dtype of `x`."""
    return jnp.asarray(np.asarray(values), x.dtype)


@functools.cache
def random_constant(*shape: int, seed: int = 0) -> np.ndarray:
    """Returns random numbers as NumPy's, to be cast to whatever dtype."""
    return np.random.default_rng([seed, 99, *shape]).normal(size=shape)
