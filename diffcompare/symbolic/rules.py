"""How a derivative crosses one operation of a program, forwards and in reverse.

An operation that works entry by entry is a SymPy expression of its operands, and SymPy
differentiates it. A linear operation is its own derivative, and has a transpose. The few
others stand in `find`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import sympy
from jax import lax
from jax.extend.core import JaxprEqn

from diffcompare._jaxpr import expansions, objects, walk
from diffcompare.symbolic import choices, factorizations, operations, transposes
from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.evaluation import evaluate
from diffcompare.symbolic.rule import Rule as Rule
from diffcompare.symbolic.rule import apply as apply
from diffcompare.symbolic.rule import is_floating as is_floating

Array = Any
Arrays = Sequence[Array]


def find(
    eqn: JaxprEqn,
    name: str,
    active: Sequence[bool],
    numbers: Sequence[float | None],
    convention: Convention,
) -> Rule | None:
    """Returns the rule of an equation that is not control flow, and None where there is none.

    Args:
        eqn: The equation.
        name: Its primitive, or the name of a known custom rule that it calls.
        active: Of each input, whether a derivative arrives through it.
        numbers: Of each input the one value that all its entries are known to have, or None.
        convention: What the derivative is at a kink.
    """
    if name in operations.elementwise(convention):
        params = tuple((key, eqn.params[key]) for key in objects.PARAMETERS.get(name, ()))
        literals = tuple(_literal(name, number) for number in numbers)
        symbols, partials = _differentiated(name, params, literals, tuple(active), convention)
        return Pointwise(symbols, partials)
    if name in transposes.LINEAR:
        operands, transpose = transposes.LINEAR[name]
        return Linear(eqn, operands(eqn), functools.partial(transpose, eqn))
    if name == "dot_general":
        return Product(eqn, tuple(active))
    return _OTHERS[name](eqn) if name in _OTHERS else None


def known() -> set[str]:
    """Returns the names of the primitives that can be crossed."""
    return {*_ruled(), *expansions.EXPANSIONS, *walk.CALLS}


def has_rule(eqn: JaxprEqn) -> bool:
    """Returns whether an equation has a rule of its own, and is not written in simpler ones."""
    name = eqn.primitive.name
    return name in _ruled() and (name not in _OTHERS or _OTHERS[name](eqn) is not None)


@functools.cache
def _ruled() -> frozenset[str]:
    elementwise = operations.elementwise(Convention.jax())
    return frozenset({*elementwise, *transposes.LINEAR, *_OTHERS, *_ALSO})


@dataclasses.dataclass(frozen=True)
class Pointwise(Rule):
    """An operation entry by entry: its derivative by each operand is an expression."""

    symbols: tuple[sympy.Symbol, ...]  # of the operands, then of the output
    partials: tuple[sympy.Expr | None, ...]  # one for each operand; None is zero

    @property
    def is_zero(self):
        return all(partial is None for partial in self.partials)

    def push(self, inputs, outputs, tangents):
        terms = [
            jnp.broadcast_to(term, outputs[0].shape)
            for term in self._scaled(inputs, outputs, tangents)
            if term is not None
        ]
        return [functools.reduce(jnp.add, terms) if terms else None]

    def pull(self, inputs, outputs, weights):
        parts = self._scaled(inputs, outputs, [weights[0]] * len(inputs))
        return [
            None if part is None else _sum_to(part, jnp.shape(x)).astype(x.dtype)
            for part, x in zip(parts, inputs, strict=True)
        ]

    def _scaled(self, inputs, outputs, factors):
        """Returns the derivative by each operand, times the factor of that operand."""
        dtype = outputs[0].dtype
        arrays = [jnp.asarray(array, dtype) for array in [*inputs, *outputs]]
        values = {
            operations.NAN: jnp.asarray(math.nan, dtype),
            **dict(zip(self.symbols, arrays, strict=True)),
        }

        def scale(partial, factor):
            if partial is None or factor is None:
                return None
            if partial == 1:
                return factor
            return -factor if partial == -1 else evaluate(partial, values, dtype) * factor

        return list(map(scale, self.partials, factors))


@functools.lru_cache(maxsize=1024)
def _differentiated(name, params, numbers, active, convention):
    """Returns symbols for the operands and the output, and the partial derivatives.

    A literal operand is a number in the expression, so that x**2.5 has the derivative
    2.5 x**1.5 and not one with a logarithm.
    """
    operands = tuple(sympy.Dummy(f"x{i}", real=True) for i in range(len(numbers)))
    output = sympy.Dummy("y", real=True)
    arguments = [s if n is None else n for s, n in zip(operands, numbers, strict=True)]
    expression = operations.elementwise(convention)[name](*arguments, **dict(params))

    def partial(symbol, is_active):
        slope = expression.diff(symbol) if is_active else sympy.S.Zero
        # What has been computed for the value is not computed again.
        slope = slope.xreplace({expression: output}) if expression.args else slope
        return None if slope == 0 else slope

    return (*operands, output), tuple(map(partial, operands, active))


def _literal(name: str, number: float | None) -> sympy.Expr | None:
    # SymPy simplifies by a literal 0, 0 / x to 0, where floating point has a NaN at x = 0. Only
    # a maximum has to know that it is one.
    if number is None or not math.isfinite(number) or (number == 0 and name != "max"):
        return None
    return operations.exact(number)


def _sum_to(array: Array, shape: tuple[int, ...]) -> Array:
    """Returns the sums over the axes along which an operand of this shape was repeated."""
    if jnp.shape(array) == shape:
        return array
    own = (1,) * (array.ndim - len(shape)) + shape  # a scalar, or as many axes
    repeated = [axis for axis, length in enumerate(own) if length != array.shape[axis]]
    return jnp.sum(array, tuple(repeated)).reshape(shape)


@dataclasses.dataclass(frozen=True)
class Linear(Rule):
    """An operation that is linear in some operands together, and moves by the others."""

    eqn: JaxprEqn
    operands: tuple[int, ...]
    transpose: Callable[[Arrays, Arrays], Arrays]  # of all inputs and the weights

    def push(self, inputs, outputs, tangents):
        arguments = list(inputs)
        for position in self.operands:
            tangent = tangents[position]
            arguments[position] = jnp.zeros_like(inputs[position]) if tangent is None else tangent
        # What is filled in beyond the edge does not depend on the operand.
        changed = {"fill_value": 0} if self.eqn.primitive.name == "gather" else {}
        return apply(self.eqn, arguments, **changed)

    def pull(self, inputs, outputs, weights):
        whole = [
            jnp.zeros_like(output) if weight is None else weight
            for output, weight in zip(outputs, weights, strict=True)
        ]
        gradients: list[Array | None] = [None] * len(inputs)
        for position, part in zip(self.operands, self.transpose(inputs, whole), strict=True):
            gradients[position] = part
        return gradients


@dataclasses.dataclass(frozen=True)
class Product(Rule):
    """`dot_general`, linear in each of its two operands."""

    eqn: JaxprEqn
    active: tuple[bool, ...]

    def push(self, inputs, outputs, tangents):
        left, right = inputs
        terms: list[Array] = []
        if tangents[0] is not None:
            terms += apply(self.eqn, [tangents[0], right])
        if tangents[1] is not None:
            terms += apply(self.eqn, [left, tangents[1]])
        return [functools.reduce(jnp.add, terms)]

    def pull(self, inputs, outputs, weights):
        return transposes.dot_general(self.eqn, inputs, weights[0], self.active)


@dataclasses.dataclass(frozen=True)
class Extreme(Rule):
    """`reduce_max` and `reduce_min`: the slope is shared equally by the entries that attain it."""

    eqn: JaxprEqn

    def push(self, inputs, outputs, tangents):
        return [jnp.sum(self._shares(inputs[0], outputs[0]) * tangents[0], self._axes)]

    def pull(self, inputs, outputs, weights):
        spread = jnp.expand_dims(weights[0], self._axes)
        return [self._shares(inputs[0], outputs[0]) * spread]

    @property
    def _axes(self):
        return tuple(self.eqn.params["axes"])

    def _shares(self, x, extreme):
        attains = x == jnp.expand_dims(extreme, self._axes)
        count = jnp.sum(attains, self._axes, keepdims=True).astype(x.dtype)
        return jnp.where(attains, 1 / count, jnp.zeros_like(x))


@dataclasses.dataclass(frozen=True)
class Choice(Rule):
    """`select_n`: the derivative of the case that is chosen."""

    eqn: JaxprEqn

    def push(self, inputs, outputs, tangents):
        which, *cases = inputs
        slopes = [
            jnp.zeros_like(case) if tangent is None else tangent
            for case, tangent in zip(cases, tangents[1:], strict=True)
        ]
        return apply(self.eqn, [which, *slopes])

    def pull(self, inputs, outputs, weights):
        which, *cases = inputs
        chosen = jnp.asarray(which).astype(jnp.int32)
        zero = jnp.zeros_like(weights[0])
        return [
            None,
            *(jnp.where(chosen == number, weights[0], zero) for number in range(len(cases))),
        ]


@dataclasses.dataclass(frozen=True)
class Sort(Rule):
    """`sort`: what is moved, moves with its slope."""

    eqn: JaxprEqn

    def push(self, inputs, outputs, tangents):
        order = self._order(inputs)
        return [None if t is None else jnp.take_along_axis(t, order, self._axis) for t in tangents]

    def pull(self, inputs, outputs, weights):
        back = jnp.argsort(self._order(inputs), self._axis)
        return [None if w is None else jnp.take_along_axis(w, back, self._axis) for w in weights]

    @property
    def _axis(self):
        return self.eqn.params["dimension"]

    def _order(self, inputs):
        places = lax.broadcasted_iota(jnp.int32, inputs[0].shape, self._axis)
        keys = self.eqn.params["num_keys"]
        return lax.sort((*inputs, places), dimension=self._axis, num_keys=keys)[-1]


_OTHERS: dict[str, Callable[[JaxprEqn], Rule | None]] = {
    **choices.RULES,
    **factorizations.RULES,
    "reduce_max": Extreme,
    "reduce_min": Extreme,
    "select_n": Choice,
    "sort": Sort,
}


_ALSO = ("cond", "custom_linear_solve", "dot_general", "scan", "while")  # which are found elsewhere
