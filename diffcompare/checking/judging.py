"""Two witnesses, one verdict for each leaf."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from diffcompare._jaxpr.walk import UnknownPrimitiveError
from diffcompare.checking import black_box
from diffcompare.checking.budget import Budget, OverBudget
from diffcompare.checking.calculus import true_gradient
from diffcompare.checking.claims import Claims
from diffcompare.checking.exact_claims import ExactClaims
from diffcompare.checking.examinations import DETERMINISTIC, MAY_BE_ROUNDING, examined
from diffcompare.checking.findings import NO_VALUE, summarized
from diffcompare.checking.problem import Leaf, Problem
from diffcompare.checking.report import Cost, Examination, LeafReport, Verdict
from diffcompare.checking.slopes import Primal
from diffcompare.checking.white_box import WhiteBox, units_and_lines
from diffcompare.exact.multiprecision import Arithmetic, arithmetic

# Slopes are quotients of differences 2^-200 apart: 640 binary digits leave 440 for the difference,
# more than the range of any dtype takes away.
_BITS = 640
# What a direction costs: two walks, and the claimed program in both modes, each of which has about
# three operations for one of the function.
_WALKS = 2 + 2 * 3


# Of what is left, this part may be spent on the gradient by calculus, which finds single entries.
_GUIDE = 1 / 4


class Judgement(NamedTuple):
    """What is said of the leaves of a problem."""

    leaves: list[LeafReport]
    examinations: list[Examination]
    notes: list[str]
    exact: ExactClaims | None  # the claims in exact arithmetic; None where they were not walked
    primal: Primal | None  # the function in exact arithmetic; None where it was not walked
    cost: Cost  # of the walks


def judged(problem: Problem, claims: Claims, seconds: float) -> Judgement:
    """Returns the verdicts of a problem's leaves, by the witness that can tell.

    Args:
        problem: The function.
        claims: What is claimed of it.
        seconds: What exact walks may cost, in nominal seconds.
    """
    numbers = arithmetic(_BITS)
    with numbers.active():
        return _judged(problem, claims, numbers, Budget(seconds))


def _judged(problem, claims, numbers: Arithmetic, budget: Budget) -> Judgement:
    if not claims.modes:
        why = "; ".join(dict.fromkeys([*claims.misfits.values(), *claims.missing.values()]))
        leaves = [undecided(leaf, why) for leaf in problem.leaves]
        return Judgement(leaves, examined(problem, claims, None, False), [], None, None, Cost())
    exact, primal, notes, found = _by_walks(problem, claims, numbers, budget)
    are_true = bool(found) and all(leaf.verdict == "consistent" for leaf in found)
    examinations = examined(problem, claims, exact, are_true)
    leaves = [_at_fault(leaf, examinations) for leaf in _with_differences(problem, claims, found)]
    if any(each.name == DETERMINISTIC and each.passed is None for each in examinations):
        why = "the function gives other values at every call"
        leaves = [undecided(leaf, why) for leaf in problem.leaves]
    for each in examinations:
        if each.passed is None and each.detail.endswith(MAY_BE_ROUNDING):
            reason = f"{each.name}: {each.detail}"
            leaves = [leaf if leaf.verdict == "wrong" else dataclasses.replace(
                leaf, verdict="inconclusive", reason=reason) for leaf in leaves]  # fmt: skip
    cost = Cost(walks=budget.walks, seconds=budget.spent)
    return Judgement(leaves, examinations, notes, exact, primal, cost)


def _by_walks(problem, claims, numbers, budget):
    """Returns what exact walks gave, and the reports of leaves; none where they cannot tell."""
    if problem.jaxpr is None:
        return None, None, [f"no exact walk: {problem.untraced}"], []
    try:
        primal = Primal(problem, numbers, budget)
        exact = ExactClaims(problem, claims, numbers, budget)
        reports, note = _reports(exact, primal)
        return exact, primal, [note] if note else [], reports
    except UnknownPrimitiveError as error:
        return None, None, [f"no exact walk: there is no rule for '{error.primitive}'"], []
    except OverBudget:
        return None, None, [f"no exact walk: it would take more than {budget.seconds:g} s"], []


def _reports(exact: ExactClaims, primal: Primal) -> tuple[list[LeafReport], str]:
    problem, modes, budget = exact.problem, exact.claims.modes, exact.budget
    if not exact.arithmetic.finite(primal.value):
        return [undecided(leaf, NO_VALUE, "kink") for leaf in problem.leaves], ""
    walk = max(budget.spent, 1e-6)
    contradiction = WhiteBox(exact, primal, None).contradiction()
    if contradiction:
        return [], f"no exact walk: {contradiction}"
    guide = true_gradient(problem, exact.arithmetic, Budget(budget.left * _GUIDE))
    units, lines = units_and_lines(budget.left / (_WALKS * walk), len(problem.leaves))
    box = WhiteBox(exact, primal, guide)
    reports = [
        summarized(leaf, found, "exact walk", modes, box.precision_loss(number))
        for number, (leaf, found) in enumerate(
            zip(problem.leaves, box.findings(units, lines), strict=True)
        )
    ]
    return reports, ""


def _with_differences(problem, claims, found: list[LeafReport]) -> Iterator[LeafReport]:
    """Yields what was found of each leaf, or what differences say where that is open."""
    open_ = [n for n in range(len(problem.leaves)) if n >= len(found) or _is_open(found[n])]
    second = dict(
        zip(open_, black_box.judged(problem, claims, open_) if open_ else [], strict=True)
    )
    for number in range(len(problem.leaves)):
        other = second.get(number)
        if number >= len(found):
            assert other is not None
            yield other
        elif other is None or _is_open(other):
            yield found[number]
        else:
            yield other


def _at_fault(report: LeafReport, examinations: list[Examination]) -> LeafReport:
    """Returns the report of a leaf whose gradient is not wrong here, but cannot be right."""
    for each in examinations:
        # Parts of complex leaves are named by their part.
        if each.passed is False and report.path in each.paths and report.verdict != "wrong":
            reason = f"{each.name}: {each.detail}"
            return dataclasses.replace(report, verdict="wrong", reason=reason, mode="rev")
    return report


def _is_open(report: LeafReport) -> bool:
    return report.verdict == "inconclusive"


def undecided(leaf: Leaf, reason: str, verdict: Verdict = "inconclusive") -> LeafReport:
    """Returns the report of a leaf of which nothing can be said but why."""
    return LeafReport(leaf.name, leaf.shape, leaf.dtype.name, verdict, reason=reason)
