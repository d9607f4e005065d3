"""The lecture's custom function: a product with its own forward and backward pass."""

from typing import Any

import jax


@jax.custom_vjp
def multiply(x: Any, y: Any) -> jax.Array:
    """Returns `x * y`, differentiated by a rule that is written out.

    The forward pass saves what the backward pass needs: both factors. The backward pass
    multiplies the upstream gradient by the local derivative with respect to each input. JAX
    differentiates products by itself; the rule shows what a rule consists of, and how one is
    given to a function of one's own with `jax.custom_vjp`.

    Args:
        x: A floating-point array.
        y: Another, of the same shape and dtype.

    Example:
        >>> import jax
        >>> value, pullback = jax.vjp(multiply, 3.0, 4.0)
        >>> float(value), [float(gradient) for gradient in pullback(10.0)]
        (12.0, [40.0, 30.0])

    References:
        "Custom derivative rules for Python code", in the documentation of JAX.
    """
    return x * y


def _forward(x: Any, y: Any) -> tuple[Any, tuple[Any, Any]]:
    return x * y, (x, y)


def _backward(saved: tuple[Any, Any], upstream: Any) -> tuple[Any, Any]:
    x, y = saved
    return upstream * y, upstream * x


multiply.defvjp(_forward, _backward)
