"""A graph as text: its table, and the steps of both passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import numpy as np

from diffcompare.automatic.graph.symbols import number

if TYPE_CHECKING:
    from diffcompare.automatic.graph.local import Local
    from diffcompare.automatic.graph.model import Graph, Node, Wire

COLUMNS = ("node", "operation", "value", "upstream", "gradient", "local derivatives", "passes on")
# Entries. A longer array is summarised.
_LONGEST = 6
_INFIX = ("+", "-", "×", "÷", "@")


class Step(NamedTuple):
    """One step of the two passes.

    Attributes:
        direction: "forward", where the value of the node is computed, or "backward", where its
            gradient is.
        node: The number of the node.
        text: What is computed, with its numbers.
    """

    direction: Literal["forward", "backward"]
    node: int
    text: str


def summary(value: Any, digits: int = 6) -> str:
    """Returns an array in a few words: its entries, or its shape, mean and range.

    Example:
        >>> summary(np.array([0.5, 2.0])), summary(np.arange(12.0).reshape(3, 4))
        ('[0.5, 2]', '(3, 4) mean 5.5, 0 to 11')
    """
    if value is None:
        return ""
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
        return f"{value.shape} {value.dtype}"
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":  # bfloat16 and its like
        array = array.astype(np.float64)
    if array.ndim == 0:
        return number(array[()], digits)
    if array.size <= _LONGEST:
        return _nested(array, digits)
    if array.dtype.kind == "c":
        return f"{array.shape} mean {number(array.mean(), 4)}"
    numbers = array.astype(np.float64)
    unusual = int(np.sum(~np.isfinite(numbers)))
    with np.errstate(invalid="ignore"):
        mean, low, high = (float(f(numbers)) for f in (np.mean, np.min, np.max))
    if unusual:
        finite = numbers[np.isfinite(numbers)]
        mean, low, high = (
            float(f(finite)) if finite.size else np.nan for f in (np.mean, np.min, np.max)
        )
    if low == high and not unusual:
        return f"{array.shape} all {number(low, 4)}"
    text = f"{array.shape} mean {number(mean, 4)}, {number(low, 4)} to {number(high, 4)}"
    return f"{text}, {unusual} not finite" if unusual else text


def _nested(array: np.ndarray, digits: int) -> str:
    if array.ndim == 0:
        return number(array[()], digits)
    return f"[{', '.join(_nested(row, digits) for row in array)}]"


def rows(graph: Graph) -> list[dict[str, str]]:
    """Returns a row for every node in the order of the backward pass, by column."""
    return [dict(zip(COLUMNS, _row(graph, node), strict=True)) for node in reversed(graph.nodes)]


def _row(graph: Graph, node: Node) -> tuple[str, ...]:
    parts = " + ".join(summary(part) for part in node.upstream) if len(node.upstream) > 1 else ""
    upstream = parts or summary(node.gradient)
    return (
        node.name + (" *" if node.outputs else ""),
        node.kind if node.kind in ("argument", "constant") else _in_box(graph, node),
        summary(node.value),
        upstream,
        summary(node.gradient) if node.reaches or node.gradient is None else "0, no path",
        "; ".join(f"{graph[wire.source].name}: {local_text(wire.local)}" for wire in node.inputs),
        "; ".join(f"{graph[wire.source].name}: {_passed_text(node, wire)}" for wire in node.inputs),
    )


def _in_box(graph: Graph, node: Node) -> str:
    if node.box is None or graph.boxes[node.box].kind in ("jit", "pjit"):
        return node.symbol
    return f"{node.symbol} in {graph.boxes[node.box].name}"


def local_text(local: Local) -> str:
    """Returns a local derivative in a few words."""
    if local.kind == "cut":
        return "none"
    if local.kind == "map":
        return f"a map {local.shape}" if local.shape else "a map"
    text = summary(local.value)
    return f"diagonal {text}" if local.kind == "diagonal" else text


def _passed_text(node: Node, wire: Wire) -> str:
    if wire.kind != "differentiable":
        return wire.kind
    if wire.passed is None:
        return "a part"
    return summary(wire.passed) + ("" if wire.adds else " by the body")


def table(graph: Graph, style: Literal["text", "markdown"] = "text") -> str:
    """Returns the table of `rows` as text or Markdown."""
    cells = [list(COLUMNS), *(list(row.values()) for row in rows(graph))]
    if style == "markdown":
        escaped = [[cell.replace("|", "\\|") for cell in line] for line in cells]
        lines = [f"| {' | '.join(line)} |" for line in escaped]
        return "\n".join([lines[0], "|" + " --- |" * len(COLUMNS), *lines[1:]])
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], "", *notes(graph)])


def notes(graph: Graph) -> list[str]:
    """Returns what has to be known to read the table."""
    names = [graph[output].name for output in dict.fromkeys(graph.outputs)]
    seeded = [graph.outputs[output] for output in graph.seeds]
    found = [f"* output of {graph.name}: {', '.join(names)}."]
    if not seeded:
        found.append("No output is a floating-point number, so nothing has a gradient.")
    elif len(seeded) > 1 or graph[seeded[0]].shape != ():
        found.append(
            "The gradients are those of the sum of all floating-point outputs, each times its "
            "weight."
        )
    arguments = [node for node in graph.nodes if node.kind == "argument"]
    if seeded and not any(node.reaches and node.gradient is not None for node in arguments):
        found.append("No output depends on an argument in a way that can be differentiated.")
    return found


class Steps(tuple[Step, ...]):
    """The steps of the two passes; `str` prints a line for each."""

    def __str__(self) -> str:
        return "\n".join(f"{step.direction:8}  {step.text}" for step in self)


def steps(graph: Graph) -> Steps:
    """Returns the steps of the forward pass, node by node, then of the backward pass."""
    forward = [
        Step("forward", node.index, _forward_text(graph, node))
        for node in graph.nodes
        if node.kind not in ("argument", "constant")
    ]
    backward = [
        Step("backward", node.index, _backward_text(graph, node))
        for node in reversed(graph.nodes)
        if node.gradient is not None and node.reaches
    ]
    return Steps((*forward, *backward))


def _forward_text(graph: Graph, node: Node) -> str:
    sources = [graph[wire.source] for wire in node.inputs]
    named = _written(node, [source.name for source in sources])
    if node.kind == "tuple":
        return f"{node.name} = {named}"
    text = f"{node.name} = {named}"
    if sources and all(source.shape == () for source in sources):
        text += f" = {_written(node, [_operand(source) for source in sources])}"
    return f"{text} = {summary(node.value)}"


def _operand(node: Node) -> str:
    text = summary(node.value)
    return f"({text})" if text.startswith("-") else text


def _written(node: Node, operands: Sequence[str]) -> str:
    if node.symbol in _INFIX and len(operands) == 2:
        return f"{operands[0]} {node.symbol} {operands[1]}"
    if node.symbol == "×-1":
        return f"-{operands[0]}"
    if node.symbol[:1] in _INFIX and len(operands) == 1:
        return f"{operands[0]} {node.symbol}"
    if node.operation == "integer_pow" and node.symbol.startswith("x"):
        return f"{operands[0]}{node.symbol[1:]}"
    if node.operation == "part":
        return f"{operands[0]}{node.symbol}"
    if node.symbol.endswith("/x"):
        return f"{node.symbol[:-1]}{operands[0]}"
    name = {"eˣ": "exp", "σ": "sigmoid", "Σ": "sum"}.get(node.symbol, node.symbol)
    return f"{name.removesuffix(', x)').partition('(')[0]}({', '.join(operands)})"


def _backward_text(graph: Graph, node: Node) -> str:
    # A single output has a name that the fraction can show.
    output = graph[graph.outputs[0]].name if len(graph.seeds) == 1 else "sum"
    text = f"d{output}/d{node.name}"
    wires = [w for w in graph.wires if w.source == node.index and w.passed is not None and w.adds]
    if not wires or len(wires) < len(node.upstream):
        start = " + ".join(summary(part) for part in node.upstream)
        return f"{text} = {start}" if len(node.upstream) > 1 else f"{text} = {_short(node)}"
    chain = " + ".join(
        f"d{output}/d{graph[w.target].name} · ∂{graph[w.target].name}/∂{node.name}" for w in wires
    )
    text = f"{text} = {chain}"
    if all(w.local.kind == "scalar" for w in wires):
        factors = (f"{_signed(graph[w.target].gradient)} · {_signed(w.local.value)}" for w in wires)
        text += f" = {' + '.join(factors)}"
    return f"{text} = {_short(node)}"


def _short(node: Node) -> str:
    return summary(node.gradient)


def _signed(value: Any) -> str:
    text = summary(value)
    return f"({text})" if text.startswith("-") else text
