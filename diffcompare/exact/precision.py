"""How many digits an exact gradient is computed in, so that those asked for are right."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import mpmath
import numpy as np
from jax.extend.core import ClosedJaxpr

from diffcompare.exact.numbers import MpmathAlgebra
from diffcompare.exact.tape import Tape
from diffcompare.exact.weights import Notes, plain_value
from diffcompare.symbolic.convention import Convention

Array = np.ndarray

GUARD = 64  # bits beyond the digits, which most programs need no more of
LIMIT = 2**15  # bits; a longer computation is given up
REFINED = 200  # digits of eigenvalues, which a number of steps doubles to about 500
DEEP = 2**11  # bits in which a number has to vanish before it is called zero


class Problem(NamedTuple):
    """What to differentiate, and where."""

    jaxpr: ClosedJaxpr  # with one output, a scalar
    inputs: Sequence[Any]  # arrays, those that are floating point as the program gets them
    wanted: Sequence[int]  # the positions of the inputs to differentiate by
    convention: Convention
    honours: bool  # rules that the program defines for itself


class Sweep(NamedTuple):
    """The value and the gradients in one precision."""

    value: Any
    gradients: list[Array]
    notes: Notes

    @property
    def entries(self) -> list[Any]:
        """The value, then the entries of all gradients."""
        return [self.value, *(entry for array in self.gradients for entry in array.flat)]


class Solution(NamedTuple):
    """The value and the gradients, to the digits that were asked for."""

    entries: list[Any]  # of mpmath: the value, then the entries of all gradients
    radii: list[Any] | None  # of the enclosures, where there are
    notes: Notes
    remarks: tuple[str, ...]
    bits: int  # in which it was computed
    arithmetic: str


class PrecisionError(ArithmeticError):
    """The digits asked for were not reached in the largest precision."""


def sweep(problem: Problem, algebra: Any) -> Sweep:
    """Returns the value and the gradients in an algebra."""
    tape = Tape(algebra, problem.convention, problem.honours)
    values = [tape.lifted(x) if is_floating(x) else x for x in problem.inputs]
    leaves = {position: tape.leaf(values[position]) for position in problem.wanted}
    inputs: list[Any] = [leaves.get(number, value) for number, value in enumerate(values)]
    (output,) = tape.run(problem.jaxpr, inputs)
    gradients = tape.gradients(output, [leaves[position] for position in problem.wanted])
    return Sweep(np.asarray(plain_value(output)).item(), gradients, tape.notes)


def is_floating(x: Any) -> bool:
    """Returns whether an array holds real floating-point numbers."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def bits_for(digits: int) -> int:
    """Returns how many bits hold a number of decimal digits, with some to spare."""
    return math.ceil(digits * math.log2(10)) + GUARD


def solve(problem: Problem, digits: int) -> Solution:
    """Returns the value and the gradients, by mpmath in two precisions that agree.

    The precision is doubled until both agree in all entries, to the digits.

    Raises:
        PrecisionError: They do not, in the largest precision.
    """
    bits = bits_for(digits)
    coarse, wider = sweep(problem, MpmathAlgebra(bits)), 2 * bits
    if coarse.notes.is_refined and digits > REFINED:
        raise PrecisionError(
            f"exact_grad knows eigenvalues and singular values to {REFINED} digits, but {digits} "
            "were asked for. Ask for fewer."
        )
    while wider <= 2 * LIMIT:
        fine = sweep(problem, MpmathAlgebra(wider))
        zeros = vanishing(coarse.entries, fine.entries, bits)
        is_right = _agree(coarse.entries, fine.entries, digits, zeros)
        # What is 0, infinite or NaN in both may owe it to both precisions.
        is_sure = wider >= DEEP or not any(map(_is_suspect, fine.entries, zeros))
        if is_right and is_sure:
            entries = [
                mpmath.mpf(0) if zero else exported(entry)
                for entry, zero in zip(fine.entries, zeros, strict=True)
            ]
            return Solution(entries, None, fine.notes, remarks(zeros, bits), wider, "mpmath")
        coarse, bits, wider = fine, wider, max(2 * wider, DEEP) if is_right else 2 * wider
    raise precision_error(digits)


def precision_error(digits: int) -> PrecisionError:
    """Returns the error for digits that cannot be guaranteed."""
    return PrecisionError(
        f"exact_grad could not guarantee {digits} digits with {LIMIT} bits: rounding grows too "
        "fast in this program. Ask for fewer digits, or for fewer steps of its iteration."
    )


def vanishing(coarse: Sequence[Any], fine: Sequence[Any], bits: int) -> list[bool]:
    """Returns which entries shrink as the precision grows, as what is left of a 0 does."""
    return [
        type(a) is not int
        and type(b) is not int
        and mpmath.isfinite(a)
        and a != 0
        and abs(b) <= mpmath.ldexp(abs(a), -bits // 2)
        for a, b in zip(coarse, fine, strict=True)
    ]


def remarks(zeros: Sequence[bool], bits: int) -> tuple[str, ...]:
    """Returns what is to be said of entries that vanish."""
    count = sum(zeros)
    if not count:
        return ()
    entries = "1 entry is" if count == 1 else f"{count} entries are"
    return (
        f"{entries} 0 as far as {bits} bits show: the terms cancel, and no digit of what may be "
        "left is known.",
    )


def exported(entry: Any) -> mpmath.mpf:
    """Returns a number of whatever context as one of mpmath's own, unrounded."""
    return mpmath.mpf(0) if type(entry) is int else mpmath.mp.make_mpf(entry._mpf_)


def _is_suspect(entry: Any, is_vanishing: bool) -> bool:
    return is_vanishing or (type(entry) is not int and (entry == 0 or not mpmath.isfinite(entry)))


def _agree(coarse, fine, digits, zeros) -> bool:
    is_close: Callable[[Any, Any], bool] = lambda a, b: (
        a == b or (a != a and b != b) or abs(a - b) <= mpmath.mpf(10) ** -digits * abs(b)
    )
    with mpmath.workprec(53):
        return all(zero or is_close(a, b) for a, b, zero in zip(coarse, fine, zeros, strict=True))
