"""What the matrix route computes, compared with `jax.grad` and derivatives by hand."""

import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import diffcompare as dc
from diffcompare._jaxpr import walk
from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.matrix import derive
from diffcompare.symbolic.trace import trace

# Both sides sum a few hundred products in another order.
TOLERANCE = 1e-12

rng = np.random.default_rng(0)


def random(*shape, dtype="float64"):
    return jnp.asarray(rng.normal(size=shape), dtype)


def derived(fun, *args, wanted=None, convention=None):
    traced = trace(lambda args: fun(*args), args)
    names = [f"v{number}" for number in range(len(traced.leaves))]
    return traced, derive(traced, names, convention or Convention.jax(), wanted)


def assert_equal(found, exact):
    assert found.shape == exact.shape
    assert found.dtype == exact.dtype
    scale = np.max(np.abs(exact), initial=np.finfo(float).tiny)
    np.testing.assert_allclose(found / scale, exact / scale, rtol=0, atol=TOLERANCE)


def check(fun, *args):
    """Compares value and gradients by all arguments with JAX's, all compiled together."""
    traced, found = derived(fun, *args)
    ours = lambda leaves: found.run(traced.constants, leaves)
    theirs = jax.value_and_grad(lambda args: fun(*args))
    compiled = jax.jit(lambda args: (ours(jax.tree.leaves(args)), theirs(args)))
    (value, gradients), (exact, leaves) = compiled(args)
    np.testing.assert_allclose(value, exact, rtol=TOLERANCE, atol=TOLERANCE)
    for gradient, leaf in zip(gradients, jax.tree.leaves(leaves), strict=True):
        assert_equal(gradient, leaf)
    return found


# --- networks of all kinds

ACTIVATIONS = {
    "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus, "silu": jax.nn.silu,
    "gelu": jax.nn.gelu, "relu": jax.nn.relu, "maximum": lambda z: jnp.maximum(0, z),
}  # fmt: skip
LOSSES = {
    "half squared": lambda z, y: 0.5 * jnp.sum(jnp.square(y - z)),
    "cross-entropy": optax.softmax_cross_entropy,
    "log-softmax": lambda z, y: -y @ jax.nn.log_softmax(z),
}


def network(layers, x, activation, is_right):
    for number, layer in enumerate(layers):
        product = x @ layer["W"] if is_right else layer["W"] @ x
        x = product + layer["b"] if "b" in layer else product
        x = activation(x) if number + 1 < len(layers) else x
    return x


@st.composite
def networks(draw):
    """Draws a loss of a network, and its arguments."""
    sizes = draw(st.lists(st.sampled_from([1, 3]), min_size=2, max_size=4))
    activation = ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]
    loss = LOSSES[draw(st.sampled_from(sorted(LOSSES)))]
    has_bias, is_right, is_ridge = (draw(st.booleans()) for _ in range(3))
    batch = draw(st.sampled_from([0, 1, 4]))
    layers = []
    for inside, outside in itertools.pairwise(sizes):
        shape = (inside, outside) if is_right else (outside, inside)
        bias = {"b": random(outside)} if has_bias else {}
        layers.append({"W": random(*shape), **bias})
    lead = (batch,) if batch else ()

    def one(layers, x, y):
        return loss(network(layers, x, activation, is_right), y)

    def fun(layers, x, y):
        each = jax.vmap(functools.partial(one, layers))(x, y) if batch else one(layers, x, y)
        penalty = sum(jnp.sum(layer["W"] ** 2) for layer in layers)
        return jnp.mean(each) + (0.1 * penalty if is_ridge else 0)

    return fun, layers, random(*lead, sizes[0]), jax.nn.softmax(random(*lead, sizes[-1]))


@hypothesis.settings(max_examples=20)
@hypothesis.given(networks())
def test_networks_have_the_gradients_of_jax(drawn):
    check(*drawn)


# --- operations one by one

