"""What the runner prints: tables on stdout, progress on stderr."""

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Rows = Sequence[dict[str, Any]]


def show(summary: str | Rows) -> None:
    """Prints what an experiment's `summary` returned."""
    if isinstance(summary, str):
        print(summary)
    elif summary and sys.stdout.isatty() and _has_rich():
        _rich_table(summary)
    elif summary:
        print(plain_table(summary))


def plain_table(rows: Rows) -> str:
    """Returns rows as text, in columns that are as wide as their widest cell.

    Example:
        >>> print(plain_table([{"method": "central", "error": 1.5e-7}]))
        method   error
        central  1.5e-07
    """
    lines = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        (cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """Yields a function that is called with the name of each thing as it begins.

    A bar where stderr is a terminal and rich is installed, else a line for each.
    """
    if sys.stderr.isatty() and _has_rich():
        with _rich_progress(total) as begin:
            yield begin
    else:
        begun = 0

        def begin_line(name: str) -> None:
            nonlocal begun
            begun += 1
            print(f"[{begun}/{total}] {name} ...", file=sys.stderr, flush=True)

        yield begin_line


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rich_table(rows: Rows) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    for title in rows[0]:
        table.add_column(Text(title))
    for row in rows:
        table.add_row(*(Text(_text(value)) for value in row.values()))
    Console().print(table)


@contextlib.contextmanager
def _rich_progress(total: int) -> Iterator[Callable[[str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = 0

        def begin(name: str) -> None:
            nonlocal begun
            bar.update(task, description=name, completed=begun)
            begun += 1

        yield begin
