"""Promotion: the same function with every narrow floating-point number made wider.

A function of bfloat16 numbers, or one that computes its softmax in float32, is rounded where it
does not mean to be. Traced, promoted and evaluated it tells what it means. Constants keep the
values they were rounded to. Custom rules are replaced by the functions they belong to.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import walk

# Primitives whose meaning depends on the dtype, or that belong to somebody else. They are
# computed in the dtypes they were traced for.
_AS_TRACED = frozenset(
    {"bitcast_convert_type", "call_hi_primitive", "custom_partitioning", "ffi_call",
     "io_callback", "nextafter", "pallas_call", "pure_callback", "random_gamma", "shard_map"}
)  # fmt: skip

# The parameters that name a dtype of the output.
_DTYPES = ("dtype", "new_dtype", "preferred_element_type")

_SCATTERS: dict[str, Callable[..., Any]] = {
    "scatter": lax.scatter,
    "scatter-add": lax.scatter_add,
    "scatter-max": lax.scatter_max,
    "scatter-min": lax.scatter_min,
    "scatter-mul": lax.scatter_mul,
    "scatter-sub": lax.scatter_sub,
}


def promote(jaxpr: ClosedJaxpr, width: int) -> ClosedJaxpr:
    """Returns a jaxpr in which every real number has at least `width` bits.

    Complex numbers have twice as many. Inputs and outputs are promoted like the rest. Where
    nothing is narrower, it is the jaxpr itself.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> jaxpr = jax.make_jaxpr(lambda x: x * x)(jnp.bfloat16(1.5))
        >>> promote(jaxpr, 32).out_avals
        [ShapedArray(float32[])]
    """
    if not _is_narrow(jaxpr, width):
        return jaxpr
    promoter = Promoter(width)
    inputs = [_wide_shape(aval, width) for aval in jaxpr.in_avals]
    return jax.make_jaxpr(lambda *inputs: walk.walk(jaxpr, promoter, inputs))(*inputs)


class Promoter(walk.Interpreter[Any]):
    """What equations mean when numbers have at least `width` bits."""

    def __init__(self, width: int):
        self.width = width

    def constant(self, value: Any) -> Any:
        return self._widened(value)

    def call(self, eqn: JaxprEqn, body: ClosedJaxpr, inputs: list[Any]) -> Sequence[Any] | None:
        # It reads the bits of numbers.
        is_frexp = walk.call_name(body) == "frexp"
        return self._as_traced(eqn, inputs) if is_frexp else None

    def equation(self, eqn: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
        # An error about the promoted jaxpr still has to name the user's line.
        with source_info_util.user_context(eqn.source_info.traceback):
            if eqn.primitive.name in _AS_TRACED:
                return self._as_traced(eqn, inputs)
            if eqn.primitive.name in _SCATTERS:
                return [_scatter(eqn, inputs)]
            params = {
                key: self._parameter(key, value)
                for key, value in eqn.primitive.get_bind_params(eqn.params).items()
            }
            return self._bound(eqn, inputs, params)

    def _bound(self, eqn, inputs, params):
        outputs = eqn.primitive.bind(*inputs, **params)
        outputs = outputs if eqn.primitive.multiple_results else [outputs]
        return [self._widened(output) for output in outputs]

    def _as_traced(self, eqn, inputs):
        narrow = [
            value.astype(variable.aval.dtype) if _is_inexact(value) else value
            for value, variable in zip(inputs, eqn.invars, strict=True)
        ]
        return self._bound(eqn, narrow, eqn.primitive.get_bind_params(eqn.params))

    def _parameter(self, key, value):
        """Returns a parameter with the dtypes in it widened, and the jaxprs promoted."""
        if key in _DTYPES and value is not None and jnp.issubdtype(value, jnp.inexact):
            return wide_dtype(value, self.width)
        if _is_closed(value):
            return promote(value, self.width)
        if isinstance(value, tuple) and any(map(_is_closed, value)):
            items = [self._parameter("", item) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
        return value

    def _widened(self, value):
        if not _is_inexact(value):
            return value
        dtype = wide_dtype(value.dtype, self.width)
        return value if dtype == value.dtype else value.astype(dtype)


def wide_dtype(dtype: Any, width: int) -> jnp.dtype:
    """Returns the dtype of at least `width` bits a number, real or complex as `dtype` is."""
    width = max(width, int(jnp.finfo(dtype).bits))
    is_complex = jnp.issubdtype(dtype, jnp.complexfloating)
    return jnp.dtype(f"complex{2 * width}" if is_complex else f"float{width}")


def _is_closed(value: Any) -> bool:
    return hasattr(value, "jaxpr") and hasattr(value, "consts")


def _is_inexact(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jnp.inexact)


def _wide_shape(aval: Any, width: int) -> jax.ShapeDtypeStruct:
    dtype = wide_dtype(aval.dtype, width) if _is_inexact(aval) else aval.dtype
    return jax.ShapeDtypeStruct(aval.shape, dtype)


def _is_narrow(jaxpr: ClosedJaxpr, width: int) -> bool:
    """Returns whether some number in a jaxpr has fewer bits than `width`."""

    def is_narrow(atom):
        dtype = getattr(atom.aval, "dtype", None)
        inexact = dtype is not None and jnp.issubdtype(dtype, jnp.inexact)
        return inexact and jnp.finfo(dtype).bits < width

    inner = jaxpr.jaxpr
    return any(map(is_narrow, [*inner.invars, *inner.constvars])) or any(
        any(map(is_narrow, eqn.outvars))
        or any(_is_narrow(body, width) for body in _bodies(eqn.params.values()))
        for eqn in inner.eqns
    )


def _bodies(parameters: Any) -> Any:
    for value in parameters:
        if isinstance(value, tuple):
            yield from _bodies(value)
        elif hasattr(value, "eqns") or _is_closed(value):
            yield walk.close(value)


def _scatter(eqn: JaxprEqn, inputs: Sequence[Any]) -> Any:
    # Its parameters hold an addition of numbers of the old dtype.
    return _SCATTERS[eqn.primitive.name](
        *inputs,
        eqn.params["dimension_numbers"],
        indices_are_sorted=eqn.params["indices_are_sorted"],
        unique_indices=eqn.params["unique_indices"],
        mode=eqn.params["mode"],
    )