FUNCTIONS = {
    "deep linear": (lambda A, B, x: jnp.sum((B @ (A @ x)) ** 2), (3, 4), (2, 3), (4,)),
    "transposed": (lambda A, x: jnp.sum((A.T @ x) ** 3), (3, 4), (3,)),
    "columns": (lambda A, b, X: jnp.sum(jnp.tanh(A @ X + b[:, None])), (3, 4), (3,), (4, 5)),
    "vmap columns": (
        lambda A, X: jnp.sum(jnp.exp(jax.vmap(lambda x: A @ x, 1, 1)(X))), (3, 4), (4, 5),
    ),
    "bilinear": (lambda A, x, y: x @ A @ y, (3, 4), (3,), (4,)),
    "trace": (lambda A, B: jnp.trace(A @ B), (3, 4), (4, 3)),
    "einsum": (lambda A, B: jnp.sum(jnp.einsum("ij,ij->i", A, B) ** 2), (3, 4), (3, 4)),
    "outer": (lambda a, b: jnp.sum(jnp.exp(jnp.outer(a, b))), (3,), (4,)),
    "distances": (lambda a, b: jnp.sum((a[:, None] - b[None]) ** 4), (3,), (4,)),
    "sums": (lambda A: jnp.sum(jnp.sum(A, 0) ** 2) + jnp.sum(A.sum(1, keepdims=True) * A), (3, 4)),
    "norms": (lambda A, x: jnp.linalg.norm(A @ x) + jnp.linalg.norm(A), (3, 4), (4,)),
    "moments": (lambda x: jnp.var(x) + jnp.std(x) + jnp.mean(x), (4,)),
    "layer norm": (lambda X, A: jnp.sum((jax.nn.standardize(X) @ A) ** 2), (5, 4), (4, 2)),
    "rms norm": (lambda x, g: jnp.sum((g * x / jnp.sqrt(jnp.mean(x**2) + 1e-6)) ** 3), (4,), (4,)),
    "attention": (
        lambda Q, K, V: jnp.sum((jax.nn.softmax(Q @ K.T / 2.0) @ V) ** 2), (3, 4), (3, 4), (3, 2),
    ),
    "causal attention": (
        lambda Q, K: jnp.sum(
            (jax.nn.softmax(jnp.where(jnp.tri(3, dtype=bool), Q @ K.T, -jnp.inf)) @ K) ** 2
        ),
        (3, 4), (3, 4),
    ),
    "softmax of columns": (
        lambda A: jnp.sum(jax.nn.softmax(A, 0) ** 2) + jnp.sum(jax.nn.logsumexp(A, 0) ** 2), (3, 4),
    ),
    "logsumexp of a matrix": (lambda A: jax.nn.logsumexp(A), (3, 4)),
    "gated unit": (lambda A, B, x: jnp.sum(jax.nn.silu(A @ x) * (B @ x)), (3, 4), (3, 4), (4,)),
    "recurrent": (
        lambda A, x: jnp.sum(jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(A @ h), x)),
        (4, 4), (4,),
    ),
    "scalars": (lambda a, b: jnp.sin(a * b) / (a + b**2) + 2.0**a, (), ()),
    "division": (lambda a, b: jnp.sum(a / b + 1 / a + a ** -2 + jnp.abs(b) ** 2.5), (4,), (4,)),
    "ties": (
        lambda a, b: jnp.sum(jnp.maximum(a, b) * jnp.minimum(a, 2 * b)) + jnp.max(a), (4,), (4,),
    ),
    "clipped": (lambda a: jnp.sum(jnp.clip(a, -0.5, 0.5) ** 2), (4,)),
    "chosen": (lambda a, b: jnp.sum(jnp.where(a > 0, a * b, b**2)), (4,), (4,)),
    "entrywise": (
        lambda a: jnp.sum(jnp.exp(jnp.sin(a)) + jnp.cos(a) * jnp.sinh(a) + jnp.cosh(a)
                          + jnp.arctan(a) + jnp.expm1(a) + jnp.log1p(a**2) + jnp.log(a**2)
                          + jax.scipy.special.erf(a) * jax.scipy.special.erfc(a)
                          + jnp.abs(a) + jax.lax.rsqrt(a**2 + 1)), (4,),
    ),
    "activations": (
        lambda a: jnp.sum(jax.nn.mish(a) + jax.nn.selu(a) + jax.nn.celu(a) + jax.nn.leaky_relu(a)
                          + jax.nn.soft_sign(a) + jax.nn.hard_tanh(a) + jax.nn.relu6(a)
                          + jax.nn.hard_swish(a) + jax.nn.gelu(a, approximate=False)
                          + jax.nn.log_sigmoid(a) + jax.nn.elu(a)), (4,),
    ),
    "huber": (lambda a, b: jnp.sum(optax.huber_loss(a, b)), (4,), (4,)),
    "logaddexp": (lambda a, b: jnp.sum(jnp.logaddexp(a, b)), (4,), (4,)),
    "cosine": (lambda a, b: optax.cosine_similarity(a, b), (4,), (4,)),
    "reshaped": (lambda A: jnp.sum(jnp.ravel(A)[None] ** 3) + jnp.vdot(A, A), (3, 4)),
    "remat": (lambda A, x: jax.checkpoint(lambda x: jnp.sum(jnp.tanh(A @ x)))(x), (3, 4), (4,)),
    "stopped": (lambda A, x: jnp.sum(jax.lax.stop_gradient(jnp.sum(A @ x)) * x), (3, 4), (4,)),
    "unused": (lambda A, x: jnp.sum(x**2), (3, 4), (4,)),
    "constant": (lambda x: jnp.asarray(3.0), (4,)),
    "itself": (lambda x: x, ()),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_have_the_gradients_of_jax(name):
    fun, *shapes = FUNCTIONS[name]
    check(fun, *(random(*shape) for shape in shapes))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_results_have_the_dtype_of_the_arguments(dtype):
    fun = lambda W, x: 0.1 * jnp.mean(jax.nn.gelu(W @ x) ** 2)
    args = random(3, 4, dtype=dtype), random(4, dtype=dtype)
    traced, found = derived(fun, *args)
    value, gradients = jax.jit(found.run)([], traced.leaves)
    assert {array.dtype for array in (value, *gradients)} == {jnp.dtype(dtype)}
    exact = jax.jit(jax.grad(fun))(*args)
    # A few roundings of the dtype each, in another order.
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(
        np.asarray(gradients[0], float), np.asarray(exact, float), rtol=16 * eps, atol=16 * eps
    )


