"""A report as a screen of text: the worst leaves first, and what is left of them counted."""

import math
import textwrap
from collections.abc import Iterable, Sequence

from diffcompare.checking.findings import NO_VALUE
from diffcompare.checking.report import Entry, LeafReport, Report

# What a terminal shows at once, with its prompt.
LINES, COLUMNS = 24, 100

_INDENT = "    "
_SHOWN = 3  # entries of a leaf
_MODES = {"rev": "reverse", "fwd": "forward"}
_HEADLINES = {
    "wrong": "WRONG: what JAX returns is not the derivative of {}.",
    "inconclusive": (
        "INCONCLUSIVE: no mistake was found in the derivative of {}, but not all of it was seen."
    ),
    "kink": "KINK: {} has no derivative at this point, and what JAX returns is as good as any.",
    "consistent": "CONSISTENT: what JAX returns is the derivative of {}.",
}
_WITHOUT_VALUE = "KINK: {} has no finite value at this point, so that no derivative was checked."
_WITHOUT_LEAVES = "CONSISTENT: {} has nothing to differentiate, so that nothing was checked."
_ALLOWED = "CONSISTENT but for what is allowed: the rest is the derivative of {}."
_STATES = {
    "wrong": "wrong",
    "inconclusive": "inconclusive",
    "kink": "at a kink",
    "consistent": "consistent",
}


