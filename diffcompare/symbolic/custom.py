"""Custom derivative rules in a derivation: what a rule claims, in place of what is true."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import sympy
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun
from sympy import S

from diffcompare._jaxpr import custom_rules, objects, walk
from diffcompare.symbolic.functions import RealFunction
from diffcompare.symbolic.rules import Rule


@dataclasses.dataclass(frozen=True)
class Claimed(Rule):
    """A call of a function with a custom rule: its derivative is what the rule says."""

    eqn: JaxprEqn
    active: tuple[bool, ...]

    def push(self, inputs, outputs, tangents):
        chosen = [
            jnp.zeros_like(x) if tangent is None else tangent
            for x, tangent, flag in zip(inputs, tangents, self.active, strict=True)
            if flag
        ]
        found = jaxpr_as_fun(self._forward)(*map(jnp.asarray, inputs), *chosen)
        return self._placed(found, custom_rules.floating_outputs(self.eqn))

    def pull(self, inputs, outputs, weights):
        flags = custom_rules.floating_outputs(self.eqn)
        chosen = [
            jnp.zeros_like(y) if weight is None else weight
            for y, weight, flag in zip(outputs, weights, flags, strict=True)
            if flag
        ]
        found = jaxpr_as_fun(self._reverse)(*map(jnp.asarray, inputs), *chosen)
        return self._placed(found, self.active)

    @functools.cached_property
    def _forward(self) -> ClosedJaxpr:
        return custom_rules.forward(self.eqn, self.active)

    @functools.cached_property
    def _reverse(self) -> ClosedJaxpr:
        return custom_rules.reverse(self.eqn, self.active)

    def _placed(self, arrays, flags):
        given = iter(arrays)
        return [next(given) if flag else None for flag in flags]


class claimed(RealFunction):
    """claimed(value, x1, d1, x2, d2, ...): a value, whose slope by each x is said to be d."""

    @classmethod
    def eval(cls, *args):
        return args[0] if len(args) == 1 else None

    def fdiff(self, argindex=1):
        # Argument 1 is the value, which is not differentiated; then x and d take turns.
        return self.args[argindex] if argindex % 2 == 0 else S.Zero


def claimed_outputs(
    interpreter: objects.ObjectInterpreter,
    eqn: JaxprEqn,
    body: ClosedJaxpr,
    inputs: Sequence[Any],
) -> list[Any]:
    """Returns the outputs of a call as expressions whose slopes are those of its rule.

    Raises:
        NotImplementedError: What the rule returns is not linear in what arrives, so that
            there is no slope.
    """
    values = walk.walk(body, interpreter, inputs)
    active = [objects.is_object(x) for x in inputs]
    floating = custom_rules.floating_outputs(eqn)
    weights = [_symbols(v) for v, flag in zip(eqn.outvars, floating, strict=True) if flag]
    program = custom_rules.reverse(eqn, active)
    gradients = walk.walk(program, interpreter, [*inputs, *weights])
    arguments = [
        (x, [sympy.sympify(entry) for entry in gradient.flat])
        for array, gradient in zip(
            [x for x, flag in zip(inputs, active, strict=True) if flag], gradients, strict=True
        )
        for x, gradient in [(array, interpreter.lifted(gradient))]
    ]
    given, outputs = iter(weights), []
    for value, flag in zip(values, floating, strict=True):
        if not flag:
            outputs.append(value)
            continue
        entries = [
            claimed(sympy.sympify(entry), *_slopes(eqn, weight, arguments, weights))
            for entry, weight in zip(interpreter.lifted(value).flat, next(given).flat, strict=True)
        ]
        outputs.append(objects.array_of(entries, np.shape(value)))
    return outputs


def _slopes(eqn, weight, arguments, weights):
    known = {symbol for array in weights for symbol in array.flat}
    pairs = []
    for array, gradient in arguments:
        for x, entry in zip(array.flat, gradient, strict=True):
            slope = entry.diff(weight)
            if slope.free_symbols & known:
                raise NotImplementedError(
                    f"Symbolic(route='expression') cannot write down the custom rule of "
                    f"{custom_rules.name_of(eqn)}: it is not linear in the gradient that "
                    "arrives, as a clipped one is not. Use route='program', which runs the rule, "
                    "or rules='math', which differentiates the function."
                )
            if slope != 0:
                pairs += [x, slope]
    return pairs


def _symbols(variable):
    shape = variable.aval.shape
    count = int(np.prod(shape, dtype=int))
    return objects.array_of([sympy.Dummy(f"weight{j}", real=True) for j in range(count)], shape)
