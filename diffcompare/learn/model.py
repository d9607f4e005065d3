"""Models: the linear model and the multilayer perceptron, as pure functions of their weights."""

import itertools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int


class Layer(NamedTuple):
    """One affine layer: `weight @ x + bias`, or `weight @ x` where the bias is None."""

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"] | None


Params = tuple[Layer, ...]


def init(
    key: Array,
    sizes: Sequence[int],
    scale: float = 1.0,
    bias: bool = True,
    *,
    dtype: DTypeLike = float,
) -> Params:
    """Returns random weights, and zero biases, of a network with the given layer sizes.

    A weight has the standard deviation `scale * sqrt(2 / inputs)` (He initialisation), with
    which ReLU layers neither shrink nor blow up the signal.

    Args:
        key: A PRNG key.
        sizes: How many inputs, hidden units of each layer, and outputs. `(784, 10)` is the
            linear model, `(784, 100, 10)` has one hidden layer of 100 units.
        scale: What every weight is multiplied by.
        bias: Whether the layers have biases.
        dtype: The dtype of the weights. The default is JAX's own: float32, or float64
            where that is enabled.

    Returns:
        A tuple of `Layer`. Weights have shape `(outputs, inputs)`, biases `(outputs,)`.

    Raises:
        TypeError: An entry of `sizes` is not an integer.
        ValueError: `sizes` has fewer than two entries, or one that is not positive.

    Example:
        >>> import jax
        >>> from diffcompare import learn
        >>> params = learn.init(jax.random.key(0), (784, 100, 10))
        >>> [layer.weight.shape for layer in params]
        [(100, 784), (10, 100)]

    References:
        He et al., "Delving deep into rectifiers", ICCV, 2015, equation 10.
    """
    widths = _checked_sizes(sizes)
    keys = jax.random.split(key, len(widths) - 1)
    pairs = itertools.pairwise(widths)
    return tuple(
        _init_layer(key, inputs, outputs, scale, bias, dtype)
        for key, (inputs, outputs) in zip(keys, pairs, strict=True)
    )


def apply(
    params: Params, x: ArrayLike, activation: Callable[[Array], Array] = jax.nn.relu
) -> Float[Array, "..."]:
    """Returns the scores `W2 activation(W1 x + b1) + b2`, for as many layers as there are.

    With one layer this is the linear model `W x + b`. The activation follows every layer
    but the last. The network computes in the dtype of its weights, whatever that of `x`.

    Args:
        params: The layers, as `init` returns them.
        x: Floating-point inputs of shape `(..., inputs)`.
        activation: A function applied to the hidden units.

    Returns:
        Scores of shape `(..., outputs)`.

    Raises:
        TypeError: `x` is not floating point.
        ValueError: The shapes of the layers, or of `x` and the first layer, do not match.

    Example:
        >>> import jax.numpy as jnp
        >>> from diffcompare import learn
        >>> hidden = learn.Layer(jnp.array([[1.0, -1.0], [0.0, 2.0]]), None)
        >>> output = learn.Layer(jnp.array([[1.0, 3.0]]), jnp.array([0.5]))
        >>> learn.apply((hidden, output), jnp.array([1.0, 2.0])).tolist()
        [12.5]
    """
    x = jnp.asarray(x)
    _check_layers(params)
    _check_input(params, x)
    *hidden, last = params
    for layer in hidden:
        x = activation(_affine(layer, x))
    return _affine(last, x)


def predict(
    params: Params, image: ArrayLike, activation: Callable[[Array], Array] = jax.nn.relu
) -> Int[Array, ""]:
    """Returns the class of one image: the index of its highest score.

    This is the lecture's `classify_digit(image)`. It works under `jax.jit` and `jax.vmap`.

    Args:
        params: The layers, as `init` or `fit` returns them.
        image: One image of shape `(height, width)` or `(inputs,)`, scaled like the images
            that the network was trained on.
        activation: As in `apply`.

    Returns:
        The class, an integer of shape `()`.

    Raises:
        TypeError: The image is not floating point.
        ValueError: The image does not have as many pixels as the network has inputs.

    Example:
        >>> import jax.numpy as jnp
        >>> from diffcompare import learn
        >>> brighter_half = (learn.Layer(jnp.array([[1.0, 0.0], [0.0, 1.0]]), None),)
        >>> int(learn.predict(brighter_half, jnp.array([[0.2, 0.9]])))
        1
    """
    image = jnp.asarray(image)
    _check_layers(params)
    inputs = params[0].weight.shape[1]
    if image.ndim not in (1, 2) or image.size != inputs:
        raise ValueError(
            f"predict needs one image with {inputs} pixels, of shape ({inputs},) or (height, "
            f"width), but it has shape {image.shape}. For many images, use jax.vmap(predict, "
            "(None, 0))."
        )
    return jnp.argmax(apply(params, image.ravel(), activation))


