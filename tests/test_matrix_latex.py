"""What the matrix route writes: golden formulas, steps and names."""

import functools

import jax
import jax.numpy as jnp
import optax
import pytest

from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.matrix import derive
from diffcompare.symbolic.trace import trace


def derived(fun, names, *args, wanted=None, convention=None):
    traced = trace(lambda args: fun(*args), args)
    return derive(traced, names.split(), convention or Convention.jax(), wanted)


def lines(found):
    return [step.text for step in found.steps()]


ones = jnp.ones
W1, W2, W3, b1, b2 = ones((5, 4)), ones((3, 5)), ones((2, 3)), ones(5), ones(3)
x, y, X, Y = ones(4), ones(3), ones((7, 4)), ones((7, 3))
one_hot = jax.nn.one_hot(jnp.arange(7) % 3, 3)


def half_squared(error):
    return 0.5 * jnp.sum(jnp.square(error))


def test_linear_model():
    found = derived(
        lambda W, x, y: half_squared(y - W @ x), "W x y", ones((3, 4)), x, y, wanted=[0]
    )
    assert found.text(0) == "dL/dW = (W x - y) x^T"
    assert found.latex(0) == (
        r"\frac{\partial \mathcal{L}}{\partial \mathbf{W}} = "
        r"(\mathbf{W} \mathbf{x} - \mathbf{y}) \mathbf{x}^\top"
    )
    assert lines(found) == [
        "z1 = W x",
        "L = 1/2 ||y - z1||^2",
        "delta1 = z1 - y",
        "dL/dW = delta1 x^T",
    ]


def two_layers(activation):
    return lambda W1, W2, x, y: half_squared(y - W2 @ activation(W1 @ x))


def test_two_layers_as_in_the_lecture():
    """Lecture row 25."""
    found = derived(two_layers(jax.nn.sigmoid), "W1 W2 x y", W1, W2, x, y, wanted=[0, 1])
    assert found.text(0) == "dL/dW1 = (W2^T (W2 sigma(W1 x) - y) o sigma'(W1 x)) x^T"
    assert found.text(1) == "dL/dW2 = (W2 sigma(W1 x) - y) sigma(W1 x)^T"
    assert found.latex(0) == (
        r"\frac{\partial \mathcal{L}}{\partial \mathbf{W}_{1}} = (\mathbf{W}_{2}^\top "
        r"(\mathbf{W}_{2} \sigma(\mathbf{W}_{1} \mathbf{x}) - \mathbf{y}) \odot "
        r"\sigma'(\mathbf{W}_{1} \mathbf{x})) \mathbf{x}^\top"
    )
    assert lines(found) == [
        "z1 = W1 x",
        "a1 = sigma(z1)",
        "z2 = W2 a1",
        "L = 1/2 ||y - z2||^2",
        "delta2 = z2 - y",
        "delta1 = W2^T delta2 o sigma'(z1)",
        "dL/dW1 = delta1 x^T",
        "dL/dW2 = delta2 a1^T",
    ]
    assert [step.phase for step in found.steps()] == ["forward"] * 4 + ["backward"] * 2 + [
        "gradient"
    ] * 2
    assert found.steps()[5].latex == (
        r"\boldsymbol{\delta}_{1} = \mathbf{W}_{2}^\top \boldsymbol{\delta}_{2} \odot "
        r"\sigma'(\mathbf{z}_{1})"
    )


def test_the_local_derivatives_of_the_lecture():
    """Lecture rows 29 and 30: the chain of y_hat - y, w2, relu'(f) and x."""
    fun = lambda w1, w2, x, y: 0.5 * (y - w2 * jax.nn.relu(w1 * x)) ** 2
    found = derived(
        fun, "w1 w2 x y", *(jnp.ones(()) for _ in range(4)), wanted=[0, 1],
        convention=Convention.lecture(),
    )  # fmt: skip
    assert found.text(0) == "dL/dw1 = (w2 relu(w1 x) - y) w2 relu'(w1 x) x"
    assert found.text(1) == "dL/dw2 = (w2 relu(w1 x) - y) relu(w1 x)"
    assert [step.text for step in found.definitions()] == [
        "relu'(z) = 1 where z > 0, 1 at 0, 0 elsewhere"
    ]


