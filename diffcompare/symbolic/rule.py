"""What a rule is: how a derivative crosses one operation, forwards and in reverse."""

import abc
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn, jaxpr_as_fun

from diffcompare._jaxpr import walk

Array = Any
Arrays = Sequence[Array]
Optional = Sequence[Array | None]  # None is zero


class Rule(abc.ABC):
    """How a derivative crosses an operation. None stands for zero."""

    @property
    def is_zero(self) -> bool:
        """Whether the derivative is zero everywhere."""
        return False

    @abc.abstractmethod
    def push(self, inputs: Arrays, outputs: Arrays, tangents: Optional) -> Optional:
        """Returns the slopes of the outputs, from those of the inputs; one is not None."""

    @abc.abstractmethod
    def pull(self, inputs: Arrays, outputs: Arrays, weights: Optional) -> Optional:
        """Returns the gradients by the inputs, from weights of the outputs; one is not None."""


def is_floating(aval: Any) -> bool:
    """Returns whether arrays of this type have a derivative."""
    return jnp.issubdtype(aval.dtype, jnp.floating)


def apply(eqn: JaxprEqn, inputs: Arrays, **changed: Any) -> Arrays:
    """Returns the outputs of an equation, computed by JAX, perhaps with changed parameters."""
    body = walk.called(eqn)
    if body is not None:
        return jaxpr_as_fun(body)(*inputs)
    outputs = eqn.primitive.bind(*inputs, **{**eqn.params, **changed})
    return outputs if eqn.primitive.multiple_results else [outputs]
