"""Derivatives that are replaced on purpose: which rule does it, and whether it may.

A straight-through estimator, a clipped or reversed gradient, a value that is held constant: each is
another derivative than that of the function's values, which a check has to say, and may be told to
allow. What is allowed is not a leaf but a rule: the gradient is computed anew, exactly, with that
rule and no other, and what is claimed has to be that.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from diffcompare._jaxpr import custom_rules
from diffcompare.checking import location
from diffcompare.checking.budget import Budget
from diffcompare.checking.calculus import true_gradient
from diffcompare.checking.claims import Claims
from diffcompare.checking.exact_claims import ExactClaims
from diffcompare.checking.problem import Moves, Problem, wide
from diffcompare.checking.report import Examination, LeafReport
from diffcompare.exact.multiprecision import arithmetic

Array = np.ndarray  # float64

# What `allow` may name.
NAMES = ("straight-through", "clipping", "reversal", "scaling", "stop-gradient")

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")

# What describing mistakes may cost, in nominal seconds.
_SECONDS = 4.0
# Enough for gradients of double precision, with as many digits again for what cancels.
_BITS = 200
# A factor of 1/2 or 1/3 has many reasons.
_BATCH = 4
# How many rules are looked at one by one: each takes a gradient.
_TOLD_APART = 4
# Rounding of the constants in rules of JAX itself, which are not the function's own.
_ROUNDED = 32.0


class Explanation(NamedTuple):
    """What a rule puts in place of a derivative."""

    name: str  # one of `NAMES`, or empty for what looks like none of them
    sentence: str


def check_names(allow: Any) -> tuple[str, ...]:
    """Returns the names of what is allowed.

    Raises:
        TypeError: It is no sequence of names.
        ValueError: A name is unknown.

    Example:
        >>> check_names(["clipping"])
        ('clipping',)
    """
    if isinstance(allow, str):
        raise TypeError(
            f"allow must be a tuple of names, such as ({allow!r},), but it is a string."
        )
    try:
        names = tuple(allow)
    except TypeError:
        raise TypeError(f"allow must be a tuple of names, but it is {allow!r}.") from None
    for name in names:
        if name not in NAMES:
            known = ", ".join(map(repr, NAMES))
            raise ValueError(f"allow knows {known}, but it names {name!r}.")
    return names


def explained(disagreement: Any) -> Explanation:
    """Returns what a rule that disagrees with calculus puts in place of the derivative.

    Args:
        disagreement: A `Disagreement` of `rule_disagreements`.
    """
    name, what = _named(disagreement)
    if disagreement.kind == "stop_gradient":
        return Explanation(name, f"stop_gradient ({_line(disagreement.place)}) {what}")
    rule = f"the rule of `{disagreement.function}` ({disagreement.kind}"
    where = _line(disagreement.defined) or _line(disagreement.place)
    return Explanation(name, f"{rule}{', ' if where else ''}{where}) {what}")


def _named(d: Any) -> tuple[str, str]:
    eps = max(float(jnp.finfo(array.dtype).eps) for array in d.claimed)
    inputs = _differing(d, eps)
    claimed, true = _parts(d, inputs)
    if d.kind == "stop_gradient":
        if not np.any(true):
            return "straight-through", "lets gradients straight through a function that is flat"
        return "stop-gradient", "holds constant what depends on the argument"
    gives, wanted = _worst(claimed, true)
    if not d.is_linear:
        gives, wanted = _worst(*map(_flat, (d.claimed, d.mathematical)))
        arrives = f" where {d.cotangent:g} arrives" if d.cotangent != 1 else ""
        return (
            "clipping",
            f"clips gradients: it gives {gives:.4g} in place of {wanted:.4g}{arrives}",
        )
    if np.all(np.isfinite(claimed)) and np.all(np.isfinite(true)):
        of = "gradients" if len(inputs) == len(d.claimed) else f"the gradient {_of_inputs(inputs)}"
        if not np.any(claimed):
            return "stop-gradient", f"stops {of}"
        if not np.any(true):
            return "straight-through", f"lets {of} through, though the function is flat"
        factor = _factor(claimed, true, eps)
        if factor is None:  # a sum over a batch is one part of it only where ones arrive
            ones = [_flat([part[n] for n in inputs]) for part in (d.claimed, d.mathematical)]
            factor = _factor(ones[0], ones[1], eps)
            factor = factor if factor is not None and _batch(factor, eps) else None
        if factor is not None:
            if factor < 0:
                times = "" if abs(factor + 1) <= eps**0.5 else f", times {-factor:.4g}"
                return "reversal", f"reverses {of}{times}"
            return "scaling", f"scales {of} by {factor:.4g}{_batch(factor, eps)}"
        if all(np.all(d.claimed[n] == d.cotangent) for n in inputs):
            return "straight-through", f"lets {of} straight through"
    return "", f"gives {gives:.6g} where the derivative is {wanted:.6g}"


def _factor(claimed: np.ndarray, true: np.ndarray, eps: float) -> float | None:
    """Returns what the true derivatives are multiplied by; None where that is no number."""
    factor = float(claimed @ true / (true @ true)) if np.any(true) else 0.0
    # A rule may round otherwise than the body: half of the digits of its dtype.
    is_it = np.all(np.abs(claimed - factor * true) <= eps**0.5 * np.abs(claimed))
    return factor if is_it and factor else None


def _parts(d: Any, inputs: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a rule gives by some inputs, and calculus, for all that was let arrive."""
    drawn = d.drawn if d.drawn[0] else (d.claimed, d.mathematical)
    claimed, true = (
        _flat([*(ones[n] for n in inputs), *(other[n] for n in inputs)])
        for ones, other in zip((d.claimed, d.mathematical), drawn, strict=True)
    )
    return claimed, true


