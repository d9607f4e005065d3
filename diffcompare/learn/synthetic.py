"""Two-dimensional points in classes that no line, or barely one, can separate."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Points = tuple[Float[Array, "points 2"], Int[Array, " points"]]


def two_moons(key: Array, points: int, *, noise: float = 0.1) -> Points:
    """Returns points on two half circles that reach into each other, and their labels.

    Args:
        key: A PRNG key.
        points: How many points; the classes take turns.
        noise: Standard deviation of the normal noise added to every coordinate. The half
            circles have radius 1.

    Returns:
        Points of shape `(points, 2)` and labels 0 or 1 of shape `(points,)`.

    Raises:
        ValueError: `points` is not positive, or `noise` is negative.

    Example:
        >>> import jax
        >>> from diffcompare import learn
        >>> x, y = learn.two_moons(jax.random.key(0), 4)
        >>> x.shape, y.tolist()
        ((4, 2), [0, 1, 0, 1])
    """
    _check(points, noise)
    along, scatter = jax.random.split(key)
    labels = _labels(points, 2)
    angle = jax.random.uniform(along, (points,), maxval=jnp.pi)
    upper = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    lower = jnp.stack([1 - jnp.cos(angle), 0.5 - jnp.sin(angle)], axis=-1)
    return _scattered(scatter, jnp.where((labels == 0)[:, None], upper, lower), noise), labels


def spiral(
    key: Array, points: int, *, classes: int = 2, turns: float = 1.5, noise: float = 0.02
) -> Points:
    """Returns points on spiral arms, one for each class, and their labels.

    Args:
        key: A PRNG key.
        points: How many points; the classes take turns.
        classes: How many arms.
        turns: How often an arm winds about the origin.
        noise: Standard deviation of the normal noise added to every coordinate. The arms end
            at radius 1.

    Returns:
        Points of shape `(points, 2)` and labels of shape `(points,)`.

    Raises:
        ValueError: `points` or `classes` is not positive, or `noise` is negative.

    Example:
        >>> import jax
        >>> from diffcompare import learn
        >>> x, y = learn.spiral(jax.random.key(0), 5, classes=3)
        >>> x.shape, y.tolist()
        ((5, 2), [0, 1, 2, 0, 1])
    """
    _check(points, noise, classes)
    along, scatter = jax.random.split(key)
    labels = _labels(points, classes)
    radius = jax.random.uniform(along, (points,), minval=0.1)
    angle = 2 * jnp.pi * (turns * radius + labels.astype(radius.dtype) / classes)
    return _scattered(scatter, _polar(radius, angle), noise), labels


def rings(key: Array, points: int, *, classes: int = 2, noise: float = 0.1) -> Points:
    """Returns points on rings about the origin, of radius 1, 2, ..., and their labels.

    Args:
        key: A PRNG key.
        points: How many points; the classes take turns.
        classes: How many rings.
        noise: Standard deviation of the normal noise added to every coordinate.

    Returns:
        Points of shape `(points, 2)` and labels of shape `(points,)`.

    Raises:
        ValueError: `points` or `classes` is not positive, or `noise` is negative.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from diffcompare import learn
        >>> x, y = learn.rings(jax.random.key(0), 4, noise=0.0)
        >>> jnp.linalg.norm(x, axis=1).tolist()
        [1.00, 2.00, 1.00, 2.00]
    """
    _check(points, noise, classes)
    around, scatter = jax.random.split(key)
    labels = _labels(points, classes)
    angle = jax.random.uniform(around, (points,), maxval=2 * jnp.pi)
    radius = 1 + labels.astype(angle.dtype)
    return _scattered(scatter, _polar(radius, angle), noise), labels


def xor(key: Array, points: int, *, noise: float = 0.0) -> Points:
    """Returns points of a square, labelled 1 where their coordinates differ in sign.

    Args:
        key: A PRNG key.
        points: How many points, uniform in [-1, 1] x [-1, 1].
        noise: Standard deviation of the normal noise added after labelling.

    Returns:
        Points of shape `(points, 2)` and labels 0 or 1 of shape `(points,)`.

    Raises:
        ValueError: `points` is not positive, or `noise` is negative.

    Example:
        >>> import jax
        >>> from diffcompare import learn
        >>> x, y = learn.xor(jax.random.key(0), 100)
        >>> bool(((x[:, 0] * x[:, 1] < 0) == (y == 1)).all())
        True
    """
    _check(points, noise)
    place, scatter = jax.random.split(key)
    x = jax.random.uniform(place, (points, 2), minval=-1.0)
    labels = ((x[:, 0] < 0) != (x[:, 1] < 0)).astype(jnp.int32)
    return _scattered(scatter, x, noise), labels


def _check(points: int, noise: float, classes: int = 2) -> None:
    if points < 1 or classes < 1:
        raise ValueError(
            f"points and classes must be positive integers, but they are {points} and {classes}."
        )
    if not noise >= 0:
        raise ValueError(
            f"noise is a standard deviation and cannot be negative, but it is {noise}."
        )


def _labels(points: int, classes: int) -> Array:
    return jnp.arange(points, dtype=jnp.int32) % classes


def _polar(radius: Array, angle: Array) -> Array:
    return jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle)], axis=-1)


def _scattered(key: Array, x: Array, noise: float) -> Array:
    return x + noise * jax.random.normal(key, x.shape, x.dtype)