def test_arrays_that_are_closed_over_are_arguments():
    held = random(3, 4)
    mask = np.arange(12.0).reshape(3, 4)
    large = np.linspace(0, 1, 100)
    fun = lambda W, x: jnp.sum(held * mask * W**2) + jax.jit(lambda x: x @ large)(x)
    found = check(fun, random(3, 4), random(100))
    assert "def value_and_grad(v0, v1, *," in found.source()


def test_an_unused_leaf_has_zeros_of_its_own_shape_and_dtype():
    args = random(3, 4, dtype="float32"), random(4)
    _, found = derived(lambda W, x: jnp.sum(x**2), *args)
    zeros = found.run([], args)[1][0]
    assert zeros.shape == (3, 4)
    assert zeros.dtype == jnp.float32
    assert not zeros.any()


def test_pasted_source_is_the_function():
    fun = lambda W1, W2, x: jnp.sum(jax.nn.elu(W2 @ jax.nn.gelu(W1 @ x)) ** 2)
    args = random(5, 4), random(3, 5), random(4)
    _, found = derived(fun, *args, wanted=[0, 2])
    namespace = {}
    exec(found.source(), namespace)
    value, gradients = namespace["value_and_grad"](*args)
    exact = jax.grad(fun, (0, 2))(*args)
    np.testing.assert_allclose(value, fun(*args), rtol=TOLERANCE)
    for gradient, leaf in zip(gradients, exact, strict=True):
        assert_equal(gradient, leaf)


