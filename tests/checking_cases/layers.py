"""Layers, losses and loops of models: their derivatives are right."""

import jax
import jax.numpy as jnp
import optax
from jax import lax

import checking_cases.case as c


def perceptron(dtype):
    x, y = c.normal(dtype, 3, 4), c.normal(dtype, 3, 2)

    def loss(params):
        hidden = jnp.tanh(x @ params["w"][0] + params["b"][None])
        return jnp.mean((hidden @ params["w"][1] - y) ** 2)

    w = [c.normal(dtype, 4, 3, seed=1), c.normal(dtype, 3, 2, seed=2)]
    return loss, ({"w": w, "b": c.normal(dtype, 3)},)


def layer_norm(dtype):
    def layer(x, gain):
        centred = x - jnp.mean(x, -1, keepdims=True)
        return centred * lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-3) * gain[None]

    return layer, (c.normal(dtype, 2, 4), c.normal(dtype, 4))


def batch_norm(dtype):
    layer = lambda x: (x - x.mean(0, keepdims=True)) * lax.rsqrt(x.var(0, keepdims=True) + 1e-3)
    return layer, (c.normal(dtype, 4, 3),)


def rms_norm(dtype):
    layer = lambda x: x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-4)
    return layer, (c.normal(dtype, 2, 4),)


def attention(dtype):
    def layer(q, k, v):
        return jax.nn.dot_product_attention(q, k, v, is_causal=True)

    return layer, tuple(c.normal(dtype, 1, 3, 1, 2, seed=seed) for seed in range(3))


def masked_attention(dtype):
    def layer(x):
        scores = jnp.where(jnp.tril(jnp.ones((3, 3), bool)), x @ x.T, -jnp.inf)
        return jax.nn.softmax(scores) @ x

    return layer, (c.normal(dtype, 3, 2),)


def convolution(dtype):
    image = c.normal(dtype, 1, 4, 4, 1)

    def layer(kernel, bias):
        maps = lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return lax.reduce_window(
            jax.nn.silu(maps + bias[None, None, None]), -jnp.inf, lax.max, (1, 2, 2, 1),
            (1, 2, 2, 1), "VALID")  # fmt: skip

    return layer, (c.normal(dtype, 3, 3, 1, 2), c.normal(dtype, 2))


def depthwise(dtype):
    image = c.normal(dtype, 1, 2, 4, 4)
    layer = lambda kernel: lax.conv_general_dilated(
        image, kernel, (2, 2), "VALID", rhs_dilation=(2, 1), feature_group_count=2
    )
    return layer, (c.normal(dtype, 2, 1, 2, 2),)


def transposed_convolution(dtype):
    kernel = c.normal(dtype, 2, 2, 1, 2)
    layer = lambda x: lax.conv_transpose(
        x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return layer, (c.normal(dtype, 1, 2, 2, 1),)


def average_pooling(dtype):
    layer = lambda x: jnp.sin(lax.reduce_window(
        x, jnp.zeros((), x.dtype)[()], lax.add, (1, 2, 2), (1, 1, 1), "SAME") / 4)  # fmt: skip
    return layer, (c.normal(dtype, 1, 3, 3),)


def lstm(dtype):
    xs = c.normal(dtype, 3, 1)

    def model(params):
        def step(state, x):
            h, memory = state
            i, f, g, o = jnp.split(params["w"] @ jnp.concatenate([h, x]), 4)
            memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(memory), memory), None

        return lax.scan(step, (params["h"], jnp.zeros_like(params["h"])), xs)[0]

    return model, ({"w": c.normal(dtype, 8, 3), "h": c.normal(dtype, 2)},)


def gru(dtype):
    xs = c.normal(dtype, 3, 1)

    def model(w):
        def step(h, x):
            z, r = jnp.split(jax.nn.sigmoid(w[:4] @ jnp.concatenate([h, x])), 2)
            h = (1 - z) * h + z * jnp.tanh(w[4:] @ jnp.concatenate([r * h, x]))
            return h, h

        return lax.scan(step, jnp.zeros(2, dtype), xs)[1]

    return model, (c.normal(dtype, 6, 3),)


