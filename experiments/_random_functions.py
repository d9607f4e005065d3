"""Random functions of one number, in five classes, with their exact derivative.

A function is drawn as a closure over an arithmetic: the same tree of operations is evaluated with
NumPy in float64, and with mpmath as a dual number of many digits, which gives its derivative in
exact arithmetic at the given constants. Every constant is a float64 number (a float32 number where
the function computes in float32), so that both evaluations mean the same function; what differs is
the rounding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
import numpy as np

CLASSES = ("smooth", "cancelling", "float32 inside", "poles and kinks", "scales")
_DIGITS = 80
# A sine of more takes as many digits as its argument has.
_FARTHEST = 1e25


class RandomFunction(NamedTuple):
    """A function, a point, and the derivative there."""

    fun: Callable[[Any], Any]  # of a float64 array, elementwise
    x: float
    truth: float


def draw(kind: str, count: int, seed: int) -> list[RandomFunction]:
    """Returns `count` functions of one of the `CLASSES`, the same for the same seed."""
    rng = np.random.default_rng([seed, CLASSES.index(kind)])
    builder = _BUILDERS[CLASSES.index(kind)]
    functions: list[RandomFunction] = []
    while len(functions) < count:
        drawn = _with_truth(*builder(rng))
        if drawn is not None:
            functions.append(drawn)
    return functions


def _with_truth(tree: Callable, x: float, length: float) -> RandomFunction | None:
    """Returns a drawn function with its derivative, or None where it shows none.

    It is left out where its computed values do not show the derivative at all: where rounding
    exceeds what the derivative makes of the whole length on which the function changes.
    """

    def fun(points):
        with np.errstate(all="ignore"):
            points = np.asarray(points, np.float64)
            return np.asarray(tree(_Floats, points), np.float64)

    with mpmath.workdps(_DIGITS):
        try:
            truth = float(_exact(tree, x).slope)
            rounding = max(
                abs(float(_exact(tree, point).value - mpmath.mpf(float(fun(point)))))
                for point in x + length * np.linspace(-0.5, 0.5, 7)
            )
        except (ArithmeticError, ValueError):
            return None
    if not (np.isfinite(fun(x)) and 1e-150 < abs(truth) < 1e150):
        return None
    return RandomFunction(fun, x, truth) if abs(truth) * length > 4 * rounding else None


def _exact(tree: Callable, x: float) -> "_Dual":
    return tree(_Duals, _Dual(mpmath.mpf(float(x)), mpmath.mpf(1)))


class _Floats:
    """The arithmetic of NumPy."""

    sin, cos, exp, log, sqrt, tanh, atan = (
        np.sin,
        np.cos,
        np.exp,
        np.log,
        np.sqrt,
        np.tanh,
        np.arctan,
    )
    abs, log1p, expm1 = np.abs, np.log1p, np.expm1

    @staticmethod
    def single(y):
        return y.astype(np.float32)

    @staticmethod
    def double(y):
        return y.astype(np.float64)

    @staticmethod
    def where(y, below, above):
        return np.where(y < 0, below, above)


class _Dual:
    """A number and its derivative, of many digits."""

    def __init__(self, value, slope):
        self.value, self.slope = value, slope

    def __add__(self, other):
        other = _dual(other)
        return _Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        other = _dual(other)
        return _Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)

    def __truediv__(self, other):
        other = _dual(other)
        value = self.value / other.value
        return _Dual(value, (self.slope - value * other.slope) / other.value)

    def __neg__(self):
        return _Dual(-self.value, -self.slope)

    def __sub__(self, other):
        return self + (-_dual(other))

    def __rsub__(self, other):
        return _dual(other) - self

    def __rtruediv__(self, other):
        return _dual(other) / self

    __radd__, __rmul__ = __add__, __mul__


def _dual(y: Any) -> _Dual:
    return y if isinstance(y, _Dual) else _Dual(mpmath.mpf(float(y)), mpmath.mpf(0))


def _lifted(value: Callable, slope: Callable) -> Callable:
    def function(y):
        if abs(y.value) > _FARTHEST:
            raise ValueError("too large for float64, or for its period to be known")
        result = value(y.value)
        if mpmath.im(result) != 0:
            raise ValueError("outside of the domain")
        return _Dual(result, slope(y.value, result) * y.slope)

    return staticmethod(function)


class _Duals:
    """The arithmetic of dual numbers in mpmath."""

    sin = _lifted(mpmath.sin, lambda y, f: mpmath.cos(y))
    cos = _lifted(mpmath.cos, lambda y, f: -mpmath.sin(y))
    exp = _lifted(mpmath.exp, lambda y, f: f)
    log = _lifted(mpmath.log, lambda y, f: 1 / y)
    log1p = _lifted(lambda y: mpmath.log(1 + y), lambda y, f: 1 / (1 + y))
    expm1 = _lifted(lambda y: mpmath.exp(y) - 1, lambda y, f: f + 1)
    sqrt = _lifted(mpmath.sqrt, lambda y, f: 1 / (2 * f))
    tanh = _lifted(mpmath.tanh, lambda y, f: 1 - f * f)
    atan = _lifted(mpmath.atan, lambda y, f: 1 / (1 + y * y))
    abs = _lifted(abs, lambda y, f: mpmath.sign(y))
    single = double = staticmethod(lambda y: y)
    where = staticmethod(lambda y, below, above: below if y.value < 0 else above)


# What a composition is made of: smooth, and of moderate size on moderate numbers.
_UNARY: tuple[Callable, ...] = (
    lambda m, y: m.sin(y),
    lambda m, y: m.cos(y),
    lambda m, y: m.tanh(y),
    lambda m, y: m.atan(y),
    lambda m, y: m.exp(-(y * y)),
    lambda m, y: m.exp(y * y.dtype.type(0.5) if hasattr(y, "dtype") else y * 0.5),
    lambda m, y: m.log(1 + y * y),
    lambda m, y: m.sqrt(1 + y * y),
    lambda m, y: 1 / (1 + y * y),
    lambda m, y: y * y,
    lambda m, y: y * y * y,
)


def _size(rng, low: float, high: float) -> float:
    """Returns a number of either sign, whose decimal exponent is uniform."""
    return float(rng.choice([-1.0, 1.0]) * 10 ** rng.uniform(low, high))


def _composition(rng, depth: int | None = None, single: bool = False) -> Callable:
    """Returns a random composition, sum or product of smooth functions of a moderate number."""
    depth = int(rng.integers(1, 5)) if depth is None else depth
    number = np.float32 if single else np.float64
    if depth == 0:
        return lambda m, y: y
    outer = _UNARY[rng.integers(len(_UNARY))]
    inner = _composition(rng, depth - 1, single)
    a, b = number(_size(rng, -0.7, 0.5)), number(rng.normal())
    if rng.random() < 0.7:
        return lambda m, y: outer(m, a * inner(m, y) + b)
    other = _composition(rng, int(rng.integers(0, depth)), single)
    if rng.random() < 0.5:
        return lambda m, y: outer(m, a * inner(m, y) + b) + other(m, y)
    return lambda m, y: outer(m, a * inner(m, y) + b) * other(m, y)


def _point(rng) -> tuple[float, float]:
    """Returns a point, and the number of radians in it: how fast a function changes there."""
    x = _size(rng, -3, 3)
    return x, float(rng.uniform(0.3, 3) * 10 ** rng.choice([0.0, 0.0, 1.0, -1.0])) / abs(x)


def _smooth(rng):
    x, rate = _point(rng)
    g, scale = _composition(rng), _size(rng, -3, 3)
    return lambda m, x: scale * g(m, rate * x), x, 1 / rate


def _cancelling(rng):
    x, rate = _point(rng)
    g, c = _composition(rng), _size(rng, 0, 11)
    scale, shift = _size(rng, -3, 3), 10 ** rng.uniform(-9, -1)
    far = 10 ** rng.uniform(-5, -1)
    weight = _size(rng, 0, 3)
    choices = (
        lambda m, y: (g(m, y) + c) - c,
        lambda m, y: (g(m, y) * c + y) - g(m, y) * c,
        lambda m, y: (g(m, y + shift) - g(m, y)) / shift,
        lambda m, y: m.sqrt(g(m, y) * g(m, y) + c * c) - abs(c),
        lambda m, y: m.log(m.exp(weight * 0.1 + y) + 1) - m.log(m.exp(weight * 0.1 + y)),
        lambda m, y: (1 - m.cos(far * y)) / (far * y * (far * y)),
        lambda m, y: (m.exp(far * y) - 1 - far * y) / (far * y),
        lambda m, y: (y + c) * (y + c) - (y * y + 2 * c * y + c * c - y),
        lambda m, y: ((y - 3) * y + 3) * y - 1 + g(m, y) * 1e-6,
        lambda m, y: m.sin(y + weight * 1e6) - m.sin(y + shift * y + weight * 1e6),
        lambda m, y: (g(m, y) * c + g(m, 2 * y)) - c * g(m, y) + c - c,
    )
    tree = choices[rng.integers(len(choices))]
    return lambda m, x: scale * tree(m, rate * x), x, 1 / rate


def _single_inside(rng):
    """Returns a function that computes in float32, or a part of which does.

    By itself, too, that part shows its derivative: one that is so flat that float32 makes a
    constant of it hides a share of the derivative from everyone.
    """
    while True:
        x, rate = _point(rng)
        g, h = _composition(rng, single=True), _composition(rng)
        rate32, kind, scale = np.float32(rate), rng.random(), _size(rng, -3, 3)
        inner = lambda m, x, g=g, rate=rate32: m.double(g(m, rate * m.single(x)))
        if _with_truth(inner, x, 1 / rate) is not None:
            break
    if kind < 0.5:
        return lambda m, x: inner(m, x) * scale, x, 1 / rate
    if kind < 0.75:
        return lambda m, x: inner(m, x) * scale + h(m, rate * x), x, 1 / rate
    return lambda m, x: h(m, inner(m, x)) * scale, x, 1 / rate


def _poles_and_kinks(rng):
    x, rate = _point(rng)
    g, scale = _composition(rng), _size(rng, -2, 2)
    drawn = [_feature(rng, x, rate) for _ in range(int(rng.choice([1, 1, 2, 3])))]
    features = [feature for feature, _ in drawn]

    def tree(m, x):
        total = g(m, rate * x)
        for feature in features:
            total = total + feature(m, x)
        return scale * total

    return tree, x, min(1 / rate, *(distance for _, distance in drawn))


def _feature(rng, x: float, rate: float) -> tuple[Callable, float]:
    """Returns a pole, a kink, a jump or an edge at a distance of 1e-6 to 1 of `|x|`, and that."""
    distance = _size(rng, -6, 0) * abs(x)
    at, weight = x + distance, _size(rng, -2, 1)
    other = _composition(rng)
    width, side = abs(distance), float(np.sign(distance))
    slope = weight * rate
    choices = (
        lambda m, x: weight * width / (x - at),
        lambda m, x: weight * width * width / ((x - at) * (x - at)),
        lambda m, x: weight * m.log(m.abs(x - at) / width),
        lambda m, x: weight * m.log((at - x) * (side / width)),
        lambda m, x: weight * m.sqrt((at - x) * (side / width)),
        lambda m, x: weight * width * width / ((x - at) * (x - at) + width * width),
        lambda m, x: slope * m.abs(x - at),
        lambda m, x: slope * m.where(x - at, 0 * x, x - at),
        lambda m, x: slope * m.where(x - at, x - at, (x - at) * 3.0),
        lambda m, x: weight * m.where(x - at, 0 * x, 1 + 0 * x),
        lambda m, x: weight * m.where(x - at, other(m, rate * x), 2.0 * other(m, rate * x)),
        lambda m, x: weight * m.tanh((x - at) / width),
    )
    return choices[rng.integers(len(choices))], width


def _scales(rng):
    scale, height = 10 ** rng.uniform(-30, 30), _size(rng, -30, 30)
    g, offset = _composition(rng), _size(rng, -2, 2) * (rng.random() < 0.5)
    kind = rng.random()
    if kind < 0.15:  # at zero
        x, origin = 0.0, scale * rng.normal()
    elif kind < 0.4:  # far nearer to zero than the scale
        x, origin = scale * _size(rng, -12, -1), scale * rng.normal()
    elif kind < 0.6:  # far from zero
        origin = scale * _size(rng, 1, 6)
        x = origin + scale * rng.normal()
    else:
        x, origin = scale * _size(rng, -1, 1), 0.0
    return lambda m, x: height * (g(m, (x - origin) / scale) + offset), float(x), scale


_BUILDERS = (_smooth, _cancelling, _single_inside, _poles_and_kinks, _scales)
