"""Claims about local derivatives, both passes, and Jacobians: rows 29 to 35 and 37 to 41."""

import itertools
import math
from collections import defaultdict

import numpy as np

from experiments._claims.verdict import Claim, Found, Number, only

DOUBLE = float(np.finfo(np.float64).eps)
# What central differences leave of a function of size one, with a factor for its derivatives.
CENTRAL = 10 * DOUBLE ** (2 / 3)
# The tables show six digits: each may be rounded by half a unit of the last.
SIX_DIGITS = 1e-5


def _apart(found, truth) -> float:
    return float(np.max(np.abs(found - truth)) / np.max(np.abs(truth)))


def _rounding(result) -> float:
    # Each entry of the product is a sum along every inner dimension.
    return sum(factor.matrix.shape[1] for factor in result.chain[:-1]) * DOUBLE


def _product(result) -> Found:
    gradient = result.gradient.reshape(1, -1)
    return Found(
        [
            Number("factors", len(result.chain)),
            Number("product against jax.grad, relative", _apart(result.product, gradient), "<=",
                   _rounding(result)),
        ]
    )  # fmt: skip


def _local(result) -> Found:
    return Found([Number(f"{each.formula}: error", each.error, "=", 0.0) for each in result.chain])


def _at_the_kink(result) -> Found:
    slopes = only(result.activations, name="ReLU").at_zero
    numbers = {
        method: Number(f"ReLU at 0, {method}", slope, "=", 1.0) for method, slope in slopes.items()
    }
    agree = [number for number in numbers.values() if number.is_kept]
    others = [number for number in numbers.values() if not number.is_kept]
    names = ", ".join(name for name, number in numbers.items() if number.is_kept)
    if not agree:
        return Found(others)
    return Found(agree, f"the method is one of {names}; at a kink a convention decides", others)


def _factors(row: dict[str, str], column: str) -> dict[str, float]:
    """Returns the numbers in a cell of the backward pass, such as `"w2: 40; g: 16"`."""
    parts = (part.partition(": ") for part in row[column].split("; ") if part)
    return {name: float(value) for name, _, value in parts}


def _scalar(result) -> Found:
    example = only(result.examples, name="scalar")
    rows = {row["node"]: row for row in example.rows}
    weight = _factors(rows["f"], "local derivatives")["w1"]
    relu = _factors(rows["g"], "local derivatives")["f"]
    product = _factors(rows["ŷ"], "local derivatives")["g"]
    upstream = float(rows["ŷ"]["upstream"])
    return Found(
        [
            Number("dL/dw1, against the product of the factors", float(example.gradients["w1"]),
                   "=", weight * relu * product * upstream),
            Number("x", weight, "=", 5.0),
            Number("derivative of the ReLU", relu, "=", 1.0),
            Number("w2", product, "=", 2.0),
            Number("dL/dŷ", upstream, "=", 8.0),
            Number("dL/dw2", float(example.gradients["w2"])),
            Number("largest difference from jax.grad, relative", example.error, "=", 0.0),
        ]
    )  # fmt: skip


def _three_levels(result) -> Found:
    truth = {"w1": 5.0 * 1.0 * 2.0 * 8.0, "w2": 5.0 * 8.0}
    exact: list[Number] = []
    others: list[Number] = []
    for each in result.levels:
        where = f"{each.level}, {each.method}"
        for name, gradient in each.gradients.items():
            # A one-sided quotient of a parabola is wrong by half of its step times the curvature.
            if each.method.startswith("forward difference"):
                error = abs(gradient - truth[name])
                others.append(Number(f"{where}: error of dL/d{name}", error, "=", 0.0))
            else:
                exact.append(Number(f"{where}: dL/d{name}", gradient, "=", truth[name]))
    levels = {each.level for each in result.levels}
    return Found(
        [*exact, Number("levels", len(levels), "=", 3)],
        "the difference is a central one, as the loss is a parabola in each weight",
        others,
    )