def embedding(dtype):
    return lambda table: jnp.tanh(table[jnp.asarray([0, 2, 2, 1])]), (c.normal(dtype, 3, 2),)


def mixture(dtype):
    x = c.normal(dtype, 3, 4)

    def model(gate, experts):
        weights, chosen = lax.top_k(jax.nn.softmax(x @ gate), 2)
        return jnp.einsum("nk,nkde,nd->ne", weights, experts[chosen], x)

    return model, (c.normal(dtype, 4, 3), c.normal(dtype, 3, 4, 2))


def residual(dtype):
    x = c.normal(dtype, 2, 3)
    return lambda w: x + jax.nn.relu(x @ w), (c.normal(dtype, 3, 3),)


def autoencoder(dtype):
    x = c.normal(dtype, 3, 4)
    return lambda w: jnp.mean((jax.nn.gelu(x @ w) @ w.T - x) ** 2), (c.normal(dtype, 4, 2),)


def variational(dtype):
    def bound(mean, log_scale):
        noise = jax.random.normal(jax.random.key(0), mean.shape, mean.dtype)
        sample = mean + jnp.exp(log_scale) * noise
        divergence = -log_scale - 0.5 + (jnp.exp(2 * log_scale) + mean**2) / 2
        return jnp.sum(jnp.cos(sample)) + jnp.sum(divergence)

    return bound, (c.normal(dtype, 3), c.normal(dtype, 3, seed=1) / 3)


def gradient_penalty(dtype):
    inner = lambda x: jnp.sum(jnp.tanh(x) ** 2)
    return lambda x: jnp.sum(jax.grad(inner)(x) ** 2), (c.normal(dtype, 3),)


def gaussian_process(dtype):
    grid, y = jnp.linspace(0, 1, 4, dtype=dtype), c.normal(dtype, 4)

    def loss(length, noise):
        distance = (grid[:, None] - grid[None]) / length
        kernel = jnp.exp(-(distance**2)) + noise * jnp.eye(4, dtype=dtype)
        factor = jnp.linalg.cholesky(kernel)
        white = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
        return jnp.sum(white**2) / 2 + jnp.sum(jnp.log(jnp.diagonal(factor)))

    return loss, (c.array(dtype, 0.4), c.array(dtype, 0.1))


LAYERS = {
    "perceptron": perceptron,
    "layer norm": layer_norm,
    "batch norm": batch_norm,
    "rms norm": rms_norm,
    "masked attention": masked_attention,
    "convolution": convolution,
    "depthwise convolution": depthwise,
    "transposed convolution": transposed_convolution,
    "average pooling": average_pooling,
    "lstm": lstm,
    "gru": gru,
    "embedding": embedding,
    "mixture of experts": mixture,
    "residual": residual,
    "autoencoder with tied weights": autoencoder,
    "variational bound": variational,
    "gradient penalty": gradient_penalty,
}
FULL_PRECISION = {"attention": attention, "gaussian process": gaussian_process}


def _loss(fun, *shape):
    """Returns the builder of a loss of predictions, with random targets."""

    def build(dtype):
        target = c.normal(dtype, *shape, seed=5)
        return lambda y: fun(y, target), (c.normal(dtype, *shape),)

    return build


