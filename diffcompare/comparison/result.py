"""What a comparison found."""

import dataclasses
import importlib
import json
import math
import statistics
from typing import Any

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Cost:
    """What it costs to run a program.

    Attributes:
        flops: As XLA counts them, a transcendental function as one; None where it did not compile
            the whole.
        bytes: Read and written, as XLA counts them.
        memory: Bytes beside arguments and results, at their peak.
        has_loops: Whether the program has loops, whose bodies XLA counts once: then `flops` and
            `bytes` are lower bounds.
        first: Seconds of the first call, which traces and compiles.
        samples: Seconds of the calls after it, all of them. Where one call takes long, the only
            sample is the execution within the first call.
    """

    flops: float | None
    bytes: float | None
    memory: int | None
    has_loops: bool
    first: float
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the samples, in seconds."""
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """The distance of the quartiles of the samples, in seconds."""
        if len(self.samples) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return high - low


@dataclasses.dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        name: Of the method, in words.
        method: Its repr.
        refused: Why it has no gradient, a sentence; otherwise empty.
        error: The relative error of the gradient, in the 2-norm over all entries.
        ulps: The largest error of an entry, in units in the last place of its dtype.
        bound: The error that the method itself claims at most, as `error`; None without a claim.
        evaluations: At how many points it evaluates the function, or a derivative of it along
            with its value. Of a difference some may be evaluated in part.
        cost: What it costs; None where it was refused.
        note: What else is to be known, or empty.
        gradient: What it returned, as `diffcompare.grad` returns it.
    """

    name: str
    method: str
    refused: str = ""
    error: float | None = None
    ulps: float | None = None
    bound: float | None = None
    evaluations: int | None = None
    cost: Cost | None = None
    note: str = ""
    gradient: PyTree = dataclasses.field(default=None, repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Methods side by side; `str` is a table.

    Attributes:
        name: Of the function.
        entries: How many numbers it is differentiated by.
        dtypes: Of these, in the order in which they are met.
        device: What it ran on.
        rows: One for each method.
        function: What a value of the function costs.
        reference: What the errors are measured against, a sentence.
        uncertainty: The relative error that the reference may have: errors below are not told
            apart from it. None where nothing is known of it.
        notes: What else is to be known of the function.
    """

    name: str
    entries: int
    dtypes: tuple[str, ...]
    device: str
    rows: tuple[Row, ...]
    function: Cost
    reference: str
    uncertainty: float | None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        from diffcompare.comparison import tables

        return tables.plain(self)

    def __str__(self) -> str:
        return repr(self)

    def __rich__(self) -> Any:
        from diffcompare.comparison import tables

        return tables.rich(self)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def draw(self) -> Any:
        """Returns a matplotlib figure: the error of every method against what it costs."""
        # It lies above this room, as whatever draws does; who draws has asked for it.
        return importlib.import_module("diffcompare.plot.comparison").draw(self)

    def to_markdown(self) -> str:
        """Returns the table in Markdown."""
        from diffcompare.comparison import tables

        return tables.markdown(self)

    def to_json(self) -> str:
        """Returns everything but the gradients as standard JSON.

        Numbers that are not finite are strings. What differs from run to run stands under
        "seconds" only.
        """
        tree = {
            "function": self.name,
            "entries": self.entries,
            "dtypes": list(self.dtypes),
            "device": self.device,
            "reference": self.reference,
            "uncertainty": _number(self.uncertainty),
            "notes": list(self.notes),
            "value": _cost(self.function),
            "rows": [_row(row) for row in self.rows],
        }
        return json.dumps(tree, allow_nan=False, ensure_ascii=False, indent=1)


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "method": row.method,
        "refused": row.refused or None,
        "error": _number(row.error),
        "ulps": _number(row.ulps),
        "bound": _number(row.bound),
        "evaluations": row.evaluations,
        "note": row.note or None,
        **({} if row.cost is None else _cost(row.cost)),
    }


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        "flops": _number(cost.flops),
        "bytes": _number(cost.bytes),
        "memory": cost.memory,
        "has_loops": cost.has_loops,
        "seconds": {"first": cost.first, "samples": list(cost.samples)},
    }


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