def _saved(result) -> Found:
    numbers = []
    for example in result.examples:
        nodes = len(example.rows)
        numbers += [
            Number(f"{example.name}: values saved", len(example.residuals), ">", 0),
            Number(f"{example.name}: nodes", nodes, ">=", len(example.residuals)),
        ]
    return Found(numbers)


def _backward(result) -> Found:
    numbers = []
    for name in ("scalar", "sigmoid"):
        example = only(result.examples, name=name)
        received: dict[str, float] = defaultdict(float)
        products = []
        for row in example.rows:
            upstream = float(row["upstream"])
            local, passed = (_factors(row, column) for column in ("local derivatives", "passes on"))
            products += [abs(passed[key] - upstream * local[key]) for key in local]
            for key, value in passed.items():
                received[key] += value
        gradients = {row["node"]: float(row["gradient"]) for row in example.rows}
        sums = [abs(gradients[node] - value) for node, value in received.items()]
        scale = max(map(abs, gradients.values()))
        numbers += [
            Number(f"{name}: rows, one for each node", len(example.rows)),
            Number(f"{name}: upstream times local against what is passed on",
                   max(products) / scale, "<=", SIX_DIGITS),
            Number(f"{name}: sum of what is passed on against the gradient", max(sums) / scale,
                   "<=", SIX_DIGITS),
        ]  # fmt: skip
    return Found(numbers)


def _shared(result) -> Found:
    scalar, counts = result.scalar_counts, result.counts
    return Found(
        [
            Number("scalar example: multiplications shared", scalar.shared, "<", scalar.unshared),
            Number("scalar example: each gradient by itself", scalar.unshared),
            Number("deepest network: multiplications shared", int(counts.shared[-1]), "<",
                   int(counts.unshared[-1])),
            Number("deepest network: each matrix by itself", int(counts.unshared[-1])),
            Number("hidden layers of it", int(counts.layers[-1])),
        ]
    )  # fmt: skip


def _own_rule(result) -> Found:
    products = result.products
    numbers = []
    for what, found, truth in (
        ("value less x y", products.values, products.x * products.y),
        ("passed to x less upstream times y", products.by_x, products.upstream * products.y),
        ("passed to y less upstream times x", products.by_y, products.upstream * products.x),
    ):
        numbers += [
            Number(f"{way}: {what}, largest", float(np.max(np.abs(each - truth))), "=", 0.0)
            for way, each in found.items()
        ]
    rules = products.operations.count("custom_vjp_call")
    kept = len({"x", "y"}.symmetric_difference(products.saved))
    return Found(
        [
            *numbers,
            Number("pairs of factors", products.x.size),
            Number("values saved beside x and y, or of these not saved", kept, "=", 0),
            Number("operations with a rule of their own", rules, "=", 1),
            Number("operations in all", len(products.operations), "=", 1),
            *(
                Number(f"scalar example with it: dL/d{name}", gradient, "=",
                       float(only(result.examples, name="scalar").gradients[name]))
                for name, gradient in products.scalar.items()
            ),
        ]
    )  # fmt: skip


def _multiply(result) -> Found:
    off, saved, count = [], [], 0
    for name in ("scalar", "sigmoid"):
        example = only(result.examples, name=name)
        values = {row["node"]: float(row["value"]) for row in example.rows}
        for row in example.rows:
            local = _factors(row, "local derivatives")
            if row["operation"] != "×" or len(local) != 2:
                continue
            count += 1
            passed = _factors(row, "passes on")
            (one, by_one), (other, by_other) = local.items()
            off += [abs(by_one - values[other]), abs(by_other - values[one])]
            upstream = float(row["upstream"])
            saved += [abs(passed[key] - upstream * local[key]) for key in local]
    if not count:
        raise LookupError("a product of two numbers")
    return Found(
        [
            Number("products of two numbers", count),
            Number("local derivative less the other factor, largest", max(off), "<=", SIX_DIGITS),
            Number("passed on less upstream times local, largest", max(saved), "<=", SIX_DIGITS),
        ]
    )


