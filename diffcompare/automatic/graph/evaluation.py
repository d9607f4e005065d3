"""Every value and every gradient of a recorded function, by one reverse pass."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import lax

from diffcompare.automatic.graph.plan import RULES, Known, Plan, Ref, Step, is_inexact


class ReverseRuleError(NotImplementedError):
    """An operation between the arguments and the output has no derivative backwards.

    Attributes:
        operation: The name of its primitive.
    """

    def __init__(self, operation: str):
        super().__init__(operation)
        self.operation = operation

    def __str__(self) -> str:
        return (
            "computational_graph needs a reverse-mode rule for every operation between the "
            f"arguments and the output, but '{self.operation}' has none. Give the loop a fixed "
            "number of steps (jax.lax.scan, or fori_loop with constant bounds), or the function "
            "that holds it a rule of its own with jax.custom_vjp, or cut the path with "
            "jax.lax.stop_gradient."
        )


class Numbers(NamedTuple):
    """What the program of a plan returns."""

    values: dict[int, Any]  # of the nodes that are operations
    gradients: dict[int, Any]  # by the nodes with inexact values
    passed: dict[int, Any]  # by each use of a node that has several; see `separate_uses`
    conditions: list[Any]  # the indices of the branches that were opened


def pruned(plan: Plan) -> Plan:
    """Returns the plan without what no output needs."""
    alive = {ref.slot for ref in plan.outputs if isinstance(ref, Ref)} | set(plan.conditions)
    if plan.unresolved is not None:
        alive.add(plan.unresolved)
    kept: list[int] = []
    for number, step in reversed(list(enumerate(plan.steps))):
        if not alive.isdisjoint(step.outputs):
            alive.update(slot for slot in step.inputs if not isinstance(slot, Known))
            kept.append(number)
    kept.reverse()
    steps = {old: new for new, old in enumerate(kept)}
    nodes: dict[int, int] = {}
    for old, node in enumerate(plan.nodes):
        is_read = node.slot in alive if node.step is None else node.step in steps
        if is_read or node.kind == "argument":
            nodes[old] = len(nodes)
    used = sorted(use for old in kept for use in plan.steps[old].uses if use is not None)
    uses = {old: new for new, old in enumerate(used)}
    for old in nodes:
        node = plan.nodes[old]
        node.step = None if node.step is None else steps[node.step]
        node.uses = [uses[use] for use in node.uses]
    entries = [(old, position) for position, old in enumerate(plan.entries) if old in nodes]
    first = len(plan.entries) - len(plan.constants)
    return plan._replace(
        nodes=[plan.nodes[old] for old in nodes],
        uses=[_renumbered(plan.uses[use], nodes) for use in used],
        steps=[
            step._replace(uses=tuple(None if use is None else uses[use] for use in step.uses))
            for step in (plan.steps[old] for old in kept)
        ],
        entries=[nodes[old] for old, _ in entries],
        constants=[
            plan.constants[position - first] for _, position in entries if position >= first
        ],
        outputs=[
            ref._replace(node=nodes[ref.node]) if isinstance(ref, Ref) else ref
            for ref in plan.outputs
        ],
    )


def _renumbered(use: Any, nodes: dict[int, int]) -> Any:
    return use._replace(source=nodes[use.source], target=nodes.get(use.target, -1))


def paths(plan: Plan) -> tuple[list[bool], list[bool]]:
    """Returns for each node whether it depends on an argument, and whether an output on it.

    Only what can be differentiated counts.

    Raises:
        ReverseRuleError: An operation between an argument and an output has no rule.
    """
    depends = [node.kind == "argument" and is_inexact(node.aval) for node in plan.nodes]
    reaches = [False] * len(plan.nodes)
    for number, node in enumerate(plan.nodes):
        for use in (plan.uses[use] for use in node.uses):
            is_open = use.kind in ("differentiable", "no rule")
            depends[number] |= is_open and depends[use.source]
    for ref in plan.outputs:
        if isinstance(ref, Ref):
            reaches[ref.node] |= is_inexact(plan.nodes[ref.node].aval)
    for number, node in reversed(list(enumerate(plan.nodes))):
        for use in (plan.uses[use] for use in node.uses):
            reaches[use.source] |= use.kind == "differentiable" and reaches[number]
            is_needed = use.kind == "no rule" and reaches[number] and depends[use.source]
            # A function with a rule of its own may hold what has none.
            if is_needed and not _within_rule(plan, node.box):
                raise ReverseRuleError(node.operation)
    for use in plan.uses:
        if use.target < 0 and use.kind == "no rule" and depends[use.source]:
            raise ReverseRuleError("what a function with a rule of its own closes over")
    return depends, reaches


def _within_rule(plan: Plan, box: int | None) -> bool:
    while box is not None:
        if plan.boxes[box].kind in RULES:
            return True
        box = plan.boxes[box].parent
    return False


def separate_uses(plan: Plan) -> list[int]:
    """Returns the uses whose share of a gradient is asked for by itself.

    Where a node has one use, the share is the whole gradient.
    """
    counts = [0] * len(plan.nodes)
    for use in plan.uses:
        counts[use.source] += use.is_counted
    for ref in plan.outputs:
        if isinstance(ref, Ref):
            counts[ref.node] += 1
    return [
        number
        for number, use in enumerate(plan.uses)
        if use.kind == "differentiable"
        and plan.nodes[use.source].kind != "tuple"
        and (counts[use.source] > 1 or not use.is_counted)
    ]


def evaluate(plan: Plan, entries: Sequence[Any], seeds: Sequence[Any]) -> Numbers:
    """Returns all numbers of a plan, from one evaluation and one reverse pass.

    Every value has a perturbation of zero added to it, and every use of a value that has
    several. The cotangents of the perturbations are the gradients.

    Args:
        plan: What to compute.
        entries: The arguments and the constants.
        seeds: The cotangent of each inexact output, in order.
    """
    computed = [n for n, node in enumerate(plan.nodes) if node.kind == "operation"]
    floating = [n for n in computed if is_inexact(plan.nodes[n].aval)]
    separate = separate_uses(plan)
    node_zeros = {n: _zero(plan.nodes[n].aval) for n in floating}
    use_zeros = {u: _zero(plan.nodes[plan.uses[u].source].aval) for u in separate}
    given = dict(zip(plan.entries, entries, strict=True))
    inexact = {n: value for n, value in given.items() if is_inexact(plan.nodes[n].aval)}

    def forward(inexact, node_zeros, use_zeros):
        slots = run(plan, {**given, **inexact}, node_zeros, use_zeros)
        outputs = [
            slots[ref.slot]
            for ref in plan.outputs
            if isinstance(ref, Ref) and is_inexact(plan.nodes[ref.node].aval)
        ]
        values = {n: slots[plan.nodes[n].slot] for n in computed}
        return outputs, (values, [slots[slot] for slot in plan.conditions])

    _, pullback, (values, conditions) = jax.vjp(
        forward, inexact, node_zeros, use_zeros, has_aux=True
    )
    of_entries, of_nodes, passed = pullback(list(seeds))
    return Numbers(values, {**of_entries, **of_nodes}, passed, conditions)


def index_of_branch(plan: Plan, entries: Sequence[Any]) -> int:
    """Returns the value of the first index of a branch that is not known yet."""
    slots = run(plan, dict(zip(plan.entries, entries, strict=True)), {}, {})
    assert plan.unresolved is not None
    return int(slots[plan.unresolved])


def run(plan: Plan, given: dict[int, Any], node_zeros: dict, use_zeros: dict) -> dict[int, Any]:
    """Returns the value of every slot.

    Args:
        plan: What to run.
        given: The values of the arguments and constants, by node.
        node_zeros: What is added to the values of nodes.
        use_zeros: What is added where a value is used.
    """
    slots = {plan.nodes[n].slot: value for n, value in given.items()}
    owners = {plan.nodes[n].slot: n for n in node_zeros}
    for step in plan.steps:
        operands = [_operand(plan, slots, step, i, use_zeros) for i in range(len(step.inputs))]
        for slot, value in zip(step.outputs, step.apply(*operands), strict=True):
            slots[slot] = value + node_zeros[owners[slot]] if slot in owners else value
    return slots


def _operand(plan: Plan, slots: dict, step: Step, position: int, use_zeros: dict) -> Any:
    slot, use = step.inputs[position], step.uses[position]
    if isinstance(slot, Known):
        return slot.value
    value = slots[slot]
    if use is None:
        return value
    if plan.uses[use].kind == "no rule":
        return lax.stop_gradient(value)
    return value + use_zeros[use] if use in use_zeros else value


def _zero(aval: Any) -> Any:
    # Minus zero changes no number; plus zero would change the sign of minus zero.
    return lax.full(aval.shape, -0.0, aval.dtype)
