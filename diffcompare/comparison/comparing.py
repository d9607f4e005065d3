"""`compare`: every method on one function."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np

from diffcompare import _arguments, _calls, operators
from diffcompare._progress import progress
from diffcompare.comparison import measuring, methods, work
from diffcompare.comparison import reference as references
from diffcompare.comparison.problem import Problem, problem_of
from diffcompare.comparison.result import Comparison, Cost, Row
from diffcompare.method import ColumnMethod, Method
from diffcompare.numerical.richardson import Richardson

PyTree = Any

# What a method raises where it has no gradient. Anything else is named with its type.
_EXPECTED = (measuring.Refusal, NotImplementedError, TypeError, ValueError, ArithmeticError)


def compare(
    fun: Callable,
    *args: PyTree,
    argnums: _calls.Argnums = 0,
    methods: Sequence[Method] | None = None,
    reference: Literal["exact", "estimate"] | PyTree = "exact",
    seconds: float = 10.0,
    repeats: int = 10,
) -> Comparison:
    """Returns how wrong the gradient of `fun` is by every method, and what it costs.

    The reference has 50 digits, and follows the rules of calculus: where a function has a
    derivative rule of its own (`jax.custom_jvp`, `jax.custom_vjp`) that says something else, the
    methods which follow it are wrong, and their rows say that they follow it. Where an operation
    is unknown to the reference, or it would take too long, its place is taken by `estimate`, or by
    reverse mode in float64 for a function of fewer digits, and `Comparison.reference` says so.

    Whatever would take long is not begun: an execution is expected to take so much longer than a
    value of the function as it has more operations, and compiling as long as the program has
    equations. So a method takes a few times `seconds` at most. Everything but the seconds is the
    same on every run, unless a method is just about done in time.

    Richardson's extrapolation is done by `estimate`, which has the same gradient and a bound, with
    all arrays taken for one. It is no single program, so that XLA counts nothing of it.

    Args:
        fun: Function of pytrees, returning a floating-point scalar. What JAX cannot trace is
            evaluated on the host, by differences.
        *args: Where to compare: numbers, not traced.
        argnums: The argument, or the arguments, to differentiate by.
        methods: Which methods; None takes all, symbolic ones by each route.
        reference: What errors are measured against: "exact", "estimate", or a gradient.
        seconds: How long one execution may take, and a derivation.
        repeats: How often a compiled gradient is called again, to be timed.

    Returns:
        A `Comparison`, with a row for each method. One that has no gradient is refused in its own
        words.

    Raises:
        TypeError: `fun` did not return a floating-point scalar, an argument to differentiate is
            not floating point, or an argument is traced.
        ValueError: An option has a value that it cannot have, or there is no such argument.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> found = compare(jnp.tanh, 0.5, methods=[dc.ForwardDifference(), dc.ReverseMode()])
        >>> [row.name for row in found.rows], found.rows[0].evaluations
        (['forward difference', 'reverse mode'], 2)
        >>> found.rows[0].error > 100 * found.rows[1].error
        True
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, but it is {seconds!r}.")
    if not (isinstance(repeats, int) and repeats >= 1):
        raise ValueError(f"repeats must be a positive integer, but it is {repeats!r}.")
    chosen = _methods(methods, seconds)
    problem = problem_of(fun, args, argnums)
    with progress(len(chosen) + 2, "comparing") as report:
        function = _of_function(problem, seconds, repeats)
        report("a value")
        truth = references.find(problem, reference, seconds=seconds, value_seconds=function.median)
        report("reference")
        rows = []
        for method in chosen:
            rows.append(_row(problem, method, truth, function, seconds, repeats))
            report(rows[-1].name)
    device = jax.devices()[0]
    return Comparison(
        name=problem.name,
        entries=problem.entries,
        dtypes=tuple(dict.fromkeys(str(leaf.dtype) for leaf in problem.leaves)),
        device=f"{device.platform} ({device.device_kind})",
        rows=tuple(rows),
        function=function,
        reference=truth.text,
        uncertainty=truth.uncertainty,
        notes=truth.notes,
    )


