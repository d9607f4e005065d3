"""The derivative as a program: one symbol for each operation, one rule for each derivative.

The program is derived from the jaxpr without a value being known. Every operation that
depends on the argument gets a rule that carries derivatives across it; see `rules`. The
chain rule is then applied operation by operation: forward for a slope, in reverse for a
gradient. An operation on arrays stays one operation, so the length of the program is that
of the function, whatever the shapes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import custom_rules, expansions, walk
from diffcompare.symbolic import control, custom, operations, rules
from diffcompare.symbolic.convention import Convention, Rules

Array = Any

# How messages call this route, and what they advise.
READER = "Symbolic(route='program')"
ADVICE = "Use a numerical method such as CentralDifference(), or ReverseMode()."


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A symbol for an array of the program. No two nodes are equal, whatever they look like."""

    aval: Any  # shape and dtype
    is_active: bool = False  # whether it depends on the argument, and so has a derivative
    constant: Any = None  # the value, where it is known
    number: float | None = None  # the one value of all entries, where there is one and it is known


class Operation(NamedTuple):
    """One step of a program. Without a rule, nothing that is differentiated depends on it."""

    eqn: JaxprEqn
    rule: rules.Rule | None
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]


Env = dict[Node, Array]


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of arrays, and the derivative of every operation in it."""

    constants: tuple[Node, ...]
    inputs: tuple[Node, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[Node, ...]

    def run(self, constants: Sequence[Array], inputs: Sequence[Array]) -> Env:
        """Returns the value of every node."""
        env: Env = dict(zip([*self.constants, *self.inputs], [*constants, *inputs], strict=True))
        for eqn, _, ins, outs in self.operations:
            env.update(zip(outs, rules.apply(eqn, _read(env, ins)), strict=True))
        return env

    def values(self, env: Env) -> list[Array]:
        """Returns the outputs."""
        return _read(env, self.outputs)

    def push(self, env: Env, tangents: Sequence[Array | None]) -> list[Array]:
        """Returns the slopes of the outputs, from those of the inputs."""
        slopes: Env = {
            node: tangent
            for node, tangent in zip(self.inputs, tangents, strict=True)
            if node.is_active and tangent is not None
        }
        for _, rule, ins, outs in self.operations:
            into = [slopes.get(node) for node in ins]
            if rule is None or all(tangent is None for tangent in into):
                continue
            found = rule.push(_read(env, ins), _read(env, outs), into)
            slopes.update({n: t for n, t in zip(outs, found, strict=True) if t is not None})
        return [slopes[n] if n in slopes else _zeros(n) for n in self.outputs]

    def pull(self, env: Env, weights: Sequence[Array | None]) -> list[Array]:
        """Returns the gradients by the inputs of the weighted sum of the outputs.

        Inputs that are not active get zeros.
        """
        gradients: Env = {}
        for node, weight in zip(self.outputs, weights, strict=True):
            _accumulate(gradients, node, weight)
        for _, rule, ins, outs in reversed(self.operations):
            arrived = [gradients.pop(node, None) for node in outs]
            if rule is None or all(weight is None for weight in arrived):
                continue
            parts = rule.pull(_read(env, ins), _read(env, outs), arrived)
            for node, part in zip(ins, parts, strict=True):
                _accumulate(gradients, node, part)
        return [gradients[n] if n in gradients else _zeros(n) for n in self.inputs]


def derive(
    jaxpr: ClosedJaxpr,
    is_active: Sequence[bool],
    convention: Convention,
    honoured: Rules = "math",
) -> Program:
    """Returns the program of a jaxpr, with the derivative of every operation.

    Args:
        jaxpr: The function. What it closes over becomes an input.
        is_active: Of each input, whether to differentiate by it.
        convention: What the derivative is at a kink.
        honoured: Whether a function with a custom derivative rule is differentiated
            ("math"), or its rule is asked ("jax").

    Raises:
        UnknownPrimitiveError: The outputs depend on the inputs through a primitive that
            has no rule.
    """
    inner = jaxpr.jaxpr
    constants = tuple(Node(variable.aval) for variable in inner.constvars)
    inputs = tuple(
        Node(variable.aval, active and rules.is_floating(variable.aval))
        for variable, active in zip(inner.invars, is_active, strict=True)
    )
    builder = _Builder(convention, honoured)
    outputs = tuple(walk.walk(jaxpr, builder, inputs, constants))
    return Program(constants, inputs, tuple(builder.operations), outputs)


class _Builder(walk.Interpreter[Node]):
    """Writes down every equation, with its rule."""

    def __init__(self, convention: Convention, honoured: Rules):
        self.convention = convention
        self.honoured = honoured
        self.operations: list[Operation] = []

    def constant(self, value):
        is_number = jnp.ndim(value) == 0 and jnp.issubdtype(value.dtype, jnp.number)
        return Node(value, constant=value, number=_number(value) if is_number else None)

    def call(self, eqn, body, inputs):
        if not any(node.is_active for node in inputs):
            return None
        name = operations.known_call(eqn.primitive.name, body)
        is_known = name is not None and custom_rules.is_from_jax(eqn)
        if self.honoured == "jax" and custom_rules.is_custom(eqn) and not is_known:
            name = _CLAIMED
        return None if name is None else self._record(eqn, name, inputs)

    def equation(self, eqn, inputs):
        name = eqn.primitive.name
        if any(node.is_active for node in inputs) and not rules.has_rule(eqn):
            simpler = expansions.expand(eqn)
            if simpler is not None:
                return walk.walk(simpler, self, inputs)
        return self._record(eqn, name, inputs)

    def _record(self, eqn, name, inputs):
        rule, flags = None, [False] * len(eqn.outvars)
        is_active = any(node.is_active for node in inputs)
        if is_active and any(_is_complex(variable.aval) for variable in eqn.outvars):
            reader = f"{READER}, for complex numbers,"
            raise walk.unknown_primitive(eqn, reader, rules.known(), ADVICE)
        is_differentiated = is_active and any(
            rules.is_floating(variable.aval) for variable in eqn.outvars
        )
        if is_differentiated:
            rule, flags = self._rule(eqn, name, inputs)
        if name in _FILLS and inputs[0].number is not None:
            number = _number(np.asarray(inputs[0].number, eqn.outvars[0].aval.dtype))
        else:
            number = None
        outputs = tuple(
            Node(variable.aval, flag and rules.is_floating(variable.aval), number=number)
            for variable, flag in zip(eqn.outvars, flags, strict=True)
        )
        self.operations.append(Operation(eqn, rule, tuple(inputs), outputs))
        return outputs

    def _rule(self, eqn, name, inputs):
        active = [node.is_active for node in inputs]
        if name is _CLAIMED:
            flags = custom_rules.floating_outputs(eqn)
            return custom.Claimed(eqn, tuple(active)), list(flags)
        derived = control.find(
            eqn,
            name,
            active,
            lambda body, flags: derive(body, flags, self.convention, self.honoured),
        )
        if derived is not None:
            return derived
        numbers = [node.number for node in inputs]
        rule = rules.find(eqn, name, active, numbers, self.convention)
        if rule is None:
            raise walk.unknown_primitive(eqn, READER, rules.known(), ADVICE)
        return (None if rule.is_zero else rule), [not rule.is_zero] * len(eqn.outvars)


_CLAIMED = "a custom rule"  # the name of an operation whose derivative is what a rule claims

# Primitives of which the output has one value in all entries where the input has.
_FILLS = ("broadcast_in_dim", "convert_element_type")


def _is_complex(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jnp.complexfloating)


def _number(value: Any) -> float | None:
    """Returns a scalar as a float, where that is exact."""
    number = np.asarray(value).item()
    return float(number) if isinstance(number, float) or abs(number) < 2**53 else None


def _read(env: Env, nodes: Sequence[Node]) -> list[Array]:
    return [env[node] if node.constant is None else node.constant for node in nodes]


def _accumulate(gradients: Env, node: Node, part: Array | None) -> None:
    if node.is_active and part is not None:
        gradients[node] = gradients[node] + part if node in gradients else part


def _zeros(node: Node) -> Array | None:
    return jnp.zeros(node.aval.shape, node.aval.dtype) if rules.is_floating(node.aval) else None
