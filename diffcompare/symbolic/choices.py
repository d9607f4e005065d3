"""How a derivative crosses choices by size: `top_k`, and scattering by product or extreme."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import lax

from diffcompare._jaxpr import movement
from diffcompare.symbolic.rule import Rule

Array = Any


@dataclasses.dataclass(frozen=True)
class TopK(Rule):
    """`top_k`: what is chosen keeps its slope."""

    eqn: Any

    def push(self, inputs, outputs, tangents):
        return [jnp.take_along_axis(tangents[0], outputs[1], self._axis), None]

    def pull(self, inputs, outputs, weights):
        (x,) = inputs
        places = jnp.arange(x.size, dtype=jnp.int32).reshape(x.shape)
        chosen = jnp.take_along_axis(places, outputs[1], self._axis)
        flat = jnp.zeros(x.size, x.dtype).at[chosen.ravel()].add(weights[0].ravel())
        return [flat.reshape(x.shape)]

    @property
    def _axis(self):
        return self.eqn.params.get("axis", self.eqn.invars[0].aval.ndim - 1)


class _Scatter(Rule):
    """An operation in which updates meet what stands in an array."""

    eqn: Any

    def met(self, values: Array, inputs: Any) -> Array:
        """Returns for each update what it meets in an array; 0 beyond the edge."""
        return movement.met(self.eqn, values, inputs[1], jnp.shape(inputs[2]))

    def added(self, values: Array, indices: Array, updates: Array) -> Array:
        """Returns an array to which updates are added where the equation puts them."""
        return self._scattered(lax.scatter_add, values, indices, updates)

    def multiplied(self, values: Array, indices: Array, updates: Array) -> Array:
        return self._scattered(lax.scatter_mul, values, indices, updates)

    def _scattered(self, function, values, indices, updates):
        numbers, mode = self.eqn.params["dimension_numbers"], self.eqn.params["mode"]
        return function(values, indices, updates, numbers, mode=mode)


@dataclasses.dataclass(frozen=True)
class ScatterExtreme(_Scatter):
    """`scatter-max` and `scatter-min`: the slope is shared equally by all that attain it."""

    eqn: Any

    def push(self, inputs, outputs, tangents):
        stays, arrives, count = self._attaining(inputs, outputs[0])
        total = jnp.zeros_like(outputs[0]) if tangents[0] is None else stays * tangents[0]
        if tangents[2] is not None:
            total = self.added(total, inputs[1], arrives * tangents[2])
        return [total / count]

    def pull(self, inputs, outputs, weights):
        stays, arrives, count = self._attaining(inputs, outputs[0])
        share = weights[0] / count
        return [stays * share, None, arrives * self.met(share, inputs)]

    def _attaining(self, inputs, extreme):
        operand, indices, updates = inputs
        stays = (operand == extreme).astype(operand.dtype)
        arrives = (updates == self.met(extreme, inputs)).astype(operand.dtype)
        return stays, arrives, self.added(stays, indices, arrives)


@dataclasses.dataclass(frozen=True)
class ScatterProduct(_Scatter):
    """`scatter-mul`: by each factor, the product of the others, which may be 0."""

    eqn: Any

    def push(self, inputs, outputs, tangents):
        by_operand, by_updates = self._others(inputs)
        total = jnp.zeros_like(outputs[0]) if tangents[0] is None else by_operand * tangents[0]
        if tangents[2] is not None:
            total = self.added(total, inputs[1], by_updates * tangents[2])
        return [total]

    def pull(self, inputs, outputs, weights):
        by_operand, by_updates = self._others(inputs)
        return [by_operand * weights[0], None, by_updates * self.met(weights[0], inputs)]

    def _others(self, inputs):
        operand, indices, updates = inputs
        one, none = jnp.ones_like(updates), jnp.zeros_like(updates)
        is_zero = updates == none
        by_operand = self.multiplied(jnp.ones_like(operand), indices, updates)
        # The product of all factors but the zeros, and how many of those there are.
        filled = jnp.where(is_zero, one, updates)
        whole = self.met(self.multiplied(operand, indices, filled), inputs)
        zeros = self.added(jnp.zeros_like(operand), indices, is_zero.astype(operand.dtype))
        others = self.met(zeros, inputs) - is_zero.astype(operand.dtype)
        return by_operand, jnp.where(others == none, whole / filled, none)


RULES: dict[str, Any] = {
    "scatter-max": ScatterExtreme,
    "scatter-min": ScatterExtreme,
    "scatter-mul": ScatterProduct,
    "top_k": TopK,
}