def test_names_that_look_like_generated_ones_do_not_shadow_in_the_code():
    names = ["W1", "dW1", "L", "J", "loss", "relu", "z1"]
    args = random(3, 4), random(4), *(random() for _ in range(5))
    fun = lambda W, x, *rest: jnp.sum(jax.nn.relu(W @ x)) * sum(rest) + jnp.sum(x**2)
    found = derive(trace(lambda args: fun(*args), args), names, Convention.jax())
    value, gradients = found.run([], args)
    np.testing.assert_allclose(value, fun(*args), rtol=TOLERANCE)
    for gradient, leaf in zip(gradients, jax.grad(fun, range(7))(*args), strict=True):
        assert_equal(gradient, leaf)


def test_the_same_function_is_always_written_the_same():
    fun = lambda W, x, y: jnp.sum((jax.nn.silu(W @ x) - y) ** 2) + jnp.sum(jnp.abs(W))
    args = random(3, 4), random(4), random(3)
    first, second = (derived(fun, *args)[1] for _ in range(2))
    assert first.source() == second.source()
    assert first.steps() == second.steps()
    assert [first.latex(k) for k in range(3)] == [second.latex(k) for k in range(3)]


# --- kinks

KINKS = {
    "relu": (jax.nn.relu, 0.0, 1.0),
    "relu6": (jax.nn.relu6, 0.0, 1.0),
    "maximum": (lambda x: jnp.maximum(x, 0), 0.5, 1.0),
    "abs": (jnp.abs, 1.0, 1.0),
    "leaky_relu": (jax.nn.leaky_relu, 1.0, 1.0),
    "elu": (jax.nn.elu, 1.0, 1.0),
    "clip": (lambda x: jnp.clip(x, 0, 2), 0.5, 1.0),
    "where": (lambda x: jnp.where(x > 0, x, 0), 0.0, 0.0),
    "softplus": (jax.nn.softplus, 0.5, 0.5),
}


@pytest.mark.parametrize("name", KINKS)
def test_the_slope_at_a_kink_is_that_of_the_convention(name):
    """Lecture row 30."""
    fun, of_jax, of_lecture = KINKS[name]
    zero = jnp.zeros(())
    assert jax.grad(fun)(zero) == of_jax
    for convention, slope in ((Convention.jax(), of_jax), (Convention.lecture(), of_lecture)):
        _, found = derived(fun, zero, convention=convention)
        assert found.run([], [zero])[1][0] == slope


def test_the_largest_of_many_entries_share_the_slope():
    x = jnp.asarray([1.0, 3.0, 3.0, 3.0])
    _, found = derived(jnp.max, x)
    np.testing.assert_array_equal(found.run([], [x])[1][0], jax.grad(jnp.max)(x))


# --- by hand


def test_the_closed_forms_of_the_lecture():
    """Lecture rows 25 and 27: the derivatives by W1 and W2, written with NumPy."""
    W1, W2, x, y = random(5, 4), random(3, 5), random(4), random(3)
    fun = lambda W1, W2: 0.5 * jnp.sum((y - W2 @ jax.nn.sigmoid(W1 @ x)) ** 2)
    traced, found = derived(fun, W1, W2)
    _, (by_W1, by_W2) = found.run(traced.constants, [W1, W2])
    g = 1 / (1 + np.exp(-np.asarray(W1 @ x)))
    error = np.asarray(W2 @ g - y)
    assert_equal(by_W2, np.outer(error, g))
    assert_equal(by_W1, np.outer(W2.T @ error * g * (1 - g), x))


def test_the_scalar_example_of_the_lecture():
    """Lecture rows 22, 29 and 30: the factors 5, 1, 2, 8 give 80."""
    fun = lambda w1, w2, x, y: 0.5 * (y - w2 * jax.nn.relu(w1 * x)) ** 2
    args = [jnp.asarray(number) for number in (1.0, 2.0, 5.0, 2.0)]
    _, found = derived(fun, *args, wanted=[0, 1])
    value, gradients = found.run([], args)
    assert (float(value), *map(float, gradients)) == (32.0, 80.0, 40.0)
    names = [step.name for step in found.steps()]
    assert names == ["z1", "a1", "z2", "L", "delta2", "delta1", "dL/dv0", "dL/dv1"]


