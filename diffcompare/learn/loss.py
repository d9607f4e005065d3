"""The lecture's loss. All others come from `optax.losses`."""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def half_squared_error(y_hat: ArrayLike, y: ArrayLike) -> Float[Array, "..."]:
    """Returns `1/2 ||y - y_hat||^2`, summed over the outputs, for every example.

    It is the sum of `optax.losses.l2_loss` over the last axis. Its derivative by `y_hat` is
    `y_hat - y`, without a rounding error: the factors 1/2 and 2 are powers of two.

    Args:
        y_hat: Predictions of shape `(..., outputs)`.
        y: Targets, of the same shape.

    Returns:
        Losses of shape `(...)`.

    Raises:
        ValueError: The shapes differ, or there is no axis to sum over.

    Example:
        >>> import jax.numpy as jnp
        >>> from diffcompare import learn
        >>> y_hat, y = jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.array([[1.0, 5.0], [3.0, 4.0]])
        >>> learn.half_squared_error(y_hat, y).tolist()
        [4.5, 12.5]
    """
    y_hat, y = jnp.asarray(y_hat), jnp.asarray(y)
    if y_hat.shape != y.shape or y.ndim == 0:
        raise ValueError(
            "half_squared_error needs predictions and targets of one shape (..., outputs), but "
            f"they have shapes {y_hat.shape} and {y.shape}. For labels, use jax.nn.one_hot."
        )
    return jnp.sum(optax.losses.l2_loss(y_hat, y), axis=-1)
