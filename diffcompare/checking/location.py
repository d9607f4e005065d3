"""Which entries of a gradient are wrong, and what kind of mistake that is."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from diffcompare.checking import patterns
from diffcompare.checking.calculus import true_gradient as true_gradient
from diffcompare.checking.patterns import Surroundings
from diffcompare.checking.problem import Moves, Problem, unit_direction
from diffcompare.checking.report import Entry, LeafReport

Array = np.ndarray  # float64

# How many wrong entries are named.
_NAMED = 3
# A rule may round a term twice, with a constant that was rounded too.
_ROUNDED = 4.0


class Wrong(NamedTuple):
    """The wrong entries of a leaf."""

    entries: tuple[Entry, ...]  # the worst, first
    total: int  # how many there are


def wrong_entries(claimed: Array, true: Array, precision: float, named: int = _NAMED) -> Wrong:
    """Returns the entries of a claimed gradient that are not the true ones.

    What is not finite comes first, then the largest distances; of equals, the first in the array.

    Args:
        claimed: The gradient by a leaf.
        true: The true one. An entry that is not finite is not compared.
        precision: The relative error that is nobody's mistake.
        named: How many are named.

    Example:
        >>> wrong_entries(np.array([1.0, 2.5, 3.0]), np.array([1.0, 2.0, 3.0]), 1e-6)
        Wrong(entries=(Entry(index=(1,), claimed=2.5, true=2.0),), total=1)
    """
    claimed, true = np.asarray(claimed, np.float64), np.asarray(true, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(claimed - true)
        allowed = precision * np.maximum(np.abs(claimed), np.abs(true))
        is_right = (distance <= allowed) | (claimed == true) | ~np.isfinite(true)
    distance = np.where(np.isfinite(claimed), distance, math.inf)
    distance = np.where(is_right, -1.0, distance)
    order = np.argsort(-distance, axis=None, kind="stable")[:named]
    places = [tuple(map(int, np.unravel_index(each, claimed.shape))) for each in order]
    entries = tuple(
        Entry(place, float(claimed[place]), float(true[place]))
        for place in places
        if not is_right[place]
    )
    return Wrong(entries, int(np.sum(~is_right)))


def located(
    report: LeafReport,
    claimed: Array,
    true: Array,
    eps: float,
    surroundings: Surroundings | None = None,
    *,
    is_exact: bool = True,
) -> LeafReport:
    """Returns what was found of a wrong leaf, with its wrong entries and the pattern of them.

    Args:
        report: What was found so far.
        claimed: The claimed gradient by the leaf.
        true: The true one.
        eps: Of the dtype of the claim.
        surroundings: What else there is, by which more patterns are recognized.
        is_exact: Whether the claimed program was walked exactly. If it was not, entries that lost
            up to half of their digits are left alone.
    """
    precision = _ROUNDED * eps if is_exact else math.sqrt(eps)
    wrong = wrong_entries(claimed, true, precision)
    if not wrong.total:
        return report
    found = patterns.pattern(claimed, true, eps, surroundings, precision=precision)
    return dataclasses.replace(
        report,
        entries=wrong.entries,
        wrong_entries=wrong.total,
        pattern=report.pattern if found is None else found.sentence,
    )


def described(
    problem: Problem,
    leaves: Sequence[LeafReport],
    claimed: Sequence[Array],
    true: Sequence[Array],
    *,
    is_exact: bool,
    slope: Callable[[Moves], float | None] | None = None,
) -> list[LeafReport]:
    """Returns what was found of all leaves, the wrong ones in reverse mode with their entries.

    Args:
        problem: The function.
        leaves: What was found so far, of each leaf of the problem.
        claimed: The claimed gradients, float64.
        true: The true ones, by the rules of calculus.
        is_exact: Whether the claimed program was walked exactly.
        slope: The slope of the function's values along a line, None where there is no single one.
            Where it contradicts what calculus says of an entry, that leaf is left as it is.
    """
    found = []
    for number, report in enumerate(leaves):
        leaf = problem.leaves[number]
        if report.verdict == "wrong" and report.mode != "fwd":
            around = surroundings_of(problem, number, true)
            better = located(
                report, claimed[number], true[number], leaf.eps, around, is_exact=is_exact
            )
            if slope is None or all(
                _is_confirmed(problem, number, entry, slope) for entry in better.entries
            ):
                report = better
        found.append(report)
    return found


def _is_confirmed(
    problem: Problem, number: int, entry: Entry, slope: Callable[[Moves], float | None]
) -> bool:
    leaf = problem.leaves[number]
    line = unit_direction(leaf, problem.x[number], entry.index)
    found = slope({number: line.array})
    if found is None:
        return False
    length = float(line.array[entry.index])
    # Both are exact; only their last digits were lost in float64.
    return abs(found - entry.true * length) <= 1e-12 * abs(found)


def surroundings_of(problem: Problem, leaf: int, true: Sequence[Array] | None) -> Surroundings:
    """Returns what a leaf's gradient may be mistaken for.

    Args:
        problem: The function.
        leaf: The number of the leaf.
        true: The true gradients by all leaves, float64; None where they are not known.
    """
    lengths: dict[int, str] = {}
    for each in problem.leaves:
        for axis, length in enumerate(each.shape):
            lengths.setdefault(length, f"axis {axis} of {each.name}")
    others = enumerate(true or ())
    return Surroundings(
        x=np.asarray(problem.x[leaf]).astype(np.float64),
        siblings={problem.leaves[number].name: array for number, array in others if number != leaf},
        arriving=problem.weights,
        lengths=lengths,
    )
