"""Local derivatives: of every operation by each of its operands."""

import functools
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from diffcompare.automatic.graph import symbols
from diffcompare.automatic.graph.plan import Known, Plan, Use

# Entries. A Jacobian that has more of them is not formed.
LARGEST = 4096
# JAX differentiates these by all operands or fails: a matrix comes with its factors.
_TOGETHER = frozenset({"custom_linear_solve"})

LocalKind: TypeAlias = Literal["scalar", "diagonal", "jacobian", "map", "cut"]


class Local(NamedTuple):
    """The derivative of an operation by one of its operands.

    Attributes:
        kind: What `value` holds. "scalar": a number. "diagonal": the diagonal of the
            Jacobian, in the shape of the operation. "jacobian": all of it. "map": nothing,
            because it is too large or a tuple's. "cut": nothing, because no derivative goes
            through.
        shape: Of the Jacobian, `(*output, *operand)`, whether it was formed or not.
        value: An array, or None.
    """

    kind: LocalKind
    shape: tuple[int, ...]
    value: Any


def kinds(plan: Plan) -> dict[int, tuple[LocalKind, tuple[int, ...]]]:
    """Returns the kind and the shape of the local derivative at every use by a node."""
    return {n: _kind(plan, use) for n, use in enumerate(plan.uses) if use.target >= 0}


def _kind(plan: Plan, use: Use) -> tuple[LocalKind, tuple[int, ...]]:
    source, target = plan.nodes[use.source], plan.nodes[use.target]
    if source.aval is None or target.aval is None:
        return "map", ()
    shape = (*target.aval.shape, *source.aval.shape)
    if use.kind != "differentiable":
        return "cut", shape
    if not shape:
        is_complex = any(jnp.iscomplexobj(node.aval) for node in (source, target))
        return ("map" if is_complex else "scalar"), shape
    if any(jnp.issubdtype(n.aval.dtype, jnp.complexfloating) for n in (source, target)):
        return "map", shape
    same = source.aval.shape == target.aval.shape
    if same and (target.eqn is None or symbols.is_elementwise(target.eqn)):
        return ("diagonal" if target.operation != "stack" else "map"), shape
    return ("jacobian" if 0 < functools.reduce(int.__mul__, shape) <= LARGEST else "map"), shape


def evaluate(plan: Plan, values: dict[int, Any]) -> dict[int, Any]:
    """Returns the local derivative at every use where there is something to return.

    Args:
        plan: The recorded function.
        values: Of every node.
    """
    return {
        number: _derivative(plan, number, values, kind)
        for number, (kind, _) in kinds(plan).items()
        if kind in ("scalar", "diagonal", "jacobian")
    }


def _derivative(plan: Plan, number: int, values: dict[int, Any], kind: LocalKind) -> Any:
    use = plan.uses[number]
    node = plan.nodes[use.target]
    assert node.step is not None
    step = plan.steps[node.step]
    operands: list[Any] = [
        slot.value if isinstance(slot, Known) else None if taken is None
        else values.get(plan.uses[taken].source)
        for slot, taken in zip(step.inputs, step.uses, strict=True)
    ]  # fmt: skip
    if any(operand is None for operand in operands):  # a part of a tuple
        return jnp.ones(node.aval.shape, node.aval.dtype)
    output = step.outputs.index(node.slot)

    # By the reverse rule: it is the one that the gradients are made of.
    places = varied(node.eqn, operands, use.position)

    def of_operands(*varied):
        full = list(operands)
        for place, x in zip(places, varied, strict=True):
            full[place] = x
        return step.apply(*full)[output]

    value, pullback = jax.vjp(of_operands, *(operands[place] for place in places))
    own = places.index(use.position)
    if kind != "jacobian":
        return pullback(jnp.ones_like(value))[own]
    rows = jnp.eye(value.size, dtype=value.dtype).reshape(-1, *value.shape)
    jacobian = jax.vmap(pullback)(rows)[own]
    return jacobian.reshape(*value.shape, *operands[use.position].shape)


def varied(eqn: JaxprEqn | None, operands: list[Any], position: int) -> list[int]:
    """Returns the operands by which an operation is differentiated to have one of them."""
    if eqn is None or eqn.primitive.name not in _TOGETHER:
        return [position]
    return [
        place
        for place, operand in enumerate(operands)
        if jnp.issubdtype(operand.dtype, jnp.inexact)
    ]