def test_three_layers():
    def fun(W1, W2, W3, x, y):
        return half_squared(y - W3 @ jnp.tanh(W2 @ jnp.tanh(W1 @ x)))

    found = derived(fun, "W1 W2 W3 x y", W1, W2, W3, x, ones(2), wanted=[0, 1, 2])
    assert found.text(0) == (
        "dL/dW1 = (W2^T (W3^T (W3 tanh(W2 tanh(W1 x)) - y) o tanh'(W2 tanh(W1 x))) "
        "o tanh'(W1 x)) x^T"
    )
    assert lines(found)[5:] == [
        "L = 1/2 ||y - z3||^2",
        "delta3 = z3 - y",
        "delta2 = W3^T delta3 o tanh'(z2)",
        "delta1 = W2^T delta2 o tanh'(z1)",
        "dL/dW1 = delta1 x^T",
        "dL/dW2 = delta2 a1^T",
        "dL/dW3 = delta3 a2^T",
    ]


def biased(W1, b1, W2, b2, x, y):
    return half_squared(y - (W2 @ jax.nn.relu(W1 @ x + b1) + b2))


BATCH = [
    "Z1 = X W1^T + 1 b1^T",
    "A1 = relu(Z1)",
    "Z2 = A1 W2^T + 1 b2^T",
    "L = 1/14 ||Y - Z2||^2",
    "Delta2 = 1/7 (Z2 - Y)",
    "Delta1 = Delta2 W2 o relu'(Z1)",
    "dL/dW1 = Delta1^T X",
    "dL/db1 = Delta1^T 1",
    "dL/dW2 = Delta2^T A1",
    "dL/db2 = Delta2^T 1",
]


def test_biases():
    found = derived(biased, "W1 b1 W2 b2 x y", W1, b1, W2, b2, x, y, wanted=[0, 1, 2, 3])
    assert lines(found) == [
        "z1 = W1 x + b1",
        "a1 = relu(z1)",
        "z2 = W2 a1 + b2",
        "L = 1/2 ||y - z2||^2",
        "delta2 = z2 - y",
        "delta1 = W2^T delta2 o relu'(z1)",
        "dL/dW1 = delta1 x^T",
        "dL/db1 = delta1",
        "dL/dW2 = delta2 a1^T",
        "dL/db2 = delta2",
    ]
    assert found.text(1) == "dL/db1 = W2^T (W2 relu(W1 x + b1) + b2 - y) o relu'(W1 x + b1)"


def test_a_batch_by_vmap_is_a_batch_of_matrices():
    def by_vmap(W1, b1, W2, b2, X, Y):
        one = functools.partial(biased, W1, b1, W2, b2)
        return jnp.mean(jax.vmap(one)(X, Y))

    def by_hand(W1, b1, W2, b2, X, Y):
        Z2 = jax.nn.relu(X @ W1.T + b1[None]) @ W2.T + b2[None]
        return 0.5 * jnp.mean(jnp.sum((Y - Z2) ** 2, axis=1))

    for fun in (by_vmap, by_hand):
        found = derived(fun, "W1 b1 W2 b2 X Y", W1, b1, W2, b2, X, Y, wanted=[0, 1, 2, 3])
        assert lines(found) == BATCH
    assert found.latex(3) == (
        r"\frac{\partial \mathcal{L}}{\partial \mathbf{b}_{2}} = \frac{1}{7} (\mathrm{relu}"
        r"(\mathbf{X} \mathbf{W}_{1}^\top + \mathbf{1} \mathbf{b}_{1}^\top) \mathbf{W}_{2}^\top"
        r" + \mathbf{1} \mathbf{b}_{2}^\top - \mathbf{Y})^\top \mathbf{1}"
    )


def test_weights_on_the_right():
    found = derived(
        lambda W, x, y: half_squared(x @ W - y), "W x y", ones((4, 3)), x, y, wanted=[0]
    )
    assert found.text(0) == "dL/dW = x (W^T x - y)^T"


CROSS_ENTROPIES = {
    "optax": lambda Z, Y: optax.softmax_cross_entropy(Z, Y),
    "log_softmax": lambda Z, Y: -jnp.sum(Y * jax.nn.log_softmax(Z), axis=-1),
    "log of softmax": lambda Z, Y: -jnp.sum(Y * jnp.log(jax.nn.softmax(Z)), axis=-1),
    "by hand": lambda Z, Y: (
        -jnp.sum(Y * jnp.log(jnp.exp(Z) / jnp.sum(jnp.exp(Z), -1, keepdims=True)), axis=-1)
    ),
    "logsumexp": lambda Z, Y: jax.nn.logsumexp(Z, axis=-1) - jnp.sum(Y * Z, axis=-1),
}


