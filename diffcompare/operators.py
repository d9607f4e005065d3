"""Derivatives of functions: the signatures of JAX, and a method.

Everything here is derived from what a `Method` provides, and every argument is checked
once, before anything is computed.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from diffcompare import _arguments, _calls, _jacobians, _sparse
from diffcompare._calls import Argnums
from diffcompare.automatic.mode import ForwardMode, ReverseMode
from diffcompare.method import ColumnMethod, JvpMethod, Method, VjpMethod
from diffcompare.numerical.host import (
    BlackBox,
    host_columns,
    host_jvp,
    host_pullback,
    outline_on_host,
)

PyTree = Any


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

    @_calls.named_after(fun, "Gradient")
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

    def compute(split: _calls.Split):
        x = split.x
        if isinstance(method, VjpMethod):
            value, pullback, *aux = method.vjp(split.fun, x, has_aux=has_aux)
            _arguments.check_scalar("grad", fun, value)
            grads = pullback(jnp.ones_like(value))
        else:
            output = split.by.value(split.fun, x)
            value, aux = (output[0], [output[1]]) if has_aux else (output, [])
            _arguments.check_scalar("grad", fun, value)
            columns = split.by.columns(_first(split.fun) if has_aux else split.fun, x)
            grads = jax.tree.map(
                lambda leaf, c: c.reshape(leaf.shape).astype(leaf.dtype), x, columns
            )
        return ((value, *aux) if has_aux else value), split.unwrap(grads)

    return _calls.differentiated_function(
        fun, "grad", argnums, method, compute, "Value and gradient"
    )


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
    _calls.check_black_box(fun, method)
    x, v = _arguments.to_arrays(tuple(primals)), _arguments.to_arrays(tuple(tangents))
    _arguments.check_floating("jvp", x)
    _arguments.check_match("jvp", "tangents", v, "primals", x)
    if isinstance(method, ColumnMethod):
        method.check(x)

    def of_all(x):
        return fun(*x)

    if isinstance(method, ColumnMethod):
        given = _arguments.to_numpy((tuple(primals), tuple(tangents)))
        return _calls.traced_or_on_host(
            fun,
            (x, v),
            lambda: method.jvp(of_all, x, v),
            lambda box: host_jvp(method, box, of_all, *given),
        )
    if isinstance(method, JvpMethod):
        return method.jvp(of_all, x, v)
    assert isinstance(method, VjpMethod)
    value, rows = _jacobians.rows(method, fun, of_all, x)

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
    _calls.check_black_box(fun, method)
    x = _arguments.to_arrays(tuple(primals))
    _arguments.check_floating("vjp", x)

    def of_all(x):
        return fun(*x)

    def on_host(box):
        assert isinstance(method, ColumnMethod)
        given = _arguments.to_numpy(tuple(primals))
        columns = functools.cache(lambda: host_columns(method, box, of_all, given))
        pull = lambda weights: host_pullback(columns(), given, weights)
        return outline_on_host(of_all, given), pull, _arguments.to_numpy

    def traced():
        if isinstance(method, VjpMethod):
            return *method.vjp(of_all, x)[:2], _arguments.to_arrays
        if isinstance(method, ColumnMethod):
            method.check(x)
            jax.eval_shape(of_all, x)  # raises where it cannot be traced
        pull = functools.partial(_jacobians.pulled, method, of_all, x)
        return of_all(x), pull, _arguments.to_arrays

    if isinstance(method, ColumnMethod):
        value, pull, convert = _calls.traced_or_on_host(fun, x, traced, on_host)
    else:
        value, pull, convert = traced()
    _arguments.check_outputs("vjp", fun, value)

    def pullback(weights):
        weights = convert(weights)
        _arguments.check_match("The pullback", "weights", weights, "value", value)
        return pull(weights)

    return value, pullback


def jacobian(
    fun: Callable,
    argnums: Argnums = 0,
    *,
    method: Method = ReverseMode(),
    sparsity: Any = None,
) -> Callable:
    """Returns a function that computes the Jacobian of `fun` by `method`.

    The layout is "output x input", as in `jax.jacobian`: where an output has shape `(m,)`
    and an argument shape `(n,)`, the Jacobian has shape `(m, n)`.

    Args:
        fun: Function of one or more pytrees, returning a pytree of floating-point arrays.
        argnums: As in `grad`.
        method: How the Jacobian is found: row by row where the method has a pullback,
            column by column where it has slopes.
        sparsity: A matrix of shape `(outputs, inputs)`, also one of SciPy, that is nonzero
            where the Jacobian may differ from zero. Columns that meet in no row are then
            found together. `fun` has to map one array to one array.

    Returns:
        A function of the same arguments as `fun`. Given a sparsity it returns a
        `SparseJacobian`; compiled by the caller, rows that have an entry outside the
        pattern are NaN. Without one it returns a pytree with the structure
        of the output of `fun`; in place of each leaf of shape `out` stands a pytree with
        the structure of the argument, a tuple of such where `argnums` is a sequence,
        whose leaves have shape `(*out, *leaf)` and the dtype of the argument's leaf.

    Raises:
        TypeError: An output or an argument to differentiate is not floating point.
        ValueError: As in `grad`; or the Jacobian has an entry outside the pattern.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> fun = lambda x: jnp.stack([x[0] * x[1], x[1], x[0]])
        >>> x = jnp.array([2.0, 3.0])
        >>> dc.jacobian(fun, method=dc.CentralDifference(step=0.5))(x).tolist()
        [[3.0, 2.0], [0.0, 1.0], [1.0, 0.0]]
    """
    _arguments.check_method(method)
    if sparsity is not None:
        return _sparse_jacobian(fun, argnums, method, _sparse.check_pattern(sparsity))

    def compute(split: _calls.Split):
        if isinstance(method, VjpMethod):
            value, rows = _jacobians.rows(method, fun, split.fun, split.x)
        else:
            value = split.by.outline(split.fun, split.x)
            _arguments.check_outputs("jacobian", fun, value)
            rows = _jacobians.transposed(value, split.x, split.by.columns(split.fun, split.x))
        return jax.tree.map(lambda _, row: split.unwrap(row), value, rows)

    return _calls.differentiated_function(fun, "jacobian", argnums, method, compute, "Jacobian")


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


def _sparse_jacobian(
    fun: Callable, argnums: Argnums, method: Method, pattern: _sparse.Pattern
) -> Callable:
    if not isinstance(argnums, int):
        raise TypeError(f"jacobian with a sparsity needs one argnum, but got {argnums!r}.")

    def compute(split: _calls.Split):
        (x,) = split.x
        value = split.by.outline(split.fun, split.x)
        _arguments.check_outputs("jacobian", fun, value)
        if not (hasattr(x, "shape") and hasattr(value, "shape")):
            raise TypeError(
                "jacobian with a sparsity needs a function from one array to one array, but "
                f"{_arguments.name_of(fun)} maps {jax.tree.structure(x)} to "
                f"{jax.tree.structure(value)}."
            )
        if isinstance(fun, BlackBox):
            raise TypeError("jacobian with a sparsity needs a function that JAX can trace.")
        return _sparse.jacobian_by_colour(method, lambda x: split.fun((x,)), x, pattern)

    both = _calls.differentiated_function(
        fun, "jacobian", argnums, method, compute, "Sparse Jacobian"
    )

    @_calls.named_after(fun, "Sparse Jacobian")
    def sparse_jacobian(*args, **kwargs):
        found, suspects = both(*args, **kwargs)
        if _arguments.is_traced(suspects):
            values = jnp.where(suspects[found.rows], jnp.nan, found.values)
            return dataclasses.replace(found, values=values)
        if not suspects.any():
            return found

        def of_x(x):
            return fun(*args[:argnums], x, *args[argnums:][1:], **kwargs)

        x = _arguments.to_arrays(args[argnums])
        row, column = _sparse.outside_entry(method, of_x, x, pattern, suspects)
        raise ValueError(
            f"The Jacobian of {_arguments.name_of(fun)} has an entry outside the declared "
            f"sparsity: output {row} depends on input {column}. Add ({row}, {column}) to the "
            "pattern."
        )

    return sparse_jacobian


def _first(fun: Callable) -> Callable:
    return lambda x: fun(x)[0]
