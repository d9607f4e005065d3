"""What the forward pass saves for the backward pass."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun

from diffcompare._jaxpr import walk
from diffcompare.automatic.graph import evaluation, symbols
from diffcompare.automatic.graph.plan import Plan, is_inexact

_DEEPEST = 3  # levels of operations that an expression shows
# They leave the number as it is.
_IDENTITIES = ("copy", "copy_p", "name", "optimization_barrier", "reduce_precision")


class Residual(NamedTuple):
    """An array that the backward pass reads.

    Attributes:
        node: The number of the node whose value it is; None where it was made of some.
        expression: The name of the node, or how it was made.
        shape: Of the array.
        dtype: Of the array.
        bytes: How much memory it takes.
    """

    node: int | None
    expression: str
    shape: tuple[int, ...]
    dtype: Any
    bytes: int


def find(jaxpr: ClosedJaxpr, plan: Plan) -> tuple[Residual, ...]:
    """Returns what JAX saves for the gradient by all floating-point arguments.

    Nothing is computed: both the differentiated function and the graph are traced, their
    operations are numbered so that the same operation on the same values has the same
    number, and the saved arrays are looked up among the nodes.
    """
    arguments = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in jaxpr.in_avals]
    numbering = Numbering()
    inputs = [numbering.new("argument") for _ in arguments]

    nodes = [n for n, node in enumerate(plan.nodes) if node.kind == "operation"]
    values = _traced(lambda *args: _values(plan, nodes, args), arguments)
    names: dict[int, int] = {}
    for n, number in zip(plan.entries, inputs, strict=False):
        names.setdefault(number, n)
    for n, number in zip(nodes, walk.walk(values, numbering, inputs), strict=True):
        names.setdefault(number, n)

    saved = _traced(lambda *args: _saved(jaxpr, args), arguments)
    found = walk.walk(saved, numbering, inputs)
    residuals: dict[int, Residual] = {}
    for number, aval in zip(found, saved.out_avals, strict=True):
        expression = _expression(numbering, plan, names, number)
        size = aval.size * aval.dtype.itemsize
        residuals[number] = Residual(names.get(number), expression, aval.shape, aval.dtype, size)
    return tuple(residuals.values())


class Numbering(walk.Interpreter[int]):
    """Gives the same number to the same operation on the same values."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.made: list[tuple[str, tuple[int, ...]]] = []  # operation and operands of a number

    def new(self, text: str, operands: Sequence[int] = (), key: Any = None) -> int:
        """Returns the number of an operation, a new one where its key is new."""
        key = (len(self.made),) if key is None else key
        if key not in self.numbers:
            self.numbers[key] = len(self.made)
            self.made.append((text, tuple(operands)))
        return self.numbers[key]

    def constant(self, value: Any) -> int:
        is_number = not jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended)
        if np.ndim(value) == 0 and is_number and not isinstance(value, jax.core.Tracer):
            text = symbols.number(np.asarray(value)[()])
            return self.new(text, (), ("number", text, str(value.dtype)))
        return self.new("const", (), ("constant", id(value)))

    def equation(self, eqn: JaxprEqn, inputs: list[int]) -> list[int]:
        name = eqn.primitive.name
        if name in _IDENTITIES or _keeps_dtype(eqn):
            return inputs
        # Addresses differ between traces of one function.
        params = re.sub(r" at 0x[0-9a-f]+", "", str(sorted(eqn.params.items(), key=str)))
        text = symbols.operation_name(eqn)
        if name == "integer_pow":
            text = f"pow{eqn.params['y']}"
        several = len(eqn.outvars) > 1
        return [
            self.new(f"{text}[{i}]" if several else text, inputs, (name, params, tuple(inputs), i))
            for i in range(len(eqn.outvars))
        ]


def _keeps_dtype(eqn: JaxprEqn) -> bool:
    if eqn.primitive.name != "convert_element_type":
        return False
    before: Any = eqn.invars[0].aval
    after: Any = eqn.outvars[0].aval
    return before.dtype == after.dtype


def _traced(fun: Any, arguments: Sequence[Any]) -> ClosedJaxpr:
    return jax.make_jaxpr(fun)(*arguments)


def _values(plan: Plan, nodes: Sequence[int], arguments: Sequence[Any]) -> list[Any]:
    entries = [*arguments, *plan.constants]
    slots = evaluation.run(plan, dict(zip(plan.entries, entries, strict=True)), {}, {})
    return [slots[plan.nodes[n].slot] for n in nodes]


def _saved(jaxpr: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    places = [i for i, aval in enumerate(jaxpr.in_avals) if is_inexact(aval)]

    def of_inexact(inexact):
        full = list(arguments)
        for place, value in zip(places, inexact, strict=True):
            full[place] = value
        outputs = jaxpr_as_fun(jaxpr)(*full)
        return [output for output in outputs if jnp.issubdtype(output.dtype, jnp.inexact)]

    # The pullback is a pytree; its leaves are what it holds on to.
    _, pullback = jax.vjp(of_inexact, [arguments[place] for place in places])
    return jax.tree.leaves(pullback)


def _expression(
    numbering: Numbering, plan: Plan, names: dict[int, int], number: int, depth: int = 0
) -> str:
    if number in names:
        return plan.nodes[names[number]].name
    text, operands = numbering.made[number]
    if not operands:
        return text
    if depth == _DEEPEST:
        return f"{text}(...)"
    parts = [_expression(numbering, plan, names, operand, depth + 1) for operand in operands]
    return f"{text}({', '.join(parts)})"
