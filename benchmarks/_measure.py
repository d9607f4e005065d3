"""Taking turns, medians, and what is said of them."""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"


class Samples(NamedTuple):
    """How long the calls of one contender took, in seconds."""

    first: float  # the first call, which may compile; time that passed
    wall: list[float]
    cpu: list[float]  # of all threads of the process

    def median(self, clock: str) -> float:
        return statistics.median(getattr(self, clock))


class Goal(NamedTuple):
    """A figure to reach."""

    name: str
    asked: float
    measured: float
    at_most: bool  # otherwise at least
    details: dict[str, Any]

    @property
    def is_reached(self) -> bool:
        return self.measured <= self.asked if self.at_most else self.measured >= self.asked

    @property
    def row(self) -> tuple[str, str, str, str]:
        sign = "<=" if self.at_most else ">="
        verdict = "reached" if self.is_reached else "not reached"
        return self.name, f"{sign} {self.asked:g}", f"{self.measured:.3g}", verdict


def interleaved(contenders: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Samples]:
    """Returns samples of every contender, which take turns."""
    samples = {name: Samples(_timed(call)[0], [], []) for name, call in contenders.items()}
    for _ in range(repeats):
        for name, call in contenders.items():
            wall, cpu = _timed(call)
            samples[name].wall.append(wall)
            samples[name].cpu.append(cpu)
    return samples


def ratio(samples: dict[str, Samples], over: str, under: str, clock: str) -> float:
    """Returns how many times longer `over` takes than `under`, by the medians of a clock."""
    return samples[over].median(clock) / samples[under].median(clock)


def paired_ratio(samples: dict[str, Samples], over: str, under: str, clock: str) -> float:
    """Returns the median of the ratios of samples taken one after the other.

    Where a ratio is near one, load that comes and goes drops out better this way.
    """
    pairs = zip(getattr(samples[over], clock), getattr(samples[under], clock), strict=True)
    return statistics.median(a / b for a, b in pairs)


def stay_on_one_core() -> None:
    """Holds this process on one core, where the system can, before JAX starts its threads.

    Threads that wait for each other spend the time of a core too. Where work is compared, and
    not how it is shared, they would be counted against the contender that has the smaller
    pieces.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def details(samples: dict[str, Samples], **more: Any) -> dict[str, Any]:
    return {"samples": {name: each._asdict() for name, each in samples.items()}, **more}


def main(name: str, goals: Callable[[], list[Goal]]) -> int:
    """Measures, prints a table and writes JSON; returns 0 where everything is reached, else 1."""
    found = goals()
    RESULTS.mkdir(exist_ok=True)
    content = {
        "cores": cores(),
        "goals": [goal._asdict() | {"reached": goal.is_reached} for goal in found],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print_table([goal.row for goal in found])
    return 0 if all(goal.is_reached for goal in found) else 1


def print_table(rows: list[tuple[str, str, str, str]]) -> None:
    table = [("figure", "asked", "measured", ""), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(f"({cores()} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f})", flush=True)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu
