"""Operations in terms of simpler ones: one table for every interpreter.

What an operation means is said once, as a JAX function of primitives that every interpreter
knows: a convolution is slices and a product, a factorization is its textbook algorithm. An
interpreter that has no rule of its own for a primitive asks here.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import factorizations, spectra, windows

Function = Callable[..., Any]


def expand(eqn: Any) -> ClosedJaxpr | None:
    """Returns an operation in terms of simpler primitives, or None where it has no expansion.

    Args:
        eqn: The equation. The result has its inputs and outputs, with their types.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> eqn = jax.make_jaxpr(jax.lax.cumprod)(jnp.ones(2)).eqns[0]
        >>> expand(eqn).eqns[-1].primitive.name != "cumprod"
        True
    """
    types = tuple(_type(variable) for variable in [*eqn.invars, *eqn.outvars])
    return _expanded(eqn.primitive.name, types, _Same(eqn))


def _type(variable):
    return variable.aval.shape, str(variable.aval.dtype)


class _Same:
    """An equation that is equal to another of the same parameters, whose expansion it shares."""

    def __init__(self, eqn: JaxprEqn):
        self.eqn = eqn

    def __hash__(self):
        return 0

    def __eq__(self, other):
        ours, theirs = self.eqn.params, other.eqn.params
        return ours is theirs or (
            ours.keys() == theirs.keys()
            and all(ours[key] is theirs[key] or _equal(ours[key], theirs[key]) for key in ours)
        )


def _equal(a, b):
    return isinstance(a, int | str | tuple | None) and type(a) is type(b) and a == b


# A loop that is interpreted step by step asks for the same expansion at every step.
@functools.lru_cache(maxsize=256)
def _expanded(name, types, same):
    eqn = same.eqn
    rule = EXPANSIONS.get(name)
    function = None if rule is None else rule(eqn)
    return None if function is None else traced(eqn, function)


def traced(eqn: Any, function: Function) -> ClosedJaxpr:
    """Returns a function of the inputs of an equation as a jaxpr with its outputs' types."""
    avals = [variable.aval for variable in eqn.outvars]

    def typed(*inputs):
        outputs = function(*inputs)
        outputs = outputs if isinstance(outputs, tuple | list) else [outputs]
        return [
            lax.convert_element_type(output, aval.dtype)
            for output, aval in zip(outputs, avals, strict=True)
        ]

    operands = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    return jax.make_jaxpr(typed)(*operands)


def _tree_product(eqn):
    def product(x):
        # Halves are multiplied, so that no quotient by an entry, which may be 0, is needed.
        axes = tuple(eqn.params["axes"])
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        shape = [x.shape[axis] for axis in kept]
        x = x.transpose(*axes, *kept).reshape(math.prod(x.shape[axis] for axis in axes), *shape)
        while len(x) > 1:
            half = len(x) // 2
            paired = x[:half] * x[half : 2 * half]
            x = jnp.concatenate([paired, x[2 * half :]])
        return x[0] if len(x) else jnp.ones(shape, x.dtype)

    return product


def _associative(function):
    def expansion(eqn):
        params = {key: eqn.params[key] for key in ("axis", "reverse")}
        return lambda x: lax.associative_scan(function, x, **params)

    return expansion


def _real(rule):
    """Returns the rule of an operation for real numbers only."""
    return lambda eqn: None if jnp.iscomplexobj(eqn.invars[-1].aval) else rule(eqn)


EXPANSIONS: Mapping[str, Callable[[JaxprEqn], Function | None]] = {
    "cholesky": _real(factorizations.cholesky),
    "conv_general_dilated": windows.convolution,
    "cumlogsumexp": _associative(jnp.logaddexp),
    "cummax": _associative(jnp.maximum),
    "cummin": _associative(jnp.minimum),
    "cumprod": _associative(jnp.multiply),
    "custom_linear_solve": _real(factorizations.linear_solve),
    "eigh": _real(spectra.eigh),
    "lu": factorizations.lu,
    "qr": _real(factorizations.qr),
    "reduce": windows.reduction,
    "reduce_prod": _tree_product,
    "reduce_window": windows.window_reduction,
    "reduce_window_max": windows.window_extreme,
    "reduce_window_min": windows.window_extreme,
    "reduce_window_sum": windows.window_sum,
    "select_and_gather_add": windows.select_and_gather_add,
    "select_and_scatter_add": windows.select_and_scatter_add,
    "svd": _real(spectra.svd),
    "triangular_solve": factorizations.triangular_solve,
    "tridiagonal_solve": factorizations.tridiagonal_solve,
}
