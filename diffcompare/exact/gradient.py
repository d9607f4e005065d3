"""`exact_grad`: the gradient of any JAX function to a guaranteed number of digits."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from diffcompare import _arguments, _calls
from diffcompare._jaxpr import realify
from diffcompare.exact import balls, limits, precision
from diffcompare.exact.result import Exact
from diffcompare.exact.weights import Kink
from diffcompare.numerical.host import TRACING_ERRORS
from diffcompare.symbolic.convention import Convention

PyTree = Any


def exact_grad(
    fun: Callable,
    argnums: _calls.Argnums = 0,
    *,
    digits: int = 50,
    rules: Literal["jax", "math"] = "jax",
    convention: Convention | None = None,
) -> Callable[..., Exact]:
    """Returns a function that computes the gradient of `fun` to so many digits, guaranteed.

    It is a reference for gradients that were computed in floating point. The function is traced
    in the dtypes of its arguments, and every number in it, an argument or a literal, is taken for
    the binary fraction that it is; nothing is rounded after that. The precision is doubled until
    the digits are certain. With `python-flint` they are enclosed by ball arithmetic; without it,
    mpmath computes them in two precisions, which have to agree.

    Loops of any kind are differentiated, `while` among them. A branch that is not taken does no
    harm, whatever is infinite or NaN in it.

    Args:
        fun: Function of one or more pytrees, returning a floating-point scalar of shape `()`,
            that JAX can trace.
        argnums: The positional argument, or the arguments, to differentiate: pytrees of
            floating-point arrays.
        digits: How many significant decimal digits of every number are to be right.
        rules: "jax" follows the rules that a program defines for itself by `jax.custom_jvp` and
            `jax.custom_vjp`, "math" differentiates the functions they belong to.
        convention: What the derivative is at a kink; None is `Convention.jax()`.

    Returns:
        A function of the same arguments as `fun`. It returns an `Exact`, with the value, the
        gradient, the kinks that were met, and `error`, which measures a computed gradient.

    Raises:
        TypeError: `fun` did not return a floating-point scalar, an argument to differentiate is
            not floating point, or an argument is traced.
        ValueError: An option has a value that it cannot have, or there is no such argument.
        UnknownPrimitiveError: `fun` has an operation that no rule is known for.
        PrecisionError: The digits could not be guaranteed; it is an `ArithmeticError`.

    Example:
        >>> import jax, mpmath
        >>> import diffcompare as dc
        >>> exact = dc.exact_grad(jax.numpy.tanh)(20.0)
        >>> print(mpmath.nstr(exact.grad.item(), 25))
        1.699341702116635548381811e-17

    References:
        Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", 2017.
    """
    positions, is_single = _arguments.check_argnums(argnums)
    _check_options(digits, rules, convention)

    @_calls.named_after(fun, "Exact gradient")
    def exact(*args, **kwargs):
        _arguments.check_positions("exact_grad", fun, positions, len(args))
        traced = _trace(fun, positions, args, kwargs)
        problem = precision.Problem(
            traced.jaxpr,
            traced.inputs,
            range(traced.wanted),
            convention or Convention.jax(),
            rules == "jax",
        )
        solution = limits.completed(problem, balls.solve(problem, digits), digits)
        return _result(solution, traced, digits, is_single)

    return exact


class _Traced(NamedTuple):
    jaxpr: ClosedJaxpr
    inputs: list[Any]  # the leaves to differentiate by, then other arrays
    wanted: int  # how many are to be differentiated by
    x: tuple[PyTree, ...]  # the arguments to differentiate


def _check_options(digits, rules, convention):
    if isinstance(digits, bool) or not isinstance(digits, int):
        raise TypeError(f"digits must be an integer, but it is {digits!r}.")
    if not 1 <= digits <= 5000:
        raise ValueError(f"digits must be from 1 to 5000, but it is {digits}.")
    if rules not in ("jax", "math"):
        raise ValueError(f"rules must be 'jax' or 'math', but it is {rules!r}.")
    if not isinstance(convention, Convention | None):
        raise TypeError(
            "convention must be a Convention, such as Convention.jax() or Convention.lecture(), "
            f"but it is {convention!r}."
        )


def _trace(fun, positions, args, kwargs) -> _Traced:
    """Returns the trace of a call, with its floating-point arrays as inputs."""
    x = tuple(_arguments.to_arrays(args[position]) for position in positions)
    _arguments.check_floating("exact_grad", x)
    others = list(args)
    for position in positions:
        others[position] = None
    leaves, treedef = jax.tree.flatten((others, kwargs))
    _check_concrete(fun, (x, leaves))
    places = [number for number, leaf in enumerate(leaves) if _is_floating_array(leaf)]

    def of_arrays(x, arrays):
        filled = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            filled[place] = array
        others, kwargs = treedef.unflatten(filled)
        for position, value in zip(positions, x, strict=True):
            others[position] = value
        value = fun(*others, **kwargs)
        _arguments.check_scalar("exact_grad", fun, value)
        return value

    arrays = [jnp.asarray(leaves[place]) for place in places]
    try:
        jaxpr = jax.make_jaxpr(of_arrays)(x, arrays)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        # The program steers by the values of other arguments. To NumPy they are known, which a
        # JAX array is not while a program is traced.
        known = [np.asarray(leaves[place]) for place in places]
        try:
            jaxpr = jax.make_jaxpr(functools.partial(of_arrays, arrays=known))(x)
        except TRACING_ERRORS as error:
            raise TypeError(
                f"exact_grad needs a function that JAX can trace, but {_arguments.name_of(fun)} "
                "asks a traced value for a number, as NumPy does. Write it with jax.numpy."
            ) from error
        arrays = []
    _check_concrete(fun, jaxpr.consts)
    jaxpr = realify.realified(jaxpr)
    leaves_of_x = jax.tree.leaves(x)
    return _Traced(jaxpr, [*leaves_of_x, *arrays], len(leaves_of_x), x)


def _is_floating_array(leaf) -> bool:
    is_array = isinstance(leaf, jax.Array | np.ndarray | np.generic)
    return is_array and jnp.issubdtype(leaf.dtype, jnp.floating)


def _check_concrete(fun, values):
    if _arguments.is_traced(values):
        raise TypeError(
            f"exact_grad needs the numbers themselves, but {_arguments.name_of(fun)} was given, or "
            "closes over, a value that JAX is tracing, as jit, vmap and grad do. Call it outside "
            "of them."
        )


def _result(solution: precision.Solution, traced: _Traced, digits: int, is_single: bool) -> Exact:
    shapes = [np.shape(leaf) for leaf in traced.inputs[: traced.wanted]]

    def shaped(entries):
        """Returns the first entry, and the others as a gradient."""
        first, *rest = entries
        leaves, start = [], 0
        for shape in shapes:
            array = np.empty(shape, object)
            size = array.size
            array.reshape(-1)[:] = rest[start : start + size]
            leaves.append(array)
            start += size
        grads = jax.tree.unflatten(jax.tree.structure(traced.x), leaves)
        return first, grads[0] if is_single else grads

    value, grad = shaped(solution.entries)
    return Exact(
        value=value,
        grad=grad,
        kinks=tuple(
            Kink(primitive, place, entries, taken)
            for (primitive, place, taken), entries in solution.notes.kinks.items()
        ),
        radius=None if solution.radii is None else shaped(solution.radii),
        digits=digits,
        bits=solution.bits,
        arithmetic=solution.arithmetic,
        remarks=solution.remarks,
    )
