"""More parameters than points: what the saved numbers say, and whether they can be so."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import _codec, _execution, overfitting

FILE = Path(__file__).parents[1] / "figures" / "overfitting.json"


@pytest.fixture(scope="module")
def saved():
    return _execution.read(FILE, overfitting)


@pytest.fixture(scope="module")
def models(saved):
    return {model.name: model for model in saved.models}


def test_the_saved_numbers_are_those_of_the_default_config():
    config = _codec.decode(json.loads(FILE.read_bytes())["config"], {})
    assert overfitting.Config(**config) == overfitting.Config()


def test_the_largest_network_fits_the_points_and_loses_on_unseen_ones(saved, models):
    """Lecture row 17: .38 for the linear model, 2.5 to 4.2 for 256-256."""
    linear, largest = models["linear"].test_loss[:, -1], models["256-256"].test_loss[:, -1]
    assert len(linear) == len(largest) == 5
    assert linear.mean() == pytest.approx(0.38, abs=0.02)
    assert 2.5 <= largest.mean() <= 4.2
    assert (largest > 5 * linear).all()  # on every seed
    assert models["256-256"].train_loss[:, -1].max() < 1e-3
    assert (models["256-256"].train_accuracy == 1).all()
    assert saved.best == "linear"


def test_the_largest_network_has_no_more_right_than_the_linear_model(models):
    linear, largest = models["linear"].accuracy, models["256-256"].accuracy
    assert largest.mean() <= linear.mean() + 0.01


def test_the_loss_on_unseen_points_grows_while_that_of_training_falls(models):
    largest = models["256-256"]
    assert (np.diff(largest.train_loss.mean(axis=0)) < 0).all()
    assert (largest.test_loss[:, -1] > 2 * largest.test_loss[:, 0]).all()


def test_the_linear_model_is_at_the_minimum_of_its_convex_loss(saved, models):
    # Newton's method on logistic regression, in NumPy: the scores differ by u x + c.
    x = np.column_stack([saved.points.astype(float), np.ones(len(saved.points))])
    y, u = saved.labels, np.zeros(3)
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ u))
        u -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x, x.T @ (p - y))
    p = 1 / (1 + np.exp(-x @ u))
    minimum = -np.mean(np.log(np.where(y == 1, p, 1 - p)))
    # A thousand steps of Adam come within a thousandth of it.
    assert models["linear"].train_loss[0, -1] == pytest.approx(minimum, rel=1e-3)


def test_parameters_are_counted_with_their_biases(models):
    assert models["linear"].parameters == 2 * 2 + 2
    assert models["256-256"].parameters == (2 + 1) * 256 + (256 + 1) * 256 + (256 + 1) * 2


def test_the_same_seed_gives_the_same_numbers_alone_or_beside_others():
    def losses(seeds):
        config = overfitting.Config(widths=(3,), seeds=seeds, steps=20)
        return [model.test_loss[0] for model in overfitting.run(config).models]

    one, again, two = losses(1), losses(1), losses(2)
    np.testing.assert_array_equal(one, again)
    # The size of the compiled batch changes how float32 sums are rounded.
    np.testing.assert_allclose(one, two, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"widths": ()}, "must be positive.*they are \\(\\), 60"),
        ({"seeds": 0}, "must be positive.*60, 0 and 1000"),
        ({"steps": 30}, "multiple of 20.*they are 30"),
        ({"noise": -1.0}, "not negative.*-1.0"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        overfitting.Config(**options)
