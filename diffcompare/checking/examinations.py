"""What else must hold of derivatives, whatever the function's values are."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from diffcompare._jaxpr import realify, walk
from diffcompare.checking.budget import OverBudget
from diffcompare.checking.claims import Claims, first_line, gradient_of, tangents
from diffcompare.checking.exact_claims import ExactClaims
from diffcompare.checking.problem import Problem, wide
from diffcompare.checking.report import Examination

# Every operation that runs eagerly is compiled by itself, in some 20 ms.
_EAGER = 60
# Cotangents are taken longer by a power of two, which rounds nothing; half precision has no room
# for more. Shorter ones would vanish on their way where numbers are tiny.
_LONGER = {16: 2.0**8}
_USUALLY_LONGER = 2.0**20
DETERMINISTIC = "the same at every call"
# Then no leaf has passed: without an exact walk a mistake is not told from rounding.
MAY_BE_ROUNDING = ", of which rounding may be the cause"
_NOT_WALKED = "the claims cannot be walked exactly"


def examined(
    problem: Problem, claims: Claims, exact: ExactClaims | None, are_true: bool
) -> list[Examination]:
    """Returns what else was examined, and found.

    Args:
        problem: The function.
        claims: What is claimed of it.
        exact: The claims in multiprecision; None where they cannot be walked.
        are_true: Whether the claims of all modes have been found to be the function's slopes.
    """
    found = [
        Examination("what a rule returns", False, message) for message in claims.misfits.values()
    ]
    if not claims.modes:
        return found
    found.append(_deterministic(claims))
    if not found[-1].passed:
        return found
    found.append(_as_eager(problem, claims, exact))
    if exact is not None and len(claims.modes) == 2:
        found.append(_within(exact, "forward against reverse", _adjoint, are_true))
    if exact is not None and "fwd" in claims.modes:
        found.append(_within(exact, "linearize against jvp", _linearized))
    if claims.gradient is not None:
        found += [_of_nothing(problem, claims), _linear(problem, claims)]
    return found


def _within(exact: ExactClaims, name: str, examine: Callable, *options: bool) -> Examination:
    """Returns an examination, if the budget of exact walks is enough for it."""
    try:
        passed, detail, *paths = examine(exact, *options)
    except OverBudget:
        return Examination(name, None, "left out: exact walks would cost too much")
    return Examination(name, passed, detail, tuple(paths))


def _deterministic(claims: Claims) -> Examination:
    name = DETERMINISTIC
    again = claims.values()
    if _equal(claims.outputs, again):
        return Examination(name, True, "two calls gave the same bits")
    distance = max(_distance(a, b) for a, b in zip(claims.outputs, again, strict=True))
    return Examination(
        name, None, f"the values of two calls differ by {distance:.1g} of their size"
    )


def _as_eager(problem: Problem, claims: Claims, exact: ExactClaims | None) -> Examination:
    """Compares what is traced with what runs eagerly.

    Both do the same, but not in the same order: of what is compiled together some is not rounded.
    That may be any part of a value that cancels, so a large difference is judged by exact walks.
    """
    name = "compiled against eager"
    if problem.jaxpr is None:
        return Examination(name, None, "the function has no trace, and only runs eagerly")
    program = claims.gradient_jaxpr or claims.slope_jaxpr or problem.jaxpr
    count = len(walk.primitives(program))
    if count > _EAGER:
        return Examination(name, None, f"left out: {count} operations would be compiled one by one")
    given: list[tuple[Callable, ClosedJaxpr | None, list[str]]]
    given = [(problem.fun, problem.jaxpr, ["the value"] * len(claims.outputs))]
    if claims.gradient is not None:
        names = [leaf.name for leaf in problem.leaves]
        given.append((functools.partial(gradient_of, problem), claims.gradient_jaxpr, names))
    # A leaf that is wider than others has a gradient that is computed with theirs.
    narrowest = max([*(leaf.eps for leaf in problem.leaves), *map(_eps, claims.outputs)])
    for fun, jaxpr, names in given:
        pairs = list(_eagerly(fun, problem))
        distances = [_distance(*pair) for pair in pairs]
        if max(distances, default=0.0) <= narrowest**0.5:
            continue
        allowed = None if exact is None or jaxpr is None else exact.rounding(jaxpr)
        for number, (path, distance) in enumerate(zip(names, distances, strict=True)):
            detail = f"{path} differs by {distance:.1g} of its size"
            if distance <= narrowest**0.5:
                continue
            if allowed is None:
                return Examination(name, None, f"{detail}{MAY_BE_ROUNDING}")
            if not _apart(*pairs[number]) <= allowed[number]:
                return Examination(name, False, detail, (path,))
    return Examination(name, True, "what runs eagerly does what is traced")


def _eagerly(fun: Callable, problem: Problem) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields what a function returns, and what its trace does, operation by operation."""
    trace = jax.make_jaxpr(fun)(*problem.x)
    replayed = jaxpr_as_fun(trace)(*problem.x)
    for eager, traced in zip(fun(*problem.x), replayed, strict=True):
        yield np.asarray(eager), np.asarray(traced)


def _eps(array: np.ndarray) -> float:
    return float(jnp.finfo(array.dtype).eps)


