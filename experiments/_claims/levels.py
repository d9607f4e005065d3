"""Claims about the three levels of differentiation: rows 25 to 28."""

import math
from typing import Any

import numpy as np

from experiments._claims.verdict import Claim, Found, Number, only

DOUBLE = float(np.finfo(np.float64).eps)
# A gradient with an error above this has fewer than two right digits.
TWO_DIGITS = 0.01
# Of the exponents 1/2 and 2/3 in eps: so much may the size of the function's derivatives change.
EXPONENT = 0.1
# Rounding of a short program, in units of eps, in the norm of the whole gradient.
A_FEW = 16.0
PRECISIONS = ("float32", "float64")


def _eps(dtype: str) -> float:
    return float(np.finfo(dtype).eps)


def _closed_forms(result) -> Found:
    numbers = []
    for case in result.cases:
        name = f"{case.layers} layers, {case.loss}"
        numbers += [
            Number(f"{name}: formulas", len(case.formulas), "=", case.layers),
            # Each node rounds some times; the nodes are the operations on matrices.
            Number(f"{name}: largest relative error against jax.grad", case.error, "<=",
                   A_FEW * case.operations * DOUBLE),
        ]  # fmt: skip
    return Found(numbers)


def _best_step(result) -> Found:
    numbers = []
    for dtype in PRECISIONS:
        panel = only(result.panels, network="tanh", dtype=dtype)
        for scheme, power in (("forward", 1 / 2), ("central", 2 / 3)):
            best = only(panel.curves, scheme=scheme).best_error
            exponent = math.log(best) / math.log(_eps(dtype))
            numbers += [
                Number(f"{dtype}: best error, {scheme}", best),
                Number(f"{dtype}: its exponent in eps less {power:.2g}", abs(exponent - power),
                       "<=", EXPONENT),
            ]  # fmt: skip
    return Found(numbers)


def _never_as_good(result) -> Found:
    numbers = []
    for panel in result.panels:
        if panel.network == "tanh":
            best = min(
                only(panel.curves, scheme=name).best_error for name in ("forward", "central")
            )
            numbers.append(
                Number(f"{panel.dtype}: best error over that of jax.grad", best / panel.automatic,
                       ">", 1.0)
            )  # fmt: skip
    return Found(numbers)


def _lecture_step(result) -> Found:
    errors = {
        dtype: [
            Number(f"{dtype}: error at h = 1e-6, {scheme}",
                   only(only(result.panels, network="tanh", dtype=dtype).curves,
                        scheme=scheme).lecture_error, ">", TWO_DIGITS)
            for scheme in ("forward", "central")
        ]
        for dtype in PRECISIONS
    }  # fmt: skip
    return Found(
        errors["float32"],
        "numbers have 32 bits, the default of JAX; with 64 bits the same step is a good one",
        errors["float64"],
    )


def _no_truncation(result) -> Found:
    tanh, relu = (only(result.panels, network=name, dtype="float64") for name in ("tanh", "relu"))
    before = np.flatnonzero(result.steps <= relu.first_kink)[0]
    errors = {panel.network: only(panel.curves, scheme="central").errors for panel in (tanh, relu)}
    rounding = only(relu.curves, scheme="central").rounding[before]
    return Found(
        [
            Number("largest step before a kink is crossed", float(result.steps[before])),
            # Truncation would exceed what rounding leaves by orders of magnitude.
            Number("ReLU: error of central differences there", float(errors["relu"][before]), "<=",
                   float(10 * rounding)),
        ],
        "the function is piecewise quadratic, as this loss is with ReLU, and no kink is crossed",
        [
            Number("tanh: error at the same step", float(errors["tanh"][before]), "<=",
                   float(10 * rounding)),
            Number("ReLU: largest error beyond the kink", float(errors["relu"][:before].max()),
                   "<=", float(10 * rounding)),
        ],
    )  # fmt: skip


