"""All entries of a gradient at once, in exact arithmetic, by the rules of calculus.

The reverse tape of `exact_grad`, for which nothing is on purpose: bodies are differentiated, rules
of their own are not asked, and what stops gradients lets them through. It finds wrong entries
among many; that they are wrong is for the function's values to say.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from diffcompare._jaxpr import custom_rules, walk
from diffcompare._jaxpr.elements import array_of
from diffcompare.checking.budget import Budget, OverBudget
from diffcompare.checking.problem import Problem, wide
from diffcompare.exact import custom
from diffcompare.exact.multiprecision import Arithmetic
from diffcompare.exact.tape import Tape
from diffcompare.exact.weights import Node
from diffcompare.symbolic.convention import Convention

Elements = np.ndarray  # numbers of an arithmetic
Chosen = Callable[[JaxprEqn], bool]

# What an equation costs on the tape, in walks, measured with a perceptron of 92,000 weights: it is
# done, and undone by two of its kind.
_WALKS = 4


def true_gradient(
    problem: Problem,
    arithmetic: Arithmetic,
    budget: Budget,
    on_purpose: Chosen | None = None,
) -> list[Elements] | None:
    """Returns the gradients of the weighted sum of the outputs, one array for each leaf.

    Args:
        problem: The function.
        arithmetic: The numbers of the result.
        budget: What it may cost.
        on_purpose: Of an equation that calls a function with a rule of its own, or that stops a
            gradient, whether it is honoured; by default none is.

    Returns:
        The gradients; None where there is no trace, an operation has no rule, or it would cost
        too much.
    """
    if problem.jaxpr is None:
        return None
    tape = _Tape(arithmetic, budget, on_purpose or (lambda eqn: False))
    with arithmetic.active():
        try:
            leaves = [tape.leaf(arithmetic.lifted(wide(array))) for array in problem.x]
            inputs: list[Any] = list(leaves)
            outputs = tape.run(problem.jaxpr, inputs)
            found = tape.gradients(_contracted(tape, problem, outputs), leaves)
        # Rules of calculus end where eigenvalues are equal, or a loop is not known to end.
        except (walk.UnknownPrimitiveError, NotImplementedError, OverBudget, ArithmeticError):
            return None
        zero = arithmetic.number(0.0)
        return [
            array_of([zero if type(entry) is int else entry for entry in array.flat], array.shape)
            for array in found
        ]


def _contracted(tape: Tape, problem: Problem, outputs: Sequence[Any]) -> Any:
    """Returns a scalar whose weight goes back to the outputs as theirs."""
    active = [output for output in outputs if isinstance(output, Node)]
    if not active:
        return None
    weights = [
        tape.algebra.lifted(weight)
        for weight, output in zip(problem.weights, outputs, strict=True)
        if isinstance(output, Node)
    ]
    (total,) = tape.record(lambda _: weights, active, [array_of([tape.algebra.number(0.0)], ())])
    return total


class _Tape(Tape):
    """A tape that pays, and that stops nothing but what is chosen."""

    def __init__(self, algebra: Any, budget: Budget, on_purpose: Chosen):
        super().__init__(algebra, Convention.jax(), honours=False)
        self.budget, self.on_purpose = budget, on_purpose
        self._expansions = 0

    def call(self, eqn, body, inputs):
        if custom_rules.is_custom(eqn) and self.on_purpose(eqn) and any(map(_is_node, inputs)):
            outputs = walk.walk(body, self, [_plain(value) for value in inputs])
            return custom.by_rule(self, eqn, inputs, outputs)
        return super().call(eqn, body, inputs)

    def equation(self, eqn, inputs):
        for _ in range(_WALKS):
            self.budget.charge(eqn)
        # Within an expansion of an operation, stopped gradients are a device of its derivative.
        if eqn.primitive.name == "stop_gradient" and not self._expansions:
            return [_plain(inputs[0])] if self.on_purpose(eqn) else list(inputs)
        return super().equation(eqn, inputs)

    def _expanded(self, eqn, simpler, inputs):
        self._expansions += 1
        try:
            return super()._expanded(eqn, simpler, inputs)
        finally:
            self._expansions -= 1


def _is_node(value: Any) -> bool:
    return isinstance(value, Node)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Node) else value