_labels = lambda y: jnp.arange(y.shape[0]) % y.shape[-1]
LOSSES = {
    "half squared error": _loss(optax.l2_loss, 2, 3),
    "huber": _loss(optax.huber_loss, 2, 3),
    "log cosh": _loss(optax.log_cosh, 2, 3),
    "cross-entropy": _loss(
        lambda y, t: optax.softmax_cross_entropy(y, jax.nn.softmax(t)), 2, 3),
    "cross-entropy of labels": _loss(
        lambda y, _: optax.softmax_cross_entropy_with_integer_labels(y, _labels(y)), 2, 3),
    "binary cross-entropy": _loss(
        lambda y, t: optax.sigmoid_binary_cross_entropy(y, jax.nn.sigmoid(t)), 2, 3),
    "focal": _loss(
        lambda y, t: optax.sigmoid_focal_loss(y, (t > 0).astype(t.dtype)), 2, 3),
    "cosine distance": _loss(optax.cosine_distance, 2, 3),
    "hinge": _loss(lambda y, t: optax.hinge_loss(y, jnp.sign(t)), 2, 3),
    "divergence": _loss(
        lambda y, t: optax.kl_divergence(jax.nn.log_softmax(y), jax.nn.softmax(t)), 2, 3),
    "smooth labels": _loss(
        lambda y, _: optax.softmax_cross_entropy(
            y, optax.smooth_labels(jax.nn.one_hot(_labels(y), 3, dtype=y.dtype), 0.1)), 2, 3),
    "contrastive": _loss(
        lambda y, t: -jnp.mean(jnp.diagonal(jax.nn.log_softmax(y @ t.T))), 3, 2),
    "triplet": _loss(
        lambda y, t: jax.nn.relu(jnp.sum((y[0] - t[0]) ** 2) - jnp.sum((y[0] - t[1]) ** 2) + 9),
        2, 3),
    "quantile": _loss(lambda y, t: jnp.maximum(0.9 * (t - y), -0.1 * (t - y)), 2, 3),
}  # fmt: skip


def _from_number(fun, x):
    """Returns the builder of a function of one number."""
    return lambda dtype: (fun, (c.array(dtype, x),))


def newton(a):
    start = jnp.asarray(1.5, a.dtype)
    return lax.fori_loop(0, 5, lambda _, x: x - (x**3 - a) / (3 * x**2), start)


def runge_kutta(k):
    slope = lambda y: jnp.stack([y[1], -k * jnp.sin(y[0])])

    def step(y, _):
        middle = y + 0.05 * slope(y)
        return y + 0.1 * slope(middle), None

    return lax.scan(step, jnp.asarray([1.0, 0.0], k.dtype), None, length=4)[0]


def momentum(rate):
    def step(state, _):
        w, v = state
        v = 0.9 * v - rate * (w - 1) * c.like(w, [1.0, 3.0])
        return (w + v, v), None

    start = jnp.asarray([2.0, -1.0], rate.dtype)
    return lax.scan(step, (start, jnp.zeros_like(start)), None, length=3)[0][0]


def until_small(a):
    """Returns the square root of `a`, by a loop that no reverse mode exists for."""

    def step(state):
        x, _ = state
        new = (x + a / x) / 2
        return new, jnp.abs(new - x)

    going = lambda state: state[1] > 1e-3
    return lax.while_loop(going, step, (a, jnp.ones((), a.dtype)))[0]


def branches(x):
    return lax.cond(jnp.sum(x) > 0, lambda x: jnp.sum(x**2), lambda x: jnp.sum(jnp.sin(x)), x)


def switched(x):
    return lax.switch(jnp.argmax(x), [jnp.sum, jnp.prod, lambda x: x[0] * x[1]], x)


LOOPS = {
    "newton by a counted loop": _from_number(newton, 2.0),
    "ordinary differential equation": _from_number(runge_kutta, 2.0),
    "training by momentum": _from_number(momentum, 0.1),
    "while until small": _from_number(until_small, 2.0),
    "logistic map": _from_number(
        lambda r: lax.fori_loop(0, 6, lambda _, x: r * x * (1 - x), jnp.asarray(0.3, r.dtype)),
        3.2),
    "branches": c.of_vector(branches, 3),
    "switch by argmax": c.of_vector(switched, 3),
    "map": c.of_vector(lambda x: lax.map(lambda y: jnp.sin(y) * y, x), 3),
    "while with a carried matrix": c.of_matrix(
        lambda a: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1] @ a)),
                                 (0, a))[1], 2, 2),
}  # fmt: skip

CASES = [
    *c.taking_turns("layers", LAYERS, c.FULL, c.RIGHT),
    *c.taking_turns("layers", LAYERS, c.HALF, c.RIGHT),
    *c.taking_turns("layers", FULL_PRECISION, c.FULL, c.RIGHT),
    *c.taking_turns("losses", LOSSES, ("float32", "bfloat16", "float64", "float16"), c.RIGHT),
    *c.taking_turns("loops", LOOPS, ("float64", "float32", "bfloat16"), c.RIGHT),
]
