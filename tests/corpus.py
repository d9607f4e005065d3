"""A hundred functions as users write them, with arguments to differentiate them at.

Each is a scalar function of its first argument, a pytree. Whatever else it needs, it closes
over, as in a notebook.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.scipy import stats

_random = np.random.default_rng(7)


def _normal(*shape):
    return jnp.asarray(_random.normal(size=shape))


x5 = _normal(5)
x34 = _normal(3, 4)
y34 = _normal(3, 4)
positive = jnp.abs(_normal(5)) + 0.3
unit = jnp.asarray([0.15, 0.4, 0.6, 0.85, 0.5])
square3 = _normal(3, 3)
definite = square3 @ square3.T + 2 * jnp.eye(3)
weights3 = jnp.asarray([1.0, -2.0, 0.5])
labels = jnp.asarray([2, 0, 3])
one_hot = jax.nn.one_hot(labels, 4, dtype=x34.dtype)
grid = jnp.linspace(0.0, 1.0, 5)
image = _normal(1, 6, 6, 1)


def total(activation):
    return lambda x: jnp.sum(activation(x) * jnp.cos(jnp.arange(5.0)))


ACTIVATIONS = {
    name: (total(fun), x5)
    for name, fun in {
        "relu": jax.nn.relu,
        "relu6": jax.nn.relu6,
        "sigmoid": jax.nn.sigmoid,
        "tanh": jnp.tanh,
        "softplus": jax.nn.softplus,
        "gelu": jax.nn.gelu,
        "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "silu": jax.nn.silu,
        "elu": jax.nn.elu,
        "selu": jax.nn.selu,
        "leaky relu": jax.nn.leaky_relu,
        "hard sigmoid": jax.nn.hard_sigmoid,
        "hard swish": jax.nn.hard_swish,
        "mish": jax.nn.mish,
        "log sigmoid": jax.nn.log_sigmoid,
        "soft sign": jax.nn.soft_sign,
        "softmax": jax.nn.softmax,
        "squareplus": jax.nn.squareplus,
        "sinc": jnp.sinc,
    }.items()
}
LOSSES = {
    "half squared error": (lambda y: jnp.sum(optax.l2_loss(y, y34)), x34),
    "mean absolute error": (lambda y: jnp.mean(jnp.abs(y - y34)), x34),
    "huber": (lambda y: jnp.mean(optax.huber_loss(y, y34)), x34),
    "log cosh": (lambda y: jnp.mean(optax.log_cosh(y, y34)), x34),
    "cross-entropy": (lambda z: jnp.mean(optax.softmax_cross_entropy(z, one_hot)), x34),
    "cross-entropy of labels": (
        lambda z: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(z, labels)), x34),
    "binary cross-entropy": (lambda z: jnp.mean(
        optax.sigmoid_binary_cross_entropy(z, one_hot)), x34),
    "hinge": (lambda z: jnp.mean(jax.nn.relu(1 - z * (2 * one_hot - 1))), x34),
    "cosine distance": (lambda z: jnp.mean(optax.cosine_distance(z, y34)), x34),
    "focal": (lambda z: jnp.mean((1 - jax.nn.sigmoid(z)) ** 2 * jax.nn.log_sigmoid(z)), x34),
    "contrastive": (lambda z: -jnp.mean(jnp.diag(jax.nn.log_softmax(z @ y34.T))), x34),
    "quantile": (lambda z: jnp.mean(jnp.maximum(0.9 * (y34 - z), -0.1 * (y34 - z))), x34),
}  # fmt: skip


def mlp(params):
    hidden = jnp.tanh(x34 @ params["w1"] + params["b1"][None])
    return jnp.mean((hidden @ params["w2"] - y34) ** 2)


def layer_norm(x):
    centered = x - jnp.mean(x, -1, keepdims=True)
    return centered / jnp.sqrt(jnp.mean(centered**2, -1, keepdims=True) + 1e-5)


def batch_norm(x):
    return jnp.sum((x - x.mean(0, keepdims=True)) * lax.rsqrt(x.var(0, keepdims=True) + 1e-3) * y34)


def attention(x):
    scores = x @ x.T / 2.0
    masked = jnp.where(jnp.tril(jnp.ones((3, 3), bool)), scores, -jnp.inf)
    return jnp.sum(jax.nn.softmax(masked, axis=-1) @ x * y34)


def convolved(w):
    maps = lax.conv_general_dilated(image, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO",
                                                                               "NHWC"))  # fmt: skip
    pooled = lax.reduce_window(jax.nn.relu(maps), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1),
                               "VALID")  # fmt: skip
    return jnp.sum(pooled**2)


def average_pool(x):
    pooled = lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    return jnp.sum(jnp.sin(pooled / 9))


def strided(x):
    kernel = jnp.cos(jnp.arange(8.0)).reshape(2, 2, 1, 2)
    turned = lax.conv_transpose(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO",
                                                                              "NHWC"))  # fmt: skip
    return jnp.mean(turned**3)


def lstm(params):
    def step(state, x):
        h, c = state
        i, f, g, o = jnp.split(params["w"] @ jnp.concatenate([h, x]), 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    (h, _), _ = lax.scan(step, (params["h"], jnp.zeros(2)), x34[:, :1])
    return jnp.sum(h**2)


def gru(w):
    def step(h, x):
        z, r = jnp.split(jax.nn.sigmoid(w[:4] @ jnp.concatenate([h, x])), 2)
        return (1 - z) * h + z * jnp.tanh(w[4:] @ jnp.concatenate([r * h, x])), h

    last, all_ = lax.scan(step, jnp.zeros(2), x34[:, :1])
    return jnp.sum(last) + jnp.mean(all_**2)


def dropout(x):
    kept = jax.random.bernoulli(jax.random.key(3), 0.7, x.shape)
    return jnp.sum(jnp.where(kept, x / 0.7, 0.0) ** 2)


def embedding(table):
    return jnp.sum(jnp.tanh(table[jnp.asarray([0, 2, 2, 1])]) ** 2)


LAYERS = {
    "mlp": (mlp, {"w1": _normal(4, 3), "b1": _normal(3), "w2": _normal(3, 4)}),
    "layer norm": (lambda x: jnp.sum(layer_norm(x) * y34), x34),
    "batch norm": (batch_norm, x34),
    "rms norm": (lambda x: jnp.sum(x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True)) * y34), x34),
    "attention": (attention, x34),
    "convolution and pooling": (convolved, _normal(3, 3, 1, 2)),
    "average pooling": (average_pool, image),
    "transposed convolution": (strided, image[:, :3, :3]),
    "lstm": (lstm, {"w": _normal(8, 3), "h": jnp.zeros(2)}),
    "gru": (gru, _normal(6, 3)),
    "dropout": (dropout, x5),
    "embedding": (embedding, _normal(3, 2)),
    "residual": (lambda w: jnp.sum((x34 + jax.nn.relu(x34 @ w)) ** 2), _normal(4, 4)),
    "checkpointed": (lambda w: jnp.sum(jax.checkpoint(lambda w: jnp.sin(x34 @ w))(w)),
                     _normal(4, 2)),
    "mixture of experts": (lambda w: jnp.sum(lax.top_k(jax.nn.softmax(x34 @ w), 2)[0] ** 2),
                           _normal(4, 3)),
    "global pooling": (lambda x: jnp.sum(jnp.max(x, (1, 2)) - jnp.mean(x, (1, 2))), image),
}  # fmt: skip


def momentum(w):
    gradient = jax.grad(lambda w: jnp.sum((x34 @ w - weights3) ** 2))
    v = jnp.zeros(4)
    for _ in range(2):
        v = 0.9 * v - 0.01 * gradient(w)
        w = w + v
    return jnp.sum((x34 @ w - weights3) ** 2)


def adam(rate):
    w, m, v = jnp.asarray([1.0, -2.0]), jnp.zeros(2), jnp.zeros(2)
    for step in (1, 2):
        gradient = 2 * w
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        w = w - rate * (m / (1 - 0.9**step)) / (jnp.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return jnp.sum(w**2)


def newton_root(a):
    return lax.fori_loop(0, 6, lambda _, x: x - (x**3 - a) / (3 * x**2), jnp.asarray(1.5))


def until_small(a):
    def step(state):
        x, _ = state
        new = (x + a / x) / 2
        return new, jnp.abs(new - x)

    return lax.while_loop(lambda s: s[1] > 1e-9, step, (a, jnp.ones(())))[0]


def fixed_point(w):
    def step(state):
        z, _, count = state
        new = jnp.tanh(0.3 * w * z + x5[:3])
        return new, jnp.max(jnp.abs(new - z)), count + 1

    going = lambda s: (s[1] > 1e-12) & (s[2] < 60)
    return jnp.sum(lax.while_loop(going, step, (jnp.zeros(3), jnp.ones(()), 0))[0])


def conjugate_gradients(b):
    def step(state, _):
        x, r, p = state
        ap = definite @ p
        rate = (r @ r) / (p @ ap)
        new = r - rate * ap
        return (x + rate * p, new, new + (new @ new) / (r @ r) * p), None

    (x, _, _), _ = lax.scan(step, (jnp.zeros(3), b, b), None, length=2)
    return jnp.sum(x**2)


def euler(k):
    step = lambda y, t: (y + 0.1 * (-k[0] * y + jnp.sin(k[1] * t)), y)
    last, path = lax.scan(step, jnp.ones(()), grid)
    return last + jnp.sum(path**2)


def runge_kutta(k):
    f = lambda y: jnp.stack([y[1], -k * jnp.sin(y[0])])

    def step(y, _):
        a = f(y)
        b = f(y + 0.05 * a)
        c = f(y + 0.05 * b)
        d = f(y + 0.1 * c)
        return y + (a + 2 * b + 2 * c + d) / 60, None

    return lax.scan(step, jnp.asarray([1.0, 0.0]), None, length=4)[0][0]


def bisection(a):
    def step(_, ends):
        low, high = ends
        middle = (low + high) / 2
        return jnp.where(middle**2 < a, middle, low), jnp.where(middle**2 < a, high, middle)

    low, high = lax.fori_loop(0, 5, step, (jnp.zeros(()), 1.0 + a))
    return (low + high) / 2


SOLVERS = {
    "gradient descent with momentum": (momentum, _normal(4)),
    "adam": (adam, jnp.asarray(0.1)),
    "newton": (newton_root, jnp.asarray(2.0)),
    "while until small": (until_small, jnp.asarray(2.0)),
    "fixed point by while": (fixed_point, weights3),
    "conjugate gradients by scan": (conjugate_gradients, weights3),
    "library conjugate gradients": (
        lambda b: jnp.sum(jax.scipy.sparse.linalg.cg(definite, b, tol=1e-13)[0] ** 2), weights3),
    "euler": (euler, jnp.asarray([0.5, 2.0])),
    "runge-kutta": (runge_kutta, jnp.asarray(2.0)),
    "bisection": (bisection, jnp.asarray(2.0)),
    "associative scan": (lambda x: jnp.sum(lax.associative_scan(jnp.multiply, x)), positive),
    "interpolation": (lambda y: jnp.sum(jnp.interp(jnp.asarray([0.1, 0.6]), grid, y) ** 2), x5),
    "logistic map": (lambda r: lax.fori_loop(0, 6, lambda _, x: r * x * (1 - x), 0.3),
                     jnp.asarray(3.2)),
}  # fmt: skip

PROBABILITY = {
    "normal": (lambda x: jnp.sum(stats.norm.logpdf(x, 0.5, 2.0)), x5),
    "normal cdf": (lambda x: jnp.sum(stats.norm.logcdf(x)), x5),
    "gamma": (lambda a: jnp.sum(stats.gamma.logpdf(1.3, a)), positive),
    "beta": (lambda x: jnp.sum(stats.beta.logpdf(x, 2.0, 3.5)), unit),
    "student": (lambda df: jnp.sum(stats.t.logpdf(0.7, df)), positive),
    "poisson": (lambda mu: jnp.sum(stats.poisson.logpmf(jnp.arange(5.0), mu)), positive),
    "laplace": (lambda x: jnp.sum(stats.laplace.logpdf(x)), x5),
    "dirichlet": (lambda a: stats.dirichlet.logpdf(unit / unit.sum(), a), positive),
    "multivariate normal": (lambda c: stats.multivariate_normal.logpdf(weights3, jnp.zeros(3), c),
                            definite),
    "gammaln": (lambda x: jnp.sum(jax.scipy.special.gammaln(x)), positive),
    "digamma": (lambda x: jnp.sum(jax.scipy.special.digamma(x)), positive),
    "incomplete gamma": (lambda x: jnp.sum(jax.scipy.special.gammainc(1.7, x)), positive),
    "incomplete beta": (lambda x: jnp.sum(jax.scipy.special.betainc(1.5, 2.5, x)), unit),
    "inverse erf": (lambda x: jnp.sum(jax.scipy.special.erfinv(x)), unit),
    "bessel": (lambda x: jnp.sum(jax.scipy.special.i0e(x) + jax.scipy.special.i1(x)), x5),
    "entropy": (lambda x: jnp.sum(jax.scipy.special.entr(x)), positive),
    "kl divergence": (lambda z: jnp.sum(
        jax.scipy.special.rel_entr(jax.nn.softmax(z), unit / unit.sum())), x5),
    "kl of normals": (lambda p: jnp.sum(
        p["log_s"] - 0.5 + (1 + p["m"] ** 2) / (2 * jnp.exp(2 * p["log_s"]))),
        {"m": x5, "log_s": x5 / 3}),
    "logsumexp": (lambda x: jax.nn.logsumexp(x), x5),
    "reparametrized": (lambda s: jnp.mean(
        jnp.tanh(s * jax.random.normal(jax.random.key(0), (4,), s.dtype))), jnp.asarray(0.7)),
}  # fmt: skip


def gaussian_process(p):
    kernel = jnp.exp(-(((grid[:, None] - grid[None]) / p["length"]) ** 2)) + 0.1 * jnp.eye(5)
    factor = jax.scipy.linalg.cho_factor(p["scale"] * kernel, lower=True)
    alpha = jax.scipy.linalg.cho_solve(factor, x5)
    return x5 @ alpha / 2 + jnp.sum(jnp.log(jnp.diag(factor[0])))


LINEAR_ALGEBRA = {
    "quadratic form": (lambda x: x @ definite @ x, weights3),
    "determinant": (jnp.linalg.det, square3),
    "log-determinant": (lambda a: jnp.linalg.slogdet(a)[1], square3),
    "inverse": (lambda a: jnp.sum(jnp.linalg.inv(a) ** 2), square3),
    "solve": (lambda a: jnp.sum(jnp.linalg.solve(a, weights3) ** 2), square3),
    "cholesky": (lambda a: jnp.sum(jnp.linalg.cholesky(a) * square3), definite),
    "gaussian process": (gaussian_process, {"length": jnp.asarray(0.4), "scale": jnp.asarray(1.3)}),
    "triangular solve": (lambda a: jnp.sum(
        jax.scipy.linalg.solve_triangular(a, weights3, lower=True) ** 2), definite),
    "qr": (lambda a: jnp.sum(jnp.linalg.qr(a)[1] * square3), square3),
    "eigenvalues": (lambda a: jnp.sum(jnp.linalg.eigvalsh(a) ** 3), definite),
    "eigenvectors": (lambda a: jnp.sum(jnp.linalg.eigh(a)[1] ** 2 * square3), definite),
    "singular values": (lambda a: jnp.sum(jnp.linalg.svd(a, compute_uv=False)), square3),
    "nuclear norm": (lambda a: jnp.linalg.norm(a, "nuc"), x34),
    "least squares": (lambda a: jnp.sum(jnp.linalg.lstsq(a, weights3)[0] ** 2), x34[:, :2]),
    "pseudo-inverse": (lambda a: jnp.sum(jnp.linalg.pinv(a) ** 2), x34),
    "matrix exponential": (lambda a: jnp.sum(jax.scipy.linalg.expm(a) * square3), square3 / 4),
    "matrix power": (lambda a: jnp.trace(jnp.linalg.matrix_power(a, 3)), square3),
    "kronecker": (lambda a: jnp.sum(jnp.kron(a, a) ** 2), square3[:2, :2]),
    "norm": (jnp.linalg.norm, x34),
    "einsum": (lambda a: jnp.einsum("ij,kj,ik->", a, a, square3), x34),
}  # fmt: skip

SIGNALS = {
    "power spectrum": (lambda x: jnp.sum(jnp.abs(jnp.fft.rfft(x)) ** 2 * weights3), x5),
    "fft": (lambda x: jnp.sum(jnp.real(jnp.fft.fft(x)) * jnp.arange(5.0)), x5),
    "filter": (lambda x: jnp.sum(
        jnp.fft.irfft(jnp.fft.rfft(x) * jnp.exp(-weights3).astype(complex), 5) ** 3), x5),
    "phase": (lambda x: jnp.angle(jnp.sum(lax.complex(x, jnp.flip(x) ** 2))), x5),
    "convolve": (lambda x: jnp.sum(jnp.convolve(x, weights3) ** 2), x5),
    "two-dimensional fft": (lambda x: jnp.sum(jnp.abs(jnp.fft.fft2(x)[:2]) * y34[:2]), x34),
}  # fmt: skip


def clipped(x):
    return lax.cond(jnp.sum(x) > 0, lambda x: jnp.sum(x**2), lambda x: jnp.sum(jnp.sin(x)), x)


def switched(x):
    return lax.switch(jnp.argmax(x), [jnp.sum, jnp.prod, lambda x: x[0] * x[1]] + [jnp.max] * 2, x)


def collatz(x):
    body = lambda s: (s[0] + 1, jnp.where(s[1] > 1, s[1] / 2, 3 * s[1] + x))
    return lax.while_loop(lambda s: (s[0] < 5) & (s[1] < 10), body, (0, x))[1]


def padded_batch(x):
    return jnp.sum(jax.vmap(lambda row, n: jnp.sum(jnp.where(jnp.arange(4) < n, row**2, 0.0)))(
        x, jnp.asarray([1, 4, 2])))  # fmt: skip


CONTROL_AND_INDEXING = {
    "cond": (clipped, x5),
    "switch by argmax": (switched, positive),
    "while on data": (collatz, jnp.asarray(1.5)),
    "masked batch": (padded_batch, x34),
    "where safe": (lambda x: jnp.sum(
        jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)), x5),
    "sort": (lambda x: jnp.sum(jnp.sort(x) * jnp.arange(5.0)), x5),
    "median": (jnp.median, x5),
    "percentile": (lambda x: jnp.percentile(x, 30.0), x5),
    "argsort gather": (lambda x: jnp.sum(x[jnp.argsort(-x)][:2] ** 2), x5),
    "maximum margin": (lambda x: x[jnp.argmax(x)] - jnp.min(x), x5),
    "cumulative": (lambda x: jnp.sum(jnp.cumsum(x) * jnp.cumprod(x)), x5),
    "running largest": (lambda x: jnp.sum(lax.cummax(x) ** 2), x5),
    "scatter add": (lambda x: jnp.sum(
        jnp.zeros(3).at[jnp.asarray([0, 2, 0, 1, 2])].add(x) ** 2), x5),
    "scatter set": (lambda x: jnp.sum(x.at[1:3].set(x[:2] ** 2) ** 2), x5),
    "scatter mul": (lambda x: jnp.sum(
        x.at[jnp.asarray([0, 3])].multiply(x[:2], unique_indices=True)), x5),
    "scatter max": (lambda x: jnp.sum(x.at[1].max(x[0])), x5),
    "segment sum": (lambda x: jnp.sum(
        jax.ops.segment_sum(x, jnp.asarray([0, 0, 1, 2, 2]), 3) ** 3), x5),
    "dynamic slice": (lambda x: jnp.sum(lax.dynamic_slice(x, (jnp.argmax(x) % 3,), (2,)) ** 2), x5),
    "roll and pad": (lambda x: jnp.sum(jnp.roll(jnp.pad(x, 2), 1)[:5] * jnp.roll(x, 2)), x5),
    "stop gradient": (lambda x: jnp.sum(lax.stop_gradient(x) * x), x5),
    "straight through": (lambda x: jnp.sum((x + lax.stop_gradient(jnp.round(x) - x)) ** 2), x5),
    "polynomial": (lambda c: jnp.polyval(c, 0.7), x5),
    "remainder": (lambda x: jnp.sum(jnp.mod(x, 0.7) ** 2), x5),
    "gradient penalty": (lambda x: jnp.sum(
        jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 2))(x) ** 2), x5),
    "pytree": (lambda t: t["a"][0] * jnp.sum(t["b"]["c"]) + jnp.sum(t["a"][1] ** 2),
               {"a": (jnp.asarray(2.0), x5), "b": {"c": x34}}),
    "named tuple": (lambda s: jnp.sum(s.mu["w"] * s.nu["w"]) ** 2,
                    optax.ScaleByAdamState(jnp.asarray(0.5), {"w": x5}, {"w": positive})),
    "rosenbrock": (lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), x5),
    "himmelblau": (lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2,
                   jnp.asarray([0.5, 1.5])),
}  # fmt: skip


def _of(dtype):
    params = {"w": x34.astype(dtype), "b": x5[:3].astype(dtype)}
    inputs = y34[0].astype(dtype)
    return (lambda p: jnp.sum(jnp.tanh(p["w"] @ inputs + p["b"]) ** 2), params)


def mixed(p):
    hidden = jnp.tanh(p["w"].astype(jnp.float32) * 1.5)
    return jnp.sum(hidden.astype(jnp.float64) * p["v"])


DTYPES = {
    **{dtype: _of(dtype) for dtype in ("float16", "bfloat16", "float32", "float64")},
    "mixed precision": (mixed, {"w": x5.astype(jnp.float16), "v": x5}),
}

CORPUS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    **ACTIVATIONS,
    **LOSSES,
    **LAYERS,
    **SOLVERS,
    **PROBABILITY,
    **LINEAR_ALGEBRA,
    **SIGNALS,
    **CONTROL_AND_INDEXING,
    **DTYPES,
}