def _differing(d: Any, eps: float) -> list[int]:
    """Returns the numbers of the inputs by which claim and calculus differ; all, if none do."""
    inputs = list(range(len(d.claimed)))
    is_close = lambda n: np.allclose(*_parts(d, [n]), rtol=eps**0.5, atol=0.0, equal_nan=True)
    return [n for n in inputs if not is_close(n)] or inputs


def _of_inputs(inputs: Sequence[int]) -> str:
    # In words, since leaves are counted from 0 beside it.
    words = [
        _ORDINALS[number] if number < len(_ORDINALS) else f"{number + 1}th" for number in inputs
    ]
    return f"by its {' and '.join(words)} input{'s' if len(words) > 1 else ''}"


def _batch(factor: float, eps: float) -> str:
    """Returns a guess where a factor is one part in a number that is no small one."""
    parts = round(1 / factor)
    if parts >= _BATCH and abs(factor * parts - 1) <= eps**0.5:
        return f", one part in {parts}: is a sum over so many missing, as over a batch?"
    return ""


def allowed(
    problem: Problem,
    claims: Claims,
    judgement: Any,
    allow: Sequence[str],
    slope: Callable[[Moves], float | None] | None = None,
) -> Any:
    """Returns a judgement that says of what is wrong where and how, and passes what is allowed.

    Wrong leaves get their entries and their pattern, and the rule at fault.

    Args:
        problem: The function.
        claims: What is claimed of it.
        judgement: What was found: a named tuple with `leaves`, `examinations`, `notes` and
            `exact`, which is returned with others.
        allow: Names of what is on purpose.
        slope: Of the function's values along a line, by which wrong entries are confirmed; see
            `location.described`.
    """
    names = check_names(allow)
    if not _is_wrong(judgement):
        return judgement
    budget = Budget(_SECONDS)
    gradients = _gradients(problem, claims, judgement.exact, budget)
    described = _described(problem, judgement.leaves, gradients, slope)
    judgement = judgement._replace(leaves=described)
    causes = _causes(problem, gradients, names, budget)
    if not causes:
        return judgement
    excused = _excused(problem, gradients, described, causes)
    leaves = []
    for number, leaf in enumerate(described):
        touching = [cause for cause in causes if number in cause.leaves]
        if number in excused:
            leaf = dataclasses.replace(
                leaf, verdict="consistent", entries=(), wrong_entries=None, pattern="",
                reason=_allowed(touching), mode=" ".join(claims.modes),
            )  # fmt: skip
        elif leaf.verdict == "wrong" and touching:
            # What is allowed and yet wrong is so by something else, where there is something else.
            others = [cause for cause in touching if not cause.is_allowed]
            leaf = dataclasses.replace(leaf, pattern=_said(leaf.pattern, others or touching))
        leaves.append(leaf)
    examinations = [_examination(each, causes) for each in judgement.examinations]
    notes = [*judgement.notes]
    if excused or examinations != list(judgement.examinations):
        notes += [_allowed(causes)] if any(cause.is_allowed for cause in causes) else []
    return judgement._replace(leaves=leaves, examinations=examinations, notes=notes)


