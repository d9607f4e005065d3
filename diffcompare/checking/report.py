"""What a check found, as values, as a screen of text and as JSON."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Verdict = Literal["consistent", "wrong", "kink", "inconclusive"]

# What is said of a function, of the verdicts of its leaves: a mistake is one whatever else is
# found, and while a leaf is open the function is. A kink is a full answer, as "consistent" is.
# (Of several looks at one leaf, a kink comes before what was not seen: see findings.py.)
_WORST_FIRST: tuple[Verdict, ...] = ("wrong", "inconclusive", "kink", "consistent")


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of a gradient that is wrong."""

    index: tuple[int, ...]
    claimed: float
    true: float

    @property
    def error(self) -> float:
        """The difference relative to the true value; infinite where that is 0 or no number is."""
        if self.claimed == self.true:
            return 0.0
        distance = abs(self.claimed - self.true)
        if not math.isfinite(distance) or self.true == 0:
            return math.inf
        return distance / abs(self.true)


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
        wrong_entries: How many entries are wrong, of which `entries` are the worst; None where
            they were not counted.
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
    wrong_entries: int | None = None

    @property
    def size(self) -> int:
        """How many entries there are."""
        return math.prod(self.shape)


class Examination(NamedTuple):
    """One of the checks beside the comparison with the function's values."""

    name: str  # such as "forward against reverse"
    passed: bool | None  # None where it does not apply
    detail: str  # what was found, a sentence
    paths: tuple[str, ...] = ()  # of the leaves that are at fault


class Cost(NamedTuple):
    """What a check cost, counted: the same on every machine, and at every time."""

    walks: int = 0  # of the function or of a claimed program, in exact arithmetic
    calls: int = 0  # of the function in floating point
    seconds: float = 0.0  # nominal ones that the walks were charged


@dataclasses.dataclass(frozen=True)
class Report:
    """Whether the derivatives of a function are those of its values; printed, a screen of text.

    The same function and arguments give the same report, byte for byte.

    Attributes:
        leaves: What was found of each floating-point leaf of the arguments, in their order; of
            each order of derivatives, where there are several.
        examinations: What else was checked.
        modes: "rev" and "fwd", those that exist and were checked.
        missing: Why a mode was not checked, by mode.
        function: The name of the function.
        order: Up to which derivative was checked.
        evaluations: What it cost.
        reproduce: A line or two of Python that do it again.
        notes: What else a reader should know, sentences.

    Example:
        >>> leaf = LeafReport("[0]", (), "float32", "wrong", "rev", error=1.0, pattern="it is zero")
        >>> report = Report((leaf,), modes=("rev",), function="loss")
        >>> report.verdict
        'wrong'
        >>> print(report)
        WRONG: what JAX returns is not the derivative of loss.
        The only leaf is wrong.
        <BLANKLINE>
        [0]  float32  wrong in reverse mode, off by 100 %
            it is zero
        <BLANKLINE>
        checked  in reverse mode
    """

    leaves: tuple[LeafReport, ...] = ()
    examinations: tuple[Examination, ...] = ()
    modes: tuple[str, ...] = ()
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    function: str = "the function"
    order: int = 1
    evaluations: Cost = dataclasses.field(default_factory=Cost)
    reproduce: str = ""
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The first of these that any leaf has: "wrong", "inconclusive", "kink", "consistent".

        An examination that failed is "wrong" too. Where nothing is floating point, there is
        nothing to be wrong: "consistent".
        """
        if any(each.passed is False for each in self.examinations):
            return "wrong"
        return min(
            (leaf.verdict for leaf in self.leaves), key=_WORST_FIRST.index, default="consistent"
        )

    def worst_first(self) -> list[LeafReport]:
        """Returns the leaves by their verdicts, and those of one verdict by their errors."""
        return sorted(
            self.leaves, key=lambda leaf: (_WORST_FIRST.index(leaf.verdict), -_size_of_error(leaf))
        )

    def __str__(self) -> str:
        from diffcompare.checking import listing

        return listing.text(self)

    def to_json(self) -> str:
        """Returns the report as JSON, with its keys in a fixed order.

        Numbers that JSON does not know are the strings "NaN", "Infinity" and "-Infinity"; what is
        not known is null.

        Example:
            >>> print(Report(function="loss", modes=("rev",)).to_json().splitlines()[1])
              "verdict": "consistent",
        """
        return json.dumps(_plain({"verdict": self.verdict, **_fields(self)}), indent=2)


def _size_of_error(leaf: LeafReport) -> float:
    return math.inf if leaf.error is None or math.isnan(leaf.error) else leaf.error


def _fields(value: Any) -> dict[str, Any]:
    # The function's name first: it is what a reader looks for.
    names = [field.name for field in dataclasses.fields(value)]
    names.sort(key=lambda name: name != "function")
    return {name: getattr(value, name) for name in names}


def _plain(value: Any) -> Any:
    """Returns a value of this module as dicts, lists, and numbers that JSON knows."""
    if dataclasses.is_dataclass(value):
        return _plain(_fields(value))
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, float):
        return float(value)
    return value
