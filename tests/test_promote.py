"""A promoted function computes what the narrow one means, with the constants it was given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from diffcompare._jaxpr.promote import promote
from diffcompare._jaxpr.walk import primitives


def promoted(fun, *arguments, width=64):
    """Returns the output of a promoted function, at the arguments as they are rounded."""
    jaxpr = promote(jax.make_jaxpr(fun)(*arguments), width)
    wide = [jnp.asarray(x, aval.dtype) for x, aval in zip(arguments, jaxpr.in_avals, strict=True)]
    return jax.jit(lambda *x: jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *x))(*wide)[0]


def _scan(x):
    step = lambda carry, row: (carry * row + jnp.ones_like(row), carry)
    return jnp.sum(lax.scan(step, jnp.zeros_like(x[0]), x)[1])


def _while(x):
    return jnp.sum(lax.while_loop(lambda c: jnp.sum(c) < 100, lambda c: c * c + 1, x))


@jax.custom_vjp
def _custom(x):
    return jnp.sin(x) * 2


_custom.defvjp(lambda x: (_custom(x), None), lambda _, u: (u,))

FUNCTIONS = {
    "a cast within": lambda x: jnp.sum(jnp.exp(x.astype(jnp.float32)).astype(x.dtype)),
    "a custom rule": lambda x: jnp.sum(_custom(x)),
    "a convolution": lambda x: jnp.sum(jnp.convolve(x, x) ** 2),
    "a branch": lambda x: lax.cond(x[0] > 0, jnp.sum, jnp.max, x),
    "a complex number": lambda x: jnp.sum(
        jnp.abs(jnp.fft.fft(x.astype(jnp.float32)))
    ).astype(x.dtype),
    "a linear system": lambda x: jnp.sum(
        jnp.linalg.solve(jnp.outer(x, x).astype(jnp.float32) + jnp.eye(5, dtype=jnp.float32),
                         x.astype(jnp.float32))
    ).astype(x.dtype),
    "a reduction": lambda x: lax.reduce(
        x, jnp.zeros((), x.dtype), lambda a, b: a + b + a * b, (0,)
    ),
    "a scan": _scan,
    "a scatter": lambda x: jnp.sum(x.at[jnp.array([1, 1])].add(x[:2]) ** 3),
    "a softmax": lambda x: jnp.sum(jax.nn.softmax(x) ** 2),
    "a while loop": _while,
    "integers": lambda x: jnp.sum(x * jnp.arange(5).astype(x.dtype)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_promoted_function_is_the_function_of_wide_numbers(name, dtype):
    x = jnp.asarray([0.3, -1.7, 0.9, 2.2, -0.4], dtype)
    found = promoted(FUNCTIONS[name], x)
    assert found.dtype == jnp.float64
    expected = FUNCTIONS[name](x.astype(jnp.float64))
    if name in ("a cast within", "a complex number", "a linear system"):
        # They are written for float32 in float64, too.
        assert np.isclose(found, expected, rtol=1e-5)
        assert not np.isclose(found, FUNCTIONS[name](x), rtol=1e-12)
    else:
        assert np.isclose(found, expected, rtol=1e-14)  # a few dozen operations


def test_constants_keep_the_values_they_were_rounded_to():
    found = promoted(lambda x: x * jnp.bfloat16(0.1) + 0.1, jnp.bfloat16(1.0))
    assert found == 2 * float(jnp.bfloat16(0.1))


def test_what_is_wide_enough_is_left_alone():
    jaxpr = jax.make_jaxpr(_scan)(jnp.ones((3, 2)))
    assert promote(jaxpr, 64) is jaxpr
    assert promote(jaxpr, 32) is jaxpr


def test_wider_numbers_stay_wide():
    fun = lambda x: x.astype(jnp.float64) * 3
    assert promoted(fun, jnp.bfloat16(1.5), width=32).dtype == jnp.float64
    assert promoted(lambda x: x * 3, jnp.bfloat16(1.5), width=32).dtype == jnp.float32


def test_bits_and_callbacks_see_the_dtype_they_were_traced_for():
    seen = []

    def host(x):
        seen.append(x.dtype)
        return x

    x = jnp.array([-0.5, 1.5], jnp.float16)
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    assert promoted(lambda x: jax.pure_callback(host, shape, x), x).tolist() == [-0.5, 1.5]
    assert seen == [jnp.float16]
    assert promoted(lambda x: jnp.where(jnp.signbit(x), -x, x), x).tolist() == [0.5, 1.5]
    assert promoted(lambda x: jnp.frexp(x)[0], x).tolist() == [-0.5, 0.75]
    assert promoted(lambda x: lax.nextafter(x, x + 1), x)[1] == 1.5 + 2.0**-10


def test_an_equation_keeps_the_users_line():
    jaxpr = promote(jax.make_jaxpr(lambda x: jnp.sin(x) * 2)(jnp.float16(1)), 64)
    assert "sin" in primitives(jaxpr)
    (eqn,) = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "sin"]
    frames = str(eqn.source_info.traceback)
    assert "test_promote.py" in frames
    assert "promote.py" not in frames.replace("test_promote.py", "")


def test_nothing_narrow_is_left():
    jaxpr = promote(jax.make_jaxpr(_while)(jnp.ones(2, jnp.float16)), 32)
    assert jaxpr is promote(jaxpr, 32)
