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

import numpy as np
from jax.extend.core import JaxprEqn

from diffcompare._jaxpr import custom_rules
from diffcompare.checking import location
from diffcompare.checking.budget import Budget
from diffcompare.checking.calculus import true_gradient
from diffcompare.checking.claims import Claims
from diffcompare.checking.exact_claims import ExactClaims, wide
from diffcompare.checking.problem import Moves, Problem
from diffcompare.checking.report import Examination, LeafReport
from diffcompare.exact.multiprecision import arithmetic

Array = np.ndarray  # float64

# What `allow` may name.
NAMES = ("straight-through", "clipping", "reversal", "scaling", "stop-gradient")

# What describing a mistake may cost, in nominal seconds.
_SECONDS = 5.0
# Enough for gradients of double precision, with as many digits again for what cancels.
_BITS = 200
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
    claimed, true = _flat(d.claimed), _flat(d.mathematical)
    if d.kind == "stop_gradient":
        if not np.any(true):
            return "straight-through", "lets gradients straight through a function that is flat"
        return "stop-gradient", "holds constant what depends on the argument"
    pair = _worst(claimed, true)
    if not d.is_linear:
        arrives = f" where {d.cotangent:g} arrives" if d.cotangent != 1 else ""
        words = f"clips gradients: it gives {pair[0]:.4g} in place of {pair[1]:.4g}{arrives}"
        return "clipping", words
    if np.all(np.isfinite(claimed)) and np.all(np.isfinite(true)):
        if not np.any(claimed):
            return "stop-gradient", "stops gradients"
        if not np.any(true):
            return "straight-through", "lets gradients through, though the function is flat"
        factor = float(claimed @ true / (true @ true))
        # A rule may round otherwise than the body: half of the digits of its dtype.
        eps = max(float(np.finfo(a.dtype).eps) if a.dtype.kind == "f" and a.dtype.itemsize > 2
                  else 2.0**-7 for a in map(np.asarray, d.claimed))  # fmt: skip
        if np.all(np.abs(claimed - factor * true) <= eps**0.5 * np.abs(claimed)):
            if factor < 0:
                times = "" if abs(factor + 1) <= eps**0.5 else f", times {-factor:.4g}"
                return "reversal", f"reverses gradients{times}"
            return "scaling", f"scales gradients by {factor:.4g}"
        if np.all(claimed == d.cotangent):
            return "straight-through", "lets gradients straight through"
    return "", f"gives {pair[0]:.6g} where the derivative is {pair[1]:.6g}"


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
    judgement = judgement._replace(leaves=_described(problem, claims, judgement, slope))
    found = _disagreements(problem)
    if not found:
        return judgement
    reasons = [(each, explained(each)) for each in found]
    chosen = [(each, why) for each, why in reasons if _is_named(each, why, names)]
    excused = _excused(problem, claims, judgement.exact, judgement.leaves, reasons, chosen)
    said = "; ".join(dict.fromkeys(why.sentence for _, why in chosen))
    # What is allowed and yet wrong is so by something else, where there is something else.
    others = [why for each, why in reasons if not _is_named(each, why, names)]
    leaves = []
    for number, leaf in enumerate(judgement.leaves):
        if number in excused:
            leaf = dataclasses.replace(
                leaf, verdict="consistent", entries=(), wrong_entries=None, pattern="",
                reason=f"allowed: {said}", mode=" ".join(claims.modes),
            )  # fmt: skip
        elif leaf.verdict == "wrong":
            leaf = dataclasses.replace(
                leaf, pattern=_said(leaf.pattern, others or [why for _, why in chosen])
            )
        leaves.append(leaf)
    is_nonlinear = any(not each.is_linear for each, _ in chosen)
    examinations = [
        _examination(each, reasons, is_nonlinear, said) for each in judgement.examinations
    ]
    notes = list(judgement.notes)
    if excused or any(each.passed is None and said in each.detail for each in examinations):
        notes.append(f"allowed: {said}")
    return judgement._replace(leaves=leaves, examinations=examinations, notes=notes)


def _is_named(disagreement: Any, why: Explanation, names: Sequence[str]) -> bool:
    # x + stop_gradient(round(x) - x) is a straight-through estimator, in a loss of much else too.
    is_estimator = disagreement.kind == "stop_gradient" and "straight-through" in names
    return why.name in names or is_estimator


def _described(problem: Problem, claims: Claims, judgement: Any, slope: Any) -> list[LeafReport]:
    """Returns the leaves with the entries that are wrong, where calculus knows the true ones."""
    leaves, exact = list(judgement.leaves), judgement.exact
    if claims.gradient is None or not any(leaf.verdict == "wrong" for leaf in leaves):
        return leaves
    true = true_gradient(problem, arithmetic(_BITS), Budget(_SECONDS))
    if true is None:
        return leaves
    exactly = exact.exact_gradient if exact is not None else None
    claimed = claims.gradient if exactly is None else exactly
    return location.described(
        problem, leaves, list(map(wide, claimed)), list(map(wide, true)),
        is_exact=exactly is not None, slope=slope,
    )  # fmt: skip


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
    problem: Problem,
    claims: Claims,
    exact: ExactClaims | None,
    leaves: Sequence[LeafReport],
    reasons: Sequence[tuple[Any, Explanation]],
    chosen: Sequence[tuple[Any, Explanation]],
) -> set[int]:
    """Returns the numbers of wrong leaves whose claims are what the chosen rules make of them."""
    wrong = {number for number, leaf in enumerate(leaves) if leaf.verdict == "wrong"}
    if not wrong or not chosen:
        return set()
    places = {(each.function, each.place) for each, _ in chosen}
    is_chosen = lambda eqn: (_function(eqn), custom_rules.place_of(eqn)) in places
    wanted = true_gradient(problem, arithmetic(_BITS), Budget(_SECONDS), is_chosen)
    if wanted is None or claims.gradient is None:
        # Then it is for all rules that disagree, or for none.
        return wrong if len(chosen) == len(reasons) else set()
    given = exact.exact_gradient if exact is not None else None
    found = set()
    for number in wrong:
        leaf = problem.leaves[number]
        claimed = wide(given[number] if given is not None else claims.gradient[number])
        precision = _ROUNDED * leaf.eps if given is not None else leaf.eps**0.5
        if _is_close(claimed, wide(wanted[number]), precision):
            found.add(number)
    return found


def _is_close(claimed: Array, wanted: Array, precision: float) -> bool:
    size = np.maximum(np.abs(wanted), np.max(np.abs(wanted), initial=0.0))
    return bool(np.all(np.abs(claimed - wanted) <= precision * size))


def _examination(
    examination: Examination,
    reasons: Sequence[tuple[Any, Explanation]],
    is_allowed: bool,
    said: str,
) -> Examination:
    """Returns an examination of what clips, excused or with the name of what does it."""
    # Whatever else clips does so by no rule that is known.
    clips = [why.sentence for each, why in reasons if not each.is_linear]
    if examination.passed is not False or not clips:
        return examination
    if is_allowed and "linear" in examination.name:
        return examination._replace(passed=None, detail=f"allowed: {said}")
    return examination._replace(detail="; ".join([examination.detail, *clips]))


def _said(pattern: str, reasons: Sequence[Explanation]) -> str:
    """Returns a pattern, and the rule that makes it."""
    first, *others = reasons
    names = [why.name for why in reasons if why.name]
    said = first.sentence
    if others:
        said += f"; and {len(others)} more" if len(others) > 1 else f"; {others[0].sentence}"
    if names:
        said += f" (if on purpose: allow={names[0]!r})"
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
