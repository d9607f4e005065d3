"""Custom rules as people write them: right ones, and each mistake that people make."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import checking_cases.case as c
from experiments._planted_mistakes import misreported, with_mistake


def reverse(fun, backward):
    """Returns `fun` with the reverse rule `backward(args, output, cotangent) -> gradients`."""
    ruled = jax.custom_vjp(lambda *args: fun(*args))

    def forward(*args):
        output = fun(*args)
        return output, (args, output)

    ruled.defvjp(forward, lambda saved, g: backward(*saved, g))
    return ruled


def both(fun, tangent):
    """Returns `fun` with the rule `tangent(args, output, tangents)`, for both modes."""
    ruled = jax.custom_jvp(lambda *args: fun(*args))

    @ruled.defjvp
    def rule(args, tangents):
        output = fun(*args)
        return output, tangent(args, output, tangents)

    return ruled


def _pointwise(fun, slope):
    """Returns a pointwise function with the reverse rule `slope(x, y)`."""
    return reverse(fun, lambda args, y, g: (g * slope(args[0], y),))


def _tangent(fun, slope):
    """Returns a pointwise function with `slope(x, y)` as its rule for both modes."""
    return both(fun, lambda args, y, t: t[0] * slope(args[0], y))


def _normal_cdf(x):
    return (1 + lax.erf(x * 0.7071067811865476)) / 2  # ndtr does not exist in half precision


def _gelu_slope(x):
    return _normal_cdf(x) + x * jnp.exp(-x * x / 2) * 0.3989422804014327


# Mistakes of the slope of a pointwise function: what it computes, and a wrong slope.
POINTWISE = {
    "sine with the slope 2 cos": (jnp.sin, lambda x, y: 2 * jnp.cos(x)),
    "cosine without its sign": (jnp.cos, lambda x, y: jnp.sin(x)),
    "tanh of the output taken for the input": (jnp.tanh, lambda x, y: 1 - jnp.tanh(y) ** 2),
    "tanh with the input taken for the output": (jnp.tanh, lambda x, y: 1 - x**2),
    "sigmoid with the slope s": (jax.nn.sigmoid, lambda x, y: y),
    "sigmoid with the slope s (1 + s)": (jax.nn.sigmoid, lambda x, y: y * (1 + y)),
    "softplus with the slope of tanh": (jax.nn.softplus, lambda x, y: jnp.tanh(x)),
    "exponential with the slope x": (jnp.exp, lambda x, y: x),
    "cube with the exponent 3": (lambda x: x**3, lambda x, y: 3 * x**3),
    "cube without its factor": (lambda x: x**3, lambda x, y: x**2),
    "reciprocal without its sign": (lambda x: 1 / (2 + x**2), lambda x, y: 2 * x * y**2),
    "leaky slope 0.1 for 0.2": (
        lambda x: jnp.where(x > 0, x, 0.2 * x), lambda x, y: jnp.where(x > 0, c.like(x, 1), 0.1)),
    "silu without its second term": (jax.nn.silu, lambda x, y: jax.nn.sigmoid(x)),
    "gelu without its density": (
        lambda x: jax.nn.gelu(x, approximate=False), lambda x, y: _normal_cdf(x)),
    "logarithm with the slope 1": (lambda x: jnp.log(2 + x * x), lambda x, y: 2 * x),
    "wrong where negative": (jnp.sin, lambda x, y: jnp.where(x < 0, -1, 1) * jnp.cos(x)),
    "wrong above 0.1": (jnp.sin, lambda x, y: jnp.where(x > 0.1, 0, jnp.cos(x))),
    "constant": (jnp.arctan, lambda x, y: jnp.ones_like(x)),
    "zero": (jnp.arctan, lambda x, y: jnp.zeros_like(x)),
    "a tenth too large": (jnp.sin, lambda x, y: 1.1 * jnp.cos(x)),
    "slope of a neighbour": (jnp.sin, lambda x, y: jnp.cos(jnp.roll(x, 1))),
    "slope at a shifted point": (jnp.sin, lambda x, y: jnp.cos(x + 0.25)),
    "relu with the slope of leaky relu": (
        jax.nn.relu, lambda x, y: jnp.where(x > 0, c.like(x, 1), 0.1)),
    "square root with the slope 1 / y": (
        lambda x: jnp.sqrt(1 + x * x), lambda x, y: 2 * x / y),
}  # fmt: skip
FINE = {
    "one percent": (jnp.sin, lambda x, y: 1.01 * jnp.cos(x)),
    "one percent of one entry": (
        jnp.sin, lambda x, y: jnp.cos(x) * c.like(x, [1, 1, 0.99, 1, 1])),
    "degrees of a slightly wrong pi": (
        lambda x: jnp.sin(x * (np.pi / 3)), lambda x, y: jnp.cos(x * (np.pi / 3)) * (3.1 / 3)),
    "gelu with the slope of its approximation": (
        lambda x: jax.nn.gelu(x, approximate=False),
        lambda x, y: jax.vmap(jax.grad(lambda x: jax.nn.gelu(x, approximate=True)))(x)),
    "gelu with the slope of silu": (
        lambda x: jax.nn.gelu(x, approximate=False),
        lambda x, y: jax.nn.sigmoid(1.702 * x) * (1 + 1.702 * x * (1 - jax.nn.sigmoid(1.702 * x)))),
    "a term of a thousandth": (jnp.tanh, lambda x, y: 1 - y**2 + 0.001),
}  # fmt: skip
FINER = {
    "a thousandth": (jnp.sin, lambda x, y: 1.001 * jnp.cos(x)),
    "a millionth": (jnp.sin, lambda x, y: (1 + 1e-6) * jnp.cos(x)),
    "a thousandth of one entry": (
        jnp.sin, lambda x, y: jnp.cos(x) * c.like(x, [1, 1.001, 1, 1, 1])),
    "pi to seven digits": (
        lambda x: jnp.sin(x * np.pi), lambda x, y: jnp.cos(x * np.pi) * 3.141593),
    "cosine with six digits": (
        lambda x: jnp.sin(1 + x), lambda x, y: jnp.cos(1 + x) * (1 + 2.0**-20)),
}  # fmt: skip
RIGHT_POINTWISE = {
    "stable softplus": (
        lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))),
        lambda x, y: jax.nn.sigmoid(x)),
    "exact gelu by its formula": (
        lambda x: jax.nn.gelu(x, approximate=False), lambda x, y: _gelu_slope(x)),
    "tanh by its output": (jnp.tanh, lambda x, y: (1 - y) * (1 + y)),
    "squareplus": (
        lambda x: (x + jnp.sqrt(x * x + 4)) / 2, lambda x, y: y / jnp.sqrt(x * x + 4)),
    "logarithm of 1 + exp": (
        lambda x: jnp.log(1 + jnp.exp(x)), lambda x, y: 1 - 1 / (1 + jnp.exp(x))),
}  # fmt: skip


def _vectors(rule, table):
    return {name: c.of_vector(rule(*row)) for name, row in table.items()}


def dense(dtype, backward, square=False):
    """Returns a layer `tanh(x w + b)`, whose product has a rule of its own, of `w` and `b`."""
    product = reverse(lambda x, w, b: x @ w + b, backward)
    x = c.normal(dtype, 3, 3 if square else 4)
    loss = lambda w, b: jnp.sum(jnp.tanh(product(x, w, b)), -1) ** 2
    return loss, (c.normal(dtype, x.shape[1], 3, seed=1) / 2, c.normal(dtype, 1, 3, seed=2))


def _dense(weight=None, bias=None, square=False):
    """Returns the builder of a layer with these gradients of `w` and `b`; None is the right one."""

    def backward(args, y, g):
        x, w, _ = args
        dw = x.T @ g if weight is None else weight(x, w, g)
        return g @ w.T, dw, jnp.sum(g, 0, keepdims=True) if bias is None else bias(g)

    return lambda dtype: dense(dtype, backward, square)


OF_WEIGHTS = {
    "dense layer, weights transposed": _dense(lambda x, w, g: g.T @ x, square=True),
    "dense layer, weights lost": _dense(lambda x, w, g: jnp.zeros_like(w)),
    "dense layer, mean over the batch": _dense(lambda x, w, g: x.T @ g / 3),
    "dense layer, only the first example": _dense(lambda x, w, g: jnp.outer(x[0], g[0])),
    "dense layer, last example left out": _dense(lambda x, w, g: x[:-1].T @ g[:-1]),
    "dense layer, cotangent ignored": _dense(lambda x, w, g: x.T @ jnp.ones_like(g)),
    "dense layer, sign of the weights": _dense(lambda x, w, g: -x.T @ g),
    "dense layer, weight decay in the rule": _dense(lambda x, w, g: x.T @ g + 0.1 * w),
    "dense layer, a column twice": _dense(
        lambda x, w, g: (x.T @ g).at[:, 2].multiply(2, unique_indices=True)
    ),
    "dense layer, cotangent clipped": _dense(lambda x, w, g: x.T @ jnp.clip(g, -0.5, 0.5)),
    "dense layer, examples out of order": _dense(lambda x, w, g: x[::-1].T @ g),
}
OF_BIAS = {
    "dense layer, bias not summed over the batch": _dense(bias=lambda g: g[:1]),
    "dense layer, mean over the batch for the bias": _dense(
        bias=lambda g: jnp.mean(g, 0, keepdims=True)
    ),
    "dense layer, bias lost": _dense(bias=lambda g: jnp.zeros_like(g[:1])),
    "dense layer, bias summed to one number": _dense(
        bias=lambda g: jnp.full_like(g[:1], jnp.sum(g))
    ),
}
RIGHT_DENSE = {"dense layer": _dense(), "square dense layer": _dense(square=True)}


def _two(fun, backward, *shapes):
    """Returns the builder of a function of several arrays with a reverse rule."""
    return lambda dtype: (
        reverse(fun, backward),
        tuple(c.normal(dtype, *shape, seed=seed) for seed, shape in enumerate(shapes)),
    )


_product = lambda x, y: x * y
_quotient = lambda x, y: x / (2 + y**2)
BOTH_LEAVES = {
    "product, gradients swapped": _two(_product, lambda a, _, g: (g * a[0], g * a[1]), (4,), (4,)),
    "product, cotangent ignored": _two(_product, lambda a, _, g: (a[1], a[0]), (4,), (4,)),
    "matrix product, each transposed": _two(
        jnp.matmul, lambda a, _, g: (a[1] @ g, g @ a[0]), (3, 3), (3, 3)),
    "distance, sign swapped": _two(
        lambda x, y: jnp.sum((x - y) ** 2),
        lambda a, _, g: (2 * g * (a[1] - a[0]), 2 * g * (a[0] - a[1])), (4,), (4,)),
}  # fmt: skip
SECOND_LEAF = {
    "quotient, sign of the denominator": _two(
        _quotient, lambda a, y, g: (g / (2 + a[1]**2), 2 * a[1] * g * y / (2 + a[1]**2)),
        (4,), (4,)),
    "product, second doubled": _two(
        _product, lambda a, _, g: (g * a[1], 2 * g * a[0]), (4,), (4,)),
    "row scaling, not summed over the rows": _two(
        lambda x, s: x * s, lambda a, _, g: (g * a[1], (g * a[0])[:, :1]), (2, 3), (2, 1)),
    "attention, values by the wrong weights": _two(
        lambda s, v: jax.nn.softmax(s) @ v,
        lambda a, _, g: (
            jax.vjp(lambda s: jax.nn.softmax(s) @ a[1], a[0])[1](g)[0], jax.nn.softmax(a[0]) @ g),
        (3, 3), (3, 2)),
    "layer norm, gain without the normalization": _two(
        lambda x, gain: jax.nn.standardize(x) * gain,
        lambda a, _, g: (
            jax.vjp(jax.nn.standardize, a[0])[1](g * a[1])[0],
            jnp.sum(g * a[0], 0, keepdims=True)), (2, 4), (1, 4)),
}  # fmt: skip
_softmax_missing = lambda a, y, g: (y * g,)
FIRST_LEAF = {
    "softmax, only its diagonal": _two(jax.nn.softmax, lambda a, y, g: (g * y * (1 - y),), (4,)),
    "softmax, without its second term": _two(jax.nn.softmax, _softmax_missing, (4,)),
    "log-softmax, without its second term": _two(jax.nn.log_softmax, lambda a, y, g: (g,), (4,)),
    # One error, the same for every output: outputs weighted by numbers whose sum is 0 hide it.
    "log-softmax of two, without its second term": _two(
        jax.nn.log_softmax, lambda a, y, g: (g,), (2,)),
    "log-softmax of three, without its second term": _two(
        jax.nn.log_softmax, lambda a, y, g: (g,), (3,)),
    "centred, the mean of three outputs forgotten": _two(
        lambda x: x - jnp.mean(x), lambda a, y, g: (g,), (3,)),
    "logsumexp, not normalized": _two(
        jax.nn.logsumexp, lambda a, y, g: (g * jnp.exp(a[0]),), (4,)),
    "normalized vector, without the projection": _two(
        lambda x: x / jnp.linalg.norm(x), lambda a, y, g: (g / jnp.linalg.norm(a[0]),), (4,)),
    "centred, mean not subtracted": _two(
        lambda x: (x - jnp.mean(x)) ** 2, lambda a, y, g: (2 * g * (a[0] - jnp.mean(a[0])),),
        (4,)),
    "batch norm, statistics held constant": _two(
        lambda x: (x - jnp.mean(x)) / jnp.std(x), lambda a, y, g: (g / jnp.std(a[0]),), (5,)),
    "variance, divided by n - 1": _two(
        jnp.var, lambda a, y, g: (2 * g * (a[0] - jnp.mean(a[0])) / 4,), (5,)),
    "cumulative sum, not reversed": _two(
        jnp.cumsum, lambda a, y, g: (jnp.cumsum(g),), (5,)),
    "maximum, to the first entry": _two(
        jnp.max, lambda a, y, g: (jnp.zeros_like(a[0]).at[0].set(g),), (4,)),
    "maximum, shared by all": _two(
        jnp.max, lambda a, y, g: (jnp.full_like(a[0], g / 4),), (4,)),
    "convolution, kernel not turned": _two(
        lambda x: jnp.convolve(x, c.like(x, [1.0, 2.0, -1.0]), "same"),
        lambda a, y, g: (jnp.convolve(g, c.like(g, [1.0, 2.0, -1.0]), "same"),), (5,)),
    "gather, repeated entries set instead of added": _two(
        lambda x: x[jnp.asarray([0, 1, 0])],
        lambda a, y, g: (jnp.zeros_like(a[0]).at[jnp.asarray([0, 1])].set(g[1:]),), (3,)),
    "sort, cotangent not put back": _two(jnp.sort, lambda a, y, g: (g,), (5,)),
    "mean taken for a sum": _two(
        jnp.mean, lambda a, y, g: (jnp.full_like(a[0], g),), (5,)),
    "cross-entropy, divided by the batch twice": _two(
        lambda z: -jnp.mean(jax.nn.log_softmax(z)[:, 0]),
        lambda a, y, g: (g * (jax.nn.softmax(a[0]) - c.like(a[0], [[1.0, 0, 0]])) / 16,), (4, 3)),
    "cross-entropy, cotangent ignored": _two(
        lambda z: -jax.nn.log_softmax(z)[:, 0],
        lambda a, y, g: ((jax.nn.softmax(a[0]) - c.like(a[0], [[1.0, 0, 0]])),), (4, 3)),
    "norm, squared": _two(
        jnp.linalg.norm, lambda a, y, g: (2 * g * a[0],), (4,)),
    "inverse, not transposed": _two(
        lambda a: jnp.linalg.inv(a), lambda a, y, g: (-y @ g @ y,), (3, 3)),
    "log-determinant, not transposed": _two(
        lambda a: jnp.linalg.slogdet(a)[1], lambda a, y, g: (g * jnp.linalg.inv(a[0]),), (3, 3)),
    "fft, not conjugated": _two(
        lambda x: jnp.real(jnp.fft.fft(x)) + jnp.imag(jnp.fft.fft(x)),
        lambda a, y, g: (jnp.real(jnp.fft.fft(g)),), (5,)),
    "transposition forgotten": _two(
        lambda x: jnp.sin(x).T, lambda a, y, g: (g * jnp.cos(a[0]),), (3, 3)),
    "chain without its inner slope": _two(
        lambda x: jnp.sin(x**2), lambda a, y, g: (g * jnp.cos(a[0] ** 2),), (4,)),
    "sum of two paths, one missing": _two(
        lambda x: x * jnp.exp(x), lambda a, y, g: (g * jnp.exp(a[0]),), (4,)),
    "first row of the batch only": _two(
        lambda x: jnp.tanh(x), lambda a, y, g: (
            (g * (1 - y**2)) * c.like(g, [[1.0], [0.0], [0.0]]),), (3, 2)),
    "residual connection forgotten": _two(
        lambda x: x + jnp.tanh(x), lambda a, y, g: (g * (1 - jnp.tanh(a[0]) ** 2),), (4,)),
    "dropout, another mask": _two(
        lambda x: x * c.like(x, [2.0, 0.0, 2.0, 2.0]),
        lambda a, y, g: (g * c.like(g, [2.0, 2.0, 0.0, 2.0]),), (4,)),
}  # fmt: skip
# Rules that do not return what a linear function of the cotangent returns.
NOT_LINEAR = {
    "cotangent clipped": _two(
        jnp.sin, lambda a, y, g: (jnp.clip(g, -0.25, 0.25) * jnp.cos(a[0]),), (4,)),
    "sign of the cotangent": _two(
        jnp.sin, lambda a, y, g: (jnp.sign(g) * jnp.cos(a[0]),), (4,)),
    "modulus of the cotangent": _two(
        jnp.sin, lambda a, y, g: (jnp.abs(g) * jnp.cos(a[0]),), (6,)),
    "cotangent normalized": _two(
        jnp.sin, lambda a, y, g: (g / jnp.linalg.norm(g) * jnp.cos(a[0]),), (4,)),
    "cotangent squared": _two(jnp.sin, lambda a, y, g: (g**2 * jnp.cos(a[0]),), (4,)),
    "large cotangents clipped, within a large loss": lambda dtype: (
        lambda x: 1000 * reverse(
            jnp.sin, lambda a, y, g: (jnp.clip(g, -100, 100) * jnp.cos(a[0]),))(x),
        (c.normal(dtype, 4),)),
    "constant added to the cotangent": _two(
        jnp.sin, lambda a, y, g: ((g + 0.125) * jnp.cos(a[0]),), (4,)),
}  # fmt: skip
# Right for the cotangents of a loss of moderate size: it is the rule that is wrong, and no leaf.
RIGHT_FOR_SOME = {
    "large cotangents clipped": _two(
        jnp.sin, lambda a, y, g: (jnp.clip(g, -8, 8) * jnp.cos(a[0]),), (4,)),
    "nan at a zero cotangent": _two(
        jnp.sin, lambda a, y, g: (g * g / g * jnp.cos(a[0]),), (4,)),
}  # fmt: skip
BY_TANGENT = {
    "tangent doubled": (jnp.sin, lambda x, y: 2 * jnp.cos(x)),
    "tangent negated": (jnp.arctan, lambda x, y: -1 / (1 + x * x)),
    "tangent at the output": (jnp.tanh, lambda x, y: 1 - jnp.tanh(y) ** 2),
    "tangent lost": (jnp.arctan, lambda x, y: jnp.zeros_like(x)),
    "tangent wrong where negative": (
        jax.nn.softplus, lambda x, y: jnp.where(x > 0, jax.nn.sigmoid(x), 0)),
    "tangent of one entry": (jnp.sin, lambda x, y: jnp.cos(x) * c.like(x, [1, 1, 1, 1.5, 1])),
}  # fmt: skip
SIGNS = {
    "number doubled": c.at(misreported(lambda g: 2 * g), 1.5),
    "number negated": c.at(lambda x: jnp.exp(misreported(lambda g: -g)(x)), 1.5),
    "number lost": c.at(lambda x: jnp.exp(misreported(lambda g: 0 * g)(x)), 1.5),
}
OF_COMPLEX = {
    "complex, conjugated": c.of_vector(
        with_mistake(lambda z: z**2, lambda g, _: (jnp.conj(g[0]),)), 3),
    "complex, real part only": c.of_vector(
        with_mistake(jnp.sin, lambda g, _: (jnp.real(g[0]).astype(g[0].dtype),)), 3),
    "complex, doubled": c.of_vector(
        with_mistake(lambda z: jnp.sum(jnp.abs(z) ** 2), lambda g, _: (2 * g[0],)), 3),
    "complex, turned": c.of_vector(with_mistake(jnp.exp, lambda g, _: (1j * g[0],)), 3),
    "complex, one entry": c.of_vector(
        with_mistake(
            lambda z: z * jnp.conj(z), lambda g, _: (g[0] * c.like(g[0], [1, 1, 2]),)), 3),
}  # fmt: skip

CASES = [
    *c.taking_turns("pointwise rules", _vectors(_pointwise, POINTWISE), c.FULL, c.WRONG),
    *c.taking_turns("pointwise rules", _vectors(_pointwise, POINTWISE), c.HALF, c.WRONG),
    *c.taking_turns("pointwise rules", _vectors(_pointwise, FINE), c.FULL, c.WRONG),
    *c.cases("pointwise rules", _vectors(_pointwise, FINER), c.DOUBLE, c.WRONG),
    *c.taking_turns("pointwise rules", _vectors(_pointwise, RIGHT_POINTWISE), c.FULL, c.RIGHT),
    *c.taking_turns("pointwise rules", _vectors(_tangent, RIGHT_POINTWISE), c.HALF, c.RIGHT),
    *c.taking_turns("pointwise rules", _vectors(_tangent, BY_TANGENT), c.REAL, c.WRONG),
    *c.taking_turns("rules of layers", OF_WEIGHTS, c.REAL, c.WRONG),
    *c.taking_turns("rules of layers", RIGHT_DENSE, c.FULL, c.RIGHT),
    *[case for name, build in OF_BIAS.items()
      for case in c.cases("rules of layers", {name: build}, ("bfloat16", "float32"), c.WRONG,
                          ("[1]",))],
    *c.cases("rules of layers", BOTH_LEAVES, c.SINGLE, c.WRONG, ("[0]", "[1]")),
    *c.cases("rules of layers", SECOND_LEAF, c.DOUBLE, c.WRONG, ("[1]",)),
    *c.taking_turns("rules of layers", FIRST_LEAF, c.FULL, c.WRONG),
    *c.taking_turns("rules that are not linear", NOT_LINEAR, c.FULL, c.WRONG),
    *c.cases("rules that are not linear", RIGHT_FOR_SOME, c.FULL, c.WRONG, ()),
    *c.taking_turns("pointwise rules", SIGNS, c.REAL, c.WRONG),
    *c.taking_turns("complex rules", OF_COMPLEX, c.COMPLEX, c.WRONG),
]  # fmt: skip
