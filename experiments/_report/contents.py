"""What a report is made of, whatever it is written in."""

import datetime
from typing import Any, NamedTuple

from experiments._claims import ROWS, Judged, Row
from experiments._registry import Experiment


class Run(NamedTuple):
    """An experiment and what is saved of it."""

    name: str
    claim: str
    subject: str  # the first line of its docstring
    is_default: bool
    is_quick: bool
    changed: dict[str, Any]  # option -> value, where it is not that of the default config
    environment: dict[str, Any]
    result: Any
    summary: str | list[dict[str, object]]
    picture: bytes  # SVG; empty where there is none

    @property
    def command(self) -> str:
        """What repeats it."""
        options = "" if self.is_default else " --quick" if self.is_quick else " ..."
        return f"python -m experiments {self.name}{options}"

    @property
    def size(self) -> str:
        """How it was run, in words; empty where it was with the default config."""
        if self.is_default:
            return ""
        return "quick run" if self.is_quick else "run with other options"


class Contents(NamedTuple):
    """Everything that a report shows."""

    runs: tuple[Run, ...]
    missing: tuple[Experiment, ...]  # without a file
    problems: tuple[str, ...]  # what is wrong with files that could not be read
    judged: tuple[Judged, ...]
    today: datetime.date

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the lecture; none where there are no claims to judge."""
        return ROWS if self.judged else ()

    def of_row(self, number: int) -> list[Judged]:
        """Returns the claims of one row."""
        return [each for each in self.judged if each.claim.row == number]

    def of_experiment(self, name: str) -> list[Judged]:
        """Returns the claims that one experiment tests."""
        return [each for each in self.judged if each.claim.experiment == name]

    def run(self, name: str) -> Run | None:
        """Returns the run of an experiment, where there is one."""
        return next((run for run in self.runs if run.name == name), None)

    def counted(self) -> dict[str, int]:
        """Returns how many claims have each verdict."""
        verdicts = [each.verdict for each in self.judged]
        order = ("holds", "holds when", "does not hold", "not tested")
        return {verdict: verdicts.count(verdict) for verdict in order if verdict in verdicts}

    def warning(self) -> str:
        """Returns what a reader has to know of runs that are not full; empty where all are."""
        other = [run.name for run in self.runs if not run.is_default]
        if not other:
            return ""
        return (
            f"Not run at full size: {', '.join(other)} ({len(other)} of {len(self.runs)}). Numbers "
            "of such runs, and the verdicts that follow from them, show that the programs work, "
            "and no more."
        )


def anchor(judged: Judged, contents: Contents) -> str:
    """Returns the name of the place of a claim on the page."""
    place = contents.of_row(judged.claim.row).index(judged) + 1
    return f"claim-{judged.claim.row}-{place}"