def _evaluations(result) -> Found:
    forward = only(result.runs, label="ForwardDifference").passes
    central = only(result.runs, label="CentralDifference").passes
    n = result.parameters
    return Found(
        [
            Number("N, the parameters", n),
            Number("evaluations, central differences and the value", central, "=", 2 * n + 1),
            Number("evaluations, forward differences", forward, ">=", n + 1),
            # A few for each of the arrays, to find steps.
            Number("of these, share beyond N + 1", (forward - n - 1) / forward, "<=", 0.01),
        ]
    )


def _trains(result) -> Found:
    base = only(result.runs, label="ReverseMode").loss[-1]
    # A twentieth is less than another seed changes.
    ratios = {
        run.label: Number(f"{run.label}: last loss over that of backpropagation",
                          float(run.loss[-1] / base), "<=", 1.05)
        for run in result.runs
        if "Difference" in run.method
    }  # fmt: skip
    suitable = [number for name, number in ratios.items() if "1e-6" not in name]
    single = [number for name, number in ratios.items() if "1e-6" in name]
    return Found(
        suitable, "the step suits the precision, which h = 1e-6 in float32 does not", single
    )


def _bounds(result) -> Found:
    covered = (result.error <= result.bound).mean(axis=2)
    numbers = [
        Number(f"{kind}: share of errors within the bound", float(share), ">=", 0.98)
        for kind, share in zip(result.kinds, covered[0], strict=True)
    ]
    others = [
        Number(f"least such share of {tool}", float(least))
        for tool, least in zip(result.tools[1:], covered[1:].min(axis=1), strict=True)
    ]
    return Found([*numbers, *others])


def _black_box(result) -> Found:
    shares = {
        name: float(np.median(only(result.measured, name=name).seconds[-1]) / result.limit[-1])
        for name in ("dense", "incremental")
    }
    # What is well below the time of 2 N evaluations does not evaluate the function 2 N times.
    return Found(
        [
            Number("parameters", int(result.weights[-1])),
            Number("black box: time over that of 2 N evaluations", shares["dense"], ">=", 0.5),
        ],
        "the function is a black box; where its operations are known, only what a parameter "
        "changes is computed again",
        [Number("incremental: the same", shares["incremental"], ">=", 0.5)],
    )


def _accurate(result) -> Found:
    numbers, by_differences = [], []
    for panel in result.panels:
        eps, name = _eps(panel.dtype), f"{panel.problem}, {panel.dtype}"
        symbolic, central = (
            only(panel.series, method=method).relative / eps
            for method in ("Symbolic, program", "CentralDifference")
        )
        numbers.append(Number(f"{name}: error in eps", symbolic, "<=", A_FEW))
        by_differences.append(central)
    cancelling = [
        Number(f"{each.function} at {each.x:g}: error in eps",
               each.relative["Symbolic, program"] / DOUBLE, "<=", A_FEW)
        for each in result.failures
    ]  # fmt: skip
    least = Number("central differences: least error in eps", min(by_differences), ">", A_FEW)
    return Found([*numbers, least], "the formula does not cancel or overflow", cancelling)


def _tedious(result) -> Found:
    before, last = result.logistic[-2:]
    function = last.function / before.function
    stopped = [size.size for size in (*result.widths, *result.depths) if size.naive < 0]
    return Found(
        [
            Number(f"l_{last.size}: operations of the function", last.function),
            Number(f"l_{last.size}: operations of the derivative", last.naive, ">", last.function),
            Number("derivative: factor from one iterate to the next", last.naive / before.naive,
                   ">", function),
            Number("networks whose formula outgrew its budget", len(stopped), ">", 0),
        ],
        "the derivative is written out as one formula; with a line for each operation it stays as "
        "short as the function",
        [
            Number("program: factor from one iterate to the next", last.program / before.program,
                   ">", function),
        ],
    )  # fmt: skip