def accuracy(
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    activation: Callable[[Array], Array] = jax.nn.relu,
) -> Float[Array, ""]:
    """Returns the fraction of inputs whose highest score is that of their label.

    Args:
        params: The layers, as `init` or `fit` returns them.
        x: Inputs of shape `(examples, inputs)`.
        y: Integer labels of shape `(examples,)`.
        activation: As in `apply`.

    Raises:
        ValueError: There is not one label for every input.

    Example:
        >>> import jax.numpy as jnp
        >>> from diffcompare import learn
        >>> brighter_half = (learn.Layer(jnp.array([[1.0, 0.0], [0.0, 1.0]]), None),)
        >>> x = jnp.array([[0.2, 0.9], [0.8, 0.1], [0.3, 0.4], [0.5, 0.6]])
        >>> float(learn.accuracy(brighter_half, x, jnp.array([1, 0, 1, 0])))
        0.75
    """
    scores = apply(params, x, activation)
    labels = jnp.asarray(y)
    if labels.shape != scores.shape[:-1]:
        raise ValueError(
            f"accuracy needs one label for every input, of shape {scores.shape[:-1]}, but the "
            f"labels have shape {labels.shape}. Pass integers, not one-hot vectors."
        )
    return jnp.mean(jnp.argmax(scores, axis=-1).astype(labels.dtype) == labels)


def _init_layer(
    key: Array, inputs: int, outputs: int, scale: float, bias: bool, dtype: DTypeLike
) -> Layer:
    normal = jax.random.normal(key, (outputs, inputs), dtype)
    deviation = jnp.asarray(scale * (2 / inputs) ** 0.5, normal.dtype)
    return Layer(deviation * normal, jnp.zeros(outputs, normal.dtype) if bias else None)


def _affine(layer: Layer, x: Array) -> Array:
    weight = jnp.asarray(layer.weight)
    # The weight is contracted as it lies. `x @ weight.T` would put a transpose and a nested
    # call around every product that the derived programs and graphs would then show.
    contraction = (((x.ndim - 1,), (1,)), ((), ()))
    y = jax.lax.dot_general(x.astype(weight.dtype), weight, contraction)
    return y if layer.bias is None else y + jnp.broadcast_to(layer.bias, y.shape)


def _checked_sizes(sizes: Sequence[int]) -> list[int]:
    try:
        widths = [operator.index(size) for size in sizes]
    except TypeError:
        raise TypeError(
            f"sizes must be a sequence of integers such as (784, 100, 10), but it is {sizes!r}."
        ) from None
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(
            "sizes needs the number of inputs, of hidden units and of outputs, at least two "
            f"positive integers such as (784, 10), but it is {tuple(widths)}."
        )
    return widths


def _check_layers(params: Any) -> None:
    if not isinstance(params, (tuple, list)) or not params:
        raise TypeError(
            "params must be a tuple of one or more Layer(weight, bias), as learn.init returns "
            f"it, but it is {type(params).__name__}."
        )
    for number, (weight, bias) in enumerate(params, start=1):
        if jnp.ndim(weight) != 2:
            raise ValueError(
                f"The weight of layer {number} must have shape (outputs, inputs), but it has "
                f"shape {jnp.shape(weight)}."
            )
        outputs = jnp.shape(weight)[0]
        if bias is not None and jnp.shape(bias) != (outputs,):
            raise ValueError(
                f"The bias of layer {number} must have shape ({outputs},), like the outputs of "
                f"its weight, but it has shape {jnp.shape(bias)}."
            )
    for number, (below, above) in enumerate(itertools.pairwise(params), start=1):
        given, taken = jnp.shape(below[0])[0], jnp.shape(above[0])[1]
        if given != taken:
            raise ValueError(
                f"Layer {number} gives {given} outputs, but layer {number + 1} takes {taken} "
                "inputs. The two must be the same number."
            )


def _check_input(params: Params, x: Array) -> None:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"The network needs floating-point inputs, but they are {x.dtype}. Scale them as "
            "for training, for example with x.astype(jnp.float32) / 255."
        )
    inputs = jnp.shape(params[0][0])[1]
    if x.ndim == 0 or x.shape[-1] != inputs:
        raise ValueError(
            f"The network takes inputs of shape (..., {inputs}), but x has shape {x.shape}. "
            "Flatten images first, for example with x.reshape(len(x), -1)."
        )
