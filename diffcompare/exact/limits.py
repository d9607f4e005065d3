"""Derivatives where the chain rule fails: 0 times infinity, found from the function itself.

At such an entry the function is evaluated a little to the right and to the left, in so many
digits that a step may be far smaller than any number the function distinguishes.
"""

from typing import Any

import mpmath
import numpy as np

from diffcompare._jaxpr import objects, walk
from diffcompare.exact import precision
from diffcompare.exact.numbers import MpmathAlgebra

_ENTRIES = 100  # more are not looked at


def completed(
    problem: precision.Problem, solution: precision.Solution, digits: int
) -> precision.Solution:
    """Returns a solution in which entries that are NaN are limits, where there are limits.

    Where the slopes to both sides differ, the entry is their mean, and a kink is noted.
    A NaN that a program's own rule made stays.
    """
    entries = list(solution.entries)
    lost = [place for place, entry in enumerate(entries) if place and mpmath.isnan(entry)]
    if not lost or solution.notes.has_custom_nan or not mpmath.isfinite(entries[0]):
        return solution
    if len(lost) > _ENTRIES:
        remark = f"{len(lost)} entries are NaN: the chain rule meets 0 times infinity there."
        return solution._replace(remarks=(*solution.remarks, remark))
    bits = 4 * precision.bits_for(digits)
    evaluate = _evaluator(problem, MpmathAlgebra(bits))
    kinks = dict(solution.notes.kinks)
    with mpmath.workprec(bits):
        for place in lost:
            entries[place], is_kink = _slope(evaluate, place - 1, bits, digits)
            if is_kink:
                key = ("0 times infinity", "", "the mean of the slopes to both sides")
                kinks[key] = kinks.get(key, 0) + 1
    solution.notes.kinks.update(kinks)
    return solution._replace(entries=entries)


def _evaluator(problem, algebra):
    """Returns the function of a change of one entry of what is differentiated by."""
    interpreter = objects.ObjectInterpreter(algebra)
    values = [interpreter.lifted(x) if precision.is_floating(x) else x for x in problem.inputs]

    def evaluate(place: int, change: Any) -> Any:
        changed = list(values)
        for position in problem.wanted:
            size = values[position].size
            if place < size:
                array = values[position].copy()
                index = np.unravel_index(place, array.shape)
                array[index] = algebra.rules["add"](array[index], change(array[index]))
                changed[position] = array
                break
            place -= size
        (output,) = walk.walk(problem.jaxpr, interpreter, changed)
        return precision.exported(np.asarray(output).item())

    return evaluate


def _slope(evaluate, place, bits, digits):
    """Returns the derivative by one entry, and whether it is a kink."""
    there = evaluate(place, lambda x: 0 * x)

    def one_sided(sign, shift):
        steps = []

        def change(x):
            steps.append(mpmath.ldexp(sign * max(abs(x), 1), -shift))
            return steps[0]

        return (evaluate(place, change) - there) / steps[0]

    def limit(sign):
        # A slope that grows with the step's inverse is infinite.
        far, near = (one_sided(sign, shift) for shift in (bits // 4, bits // 4 + 40))
        if abs(near) > 16 * abs(far):
            return mpmath.inf if near > 0 else -mpmath.inf
        return near

    right, left = limit(1), limit(-1)
    if mpmath.isnan(right) or mpmath.isnan(left):
        return (left if mpmath.isnan(right) else right), False
    mean = (right + left) / 2
    if right == left or abs(right - left) <= mpmath.mpf(10) ** -digits * abs(mean):
        return mean, False
    is_zero = max(abs(right), abs(left)) < mpmath.ldexp(1, -bits // 8)
    return (mpmath.mpf(0), False) if is_zero else (mean, True)
