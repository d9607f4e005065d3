"""What the walk does with what it meets: refusals, bits, custom rules, dtypes."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from slopes import slopes

from diffcompare._jaxpr import walk

POINTS = np.random.default_rng(1).normal(size=(4, 5))


@pytest.mark.parametrize(
    ("fun", "primitive"),
    [
        (lambda x: jnp.linalg.svd(x)[0], "svd"),
        (lambda x: jnp.linalg.qr(x)[0], "qr"),
        (lambda x: jnp.linalg.eig(x[:, :4])[1].real, "eig"),
        (lambda x: jax.scipy.linalg.schur(x[:, :4])[0], "schur"),
        (lambda x: lax.igamma_grad_a(x * x, x * x), "igamma_grad_a"),
        (lambda x: jax.scipy.special.betainc(x * x, x * x, jnp.full_like(x, 0.5)),
         "regularized_incomplete_beta"),
        (lambda x: lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.int64) ^ 1, x.dtype),
         "bitcast_convert_type"),
        (lambda x: lax.bitcast_convert_type(x, jnp.int64).astype(x.dtype), "convert_element_type"),
        (lambda x: jax.pure_callback(np.sin, x, x), "pure_callback"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name(fun, primitive):
    with pytest.raises(
        walk.UnknownPrimitiveError, match=f"ComplexStep has no rule for the primitive '{primitive}'"
    ):
        slopes(fun, POINTS)


def test_the_message_names_the_users_line_and_what_to_do():
    line = inspect.currentframe().f_lineno + 3

    def fun(x):
        return jax.pure_callback(np.sin, x, x)

    with pytest.raises(walk.UnknownPrimitiveError) as caught:
        slopes(fun, POINTS)
    assert f"test_complexify.py:{line}" in str(caught.value)
    assert "finite difference" in str(caught.value)


def test_bits_may_become_conditions_mantissas_and_rounded_numbers():
    x = np.array([-3.3, 0.3, 5.0])
    assert slopes(lambda x: jnp.where(jnp.signbit(x), -x, 2 * x), x)[1].tolist() == [-1, 2, 2]
    assert slopes(lambda x: jnp.frexp(x)[0], x)[1].tolist() == [0.25, 2.0, 0.125]
    assert slopes(lambda x: jnp.ldexp(x, 3), x)[1].tolist() == [8, 8, 8]
    mask = jnp.array(-(2**20), jnp.int64)
    cut = lambda x: lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.int64) & mask, x.dtype)
    assert slopes(cut, x)[1].tolist() == [1, 1, 1]


def test_custom_rules_are_never_called():
    @jax.custom_jvp
    def doubled(x):
        return 2 * x

    doubled.defjvp(lambda x, v: (doubled(*x), 100 * v[0]))

    @jax.custom_vjp
    def tripled(x):
        return 3 * x

    tripled.defvjp(lambda x: (3 * x, None), lambda _, u: (100 * u,))
    assert slopes(lambda x: doubled(x) + tripled(x), np.ones(2))[1].tolist() == [5, 5]


def test_a_stopped_gradient_is_not_stopped():
    assert slopes(lambda x: lax.stop_gradient(x) * 2, np.ones(2))[1].tolist() == [2, 2]