@pytest.mark.parametrize("name", CROSS_ENTROPIES)
def test_softmax_cross_entropy_is_softmax_less_target(name):
    loss = CROSS_ENTROPIES[name]
    found = derived(
        lambda W, x, y: loss(W @ x, y), "W x y", ones((3, 4)), x, one_hot[0], wanted=[0]
    )
    assert found.text(0) == "dL/dW = (softmax(W x) - y) x^T"
    assert "delta1 = softmax(z1) - y" in lines(found)
    batch = derived(
        lambda W, X, Y: jnp.mean(loss(X @ W.T, Y)), "W X Y", ones((3, 4)), X, one_hot, wanted=[0]
    )
    assert batch.text(0) == "dL/dW = 1/7 (softmax(X W^T) - Y)^T X"
    assert batch.latex(0).endswith(
        r"\frac{1}{7} (\mathrm{softmax}(\mathbf{X} \mathbf{W}^\top) - \mathbf{Y})^\top \mathbf{X}"
    )
    if name != "logsumexp":  # which weighs the exponentials by 1, whatever the targets
        assert [step.text for step in found.assumptions] == ["1^T y = 1"]
        assert lines(batch)[0] == "Y 1 = 1"  # the reader is told first
        assumed = [step.latex for step in batch.assumptions]
        assert assumed == [r"\mathbf{Y} \mathbf{1} = \mathbf{1}"]


def test_targets_that_do_not_sum_to_1_are_weighed():
    loss = CROSS_ENTROPIES["optax"]
    found = derived(lambda z, y: loss(z, y), "z y", y, 2 * one_hot[0], wanted=[0])
    assert found.text(0) == "dL/dz = (1^T y) softmax(z) - y"
    assert found.assumptions == ()


def test_labels_as_one_hot_targets():
    def fun(W, X, labels):
        return jnp.mean(optax.softmax_cross_entropy(X @ W.T, jax.nn.one_hot(labels, 3)))

    found = derived(fun, "W X labels", ones((3, 4)), X, jnp.arange(7) % 3, wanted=[0])
    assert found.text(0) == "dL/dW = 1/7 (softmax(X W^T) - onehot(labels))^T X"


def test_ridge():
    def fun(W, X, Y):
        return half_squared(X @ W.T - Y) + 0.1 * jnp.sum(W**2)

    found = derived(fun, "W X Y", ones((3, 4)), X, Y, wanted=[0])
    assert found.text(0) == "dL/dW = (X W^T - Y)^T X + 0.2 W"
    assert lines(found)[1] == "L = 1/2 ||Z1 - Y||^2 + 0.1 ||W||^2"


