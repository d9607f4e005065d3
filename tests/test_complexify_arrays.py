"""Every operation on arrays, loop and branch against forward mode, or a derivation by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from slopes import EPS, slopes

from diffcompare._jaxpr import (
    complexify_algebra,
    complexify_arrays,
    complexify_control,
    complexify_rules,
)

POINTS = np.random.default_rng(1).normal(size=(4, 5))
WEIGHTS = jnp.asarray(np.random.default_rng(2).normal(size=(4, 5)))
SQUARE = POINTS[:, :4] + np.eye(4)
IMAGE = np.random.default_rng(3).normal(size=(2, 6, 6, 3))
KERNEL = jnp.asarray(np.random.default_rng(4).normal(size=(3, 3, 3, 2)))


def _window(init, operation, **options):
    return lambda x: lax.reduce_window(
        x, np.asarray(init, x.dtype), operation, (2, 3), (1, 2), "SAME", **options
    )


def _scan(x):
    def body(carry, row):
        total, count = carry
        total = jnp.sin(total) * row + 0.5
        return (total, count + 1), (total * row, count)

    (total, _), (rows, counts) = lax.scan(body, (jnp.zeros(5), 0), x, reverse=True)
    return rows * total[None] + counts[:, None].astype(x.dtype)


def _conv(x, w, **options):
    return lax.conv_general_dilated(
        x, w, (1, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


@jax.custom_batching.custom_vmap
def _own_batch(x):
    return jnp.sin(x)


_own_batch.def_vmap(lambda size, batched, x: (jnp.sin(x), batched[0]))


def _printing(x):
    jax.debug.callback(lambda x: None, x)
    return x * x


# Functions of arrays whose derivative jax.jvp finds with the same few operations.
ARRAYS = {
    "add_any": lambda x: jax.grad(lambda y: jnp.sum(y * y * jnp.sin(y)))(x),
    "argsort": lambda x: jnp.take_along_axis(x * x, jnp.argsort(x, 1), 1),
    "clamp": lambda x: lax.clamp(-0.5, x, x * 0.5 + 0.3) * x,
    "complex": lambda x: jnp.abs(lax.complex(x, jnp.sin(x)) ** 2),
    "complex functions": lambda x: jnp.real(
        jnp.exp(lax.complex(x, x)) / jnp.sqrt(lax.complex(x, jnp.ones_like(x)))
    ),
    "approx_top_k": lambda x: lax.approx_max_k(x * x, 2)[0],
    "concatenate": lambda x: jnp.concatenate([x, jnp.ones((1, 5)), x * x]),
    "cond": lambda x: lax.cond(
        x[0, 0] > 0, lambda x: (x, x), lambda x: (x * x, jnp.zeros_like(x)), x
    )[0],
    "conj": lambda x: jnp.real(jnp.conj(jnp.fft.fft(x)) * jnp.fft.fft(jnp.cos(x))),
    "conv kernel": lambda x: _conv(jnp.asarray(IMAGE), x[0, 0] * KERNEL),
    "cumlogsumexp": lambda x: lax.cumlogsumexp(x, 1, reverse=True),
    "cummax": lambda x: lax.cummax(x, 1) * x,
    "cummin": lambda x: lax.cummin(x, 0, reverse=True),
    "cumprod": lambda x: jnp.cumprod(x, 1),
    "cumsum": lambda x: jnp.cumsum(x * x, 0),
    "custom_linear_solve": lambda x: jnp.linalg.solve(jnp.asarray(SQUARE) + x[0, 0], x),
    "custom_root": lambda x: lax.custom_root(
        lambda y: y**3 - x[0, 0] ** 2 - 1,
        1.0,
        lambda f, y: lax.fori_loop(0, 40, lambda _, y: y - f(y) / (3 * y * y), y),
        lambda g, y: y / g(1.0),
    ),
    "custom_vmap_call": lambda x: _own_batch(x) ** 2,
    "debug_callback": _printing,
    "device_put": lambda x: jax.device_put(x * x) * x,
    "dot_general": lambda x: jnp.einsum("ij,kj->ki", x, jnp.sin(x)),
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (jnp.argmax(x[:, 0]), 0), (2, 5)) ** 2,
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, x[:2] ** 2, (1, 0)),
    "fft": lambda x: jnp.abs(jnp.fft.fft(x)) ** 3,
    "gather": lambda x: x.at[jnp.array([0, 0, 7])].get(mode="fill", fill_value=3.0) ** 2,
    "imag": lambda x: jnp.imag(jnp.fft.rfft(x)) ** 2,
    "irfft": lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * (1 + 2j), 5) ** 2,
    "max": lambda x: jnp.maximum(x, 0.3 * x + 0.1),
    "min": lambda x: jnp.minimum(x, WEIGHTS),
    "name": lambda x: checkpoint_name(x * x, "square"),
    "neg, sub": lambda x: -(x * x) - x - (1.0 - x),
    "optimization_barrier": lambda x: lax.optimization_barrier((x * x, 1.0))[0],
    "pad": lambda x: lax.pad(x, x[0, 0] ** 2, ((1, -1, 0), (0, 2, 1))),
    "polynomial": lambda x: jnp.polyval(jnp.array([1.0, -2.0, 3.0]), x),
    "pow of a negative number": lambda x: lax.pow(x, jnp.full(x.shape, 3.0)),
    "reduce_max": lambda x: jnp.max(x, 0),
    "reduce_min": lambda x: jnp.min(x, (0, 1)),
    "reduce_precision": lambda x: lax.reduce_precision(x * x, 11, 52),
    "reduce_prod": lambda x: jnp.prod(x, 0),
    "reduce_window_max": _window(-jnp.inf, lax.max, base_dilation=(2, 1)),
    "reduce_window_min": _window(jnp.inf, lax.min, window_dilation=(1, 2)),
    "reduce_window_sum": _window(0.0, lax.add),
    "remat": lambda x: jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)))(x),
    "rev": lambda x: x[::-1] * x,
    "scan": _scan,
    "scatter": lambda x: x.at[jnp.array([1, 3])].set(x[:2] ** 2),
    "scatter-add": lambda x: x.at[jnp.array([1, 1])].add(x[:2] ** 2),
    "scatter-mul": lambda x: x.at[jnp.array([1, 3])].multiply(x[:2] ** 2, unique_indices=True),
    "scatter-max": lambda x: x.at[jnp.array([1, 1])].max(x[:2] * 2),
    "scatter-min": lambda x: x.at[jnp.array([1, 1])].min(x[:2] * 2),
    "scatter-sub": lambda x: x.at[jnp.array([1, 1])].subtract(x[:2] ** 2),
    "select_and_gather_add": lambda x: jax.jvp(_window(-jnp.inf, lax.max), (x,), (x * x,))[1],
    "select_and_scatter_add": lambda x: jax.grad(
        lambda y: jnp.sum(_window(-jnp.inf, lax.max)(y) ** 2)
    )(x),
    "select_n": lambda x: jnp.where(x > 0, x * x, 1.0),
    "sort": lambda x: jnp.sort(x * x, 1),
    "sort of several": lambda x: lax.sort((x, x * x, jnp.arange(20).reshape(4, 5)), num_keys=1)[1],
    "split": lambda x: jnp.split(x * x, 2)[1],
    "stack": lambda x: jnp.stack([x, x * x], 1),
    "top_k": lambda x: lax.top_k(x, 2)[0] ** 2,
    "tile": lambda x: jnp.tile(x * x, (2, 1)),
    "transpose": lambda x: x.T @ x,
    "triangular_solve": lambda x: lax.linalg.triangular_solve(
        x[:, :4], x, left_side=True, lower=True, transpose_a=True, unit_diagonal=True
    ),
    "tridiagonal_solve": lambda x: lax.linalg.tridiagonal_solve(
        x[0], x[1] + 4, x[2], x.T @ WEIGHTS[:, :2]
    ),
    "while": lambda x: lax.while_loop(
        lambda c: jnp.sum(jnp.abs(c[0])) < 50, lambda c: (c[0] * 1.5 + x, c[1] + 1), (x, 0)
    )[0],
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_the_slope_of_a_function_of_an_array_is_that_of_forward_mode(name):
    fun = ARRAYS[name]
    x, v = jnp.asarray(POINTS), jnp.asarray(np.random.default_rng(5).normal(size=POINTS.shape))
    value, slope = slopes(fun, x, directions=[v])
    expected, truth = jax.jit(lambda x, v: jax.jvp(fun, (x,), (v,)))(x, v)
    # Two ways to sum a few dozen products, each rounded.
    assert np.abs(slope - truth).max() <= 16 * EPS["float64"] * np.abs(truth).max()
    assert np.allclose(value, expected, rtol=4 * EPS["float64"], atol=4 * EPS["float64"])


def test_every_rule_for_arrays_is_reached_by_a_test():
    tested = {name for fun in ARRAYS.values() for name in _primitives(fun)}
    # Tests of their own, or the same rule as another name.
    others = {
        "call_hi_primitive", "composite", "copy", "copy_p", "debug_print", "eval_jaxpr",
        "layout_constraint", "log2", "one_minus_square", "polynomial", "ragged_dot_general",
        "reduce", "reduce_window", "sharding_constraint", "stack", "stop_gradient",
        "tile", "unstack",
        *complexify_algebra.RULES,
    }  # fmt: skip
    rules = {*complexify_arrays.RULES, *complexify_control.RULES, *complexify_rules.RULES}
    by_entries = {
        *complexify_rules.SLOPES,
        *complexify_rules.CONSTANT,
        "sign",
        "integer_pow",
        "add_any",
    }
    assert rules - tested - by_entries - others == set()


def _primitives(fun):
    names = set()

    def visit(jaxpr):
        for eqn in jaxpr.eqns:
            names.add(eqn.primitive.name)
            for value in eqn.params.values():
                for inner in value if isinstance(value, tuple | list) else [value]:
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        visit(inner)

    visit(jax.make_jaxpr(fun)(jnp.asarray(POINTS)).jaxpr)
    return names


def test_a_product_with_zeros_has_the_slope_of_the_others():
    x = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0]])
    assert slopes(lambda x: jnp.prod(x, 1), x)[1].tolist() == [6.0, 0.0]
    assert slopes(lambda x: jnp.cumprod(x, 1), x)[1].tolist() == [[1, 2, 6], [1, 0, 0]]


def test_updates_that_meet_in_one_entry_multiply():
    x = np.array([3.0, 5.0, 7.0])
    fun = lambda x: jnp.ones(2).at[jnp.array([1, 1, 1])].multiply(x)
    # 5 * 7 + 3 * 7 + 3 * 5; a complex product, right to 2 eps.
    assert np.allclose(slopes(fun, x)[1], [0, 71], rtol=1e-15, atol=0)


def test_a_reduction_by_any_function_is_followed():
    x = np.array([[1.0, 2.0], [3.0, -4.0], [0.5, 0.25]])
    combine = lambda a, b: a + b + a * b
    fun = lambda x: lax.reduce(x, jnp.zeros(()), combine, (0,))
    # (1 + x1) (1 + x2) (1 + x3) - 1
    truth = [(4 + 2) * 1.5 + 8 * 1, (-3 + 3) * 1.25 + -9 * 1]
    assert np.allclose(slopes(fun, x)[1], truth, rtol=1e-15, atol=1e-15)
    windows = lambda x: lax.reduce_window(x, jnp.ones(()), lax.mul, (3, 1), (1, 1), "VALID")
    assert np.allclose(slopes(windows, x)[1], [[1.5 + 0.5 + 3, -1 + 0.5 - 8]], rtol=1e-15)


def test_a_convolution_keeps_a_small_imaginary_part_and_xla_does_not():
    h = 1e-20
    fun = lambda x: _conv(x, KERNEL)
    truth = np.asarray(jax.jvp(fun, (jnp.asarray(IMAGE),), (jnp.asarray(IMAGE),))[1])
    naive = np.imag(
        _conv(lax.complex(jnp.asarray(IMAGE), h * jnp.asarray(IMAGE)), KERNEL.astype(complex))
    )
    assert np.abs(naive / h - truth).max() > 1  # the trap
    for step in (None, h):
        found = slopes(fun, IMAGE, directions=[IMAGE], step=step)[1]
        assert np.abs(found - truth).max() <= 8 * EPS["float64"] * np.abs(truth).max()


def test_a_composite_is_what_it_is_composed_of():
    fun = lax.composite(lambda x: x * x * x, "own.cube")
    assert slopes(fun, np.array([2.0]))[1] == [12]


def _ragged(x):
    return lax.ragged_dot(x, jnp.stack([x.T, 2 * x.T]), jnp.array([1, 3]))


def test_products_of_ragged_groups_are_followed():
    truth = jax.jvp(_ragged, (jnp.asarray(POINTS),), (jnp.ones((4, 5)),))[1]
    assert np.allclose(slopes(_ragged, POINTS)[1], truth, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("largest", [True, False])
def test_at_a_tie_the_slope_is_that_from_the_side_of_the_direction(largest):
    pick = jnp.max if largest else jnp.min
    pairs = (jnp.maximum, lax.max) if largest else (jnp.minimum, lax.min)
    x, v = np.array([1.0, 1.0, 0.0]), np.array([2.0, 5.0, 9.0]) * (1 if largest else -1)
    x = x if largest else -x
    expected = v[1]
    wide = lambda x: lax.reduce_window(
        x, jnp.asarray(-jnp.inf if largest else jnp.inf), pairs[1], (3,), (1,), "VALID"
    )
    ends = lambda x: jnp.sort(x)[-1 if largest else 0]
    last = lambda x: (lax.cummax if largest else lax.cummin)(x)[-1]
    scatter = lambda x: x[:1].at[0].max(x[1]) if largest else x[:1].at[0].min(x[1])
    for fun in (pick, wide, ends, last, scatter, lambda x: pairs[0](x[0], x[1])):
        assert np.all(slopes(fun, x, directions=[v])[1] == expected)


def test_kinks_that_cancel_leave_the_slope_of_the_smooth_function():
    fun = lambda x: jnp.maximum(x, 0) + jnp.minimum(x, 0)
    assert slopes(fun, np.zeros(1))[1] == [1]
    assert slopes(fun, np.zeros(1), directions=[-np.ones(1)])[1] == [-1]


def test_a_carry_is_lifted_when_a_later_pass_moves_it():
    def fun(x):
        start = (x, jnp.ones(2), jnp.zeros(2), jnp.zeros(2, bool))
        after = lambda _, c: (c[0], c[1] * c[0], c[2] + c[1], c[3])
        return lax.fori_loop(0, 4, after, start)[2]

    # 1 + x + x**2 + x**3
    assert slopes(fun, np.array([2.0, 3.0]))[1].tolist() == [1 + 4 + 12, 1 + 6 + 27]
