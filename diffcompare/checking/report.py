"""What a check found."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Verdict = Literal["consistent", "wrong", "kink", "inconclusive"]


class Entry(NamedTuple):
    """An entry of a gradient that is wrong."""

    index: tuple[int, ...]
    claimed: float
    true: float


@dataclasses.dataclass(frozen=True)
class LeafReport:
    """What was found of one leaf of the arguments.

    Attributes:
        path: In the tuple of arguments, such as "[0]['w']".
        shape: Of the leaf.
        dtype: Its name.
        verdict: "consistent", "wrong", "kink" (the claim is a valid subgradient, or there is no
            derivative) or "inconclusive".
        mode: In which mode it is wrong, "rev" or "fwd"; else the modes that were checked.
        witness: What decided, "exact walk" or "differences"; empty where nothing could.
        defect: The largest distance found between a claimed slope and the true one, in units of
            the function.
        error: The defect, relative to the sum of the sizes of the slopes' terms.
        detectable: The smallest relative error that would have been seen.
        entries: Wrong entries, worst first.
        pattern: What kind of mistake it looks like, such as "2 times too large", or empty.
        reason: Why it is not consistent, or what was excused; a sentence, or empty.
        precision_loss: The largest relative error that rounding makes in an entry of the claim in
            its dtype; None where it is not known. It is no mistake of a rule.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    verdict: Verdict
    mode: str = ""
    witness: str = ""
    defect: float | None = None
    error: float | None = None
    detectable: float | None = None
    entries: tuple[Entry, ...] = ()
    pattern: str = ""
    reason: str = ""
    precision_loss: float | None = None


class Examination(NamedTuple):
    """One of the checks beside the comparison with the function's values."""

    name: str  # such as "forward against reverse"
    passed: bool | None  # None where it does not apply
    detail: str  # what was found, a sentence
    paths: tuple[str, ...] = ()  # of the leaves that are at fault
