"""Slices of the loss around trained networks, and the largest eigenvalue of its Hessian."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from diffcompare import learn
from diffcompare.plot import style
from experiments import _codec, loss_landscape


@pytest.fixture(scope="module")
def result():
    with jax.enable_x64(False):  # as the runner does
        return loss_landscape.run(loss_landscape.Config(seeds=1, directions=3, points=11))


@pytest.fixture
def small():
    """A network of 27 weights, and 20 examples."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = learn.init(keys[0], (4, 3, 3))
    x = jax.random.normal(keys[1], (20, 4))
    return params, x, jax.random.randint(keys[2], (20,), 0, 3, jnp.int32)


def test_the_rows_of_a_direction_have_the_norms_of_the_rows_of_the_weights(small, result):
    """Lecture row 24."""
    params, *_ = small
    direction = loss_landscape.filter_normalised(jax.random.key(1), params)
    for layer, along in zip(params, direction, strict=True):
        expected = np.sqrt((np.asarray(layer.weight) ** 2).sum(axis=1))
        assert np.sqrt((np.asarray(along.weight) ** 2).sum(axis=1)) == pytest.approx(expected)
        assert not np.asarray(along.bias).any()
        assert not np.allclose(along.weight, layer.weight)
    # Of the trained networks, in float32: the rounding of a norm of 100 numbers.
    assert result.rescaled.largest_mismatch < 1e-6


def test_the_largest_eigenvalue_is_that_of_the_whole_hessian(small):
    params, x, y = small
    flat, unravel = ravel_pytree(params)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels
    loss = lambda w: losses(learn.apply(unravel(w), x), y).mean()
    hessian = jax.jit(jax.hessian(loss))(flat)
    expected = max(np.linalg.eigvalsh(hessian), key=abs)
    found = jax.jit(loss_landscape.largest_eigenvalue)(params, x, y, jax.random.key(2))
    # Power iteration stops when a step changes it by less than 1e-4 of itself.
    assert float(found) == pytest.approx(expected, rel=1e-2)


def test_the_same_function_by_other_weights_has_the_same_scores(small):
    params, x, _ = small
    other = loss_landscape.same_function(params, 3.0)
    assert float(jnp.abs(other[0].weight - 3 * params[0].weight).max()) == 0
    found, expected = (np.asarray(learn.apply(network, x)) for network in (other, params))
    assert found == pytest.approx(expected, rel=1e-12)  # float64


def test_slices_of_the_same_function_are_the_same_only_when_normalised(result):
    """Lecture row 24."""
    one, other = result.rescaled.normalised
    # Losses up to 10 in float32, from weights that were scaled by 3 and back.
    assert other == pytest.approx(one, rel=1e-4, abs=1e-6)
    one, other = result.rescaled.plain
    assert other[0] > 2 * one[0]


def test_small_batches_end_flatter_at_the_same_training_loss(result):
    """Lecture row 24."""
    small, large, *_ = result.trained
    assert small.train_loss.mean() == pytest.approx(large.train_loss.mean(), rel=0.25)
    assert (small.curvature < large.curvature).all()
    rises = [loss_landscape.rises(trained)[:, -1] for trained in (small, large)]
    assert (rises[0] < rises[1]).all()
    assert small.test_loss.mean() < large.test_loss.mean()


def test_curvature_more_than_doubles_for_the_same_function(result):
    for trained in result.trained:
        assert trained.curvature_of_same.mean() > 2 * trained.curvature.mean()


def test_a_slice_has_the_loss_of_the_network_in_its_middle(result):
    for trained in result.trained:
        middle = trained.slices[:, :, 5]
        # float32, and the sums of a compiled loop in another order.
        assert middle == pytest.approx(np.repeat(trained.train_loss[:, None], 3, 1), rel=1e-4)
    for plane, trained in zip(result.planes, result.trained, strict=False):
        assert plane.loss[5, 5] == pytest.approx(trained.train_loss[0], rel=1e-4)


def test_the_path_ends_at_the_network_and_lies_almost_wholly_in_its_plane(result):
    """Lecture row 24."""
    path = result.path
    assert path.steps.shape == (61, 2)
    assert path.steps[-1] == pytest.approx([0, 0], abs=1e-12)
    assert (path.steps[0] > 0).all()
    assert path.shares[0] >= path.shares[1]
    assert 0.9 < path.shares.sum() < 1
    assert path.random_share < 0.01  # 2 of 7,510 directions


def test_the_figure_drawn_from_the_file_says_how_much_of_the_path_it_shows(result):
    encoded = json.loads(json.dumps(_codec.encode(result)))
    read = _codec.decode(encoded, _codec.record_types(vars(loss_landscape).values()))
    with style.context():
        drawing = loss_landscape.plot(read)
    labels = [place.get_xlabel() for place in drawing.axes]
    assert f"principal component 1: {result.path.shares[0]:.1%} of variance" in labels


def test_the_summary_has_a_row_for_every_way_to_train(result):
    rows = loss_landscape.summary(result)
    assert [row["trained with"] for row in rows] == [v.name for v in loss_landscape.VARIANTS]
    assert {row["norm of rows differs by"] for row in rows} == {result.rescaled.largest_mismatch}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seeds": 0}, r"must be positive.*they are \(0, 10, 300, 1\) and 5"),
        ({"first_seed": -1}, r"not negative.*they are \(5, 10, 300, 1\) and -1"),
        ({"points": 10}, "points must be odd.*it is 10"),
        ({"points": 1}, "at least 3.*it is 1"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        loss_landscape.Config(**options)
