"""Progress on stderr, where that is a terminal: a rich bar, or a plain line without rich."""

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator

Report = Callable[[str], None]


@contextlib.contextmanager
def progress(total: int, unit: str, done: int = 0) -> Iterator[Report]:
    """Yields a function to call after each of `total` units with a line that says how it went.

    It does nothing where stderr is not a terminal.

    Args:
        total: How many units there are.
        unit: What they are.
        done: How many of them were there before.
    """
    if not sys.stderr.isatty():
        yield lambda line: None
    elif importlib.util.find_spec("rich") is None:
        with _plain(total, unit, done) as report:
            yield report
    else:
        with _rich(total, unit, done) as report:
            yield report


@contextlib.contextmanager
def _plain(total: int, unit: str, done: int) -> Iterator[Report]:
    def report(line: str) -> None:
        nonlocal done
        done += 1
        # Return to the start of the line, and clear what is left of the one before.
        print(f"\r\x1b[K{unit} {done}/{total}  {line}", end="", file=sys.stderr, flush=True)

    try:
        yield report
    finally:
        print(file=sys.stderr)


@contextlib.contextmanager
def _rich(total: int, unit: str, done: int) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn(unit),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("{task.fields[line]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=done, line="")
        yield lambda line: bar.update(task, advance=1, line=line)
