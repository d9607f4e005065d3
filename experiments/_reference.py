"""A reference that shares nothing with JAX: backpropagation by hand, in 50 digits."""

from collections.abc import Sequence
from typing import Literal

import mpmath
import numpy as np

DIGITS = 50

Activation = Literal["tanh", "relu"]


def gradient_of_half_squared_error(
    layers: Sequence[tuple[np.ndarray, np.ndarray]],
    x: np.ndarray,
    y: np.ndarray,
    activation: Activation,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the gradient of `1/2 ||y - (W2 activation(W1 x + b1) + b2)||^2`, in 50 digits.

    The arrays are taken as the exact binary fractions that they hold, of any dtype.

    Args:
        layers: The weight, of shape `(out, in)`, and the bias of every layer.
        x: The input, of shape `(in,)`.
        y: The target, of shape `(out,)`.
        activation: The function of the hidden units.

    Returns:
        A pair of object arrays of mpmath numbers for every layer.

    References:
        Rumelhart, Hinton and Williams, "Learning representations by back-propagating
        errors", Nature 323, 1986, equations 4 to 7.
    """
    with mpmath.workdps(DIGITS):
        exact = [(_exact(weight), _exact(bias)) for weight, bias in layers]
        inputs, slopes = [_exact(x)], []
        for position, (weight, bias) in enumerate(exact):
            sums = weight @ inputs[-1] + bias
            if position == len(exact) - 1:
                break
            inputs.append(np.vectorize(_FUNCTIONS[activation], otypes=[object])(sums))
            slopes.append(np.vectorize(_SLOPES[activation], otypes=[object])(sums))
        back = sums - _exact(y)
        grads = []
        for position in reversed(range(len(exact))):
            grads.append((np.multiply.outer(back, inputs[position]), back))
            if position > 0:
                back = (exact[position][0].T @ back) * slopes[position - 1]
        return grads[::-1]


def in_two_parts(exact: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns two float64 arrays whose sum has about 106 bits of `exact`.

    With them an error of 1e-16 is computed to many digits in float64: `(g - high) - low`.
    """
    with mpmath.workdps(DIGITS):
        high = np.vectorize(float, otypes=[np.float64])(exact)
        low = np.vectorize(lambda e, h: float(e - mpmath.mpf(h)), otypes=[np.float64])(exact, high)
    return high, low


def _exact(array: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda entry: mpmath.mpf(float(entry)), otypes=[object])(array)


def _tanh_slope(t):
    return 1 / mpmath.cosh(t) ** 2


_FUNCTIONS = {"tanh": mpmath.tanh, "relu": lambda t: max(t, mpmath.mpf(0))}
_SLOPES = {"tanh": _tanh_slope, "relu": lambda t: mpmath.mpf(int(t > 0))}
