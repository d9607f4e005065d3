"""Images with holes: making them, filling them by two classical methods, and scoring it.

A mask is a boolean NumPy array of the images' height and width, true where pixels are missing.
How to fill a hole by a network is for `learn.fit` to find out.
"""

import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from diffcompare.learn.model import Layer, Params


def hole(
    shape: tuple[int, int], size: tuple[int, int], corner: tuple[int, int] | None = None
) -> Bool[np.ndarray, "height width"]:
    """Returns the mask of one rectangular hole.

    Args:
        shape: Height and width of the images.
        size: Height and width of the hole.
        corner: Row and column of its first pixel; in the centre unless given, and half a pixel
            above or left of it where it cannot be.

    Raises:
        TypeError: One of the numbers is not an integer.
        ValueError: The hole does not lie in the image.

    Example:
        >>> from diffcompare import learn
        >>> learn.inpainting.hole((3, 4), (1, 2)).astype(int).tolist()
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    height, width = (operator.index(side) for side in shape)
    rows, columns = (operator.index(side) for side in size)
    if corner is None:
        corner = (max(height - rows, 0) // 2, max(width - columns, 0) // 2)
    top, left = (operator.index(start) for start in corner)
    fits = 0 <= top <= top + rows <= height and 0 <= left <= left + columns <= width
    if min(rows, columns) < 1 or not fits:
        raise ValueError(
            f"A hole of {rows} x {columns} pixels at row {top}, column {left} does not lie in an "
            f"image of {height} x {width}. Make it smaller, or move it."
        )
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = True
    return mask


def masked(
    images: ArrayLike, mask: ArrayLike, fill: float = 0.0
) -> Float[Array, "... height width"]:
    """Returns the images with every missing pixel set to `fill`, and the others as they are.

    Args:
        images: Images of shape `(..., height, width)`.
        mask: True where pixels are missing.
        fill: What stands in the hole.

    Raises:
        ValueError: The images do not have the height and width of the mask.

    Example:
        >>> import numpy as np
        >>> from diffcompare import learn
        >>> learn.inpainting.masked(np.ones((2, 2)), [[True, False], [False, False]]).tolist()
        [[0.0, 1.0], [1.0, 1.0]]
    """
    images, missing = _checked(images, mask)
    return images.at[..., missing].set(jnp.asarray(fill, images.dtype))


def composed(
    images: ArrayLike,
    guess: ArrayLike,
    mask: ArrayLike,
) -> Float[Array, "... height width"]:
    """Returns `guess` where pixels are missing, and the images where they are known.

    Args:
        images: Images of shape `(..., height, width)`; what is in the hole is not read.
        guess: As many images.
        mask: True where pixels are missing.

    Raises:
        ValueError: The images do not have the height and width of the mask, or the two differ
            in their shape.

    Example:
        >>> import numpy as np
        >>> from diffcompare import learn
        >>> image, guess = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])
        >>> learn.inpainting.composed(image, guess, [[False, True]]).tolist()
        [[1.0, 4.0]]
    """
    images, missing = _checked(images, mask)
    return images.at[..., missing].set(_like(guess, images)[..., missing])


def harmonic_weights(mask: ArrayLike) -> Float[np.ndarray, "hole known"]:
    """Returns what every known pixel contributes to every missing one in a harmonic fill.

    They solve Laplace's equation on the grid: a missing pixel is the mean of its neighbours
    above, below, left and right, as far as there are such. No contribution is negative, those to
    one pixel sum to 1, and only pixels that touch the hole contribute.

    Args:
        mask: True where pixels are missing. Time and memory grow with the third and second power
            of the number of missing pixels.

    Returns:
        Weights in float64, of shape `(missing pixels, known pixels)`, both in the order of rows.

    Raises:
        TypeError: `mask` is not boolean.
        ValueError: It does not have two axes, or no pixel is known.

    Example:
        >>> from diffcompare import learn
        >>> learn.inpainting.harmonic_weights([[False, True, True, False]]).tolist()
        [[0.667, 0.333], [0.333, 0.667]]
    """
    missing = _checked_mask(mask)
    if missing.ndim != 2 or missing.all():
        raise ValueError(
            "A harmonic fill needs a mask of shape (height, width) with at least one known pixel "
            f"(False), but it has shape {missing.shape} and {int((~missing).sum())} known pixels."
        )
    number = np.arange(missing.size).reshape(missing.shape)
    sides = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    one, other = (np.concatenate([pair[i].ravel() for pair in sides]) for i in (0, 1))
    # Both directions of every pair of neighbours, and of these the rows of missing pixels.
    pixel, neighbour = np.concatenate([one, other]), np.concatenate([other, one])
    is_missing = missing.ravel()
    row = np.cumsum(is_missing) - 1  # of a missing pixel among them
    chosen = is_missing[pixel]
    pixel, neighbour = pixel[chosen], neighbour[chosen]
    adjacency = np.zeros((int(is_missing.sum()), missing.size))
    adjacency[row[pixel], neighbour] = 1
    laplacian = np.diag(adjacency.sum(axis=1)) - adjacency[:, is_missing]
    return np.linalg.solve(laplacian, adjacency[:, ~is_missing])


def harmonic_fill(images: ArrayLike, mask: ArrayLike) -> Float[Array, "... height width"]:
    """Returns the images with the hole filled as smoothly as its surroundings allow.

    Laplace's equation is solved on the hole, with the surrounding pixels as boundary values;
    see `harmonic_weights`. Nothing is learned. On photographs it is hard to beat; on strokes,
    which end or turn within the hole, it is not.

    Args:
        images: Images of shape `(..., height, width)`; what is in the hole is not read.
        mask: True where pixels are missing; one mask for all images.

    Raises:
        TypeError: `mask` is not boolean.
        ValueError: The images do not have the height and width of the mask, or no pixel is known.

    Example:
        >>> import jax.numpy as jnp
        >>> from diffcompare import learn
        >>> image = jnp.array([[0.0, 9.0, 9.0, 3.0]])
        >>> learn.inpainting.harmonic_fill(image, [[False, True, True, False]]).tolist()
        [[0.00, 1.00, 2.00, 3.00]]

    References:
        Bertalmio et al., "Image inpainting", SIGGRAPH, 2000, compare with diffusion.
    """
    images, missing = _checked(images, mask)
    weights = jnp.asarray(harmonic_weights(missing), images.dtype)
    hole, known = np.nonzero(missing), np.nonzero(~missing)
    return images.at[..., *hole].set(images[..., *known] @ weights.T)


def least_squares(
    x: ArrayLike,
    y: ArrayLike,
    *,
    ridge: float = 1.0,
) -> Params:
    """Returns the linear model `W x + b` with the least squared error, in closed form.

    It minimises `sum ||y - W x - b||^2 + ridge * ||W||^2`, so it is what training a linear model
    on `half_squared_error` with weight decay approaches. NumPy computes it, in float64.

    Args:
        x: Inputs.
        y: Targets.
        ridge: How strongly weights are kept small. It must be positive: inputs that are equal in
            all examples, like the dark edge of images, leave their weights open otherwise.

    Returns:
        One `Layer`, to be passed to `learn.apply`, in the dtype of `y`.

    Raises:
        ValueError: `ridge` is not positive, or `x` and `y` are not two tables with one row for
            each example.

    Example:
        >>> import jax.numpy as jnp
        >>> from diffcompare import learn
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> (layer,) = learn.inpainting.least_squares(x, 3 * x + 1, ridge=1e-9)
        >>> layer.weight.tolist(), layer.bias.tolist()
        ([[3.00]], [1.00])

    References:
        Hoerl and Kennard, "Ridge regression", Technometrics 12(1), 1970.
    """
    if not ridge > 0:
        raise ValueError(f"ridge must be positive, but it is {ridge}.")
    inputs, targets = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if inputs.ndim != 2 or targets.ndim != 2 or len(inputs) != len(targets):
        raise ValueError(
            "least_squares needs x of shape (examples, inputs) and y of shape (examples, outputs)"
            f", but they have shapes {inputs.shape} and {targets.shape}."
        )
    x_mean, y_mean = inputs.mean(axis=0), targets.mean(axis=0)
    centred = inputs - x_mean
    gram = centred.T @ centred + ridge * np.eye(inputs.shape[1])
    weight = np.linalg.solve(gram, centred.T @ (targets - y_mean)).T
    dtype = jnp.asarray(y).dtype
    bias = y_mean - weight @ x_mean
    return (Layer(jnp.asarray(weight, dtype), jnp.asarray(bias, dtype)),)


def psnr(
    prediction: ArrayLike,
    truth: ArrayLike,
    mask: ArrayLike,
    *,
    peak: float = 1.0,
) -> Float[Array, ""]:
    """Returns the peak signal-to-noise ratio on missing pixels, `10 log10(peak^2 / MSE)`, in dB.

    The mean squared error is that of the missing pixels of all images together. Pixels that were
    known all along are not counted: a method would look better the smaller the hole is.

    Args:
        prediction: Images of shape `(..., height, width)`.
        truth: As many images.
        mask: True where pixels were missing.
        peak: The difference between white and black.

    Returns:
        A scalar; infinite where there is no error.

    Raises:
        ValueError: The shapes do not match, or no pixel is missing.

    Example:
        >>> import jax.numpy as jnp
        >>> from diffcompare import learn
        >>> truth = jnp.array([[0.0, 1.0]])
        >>> float(learn.inpainting.psnr(jnp.array([[0.1, 0.0]]), truth, [[True, False]]))
        20.00
    """
    truth, missing = _checked(truth, mask)
    if not missing.any():
        raise ValueError("psnr needs a mask with at least one missing pixel (True).")
    wrong = (_like(prediction, truth) - truth)[..., missing]
    return 10 * jnp.log10(peak**2 / jnp.mean(jnp.square(wrong)))


def _checked_mask(mask: ArrayLike) -> np.ndarray:
    if isinstance(mask, jax.core.Tracer):
        raise TypeError(
            "A mask must be known before compilation, but it is traced. Leave it out of the "
            "arguments of the function that is compiled."
        )
    missing = np.asarray(mask)
    if missing.dtype != bool:
        raise TypeError(
            f"A mask must be boolean, true where pixels are missing, but it is {missing.dtype}."
        )
    return missing


def _checked(images: ArrayLike, mask: ArrayLike) -> tuple[Array, np.ndarray]:
    missing, images = _checked_mask(mask), jnp.asarray(images)
    if images.shape[-missing.ndim :] != missing.shape:
        raise ValueError(
            f"The images must have shape (..., {', '.join(map(str, missing.shape))}), like the "
            f"mask, but they have shape {images.shape}."
        )
    return images, missing


def _like(guess: ArrayLike, images: Array) -> Array:
    guess = jnp.asarray(guess)
    if guess.shape != images.shape:
        raise ValueError(
            f"There must be as many guesses as images, of shape {images.shape}, but they have "
            f"shape {guess.shape}."
        )
    return guess
