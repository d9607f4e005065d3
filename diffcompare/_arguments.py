"""What is done to the arguments of every operator: checking, converting, compiling."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from diffcompare import _tree
from diffcompare.method import JvpMethod, VjpMethod

PyTree = Any


def name_of(fun: Callable) -> str:
    return getattr(fun, "__name__", None) or type(fun).__name__


def check_method(method: Any) -> None:
    if not isinstance(method, JvpMethod | VjpMethod):
        raise TypeError(
            "method must be a method of differentiation, such as diffcompare.ReverseMode() or "
            f"diffcompare.CentralDifference(), but it is {method!r}."
        )


def check_positions(name: str, fun: Callable, positions: tuple[int, ...], count: int) -> None:
    """Raises `ValueError` where a call has no argument at one of the positions."""
    for position in positions:
        if not -count <= position < count:
            raise ValueError(
                f"{name} is to differentiate argument {position} of {name_of(fun)}, but it was "
                f"called with {count} positional arguments. Pass that argument by position, or "
                "change argnums."
            )


def check_argnums(argnums: Any) -> tuple[tuple[int, ...], bool]:
    is_single = not isinstance(argnums, Sequence) or isinstance(argnums, str)
    try:
        positions = tuple(
            operator.index(number) for number in ((argnums,) if is_single else argnums)
        )
    except TypeError:
        raise TypeError(
            f"argnums must be an integer or a sequence of integers, but it is {argnums!r}."
        ) from None
    if len(set(positions)) != len(positions):
        raise ValueError(f"argnums must not name an argument twice, but it is {argnums!r}.")
    return positions, is_single


def check_floating(name: str, x: PyTree, what: str = "an argument") -> None:
    for path, leaf in zip(_tree.leaf_paths(x), jax.tree.leaves(x), strict=True):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None:
            raise TypeError(
                f"{name} needs arrays to differentiate, but {what}{path} is a "
                f"{type(leaf).__name__}. Leave it out of argnums, or close over it."
            )
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{name} needs floating-point arrays to differentiate, but {what}{path} has dtype "
                f"{dtype}. Convert it, for example with x.astype(float), or leave it out of "
                "argnums."
            )


def check_outputs(name: str, fun: Callable, value: PyTree) -> None:
    for path, leaf in zip(_tree.leaf_paths(value), jax.tree.leaves(value), strict=True):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{name} needs a function with floating-point outputs, but output{path} of "
                f"{name_of(fun)} has dtype {dtype}. Convert it, or leave it out."
            )


def check_scalar(name: str, fun: Callable, value: Any) -> None:
    leaves = jax.tree.leaves(value)
    if len(leaves) != 1 or leaves[0] is not value:
        raise TypeError(
            f"{name} needs a function with a scalar output, but {name_of(fun)} returned a "
            f"{type(value).__name__} of {len(leaves)} arrays. Return one of them, or set has_aux "
            "for a pair of a scalar and auxiliary data."
        )
    if jnp.shape(value) != ():
        raise TypeError(
            f"{name} needs a function with a scalar output, but {name_of(fun)} returned shape "
            f"{jnp.shape(value)}. Reduce it first, for example with jnp.sum."
        )
    check_outputs(name, fun, value)


def check_mesh(mesh: Any, axis: str) -> None:
    """Raises `TypeError` where `mesh` is neither None nor a mesh; `axis` names its axis."""
    if not isinstance(mesh, Mesh | None):
        raise TypeError(
            f"mesh must be None or a jax.sharding.Mesh, but it is {mesh!r}. Make one, for example "
            f"with jax.make_mesh((jax.device_count(),), ({axis!r},))."
        )


def check_match(name: str, what: str, given: PyTree, like: str, wanted: PyTree) -> None:
    if jax.tree.structure(given) != jax.tree.structure(wanted):
        raise TypeError(
            f"{name} needs {what} with the structure of the {like}, {jax.tree.structure(wanted)}, "
            f"but got {jax.tree.structure(given)}."
        )
    pairs = zip(jax.tree.leaves(given), jax.tree.leaves(wanted), strict=True)
    for path, (g, w) in zip(_tree.leaf_paths(wanted), pairs, strict=True):
        if jnp.shape(g) != jnp.shape(w) or jnp.result_type(g) != jnp.result_type(w):
            raise TypeError(
                f"{name} needs {what} with the shapes and dtypes of the {like}, "
                f"{jnp.shape(w)} and {jnp.result_type(w)} at {path or 'the only leaf'}, but got "
                f"{jnp.shape(g)} and {jnp.result_type(g)}."
            )


def compiled(run: Callable) -> Callable:
    """Returns `run`, compiled once for each shape of the arrays in its arguments.

    Numbers that steer Python code, such as integers, booleans and strings, keep their
    values. Where one of them has no hash, nothing is kept from call to call.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def program(fixed, arrays):
        treedef, leaves = fixed
        arrays = iter(arrays)
        leaves = [next(arrays) if leaf is _ARRAY else leaf.value for leaf in leaves]
        return run(*treedef.unflatten(leaves))

    def call(args, kwargs):
        leaves, treedef = jax.tree.flatten((args, kwargs))
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        fixed = (treedef, tuple(_ARRAY if _is_array(leaf) else _Fixed(leaf) for leaf in leaves))
        try:
            hash(fixed)
        except TypeError:
            return run(args, kwargs)
        return program(fixed, arrays)

    return call


_ARRAY = object()  # stands where an array is passed


class _Fixed(NamedTuple):
    """A value that is part of the compiled program. 1, 1.0 and True are not the same."""

    value: Any

    def __eq__(self, other):
        return type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self):
        return hash((type(self.value), self.value))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float)


def to_arrays(x: PyTree) -> PyTree:
    """Returns `x` with numbers and NumPy arrays made arrays; other leaves are left alone."""

    def convert(leaf):
        is_number = isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex)
        return jnp.asarray(leaf) if is_number else leaf

    return jax.tree.map(convert, x)


def to_numpy(x: PyTree) -> PyTree:
    """Returns `x` with numbers made NumPy arrays, in their own precision; arrays stay."""

    def convert(leaf):
        is_number = isinstance(leaf, np.generic | int | float | complex)
        return np.asarray(leaf) if is_number else leaf

    return jax.tree.map(convert, x)


def is_traced(x: PyTree) -> bool:
    """Returns whether a leaf of `x` is a traced value."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(x))
