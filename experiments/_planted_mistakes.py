"""Random models, and the same models with a mistake planted in the gradient of one leaf.

A model is a loss of parameters: a small perceptron, a convolutional, attention or recurrent
network, or a composition of pointwise functions, with random sizes, activations, loss and
numbers. What the functions compute is the same with and without the mistake, bit by bit; only a
reverse rule (`jax.custom_vjp`) returns something else for one leaf.
"""

import itertools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Params = dict[str, Any]
Model = Callable[[Params], jax.Array]
Kind = Literal["leaf", "entry", "small leaf"]

FAMILIES = ("perceptron", "convolution", "attention", "recurrent", "pointwise")
KINDS: tuple[Kind, ...] = ("leaf", "entry", "small leaf")
SIZES = (1.0, 0.1, 0.01, 0.001)

_SMALL = "small"


def random_model(seed: int, dtype: Any) -> tuple[Model, tuple[Params]]:
    """Returns a random model with the right gradient, as `(fun, args)`.

    Args:
        seed: The same seed gives the same model.
        dtype: Of its parameters and of all it computes.
    """
    random = np.random.default_rng([seed, 1])
    family = FAMILIES[seed % len(FAMILIES)]
    fun, params = _BUILDERS[family](random, dtype)
    return fun, (params,)


def planted(seed: int, dtype: Any, kind: Kind, size: float) -> tuple[Model, tuple[Params], str]:
    """Returns a random model with a mistake, as `(fun, args, path of the wrong leaf)`.

    Args:
        seed: Of `random_model`; it draws the leaf as well.
        dtype: As there.
        kind: "leaf": all of the leaf's gradient is too large. "entry": one of its entries, which is
            at least as large as the root of their mean square. "small leaf": the model is given
            one more leaf, whose gradient is a millionth of the others' (a thousandth in float16,
            which holds no millionth with more than four digits), and all of that is too large.
        size: How much too large, relative to the right gradient.

    Raises:
        ValueError: The dtype rounds the mistake away, so that there is none.
    """
    too_large = jnp.asarray(1 + size, dtype)
    if too_large == 1:
        raise ValueError(f"A mistake of {size} is rounded away in {dtype}; take a larger one.")
    fun, (params,) = random_model(seed, dtype)
    if kind == "small leaf":
        fun, params = _with_small_leaf(fun, params)
    name, entry = _place(np.random.default_rng([seed, 2]), fun, params, kind)

    def change(gradient):
        if kind == "entry":
            return gradient.at[entry].multiply(too_large, unique_indices=True)
        return gradient * too_large

    def mistaken(params):
        return fun(params | {name: misreported(change)(params[name])})

    return mistaken, (params,), f"[0]['{name}']"


