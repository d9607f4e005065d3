"""Tracing a function of one pytree, with everything it closes over as an input."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from diffcompare._jaxpr import realify

PyTree = Any


class Trace(NamedTuple):
    """A traced function of one pytree."""

    jaxpr: ClosedJaxpr
    constants: list[Any]  # arrays that the function closes over, traced ones among them
    leaves: list[Any]  # of the argument
    inputs: Any  # tree structure of the argument
    outputs: Any  # tree structure of the value
    aux: Any  # tree structure of the auxiliary data
    is_active: list[bool]  # of each output: whether it belongs to the value

    def value(self, outputs: list[Any]) -> PyTree:
        return jax.tree.unflatten(self.outputs, self._chosen(outputs, True))

    def auxiliary(self, outputs: list[Any]) -> PyTree:
        return jax.tree.unflatten(self.aux, self._chosen(outputs, False))

    def _chosen(self, outputs, active):
        return [out for out, flag in zip(outputs, self.is_active, strict=True) if flag == active]


def trace(fun: Callable, x: PyTree, has_aux: bool = False) -> Trace:
    """Returns the trace of `fun` at the shapes and dtypes of `x`."""
    jaxpr, shape = jax.make_jaxpr(fun, return_shape=True)(x)
    jaxpr = _of_real_numbers(jaxpr)
    leaves, inputs = jax.tree.flatten(x)
    value, aux = shape if has_aux else (shape, ())
    outputs, aux_leaves = jax.tree.structure(value), jax.tree.leaves(aux)
    is_active = [True] * outputs.num_leaves + [False] * len(aux_leaves)
    return Trace(
        jaxpr, list(jaxpr.consts), leaves, inputs, outputs, jax.tree.structure(aux), is_active
    )


def _of_real_numbers(jaxpr: ClosedJaxpr) -> ClosedJaxpr:
    """Returns the jaxpr without complex numbers on the way from its inputs to its outputs."""
    inner: Any = jaxpr.jaxpr
    ends = [variable.aval for variable in [*inner.invars, *inner.outvars]]
    is_real = not any(jnp.issubdtype(aval.dtype, jnp.complexfloating) for aval in ends)
    return realify.realified(jaxpr) if is_real else jaxpr
