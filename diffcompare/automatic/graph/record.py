"""What a traced function consists of: nodes, the uses of each, and the steps that compute them.

The walk over the jaxpr is made once, for the structure alone. What it records is a straight
line of steps, which `evaluation` runs on numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import lifted, walk
from diffcompare.automatic.graph import symbols
from diffcompare.automatic.graph.plan import (
    RULES,
    Box,
    Known,
    NodeKind,
    NodeRecord,
    Plan,
    Ref,
    Step,
    Use,
    WireKind,
    closed_over,
    is_dropped,
    is_nothing,
    wire_kind,
)


def record(
    jaxpr: ClosedJaxpr, names: Sequence[str], depth: int | None, choices: Sequence[int] = ()
) -> Plan:
    """Returns the plan of a jaxpr.

    Args:
        jaxpr: What to record.
        names: One for each input.
        depth: How many levels of boxes are opened; None opens what is merely called.
        choices: The branches of the conditionals that are opened, in their order.
    """
    recorder = Recorder(depth, choices)
    inputs = [
        recorder.enter("argument", name, aval)
        for name, aval in zip(names, jaxpr.in_avals, strict=True)
    ]
    outputs = [recorder.output(value) for value in walk.walk(jaxpr, recorder, inputs)]
    return recorder.plan(outputs)


class Recorder(walk.Interpreter[Ref | Known]):
    """Writes down what it is shown."""

    def __init__(self, depth: int | None, choices: Sequence[int]):
        self.depth, self.choices = depth, list(choices)
        self.nodes: list[NodeRecord] = []
        self.uses: list[Use] = []
        self.steps: list[Step] = []
        self.boxes: list[Box] = []
        self.entries: list[int] = []
        self.constants: list[Any] = []
        self.conditions: list[int] = []
        self.unresolved: int | None = None
        self.slots = 0
        self.box: int | None = None
        self.shadows: set[int] = set()

    def plan(self, outputs: list[Ref | Known]) -> Plan:
        return Plan(
            self.nodes, self.uses, self.steps, self.boxes, self.entries, self.constants, outputs,
            self.conditions, self.unresolved,
        )  # fmt: skip

    def enter(self, kind: NodeKind, name: str, aval: Any) -> Ref:
        """Returns a new node that nothing in the function computes."""
        slot = self._slot()
        self.nodes.append(NodeRecord(kind, kind, name, name, aval, None, slot, kind == "argument"))
        self.entries.append(len(self.nodes) - 1)
        return Ref(slot, len(self.nodes) - 1)

    def constant(self, value: Any) -> Ref | Known:
        if np.ndim(value) == 0 and not jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
            return Known(value)
        ref = self.enter("constant", "const", jax.typeof(value))
        self.constants.append(value)
        return ref

    def output(self, value: Ref | Known) -> Ref | Known:
        """Returns an output, as a node where it is a number."""
        if isinstance(value, Ref):
            return value
        ref = self.enter("constant", "const", jax.typeof(jnp.asarray(value.value)))
        self.constants.append(value.value)
        return ref

    def equation(self, eqn: JaxprEqn, inputs: list[Ref | Known]) -> Sequence[Ref | Known]:
        name = eqn.primitive.name
        if not eqn.outvars:  # it prints, or checks something
            return ()
        if is_nothing(eqn):
            return inputs
        if name == "name" and isinstance(inputs[0], Ref):
            node = self.nodes[inputs[0].node]
            if not node.is_named and node.kind == "operation":
                node.name, node.is_named = eqn.params["name"], True
                return inputs
        if name == "cond" and self._opens(eqn):
            return self._branch(eqn, inputs)
        if name == "scan" and self._opens(eqn):
            with _Opened(self, "scan", name):
                return walk.unrolled_scan(eqn, inputs, self._iteration, self._entry, self._stack)
        return self._operation(eqn, inputs)

    def call(
        self, eqn: JaxprEqn, body: ClosedJaxpr, inputs: list[Ref | Known]
    ) -> Sequence[Ref | Known]:
        if not self._opens(eqn):
            return self._operation(eqn, inputs)
        with _Opened(self, symbols.operation_name(eqn), eqn.primitive.name):
            if eqn.primitive.name in RULES:
                return self._open_rule(eqn, body, inputs)
            return walk.walk(body, self, inputs)

    def add(
        self,
        apply: Callable[..., Sequence[Any]],
        inputs: Sequence[Ref | Known],
        avals: Sequence[Any],
        operation: str,
        name: str,
        symbol: str,
        eqn: JaxprEqn | None = None,
    ) -> list[Ref]:
        """Returns the outputs of a new operation; more than one are the parts of a tuple.

        Args:
            apply: Computes them.
            inputs: What it takes.
            avals: Of each output; None for one that nobody reads.
            operation: The primitive.
            name: What the node is called, before it is made unique.
            symbol: What stands in its circle.
            eqn: The equation, where there is one.
        """
        read = [position for position, aval in enumerate(avals) if aval is not None]
        single = len(read) == 1
        node = NodeRecord(
            "operation" if single else "tuple", operation, name, symbol,
            avals[read[0]] if single else None, self.box, -1, step=len(self.steps), eqn=eqn,
        )  # fmt: skip
        self.nodes.append(node)
        target = len(self.nodes) - 1
        uses = [
            self._use(
                value, target, position,
                wire_kind(self._aval(value), avals, operation, position < closed_over(eqn)),
            )
            for position, value in enumerate(inputs)
        ]  # fmt: skip
        node.uses = [use for use in uses if use is not None]
        outputs = tuple(self._slot() for _ in avals)
        self.steps.append(Step(apply, _operands(inputs), outputs, tuple(uses)))
        whole = [Ref(slot, target) for slot in outputs]
        if single:
            node.slot = outputs[read[0]]
            return whole
        return [
            ref if aval is None else self._part(ref, position, aval)
            for position, (ref, aval) in enumerate(zip(whole, avals, strict=True))
        ]

    def _operation(self, eqn: JaxprEqn, inputs: Sequence[Ref | Known]) -> list[Ref]:
        numbers = [value.value if isinstance(value, Known) else None for value in inputs]
        avals = [None if is_dropped(variable) else variable.aval for variable in eqn.outvars]
        return self.add(
            lambda *operands: lifted.bind(eqn, operands), inputs, avals, eqn.primitive.name,
            symbols.operation_name(eqn), symbols.symbol(eqn, numbers), eqn,
        )  # fmt: skip

    def _part(self, whole: Ref, position: int, aval: Any) -> Ref:
        slot = self._slot()
        node = NodeRecord(
            "operation", "part", self.nodes[whole.node].name, f"[{position}]", aval, self.box,
            slot, step=len(self.steps),
        )  # fmt: skip
        self.nodes.append(node)
        target = len(self.nodes) - 1
        use = self._use(whole, target, 0, wire_kind(aval, [aval], "part"))
        assert use is not None
        node.uses = [use]
        self.steps.append(Step(lambda x: [x], (whole.slot,), (slot,), (use,)))
        return Ref(slot, target)

    def _use(self, value: Ref | Known, target: int, position: int, kind: WireKind) -> int | None:
        if isinstance(value, Known):
            return None
        is_counted = value.slot not in self.shadows
        self.uses.append(Use(value.node, target, position, kind, is_counted))
        return len(self.uses) - 1

    def _open_rule(
        self, eqn: JaxprEqn, body: ClosedJaxpr, inputs: Sequence[Ref | Known]
    ) -> list[Ref]:
        """Opens a function with a derivative rule of its own.

        Outside, the rule holds. The nodes within are those of the function's body, computed
        from inputs whose gradients are stopped, so that each has the gradient by the
        derivatives of the body without adding to the gradients outside.
        """
        avals = [variable.aval for variable in eqn.outvars]
        uses = tuple(
            self._use(
                value, -1, position,
                wire_kind(self._aval(value), avals, "", position < closed_over(eqn)),
            )
            for position, value in enumerate(inputs)
        )  # fmt: skip
        by_rule = tuple(self._slot() for _ in avals)
        self.steps.append(
            Step(lambda *operands: lifted.bind(eqn, operands), _operands(inputs), by_rule, uses)
        )
        shadows: list[Ref | Known] = []
        for value in inputs:
            if isinstance(value, Ref):
                value = self._alias(lambda x: [lax.stop_gradient(x)], (value.slot,), value.node)
                self.shadows.add(value.slot)
            shadows.append(value)
        outputs = []
        for inner, slot in zip(walk.walk(body, self, shadows), by_rule, strict=True):
            if isinstance(inner, Known) or inner.slot in self.shadows:
                aval = self._aval(inner)
                (inner,) = self.add(lambda x: [x], [inner], [aval], "copy", "copy", "=")
            outputs.append(self._alias(lambda x, y: [_graft(x, y)], (slot, inner.slot), inner.node))
        return outputs

    def _alias(self, apply: Callable, slots: tuple[int, ...], node: int) -> Ref:
        """Returns another value of a node that is there already."""
        slot = self._slot()
        self.steps.append(Step(apply, slots, (slot,), (None,) * len(slots)))
        return Ref(slot, node)

    def _branch(self, eqn: JaxprEqn, inputs: list[Ref | Known]) -> Sequence[Ref | Known]:
        index, *operands = inputs
        branches = walk.branches(eqn)
        if isinstance(index, Known):
            choice = int(index.value)
        elif len(self.conditions) < len(self.choices):
            choice = self.choices[len(self.conditions)]
            self.conditions.append(index.slot)
        else:
            self.unresolved = index.slot if self.unresolved is None else self.unresolved
            return self._operation(eqn, inputs)
        # An index beyond the branches takes the nearest.
        choice = min(max(choice, 0), len(branches) - 1)
        with _Opened(self, f"cond, branch {choice}", "cond"):
            return walk.walk(branches[choice], self, operands)

    def _iteration(self, body: ClosedJaxpr, values: list[Ref | Known]) -> list[Ref | Known]:
        return walk.walk(body, self, values)

    def _entry(self, value: Ref | Known, step: int) -> Ref | Known:
        aval = self._aval(value)
        entry = jax.ShapeDtypeStruct(aval.shape[1:], aval.dtype)
        apply = lambda x: [lax.index_in_dim(x, step, 0, keepdims=False)]
        return self.add(apply, [value], [entry], "index", "entry", f"[{step}]")[0]

    def _stack(self, values: list[Ref | Known], variable: Any) -> Ref | Known:
        aval = variable.aval

        def stacked(*entries):
            if not entries:
                return [jnp.zeros(aval.shape, aval.dtype)]
            return [jnp.stack([jnp.asarray(entry, aval.dtype) for entry in entries])]

        return self.add(stacked, values, [aval], "stack", "stack", "stack")[0]

    def _opens(self, eqn: JaxprEqn) -> bool:
        name = eqn.primitive.name
        if self.depth is None:
            return name not in (*RULES, "scan", "cond")
        level, box = 0, self.box
        while box is not None:
            level, box = level + 1, self.boxes[box].parent
        return level < self.depth

    def _aval(self, value: Ref | Known) -> Any:
        if isinstance(value, Ref):
            return self.nodes[value.node].aval
        return jax.typeof(jnp.asarray(value.value))

    def _slot(self) -> int:
        self.slots += 1
        return self.slots - 1


class _Opened:
    """A context in which what is recorded belongs to a box."""

    def __init__(self, recorder: Recorder, name: str, kind: str):
        self.recorder, self.outer = recorder, recorder.box
        recorder.boxes.append(Box(name, kind, recorder.box))
        recorder.box = len(recorder.boxes) - 1

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        self.recorder.box = self.outer


@jax.custom_vjp
def _graft(value: Any, shadow: Any) -> Any:
    """Returns `value`; its cotangent goes to both."""
    return value


_graft.defvjp(lambda value, shadow: (value, None), lambda _, cotangent: (cotangent, cotangent))


def _operands(inputs: Sequence[Ref | Known]) -> tuple[int | Known, ...]:
    return tuple(value.slot if isinstance(value, Ref) else value for value in inputs)
