"""The linear model, the multilayer perceptron and the half squared error."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffcompare import learn

EPS = np.finfo(np.float64).eps


def _by_hand(params, x, activation=lambda z: np.maximum(0, z)):
    """The network in NumPy, for one input, as the lecture writes it."""
    for number, (weight, bias) in enumerate(params):
        x = np.asarray(weight) @ x + (0 if bias is None else np.asarray(bias))
        if number < len(params) - 1:
            x = activation(x)
    return x


def _with_random_biases(params, key):
    keys = jax.random.split(key, len(params))
    return tuple(
        layer._replace(bias=jax.random.normal(key, layer.bias.shape, layer.bias.dtype))
        for layer, key in zip(params, keys, strict=True)
    )


@pytest.mark.parametrize("sizes", [(7, 3), (7, 5, 3), (7, 5, 4, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_apply_is_the_formula_written_by_hand(sizes, bias):
    """Lecture rows 7 and 11."""
    params = learn.init(jax.random.key(0), sizes, bias=bias)
    if bias:
        params = _with_random_biases(params, jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (7,))
    # Sums of at most 7 products, of order 1, in another order, through 3 layers.
    np.testing.assert_allclose(learn.apply(params, x), _by_hand(params, x), rtol=0, atol=50 * EPS)


def test_two_layers_are_w2_max_0_w1_x_exactly_on_small_integers():
    """Lecture row 11."""
    w1 = jnp.array([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])
    w2 = jnp.array([[7.0, 8.0], [-9.0, 10.0]])
    x = jnp.array([3.0, 2.0, 1.0])
    params = (learn.Layer(w1, None), learn.Layer(w2, None))
    # W1 x = (2, -8), so the second hidden unit is off.
    assert learn.apply(params, x).tolist() == [14.0, -18.0]
    assert learn.apply(params, x).tolist() == (w2 @ jnp.maximum(0, w1 @ x)).tolist()


def test_every_row_of_the_linear_model_is_an_inner_product():
    """Lecture row 7: W in R^(10xN), and the class is the entry with the highest score."""
    params = learn.init(jax.random.key(0), (64, 10), bias=False)
    x = jax.random.normal(jax.random.key(1), (64,))
    scores = learn.apply(params, x)
    rows = [float(jnp.vdot(row, x)) for row in params[0].weight]
    # Sums of 64 products of order 1 in another order.
    np.testing.assert_allclose(scores, rows, rtol=0, atol=64 * EPS * 10)
    assert int(learn.predict(params, x)) == int(np.argmax(rows))


def test_weights_have_the_shapes_of_the_lecture():
    """Lecture row 14: x in R^D, W1 in R^(HxD), W2 in R^(CxH), H = 100."""
    first, second = learn.init(jax.random.key(0), (784, 100, 10))
    assert first.weight.shape == (100, 784)
    assert second.weight.shape == (10, 100)
    assert (first.bias.shape, second.bias.shape) == ((100,), (10,))
    assert learn.apply((first, second), jnp.zeros(784)).shape == (10,)


def test_a_trained_or_untrained_model_maps_an_image_to_a_class():
    """Lecture row 5: `classify_digit(image)`, image in, class out."""
    params = learn.init(jax.random.key(0), (64, 20, 10))
    image = jax.random.uniform(jax.random.key(1), (8, 8))
    answer = learn.predict(params, image)
    assert answer.shape == ()
    assert jnp.issubdtype(answer.dtype, jnp.integer)
    assert int(answer) == int(learn.predict(params, image.ravel()))
    assert int(answer) == int(jax.jit(learn.predict)(params, image))
    assert int(answer) == int(np.argmax(_by_hand(params, np.asarray(image).ravel())))


def test_predict_works_on_many_images_under_vmap():
    params = learn.init(jax.random.key(0), (64, 20, 10))
    images = jax.random.uniform(jax.random.key(1), (6, 8, 8))
    together = jax.vmap(learn.predict, (None, 0))(params, images)
    assert together.tolist() == [int(learn.predict(params, image)) for image in images]


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3), (0,)])
def test_apply_keeps_leading_axes(batch):
    params = _with_random_biases(learn.init(jax.random.key(0), (4, 6, 3)), jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (*batch, 4))
    scores = learn.apply(params, x)
    assert scores.shape == (*batch, 3)
    for index in np.ndindex(batch):
        # As above: the order of the sums may differ between batch sizes.
        np.testing.assert_allclose(
            scores[index], learn.apply(params, x[index]), rtol=0, atol=50 * EPS
        )


def test_another_activation_takes_the_place_of_relu():
    params = learn.init(jax.random.key(0), (4, 6, 3))
    x = jax.random.normal(jax.random.key(1), (4,))
    np.testing.assert_allclose(
        learn.apply(params, x, jnp.tanh), _by_hand(params, x, np.tanh), rtol=0, atol=50 * EPS
    )
    assert int(learn.predict(params, x, jnp.tanh)) == int(np.argmax(_by_hand(params, x, np.tanh)))


def test_initial_weights_have_the_spread_of_he_and_biases_are_zero():
    first, second = learn.init(jax.random.key(0), (400, 300, 200), scale=0.5)
    for layer, inputs in ((first, 400), (second, 300)):
        expected = 0.5 * (2 / inputs) ** 0.5
        # The relative spread of a standard deviation from n samples is 1 / sqrt(2 n).
        samples = layer.weight.size
        assert abs(float(jnp.std(layer.weight)) / expected - 1) < 5 / (2 * samples) ** 0.5
        assert abs(float(jnp.mean(layer.weight))) < 5 * expected / samples**0.5
        assert not layer.bias.any()


def test_init_depends_on_the_key_alone():
    one, same, other = (learn.init(jax.random.key(k), (5, 4, 3)) for k in (0, 0, 1))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, same))
    assert not (one[0].weight == other[0].weight).any()


def test_a_network_without_biases_has_none():
    assert [layer.bias for layer in learn.init(jax.random.key(0), (5, 4, 3), bias=False)] == [
        None,
        None,
    ]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_a_network_computes_in_the_dtype_of_its_weights(dtype):
    params = learn.init(jax.random.key(0), (4, 6, 3), dtype=dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert learn.apply(params, np.ones((2, 4), np.float32)).dtype == dtype


def test_accuracy_is_the_fraction_of_right_answers():
    params = learn.init(jax.random.key(0), (4, 6, 3))
    x = jax.random.normal(jax.random.key(1), (64, 4))
    y = jax.random.randint(jax.random.key(2), (64,), 0, 3)
    right = [
        int(learn.predict(params, image)) == label
        for image, label in zip(x, y.tolist(), strict=True)
    ]
    assert float(learn.accuracy(params, x, y)) == np.mean(right)


def test_half_squared_error_is_the_formula():
    """Lecture row 21: L = 1/2 ||y - yhat||^2, a sum."""
    y_hat, y = jax.random.normal(jax.random.key(0), (2, 5, 7))
    by_hand = 0.5 * np.linalg.norm(np.asarray(y) - np.asarray(y_hat), axis=-1) ** 2
    # Sums of 7 squares of order 1; the norm takes a root and squares it again.
    np.testing.assert_allclose(learn.half_squared_error(y_hat, y), by_hand, rtol=20 * EPS)
    per_entry = optax.losses.l2_loss(y_hat, y).sum(axis=-1)
    assert learn.half_squared_error(y_hat, y).tolist() == per_entry.tolist()


def test_derivative_of_half_squared_error_is_the_residual_exactly():
    """Lecture row 21: dL/dyhat = yhat - y."""
    y_hat, y = jax.random.normal(jax.random.key(0), (2, 100))
    slope = jax.grad(learn.half_squared_error)(y_hat, y)
    assert slope.tolist() == (y_hat - y).tolist()


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0), (3, -2, 1)])
def test_init_refuses_sizes_without_layers(sizes):
    with pytest.raises(ValueError, match="at least two positive integers"):
        learn.init(jax.random.key(0), sizes)


@pytest.mark.parametrize("sizes", [(3, 2.5), ("a", 2), 3])
def test_init_refuses_sizes_that_are_not_integers(sizes):
    with pytest.raises(TypeError, match="sizes must be a sequence of integers"):
        learn.init(jax.random.key(0), sizes)


@pytest.mark.parametrize("shape", [(), (5,), (4, 5), (8, 8)])
def test_apply_refuses_inputs_of_another_size(shape):
    params = learn.init(jax.random.key(0), (4, 3))
    with pytest.raises(ValueError, match=r"takes inputs of shape \(\.\.\., 4\)"):
        learn.apply(params, jnp.zeros(shape))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bool_])
def test_apply_refuses_inputs_that_are_not_scaled(dtype):
    params = learn.init(jax.random.key(0), (4, 3))
    with pytest.raises(TypeError, match="needs floating-point inputs"):
        learn.apply(params, jnp.zeros(4, dtype))


def test_apply_refuses_layers_that_do_not_fit():
    first, _ = learn.init(jax.random.key(0), (4, 5, 3))
    with pytest.raises(ValueError, match="Layer 1 gives 5 outputs, but layer 2 takes 4 inputs"):
        learn.apply((first, first), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"bias of layer 1 must have shape \(5,\)"):
        learn.apply((first._replace(bias=jnp.zeros(4)),), jnp.zeros(4))
    with pytest.raises(ValueError, match="weight of layer 1 must have shape"):
        learn.apply((first._replace(weight=jnp.zeros(4)),), jnp.zeros(4))
    with pytest.raises(TypeError, match="params must be a tuple of one or more Layer"):
        learn.apply((), jnp.zeros(4))


@pytest.mark.parametrize("shape", [(), (63,), (8, 9), (1, 8, 8), (2, 64)])
def test_predict_refuses_what_is_not_one_image(shape):
    params = learn.init(jax.random.key(0), (64, 10))
    with pytest.raises(ValueError, match="predict needs one image with 64 pixels"):
        learn.predict(params, jnp.zeros(shape))


def test_accuracy_refuses_one_hot_labels():
    params = learn.init(jax.random.key(0), (4, 3))
    with pytest.raises(ValueError, match="one label for every input"):
        learn.accuracy(params, jnp.zeros((5, 4)), jnp.zeros((5, 3)))


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((2, 3), (3,)), ((), ())])
def test_half_squared_error_refuses_shapes_that_differ(shapes):
    with pytest.raises(ValueError, match="of one shape"):
        learn.half_squared_error(jnp.zeros(shapes[0]), jnp.zeros(shapes[1]))