def _any_width(result) -> Found:
    by_width, by_depth = result.by_width, result.by_depth
    per_layer = np.diff(by_depth.operations) / np.diff(by_depth.sizes)
    return Found(
        [
            Number("widest network: weights", int(by_width.weights.max())),
            Number("nodes: most over fewest between widths",
                   float(by_width.operations.max() / by_width.operations.min()), "=", 1.0),
            Number("nodes for another layer, least", float(per_layer.min())),
            Number("nodes for another layer, most", float(per_layer.max()), "=",
                   float(per_layer.min())),
        ]
    )  # fmt: skip


def _passes(result) -> Found:
    runs = {run.label: run for run in result.runs}
    try:
        reverse, forward, central = (
            runs[label].passes for label in ("ReverseMode", "ForwardMode", "CentralDifference")
        )
    except KeyError as error:
        raise LookupError(f"label {error.args[0]}") from error
    return Found(
        [
            Number("parameters", result.parameters),
            Number("passes of reverse mode", reverse, "=", 2),
            Number("passes of forward mode", forward, ">", reverse),
            Number("evaluations of central differences", central, ">", reverse),
        ]
    )


def _independent_of_size(result) -> Found:
    def exponent(seconds: Any) -> float:
        growth = np.median(seconds[-1]) / np.median(seconds[0])
        return float(np.log(growth) / np.log(result.weights[-1] / result.weights[0]))

    reverse = exponent(only(result.measured, name="reverse mode").seconds)
    dense = exponent(only(result.measured, name="dense").seconds)
    return Found(
        [
            # In one evaluation the time grows with N or less; N of them would grow as its square.
            Number("exponent of the time in N, reverse mode", reverse, "<=", 1.0),
            Number("exponent of the time in N, differences", dense, ">", 1.0),
        ]
    )


def _linear_in_depth(result) -> Found:
    counts = result.counts
    second = np.abs(np.diff(counts.shared, 2))
    return Found(
        [
            Number("largest deviation from growth in proportion to the layers",
                   int(second.max(initial=0)), "=", 0),
            Number("multiplications for a parameter of the deepest network",
                   float(counts.shared[-1] / counts.parameters[-1])),
            Number("the same, one forward derivative for each parameter",
                   float(counts.forward[-1] / counts.parameters[-1]), ">",
                   float(counts.shared[-1] / counts.parameters[-1])),
        ]
    )  # fmt: skip


CLAIMS = (
    Claim(25, "The gradient by each weight matrix has a closed form, equal to that of JAX.",
          "closed_forms", _closed_forms),
    Claim(26, "With the best step a forward difference keeps half of the digits, a central one "
          "two thirds.", "step_size", _best_step),
    Claim(26, "No step makes a finite difference as accurate as automatic differentiation.",
          "step_size", _never_as_good),
    Claim(26, "A step of one millionth is not very accurate.", "step_size", _lecture_step),
    Claim(26, "Central differences have no truncation error.", "step_size", _no_truncation),
    Claim(26, "N parameters take N + 1 evaluations forward, and 2 N central.",
          "training_by_method", _evaluations),
    Claim(26, "Differences train as well as backpropagation.", "training_by_method", _trains),
    Claim(26, "A numerical derivative can say how wrong it may be.", "error_bounds", _bounds),
    Claim(26, "A gradient by differences costs 2 N evaluations.", "difference_cost", _black_box),
    Claim(27, "A symbolic gradient is accurate to rounding.", "accuracy", _accurate),
    Claim(27, "The formula of a derivative swells.", "expression_swell", _tedious),
    Claim(27, "In matrices a derivation is as long as the network is deep, at any width.",
          "closed_forms", _any_width),
    Claim(28, "Backpropagation takes one pass forward and one back, whatever the number of "
          "parameters.", "training_by_method", _passes),
    Claim(28, "Its time grows with the function's, that of differences with its square.",
          "difference_cost", _independent_of_size),
    Claim(28, "Its work grows in proportion to the graph.", "backpropagation", _linear_in_depth),
)  # fmt: skip
