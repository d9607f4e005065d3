"""The report: one page that shows every figure and every claim, and the same in short as Markdown.

`report.html` holds everything it shows, so that it works without a network; `README.md` is what a
page of the repository shows of the folder. Both are written from the files of the experiments that
are there, and from nothing else.
"""

import datetime
from pathlib import Path
from typing import NamedTuple

from diffcompare import _files
from experiments._claims import Claim, judge
from experiments._registry import Experiment, UsageError
from experiments._report import markdown, page, saved
from experiments._report.contents import Contents

PAGE, SUMMARY = "report.html", "README.md"
# Each file starts with this line, by which a file of one's own is told from one to be replaced.
MARK = "<!-- Written by python -m experiments. Changes are lost. -->\n"


class Written(NamedTuple):
    """What was written."""

    page: Path
    experiments: int  # on the page


def write(
    folder: Path,
    known: dict[str, Experiment],
    claims: tuple[Claim, ...],
    today: datetime.date,
) -> Written | None:
    """Writes the report of the experiments whose files are in a folder.

    Args:
        folder: Where their files are, and where the report will be.
        known: The experiments there are, by name.
        claims: What is to be judged by their numbers.
        today: The date that the page shows.

    Returns:
        What was written; None where there are no files of experiments.

    Raises:
        UsageError: A file that is not a report is in the way.
    """
    runs, problems = saved.load(folder, known)
    if not runs and not problems:
        return None
    for name in (PAGE, SUMMARY):
        _check_replaceable(folder / name)
    results = {run.name: run.result for run in runs}
    judged = tuple(judge(claim, results) for claim in claims)
    missing = tuple(known[name] for name in sorted(set(known) - {run.name for run in runs}))
    contents = Contents(tuple(runs), missing, tuple(problems), judged, today)
    for name, text in ((PAGE, page.text(contents)), (SUMMARY, markdown.text(contents))):
        head, _, rest = text.partition("\n") if name == PAGE else ("", "", text)
        # Nothing may stand before the doctype.
        whole = f"{head}\n{MARK}{rest}" if head else f"{MARK}{rest}"
        _files.write_atomically(folder / name, whole.encode())
    return Written(folder / PAGE, len(runs))


def _check_replaceable(path: Path) -> None:
    if path.is_file() and MARK.encode() not in path.read_bytes()[:500]:
        raise UsageError(
            f"{path} is not a report of an earlier run, so it is not replaced. Move it away, or "
            f"choose another folder with --out."
        )
