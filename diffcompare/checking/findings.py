"""What single comparisons found, and what they say of a leaf together."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from diffcompare.checking.problem import Leaf
from diffcompare.checking.report import Entry, LeafReport, Verdict

# Why there is no slope to compare a claim with, by the kind of what is there instead.
NO_SLOPE = {
    "steep": "the slope is infinite",
    "jump": "the function jumps",
    "undefined": "there is no slope",
}
NO_VALUE = "the value of the function is not finite here"


class Finding(NamedTuple):
    """What one comparison of a claimed slope with the true one found."""

    verdict: Verdict
    mode: str  # in which mode the slope was claimed
    reason: str = ""
    defect: float | None = None  # the distance of the slopes, in units of the function
    size: float | None = None  # of the terms that the slope sums
    detectable: float | None = None  # the smallest relative error that would have been seen
    entry: Entry | None = None  # the one that moves


# What is said of a leaf, of several findings: a mistake is one whatever else is found; where there
# is no derivative, nothing more can be said; and what could not be seen is not called right.
WORST_FIRST: tuple[Verdict, ...] = ("wrong", "kink", "inconclusive", "consistent")


def summarized(
    leaf: Leaf,
    findings: Sequence[Finding],
    witness: str,
    modes: Iterable[str],
    precision_loss: float | None = None,
) -> LeafReport:
    """Returns what findings say of a leaf together."""
    if not findings:
        findings = [Finding("inconclusive", "", "no claim could be compared with a slope")]
    said: list[Verdict] = [each.verdict for each in findings]
    verdict = min(said, key=WORST_FIRST.index)
    decisive = sorted(
        (each for each in findings if each.verdict == verdict), key=_relative, reverse=True
    )
    entries = sorted(
        {each.entry.index: each.entry for each in decisive if each.entry is not None}.values(),
        key=lambda entry: -abs(entry.claimed - entry.true),
    )
    worst = decisive[0]
    seen = [each.detectable for each in findings if each.detectable is not None]
    of_modes = worst.mode if verdict == "wrong" else " ".join(modes)
    return LeafReport(
        path=leaf.name,
        shape=leaf.shape,
        dtype=leaf.dtype.name,
        verdict=verdict,
        mode=of_modes,
        witness=witness,
        defect=max((each.defect for each in findings if each.defect is not None), default=None),
        error=max((_relative(each) for each in findings if each.defect is not None), default=None),
        detectable=max(seen, default=None),
        entries=tuple(entries) if verdict == "wrong" else (),
        precision_loss=precision_loss,
        reason=next((each.reason for each in decisive if each.reason), ""),
    )


def _relative(finding: Finding) -> float:
    if finding.defect is None:
        return float("inf")
    return finding.defect / finding.size if finding.size else finding.defect
