"""A function with complex numbers inside keeps its value and its derivatives without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun

from diffcompare._jaxpr import realify, walk

x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
line = x.ravel()[:5]
low = jnp.exp(-jnp.arange(3.0)).astype(complex)
kernel = jnp.asarray([1.0 + 2j, -0.5j])


def z(x):
    """Returns complex numbers in all four quadrants, with one that is 0."""
    return lax.complex(x, jnp.flip(x, 1)).at[0, 0].set(0)


def norm(values):
    weights = jnp.cos(1 + jnp.arange(values.size, dtype=jnp.float64)).reshape(values.shape)
    return jnp.sum(jnp.real(values) * weights) + jnp.sum(jnp.imag(values) * weights**2)


def by(function):
    return lambda x: norm(function(z(x)))


def rotation(x):
    step = lambda state, angle: (state * jnp.exp(lax.complex(0.0, angle)), (state, angle))
    last, (states, _) = lax.scan(step, jnp.ones((), complex), x)
    return norm(jnp.append(states, last))


def spun(x):
    carry = (jnp.zeros((), int), lax.complex(x[0], 0.0))
    turn = lambda carry: (carry[0] + 1, carry[1] * lax.complex(x[1], 1.0))
    return jnp.abs(lax.while_loop(lambda carry: carry[0] < 3, turn, carry)[1])


FUNCTIONS = {
    "sum and difference": by(lambda z: z + 2 * z.T[:3, :3].sum() - 1j),
    "product": by(lambda z: z * z[::-1]),
    "quotient": by(lambda z: (z + 1) / (z[::-1] + 2j)),
    "square": by(jnp.square),
    "powers": by(lambda z: z**3 + (z + 1) ** -2),
    "general power": by(lambda z: (z + 0.5) ** (z + 1)),
    "power of zero": by(lambda z: z ** jnp.asarray(2.0 + 0j)),
    "exp": by(jnp.exp),
    "log": by(lambda z: jnp.log(z + 0.3)),
    "roots": by(lambda z: jnp.sqrt(z + 0.3) + lax.rsqrt(z + 0.2)),
    "circular": by(lambda z: jnp.sin(z) + jnp.cos(z) * jnp.tan(z)),
    "hyperbolic": by(lambda z: jnp.sinh(z) + jnp.cosh(z) * jnp.tanh(z)),
    "near zero": by(lambda z: jnp.expm1(z) + jnp.log1p(z)),
    "sigmoid": by(jax.nn.sigmoid),
    "absolute value": lambda x: norm(jnp.abs(z(x))),
    "angle": lambda x: jnp.sum(jnp.angle(z(x)[1:])),
    "conjugate": by(jnp.conj),
    "parts": lambda x: jnp.sum(jnp.real(z(x)) * jnp.imag(z(x) * z(x))),
    "matrix product": by(lambda z: z @ z.T),
    "convolution": lambda x: norm(jnp.convolve(x[0].astype(complex), kernel)),
    "movement": by(lambda z: jnp.concatenate([z.T, z.reshape(4, 3)], 0)[1:, ::2]),
    "gather": by(lambda z: z[:, jnp.array([3, 0, 0])]),
    "update": by(lambda z: z.at[0].set(z[1]).at[:, 1].add(2j)),
    "pad and select": by(lambda z: jnp.where(jnp.pad(jnp.real(z), 1) > 0, jnp.pad(z, 1), z[1, 1])),
    "reductions": by(lambda z: jnp.cumsum(z, 1) * jnp.mean(z)),
    "product of many": by(lambda z: jnp.prod(z[1:], 1)),
    "comparison": by(lambda z: jnp.where(z == 0, 2.0 + 0j, z)),
    "solve": by(lambda z: lax.linalg.triangular_solve(
        z[:, :3] + 3 * jnp.eye(3, dtype=complex), z, left_side=True, lower=True, conjugate_a=True,
        transpose_a=True)),
    "fft": by(jnp.fft.fft),
    "inverse fft": by(jnp.fft.ifft),
    "fft in two dimensions": by(jnp.fft.fft2),
    "fft of an odd length": lambda x: norm(jnp.fft.fft(line * x[0, 0])),
    "real fft": lambda x: norm(jnp.fft.rfft(x)),
    "real fft of odd length": lambda x: norm(jnp.fft.rfft2(x[:, :3])),
    "inverse real fft": by(jnp.fft.irfft),
    "inverse real fft of odd length": by(lambda z: jnp.fft.irfft(z, 5)),
    "inverse real fft in two dimensions": by(jnp.fft.irfft2),
    "spectral power": lambda x: jnp.sum(jnp.abs(jnp.fft.rfft(x)) ** 2 * jnp.arange(3.0)[None]),
    "filter": lambda x: jnp.sum(jnp.fft.irfft(jnp.fft.rfft(x) * low[None]) ** 3),
    "scan": lambda x: rotation(x[0]),
    "while": lambda x: jax.jvp(spun, (x[0],), (jnp.ones(4),))[1],
    "cond": lambda x: norm(lax.cond(x[0, 0] > 0, lambda z: z * z, lambda z: 1j * z, z(x))),
    "jit": by(jax.jit(lambda z: z * 1j)),
    # Whose gradient has a complex number of an array and a number.
    "gradient of a real part": lambda x: jnp.sum(
        jax.grad(lambda x: jnp.sum(jnp.real(jnp.fft.fft2(x / 4)) ** 2))(x) ** 2),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_pairs_has_the_value_and_the_gradient_of_jax(name):
    fun = FUNCTIONS[name]
    jaxpr = realify.realified(jax.make_jaxpr(fun)(x))
    assert not realify.has_complex(jaxpr)
    ours = lambda x: jaxpr_as_fun(jaxpr)(x)[0]
    with np.errstate(all="ignore"):
        derive = jax.jvp if name == "while" else jax.value_and_grad
        if name == "while":
            found, truth = (derive(f, (x,), (jnp.sin(x),)) for f in (ours, fun))
        else:
            found, truth = derive(ours)(x), derive(fun)(x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        # Tens of operations for each entry.
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_the_sign_is_the_direction():
    # JAX 0.10 gives it the derivative 0.
    jaxpr = realify.realified(jax.make_jaxpr(by(lambda z: jnp.sign(z + 0.1)))(x))
    written = by(lambda z: (z + 0.1) / jnp.abs(z + 0.1).astype(complex))
    found = jax.grad(lambda x: jaxpr_as_fun(jaxpr)(x)[0])(x)
    np.testing.assert_allclose(found, jax.grad(written)(x), rtol=1e-12, atol=1e-12)


def test_complex_inputs_and_outputs_become_two():
    jaxpr = realify.realified(jax.make_jaxpr(lambda z, y: (y, z * y))(1 + 2j, 3.0))
    assert [float(part) for part in jaxpr_as_fun(jaxpr)(1.0, 2.0, 3.0)] == [3.0, 3.0, 6.0]


def test_what_has_no_complex_numbers_stays_as_it_is():
    jaxpr = jax.make_jaxpr(jnp.sin)(1.0)
    assert realify.realified(jaxpr) is jaxpr


def test_an_operation_without_a_rule_is_named():
    fun = lambda x: jnp.sum(jnp.abs(jnp.linalg.eigvals(x)))
    jaxpr = jax.make_jaxpr(fun)(jnp.eye(2))
    with pytest.raises(walk.UnknownPrimitiveError, match=r"pairs.*'eig', met at .*test_realify"):
        realify.realified(jaxpr)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_parts_have_the_precision_of_the_whole(dtype):
    fun = lambda x: jnp.sum(jnp.abs(jnp.fft.fft(x)))
    jaxpr = realify.realified(jax.make_jaxpr(fun)(jnp.ones(3, dtype)))
    floats = {
        v.aval.dtype
        for e in jaxpr.eqns
        for v in e.outvars
        if jnp.issubdtype(v.aval.dtype, jnp.floating)
    }
    assert floats <= {jnp.dtype(dtype)}
