"""Two witnesses, one verdict for each leaf."""

from collections.abc import Iterator
from typing import NamedTuple

from diffcompare._jaxpr.walk import UnknownPrimitiveError
from diffcompare.checking import black_box
from diffcompare.checking.budget import Budget, OverBudget
from diffcompare.checking.claims import Claims
from diffcompare.checking.exact_claims import ExactClaims
from diffcompare.checking.examinations import examined
from diffcompare.checking.findings import summarized
from diffcompare.checking.problem import Problem
from diffcompare.checking.report import Examination, LeafReport, Verdict
from diffcompare.checking.slopes import Primal
from diffcompare.checking.white_box import WhiteBox, units_and_lines
from diffcompare.exact.multiprecision import Arithmetic, arithmetic

# Slopes are quotients of differences 2^-200 apart: 640 binary digits leave 440 for the difference,
# more than the range of any dtype takes away.
_BITS = 640
# What a direction costs: two walks, and the claimed program in both modes, each of which has about
# three operations for one of the function.
_WALKS = 2 + 2 * 3


class Judgement(NamedTuple):
    """What is said of the leaves of a problem."""

    leaves: list[LeafReport]
    examinations: list[Examination]
    notes: list[str]
    exact: ExactClaims | None


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
        why = "; ".join([*claims.misfits.values(), *claims.missing.values()])
        leaves = [_undecided(leaf, why) for leaf in problem.leaves]
        return Judgement(leaves, examined(problem, claims, None, False), [], None)
    exact, notes = None, []
    found: list[LeafReport] = []
    if problem.jaxpr is None:
        notes.append(f"no exact walk: {problem.untraced}")
    else:
        try:
            exact = ExactClaims(problem, claims, numbers, budget)
            found.extend(_by_walks(exact, Primal(problem, numbers, budget), notes))
        except UnknownPrimitiveError as error:
            notes.append(f"no exact walk: there is no rule for '{error.primitive}'")
            exact = None
        except OverBudget:
            notes.append(f"exact walks end after {budget.seconds:g} nominal seconds")
            exact = None
    are_true = len(found) == len(problem.leaves) and all(
        leaf.verdict == "consistent" for leaf in found
    )
    examinations = examined(problem, claims, exact, are_true)
    leaves = list(_with_differences(problem, claims, found))
    return Judgement(leaves, examinations, notes, exact)


def _by_walks(exact: ExactClaims, primal: Primal, notes: list[str]) -> Iterator[LeafReport]:
    """Yields what exact walks say of each leaf, until they cost too much."""
    problem, modes, budget = exact.problem, exact.claims.modes, exact.budget
    if not exact.arithmetic.finite(primal.value):
        for leaf in problem.leaves:
            yield _undecided(leaf, "the value of the function is not finite here", "kink")
        return
    box = WhiteBox(exact, primal, None)
    contradiction = box.contradiction()
    if contradiction:
        notes.append(f"no exact walk: {contradiction}")
        return
    room = budget.left / (_WALKS * max(budget.spent, 1e-6))
    units, lines = units_and_lines(room, len(problem.leaves))
    for leaf, found in zip(problem.leaves, box.findings(units, lines), strict=True):
        yield summarized(leaf, found, "exact walk", modes)


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


def _is_open(report: LeafReport) -> bool:
    return report.verdict == "inconclusive"


def _undecided(leaf, reason: str, verdict: Verdict = "inconclusive") -> LeafReport:
    return LeafReport(leaf.name, leaf.shape, leaf.dtype.name, verdict, reason=reason)
