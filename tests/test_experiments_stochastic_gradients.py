"""Gradients of batches: what the saved numbers say, beside the formula counted out."""

import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _codec, _execution, stochastic_gradients

FILE = Path(__file__).parents[1] / "figures" / "stochastic_gradients.json"


@pytest.fixture(scope="module")
def saved():
    return _execution.read(FILE, stochastic_gradients)


def test_the_saved_numbers_are_those_of_the_default_config():
    config = _codec.decode(json.loads(FILE.read_bytes())["config"], {})
    assert stochastic_gradients.Config(**config) == stochastic_gradients.Config()


def test_sgd_is_the_formula_of_gradient_descent_bit_for_bit(saved):
    """Lecture row 23."""
    assert saved.descent.steps == 100
    assert saved.descent.eager == 0
    # A compiler may fuse a product and a sum into one rounding on one of the two sides.
    assert saved.descent.compiled <= 1e-14


def test_the_mean_of_the_batch_gradients_of_an_epoch_is_the_full_gradient(saved):
    """Lecture row 36."""
    for spread in saved.spreads:
        # Sums of 1,024 gradients that are up to some 50 times as long as their mean.
        assert (spread.mean_error < 1e-14).all()
        assert spread.batches.tolist() == [1, 4, 16, 64, 256, 1024]


def test_the_spread_of_batch_gradients_falls_as_the_root_of_the_batch_size(saved):
    """Lecture row 36."""
    for spread in saved.spreads:
        assert len(spread.slope) == 5
        assert spread.slope.mean() == pytest.approx(-0.5, abs=0.02)
        assert (spread.spread[-1] < 1e-14).all()  # the batch of all examples
        # One epoch of batches of 256 are 4 dependent draws, 8 epochs about 24 free ones, so the
        # spread of a seed is known to a tenth or so; and each example alone is counted exactly.
        np.testing.assert_allclose(spread.spread[:-1], spread.expected[:-1], rtol=0.3)
        np.testing.assert_allclose(spread.spread[0], spread.expected[0], rtol=1e-12)
        middle = spread.spread[1:-1].mean(axis=1) / spread.expected[1:-1].mean(axis=1)
        np.testing.assert_allclose(middle, 1, atol=0.06)


def test_the_factor_of_the_finite_population_is_that_of_all_batches_counted_out():
    """Lecture row 36: every batch of B of 7 vectors, drawn without replacement."""
    vectors = np.random.default_rng(0).normal(size=(7, 3))
    full = vectors.mean(axis=0)
    single = np.mean(np.sum((vectors - full) ** 2, axis=1))
    for batch in (1, 2, 3, 5, 7):
        means = [vectors[list(c)].mean(axis=0) for c in itertools.combinations(range(7), batch)]
        counted = np.mean(np.sum((np.array(means) - full) ** 2, axis=1))
        assert counted == pytest.approx(single / batch * (7 - batch) / (7 - 1), abs=1e-14)
        np.testing.assert_allclose(np.mean(means, axis=0), full, atol=1e-14)


def test_the_gradient_of_a_batch_is_the_mean_of_those_derived_by_hand():
    """Lecture rows 25 and 36: of softmax cross-entropy, (p - y) x^T for a linear model."""
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(3, 4)), rng.normal(size=3)
    x, y = rng.normal(size=(stochastic_gradients.EXAMPLES, 4)), rng.integers(0, 3, 1024)
    params = (jax.tree.map(jnp.asarray, stochastic_gradients.learn.Layer(weight, bias)),)
    found = stochastic_gradients._gradient(params, jnp.asarray(x), jnp.asarray(y))[0]
    scores = x @ weight.T + bias
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    apart = p - np.eye(3)[y]
    # Roundings of sums of 1,024 terms.
    np.testing.assert_allclose(found.weight, apart.T @ x / len(x), atol=1e-14)
    np.testing.assert_allclose(found.bias, apart.mean(axis=0), atol=1e-14)


def test_an_order_visits_every_example_once_an_epoch():
    orders = np.asarray(stochastic_gradients._orders(3, 2))
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(stochastic_gradients.EXAMPLES))
    assert (orders[0] != orders[1]).any()


def test_larger_batches_fall_further_in_as_many_steps_and_smaller_ones_with_as_many_examples(
    saved,
):
    """Lecture row 36: the loss falls."""
    last = {each.batch: each.loss[:, -1].mean() for each in saved.training}
    for each in saved.training:
        assert (each.loss[:, -1] < each.loss[:, 0]).all()
    assert last[1] > last[8] > last[64] > last[1024] - 0.01
    eight = next(each for each in saved.training if each.batch == 8)
    all_examples = next(each for each in saved.training if each.batch == 1024)
    # 500 steps of batches of 8 visit no more examples than 4 of all.
    assert eight.steps[-1] * 8 < all_examples.steps[0] * 1024
    assert eight.loss[:, -1].mean() < all_examples.loss[:, 0].mean()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batches": (1, 4)}, r"three or more.*\(1, 4\)"),
        ({"batches": (1, 4, 100)}, r"must divide 1024.*\(1, 4, 100\)"),
        ({"trained": (0,)}, r"must divide 1024.*\(0,\)"),
        ({"trained": (-4,)}, r"must be positive.*\(-4,\)"),
        ({"steps": 30}, "multiple of 25.*30"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        stochastic_gradients.Config(**options)
