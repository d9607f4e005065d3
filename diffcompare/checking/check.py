"""`check_grads`: whether JAX's derivatives of a function are those of its values."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp

from diffcompare import _arguments
from diffcompare.checking import surrogates
from diffcompare.checking.budget import OverBudget
from diffcompare.checking.claims import MODES, Claims, Mode, claims_of, derivative_of
from diffcompare.checking.findings import WORST_FIRST
from diffcompare.checking.judging import Judgement, judged
from diffcompare.checking.problem import Leaf, Moves, problem_of
from diffcompare.checking.report import Cost, Examination, LeafReport, Report

PyTree = Any

# What exact walks may cost at each order, in nominal seconds; then differences decide.
_SECONDS = 15.0


def check_grads(
    fun: Callable,
    args: Sequence[PyTree],
    order: int = 1,
    modes: str | Sequence[str] = ("fwd", "rev"),
    atol: Any = None,
    rtol: Any = None,
    eps: Any = None,
    *,
    raises: bool = True,
    allow: Sequence[str] = (),
) -> Report:
    """Returns whether what JAX takes for derivatives of `fun` are derivatives of its values.

    It takes the arguments of `jax.test_util.check_grads`, and needs neither tolerance nor step.
    Two witnesses are heard. The function is walked in exact arithmetic, with no derivative rule,
    and what JAX claims is walked in the same arithmetic, so that a wrong rule shows at any size;
    how far rounding took the claim from the truth is judged apart, by what rounding does to the
    function itself. Where an operation cannot be walked, a ladder of differences decides, with a
    bound of its error. Where neither can tell, the verdict is "inconclusive", and says why.

    Args:
        fun: Function of pytrees that JAX differentiates. It has to be pure.
        args: Its positional arguments. Their floating-point and complex leaves are checked, in
            their dtypes; others stay as they are.
        order: Up to which derivative. The second is checked as the derivative of the first.
        modes: "rev", "fwd" or both. A mode that `fun` does not have is left out, and named.
        atol: Taken for the sake of `jax.test_util.check_grads`, and not needed.
        rtol: As `atol`.
        eps: As `atol`.
        raises: Whether a wrong derivative is an `AssertionError`.
        allow: Names of deliberate replacements of a derivative, which are not called wrong, of
            "straight-through", "clipping", "reversal", "scaling", "stop-gradient".

    Returns:
        A `Report`. Its `verdict` is "consistent", "wrong", "kink" (there is no derivative here, and
        what is claimed is as good as any) or "inconclusive"; printed, it says which leaf is wrong,
        in which entries, and how.

    Raises:
        AssertionError: The verdict is "wrong", and `raises` is true; its message is the report.
        TypeError: `args` is no sequence of arguments, or an argument is traced.
        ValueError: An option has a value that it cannot have.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> import diffcompare as dc
        >>> @jax.custom_vjp
        ... def cube(x):
        ...     return x**3
        >>> cube.defvjp(lambda x: (cube(x), x), lambda x, g: (2 * x**2 * g,))
        >>> report = dc.check_grads(cube, (2.0,), raises=False)
        >>> report.verdict, report.leaves[0].entries[0].claimed, report.leaves[0].entries[0].true
        ('wrong', 8.0, 12.0)

    References:
        Griewank and Walther, "Evaluating Derivatives", 2nd ed., SIAM, 2008, chapters 3 and 14;
        Parker, "Monte Carlo arithmetic", UCLA, 1997.
    """
    names, wanted = surrogates.check_names(allow), _checked(fun, args, order, modes)
    problem, found = problem_of(fun, tuple(args)), []
    for _ in range(order):
        if problem is None:
            break
        claims = claims_of(problem, wanted)
        judgement = judged(problem, claims, _SECONDS)
        judgement = surrogates.allowed(problem, claims, judgement, names, _slope_of(judgement))
        found.append((claims, judgement))
        problem = derivative_of(claims) if claims.modes else None
    report = _report(_arguments.name_of(fun), order, wanted, names, found)
    if raises and report.verdict == "wrong":
        raise AssertionError(str(report))
    return report


def _checked(fun: Any, args: Any, order: Any, modes: Any) -> tuple[Mode, ...]:
    """Returns the modes, where the options are what they have to be."""
    if not callable(fun):
        raise TypeError(f"check_grads needs a function, but it got {fun!r}.")
    if not isinstance(args, tuple | list):
        raise TypeError(
            "check_grads needs a tuple of the function's arguments, but it got "
            f"{type(args).__name__}. Write check_grads({_arguments.name_of(fun)}, (x,)) for one."
        )
    if _arguments.is_traced(args):
        raise TypeError(
            "check_grads needs the numbers themselves, but it was given a value that JAX is "
            "tracing, as jit, vmap and grad do. Call it outside of them."
        )
    if isinstance(order, bool) or not isinstance(order, int):
        raise TypeError(f"order must be an integer, but it is {order!r}.")
    if order < 1:
        raise ValueError(f"order must be at least 1, but it is {order}.")
    wanted = (modes,) if isinstance(modes, str) else tuple(modes)
    unknown = [mode for mode in wanted if mode not in MODES]
    if unknown or not wanted:
        raise ValueError(f"modes must be 'rev', 'fwd' or both, but they are {modes!r}.")
    return tuple(mode for mode in MODES if mode in wanted)


def _slope_of(judgement: Judgement) -> Callable[[Moves], float | None] | None:
    """Returns the function's slope along a line, by which wrong entries are confirmed."""
    primal = judgement.primal
    if primal is None:
        return None

    def slope(moves: Moves) -> float | None:
        try:
            truth = primal.truth(moves)
        except OverBudget:
            return None
        return float(truth.slope) if truth.kind in ("smooth", "edge") else None

    return slope


