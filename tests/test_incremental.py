"""Differences that compute only what a changed entry changes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import diffcompare as dc
from diffcompare import learn
from diffcompare.numerical.evaluation import plans

DENSE = dc.CentralDifference(evaluation="dense")
INCREMENTAL = dc.CentralDifference(evaluation="incremental")

_rng = np.random.default_rng(0)


class Case(NamedTuple):
    """A function of one pytree, given in float64."""

    name: str
    fun: Callable[[Any], Any]
    argument: Any

    def at(self, dtype: str) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.argument)


def normal(*shape):
    return _rng.normal(size=shape)


def like(values, leaf):
    return jnp.asarray(values, leaf.dtype)


_inputs, _targets = normal(5, 4), normal(5, 2)
_images = normal(2, 7, 6, 2)


def mlp(params):
    scores = learn.apply(params, like(_inputs, params[0].weight), jnp.tanh)
    return jnp.mean(learn.half_squared_error(scores, like(_targets, scores)))


def relu_classifier(params):
    scores = learn.apply(params, like(_inputs, params[0].weight))
    return -jnp.mean(jax.nn.log_softmax(scores)[:, 0])


def convolutional(params):
    x = like(_images, params["k1"])
    for kernel, strides, padding in (("k1", (1, 1), "SAME"), ("k2", (2, 1), "VALID")):
        x = jnp.tanh(
            lax.conv_general_dilated(
                x, params[kernel], strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            + params["b"][None, None, None]
        )
        x = lax.reduce_window(x, like(0, x), lax.add, (1, 2, 2, 1), (1, 1, 1, 1), "VALID")
    return jnp.sum(jnp.mean(x, (1, 2)) @ params["w"])


def channels_first(kernel):
    x = like(_images.transpose(0, 3, 1, 2), kernel)
    y = lax.conv_general_dilated(x, kernel, (2, 2), ((1, 2), (0, 1)), (1, 2), (2, 1))
    return jnp.sum(y * y)


def grouped(kernel):
    x = like(_images, kernel)
    y = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
    )
    return jnp.sum(jnp.sin(y))


def attention(params):
    x = like(normal_sequence, params["q"])
    heads = lambda w: jnp.einsum("td,dhk->htk", x, w)
    q, k, v = heads(params["q"]), heads(params["k"]), heads(params["v"])
    scores = jnp.einsum("htk,hsk->hts", q, k) / like(2, q)
    mask = jnp.tril(jnp.ones((6, 6), bool))
    shares = jax.nn.softmax(jnp.where(mask, scores, like(-jnp.inf, scores)))
    mixed = jnp.einsum("hts,hsk->thk", shares, v).reshape(6, 6)
    y = x + mixed @ params["o"]
    y = (y - y.mean(-1, keepdims=True)) / jnp.sqrt(y.var(-1, keepdims=True) + like(1e-3, y))
    return jnp.sum(jax.nn.gelu(y) ** 2)


normal_sequence = normal(6, 6)


def recurrent(params):
    def step(state, x):
        state = jnp.tanh(params["w"] @ state + x @ params["u"])
        return state, state

    start = jnp.zeros(3, params["w"].dtype)
    last, states = lax.scan(step, start, like(_inputs, start))
    return jnp.sum(last) + jnp.sum(states**2)


def embedding(params):
    tokens = jnp.array([0, 3, 3, 5])
    x = params["table"][tokens]
    y = x + params["table"][1:2]
    return jnp.sum(jnp.tanh(y @ params["w"])) + jnp.sum(params["table"][:2, 1:] ** 3)


def control(params):
    x = params["x"]
    total = lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x + c[1]), (0, x))[1]
    total = lax.cond(x[0] > 0, lambda t: jnp.sum(t**2), lambda t: jnp.sum(t), total)
    return total + lax.fori_loop(0, 4, lambda i, c: c + x[i % 3] * params["y"], like(0, x))


@jax.custom_jvp
def wrongly_ruled(x):
    return jnp.sin(x) * x


wrongly_ruled.defjvp(lambda primals, tangents: (wrongly_ruled(*primals), tangents[0] * 0))


@jax.custom_vjp
def wrongly_pulled(x):
    return jnp.cumsum(x, axis=1)


wrongly_pulled.defvjp(lambda x: (wrongly_pulled(x), None), lambda _, g: (g * 0,))


def custom_rules(x):
    return jnp.sum(jax.checkpoint(jnp.exp)(wrongly_ruled(x)) * wrongly_pulled(x))


def movement(x):
    a = jnp.concatenate([x, x[::-1] * 2, jnp.flip(x, 1)], axis=0)
    b = jnp.pad(a, ((1, 2), (0, 1)))[1:6, 1:]
    c = jnp.concatenate([b.reshape(-1), b.T.reshape(-1)[3:]])
    d = jnp.stack(jnp.split(a, 3, axis=0)).transpose(2, 0, 1).reshape(3, -1, 2)
    e = lax.dynamic_update_slice(a, x[:1] ** 2, (1, 0))
    f = jnp.tile(x, (2, 2)).reshape(2, 2, 2, 3) + x[None, :, None, :]
    return sum(jnp.sum(jnp.sin(part) * part) for part in (c, d, e, f))


def reductions(x):
    parts = [
        jnp.max(x, 0),
        jnp.min(x, 1),
        jnp.prod(x, 1),
        jax.nn.logsumexp(x, 0),
        jnp.cumsum(x, 0)[-1],
        lax.cumlogsumexp(x, 1)[:, 1],
        jnp.sort(x, 1)[:, 0],
        jnp.linalg.norm(x, axis=0),
        jnp.var(x, 1),
        jnp.take_along_axis(x, jnp.argmax(x, 1, keepdims=True), 1)[:, 0],
        jnp.where(jnp.any(x > 1, axis=1), x[:, 0], -x[:, 1]),
    ]
    return sum(jnp.sum(part**2) for part in parts)


def products(t):
    a, b = t["a"], t["b"]
    both = jnp.einsum("bij,bkj->bik", a, a)
    batched = jnp.einsum("bij,bkj->bik", a, b)
    crossed = jnp.einsum("bij,bkj->ik", a, jnp.sin(b))
    outer = jnp.einsum("i,j->ij", a[0, 0], b[1, :, 0])
    bilinear = jnp.einsum("bij,jk,bik->b", a, like(_square, a), a)
    return sum(jnp.sum(part**2) for part in (both, batched, crossed, outer, bilinear))


_square = normal(3, 3)

CASES = (
    Case("mlp", mlp, learn.init(jax.random.key(0), (4, 6, 5, 2))),
    Case("without bias", mlp, learn.init(jax.random.key(1), (4, 3, 2), bias=False)),
    Case("relu classifier", relu_classifier, learn.init(jax.random.key(2), (4, 5, 3))),
    Case(
        "convolutional",
        convolutional,
        {"k1": normal(3, 2, 2, 3), "k2": normal(2, 2, 3, 3), "b": normal(3), "w": normal(3, 2)},
    ),
    Case("convolution with dilation and strides", channels_first, normal(3, 2, 2, 2)),
    Case("grouped convolution", grouped, normal(2, 2, 1, 4)),
    Case("convolution with one filter", channels_first, normal(1, 2, 2, 1)),
    Case(
        "attention",
        attention,
        {"q": normal(6, 2, 3), "k": normal(6, 2, 3), "v": normal(6, 2, 3), "o": normal(6, 6)},
    ),
    Case("scan", recurrent, {"w": normal(3, 3), "u": normal(4, 3)}),
    Case("embedding", embedding, {"table": normal(7, 3), "w": normal(3, 2)}),
    Case("control flow", control, {"x": np.array([0.5, -0.3, 0.8]), "y": np.asarray(0.3)}),
    Case("custom rules", custom_rules, normal(2, 3) / 4),
    Case("movement", movement, normal(2, 3)),
    Case("reductions", reductions, normal(3, 4)),
    Case("products", products, {"a": normal(2, 4, 3) / 2, "b": normal(2, 4, 3) / 2}),
    Case(
        "bilinear form",
        lambda t: t["a"] @ t["b"] @ t["a"],
        {"a": normal(3), "b": normal(3, 3)},
    ),
    Case(
        "empty leaf and unused leaf",
        lambda t: jnp.sum(t[0]) + jnp.sum(t[1] ** 2),
        (np.zeros((0, 2)), normal(2, 1), normal(3)),
    ),
)


def errors(case, dtype, methods):
    """Returns the errors of the methods, and how large the gradient is, in float64.

    The truth is a difference of high order in float64, of the function of the rounded
    argument: the custom rules of two cases are wrong on purpose.
    """
    x = case.at(dtype)
    wide = jax.tree.map(lambda leaf: leaf.astype("float64"), x)
    truth = dc.grad(case.fun, method=dc.CentralDifference(order=8, evaluation="dense"))(wide)
    flat = lambda tree: np.concatenate(
        [np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)]
    )
    found = [flat(dc.grad(case.fun, method=method)(x)) for method in methods]
    truth = flat(truth)
    return [np.linalg.norm(each - truth) for each in found], np.linalg.norm(truth)


# Every case in float64, and what differs by dtype, casts and rounding, in float32 for two.
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case.name}-{dtype}")
        for case in CASES
        for dtype in ("float64", "float32")
        if dtype == "float64" or case.name in ("mlp", "attention")
    ],
)
def test_incremental_error_is_within_twice_that_of_dense(case, dtype):
    (incremental, dense), size = errors(case, dtype, [INCREMENTAL, DENSE])
    # Where both are at the noise, chance decides: eps ** (2/3) is what the step was chosen for,
    # and a gradient of four entries may have four unlucky ones.
    floor = 2 * float(jnp.finfo(dtype).eps) ** (2 / 3) * size
    assert incremental <= max(2 * dense, floor)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in ("mlp", "scan")],
    ids=lambda case: case.name,
)  # fmt: skip
def test_incremental_error_is_within_twice_that_of_dense_in_half_precision(case, dtype):
    (incremental, dense), size = errors(case, dtype, [INCREMENTAL, DENSE])
    assert incremental <= max(2 * dense, float(jnp.finfo(dtype).eps) ** (2 / 3) * size)


@pytest.mark.parametrize(
    "method", [dc.ForwardDifference, dc.BackwardDifference, dc.CentralDifference]
)
@pytest.mark.parametrize("batch", [None, 4])
def test_every_scheme_and_batch_gives_the_dense_gradient(method, batch):
    case = CASES[0]
    x = case.at("float64")
    found = dc.grad(case.fun, method=method(batch=batch, evaluation="incremental", step=2.0**-12))(
        x
    )
    dense = dc.grad(case.fun, method=method(evaluation="dense", step=2.0**-12))(x)
    # The points are the same; values of size 1 differ by ulps, divided by a step of 2**-12.
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=32 * 2.0**-52 * 2**12)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2**31), st.booleans())
@settings(max_examples=15)
def test_reshapes_and_transposes_carry_the_change_to_the_right_place(shape, seed, transposed):
    # A linear function: its gradient by every entry is one of the weights, whatever the path.
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    first = int(rng.choice(divisors))
    weights = rng.normal(size=size).reshape(first, -1)
    order = tuple(rng.permutation(len(shape)))

    def fun(x):
        moved = x.transpose(order) if transposed else x
        return jnp.sum(moved.reshape(first, -1) * weights)

    found = dc.grad(fun, method=INCREMENTAL)(jnp.asarray(rng.normal(size=shape)))
    np.testing.assert_allclose(found, jax.grad(fun)(jnp.zeros(shape)), rtol=1e-8, atol=1e-8)


def test_jacobians_of_pytrees_agree():
    def fun(t):
        return {"y": jnp.tanh(t["a"] @ t["b"]), "z": (t["a"][0] * 2, t["b"] * 1)}

    x = {"a": jnp.asarray(normal(2, 3)), "b": jnp.asarray(normal(3))}
    found = dc.jacobian(fun, method=INCREMENTAL)(x)
    truth = jax.jacobian(fun)(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-8), found, truth)


def test_values_that_are_not_finite_elsewhere_do_not_spoil_the_change():
    # A contraction over a change must not turn infinity minus infinity into NaN.
    x = jnp.array([1.0, 2.0, 3.0])
    fun = lambda x: jnp.max(jnp.stack([jnp.full(3, -jnp.inf), x]).sum(1))
    np.testing.assert_allclose(dc.grad(fun, method=INCREMENTAL)(x), 1.0, rtol=1e-9)


def test_hidden_units_are_followed_and_not_the_layer():
    params = learn.init(jax.random.key(0), (64, 128, 10))
    x, y = jnp.asarray(normal(64, 64)), jnp.asarray(normal(64, 10))

    def loss(params):
        return jnp.mean(learn.half_squared_error(learn.apply(params, x, jnp.tanh), y))

    def gradient(evaluation):
        method = dc.CentralDifference(evaluation=evaluation)
        return jax.jit(dc.grad(loss, method=method)).lower(params).compile()

    auto = gradient("auto")
    # One hidden layer of the batch takes 65 kB, and there are 2 * 9,610 directions.
    assert auto.memory_analysis().temp_size_in_bytes <= 8e6
    found, truth = auto(params), jax.grad(loss)(params)
    dense = gradient("dense")(params)
    assert helpers.relative_error(found, truth) <= 2 * helpers.relative_error(dense, truth)


def strategies_of(fun, x):
    """Returns for every leaf whether "auto" is incremental."""
    return ["Trace" in repr(plan.at) for plan in plans.of_leaves(fun, x, "auto", 2, None)]


def test_auto_is_dense_where_nothing_is_gained():
    square = jnp.asarray(normal(6, 6))
    assert strategies_of(lambda x: jnp.sum(jnp.linalg.solve(square, x)), jnp.ones(6)) == [False]
    sines = lambda x: jnp.sum(lax.fori_loop(0, 9, lambda _, c: jnp.sin(c), x))
    assert strategies_of(sines, jnp.ones(6)) == [False]


def test_auto_is_incremental_for_the_weights_of_a_network():
    params = learn.init(jax.random.key(0), (20, 30, 10), bias=False)
    x = jnp.asarray(normal(16, 20))
    assert strategies_of(lambda p: jnp.sum(learn.apply(p, x) ** 2), params) == [True, True]


def test_auto_is_dense_where_a_function_has_effects():
    def fun(x):
        jax.debug.callback(lambda _: None, x[0])
        return jnp.sum(x**2)

    assert strategies_of(fun, jnp.ones(50)) == [False]


def test_evaluation_that_does_not_exist_is_refused():
    for method in (dc.ForwardDifference, dc.BackwardDifference, dc.CentralDifference):
        with pytest.raises(ValueError, match="evaluation must be one of 'auto', 'dense'"):
            method(evaluation="sparse")
