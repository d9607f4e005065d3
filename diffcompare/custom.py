"""Functions whose derivative rule is a method of this package."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare import _arguments
from diffcompare.method import Method
from diffcompare.numerical import CentralDifference
from diffcompare.numerical.host import TRACING_ERRORS, black_box
from diffcompare.operators import jacobian

PyTree = Any


def differentiable(
    fun: Callable,
    *,
    method: Method = CentralDifference(),
    host: bool = False,
    workers: int | Callable = 1,
    output: PyTree = None,
) -> Callable:
    """Returns `fun` as a JAX function whose derivative rule is `method`.

    A black box inside a pipeline then works under `jax.grad`, `jax.jvp`, `jax.jit` and
    `jax.vmap`: the chain rule around it is JAX's, its own Jacobian is found by `method`,
    whole, once for each evaluation that is differentiated.

    Args:
        fun: Function of pytrees, returning a pytree of floating-point arrays. Leaves of
            its arguments that are not floating point are constants.
        method: How the Jacobian of `fun` is found.
        host: Whether `fun` is plain Python, NumPy or a program outside, called with NumPy
            arrays through `jax.pure_callback`. It has to be deterministic; under
            `jax.vmap` it is called once for each row. In float64 it needs JAX's 64-bit
            numbers to be enabled, or it is called with float32, and its results are
            rounded to that.
        workers: As in `black_box`, for the evaluations of one Jacobian.
        output: Structure, shapes and dtypes of what `fun` returns on the host, as
            `jax.ShapeDtypeStruct`s. None finds out: `fun` is called once with the
            arguments, or with ones where these are traced.

    Returns:
        A function of the positional arguments of `fun`.

    Raises:
        TypeError: `method` is not a method, or cannot differentiate a black box.
        ValueError: `fun` could not be called with ones, and `output` is not given.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import diffcompare as dc
        >>> fun = dc.differentiable(lambda x: np.sin(x), host=True)
        >>> float(jax.jit(jax.grad(lambda x: fun(x) ** 2))(0.5))
        0.841
    """
    _arguments.check_method(method)
    if host:
        jacobian(black_box(fun), method=method)  # refuses what cannot differentiate it

    @jax.custom_jvp
    def primal(constants, x):
        return _value(fun, constants, x, host, output)

    @primal.defjvp
    def rule(primals, tangents):
        constants, x = primals
        value = primal(constants, x)
        rows = _rows(fun, constants, x, value, method, workers if host else None)

        def slope(out, row):
            terms = [
                jnp.tensordot(r.astype(out.dtype), t.astype(out.dtype), t.ndim)
                for r, t in zip(row, tangents[1], strict=True)
            ]
            return sum(terms, start=jnp.zeros(out.shape, out.dtype))

        return value, jax.tree.map(slope, value, rows)

    def call(*args):
        constants, x = _split(_arguments.to_arrays(args))
        return primal(constants, x)

    call.__name__ = _arguments.name_of(fun)
    call.__doc__ = fun.__doc__
    return call


class _Constants(NamedTuple):
    """What puts the differentiated leaves back among the arguments of a function."""

    arrays: tuple[Any, ...]  # that are not floating point
    static: "_Static"

    def arguments(self, x: Any) -> tuple[Any, ...]:
        """Returns the arguments with the leaves `x`."""
        parts = {_FLOAT: iter(x), _OTHER: iter(self.arrays)}
        leaves = [next(parts[leaf]) if leaf in parts else leaf for leaf in self.static.leaves]
        return jax.tree.unflatten(self.static.treedef, leaves)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Static:
    treedef: Any
    leaves: tuple[Any, ...]  # _FLOAT, _OTHER, or what is no array


class _Place(enum.Enum):
    FLOAT = enum.auto()
    OTHER = enum.auto()


_FLOAT, _OTHER = _Place.FLOAT, _Place.OTHER


def _split(arguments: tuple[Any, ...]) -> tuple[_Constants, tuple[Any, ...]]:
    leaves, treedef = jax.tree.flatten(arguments)

    def place(leaf):
        if not isinstance(leaf, jax.Array):
            return leaf
        return _FLOAT if jnp.issubdtype(leaf.dtype, jnp.floating) else _OTHER

    places = tuple(place(leaf) for leaf in leaves)
    pairs = list(zip(leaves, places, strict=True))
    x = tuple(leaf for leaf, where in pairs if where is _FLOAT)
    other = tuple(leaf for leaf, where in pairs if where is _OTHER)
    return _Constants(other, _Static(treedef, places)), x


def _value(fun: Callable, constants: _Constants, x: Any, host: bool, output: PyTree) -> PyTree:
    if not host:
        return _arguments.to_arrays(fun(*constants.arguments(x)))
    shapes = output if output is not None else _outline(fun, constants, x)

    def evaluate(constants, x):
        result = fun(*jax.tree.map(np.asarray, constants.arguments(x)))
        return jax.tree.map(lambda out, s: np.asarray(out, s.dtype), result, shapes)

    return jax.pure_callback(evaluate, shapes, constants, x, vmap_method="sequential")


def _outline(fun: Callable, constants: _Constants, x: Any) -> PyTree:
    """Returns the shapes and dtypes of what `fun` returns, by calling it once."""
    arguments = constants.arguments(x)
    if _arguments.is_traced(arguments):
        arguments = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), arguments)
    try:
        result = fun(*jax.tree.map(np.asarray, arguments))
    except Exception as error:
        raise ValueError(
            f"differentiable has to know the shape of what {_arguments.name_of(fun)} returns, but "
            f"calling it to find out raised {type(error).__name__}: {error}. Pass output="
            "jax.ShapeDtypeStruct(shape, dtype)."
        ) from error

    def struct(leaf):
        # As JAX would store it: float32 for float64 unless 64-bit numbers are enabled.
        dtype = jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype)
        return jax.ShapeDtypeStruct(np.shape(leaf), dtype)

    return jax.tree.map(struct, result)


def _rows(
    fun: Callable,
    constants: _Constants,
    x: tuple[Any, ...],
    value: PyTree,
    method: Method,
    workers: int | Callable | None,
) -> PyTree:
    """Returns a tuple of Jacobians, one for each leaf of `x`, in place of each output."""

    def of_x(x, constants):
        return fun(*constants.arguments(x))

    if workers is None:
        try:
            jax.eval_shape(of_x, x, constants)
        except TRACING_ERRORS as error:
            raise TypeError(
                "differentiable needs a function that JAX can trace, but "
                f"{_arguments.name_of(fun)} asks a traced value for a number. Pass host=True to "
                "evaluate it on the host."
            ) from error
        return jacobian(of_x, method=method)(x, constants)
    shapes = jax.tree.map(
        lambda out: tuple(jax.ShapeDtypeStruct((*out.shape, *v.shape), v.dtype) for v in x), value
    )

    def evaluate(constants, x):
        numpy = jax.tree.map(np.asarray, (x, constants))
        return jacobian(black_box(of_x, workers=workers, progress=False), method=method)(*numpy)

    @jax.custom_jvp
    def found(constants, x):
        return jax.pure_callback(evaluate, shapes, constants, x, vmap_method="sequential")

    @found.defjvp
    def refuse(primals, tangents):
        raise NotImplementedError(
            f"differentiable(host=True) has first derivatives of {_arguments.name_of(fun)} only. "
            "For second ones take differences of them: diffcompare.jacobian(jax.grad(loss), "
            "method=CentralDifference())."
        )

    return found(constants, x)