# --- cost


def flops(fun, *args):
    return jax.jit(fun).lower(*args).compile().cost_analysis()["flops"]


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_compiled_gradient_costs_no_more_than_that_of_jax(loss):
    args = random(16, 28), random(10, 16), random(32, 28), jax.nn.softmax(random(32, 10))

    def fun(W1, W2, X, Y):
        one = lambda x, y: LOSSES[loss](W2 @ jax.nn.relu(W1 @ x), y)
        return jnp.mean(jax.vmap(one)(X, Y))

    _, found = derived(fun, *args, wanted=[0, 1])
    ours = flops(lambda *args: found.run([], args)[1], *args)
    assert ours <= 1.1 * flops(jax.grad(fun, (0, 1)), *args)


def test_half_a_million_weights_are_no_more_work_than_twelve():
    fun = lambda W1, W2, x, y: jnp.sum((y - W2 @ jnp.tanh(W1 @ x)) ** 2)

    def count(width):
        return derived(fun, random(width, width), random(width, width), random(width),
                       random(width))[1].operations  # fmt: skip

    assert count(2) == count(512) < 30


# --- what does not fit

REFUSED = {
    "three axes": (lambda A: jnp.sum((A[:, :, None] - A[:, None]) ** 2), "'sub'.*two axes"),
    "batch of matrices": (
        lambda A: jnp.sum(jnp.einsum("bi,bj->bij", A, A) ** 3), "'dot_general'.*two axes",
    ),
    "sorted": (lambda A: jnp.sum(jnp.sort(A[0])), "route='matrix'.*'slice'.*one_hot"),
    "by index": (lambda A: A[0, 1], "route='matrix'.*'slice'.*one_hot"),
    "labels": (
        lambda A: jnp.sum(optax.softmax_cross_entropy_with_integer_labels(A, jnp.arange(3))),
        "'gather'.*one_hot",
    ),
    "eigenvalues": (lambda A: jnp.sum(jnp.linalg.eigvalsh(A)), "'eigh'"),
    "cumulative": (lambda A: jnp.sum(jnp.cumsum(A, 0) ** 2), "'cumsum'.*test_matrix.py.*program"),
    "integers": (lambda A: jnp.sum(A.astype(jnp.int32).astype(A.dtype)), "'convert_element_type'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name(name):
    fun, message = REFUSED[name]
    with pytest.raises(walk.UnknownPrimitiveError, match=message):
        derived(fun, random(3, 3))


def test_what_no_value_needs_is_not_refused():
    fun = lambda A: jnp.sum(A**2) + 0 * jnp.sum(jax.lax.stop_gradient(A))
    check(fun, random(3, 3))
    with pytest.raises(ValueError, match="scalar output"):
        derived(lambda A: A @ A, random(3, 3))


def test_what_is_held_constant_stays_so_in_second_derivatives():
    fun = lambda x: x * lax.stop_gradient(x) + x**3 * lax.stop_gradient(jnp.sin(x))
    truth = jax.grad(jax.grad(fun))(1.3)
    for route in ("matrix", "program", "expression"):
        method = dc.Symbolic(route=route)
        # Three terms of order 10, each rounded a few times.
        assert float(dc.grad(dc.grad(fun, method=method), method=method)(1.3)) == pytest.approx(
            float(truth), rel=1e-14
        )


@pytest.mark.parametrize("fun", [jax.nn.hard_tanh, jax.nn.relu6, jnp.abs])
def test_a_slope_made_of_numbers_has_the_dtype_of_the_argument(fun):
    derivation = dc.derive(fun, jnp.float32(0.3))
    assert derivation.route == "matrix"
    assert derivation.function(jnp.float32(0.3)).dtype == jnp.float32
    namespace = {}
    exec(derivation.source(), namespace)
    _, (slope,) = namespace["value_and_grad"](jnp.float32(0.3))
    assert jnp.issubdtype(slope.dtype, jnp.floating)