def misreported(change: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """Returns the identity with a reverse rule that changes what it passes on.

    Args:
        change: From the right gradient to the wrong one.
    """
    return with_mistake(lambda x: x, lambda gradients, _: (change(gradients[0]),))


def with_mistake(fun: Callable, change: Callable[[tuple, tuple], tuple]) -> Callable:
    """Returns `fun` with a reverse rule: its own pullback, the result of which is changed.

    Args:
        fun: Function of positional arguments.
        change: `change(gradients, args) -> gradients`, from those of the right rule.
    """
    mistaken = jax.custom_vjp(lambda *args: fun(*args))

    def forward(*args):
        return fun(*args), args

    def backward(args, cotangent):
        _, pullback = jax.vjp(fun, *args)
        return change(pullback(cotangent), args)

    mistaken.defvjp(forward, backward)
    return mistaken


def _place(random, fun, params, kind) -> tuple[str, tuple[int, ...]]:
    """Returns a leaf and an entry on which the function depends.

    A leaf that cannot matter, a bias that a softmax takes away again, has a zero gradient (or
    the rounding of one), and twice that is no mistake.
    """
    gradient = {name: np.asarray(leaf, np.float64) for name, leaf in jax.grad(fun)(params).items()}
    scale = {name: _rms(g) * _rms(np.asarray(params[name], np.float64))
             for name, g in gradient.items()}  # fmt: skip
    largest = max(size for name, size in scale.items() if name != _SMALL)
    fit = sorted(name for name, size in scale.items() if size > 1e-2 * largest)
    name = _SMALL if kind == "small leaf" else fit[random.integers(len(fit))]
    entries = np.argwhere(np.abs(gradient[name]) >= _rms(gradient[name]))
    return name, tuple(int(i) for i in entries[random.integers(len(entries))])


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _with_small_leaf(fun, params):
    dtype = next(iter(params.values())).dtype
    share = 2.0**-10 if dtype == jnp.float16 else 2.0**-20

    def larger(params):
        rest = {name: leaf for name, leaf in params.items() if name != _SMALL}
        return fun(rest) + share * jnp.sum(jnp.sin(params[_SMALL]))

    return larger, params | {_SMALL: jnp.asarray([0.3, -1.1, 0.7], dtype)}


_ACTIVATIONS: tuple[Callable, ...] = (
    jnp.tanh,
    jax.nn.gelu,
    jax.nn.silu,
    jax.nn.softplus,
    jax.nn.relu,
    jax.nn.elu,
    jax.nn.sigmoid,
    jnp.sin,
)


def _chosen(random: np.random.Generator, among: tuple) -> Any:
    return among[random.integers(len(among))]


def _array(random, dtype, *shape, scale=None) -> jax.Array:
    """Returns random numbers, of the size that keeps a layer's outputs near 1 in size."""
    scale = 1 / np.sqrt(np.prod(shape[:-1], initial=1.0)) if scale is None else scale
    return jnp.asarray(random.normal(size=shape) * scale, dtype)


def _loss(random, dtype, shape: tuple[int, ...]) -> Callable[[jax.Array], jax.Array]:
    """Returns a random loss of predictions with examples in the first axis, classes in the last."""
    target = _array(random, dtype, *shape, scale=1.0)
    labels = jax.nn.one_hot(random.integers(shape[-1], size=shape[:-1]), shape[-1], dtype=dtype)
    return _chosen(random, (
        lambda y: jnp.mean(jnp.square(y - target)) / 2,
        lambda y: -jnp.mean(jnp.sum(jax.nn.log_softmax(y) * labels, -1)),
        lambda y: jnp.mean(jnp.sqrt(1 + jnp.square(y - target))),
        lambda y: jnp.sum(jnp.tanh(y) * target),
    ))  # fmt: skip


def _perceptron(random, dtype):
    batch, *widths = (int(n) for n in random.integers(2, 6, size=4))
    x, act = _array(random, dtype, batch, widths[0], scale=1.0), _chosen(random, _ACTIVATIONS)
    params = {}
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        params[f"w{layer}"] = _array(random, dtype, fan_in, fan_out)
        params[f"b{layer}"] = _array(random, dtype, 1, fan_out, scale=0.3)
    loss = _loss(random, dtype, (batch, widths[-1]))

    def fun(params):
        hidden = act(x @ params["w0"] + params["b0"])
        return loss(hidden @ params["w1"] + params["b1"])

    return fun, params


def _convolution(random, dtype):
    batch, side, channels, maps = (int(n) for n in random.integers([1, 4, 1, 1], [3, 7, 3, 4]))
    image = _array(random, dtype, batch, side, side, channels, scale=1.0)
    act = _chosen(random, _ACTIVATIONS)
    padding, stride = _chosen(random, ("SAME", "VALID")), int(random.integers(1, 3))
    params = {
        "kernel": _array(random, dtype, 3, 3, channels, maps),
        "bias": _array(random, dtype, 1, 1, 1, maps, scale=0.3),
        "head": _array(random, dtype, maps, 3),
    }
    loss = _loss(random, dtype, (batch, 3))

    def fun(params):
        found = lax.conv_general_dilated(
            image, params["kernel"], (stride, stride), padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"))  # fmt: skip
        return loss(jnp.mean(act(found + params["bias"]), (1, 2)) @ params["head"])

    return fun, params


def _attention(random, dtype):
    tokens, width, head = (int(n) for n in random.integers(2, 5, size=3))
    x = _array(random, dtype, tokens, width, scale=1.0)
    params = {
        "query": _array(random, dtype, width, head),
        "key": _array(random, dtype, width, head),
        "value": _array(random, dtype, width, head),
        "out": _array(random, dtype, head, width),
        "gain": _array(random, dtype, 1, width, scale=0.3) + 1,
    }
    is_causal = bool(random.integers(2))
    loss = _loss(random, dtype, (tokens, width))

    def fun(params):
        scores = (x @ params["query"]) @ (x @ params["key"]).T / head**0.5
        if is_causal:
            scores = jnp.where(jnp.tril(jnp.ones((tokens, tokens), bool)), scores, -1e4)
        mixed = x + jax.nn.softmax(scores) @ (x @ params["value"]) @ params["out"]
        centred = mixed - jnp.mean(mixed, -1, keepdims=True)
        spread = lax.rsqrt(jnp.mean(jnp.square(centred), -1, keepdims=True) + 1e-3)
        return loss(centred * spread * params["gain"])

    return fun, params


def _recurrent(random, dtype):
    steps, width, hidden = (int(n) for n in random.integers(2, 5, size=3))
    xs = _array(random, dtype, steps, width, scale=1.0)
    params = {
        "inner": _array(random, dtype, hidden, hidden),
        "inputs": _array(random, dtype, width, hidden),
        "bias": _array(random, dtype, hidden, scale=0.3),
        "start": _array(random, dtype, hidden, scale=0.5),
    }
    is_gated = bool(random.integers(2))
    loss = _loss(random, dtype, (steps, hidden))

    def fun(params):
        def step(state, x):
            new = jnp.tanh(state @ params["inner"] + x @ params["inputs"] + params["bias"])
            if is_gated:
                gate = jax.nn.sigmoid(x @ params["inputs"])
                new = gate * state + (1 - gate) * new
            return new, new

        return loss(lax.scan(step, params["start"], xs)[1])

    return fun, params


_POINTWISE: tuple[Callable, ...] = (
    jnp.sin,
    jnp.tanh,
    jnp.arctan,
    lambda y: jnp.exp(-y * y),
    lambda y: jnp.log1p(y * y),
    lambda y: jnp.sqrt(1 + y * y),
    lambda y: 1 / (1 + y * y),
    lambda y: y * y,
    jax.nn.sigmoid,
    jax.nn.softplus,
)


def _pointwise(random, dtype):
    size = int(random.integers(2, 8))
    chain = [_chosen(random, _POINTWISE) for _ in range(int(random.integers(1, 4)))]
    params = {name: _array(random, dtype, size, scale=1.0) for name in ("a", "b", "x")}
    weights = _array(random, dtype, size, scale=1.0)

    def fun(params):
        y = params["x"]
        for function in chain:
            y = function(params["a"] * y + params["b"])
        return jnp.sum(y * weights)

    return fun, params


_BUILDERS = dict(
    zip(FAMILIES, (_perceptron, _convolution, _attention, _recurrent, _pointwise), strict=True)
)