def _layout(result) -> Found:
    matrices = [matrix for each in result.jacobians for matrix in each.found.values()]
    exact = [each.exact for each in result.jacobians for _ in each.found]
    other = sum(a.shape != b.shape for a, b in zip(matrices, exact, strict=True))
    return Found(
        [
            Number("Jacobians", len(matrices)),
            Number("whose shape is not output x input", other, "=", 0),
            Number("largest error of an entry", max(max(each.errors.values())
                                                    for each in result.jacobians), "<=", CENTRAL),
        ]
    )  # fmt: skip


def _jacobian(formula: str):
    def find(result) -> Found:
        errors = only(result.jacobians, formula=formula).errors
        return Found(
            [
                Number(f"{method}: largest error", error, "<=", CENTRAL)
                if method == "numerical"
                else Number(f"{method}: largest error", error, "=", 0.0)
                for method, error in errors.items()
            ]
        )

    return find


def _dimensions(result) -> Found:
    shapes = [factor.matrix.shape for factor in result.chain]
    breaks = sum(a[1] != b[0] for a, b in itertools.pairwise(shapes))
    return Found(
        [
            Number("factors that do not fit the next", breaks, "=", 0),
            Number("df/dW1 less I ⊗ xᵀ, largest", result.chain[-1].error, "=", 0.0),
            Number("product turned around, less the transpose, relative",
                   _apart(result.flipped.T, result.product), "<=", _rounding(result)),
            Number("multiplications from the left", result.by_reverse, "<", result.by_forward),
            Number("multiplications from the right", result.by_forward),
        ]
    )  # fmt: skip


def _sigmoid(result) -> Found:
    example = only(result.examples, name="sigmoid")
    values = {row["node"]: float(row["value"]) for row in example.rows}
    w0, w1, x1, w2, x2 = (values[name] for name in ("w0", "w1", "x1", "w2", "x2"))
    value = 1 / (1 + math.exp(-(w0 + w1 * x1 + w2 * x2)))
    slope = value * (1 - value)
    truth = {"w0": slope, "w1": slope * x1, "x1": slope * w1, "w2": slope * x2, "x2": slope * w2}
    errors = [abs(float(example.gradients[name]) - exact) for name, exact in truth.items()]
    return Found(
        [
            Number("nodes", len(example.rows)),
            Number("the value", value),
            Number("gradient by w1", float(example.gradients["w1"])),
            Number("gradient by x2", float(example.gradients["x2"])),
            # Some ten operations on numbers of size one.
            Number("largest difference from σ (1 - σ) times the other factor", max(errors), "<=",
                   10 * DOUBLE),
        ]
    )  # fmt: skip


CLAIMS = (
    Claim(29, "The product of the local derivatives is the gradient.", "jacobians", _product),
    Claim(30, "The four local derivatives are those of the lecture.", "jacobians", _local),
    Claim(30, "At zero the derivative of the ReLU is one.", "activations", _at_the_kink),
    Claim(31, "The gradient of the scalar example is the product of four factors.",
          "backpropagation", _scalar),
    Claim(31, "All three levels find it, and exactly.", "backpropagation", _three_levels),
    Claim(32, "The forward pass saves what the backward pass needs.", "backpropagation", _saved),
    Claim(33, "Each node passes on its upstream gradient times its local derivatives.",
          "backpropagation", _backward),
    Claim(34, "Gradients share work.", "backpropagation", _shared),
    Claim(35, "Multiply follows its own rule as it is, compiled and mapped.", "backpropagation",
          _own_rule),
    Claim(35, "A product passes to each factor the upstream gradient times the other one.",
          "backpropagation", _multiply),
    Claim(37, "Numerical, symbolic and automatic Jacobians are laid out as output by input.",
          "jacobians", _layout),
    Claim(38, "The Jacobian of W2 g by g is W2.", "jacobians", _jacobian("d(W2 g)/dg = W2")),
    Claim(39, "The Jacobian of f ⊙ g by f is the diagonal of g.", "jacobians",
          _jacobian("d(f ⊙ g)/df = diag(g)")),
    Claim(40, "The factors fit together, and turn around when they are transposed.", "jacobians",
          _dimensions),
    Claim(41, "The values and gradients of the sigmoid example are those of its formula.",
          "backpropagation", _sigmoid),
)  # fmt: skip
