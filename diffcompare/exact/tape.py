"""The reverse tape: which arrays depend on the argument, and how weights go back through them.

A jaxpr is interpreted over arrays of elements as for any algebra, and each equation that the
argument reaches is written down. Going back, a weight is an array of elements in which the
integer 0 is a zero by structure: of a branch not taken, of the smaller operand of a maximum. It
stays 0 whatever it is multiplied by, so that a pole that nothing depends on does no harm.
"""

import pathlib
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import composed, expansions, objects, walk
from diffcompare.exact import custom, loops, pulls, structures
from diffcompare.exact.weights import (
    Array,
    Node,
    Notes,
    Operation,
    Weight,
    is_floating,
    is_zero,
    plain_value,
    zeros,
)
from diffcompare.symbolic.convention import Convention

_REFINED = ("eig", "eigh", "schur", "svd")
_HERE = str(pathlib.Path(__file__).parent)


class Record(NamedTuple):
    """What an operation does to weights, and between which nodes."""

    pull: Callable[[list[Array]], Sequence[Weight]]
    inputs: Sequence[int | None]  # keys, None for what does not depend on the argument
    outputs: Sequence[tuple[int, tuple[int, ...]]]  # keys and shapes


class Tape(objects.ObjectInterpreter):
    """Interprets a jaxpr, and keeps the way back.

    Args:
        algebra: What elements are.
        convention: What the derivative is at a kink.
        honours: Whether rules that a program defines for itself are consulted.
    """

    def __init__(self, algebra: Any, convention: Convention, honours: bool = True):
        super().__init__(algebra)
        self.convention, self.honours = convention, honours
        self.notes = Notes()
        self.records: list[Record] = []
        self.functions = types.SimpleNamespace(
            **algebra.rules, number=algebra.number, pi=algebra.pi
        )
        self._count = 0
        self._fixed_place = ""  # of the equation that is being expanded
        self._callers: list[JaxprEqn] = []
        self._programs: dict[Any, tuple[Any, Any]] = {}  # with the equation, whose id stays its own

    def leaf(self, value: Array) -> Node:
        """Returns a node for an array to differentiate by."""
        self._count += 1
        return Node(value, self._count)

    def record(self, pull, inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Node]:
        """Writes an operation down, and returns nodes for its outputs."""
        nodes = [self.leaf(value) for value in outputs]
        keys = [value.key if isinstance(value, Node) else None for value in inputs]
        self.records.append(Record(pull, keys, [(node.key, node.shape) for node in nodes]))
        return nodes

    def call(self, eqn, body, inputs):
        if not any(isinstance(value, Node) for value in inputs):
            return super().call(eqn, body, inputs)
        if eqn.primitive.name in custom.CUSTOM:
            found = custom.call(self, eqn, body, inputs)
            if found is not None:
                return found
        return self.inside(eqn, body, inputs)

    def inside(self, eqn: JaxprEqn, body: ClosedJaxpr, inputs: Sequence[Any]) -> list[Any]:
        """Returns the outputs of a body, which knows by which equation it was called."""
        self._callers.append(eqn)
        try:
            return self.run(body, inputs)
        except walk.UnknownPrimitiveError as error:
            # A function that is compiled once does not know who calls it.
            error.place = error.place or self._place(eqn)
            raise
        finally:
            self._callers.pop()

    def _expanded(self, eqn, simpler, inputs):
        self.notes.is_refined |= eqn.primitive.name in _REFINED
        outer, self._fixed_place = self._fixed_place, self._place(eqn)
        try:
            return super()._expanded(eqn, simpler, inputs)
        finally:
            self._fixed_place = outer

    def equation(self, eqn, inputs):
        plain = [plain_value(value) for value in inputs]
        if not any(isinstance(value, Node) for value in inputs):
            return self.value(eqn, plain)
        name = eqn.primitive.name
        special = loops.LOOPS.get(name) or structures.STRUCTURES.get(name)
        if special is not None:
            return special(self, eqn, inputs)
        if composed.is_solve(eqn) and self.honours:
            return custom.solve(self, eqn, inputs)
        body = composed.body(eqn)
        if body is not None:
            return self.inside(eqn, body, inputs)
        pull = structures.PULLS.get(name) or pulls.find(name)
        if pull is not None:
            outputs = super().equation(eqn, plain)
            return self._recorded(eqn, pull, inputs, plain, outputs)
        if not any(is_floating(variable) for variable in eqn.outvars):
            outputs = super().equation(eqn, plain)
            pulls.note_comparison(self, self.operation(eqn, inputs, plain, outputs), inputs)
            return outputs
        body = expansions.expand(eqn)
        if body is None:
            raise walk.unknown_primitive(eqn, self.algebra.name, self.known(), self.algebra.advice)
        return self._expanded(eqn, body, inputs)

    def value(self, eqn: JaxprEqn, plain: Sequence[Any]) -> Sequence[Any]:
        """Returns the outputs of an equation of arrays."""
        body = composed.body(eqn)
        return super().equation(eqn, list(plain)) if body is None else self.run(body, plain)

    def operation(self, eqn, inputs, plain, outputs) -> Operation:
        """Returns an equation with its values."""
        active = [isinstance(value, Node) for value in inputs]
        return Operation(eqn.primitive.name, eqn, plain, outputs, active, self._place(eqn))

    def _recorded(self, eqn, pull, inputs, plain, outputs):
        operation = self.operation(eqn, inputs, plain, outputs)
        floating = [is_floating(variable) for variable in eqn.outvars]

        def back(weights):
            arrived = iter(weights)
            whole = [next(arrived) if flag else None for flag in floating]
            return pull(self, operation, whole)

        kept = [value for value, flag in zip(outputs, floating, strict=True) if flag]
        nodes = iter(self.record(back, inputs, kept))
        return [
            next(nodes) if flag else value for value, flag in zip(outputs, floating, strict=True)
        ]

    def _place(self, eqn):
        if self._fixed_place:
            return self._fixed_place
        places = map(walk.place, (eqn, *self._callers[::-1]))
        # Where the user's function is one of JAX, its caller is this package.
        return next((place for place in places if place and _HERE not in place), "")

    def program(self, eqn: JaxprEqn, build: Callable[[JaxprEqn], Any]) -> Any:
        """Returns what `build` makes of an equation, once."""
        key = id(eqn), build.__qualname__
        if key not in self._programs:
            self._programs[key] = (eqn, build(eqn))
        return self._programs[key][1]

    def gradients(self, output: Any, leaves: Sequence[Node]) -> list[Array]:
        """Returns the gradients of a scalar output by each leaf; 0 is a zero by structure."""
        weights: dict[int, Array] = {}
        if isinstance(output, Node):
            weights[output.key] = objects.array_of([self.algebra.number(1.0)], ())
        for record in reversed(self.records):
            arrived = [weights.pop(key, None) for key, _ in record.outputs]
            if all(is_zero(weight) for weight in arrived):
                continue
            whole = [
                zeros(shape) if weight is None else weight
                for weight, (_, shape) in zip(arrived, record.outputs, strict=True)
            ]
            parts = record.pull(whole)
            for key, part in zip(record.inputs, parts, strict=True):
                if key is not None and part is not None:
                    weights[key] = part if key not in weights else self.added(weights[key], part)
        return [weights.get(leaf.key, zeros(leaf.shape)) for leaf in leaves]

    def added(self, left: Array, right: Array) -> Array:
        """Returns the sums of weights."""
        return objects.elementwise(self.add, left, right)

    def add(self, a: Any, b: Any) -> Any:
        """Returns the sum of two weights."""
        if type(a) is int:
            return b
        return a if type(b) is int else self.algebra.rules["add"](a, b)

    def sum(self, weights: Sequence[Any]) -> Any:
        """Returns the sum of weights."""
        kept = [weight for weight in weights if type(weight) is not int]
        return self.algebra.sum(kept) if len(kept) > 1 else kept[0] if kept else 0
