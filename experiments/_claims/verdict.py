"""What a claim is, and when it holds: numbers beside the bounds they have to keep."""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

Relation = Literal["", "=", "<", "<=", ">", ">="]
Verdict = Literal["holds", "holds when", "does not hold"]

_COMPARED = MappingProxyType(
    {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
)


class Number(NamedTuple):
    """A number that an experiment found, and the bound it has to keep, if there is one."""

    label: str
    value: float
    relation: Relation = ""
    bound: float = math.nan
    unit: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the bound is kept, which a NaN never does; true without one."""
        return not self.relation or bool(_COMPARED[self.relation](self.value, self.bound))


class Found(NamedTuple):
    """What an experiment says of a claim.

    `otherwise` are numbers from outside of `condition`: where they do not keep their bounds
    either, the claim holds under the condition only.
    """

    numbers: Sequence[Number]
    condition: str = ""
    otherwise: Sequence[Number] = ()

    @property
    def verdict(self) -> Verdict:
        """What follows from the numbers.

        Raises:
            ValueError: There is no number with a bound, so there is nothing to judge by.

        Example:
            >>> good, bad = Number("error", 1e-16, "<=", 1e-15), Number("error", 0.3, "<=", 1e-15)
            >>> Found([good]).verdict, Found([bad]).verdict
            ('holds', 'does not hold')
            >>> Found([good], "in float64", otherwise=[bad]).verdict
            'holds when'
        """
        if not any(number.relation for number in self.numbers):
            raise ValueError("A verdict needs a number with a bound, but there is none.")
        if not all(number.is_kept for number in self.numbers):
            return "does not hold"
        return "holds" if all(number.is_kept for number in self.otherwise) else "holds when"


class Claim(NamedTuple):
    """A sentence of the lecture in our words, and the experiment that tests it."""

    row: int  # of the lecture
    sentence: str
    experiment: str
    find: Callable[[Any], Found]  # of the experiment's saved result


class Judged(NamedTuple):
    """A claim, and what came out; or why nothing did."""

    claim: Claim
    found: Found | None
    reason: str = ""  # where `found` is None

    @property
    def verdict(self) -> str:
        """The verdict, or "not tested"."""
        return self.found.verdict if self.found else "not tested"


def judge(claim: Claim, results: dict[str, Any]) -> Judged:
    """Returns what the saved results, by experiment, say of a claim.

    Where there is none, or it is one of a smaller run that lacks what the claim is about or could
    not measure it, there is no verdict, and the reason says how to get one.
    """
    command = f"python -m experiments {claim.experiment}"
    if claim.experiment not in results:
        return Judged(claim, None, f"Not run yet: {command}")
    try:
        found = claim.find(results[claim.experiment])
    except LookupError as error:
        return Judged(
            claim, None, f"The saved run lacks {error.args[0]!r}. Run it in full: {command}"
        )
    unknown = [
        number.label
        for number in (*found.numbers, *found.otherwise)
        if math.isnan(number.value) or (number.relation and math.isnan(number.bound))
    ]
    if unknown:
        return Judged(claim, None, f"Not measured: {unknown[0]}. Run it in full: {command}")
    return Judged(claim, found)


def only(items: Iterable[Any], **wanted: Any) -> Any:
    """Returns the first of `items` with the attributes `wanted`.

    Raises:
        LookupError: There is none.

    Example:
        >>> only([Number("a", 1.0), Number("b", 2.0)], label="b").value
        2.0
    """
    for item in items:
        if all(getattr(item, name) == value for name, value in wanted.items()):
            return item
    raise LookupError(", ".join(f"{name} {value}" for name, value in wanted.items()))
