"""How often a gradient goes through the function, counted in the program that computes it."""

import math
from typing import Any

import jax
import jax.numpy as jnp

import diffcompare as dc


def count(method: dc.Method, params: Any) -> int:
    """Returns how many times one value and gradient go through a function of `params`.

    A difference evaluates it, all of it or what an entry changes. The others evaluate it once;
    then forward mode and the complex step push a tangent for every parameter, and reverse mode and
    a derived program pull once.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> (
        ...     count(dc.CentralDifference(evaluation="dense"), jnp.ones(5)),
        ...     count(dc.ReverseMode(), jnp.ones(5)),
        ... )
        (11, 2)
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    if isinstance(method, dc.ReverseMode | dc.Symbolic):
        return 2
    if isinstance(method, dc.ForwardMode | dc.ComplexStep):
        return 1 + size

    def marked(params):
        # Any function of these parameters: what a difference evaluates depends on nothing else.
        value = jax.tree.reduce(jnp.add, jax.tree.map(jnp.sum, params))
        shape = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return jax.pure_callback(lambda x: x, shape, value, vmap_method="broadcast_all")

    return _marks(jax.make_jaxpr(dc.value_and_grad(marked, method=method))(params).jaxpr)


def _marks(jaxpr: Any) -> int:
    """Returns how many evaluations of the marked function a jaxpr makes: a batch makes many."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "pure_callback":
            total += math.prod(eqn.outvars[0].aval.shape)
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for value in eqn.params.values():
            if hasattr(value, "jaxpr"):
                total += times * _marks(value.jaxpr)
    return total
