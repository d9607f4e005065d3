"""Primitives that are a function of others by definition."""

import functools
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import walk

_CALLS = ("composite", "custom_vmap_call", "eval_jaxpr")
_BODIES = ("call", "call_jaxpr", "jaxpr")
# Solvers of equations: the derivative is that of the solution, not of the iteration.
_SOLVES = frozenset({"CustomRoot", "custom_linear_solve", "linear_solve"})


def body(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Returns the body of a primitive that JAX defines by a function of others, or None."""
    if eqn.primitive.name in _CALLS:
        return walk.close(next(eqn.params[key] for key in _BODIES if key in eqn.params))
    primitive = eqn.params.get("_prim")
    if not hasattr(primitive, "expand"):
        return None
    return _traced(primitive, tuple(variable.aval for variable in eqn.invars))


# A loop that is interpreted step by step asks for the same body at every step.
@functools.lru_cache(maxsize=256)
def _traced(primitive: Any, avals: tuple[Any, ...]) -> ClosedJaxpr:
    return jax.make_jaxpr(primitive.expand)(*jax.tree.unflatten(primitive.in_tree, avals))


def is_solve(eqn: JaxprEqn) -> bool:
    """Returns whether an equation has the derivative of a solution, and not of an iteration."""
    name = type(eqn.params["_prim"]).__name__ if "_prim" in eqn.params else eqn.primitive.name
    return name in _SOLVES


def has_own_rule(eqn: JaxprEqn) -> bool:
    """Returns whether a primitive that has a body is differentiated otherwise than its body."""
    return "_prim" in eqn.params or is_solve(eqn)
