"""A derivation as the text of a Python module."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from diffcompare.symbolic import names
from diffcompare.symbolic.matrix import code, planning
from diffcompare.symbolic.matrix.building import Built
from diffcompare.symbolic.matrix.nodes import Node, coefficient


class Source(NamedTuple):
    """Python code, and the arrays of the program that are too large to stand in it."""

    text: str
    held: tuple[Any, ...]  # the last keyword arguments of the function


def write(
    built: Built,
    leaf_names: Sequence[str],
    wanted: Sequence[int],
    size: int,
    stems: planning.Stems,
) -> Source:
    """Returns the code of a function that gives the value and the gradients.

    Args:
        built: The expressions.
        leaf_names: Of the arguments, then of what the function closes over.
        wanted: The leaves that are differentiated.
        size: How many of the leaves are arguments.
        stems: The letters of generated names.
    """
    defined = [*built.definitions, *built.functions]
    taken = [*defined, *map(code.slope_name, defined), code.NAME, "float"]

    def identifiers(proposed: Sequence[str]) -> list[str]:
        found = names.identifiers(proposed, taken)
        taken.extend(found)
        return found

    ids = identifiers(leaf_names)
    large = {
        node: name
        for node, name in planning.arrays(built.value, built.gradients).items()
        if np.size(built.arrays[node.param]) > code.LARGEST_LITERAL
    }
    named = planning.named(built.names, built.value, built.gradients)
    proposed = [f"{stems.of(n, node.rank)}{n.number}" for node, n in {**large, **named}.items()]
    given = dict(zip([*large, *named], identifiers(proposed), strict=True))
    (loss,) = identifiers([stems.loss])
    slopes = identifiers([f"d{ids[leaf]}" for leaf in wanted])

    variables = {**dict(zip(built.leaves, ids, strict=True)), **given}
    coder = code.Coder(built.functions, variables, built.arrays, built.value.dtype)
    lines = [
        f"{given[node]} = {coder.body(node)}" for node in sorted(named, key=lambda n: n.number)
    ]
    lines.append(f"{loss} = {coder.use(built.value)}")
    for slope, leaf, gradient in zip(slopes, wanted, built.gradients, strict=True):
        lines.append(f"{slope} = {_filled(coder, gradient, built.leaves[leaf], ids[leaf])}")
    lines.append(f"return {loss}, ({', '.join(slopes)}{',' if len(slopes) == 1 else ''})")

    held = [*ids[size:], *(given[node] for node in large)]
    signature = ", ".join([*ids[:size], *(["*", *held] if held else [])])
    head = ["import jax", "import jax.numpy as jnp", "", ""]
    head += [*code.helpers(coder, built.definitions), f"def {code.NAME}({signature}):"]
    text = "\n".join([*head, *(f"    {line}" for line in lines), ""])
    return Source(text, tuple(built.arrays[node.param] for node in large))


def _filled(coder: code.Coder, gradient: Node, leaf: Node, identifier: str) -> str:
    """Returns the code of a gradient in the shape and dtype of its leaf."""
    factor, rest = coefficient(gradient)
    core = rest.args[0] if rest is not None and rest.op == "spread" else rest
    if core is None or core.op == "number":
        number = factor if core is None else factor * core.param
        return f"jnp.full_like({identifier}, {code.literal(number)})"
    text = coder.use(gradient)
    if gradient.dtype != leaf.dtype and gradient.dtype is not None:
        return f"({text}).astype({str(leaf.dtype)!r})"
    return text
