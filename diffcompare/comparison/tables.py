"""A comparison as a table: plain, in Markdown, and in the colours of a terminal."""

from typing import Any

from diffcompare.comparison.result import Comparison, Cost, Row

_HEAD = (
    "method", "error", "ulps", "claimed", "evaluations", "FLOPs", "bytes", "memory", "first call",
    "time", "x value",
)  # fmt: skip
_REFUSED = "refused"


def plain(comparison: Comparison) -> str:
    """Returns a table of plain text."""
    lines = [_HEAD, *_cells(comparison)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*_heading(comparison), "", *table, *_footing(comparison)])


def markdown(comparison: Comparison) -> str:
    """Returns a table in Markdown."""
    rows = [_HEAD, ("---", *["---:"] * (len(_HEAD) - 1)), *_cells(comparison)]
    table = [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
    heading = "  \n".join(map(_escaped, _heading(comparison)))
    footing = [f"* {_escaped(line)}" for line in _footing(comparison) if line]
    return "\n".join([heading, "", *table, *([""] if footing else []), *footing, ""])


def rich(comparison: Comparison) -> Any:
    """Returns a table that rich prints."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, title in enumerate(_HEAD):
        table.add_column(Text(title), justify="right" if place else "left", no_wrap=place > 0)
    for row, cells in zip(comparison.rows, _cells(comparison), strict=True):
        table.add_row(*map(Text, cells), style="dim" if row.refused else None)
    head = Text("\n".join(_heading(comparison)))
    return Group(head, Text(""), table, Text("\n".join(_footing(comparison))))


def _escaped(text: str) -> str:
    # A bar would end the cell; a star or a line below makes slanted letters.
    for mark in "\\|*_<>`":
        text = text.replace(mark, f"\\{mark}")
    return text


def _heading(comparison: Comparison) -> list[str]:
    cost = comparison.function
    entries = "1 entry" if comparison.entries == 1 else f"{comparison.entries} entries"
    flops = "" if cost.flops is None else f", {_count(cost, cost.flops)} FLOPs"
    known = "" if comparison.uncertainty in (0.0, None) else (
        f", right to {comparison.uncertainty:.1e}"
    )  # fmt: skip
    return [
        f"{comparison.name}: {entries}, {', '.join(comparison.dtypes)}, on {comparison.device}; "
        f"a value takes {_seconds(cost.median)}{flops}",
        f"reference: {comparison.reference}{known}",
    ]


def _footing(comparison: Comparison) -> list[str]:
    rows = comparison.rows
    refused = [f"{row.name} is refused: {row.refused}" for row in rows if row.refused]
    noted = [f"{row.name} {row.note}" for row in rows if row.note]
    lines = [*refused, *noted, *comparison.notes]
    costs = [row.cost for row in rows if row.cost is not None]
    if any(cost.has_loops and cost.flops is not None for cost in costs):
        lines.append("≥: XLA counts the body of a loop once")
    return ["", *lines] if lines else []


def _cells(comparison: Comparison) -> list[tuple[str, ...]]:
    return [_row(row, comparison) for row in comparison.rows]


def _row(row: Row, comparison: Comparison) -> tuple[str, ...]:
    cost = row.cost
    if cost is None:
        return row.name, _REFUSED, *[""] * (len(_HEAD) - 2)
    return (
        row.name,
        _error(row.error, comparison.uncertainty),
        "" if row.ulps is None else f"{row.ulps:.3g}" if row.ulps < 1000 else f"{row.ulps:.1e}",
        "" if row.bound is None else f"{row.bound:.1e}",
        "" if row.evaluations is None else f"{row.evaluations}",
        "" if cost.flops is None else _count(cost, cost.flops),
        "" if cost.bytes is None else f"{'≥ ' if cost.has_loops else ''}{_bytes(cost.bytes)}",
        "" if cost.memory is None else _bytes(cost.memory),
        _seconds(cost.first),
        f"{_seconds(cost.median)} ± {_seconds(cost.spread)}",
        f"{cost.median / comparison.function.median:.3g}",
    )


def _error(error: float | None, uncertainty: float | None) -> str:
    if error is None:
        return ""
    if uncertainty is not None and error < uncertainty:
        return f"< {uncertainty:.1e}"
    return f"{error:.1e}" if error else "0"


def _count(cost: Cost, count: float) -> str:
    return f"{'≥ ' if cost.has_loops else ''}{_scaled(count, ('', 'k', 'M', 'G', 'T'))}"


def _bytes(count: float) -> str:
    return _scaled(count, (" B", " kB", " MB", " GB", " TB"))


def _scaled(number: float, units: tuple[str, ...]) -> str:
    place = 0
    while number >= 999.5 and place < len(units) - 1:
        number, place = number / 1000, place + 1
    return f"{number:.3g}{units[place]}"


def _seconds(seconds: float) -> str:
    """Returns seconds in a unit that suits them.

    Example:
        >>> _seconds(2.5e-5), _seconds(12.0)
        ('25 µs', '12 s')
    """
    for size, unit in ((1e-6, "µs"), (1e-3, "ms")):
        if seconds < 999.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
