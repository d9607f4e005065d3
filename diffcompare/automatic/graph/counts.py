"""How much work the re-use of upstream gradients saves."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from diffcompare._jaxpr import movement, walk
from diffcompare.automatic.graph import local, symbols
from diffcompare.automatic.graph.plan import Known, Plan

_BY_ENTRY = frozenset(
    {"div", "integer_pow", "mul", "pow", "rem", "select_n", "square"}
)  # one multiplication for each entry of the output


class Multiplications(NamedTuple):
    """Products of upstream gradients and local derivatives, counted by entry.

    A local derivative that is 1, -1 or 0 for all entries, as that of a sum, counts nothing.

    Attributes:
        shared: Of one backward pass, in which every node passes its gradient on once.
        unshared: If the gradient of every parameter were computed by itself, from the output
            to the parameter, along every path.
        forward: Of one forward derivative for each entry of every parameter.
    """

    shared: int
    unshared: int
    forward: int


def count(plan: Plan, reaches: Sequence[bool], parameters: Sequence[int]) -> Multiplications:
    """Returns the counts for the gradient by some arguments.

    Args:
        plan: The recorded function.
        reaches: For each node whether an output depends on it.
        parameters: The numbers of the arguments.
    """
    costs = {
        number: _cost(plan, number)
        for number, use in enumerate(plan.uses)
        if use.kind == "differentiable" and use.target >= 0 and reaches[use.target]
    }
    outgoing: list[list[int]] = [[] for _ in plan.nodes]
    for number in costs:
        outgoing[plan.uses[number].source].append(number)
    alone = [0] * len(plan.nodes)
    for node in reversed(range(len(plan.nodes))):
        alone[node] = sum(costs[use] + alone[plan.uses[use].target] for use in outgoing[node])
    below = [_wires_above(plan, outgoing, parameter) for parameter in parameters]
    shared: set[int] = set().union(*below) if below else set()
    forward = (
        _size(plan.nodes[parameter].aval) * sum(costs[use] for use in uses)
        for parameter, uses in zip(parameters, below, strict=True)
    )
    return Multiplications(
        sum(costs[use] for use in shared), sum(alone[p] for p in parameters), sum(forward)
    )


def _wires_above(plan: Plan, outgoing: list[list[int]], node: int) -> set[int]:
    """Returns the uses on all paths from a node to the outputs."""
    uses: set[int] = set()
    pending = [node]
    while pending:
        for use in outgoing[pending.pop()]:
            if use not in uses:
                uses.add(use)
                pending.append(plan.uses[use].target)
    return uses


def _cost(plan: Plan, number: int) -> int:
    use = plan.uses[number]
    node = plan.nodes[use.target]
    eqn = node.eqn
    if eqn is None or node.operation in (*symbols.ADDITIVE, *movement.MOVED):
        return 0
    if symbols.is_elementwise(eqn):
        return _size(node.aval)
    if node.operation == "dot_general":
        return _of_dot(eqn)
    assert node.step is not None
    step = plan.steps[node.step]
    operands = [
        slot.value if isinstance(slot, Known) else _outline(atom.aval)
        for slot, atom in zip(step.inputs, eqn.invars, strict=True)
    ]  # fmt: skip

    places = local.varied(eqn, operands, use.position)
    if places[0] != use.position and len(places) > 1:
        return 0  # the first operand counts for all of them

    def pullback(*operands):
        def of_operands(*varied):
            full = list(operands)
            for place, x in zip(places, varied, strict=True):
                full[place] = x
            return step.apply(*full)

        return jax.vjp(of_operands, *(operands[place] for place in places))

    cotangents, pull = jax.eval_shape(pullback, *operands)
    return multiplications(jax.make_jaxpr(lambda pull, u: pull(u))(pull, cotangents))


def multiplications(jaxpr: ClosedJaxpr | Jaxpr) -> int:
    """Returns how many numbers a jaxpr multiplies; the body of a `while` counts once.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> multiplications(jax.make_jaxpr(lambda a, x: 2 * (a @ x))(jnp.ones((3, 4)), jnp.ones(4)))
        15
    """
    return sum(_of_equation(eqn) for eqn in walk.close(jaxpr).jaxpr.eqns)


def _of_equation(eqn: Any) -> int:
    name = eqn.primitive.name
    if name == "dot_general":
        return _of_dot(eqn)
    if name == "conv_general_dilated":
        # A weight for each output feature, and for each entry of the window.
        kernel = eqn.invars[1].aval.shape
        features = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return _size(eqn.outvars[0].aval) * _size(eqn.invars[1].aval) // max(features, 1)
    if name in _BY_ENTRY:
        return _size(eqn.outvars[0].aval)
    if name == "scan":
        return eqn.params["length"] * multiplications(walk.scan_parts(eqn).body)
    if name == "cond":
        return max(map(multiplications, walk.branches(eqn)), default=0)
    bodies = [value for value in eqn.params.values() if hasattr(value, "eqns")]
    return sum(multiplications(body) for body in bodies)


def _outline(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _of_dot(eqn: Any) -> int:
    contracted = eqn.params["dimension_numbers"][0][0]
    lengths = [eqn.invars[0].aval.shape[axis] for axis in contracted]
    return _size(eqn.outvars[0].aval) * int(np.prod(lengths, dtype=np.int64))


def _size(aval: Any) -> int:
    return 0 if aval is None else int(np.prod(aval.shape, dtype=np.int64))