def _adjoint(exact: ExactClaims, are_true: bool):
    """Compares <w, J d> with <J' w, d>, both walked exactly."""
    if are_true:
        return True, "both are the slopes of the function"
    leaves = exact.problem.leaves
    everything = list(range(len(leaves)))
    for group in (everything, *([number] for number in everything)):
        moves = exact.balanced(group, 0)
        reverse, forward = exact.gradient_along(moves), exact.slope(moves)
        if reverse is None or forward is None:
            return None, _NOT_WALKED
        size = max(reverse[1], forward[1])
        if not exact.arithmetic.finite(size):
            continue
        differ = abs(forward[0] - reverse[0]) > min(leaves[n].eps for n in group) ** 0.5 * size
        if not differ and group is everything:
            break
        if differ and group is not everything:
            leaf = leaves[group[0]]
            slopes = f"{float(forward[0]):.6g} in forward mode and {float(reverse[0]):.6g}"
            return False, f"a slope of {leaf.name} is {slopes} in reverse mode", leaf.name
    return True, "the slopes of both modes are equal in exact arithmetic"


def _linearized(exact: ExactClaims):
    """Compares `jax.linearize` with `jax.jvp`, both walked exactly, along all leaves at once."""
    problem, count = exact.problem, len(exact.problem.x)
    moves = exact.balanced(range(count), 0)
    directions = tangents(problem, moves)

    linear = lambda *a: jax.linearize(problem.fun, *a[:count])[1](*a[count:])
    try:
        jaxpr = jax.make_jaxpr(linear)(*problem.x, *directions)
    except (NotImplementedError, TypeError, ValueError) as error:
        return None, f"left out: jax.linearize does not work on it: {first_line(error)}"
    traced = lambda: realify.realified(jaxpr)
    found, direct = exact.program(traced, map(exact.lifted, directions)), exact.slope(moves)
    if found is None or direct is None:
        return None, _NOT_WALKED
    (one, size), (other, _) = exact.contracted(found), direct
    eps = max(leaf.eps for leaf in problem.leaves)
    if exact.arithmetic.finite(size) and abs(one - other) > eps**0.5 * size:
        return False, f"the slopes are {float(one):.6g} and {float(other):.6g}"
    return True, "the slopes are equal in exact arithmetic"


def _of_nothing(problem: Problem, claims: Claims) -> Examination:
    name = "zero cotangents"
    found = claims.gradients([np.zeros_like(weight) for weight in problem.weights])
    for leaf, at_zero, gradient in zip(problem.leaves, found, claims.gradient or [], strict=True):
        # An infinite derivative times zero is NaN, which says nothing of the rule.
        if np.all(np.isfinite(wide(gradient))) and np.any(wide(at_zero) != 0):
            worst = wide(at_zero).flat[np.argmax(wide(at_zero).ravel() != 0)]
            detail = f"a cotangent of zero gives {worst:.6g} in {leaf.name}"
            return Examination(name, False, detail, (leaf.name,))
    return Examination(name, True, "zero gives zero")


def _linear(problem: Problem, claims: Claims) -> Examination:
    """Compares the gradient with that of longer, shorter and opposite cotangents."""
    name = "linear in the cotangent"
    dtypes = (*problem.dtypes, *(leaf.dtype for leaf in problem.leaves))
    bits = min(int(jnp.finfo(dtype).bits) for dtype in dtypes)
    factor = -_LONGER.get(bits, _USUALLY_LONGER)
    found = claims.gradients([weight * factor for weight in problem.weights])
    for leaf, scaled, gradient in zip(problem.leaves, found, claims.gradient or [], strict=True):
        wanted = wide(gradient) * factor
        is_usual = np.isfinite(wide(scaled)) & np.isfinite(wanted)
        distance = np.abs(_difference(wide(scaled), wanted))
        # What underflow takes from the usual gradient.
        lost = float(jnp.finfo(leaf.dtype).tiny) / leaf.eps * abs(factor)
        allowed = leaf.eps**0.5 * np.max(np.abs(wanted), where=is_usual, initial=0.0) + lost
        if np.max(distance, initial=0.0) > allowed:
            place = np.unravel_index(np.argmax(distance), distance.shape)
            detail = (
                f"cotangents times {factor:.0f} change {leaf.name}{list(map(int, place)) or ''} "
                f"from {float(wide(gradient)[place]):.6g} to {float(wide(scaled)[place]):.6g}"
            )
            return Examination(name, False, detail, (leaf.name,))
    return Examination(name, True, "longer, opposite cotangents give longer, opposite gradients")


def _equal(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> bool:
    return all(
        np.array_equal(wide(a), wide(b), equal_nan=True) for a, b in zip(left, right, strict=True)
    )


def _difference(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns differences, 0 where a number is not finite."""
    is_usual = np.isfinite(left) & np.isfinite(right)
    return np.where(is_usual, left, 0.0) - np.where(is_usual, right, 0.0)


def _apart(left: np.ndarray, right: np.ndarray) -> float:
    """Returns the largest distance of entries; infinity where one of the two is not finite."""
    a, b = wide(left), wide(right)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    return float(np.max(np.abs(_difference(a, b)), initial=0.0))


def _distance(left: np.ndarray, right: np.ndarray) -> float:
    """Returns the largest distance of entries, relative to the largest entry."""
    apart, b = _apart(left, right), wide(right)
    size = float(np.max(np.abs(b), where=np.isfinite(b), initial=0.0))
    return apart / size if size else float(apart > 0)