def text(report: Report) -> str:
    """Returns a report as at most `LINES` lines of at most `COLUMNS` characters."""
    head = [_cut(_first_line(report).format(report.function)), _cut(_counted(report))]
    foot = _foot(report)
    room = LINES - len(head) - len(foot) - 2  # blank lines
    body = _failures(report, room // 3)
    told = [leaf for leaf in report.worst_first() if leaf.verdict != "consistent"]
    body += _blocks(told, room - len(body))
    return "\n".join([*head, *([""] if body else []), *body, "", *foot])


def _first_line(report: Report) -> str:
    reasons = [leaf.reason for leaf in report.leaves if leaf.verdict == report.verdict]
    if report.verdict == "kink" and all(NO_VALUE in reason for reason in reasons):
        return _WITHOUT_VALUE
    if report.verdict == "consistent" and not report.leaves:
        return _WITHOUT_LEAVES
    if report.verdict == "consistent" and any(reasons):  # they say what was allowed
        return _ALLOWED
    return _HEADLINES[report.verdict]


def _counted(report: Report) -> str:
    """Returns how many leaves have which verdict, worst first."""
    if not report.leaves:
        return "No leaf of its arguments, or none of its outputs, is floating point."
    counts = {name: sum(leaf.verdict == name for leaf in report.leaves) for name in _STATES}
    found = [(name, count) for name, count in counts.items() if count]
    if len(found) == 1:
        ((name, count),) = found
        of = "The only leaf is" if count == 1 else f"All {count} leaves are"
        return f"{of} {_STATES[name]}."
    first = f"{found[0][1]} of {len(report.leaves)} leaves {_STATES[found[0][0]]}"
    return ", ".join([first, *(f"{count} {_STATES[name]}" for name, count in found[1:])]) + "."


def _failures(report: Report, room: int) -> list[str]:
    failed = [each for each in report.examinations if each.passed is False]
    lines = [line for each in failed for line in _wrapped(f"{each.name}: {each.detail}", "", 2)]
    return (
        lines
        if len(lines) <= room
        else [*lines[: room - 1], f"... and more of {len(failed)} failed"]
    )


def _blocks(leaves: Sequence[LeafReport], room: int) -> list[str]:
    """Returns what is said of leaves: of the first in full, of the others as there is room."""
    lines: list[str] = []
    for number, leaf in enumerate(leaves):
        rest = len(leaves) - number - 1
        left = room - len(lines) - (1 if rest else 0)
        # Those that follow get a line each, up to two.
        full = _block(leaf)[: max(left - min(rest, 2), 1)]
        if left < 1:
            return [*lines, _cut(_left_out(leaves[number:]))]
        lines += full
    return lines


def _left_out(leaves: Sequence[LeafReport]) -> str:
    counts = {name: sum(leaf.verdict == name for leaf in leaves) for name in _STATES}
    return "... and " + ", ".join(f"{c} {_STATES[name]}" for name, c in counts.items() if c)


def _block(leaf: LeafReport) -> list[str]:
    lines = [_cut(_headline(leaf))]
    if leaf.pattern:
        lines += _wrapped(leaf.pattern, _INDENT, 3)
    if leaf.reason and not (leaf.pattern and leaf.entries):
        lines += _wrapped(leaf.reason, _INDENT, 2)
    return lines + _table(leaf)


def _headline(leaf: LeafReport) -> str:
    shape = f"  {_shape(leaf.shape)}" if leaf.shape else ""
    state = _STATES[leaf.verdict]
    if leaf.verdict == "wrong":
        modes = " and ".join(_MODES.get(mode, mode) for mode in leaf.mode.split())
        state += f" in {modes} mode" if modes else ""
        if leaf.error is not None:
            state += f", off by {relative(leaf.error)}" if math.isfinite(leaf.error) else ""
    return f"{leaf.path}{shape}  {leaf.dtype}  {state}"


def _table(leaf: LeafReport) -> list[str]:
    """Returns the worst entries, with as many digits as tell a claim from the truth."""
    if not leaf.entries:
        return []
    shown = leaf.entries[:_SHOWN]
    rows = [("entry", "claimed", "true", "error")]
    rows += [(_index(entry), *_pair(entry), relative(entry.error)) for entry in shown]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        _INDENT
        + row[0].ljust(widths[0])
        + "".join(cell.rjust(width + 3) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    count = leaf.wrong_entries
    if count is not None and count > len(shown):
        of = (
            f"all {count} entries are wrong"
            if count == leaf.size
            else (f"{count} of {leaf.size} entries are wrong")
        )
        lines[0] += f"   ({of})"
    return list(map(_cut, lines))


def _index(entry: Entry) -> str:
    return str(entry.index) if entry.index else "()"


def _pair(entry: Entry) -> tuple[str, str]:
    error = entry.error
    digits = 6 if not 0 < error < math.inf else min(max(6, 3 - math.floor(math.log10(error))), 17)
    return f"{entry.claimed:.{digits}g}", f"{entry.true:.{digits}g}"


def _foot(report: Report) -> list[str]:
    rows = [("checked", _checked(report))]
    passed = [each.name for each in report.examinations if each.passed]
    if passed:
        rows.append(("passed", ", ".join(passed)))
    rows += [("power", _power(report.leaves)), ("rounding", _rounding(report.leaves))]
    rows += [("cost", _cost(report)), *(("note", note) for note in report.notes[:2])]
    if len(report.notes) > 2:
        rows.append(("note", f"and {len(report.notes) - 2} more"))
    lines = []
    for name, said in rows:
        if said:
            lines += _wrapped(said, f"{name:<9}", 2 if name in ("checked", "passed", "note") else 1)
    again = [f"{'' if n else 'again':<9}" for n in range(2)]
    for start, line in zip(again, report.reproduce.splitlines(), strict=False):
        lines += _wrapped(line, start, 2)
    return lines


def _checked(report: Report) -> str:
    names = [_MODES.get(mode, mode) for mode in report.modes]
    said = f"in {' and '.join(names)} mode" if names else "in no mode"
    if report.order > 1:
        said = f"derivatives up to order {report.order}, {said}"
    reasons = [f"no {_MODES.get(mode, mode)} mode: {why}" for mode, why in report.missing.items()]
    return "; ".join([said, *reasons])


def _power(leaves: Iterable[LeafReport]) -> str:
    """Returns how small an error would have been seen, in the leaf where that is the least."""
    known = [leaf for leaf in leaves if leaf.detectable is not None]
    if not known:
        return ""
    weakest = max(known, key=lambda leaf: leaf.detectable or 0.0)
    least = f"an error of {relative(weakest.detectable)}" if weakest.detectable else "any error"
    seen = f"{least} of a slope would have been seen"
    return f"{seen} (least so in {weakest.path})" if len(known) > 1 else seen


def _rounding(leaves: Iterable[LeafReport]) -> str:
    known = [leaf for leaf in leaves if leaf.precision_loss]
    if not known:
        return ""
    worst = max(known, key=lambda leaf: leaf.precision_loss or 0.0)
    lost = relative(worst.precision_loss or 0.0)
    return f"costs up to {lost} of an entry in {worst.dtype} ({worst.path}), which is no mistake"


def _cost(report: Report) -> str:
    walks, calls, seconds = report.evaluations
    kinds = [(walks, "exact walk"), (calls, "call")]
    said = [f"{count} {name}{'s' if count != 1 else ''}" for count, name in kinds if count]
    if said and seconds:
        said[0] += f" of {seconds:.2g} nominal seconds"
    return ", ".join(said) + (" of the function" if said else "")


def relative(error: float) -> str:
    """Returns a relative error as one says it.

    Example:
        >>> relative(0.5), relative(0.0123), relative(2.5e-7), relative(3.0), relative(3e7)
        ('50 %', '1.2 %', '2.5e-07', '300 %', '3e+07 times')
    """
    if not math.isfinite(error):
        return "no number" if math.isnan(error) else "infinite"
    if error >= 1e4:
        return f"{error:.2g} times"
    if error >= 9.995:
        return f"{100 * error:.0f} %"
    return (
        f"{100 * error:.2g} %"
        if 1e-3 <= error < 0.995
        else (f"{100 * error:.0f} %" if error >= 0.995 else f"{error:.2g}")
    )


def _shape(shape: tuple[int, ...]) -> str:
    return str(shape)


def _wrapped(said: str, start: str, most: int) -> list[str]:
    """Returns at most so many lines, the others as far in as the first begins."""
    lines = textwrap.wrap(
        " ".join(said.split()),
        COLUMNS - len(start),
        max_lines=most,
        placeholder=" ...",
        break_on_hyphens=False,
    )
    return [(start if not n else " " * len(start)) + line for n, line in enumerate(lines)]


def _cut(line: str) -> str:
    return line if len(line) <= COLUMNS else f"{line[: COLUMNS - 4]} ..."
