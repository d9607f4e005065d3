"""A graph in the languages of other programs: DOT, Mermaid, JSON."""

from __future__ import annotations

import html
import json
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from diffcompare.automatic.graph.text import summary

if TYPE_CHECKING:
    from diffcompare.automatic.graph.model import Graph, Node, Wire

# Those of Paul Tol's "bright" and "vibrant" schemes; dark enough on white, and of different
# lightness, so that grey still tells them apart.
GREEN, RED = "#117733", "#CC3311"
# Entries. Of a longer array JSON holds a summary.
_LONGEST = 256
_DOT_STYLES = {"differentiable": "solid", "integer": "dotted", "stopped": "dashed",
               "no rule": "dashed"}  # fmt: skip
_ARROWS = {"differentiable": "-->", "integer": "-. integer .->", "stopped": "-. stopped .->",
           "no rule": "-. no rule .->"}  # fmt: skip


def to_dot(graph: Graph) -> str:
    """Returns the graph in the language of Graphviz."""
    lines = [
        f"digraph {json.dumps(graph.name)} {{",
        '  rankdir=LR; fontname="DejaVu Sans";',
        '  node [shape=box, style=rounded, fontname="DejaVu Sans", fontsize=10];',
        '  edge [color="#555555", arrowsize=0.7, fontname="DejaVu Sans", fontsize=8];',
    ]
    lines += _dot_members(graph, None, "  ")
    lines += [f"  n{w.source} -> n{w.target} [{_dot_wire(w)}];" for w in graph.wires]
    return "\n".join([*lines, "}", ""])


def _dot_members(graph: Graph, box: int | None, indent: str) -> list[str]:
    lines = [f"{indent}n{n.index} [label={_dot_label(n)}];" for n in graph.nodes if n.box == box]
    for number, inner in enumerate(graph.boxes):
        members = _dot_members(graph, number, indent + "  ") if inner.parent == box else []
        if members:
            title = f"{indent}subgraph cluster_{number} {{"
            style = f"{indent}  label={json.dumps(inner.name)}; style=dashed;"
            lines += [title, style, *members, f"{indent}}}"]
    return lines


def _dot_label(node: Node) -> str:
    cells = [
        (GREEN, summary(node.value, 4)),
        ("black", _title(node)),
        (RED, summary(node.gradient, 4)),
    ]
    rows = "".join(
        f'<TR><TD><FONT COLOR="{colour}">{html.escape(text)}</FONT></TD></TR>'
        for colour, text in cells
        if text
    )
    return f'<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0">{rows}</TABLE>>'


def _title(node: Node) -> str:
    return node.name if node.symbol == node.name else f"{node.name}: {node.symbol}"


def _dot_wire(wire: Wire) -> str:
    label = "" if wire.kind == "differentiable" else f", label={json.dumps(wire.kind)}"
    return f"style={_DOT_STYLES[wire.kind]}{label}"


def to_mermaid(graph: Graph) -> str:
    """Returns the graph in the language of Mermaid, which GitHub draws in Markdown."""
    lines = ["flowchart LR", *_mermaid_members(graph, None, "  ")]
    lines += [f"  n{w.source} {_ARROWS[w.kind]} n{w.target}" for w in graph.wires]
    lines.append("  classDef leaf fill:#e8eef7,stroke:#555555,color:#000000")
    lines.append("  classDef operation fill:#ffffff,stroke:#555555,color:#000000")
    for kind, name in (("argument", "leaf"), ("constant", "leaf"), ("operation", "operation"),
                       ("tuple", "operation")):  # fmt: skip
        members = [f"n{node.index}" for node in graph.nodes if node.kind == kind]
        if members:
            lines.append(f"  class {','.join(members)} {name}")
    return "\n".join([*lines, ""])


def _mermaid_members(graph: Graph, box: int | None, indent: str) -> list[str]:
    lines = [_mermaid_node(node, indent) for node in graph.nodes if node.box == box]
    for number, inner in enumerate(graph.boxes):
        members = _mermaid_members(graph, number, indent + "  ") if inner.parent == box else []
        if members:
            title = f'{indent}subgraph b{number}["{_mermaid_text(inner.name)}"]'
            lines += [title, *members, f"{indent}end"]
    return lines


def _mermaid_node(node: Node, indent: str) -> str:
    value, gradient = summary(node.value, 4), summary(node.gradient, 4)
    parts = [
        f"<span style='color:{GREEN}'>{_mermaid_text(value)}</span>" if value else "",
        f"<b>{_mermaid_text(_title(node))}</b>",
        f"<span style='color:{RED}'>{_mermaid_text(gradient)}</span>" if gradient else "",
    ]
    text = "<br/>".join(part for part in parts if part)
    left, right = ("(", ")") if node.kind in ("argument", "constant") else ("[", "]")
    return f'{indent}n{node.index}{left}"{text}"{right}'


def _mermaid_text(text: str) -> str:
    # Brackets, quotes and # mean something to Mermaid; their numbers do not.
    return "".join(f"#{ord(c)};" if c in "\"'#&<>[](){}|`*_" else c for c in text)


def to_json(graph: Graph) -> str:
    """Returns the graph as standard JSON; numbers that are not finite are strings."""
    tree = {
        "name": graph.name,
        "outputs": list(graph.outputs),
        "nodes": [_node(node) for node in graph.nodes],
        "wires": [_wire(wire) for wire in graph.wires],
        "boxes": [box._asdict() for box in graph.boxes],
    }
    return json.dumps(tree, allow_nan=False, ensure_ascii=False, indent=1)


def _node(node: Node) -> dict[str, Any]:
    plain = {
        name: getattr(node, name)
        for name in ("index", "name", "kind", "operation", "symbol", "box", "depends", "reaches")
    }
    return {
        **plain,
        "shape": None if node.shape is None else list(node.shape),
        "dtype": None if node.dtype is None else str(node.dtype),
        "outputs": list(node.outputs),
        "value": _array(node.value),
        "gradient": _array(node.gradient),
        "upstream": [_array(part) for part in node.upstream],
    }


def _wire(wire: Wire) -> dict[str, Any]:
    plain = {name: getattr(wire, name) for name in ("source", "target", "position", "kind", "adds")}
    local = wire.local
    return {
        **plain,
        "local": {"kind": local.kind, "shape": list(local.shape), "value": _array(local.value)},
        "passed": _array(wire.passed),
    }


def _array(value: Any) -> Any:
    if value is None:
        return None
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
        return summary(value)
    array = np.asarray(value)
    if array.size > _LONGEST:
        return {"shape": list(array.shape), "dtype": str(array.dtype), "summary": summary(array)}
    if array.dtype.kind not in "biufc":
        array = array.astype(np.float64)
    return _plain(array.tolist())


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, complex):
        return {"re": _plain(value.real), "im": _plain(value.imag)}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
