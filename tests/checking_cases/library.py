"""Library functions at ordinary points: their derivatives are right."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import special

import checking_cases.case as c

ACTIVATIONS = {
    name: c.of_vector(fun)
    for name, fun in {
        "relu": jax.nn.relu,
        "relu6": jax.nn.relu6,
        "sigmoid": jax.nn.sigmoid,
        "softplus": jax.nn.softplus,
        "gelu": jax.nn.gelu,
        "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "silu": jax.nn.silu,
        "elu": jax.nn.elu,
        "selu": jax.nn.selu,
        "celu": jax.nn.celu,
        "leaky relu": jax.nn.leaky_relu,
        "hard sigmoid": jax.nn.hard_sigmoid,
        "hard tanh": jax.nn.hard_tanh,
        "mish": jax.nn.mish,
        "log sigmoid": jax.nn.log_sigmoid,
        "soft sign": jax.nn.soft_sign,
        "squareplus": jax.nn.squareplus,
        "softmax": jax.nn.softmax,
        "log softmax": jax.nn.log_softmax,
        "logsumexp": jax.nn.logsumexp,
        "standardize": jax.nn.standardize,
        "sparse plus": jax.nn.sparse_plus,
    }.items()
}
ELEMENTARY = {
    **{
        name: c.of_vector(fun, 4, seed=1)
        for name, fun in {
            "sine and exponential": lambda x: jnp.sin(x) * jnp.exp(-x),
            "tanh": jnp.tanh,
            "tangent": lambda x: jnp.tan(x / 2),
            "hyperbolic": lambda x: jnp.sinh(x) - jnp.cosh(x / 2),
            "asinh": jnp.arcsinh,
            "sinc": jnp.sinc,
            "logaddexp": lambda x: jnp.logaddexp(x, jnp.flip(x) / 2),
            "arctan2": lambda x: jnp.arctan2(x, jnp.flip(x) + 2),
            "hypot": lambda x: jnp.hypot(x, jnp.flip(x) ** 2 + 1),
            "cube root": jnp.cbrt,
            "sign times square": lambda x: jnp.sign(x) * x**2,
            "remainder": lambda x: jnp.mod(x, 0.7) * x,
            "powers": lambda x: x**3 - 2 * x**-2 + (x * x) ** 0.75,
        }.items()
    },
    **{
        name: lambda dtype, fun=fun: (fun, (c.between(dtype, 0.2, 0.8, 4),))
        for name, fun in {
            "logarithms": lambda x: jnp.log(x) + jnp.log2(x) * jnp.log10(x),
            "log1p and expm1": lambda x: jnp.log1p(x) * jnp.expm1(x),
            "roots": lambda x: jnp.sqrt(x) + lax.rsqrt(x),
            "arcsine and arccosine": lambda x: jnp.arcsin(x) * jnp.arccos(x),
            "acosh and atanh": lambda x: jnp.arccosh(1 + x) * jnp.arctanh(x),
            "power of both": lambda x: x ** jnp.flip(x),
            "entropy": special.entr,
            "xlogy": lambda x: special.xlogy(x, jnp.flip(x)),
        }.items()
    },
}
SPECIAL = {
    name: lambda dtype, fun=fun: (fun, (c.between(dtype, 0.3, 0.9, 3, seed=2),))
    for name, fun in {
        "erf": special.erf,
        "erfc": special.erfc,
        "erfinv": special.erfinv,
        "gammaln": special.gammaln,
        "digamma": special.digamma,
        "incomplete gamma": lambda x: special.gammainc(1.5, x),
        "incomplete beta": lambda x: special.betainc(1.5, 2.5, x),
        "scaled bessel": lambda x: special.i0e(x) + special.i1e(x),
        "normal cdf": lambda x: special.ndtr(x) + special.log_ndtr(-x),
        "normal quantile": special.ndtri,
        "polygamma": lambda x: special.polygamma(1, x),
    }.items()
}
ARRAYS = {
    name: c.of_vector(fun, 6, seed=3)
    for name, fun in {
        "cumulative sum and product": lambda x: jnp.cumsum(x) * jnp.cumprod(x),
        "running maximum": lax.cummax,
        "running logsumexp": lax.cumlogsumexp,
        "sort": jnp.sort,
        "sort by key": lambda x: lax.sort((x, x**2), num_keys=1)[1],
        "median": jnp.median,
        "quantile": lambda x: jnp.quantile(x, 0.3),
        "top k": lambda x: lax.top_k(x, 3)[0],
        "largest and smallest": lambda x: jnp.max(x) * jnp.min(x),
        "variance": jnp.var,
        "standard deviation": jnp.std,
        "product": jnp.prod,
        "gather": lambda x: x[jnp.asarray([0, 2, 2, 5])] ** 2,
        "gather by argsort": lambda x: x[jnp.argsort(-x)][:3] ** 2,
        "scatter add": lambda x: x.at[jnp.asarray([0, 2, 0])].add(x[:3] ** 2),
        "scatter set": lambda x: x.at[1:4].set(jnp.sin(x[:3])),
        "scatter multiply": lambda x: x.at[jnp.asarray([0, 3])].multiply(
            x[4:], unique_indices=True),
        "segment sum": lambda x: jax.ops.segment_sum(x, jnp.asarray([0, 0, 1, 2, 2, 1]), 3) ** 2,
        "segment maximum": lambda x: jax.ops.segment_max(x, jnp.asarray([0, 0, 1, 1, 2, 2]), 3),
        "dynamic slice": lambda x: lax.dynamic_slice(x, (jnp.argmax(x) % 3,), (2,)) ** 2,
        "dynamic update": lambda x: lax.dynamic_update_slice(x, x[:2] ** 3, (3,)),
        "roll, pad and flip": lambda x: jnp.pad(jnp.roll(x, 2), 1)[1:7] * jnp.flip(x),
        "convolve": lambda x: jnp.convolve(x, x[:3]),
        "difference": lambda x: jnp.diff(x) ** 2,
        "trapezoid": lambda x: jnp.trapezoid(x**2),
        "where": lambda x: jnp.where(x > 0, x**2, jnp.sin(x)),
        "clip": lambda x: jnp.clip(x, -0.5, 0.8),
        "maximum of two": lambda x: jnp.maximum(x, jnp.flip(x) / 3),
        "polynomial": lambda x: jnp.polyval(x, 0.7),
        "reduce window": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID"),
        "associative scan": lambda x: lax.associative_scan(jnp.multiply, x),
        "dropout": lambda x: jnp.where(
            jax.random.bernoulli(jax.random.key(1), 0.6, x.shape), x / 0.6, 0),
        "sum of absolute values": lambda x: jnp.sum(jnp.abs(x)),
        "ordinal weights": lambda x: jnp.sum(jnp.sort(x) * jnp.arange(6, dtype=x.dtype)),
    }.items()
}  # fmt: skip
MATRICES = {
    "matrix product": c.of_matrix(lambda a: a @ a.T, 2, 3),
    "einsum": c.of_matrix(lambda a: jnp.einsum("ij,kj,kl->il", a, a, a), 2, 3),
    "outer and trace": c.of_matrix(lambda a: jnp.trace(jnp.outer(a[0], a[1])), 2, 3),
    "kronecker": c.of_matrix(lambda a: jnp.kron(a, a.T), 2, 2),
    "triangle": c.of_matrix(lambda a: jnp.tril(a) @ jnp.triu(a), 3, 3),
    "frobenius norm": c.of_matrix(jnp.linalg.norm, 2, 3),
    "norms by row": c.of_matrix(lambda a: jnp.linalg.norm(a, axis=1), 2, 3),
    "maximum by row": c.of_matrix(lambda a: jnp.max(a, 1) + jnp.prod(a, 1), 2, 3),
    "cross product": c.of_matrix(lambda a: jnp.cross(a[0], a[1]), 2, 3),
    "tensordot": c.of_matrix(lambda a: jnp.tensordot(a, a, ((0, 2), (0, 2))), 2, 3, 2),
}
ALGEBRA = {
    "solve": c.of_matrix(lambda a: jnp.linalg.solve(a, a[0] ** 2), 3, 3),
    "inverse": c.of_matrix(jnp.linalg.inv, 3, 3),
    "determinant": c.of_matrix(jnp.linalg.det, 3, 3),
    "log-determinant": c.of_matrix(lambda a: jnp.linalg.slogdet(a)[1], 3, 3),
    "cholesky": lambda dtype: (jnp.linalg.cholesky, (c.definite(dtype),)),
    "eigenvalues": lambda dtype: (jnp.linalg.eigvalsh, (c.definite(dtype),)),
    "singular values": c.of_matrix(lambda a: jnp.linalg.svd(a, compute_uv=False), 2, 3),
    "triangular solve": c.of_matrix(
        lambda a: jax.scipy.linalg.solve_triangular(
            a + 2 * jnp.eye(3, dtype=a.dtype), a[:, 0], lower=True
        ), 3, 3),
    "triangle of qr": c.of_matrix(lambda a: jnp.linalg.qr(a)[1], 3, 2),
    "matrix exponential": c.of_matrix(lambda a: jax.scipy.linalg.expm(a / 4), 2, 2),
    "matrix power": c.of_matrix(lambda a: jnp.linalg.matrix_power(a, 3), 2, 2),
    "pseudo-inverse": c.of_matrix(jnp.linalg.pinv, 3, 2),
    "least squares": c.of_matrix(
        lambda a: jnp.linalg.lstsq(a, c.like(a, [1.0, -2.0, 0.5]))[0], 3, 2),
    "solve by cholesky": lambda dtype: (
        lambda a: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a), a[0] ** 2),
        (c.definite(dtype),),
    ),
}  # fmt: skip
SIGNALS = {
    "interpolation": c.of_vector(
        lambda y: jnp.interp(c.like(y, [0.1, 0.6]), jnp.linspace(0, 1, 6, dtype=y.dtype), y), 6
    ),
    "power spectrum": c.of_vector(lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2, 5),
    "filter": c.of_vector(lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * 0.5, 6) ** 2, 6),
    "two-dimensional transform": c.of_matrix(lambda x: jnp.real(jnp.fft.fft2(x)) ** 2, 2, 3),
    "phase": c.of_vector(lambda x: jnp.angle(jnp.sum(lax.complex(x, jnp.flip(x) ** 2))), 4),
}
OF_COMPLEX = {
    "squared modulus": c.of_vector(lambda z: jnp.sum(jnp.abs(z) ** 2), 3),
    "modulus": c.of_vector(jnp.abs, 3),
    "holomorphic": c.of_vector(lambda z: jnp.sin(z) * jnp.exp(z) / (z + 3), 3),
    "conjugate": c.of_vector(lambda z: jnp.conj(z) * z**2, 3),
    "real and imaginary part": c.of_vector(lambda z: jnp.real(z) * jnp.imag(z**2), 3),
    "complex square root": c.of_vector(lambda z: jnp.sqrt(z) + jnp.log(z), 3),
    "complex matrix product": c.of_matrix(lambda z: z @ z.conj().T, 2, 2),
    "complex fft": c.of_vector(lambda z: jnp.fft.fft(z) ** 2, 4),
    "complex solve": c.of_matrix(lambda z: jnp.linalg.solve(z, z[0] ** 2), 2, 2),
    "complex tanh": c.of_vector(jnp.tanh, 3),
}
# Each in full and in half precision, in turns; factorizations exist in full precision only.
ANY_PRECISION = {**ACTIVATIONS, **ELEMENTARY, **ARRAYS, **MATRICES}
FULL_PRECISION = {**SPECIAL, **ALGEBRA, **SIGNALS}

CASES = [
    *c.taking_turns("library", ANY_PRECISION, c.FULL, c.RIGHT),
    *c.taking_turns("library", ANY_PRECISION, c.HALF, c.RIGHT),
    *c.taking_turns("library", FULL_PRECISION, c.FULL, c.RIGHT),
    *c.taking_turns("library", OF_COMPLEX, c.COMPLEX, c.RIGHT),
]