class _Cause(NamedTuple):
    """A rule that is not that of calculus."""

    disagreement: Any
    why: Explanation
    leaves: frozenset[int]  # whose gradients it changes
    is_allowed: bool


class _Gradients(NamedTuple):
    """The gradients by all leaves, float64; None where they are not known."""

    claimed: list[Array] | None
    is_exact: bool  # whether the claimed program was walked exactly
    true: list[Array] | None


def _gradients(
    problem: Problem, claims: Claims, exact: ExactClaims | None, budget: Budget
) -> _Gradients:
    walked = exact.exact_gradient if exact is not None else None
    claimed = claims.gradient if walked is None else walked
    return _Gradients(
        None if claimed is None else list(map(wide, claimed)),
        walked is not None,
        _by_rules(problem, frozenset(), budget),
    )


def _by_rules(
    problem: Problem, places: frozenset[tuple[str, str]], budget: Budget
) -> list[Array] | None:
    """Returns the gradients where the rules at some places are honoured, and no other."""
    is_honoured = lambda eqn: (_function(eqn), custom_rules.place_of(eqn)) in places
    found = true_gradient(problem, arithmetic(_BITS), budget, is_honoured)
    return None if found is None else list(map(wide, found))


def _place(disagreement: Any) -> tuple[str, str]:
    return disagreement.function, disagreement.place


def _causes(
    problem: Problem, gradients: _Gradients, names: Sequence[str], budget: Budget
) -> list[_Cause]:
    found = _disagreements(problem)
    causes = []
    for each in found:
        leaves = frozenset(range(len(problem.leaves)))
        alone = None
        if gradients.true is not None and len(found) <= _TOLD_APART:
            alone = _by_rules(problem, frozenset({_place(each)}), budget)
        if gradients.true is not None and alone is not None:
            pairs = zip(problem.leaves, alone, gradients.true, strict=True)
            changed = [location.wrong_entries(a, b, leaf.eps).total > 0 for leaf, a, b in pairs]
            leaves = frozenset(np.flatnonzero(changed).tolist())
        why = explained(each)
        causes.append(_Cause(each, why, leaves, _is_named(each, why, names)))
    return causes


def _is_named(disagreement: Any, why: Explanation, names: Sequence[str]) -> bool:
    # x + stop_gradient(round(x) - x) is a straight-through estimator, in a loss of much else too.
    is_estimator = disagreement.kind == "stop_gradient" and "straight-through" in names
    return why.name in names or is_estimator


def _described(
    problem: Problem, leaves: Sequence[LeafReport], gradients: _Gradients, slope: Any
) -> list[LeafReport]:
    """Returns the leaves with the entries that are wrong, where calculus knows the true ones."""
    claimed, is_exact, true = gradients
    if claimed is None or true is None:
        return list(leaves)
    return location.described(problem, leaves, claimed, true, is_exact=is_exact, slope=slope)


def _is_wrong(judgement: Any) -> bool:
    return any(leaf.verdict == "wrong" for leaf in judgement.leaves) or any(
        each.passed is False for each in judgement.examinations
    )


