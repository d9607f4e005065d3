"""How a derivative is called: arguments are checked, split, and evaluated somewhere."""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from diffcompare import _arguments, _jacobians
from diffcompare.method import ColumnMethod, Method
from diffcompare.numerical.host import (
    TRACING_ERRORS,
    BlackBox,
    black_box,
    host_columns,
    outline_on_host,
    value_on_host,
)

PyTree = Any
Argnums = int | Sequence[int]


class Evaluation(NamedTuple):
    """How a function of one pytree `x` is evaluated: each takes the function and `x`."""

    value: Callable  # returns the value
    outline: Callable  # returns something with the structure, shapes and dtypes of the value
    columns: Callable  # returns what `ColumnMethod.columns` does


class Split(NamedTuple):
    """The arguments of a call, with what is differentiated apart from the rest."""

    fun: Callable  # of the tuple `x` alone
    x: tuple[PyTree, ...]
    unwrap: Callable  # from a tuple like `x` to what the caller expects
    by: Evaluation


def differentiated_function(
    fun: Callable, name: str, argnums: Argnums, method: Method, compute: Callable, what: str
) -> Callable:
    """Returns `compute` as a function of the arguments of `fun`, which checks them."""
    positions, is_single = _arguments.check_argnums(argnums)
    unwrap = operator.itemgetter(0) if is_single else tuple
    check_black_box(fun, method)
    traced = Evaluation(
        lambda fun, x: fun(x), jax.eval_shape, functools.partial(_jacobians.columns, method)
    )

    def run(args, kwargs, by=traced):
        x = tuple(args[position] for position in positions)

        def of_x(x):
            filled = list(args)
            for position, argument in zip(positions, x, strict=True):
                filled[position] = argument
            return fun(*filled, **kwargs)

        return compute(Split(of_x, x, unwrap, by))

    def run_on_host(args, kwargs):
        box = fun if isinstance(fun, BlackBox) else black_box(fun)
        assert isinstance(method, ColumnMethod)
        columns = functools.partial(host_columns, method, box)
        return run(args, kwargs, Evaluation(value_on_host, outline_on_host, columns))

    run_compiled = _arguments.compiled(run)

    @named_after(fun, what)
    def differentiated(*given, **kwargs):
        args = list(given)
        _arguments.check_positions(name, fun, positions, len(args))
        convert = _arguments.to_numpy if isinstance(fun, BlackBox) else _arguments.to_arrays
        for position in positions:
            args[position] = convert(args[position])
            _arguments.check_floating(name, args[position], f"argument {position}")
            if isinstance(method, ColumnMethod):
                method.check(args[position])
        if not isinstance(method, ColumnMethod):
            return run(args, kwargs)
        if isinstance(fun, BlackBox):
            check_numbers(fun, (args, kwargs))
            return run_on_host(args, kwargs)
        # What Python code decides by the value of another argument can be traced, but not
        # compiled for all values; what it decides by that of x can only be evaluated.
        for attempt in (run_compiled, run):
            try:
                return attempt(args, kwargs)
            except TRACING_ERRORS:
                if _arguments.is_traced((args, kwargs)):
                    raise
        host_args = list(given)
        for position in positions:
            host_args[position] = _arguments.to_numpy(host_args[position])
        return run_on_host(host_args, kwargs)

    return differentiated


def traced_or_on_host(fun: Callable, arguments: PyTree, traced: Callable, on_host: Callable) -> Any:
    """Returns `traced()`; or `on_host(box)`, where `fun` is a black box or cannot be traced."""
    if isinstance(fun, BlackBox):
        check_numbers(fun, arguments)
        return on_host(fun)
    try:
        return traced()
    except TRACING_ERRORS:
        if _arguments.is_traced(arguments):
            raise
    return on_host(black_box(fun))


def check_numbers(fun: Callable, arguments: PyTree) -> None:
    """Raises `TypeError` where a black box is called by jit, vmap or grad."""
    if _arguments.is_traced(arguments):
        raise TypeError(
            f"{_arguments.name_of(fun)} is a black box, which needs numbers, but an argument is "
            "traced by jit, vmap or grad. Call it outside of them, or make it a JAX function "
            "with diffcompare.differentiable(fun, host=True)."
        )


def check_black_box(fun: Callable, method: Method) -> None:
    """Raises `TypeError` where a black box meets a method that needs a trace."""
    if isinstance(fun, BlackBox) and not isinstance(method, ColumnMethod):
        raise TypeError(
            f"{type(method).__name__} needs a function that JAX can trace, but {fun.__name__} is "
            "a black box. Use a finite difference, such as CentralDifference()."
        )


def named_after(fun: Callable, what: str) -> Callable:
    def wrap(wrapper):
        wrapper.__name__ = f"{what.lower().replace(' ', '_')}_of_{_arguments.name_of(fun)}"
        wrapper.__doc__ = f"{what} of {_arguments.name_of(fun)}, with the same arguments."
        wrapper.__wrapped__ = fun
        return wrapper

    return wrap