def _report(
    name: str,
    order: int,
    modes: Sequence[Mode],
    allow: Sequence[str],
    found: Sequence[tuple[Claims, Judgement]],
) -> Report:
    options = [f"order={order}"] if order != 1 else []
    options += [f"modes={tuple(modes)}"] if len(modes) == 1 else []
    options += [f"allow={tuple(allow)}"] if allow else []
    leaves: list[LeafReport] = []
    examinations: list[Examination] = []
    notes: list[str] = [] if found else ["nothing is floating point, so that nothing is claimed"]
    for degree, (claims, judgement) in enumerate(found, start=1):
        of_order = f"order {degree}: " if degree > 1 else ""
        for leaf in _whole(claims.problem.leaves, judgement.leaves):
            leaves.append(
                dataclasses.replace(leaf, reason=of_order + leaf.reason if leaf.reason else "")
            )
        examinations += [
            each._replace(name=of_order + each.name) for each in judgement.examinations
        ]
        notes += [of_order + note for note in judgement.notes]
    return Report(
        leaves=tuple(leaves),
        examinations=tuple(examinations),
        modes=found[0][0].modes if found else (),
        missing=found[0][0].missing if found else {},
        function=name,
        order=order,
        evaluations=Cost(
            walks=sum(judgement.cost.walks for _, judgement in found),
            seconds=round(sum(judgement.cost.seconds for _, judgement in found), 3),
        ),
        reproduce=f"diffcompare.check_grads({', '.join([name, 'args', *options])})",
        notes=tuple(notes),
    )


def _whole(leaves: Sequence[Leaf], reports: Sequence[LeafReport]) -> Iterator[LeafReport]:
    """Yields the reports of the user's leaves, of which complex ones were looked at in parts."""
    by_path: dict[str, list[tuple[Leaf, LeafReport]]] = {}
    for leaf, report in zip(leaves, reports, strict=True):
        by_path.setdefault(leaf.path, []).append((leaf, report))
    for path, parts in by_path.items():
        leaf, worst = min(parts, key=lambda part: WORST_FIRST.index(part[1].verdict))
        if leaf.part:
            why = f"the {leaf.part} part: {worst.reason}" if worst.reason else ""
            dtype = f"complex{2 * jnp.finfo(leaf.dtype).bits}"
            worst = dataclasses.replace(worst, path=path, dtype=dtype, reason=why)
        yield worst
