"""Evaluating a traced function at `x + j h v`: the walk behind the complex step.

Every equation is interpreted over `Lifted` values. The walk goes into the bodies of custom
rules, and never calls a rule for a derivative, custom or JAX's own. What does not touch a lifted
value is computed by JAX as it stands.

There are two ways to choose `h`. With a number, the primitives in `NATIVE` and all products are
evaluated in complex arithmetic, truncation error and all. Without one, terms in `h**2` are
dropped by construction and the imaginary part is kept in units of `h`. That is what arithmetic
with `h = 1e-100` comes to, except where that arithmetic fails: `x * x` at zero is `-h**2`, so
that a guard `x * x == 0` no longer holds; a value smaller than `h` lies beyond the singularity of
its logarithm; a slope below 1e-18 underflows in complex64.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import (
    complexify_algebra,
    complexify_arrays,
    complexify_control,
    complexify_rules,
    walk,
)
from diffcompare._jaxpr.lifted import Bits, Lifted, bind, imaginary, is_inexact, is_lifted, real
from diffcompare._jaxpr.promote import promote

_ADVICE = "Write it with other functions, or use ReverseMode, ForwardMode or a finite difference."

_RULES: Mapping[str, Any] = {
    **complexify_rules.RULES,
    **complexify_arrays.RULES,
    **complexify_algebra.RULES,
    **complexify_control.RULES,
}
_KNOWN = frozenset({*_RULES, *walk.CALLS, "bitcast_convert_type"})


class Complexifier(walk.Interpreter[Any]):
    """What equations mean over arrays, of which some are lifted.

    Args:
        is_native: Whether products and the primitives in `complexify_rules.NATIVE` are
            evaluated in complex arithmetic, and not to first order.
    """

    def __init__(self, is_native: bool = False):
        self.is_native = is_native

    def constant(self, value: Any) -> Any:
        return value

    def call(self, eqn: JaxprEqn, body: ClosedJaxpr, inputs: list[Any]) -> Sequence[Any] | None:
        if any(isinstance(value, Lifted | Bits) for value in inputs):
            return self._frexp(eqn, body, inputs)
        return bind(eqn, inputs) if eqn.primitive.name in ("jit", "pjit") else None

    def equation(self, eqn: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
        name = eqn.primitive.name
        if any(isinstance(value, Bits) for value in inputs):
            return self._of_bits(eqn, inputs)
        if not any(map(is_lifted, inputs)):
            return bind(eqn, inputs)
        if name in _RULES:
            return _RULES[name](self, eqn, inputs)
        if name == "bitcast_convert_type":
            return self._to_bits(eqn, inputs)
        raise self.unknown(eqn)

    def run(self, jaxpr: ClosedJaxpr, inputs: Sequence[Any]) -> list[Any]:
        """Returns the outputs of a jaxpr over values."""
        return walk.walk(jaxpr, self, inputs)

    def unknown(self, eqn: JaxprEqn, advice: str = "") -> walk.UnknownPrimitiveError:
        """Returns the error for an equation without a rule."""
        advice = f"{advice} {_ADVICE}" if advice else _ADVICE
        return walk.unknown_primitive(eqn, "ComplexStep", _KNOWN, advice)

    def _to_bits(self, eqn, inputs):
        (x,) = inputs
        if jnp.issubdtype(eqn.params["new_dtype"], jnp.inexact):
            raise self.unknown(eqn, "It reads the bits of a number that depends on the argument.")
        return [Bits(output, x) for output in bind(eqn, [x.re])]

    def _of_bits(self, eqn, inputs):
        """Computes with bits, as long as they become conditions, or a rounded number."""
        name = eqn.primitive.name
        (bits, *_) = [value for value in inputs if isinstance(value, Bits)]
        if name == "bitcast_convert_type" and bits.source is not None:
            (re,) = bind(eqn, [bits.value])
            if is_inexact(re):
                return [Lifted(re, bits.source.im)]
        is_closed = name in complexify_control.RULES
        makes_float = any(is_inexact(variable.aval) for variable in eqn.outvars)
        if is_closed or makes_float or any(map(is_lifted, inputs)):
            raise self.unknown(eqn, "It takes the bits of a number that depends on the argument.")
        plain = [value.value if isinstance(value, Bits) else value for value in inputs]
        source = bits.source if name == "and" and any(map(_clears_last_bits, plain)) else None
        return [
            output if output.dtype == bool else Bits(output, source) for output in bind(eqn, plain)
        ]

    def _frexp(self, eqn, body, inputs):
        # Up to JAX 0.11 it is a function of bits, in which a walk would lose the slope.
        if walk.call_name(body) != "frexp" or "bitcast_convert_type" not in walk.primitives(body):
            return None
        return complexify_control.frexp(inputs[0], self.run(body, [inputs[0].re]))


def _clears_last_bits(mask: Any) -> bool:
    """Returns whether a mask is known and keeps the sign, the exponent and some digits."""
    if isinstance(mask, jax.core.Tracer) or np.ndim(mask) != 0:
        return False
    width = 8 * mask.dtype.itemsize
    if width not in (16, 32, 64):
        return False
    kept = jnp.finfo(f"float{width}").nexp + 1
    leading = ((1 << kept) - 1) << (width - kept)
    number = int(mask) % (1 << width)
    cleared = (1 << width) - 1 - number
    return number & leading == leading and cleared & (cleared + 1) == 0


def complexify(
    jaxpr: ClosedJaxpr, inputs: Sequence[Any], directions: Sequence[Any], *, step: Any = None
) -> tuple[list[Any], list[Any]]:
    """Returns the outputs of a jaxpr, and their slopes along a direction.

    Args:
        jaxpr: A function traced in its own dtypes.
        inputs: One array for each input; inexact.
        directions: The direction, like the inputs.
        step: The absolute step, or None for the limit.

    Returns:
        The values and the slopes, in the dtypes of the jaxpr's outputs.

    Raises:
        UnknownPrimitiveError: There is no rule for a primitive that meets a lifted value.

    Example:
        >>> import jax
        >>> jaxpr = jax.make_jaxpr(lambda x: x * x)(3.0)
        >>> values, slopes = complexify(jaxpr, [jax.numpy.array(3.0)], [jax.numpy.array(1.0)])
        >>> float(values[0]), float(slopes[0])
        (9.0, 6.0)
    """
    wide = promote(jaxpr, max(32, *(jnp.finfo(x.dtype).bits for x in inputs), 0))
    dtypes = [aval.dtype for aval in wide.in_avals]
    starts = [
        Lifted(x.astype(dtype), v.astype(dtype))
        for x, v, dtype in zip(inputs, directions, dtypes, strict=True)
    ]
    if step is not None:
        starts = [Lifted(z.re, jnp.asarray(step).astype(z.im.dtype) * z.im) for z in starts]
    outputs = Complexifier(is_native=step is not None).run(wide, starts)

    def slope(output):
        im = imaginary(output)
        return im if step is None else im / jnp.asarray(step).astype(im.dtype)

    dtypes = [aval.dtype for aval in jaxpr.out_avals]
    values = [real(z).astype(dtype) for z, dtype in zip(outputs, dtypes, strict=True)]
    return values, [slope(z).astype(dtype) for z, dtype in zip(outputs, dtypes, strict=True)]
