"""What a recorded function consists of."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

NodeKind: TypeAlias = Literal["argument", "constant", "operation", "tuple"]
WireKind: TypeAlias = Literal["differentiable", "integer", "stopped", "no rule"]

RULES = ("custom_jvp_call", "custom_vjp_call")
# Operations that JAX cannot differentiate backwards.
_WITHOUT_RULE = frozenset({"io_callback", "pure_callback", "while"})


class Known(NamedTuple):
    """A number that is written in the program; it is part of the operation that uses it."""

    value: Any


class Ref(NamedTuple):
    """A value while the function is recorded."""

    slot: int  # which value of the straight line
    node: int  # which node it belongs to


class Step(NamedTuple):
    """One step of the straight line."""

    apply: Callable[..., Sequence[Any]]  # of the arrays of its inputs; returns its outputs
    inputs: tuple[int | Known, ...]  # slots
    outputs: tuple[int, ...]  # slots
    uses: tuple[int | None, ...]  # the use that each input is


class Use(NamedTuple):
    """A value that an operation takes."""

    source: int  # a node
    target: int  # a node; -1 for the custom rule of an opened box
    position: int
    kind: WireKind
    is_counted: bool  # whether the gradient of the source is a sum over this and its likes


class Box(NamedTuple):
    """A function that was opened."""

    name: str
    kind: str  # the primitive that called it
    parent: int | None


@dataclasses.dataclass
class NodeRecord:
    """What is known of a node before there are numbers."""

    kind: NodeKind
    operation: str
    name: str
    symbol: str
    aval: Any  # None for a tuple
    box: int | None
    slot: int
    is_named: bool = False
    step: int | None = None
    eqn: JaxprEqn | None = None
    uses: list[int] = dataclasses.field(default_factory=list)


class Plan(NamedTuple):
    """A recorded function."""

    nodes: list[NodeRecord]
    uses: list[Use]
    steps: list[Step]
    boxes: list[Box]
    entries: list[int]  # the nodes of the arguments, then of the constants
    constants: list[Any]
    outputs: list[Ref | Known]
    conditions: list[int]  # the slots of the indices that chose the branches which were opened
    unresolved: int | None  # the slot of the first index that is not known yet


def is_inexact(aval: Any) -> bool:
    """Returns whether a value of this kind can have a derivative; False for None, a tuple."""
    return aval is not None and jnp.issubdtype(aval.dtype, jnp.inexact)


def is_dropped(variable: Any) -> bool:
    """Returns whether nobody reads an output of an equation."""
    return type(variable).__name__ == "DropVar"


def is_nothing(eqn: JaxprEqn) -> bool:
    """Returns whether an equation leaves its operand as it is."""
    if eqn.primitive.name in ("copy", "copy_p"):
        return True
    same = eqn.invars and eqn.invars[0].aval.dtype == eqn.outvars[0].aval.dtype  # type: ignore[attr-defined]
    return eqn.primitive.name == "convert_element_type" and bool(same)


def closed_over(eqn: JaxprEqn | None) -> int:
    """Returns how many operands, the first, a function with a rule closes over.

    The rule says nothing of them, and JAX refuses to differentiate by them.
    """
    if eqn is None or eqn.primitive.name not in RULES:
        return 0
    return eqn.params.get("num_consts", 0)


def wire_kind(
    source: Any, targets: Sequence[Any], operation: str, is_closed_over: bool = False
) -> WireKind:
    """Returns whether a derivative goes through a wire, and if not, why.

    Args:
        source: The kind of value that it carries; None for a tuple.
        targets: The kinds of values that are made of it.
        operation: The primitive that makes them.
        is_closed_over: See `closed_over`.
    """
    if operation == "stop_gradient":
        return "stopped"
    if not any(map(is_inexact, targets)) or (source is not None and not is_inexact(source)):
        return "integer"
    return "no rule" if is_closed_over or operation in _WITHOUT_RULE else "differentiable"
