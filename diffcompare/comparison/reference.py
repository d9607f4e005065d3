"""What the errors are measured against."""

import contextlib
import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from diffcompare._jaxpr import custom_rules, promote, walk
from diffcompare.comparison import measuring, work
from diffcompare.comparison.problem import Problem
from diffcompare.numerical import ladder
from diffcompare.numerical.estimation import Estimate, estimate

PyTree = Any

DIGITS = 50

# Seconds in which 50 digits are computed, forwards and backwards, with python-flint: for an
# equation whatever it works on, for an operation on single numbers, and for a multiplication and
# an addition of a product of matrices. mpmath alone takes about three times as long.
_EQUATION, _OPERATION, _PRODUCT, _WITHOUT_FLINT = 2e-4, 1e-5, 2e-6, 3.0

# A loop that takes so many times longer elsewhere than where the function is differentiated is
# taken for one without end.
_LONGER = 100.0

# A bound of more than that tells hardly anything of an error: rather no bound, and more digits.
_TELLING = 1e-3

# Two references that differ by less are the same, as far as any dtype shows.
_SAME = 2.0**-50

# What a computation may raise that a reference is not available for.
_UNAVAILABLE = (NotImplementedError, ArithmeticError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A gradient that others are measured against; each number is a sum of two of float64.

    Attributes:
        text: Where it comes from, a sentence.
        uncertainty: Its relative error, in the 2-norm, at most; None where that is not known.
        high: The gradient, an array for each leaf; None where there is none.
        low: What is missing from `high`.
        notes: What else is to be known of the function.
        followed: What the function's own derivative rules say, where that is another gradient.
    """

    text: str
    uncertainty: float | None
    high: list[np.ndarray] | None
    low: list[np.ndarray] | None
    notes: tuple[str, ...] = ()
    followed: "Reference | None" = None

    def error(self, grads: PyTree) -> tuple[float, float] | None:
        """Returns the relative error in the 2-norm, and the largest in units in the last place.

        It is what `Exact.error` says, for all leaves at once, and without a call of mpmath for
        each entry of each method.
        """
        if self.high is None or self.low is None:
            return None
        leaves = jax.tree.leaves(grads)
        triples = list(zip(self.high, self.low, leaves, strict=True))
        distances = [_distance(high, low, np.asarray(g), g.dtype) for high, low, g in triples]
        with np.errstate(over="ignore"):  # so many that they are without number
            ulps = [
                float(np.max(distance / _ulp(high, g.dtype), initial=0.0))
                for distance, (high, _, g) in zip(distances, triples, strict=True)
            ]
        return relative(distances, self.high), max(ulps, default=0.0)


def find(
    problem: Problem,
    wanted: Any,
    *,
    seconds: float,
    value_seconds: float,
) -> Reference:
    """Returns the best reference that is to be had in time.

    Args:
        problem: Whose gradient.
        wanted: "exact", "estimate", or a gradient.
        seconds: How long it may take.
        value_seconds: How long one value takes.
    """
    if not isinstance(wanted, str):
        return _given(problem, wanted)
    if wanted not in ("exact", "estimate"):
        raise ValueError(
            f"reference must be 'exact', 'estimate' or a gradient, but it is {wanted!r}."
        )
    why = ""
    if wanted == "exact":
        try:
            return _exact(problem, seconds)
        except (measuring.Refusal, *_UNAVAILABLE) as error:
            why = f" (not {DIGITS} digits: {first_sentence(error)})"
    best = None
    for attempt in (_estimated, _wide):
        try:
            found = attempt(problem, seconds, value_seconds)
        except (measuring.Refusal, *_UNAVAILABLE):
            continue
        if best is None or attempt is _wide:
            best = dataclasses.replace(found, text=found.text + why)
        if wanted == "estimate" or (best.uncertainty or 0.0) <= _TELLING:
            break
    if best is not None:
        return best
    return Reference(f"none was found in time, so that no error is known{why}", None, None, None)


def first_sentence(error: BaseException) -> str:
    """Returns the first sentence of an error's message, without its full stop."""
    text = " ".join(str(error).split()) or type(error).__name__
    end = next((i for i in range(len(text) - 2) if text[i : i + 2] == ". " and
                not text[i + 2].islower()), len(text))  # fmt: skip
    return text[:end].rstrip(".")


def _given(problem: Problem, wanted: PyTree) -> Reference:
    like = problem.unwrapped(problem.x)
    shapes = lambda tree: [np.shape(leaf) for leaf in jax.tree.leaves(tree)]
    if jax.tree.structure(wanted) != jax.tree.structure(like) or shapes(wanted) != shapes(like):
        raise TypeError(
            "reference must be 'exact', 'estimate' or a gradient, with the structure and shapes "
            f"of the argument, {jax.tree.structure(like)}, but got {jax.tree.structure(wanted)}."
        )
    return _of("the gradient that was given", 0.0, jax.tree.leaves(wanted))


def _of(
    text: str, uncertainty: float | None, leaves: Sequence[Any], notes: tuple[str, ...] = ()
) -> Reference:
    """Returns a reference of arrays of numbers of any kind, also of mpmath."""
    import mpmath

    with mpmath.workprec(200):
        pairs = [_pair(np.asarray(leaf), mpmath) for leaf in leaves]
    return Reference(text, uncertainty, [p[0] for p in pairs], [p[1] for p in pairs], notes)


def _pair(numbers: np.ndarray, mpmath: Any) -> tuple[np.ndarray, np.ndarray]:
    high = numbers.astype(np.float64)
    if numbers.dtype != object:
        return high, np.zeros_like(high)
    rest = [
        float(mpmath.mpf(number) - entry) if math.isfinite(entry) else 0.0
        for number, entry in zip(numbers.flat, high.flat, strict=True)
    ]
    return high, np.array(rest, np.float64).reshape(high.shape)


def _distance(high: np.ndarray, low: np.ndarray, found: np.ndarray, dtype: Any) -> np.ndarray:
    computed = found.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs((computed - high) - low)
    # An infinity is the right answer for what the dtype cannot hold.
    is_beyond = np.abs(high) > float(jnp.finfo(dtype).max)
    is_right = is_beyond & np.isinf(computed) & (np.sign(computed) == np.sign(high))
    distance = np.where(is_right | (np.isnan(high) & np.isnan(computed)), 0.0, distance)
    return np.where(np.isnan(distance), np.inf, distance)


def _ulp(high: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns the distance of neighbours of a dtype at each number."""
    info = jnp.finfo(dtype)
    usable = np.isfinite(high) & (high != 0)
    exponent = np.where(usable, np.frexp(np.where(usable, high, 1.0))[1] - 1, int(info.minexp))
    return np.ldexp(1.0, np.maximum(exponent, int(info.minexp)) - int(info.nmant))


def relative(distances: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    """Returns the 2-norm of distances, relative to that of numbers."""
    distance = np.concatenate([each.ravel() for each in distances])
    truth = np.concatenate([each.ravel() for each in truths])
    return _ratio(_norm(distance), _norm(truth[np.isfinite(truth)]))


def _ratio(distance: float, size: float) -> float:
    if distance == 0:
        return 0.0
    return distance / size if size > 0 and math.isfinite(distance) else math.inf


def _norm(numbers: np.ndarray) -> float:
    # Squares of small or large numbers would not be told from zero or infinity.
    top = float(np.max(np.abs(numbers), initial=0.0))
    return top * float(np.linalg.norm(numbers / top)) if 0 < top < math.inf else top


def _exact(problem: Problem, seconds: float) -> Reference:
    if problem.jaxpr is None:
        raise measuring.Refusal("JAX cannot trace the function")
    inputs = [*problem.leaves, *problem.others]
    measuring.check_time("", _exact_seconds(problem, inputs), seconds)
    from diffcompare.exact import exact_grad

    def by(rules):
        found = exact_grad(problem.fun, digits=DIGITS, rules=rules)(problem.x, problem.others)
        how = f"{DIGITS} digits, {'enclosed by arb' if found.radius is not None else 'by mpmath'}"
        kinks = tuple(_kink(kink) for kink in found.kinks)
        return _of(how, 0.0, jax.tree.leaves(found.grad), (*kinks, *found.remarks))

    own = list(_own_rules(problem.jaxpr))
    try:
        reference = by("math")
    except NotImplementedError as error:
        if not own:
            raise
        followed = by("jax")
        text = f"{followed.text}, by the function's own rules, since {first_sentence(error)}"
        return dataclasses.replace(followed, text=text)
    if not own:
        return reference
    followed = by("jax")
    away = _apart(followed, reference)
    if away < _SAME:
        return reference
    named = ", ".join(dict.fromkeys(own))
    note = (
        f"{named}: a derivative rule of its own makes the gradient another than that of "
        f"calculus, by {away:.2g} of it"
    )
    return dataclasses.replace(reference, notes=(note, *reference.notes), followed=followed)


def _exact_seconds(problem: Problem, inputs: Sequence[Any]) -> float:
    assert problem.jaxpr is not None
    done = work.measured(problem.jaxpr, inputs)
    rate = 1.0 if importlib.util.find_spec("flint") is not None else _WITHOUT_FLINT
    spent = _EQUATION * done.equations + _OPERATION * done.operations + _PRODUCT * done.products
    return rate * spent


def _kink(kink: Any) -> str:
    where = f" at {kink.place}" if kink.place else ""
    return (
        f"the function has a kink here, in {kink.primitive}{where}: for its derivative was taken "
        f"{kink.convention}"
    )


def _apart(a: Reference, b: Reference) -> float:
    assert a.high is not None
    assert b.high is not None
    pairs = zip(a.high, b.high, strict=True)
    return relative([_distance(y, np.zeros_like(y), x, x.dtype) for x, y in pairs], b.high)


def _own_rules(jaxpr: ClosedJaxpr | Jaxpr) -> Iterator[str]:
    """Yields the names of the functions with a custom derivative rule that is not JAX's own."""
    from diffcompare.symbolic.routes import is_trusted

    for eqn in walk.close(jaxpr).jaxpr.eqns:
        if custom_rules.is_custom(eqn) and not (custom_rules.is_from_jax(eqn) or is_trusted(eqn)):
            yield custom_rules.name_of(eqn)
        for body in work.bodies(eqn):
            yield from _own_rules(body)


def _estimated(problem: Problem, seconds: float, value_seconds: float) -> Reference:
    measuring.check_time("", ladder.EVALUATIONS * problem.entries * value_seconds, seconds)
    with _widened(problem) as (fun, x, others, is_wide):
        found = estimate_of(fun, x, others)
        grads, bounds = jax.tree.leaves(found.grad), jax.tree.leaves(found.bound)
        reference = _of("", None, [np.asarray(grad) for grad in grads])
    assert reference.high is not None
    arithmetic = ", in float64" if is_wide else ""
    return dataclasses.replace(
        reference,
        text=f"values of the function alone, extrapolated, with a bound (dc.estimate){arithmetic}",
        uncertainty=relative([np.asarray(bound, np.float64) for bound in bounds], reference.high),
    )


def _wide(problem: Problem, seconds: float, value_seconds: float) -> Reference:
    """Returns the gradient of reverse mode in float64, of a function of fewer digits."""
    del seconds, value_seconds  # it takes a few times as long as a value
    with _widened(problem) as (fun, x, others, is_wide):
        if not is_wide:
            raise measuring.Refusal("the function is one of float64 already")
        grads = jax.jit(jax.grad(fun))(x, others)
        text = "reverse mode in float64, which nothing guarantees"
        return _of(text, None, [np.asarray(leaf) for leaf in jax.tree.leaves(grads)])


@contextlib.contextmanager
def _widened(problem: Problem) -> Iterator[tuple[Callable, PyTree, list[Any], bool]]:
    """Yields the function and its arguments in float64, where they have fewer digits."""
    jaxpr = problem.jaxpr
    if jaxpr is None or all(leaf.dtype == np.float64 for leaf in problem.leaves):
        yield ending(problem), problem.x, problem.others, False
        return
    # JAX knows no float64 otherwise.
    with jax.enable_x64(True):
        run = _ending(problem, promote.promote(jaxpr, 64))
        widen = lambda leaf: (
            jnp.asarray(leaf, jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        )
        fun = lambda x, others: run(*jax.tree.leaves((x, others)))[0]
        yield fun, *jax.tree.map(widen, (problem.x, problem.others)), True


def ending(problem: Problem) -> Callable:
    """Returns the function of a problem, whose loops end wherever it is evaluated."""
    if problem.jaxpr is None:
        return problem.fun
    run = _ending(problem, problem.jaxpr)
    return lambda x, others: run(*jax.tree.leaves((x, others)))[0]


def _ending(problem: Problem, jaxpr: ClosedJaxpr) -> Callable:
    assert problem.jaxpr is not None
    here = work.measured(problem.jaxpr, [*problem.leaves, *problem.others])
    return work.bounded(jaxpr, _LONGER * here.equations)


def estimate_of(fun: Callable, x: PyTree, others: list[Any]) -> Estimate:
    """Returns the estimate of the gradient of `fun` by `x`; see `estimator`."""
    return estimator(fun, x)(x, others)


def estimator(fun: Callable, x: PyTree) -> Callable[..., Estimate]:
    """Returns what estimates the gradient of `fun` by `x`, and is compiled once.

    Arrays of one dtype are taken for one array, so that one program is compiled and not one for
    each of them.
    """
    leaves, treedef = jax.tree.flatten(x)
    dtypes = {leaf.dtype for leaf in leaves}
    if len(leaves) == 1 or len(dtypes) > 1 or not all(isinstance(v, jax.Array) for v in leaves):
        return estimate(fun)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def split(flat):
        parts = [
            flat[end - leaf.size : end].reshape(leaf.shape)
            for leaf, end in zip(leaves, ends, strict=True)
        ]
        return jax.tree.unflatten(treedef, parts)

    estimated = estimate(lambda flat, others: fun(split(flat), others))

    def of_tree(x, others):
        flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(x)])
        found = estimated(flat, others)
        trees = {name: split(getattr(found, name)) for name in ("grad", "bound", "step", "status")}
        return found._replace(**trees)

    return of_tree
