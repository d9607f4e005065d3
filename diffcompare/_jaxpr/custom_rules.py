"""Custom derivative rules, `jax.custom_jvp` and `jax.custom_vjp`, as traced programs.

An equation that calls a function with such a rule is bound once more, alone, and JAX is asked
for its derivative: what comes back is the program of the rule that the user wrote, in
primitives that every interpreter knows. Nothing private of JAX is read.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun

from diffcompare._jaxpr import walk

# The primitives that call a function with a rule of its own.
CUSTOM = ("custom_jvp_call", "custom_vjp_call")


def is_custom(eqn: JaxprEqn) -> bool:
    """Returns whether an equation calls a function with a custom derivative rule."""
    return eqn.primitive.name in CUSTOM


def name_of(eqn: JaxprEqn) -> str:
    """Returns the name of the Python function that has the rule."""
    body = walk.called(eqn)
    return (body and walk.call_name(body)) or "a function"


def defined_at(eqn: JaxprEqn) -> str:
    """Returns the file and line where the function is defined, or an empty string."""
    body = walk.called(eqn)
    info = getattr(body.jaxpr.debug_info, "func_src_info", None) if body else None
    return (info or "").partition(" at ")[2]


def is_from_jax(eqn: JaxprEqn) -> bool:
    """Returns whether the function is one of JAX's own, such as `jax.nn.relu`."""
    return "/jax/_src/" in defined_at(eqn).replace("\\", "/")


def place_of(eqn: JaxprEqn) -> str:
    """Returns the user's line that calls the function, or an empty string."""
    place = source_info_util.summarize(eqn.source_info)
    return "" if place == "<unknown>" else place


def floating_inputs(eqn: JaxprEqn) -> tuple[bool, ...]:
    """Returns of each input whether it has a derivative."""
    return tuple(_is_floating(variable) for variable in eqn.invars)


def floating_outputs(eqn: JaxprEqn) -> tuple[bool, ...]:
    """Returns of each output whether it has a derivative."""
    return tuple(_is_floating(variable) for variable in eqn.outvars)


def forward(eqn: JaxprEqn, active: Sequence[bool]) -> ClosedJaxpr:
    """Returns the rule as a program of slopes.

    Args:
        eqn: An equation of `custom_jvp_call`.
        active: Of each input, whether a slope arrives through it; all of those are
            floating point.

    Returns:
        The program `(*inputs, *slopes) -> slopes of the floating outputs`, with one slope
        for each active input. It is linear in them, if the rule is.

    Raises:
        TypeError: The function has a `custom_vjp` rule, which knows no slopes.
    """
    if eqn.primitive.name != "custom_jvp_call":
        raise TypeError(
            f"{name_of(eqn)} has a custom_vjp rule, which knows gradients and no slopes. Take its "
            "gradient, or give it a custom_jvp rule."
        )
    inputs, chosen = _abstract(eqn, active)
    count = len(inputs)

    def program(*arrays):
        fixed, slopes = arrays[:count], arrays[count:]
        return jax.jvp(_alone(eqn, fixed, active), tuple(_chosen(fixed, active)), slopes)[1]

    return jax.make_jaxpr(program)(*inputs, *chosen)


def reverse(eqn: JaxprEqn, active: Sequence[bool]) -> ClosedJaxpr:
    """Returns the rule as a program of gradients.

    Args:
        eqn: An equation of `custom_jvp_call` or `custom_vjp_call`.
        active: Of each input, whether its gradient is wanted; all of those are floating
            point.

    Returns:
        The program `(*inputs, *weights of the floating outputs) -> gradients`, with one
        gradient for each active input. A slope rule is transposed by JAX.
    """
    inputs, _ = _abstract(eqn, active)
    outputs = [_shape(v) for v in eqn.outvars if _is_floating(v)]
    count = len(inputs)

    def program(*arrays):
        fixed, weights = arrays[:count], arrays[count:]
        pullback = jax.vjp(_alone(eqn, fixed, active), *_chosen(fixed, active))[1]
        return pullback(tuple(weights))

    return jax.make_jaxpr(program)(*inputs, *outputs)


def single(eqn: JaxprEqn) -> ClosedJaxpr:
    """Returns a function that consists of one equation."""
    # Fresh variables for the inputs, some of which may be literals, or the same twice.
    fresh = jax.make_jaxpr(lambda *arrays: arrays)(*[_shape(v) for v in eqn.invars])
    variables: list[Any] = list(fresh.jaxpr.invars)
    alone = fresh.jaxpr.replace(
        eqns=[eqn.replace(invars=variables)], outvars=list(eqn.outvars), effects=eqn.effects
    )
    return ClosedJaxpr(alone, ())


def _alone(eqn, fixed, active):
    """Returns the floating outputs of the equation as a function of its active inputs."""
    fun = jaxpr_as_fun(single(eqn))

    def of_active(*arrays):
        given = iter(arrays)
        filled = [next(given) if flag else x for x, flag in zip(fixed, active, strict=True)]
        return tuple(_chosen(fun(*filled), floating_outputs(eqn)))

    return of_active


def _abstract(eqn, active):
    inputs = [_shape(variable) for variable in eqn.invars]
    return inputs, _chosen(inputs, active)


def _chosen(items, flags):
    return [item for item, flag in zip(items, flags, strict=True) if flag]


def _shape(variable):
    aval = variable.aval
    weak = getattr(aval, "weak_type", False)
    return jax.ShapeDtypeStruct(np.shape(aval), aval.dtype, weak_type=weak)


def _is_floating(variable):
    return jnp.issubdtype(variable.aval.dtype, jnp.floating)