def _methods(given: Sequence[Method] | None, seconds: float) -> tuple[Method, ...]:
    if given is None:
        return methods.default(seconds)
    if not isinstance(given, Sequence) or not given:
        raise TypeError(f"methods must be a list of methods, but it is {given!r}.")
    for method in given:
        _arguments.check_method(method)
    return tuple(given)


def _of_function(problem: Problem, seconds: float, repeats: int) -> Cost:
    given = (problem.x, problem.others)
    if problem.jaxpr is None:
        run = lambda: problem.fun(*given)
        return measuring.called(run, seconds=seconds, repeats=repeats)[1]
    return measuring.compiled(problem.fun, given, seconds=seconds, repeats=repeats)[1]


def _row(
    problem: Problem,
    method: Method,
    truth: references.Reference,
    function: Cost,
    seconds: float,
    repeats: int,
) -> Row:
    row = functools.partial(Row, methods.name_of(method), repr(method))
    try:
        grads, cost, bound = _measured(problem, method, function, seconds, repeats)
    except Exception as error:
        kind = "" if isinstance(error, _EXPECTED) else f"{type(error).__name__}: "
        return row(refused=kind + references.first_sentence(error))
    found = truth.error(grads)
    return row(
        error=None if found is None else found[0],
        ulps=None if found is None else found[1],
        bound=bound,
        evaluations=methods.evaluations(method, problem.entries),
        cost=cost,
        note=_note(truth, grads, found),
        gradient=problem.unwrapped(grads),
    )


def _measured(
    problem: Problem, method: Method, function: Cost, seconds: float, repeats: int
) -> tuple[PyTree, Cost, float | None]:
    """Returns the gradient, what it costs, and what error the method claims at most."""
    points = methods.evaluations(method, problem.entries)
    needs = f"evaluates the function at {points} points, which "
    if problem.jaxpr is None or method == Richardson():
        if points is not None:
            measuring.check_time(needs, points * function.median, seconds)
        if method == Richardson():
            return _by_estimate(problem, seconds, repeats)
        gradient = operators.grad(problem.fun, method=method)
        run = lambda: gradient(problem.x, problem.others)
        return *measuring.called(run, seconds=seconds, repeats=repeats), None
    equations, arrays = work.length(problem.jaxpr), len(problem.leaves)
    measuring.check_time(
        f"has a program for each of {arrays} arrays, of {equations} equations, which to compile "
        if arrays > 1
        else f"has a function of {equations} equations, which to derive and compile ",
        methods.preparation(method, equations, arrays),
        seconds,
    )
    if isinstance(method, ColumnMethod):
        method.check(problem.x)
    done = work.of(problem.jaxpr)
    gradient = operators.grad(problem.fun, method=method)
    found = measuring.compiled(
        gradient,
        (problem.x, problem.others),
        seconds=seconds,
        repeats=repeats,
        rate=measuring.rate_of(done, function),
    )
    return *found, None


def _by_estimate(problem: Problem, seconds: float, repeats: int) -> tuple[PyTree, Cost, float]:
    estimated = references.estimator(references.ending(problem), problem.x)
    run = lambda: estimated(problem.x, problem.others)
    found, cost = measuring.called(run, seconds=seconds, repeats=repeats, compiles=True)
    as_wide = lambda tree: [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return found.grad, cost, references.relative(as_wide(found.bound), as_wide(found.grad))


def _note(truth: references.Reference, grads: PyTree, found: tuple[float, float] | None) -> str:
    if truth.followed is None or found is None:
        return ""
    followed = truth.followed.error(grads)
    assert followed is not None
    # What follows the rule is far nearer to what it says than to calculus.
    if followed[0] * 8 > found[0]:
        return ""
    return f"follows the function's own rule, and is {followed[0]:.2g} from what that says"
