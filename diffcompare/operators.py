"""Derivatives of functions: the signatures of JAX, and a method.

Everything here is derived from what a `Method` provides, and every argument is checked
once, before anything is computed.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffcompare import _arguments, _tree
from diffcompare.automatic.mode import ForwardMode, ReverseMode
from diffcompare.method import ColumnMethod, JvpMethod, Method, VjpMethod

PyTree = Any
Argnums = int | Sequence[int]

# How many bytes of tangents or cotangents are pushed through a function at once.
_BATCH_BYTES = 2**28


def grad(
    fun: Callable,
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    method: Method = ReverseMode(),
) -> Callable:
    """Returns a function that computes the gradient of `fun` by `method`.

    The signature is that of `jax.grad`, with one more keyword. Whatever the method, the
    result has the structure, shapes and dtypes of the argument it differentiates.

    Args:
        fun: Function of one or more pytrees, returning a floating-point scalar of shape
            `()`, or a pair `(scalar, aux)` where `has_aux` is true. It has to be pure:
            a finite difference calls it many times, compiled.
        argnums: The positional argument, or the arguments, to differentiate: pytrees of
            floating-point arrays.
        has_aux: Whether `fun` returns auxiliary data beside its value.
        method: How the gradient is found; see `Method`.

    Returns:
        A function of the same arguments as `fun`. It returns the gradient, a tuple of
        gradients where `argnums` is a sequence, or `(gradient, aux)` where `has_aux` is
        true.

    Raises:
        TypeError: `fun` did not return a floating-point scalar, an argument to
            differentiate is not floating point, or `argnums` is not made of integers.
        ValueError: There is no argument of that number, or the step of the method
            vanishes beside an entry.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> fun = lambda x: jnp.sum(jnp.sin(x))
        >>> x = jnp.array([0.0, 1.0])
        >>> dc.grad(fun, method=dc.CentralDifference())(x).tolist()
        [1.00, 0.54]

    References:
        Griewank and Walther, "Evaluating Derivatives", 2nd ed., SIAM, 2008, chapter 3.
    """
    both = value_and_grad(fun, argnums, has_aux, method=method)

    @_named_after(fun, "Gradient")
    def gradient(*args, **kwargs):
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return gradient


def value_and_grad(
    fun: Callable,
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    method: Method = ReverseMode(),
) -> Callable:
    """Returns a function that computes the value and the gradient of `fun` by `method`.

    Args:
        fun: As in `grad`.
        argnums: As in `grad`.
        has_aux: As in `grad`.
        method: As in `grad`.

    Returns:
        A function of the same arguments as `fun`. It returns `(value, gradient)`, or
        `((value, aux), gradient)` where `has_aux` is true.

    Raises:
        TypeError: As in `grad`.
        ValueError: As in `grad`.

    Example:
        >>> import diffcompare as dc
        >>> value, slope = dc.value_and_grad(lambda x: x**3, method=dc.ForwardMode())(2.0)
        >>> float(value), float(slope)
        (8.0, 12.0)
    """
    _arguments.check_method(method)

    def compute(split: "_Split"):
        x = split.x
        if isinstance(method, VjpMethod):
            value, pullback, *aux = method.vjp(split.fun, x, has_aux=has_aux)
            _arguments.check_scalar(fun, value)
            grads = pullback(jnp.ones_like(value))
        else:
            output = split.fun(x)
            value, aux = (output[0], [output[1]]) if has_aux else (output, [])
            _arguments.check_scalar(fun, value)
            columns = _columns(method, _first(split.fun) if has_aux else split.fun, x)
            grads = jax.tree.map(
                lambda leaf, c: c.reshape(leaf.shape).astype(leaf.dtype), x, columns
            )
        return ((value, *aux) if has_aux else value), split.unwrap(grads)

    return _differentiated(fun, "grad", argnums, method, compute, "Value and gradient")


def jvp(
    fun: Callable,
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    method: Method = ForwardMode(),
) -> tuple[PyTree, PyTree]:
    """Returns the value of `fun` and its slope along `tangents`, by `method`.

    Args:
        fun: Function of the primals, returning a pytree of floating-point arrays.
        primals: Where to differentiate, one pytree for each argument of `fun`.
        tangents: The direction, with the structure, shapes and dtypes of the primals.
        method: How the slope is found. A method that has only a pullback, such as
            `ReverseMode`, is asked for every row of the Jacobian.

    Returns:
        The value and the slope, of the structure, shapes and dtypes of the value.

    Raises:
        TypeError: The tangents do not match the primals, or something is not floating
            point.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> value, slope = dc.jvp(jnp.sin, (0.0,), (2.0,), method=dc.CentralDifference())
        >>> float(slope)
        2.000
    """
    _arguments.check_method(method)
    x, v = _arguments.to_arrays(tuple(primals)), _arguments.to_arrays(tuple(tangents))
    _arguments.check_floating("jvp", x)
    _arguments.check_match("jvp", "tangents", v, "primals", x)
    if isinstance(method, ColumnMethod):
        method.check(x)

    def of_all(x):
        return fun(*x)

    if isinstance(method, JvpMethod):
        return method.jvp(of_all, x, v)
    assert isinstance(method, VjpMethod)
    value, rows = _rows(method, fun, of_all, x)

    def slope(out, row):
        terms = jax.tree.map(lambda r, t: jnp.tensordot(r.astype(t.dtype), t, t.ndim), row, v)
        total = sum(jax.tree.leaves(terms), start=jnp.zeros((), out.dtype))
        return total.astype(out.dtype).reshape(out.shape)

    return value, jax.tree.map(slope, value, rows)


def vjp(
    fun: Callable, *primals: PyTree, method: Method = ReverseMode()
) -> tuple[PyTree, Callable[[PyTree], tuple[PyTree, ...]]]:
    """Returns the value of `fun` and its pullback, by `method`.

    Args:
        fun: Function of the primals, returning a pytree of floating-point arrays.
        *primals: Where to differentiate, one pytree for each argument of `fun`.
        method: How the pullback is found. A method that has only slopes differentiates
            the weighted sum of the outputs by every entry, at each call of the pullback.

    Returns:
        The value, and a function that takes weights of its structure, shapes and dtypes,
        and returns a tuple of one pytree for each primal.

    Raises:
        TypeError: Something is not floating point, or weights do not match the value.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> fun = lambda x, y: x * y
        >>> value, pullback = dc.vjp(fun, 2.0, 3.0, method=dc.CentralDifference())
        >>> [float(slope) for slope in pullback(1.0)]
        [3.000, 2.000]
    """
    _arguments.check_method(method)
    x = _arguments.to_arrays(tuple(primals))
    _arguments.check_floating("vjp", x)

    def of_all(x):
        return fun(*x)

    if isinstance(method, VjpMethod):
        value, pull = method.vjp(of_all, x)[:2]
    else:
        if isinstance(method, ColumnMethod):
            method.check(x)
        value, pull = of_all(x), functools.partial(_pull_columns, method, of_all, x)
    _arguments.check_outputs("vjp", fun, value)

    def pullback(weights):
        weights = _arguments.to_arrays(weights)
        _arguments.check_match("The pullback", "weights", weights, "value", value)
        return pull(weights)

    return value, pullback


def jacobian(fun: Callable, argnums: Argnums = 0, *, method: Method = ReverseMode()) -> Callable:
    """Returns a function that computes the Jacobian of `fun` by `method`.

    The layout is "output x input", as in `jax.jacobian`: where an output has shape `(m,)`
    and an argument shape `(n,)`, the Jacobian has shape `(m, n)`.

    Args:
        fun: Function of one or more pytrees, returning a pytree of floating-point arrays.
        argnums: As in `grad`.
        method: How the Jacobian is found: row by row where the method has a pullback,
            column by column where it has slopes.

    Returns:
        A function of the same arguments as `fun`. It returns a pytree with the structure
        of the output of `fun`; in place of each leaf of shape `out` stands a pytree with
        the structure of the argument, a tuple of such where `argnums` is a sequence,
        whose leaves have shape `(*out, *leaf)` and the dtype of the argument's leaf.

    Raises:
        TypeError: An output or an argument to differentiate is not floating point.
        ValueError: As in `grad`.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> fun = lambda x: jnp.stack([x[0] * x[1], x[1], x[0]])
        >>> x = jnp.array([2.0, 3.0])
        >>> dc.jacobian(fun, method=dc.CentralDifference(step=0.5))(x).tolist()
        [[3.0, 2.0], [0.0, 1.0], [1.0, 0.0]]
    """
    _arguments.check_method(method)

    def compute(split: "_Split"):
        if isinstance(method, VjpMethod):
            value, rows = _rows(method, fun, split.fun, split.x)
        else:
            value = jax.eval_shape(split.fun, split.x)
            _arguments.check_outputs("jacobian", fun, value)
            rows = _transposed(value, split.x, _columns(method, split.fun, split.x))
        return jax.tree.map(lambda _, row: split.unwrap(row), value, rows)

    return _differentiated(fun, "jacobian", argnums, method, compute, "Jacobian")


def hessian(
    fun: Callable,
    argnums: Argnums = 0,
    *,
    method: Method | tuple[Method, Method] = (ForwardMode(), ReverseMode()),
) -> Callable:
    """Returns a function that computes the Hessian of `fun` by `method`.

    It is the Jacobian of the gradient, in the layout of `jax.hessian`.

    Args:
        fun: As in `grad`.
        argnums: As in `grad`.
        method: One method for both derivatives, or a pair: the method of the Jacobian,
            then the method of the gradient. A finite difference of a finite difference
            takes a longer step, as suits a second derivative.

    Returns:
        A function of the same arguments as `fun`, which returns a pytree of pytrees.

    Raises:
        TypeError: As in `grad`.
        ValueError: As in `grad`.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> fun = lambda x: x[0] ** 2 * x[1]
        >>> x = jnp.array([2.0, 3.0])
        >>> method = (dc.CentralDifference(step=0.5), dc.ReverseMode())
        >>> dc.hessian(fun, method=method)(x).tolist()
        [[6.0, 4.0], [4.0, 0.0]]
    """
    if isinstance(method, tuple):
        outer, inner = method
    elif isinstance(method, ColumnMethod):
        outer, inner = method.nested()
    else:
        outer = inner = method
    return jacobian(grad(fun, argnums, method=inner), argnums, method=outer)


class _Split(NamedTuple):
    """The arguments of a call, with what is differentiated apart from the rest."""

    fun: Callable  # of the tuple `x` alone
    x: tuple[PyTree, ...]
    unwrap: Callable  # from a tuple like `x` to what the caller expects


def _differentiated(
    fun: Callable, name: str, argnums: Argnums, method: Method, compute: Callable, what: str
) -> Callable:
    """Returns `compute` as a function of the arguments of `fun`, which checks them."""
    positions, is_single = _arguments.check_argnums(argnums)

    def run(args, kwargs):
        x = tuple(args[position] for position in positions)

        def of_x(x):
            filled = list(args)
            for position, argument in zip(positions, x, strict=True):
                filled[position] = argument
            return fun(*filled, **kwargs)

        return compute(_Split(of_x, x, operator.itemgetter(0) if is_single else tuple))

    run_compiled = _arguments.compiled(run) if isinstance(method, ColumnMethod) else run

    @_named_after(fun, what)
    def differentiated(*given, **kwargs):
        args = list(given)
        _arguments.check_positions(name, fun, positions, len(args))
        for position in positions:
            args[position] = _arguments.to_arrays(args[position])
            _arguments.check_floating(name, args[position], f"argument {position}")
            if isinstance(method, ColumnMethod):
                method.check(args[position])
        return run_compiled(args, kwargs)

    return differentiated


def _columns(method: Method, fun: Callable, x: PyTree) -> PyTree:
    """Returns the columns of the Jacobian; see `ColumnMethod.columns`."""
    if isinstance(method, ColumnMethod):
        return method.columns(fun, x)
    assert isinstance(method, JvpMethod)

    def columns_of_leaf(leaf, of_leaf):
        if leaf.size == 0:
            out = jax.eval_shape(of_leaf, leaf)
            return jax.tree.map(lambda o: jnp.zeros((0, *o.shape), o.dtype), out)

        def slope(index):
            return method.jvp(of_leaf, leaf, _tree.one_hot(leaf, index))[1]

        batch = max(1, _BATCH_BYTES // leaf.nbytes)
        return _tree.map_in_batches(jax.vmap(slope), leaf.size, batch)

    columns = [columns_of_leaf(*each) for each in _tree.functions_of_leaves(fun, x)]
    return jax.tree.unflatten(jax.tree.structure(x), columns)


def _rows(method: VjpMethod, fun: Callable, of_x: Callable, x: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the value, and in place of each of its leaves a pytree like `x` of rows."""
    value, pullback = method.vjp(of_x, x)[:2]
    _arguments.check_outputs("jacobian", fun, value)
    zeros = jax.tree.map(jnp.zeros_like, value)
    leaves, treedef = jax.tree.flatten(zeros)
    x_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(x))

    def rows_of_leaf(position, out):
        def row(index):
            weights = [*leaves]
            weights[position] = _tree.one_hot(out, index)
            return pullback(jax.tree.unflatten(treedef, weights))

        if out.size == 0:
            return jax.tree.map(lambda leaf: jnp.zeros((*out.shape, *leaf.shape), leaf.dtype), x)
        batch = max(1, _BATCH_BYTES // max(1, x_bytes))
        rows = _tree.map_in_batches(jax.vmap(row), out.size, batch)
        return jax.tree.map(lambda r, leaf: r.reshape(*out.shape, *leaf.shape), rows, x)

    rows = [rows_of_leaf(position, out) for position, out in enumerate(leaves)]
    return value, jax.tree.unflatten(treedef, rows)


def _transposed(value: PyTree, x: PyTree, columns: PyTree) -> PyTree:
    """Returns columns, a pytree like `x` of pytrees like `value`, the other way round."""
    outs, treedef = jax.tree.flatten(value)
    x_leaves, x_treedef = jax.tree.flatten(x)
    by_leaf: list[list[jax.Array]] = []
    jax.tree.map(lambda _, column: by_leaf.append(jax.tree.leaves(column)), x, columns)

    def rows_of(position, out):
        rows = [
            jnp.moveaxis(column[position], 0, -1)
            .reshape(*out.shape, *leaf.shape)
            .astype(leaf.dtype)
            for leaf, column in zip(x_leaves, by_leaf, strict=True)
        ]
        return jax.tree.unflatten(x_treedef, rows)

    return jax.tree.unflatten(treedef, [rows_of(*each) for each in enumerate(outs)])


def _pull_columns(method: Method, fun: Callable, x: PyTree, weights: PyTree) -> PyTree:
    columns = _columns(method, lambda x: _tree.vdot(fun(x), weights), x)
    return jax.tree.map(lambda leaf, c: c.reshape(leaf.shape).astype(leaf.dtype), x, columns)


def _first(fun: Callable) -> Callable:
    return lambda x: fun(x)[0]


def _named_after(fun: Callable, what: str) -> Callable:
    def wrap(wrapper):
        wrapper.__name__ = f"{what.lower().replace(' ', '_')}_of_{_arguments.name_of(fun)}"
        wrapper.__doc__ = f"{what} of {_arguments.name_of(fun)}, with the same arguments."
        wrapper.__wrapped__ = fun
        return wrapper

    return wrap
