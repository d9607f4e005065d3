"""Claims about what a gradient costs, against the number of parameters: rows 26 to 28."""

import numpy as np

from experiments import _cost_figure
from experiments._claims.verdict import Claim, Found, Number, only

# Of an exponent fitted to times, which carry noise and what a call costs at any size.
FITTED = 0.25
# Times as long: what takes more is another order of magnitude.
MUCH = 10.0
DIFFERENCES = ("forward differences", "central differences")


def _cheap(result) -> Found:
    ratios = np.median(result.ratios["reverse mode"], axis=1)
    return Found(
        [
            Number("parameters of the largest network", int(result.parameters[-1])),
            Number("time of a gradient over that of the function there", float(ratios[-1]), "<=",
                   _cost_figure.CHEAP),
            Number("the same, largest of all networks", float(ratios.max())),
        ]
    )  # fmt: skip


def _grows(result) -> Found:
    numbers = [Number("exponent of one evaluation of the loss", result.value.time_exponent)]
    for name in ("reverse mode", "symbolic, program"):
        exponent = only(result.curves, name=name).time_exponent
        numbers.append(Number(f"exponent of the time, {name}", exponent, "<=", 1 + FITTED))
    for name in (*DIFFERENCES, "forward mode"):
        exponent = only(result.curves, name=name).time_exponent
        numbers.append(Number(f"exponent of the time, {name}", exponent, ">=", 2 - FITTED))
    return Found(numbers)


def _practical(result) -> Found:
    reverse = only(result.curves, name="reverse mode")
    numbers = []
    for name in DIFFERENCES:
        curve = only(result.curves, name=name)
        largest = int(curve.parameters[-1])
        there = list(reverse.parameters).index(largest)
        ratio = float(np.median(curve.seconds[-1]) / np.median(reverse.seconds[there]))
        numbers += [
            Number(f"{name}: time over that of backpropagation, {largest:,} parameters", ratio,
                   ">", MUCH),
            Number(f"{name}: parameters at which a gradient takes a second",
                   float(curve.reaches[0])),
        ]  # fmt: skip
    return Found([*numbers, Number("backpropagation: parameters it reached",
                                   int(reverse.parameters[-1]))])  # fmt: skip


def _formula_ends(result) -> Found:
    formula, program = (
        only(result.curves, name=f"symbolic, {route}") for route in ("expression", "program")
    )
    return Found(
        [
            Number("parameters of the largest formula within its budget",
                   int(formula.parameters.max(initial=0)), "<", int(result.parameters[-1])),
            Number("first network whose formula was beyond it", formula.stopped_at, ">", 0),
        ],
        "the gradient is one formula for each entry, and not a program with a line for each "
        "operation",
        [
            Number("parameters of the largest program", int(program.parameters.max(initial=0)),
                   "<", int(result.parameters[-1])),
        ],
    )  # fmt: skip


CLAIMS = (
    Claim(26, "Differences are practical for few parameters.", "cost", _practical),
    Claim(27, "Symbolic differentiation is practical for few parameters.", "cost", _formula_ends),
    Claim(28, "A gradient by backpropagation costs a few evaluations of the function.", "cost",
          _cheap),
    Claim(28, "Its time grows with the parameters, that of other ways with their square.", "cost",
          _grows),
)  # fmt: skip