def _disagreements(problem: Problem) -> Sequence[Any]:
    """Returns where rules and calculus disagree; nothing where that cannot be told."""
    from diffcompare.symbolic.disagreement import rule_disagreements

    if problem.jaxpr is None:
        return ()
    try:
        positions = tuple(range(len(problem.x)))
        return rule_disagreements(problem.fun, *problem.x, argnums=positions)
    except (TypeError, ValueError, NotImplementedError, ArithmeticError):
        return ()  # a rule whose result does not fit, or that fails at such weights


def _excused(
    problem: Problem, gradients: _Gradients, leaves: Sequence[LeafReport], causes: Sequence[_Cause]
) -> set[int]:
    """Returns the numbers of wrong leaves whose claims are what the allowed rules make of them."""
    allowed = [cause for cause in causes if cause.is_allowed]
    wrong = {
        number for number, leaf in enumerate(leaves)
        if leaf.verdict == "wrong" and any(number in cause.leaves for cause in allowed)
    }  # fmt: skip
    if not wrong:
        return set()
    # It is paid apart: what may pass does not depend on how much was spent to describe it.
    places = frozenset(_place(cause.disagreement) for cause in allowed)
    wanted = _by_rules(problem, places, Budget(_SECONDS))
    if wanted is None or gradients.claimed is None:
        # Then it is for all rules that disagree, or for none.
        return wrong if len(allowed) == len(causes) else set()
    found = set()
    for number in wrong:
        eps = problem.leaves[number].eps
        precision = _ROUNDED * eps if gradients.is_exact else eps**0.5
        if _is_close(gradients.claimed[number], wanted[number], precision):
            found.add(number)
    return found


def _is_close(claimed: Array, wanted: Array, precision: float) -> bool:
    size = np.maximum(np.abs(wanted), np.max(np.abs(wanted), initial=0.0))
    return bool(np.all(np.abs(claimed - wanted) <= precision * size))


def _examination(examination: Examination, causes: Sequence[_Cause]) -> Examination:
    """Returns an examination of what clips, excused or with the name of what does it."""
    # Whatever else clips does so by no rule that is known.
    clipping = [cause for cause in causes if not cause.disagreement.is_linear]
    if examination.passed is not False or "linear" not in examination.name or not clipping:
        return examination
    if all(cause.is_allowed for cause in clipping):
        return examination._replace(passed=None, detail=_allowed(clipping))
    sentences = [cause.why.sentence for cause in clipping]
    return examination._replace(detail="; ".join([examination.detail, *sentences]))


def _allowed(causes: Sequence[_Cause]) -> str:
    sentences = [cause.why.sentence for cause in causes if cause.is_allowed]
    return f"allowed: {'; '.join(dict.fromkeys(sentences))}"


def _said(pattern: str, causes: Sequence[_Cause]) -> str:
    """Returns a pattern, and the rule that makes it."""
    first, *others = causes
    said = first.why.sentence
    if others:
        more = others[0].why.sentence if len(others) == 1 else f"and {len(others)} more rules"
        said += f"; {more}"
    names = dict.fromkeys(repr(cause.why.name) for cause in causes if cause.why.name)
    if names:
        said += f" (if on purpose: allow {', '.join(names)})"
    return f"{pattern}: {said}" if pattern else said


def _function(eqn: JaxprEqn) -> str:
    if eqn.primitive.name == "stop_gradient":
        return "stop_gradient"
    return custom_rules.name_of(eqn)


def _line(place: str) -> str:
    """Returns the file's name and the line, the same wherever the file lies."""
    return PurePath(place.partition(" (")[0].replace("\\", "/")).name if place else ""


def _flat(arrays: Sequence[Any]) -> Array:
    return np.concatenate([wide(array).ravel() for array in arrays])


def _worst(claimed: Array, true: Array) -> tuple[float, float]:
    with np.errstate(invalid="ignore"):
        distance = np.nan_to_num(np.abs(claimed - true), nan=np.inf)
    place = int(np.argmax(distance))
    return float(claimed[place]), float(true[place])
