"""From a trace to the expressions of its value and gradients."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare._jaxpr import walk
from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.matrix import functions as library
from diffcompare.symbolic.matrix import planning, reverse, values
from diffcompare.symbolic.matrix.algebra import Algebra
from diffcompare.symbolic.matrix.calls import Definition
from diffcompare.symbolic.matrix.nodes import Node
from diffcompare.symbolic.matrix.reading import ADVICE, READER, Reader
from diffcompare.symbolic.trace import Trace


class Built(NamedTuple):
    """The value and the gradients of a function, as expressions."""

    graph: Algebra
    functions: Mapping[str, library.Function]
    definitions: Mapping[str, Definition]
    leaves: tuple[Node, ...]  # of the arguments, then what the function closes over
    arrays: tuple[Any, ...]
    value: Node
    gradients: tuple[Node, ...]
    layers: Mapping[Node, planning.Name]
    names: Mapping[
        Node, planning.Name
    ]  # those of layers, of their gradients, and of what is shared


def build(
    traced: Trace,
    wanted: Sequence[int],
    convention: Convention,
    assumed: Sequence[int] | None = None,
) -> Built:
    """Returns the expressions of a trace; see `Algebra` for what may be assumed."""
    graph, functions = Algebra(assumed), library.known(convention)
    inner = traced.jaxpr.jaxpr
    reader = Reader(graph, functions, convention, traced.jaxpr)
    avals: list[Any] = [variable.aval for variable in (*inner.invars, *inner.constvars)]
    leaves = [
        graph.make("leaf", (), number, tuple(aval.shape), aval.dtype, number in wanted)
        for number, aval in enumerate(avals)
    ]
    count = len(inner.invars)
    symbols = [values.symbol(leaf) for leaf in leaves]
    outputs = walk.walk(traced.jaxpr, reader, symbols[:count], symbols[count:])
    (output,) = (out for out, flag in zip(outputs, traced.is_active, strict=True) if flag)
    value = output.node
    if value.op == "refused":
        raise reader.refused[value.param]
    if output.shape:
        raise ValueError(
            f"{READER} needs a function with a scalar output, but its shape is {output.shape}. "
            "Reduce it first, for example with jnp.sum."
        )
    value = graph.sum(value)  # of an array with one entry
    layers = planning.layers(value)
    deltas = {
        node: planning.Name("delta", name.number)
        for node, name in layers.items()
        if name.kind == "z" and node is not value
    }
    sources = [leaves[number] for number in wanted]
    gradients = reverse.gradients(graph, functions, value, sources, deltas, _refusal)
    found = dict(layers)
    found.update(planning.shared(value, gradients, found))
    return Built(
        graph, functions, reader.definitions, tuple(leaves), tuple(reader.arrays),
        value, tuple(gradients), layers, found,
    )  # fmt: skip


def _refusal(node: Node) -> Exception:
    return NotImplementedError(f"{READER} has no derivative of the operation '{node.op}'. {ADVICE}")


def distributions(traced: Trace, wanted: Sequence[int]) -> list[int]:
    """Returns the leaves that hold probabilities: entries that sum to 1 along the last axis."""
    found = []
    for number, leaf in enumerate(traced.leaves):
        if number in wanted or isinstance(leaf, jax.core.Tracer) or np.ndim(leaf) not in (1, 2):
            continue
        if not jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating):
            continue
        array = np.asarray(leaf, np.float64)
        # To the rounding of a normalisation in the leaf's own precision.
        eps = float(jnp.finfo(jnp.asarray(leaf).dtype).eps)
        sums = array.sum(axis=-1)
        if array.size and (array >= 0).all() and np.all(abs(sums - 1) <= 4 * eps):
            found.append(number)
    return found