ACTIVATIONS = {
    "tanh": (jnp.tanh, r"\tanh", ["tanh'(z) = 1 - tanh(z)^2"]),
    "sigma": (jax.nn.sigmoid, r"\sigma", ["sigma'(z) = sigma(z) (1 - sigma(z))"]),
    "relu": (jax.nn.relu, r"\mathrm{relu}", ["relu'(z) = 1 where z > 0, 0 at 0, 0 elsewhere"]),
    "silu": (jax.nn.silu, r"\mathrm{silu}", ["silu(z) = z sigma(z)",
                                             "silu'(z) = z sigma'(z) + sigma(z)"]),
    "elu": (jax.nn.elu, r"\mathrm{elu}", None),
    "gelu": (jax.nn.gelu, r"\mathrm{gelu}", None),
    "leaky_relu": (jax.nn.leaky_relu, r"\mathrm{leaky\_relu}", None),
    "mish": (jax.nn.mish, r"\mathrm{mish}", None),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_names_and_definitions(name):
    activation, latex, definitions = ACTIVATIONS[name]
    found = derived(two_layers(activation), "W1 W2 x y", W1, W2, x, y, wanted=[0])
    assert found.text(0) == f"dL/dW1 = (W2^T (W2 {name}(W1 x) - y) o {name}'(W1 x)) x^T"
    assert rf"{latex}'(\mathbf{{W}}_{{1}} \mathbf{{x}})" in found.latex(0)
    if definitions is not None:
        assert [step.text for step in found.definitions()] == definitions
    assert found.definitions()[-1].text.startswith(f"{name}'(z) = ")


@pytest.mark.parametrize(
    "activation", [jax.nn.relu, lambda z: jnp.maximum(z, 0), lambda z: jnp.maximum(0, z)]
)
def test_every_spelling_of_relu_is_relu(activation):
    found = derived(two_layers(activation), "W1 W2 x y", W1, W2, x, y, wanted=[1])
    assert found.text(0) == "dL/dW2 = (W2 relu(W1 x) - y) relu(W1 x)^T"


def test_softplus_has_the_sigmoid_for_derivative():
    for softplus in (
        jax.nn.softplus,
        lambda z: jnp.log(1 + jnp.exp(z)),
        lambda z: jnp.logaddexp(z, 0),
    ):
        found = derived(lambda z, f=softplus: jnp.sum(f(z)), "z", y)
        assert found.text(0) == "dL/dz = sigma(z)"


def test_a_function_of_the_user_keeps_its_name():
    @jax.jit
    def bend(z):
        return z / (1 + z**2)

    found = derived(two_layers(bend), "W1 W2 x y", W1, W2, x, y, wanted=[1])
    assert found.text(0) == "dL/dW2 = (W2 bend(W1 x) - y) bend(W1 x)^T"
    assert found.definitions()[0].text == "bend(z) = z / (1 + z^2)"


def test_the_exact_gelu_is_told_from_the_approximate_one():
    def fun(z):
        return jnp.sum(jax.nn.gelu(z) * jax.nn.gelu(z, approximate=False))

    assert "gelu_2'(z)" in derived(fun, "z", y).text(0)


def test_norms_and_residuals():
    found = derived(lambda W, x: jnp.linalg.norm(W @ x), "W x", ones((3, 4)), x, wanted=[0])
    assert found.text(0) == "dL/dW = (1 / sqrt(||W x||^2)) W x x^T"
    skip = derived(
        lambda W1, W2, x: half_squared(x + W2 @ jnp.tanh(W1 @ x)), "W1 W2 x", W1, ones((4, 5)), x,
        wanted=[0],
    )  # fmt: skip
    assert skip.text(0) == "dL/dW1 = (W2^T (x + W2 tanh(W1 x)) o tanh'(W1 x)) x^T"


def test_attention():
    def fun(Q, K, V):
        return half_squared(jax.nn.softmax(Q @ K.T / 2) @ V)

    found = derived(fun, "Q K V", X, X, X, wanted=[2])
    assert found.text(0) == "dL/dV = softmax(1/2 Q K^T)^T softmax(1/2 Q K^T) V"


NAMES = ["lambda", "E", "I", "x y", "v_1", "z_1", "a1", "delta_2", "L", "o", "_", "100%", "a_b_c"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_collides_with_a_generated_one(name):
    found = derived(two_layers(jnp.tanh), "W1 W2 x y".replace("x", "X"), W1, W2, x, y, wanted=[0])
    usual = {step.name for step in found.steps()}
    traced = trace(lambda args: two_layers(jnp.tanh)(*args), (W1, W2, x, y))
    renamed = derive(traced, ["W1", "W2", name, "y"], Convention.jax(), [0, 2])
    assert name not in {step.name for step in renamed.steps()}
    assert name in renamed.text(0)
    lefts = [step.latex.partition(" = ")[0] for step in renamed.steps()]
    assert len(set(lefts)) == len(lefts) == len(usual) + 1
    value, gradients = renamed.run([], [W1, W2, x, y])
    assert gradients[0].shape == W1.shape
    assert value.shape == ()


def test_names_that_look_alike_in_latex_stay_apart():
    traced = trace(lambda args: args[0] @ args[1] + args[1] @ args[1], (x, x))
    found = derive(traced, ["W1", "W_1"], Convention.jax())
    assert found.latex(0).endswith(r"\mathbf{W\_1}")
    assert found.latex(1).endswith(r"\mathbf{W}_{1} + 2 \mathbf{W\_1}")


def test_greek_names_are_greek_letters():
    found = derived(lambda lam, W: lam * jnp.sum(W**2), "lambda W", jnp.ones(()), W1)
    assert found.latex(0).endswith(r"\|\mathbf{W}\|_F^2")
    assert found.latex(1).endswith(r"= 2 \lambda \mathbf{W}")
    assert r"\partial \lambda" in found.latex(0)


def test_a_product_with_numbers_and_what_is_constant():
    found = derived(lambda x: jnp.mean(x) + 3 * jnp.sum(x), "x", x)
    assert found.text(0) == "dL/dx = 13/4 1"
    assert derived(lambda x, y: jnp.sum(y), "x y", x, y).text(0) == "dL/dx = 0"


def test_steps_are_linear_in_depth_and_of_one_size_at_any_width():
    def deep(args):
        *weights, x, y = args
        for weight in weights[:-1]:
            x = jax.nn.relu(weight @ x)
        return half_squared(weights[-1] @ x - y)

    def found(depth, width):
        args = [*[ones((width, width))] * depth, ones(width), ones(width)]
        names = [*(f"W{k + 1}" for k in range(depth)), "x", "y"]
        return derive(trace(deep, args), names, Convention.jax(), range(depth))

    assert found(3, 4).operations == found(3, 512).operations  # 786,432 weights
    assert lines(found(3, 4)) == lines(found(3, 512))
    deepest = found(64, 2)
    assert len("\n".join(step.latex for step in deepest.steps())) < 20_000
    assert len("\n".join(lines(deepest))) < 6_000
    assert len(found(32, 2).steps()) == len(deepest.steps()) / 2
