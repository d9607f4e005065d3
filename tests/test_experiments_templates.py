"""Pixels, the classes that are confused, and weights as images."""

import json

import jax
import numpy as np
import pytest

from diffcompare import learn
from diffcompare.plot import style
from experiments import _codec, templates


@pytest.fixture(scope="module")
def result():
    with jax.enable_x64(False):  # as the runner does
        return templates.run(templates.Config(seeds=2))


def test_the_table_holds_the_pixels_as_they_are_stored(result):
    """Lecture row 3."""
    images, _, _ = learn.data.read_digits()
    assert any((image == result.seen.table).all() for image in images)
    assert result.seen.table.dtype.kind == "i"


def test_the_most_confused_pair_is_counted_and_shown_by_its_images(result):
    """Lecture row 4."""
    found = result.models[templates.STROKES].confusion
    assert found.sum() == 2 * 450
    wrong = found - np.diag(np.diag(found))
    one, other = result.pair.classes
    assert result.pair.errors == wrong.sum()
    assert result.pair.mistakes == wrong[one, other] + wrong[other, one]
    assert result.pair.mistakes == max(
        wrong[a, b] + wrong[b, a] for a in range(10) for b in range(a)
    )
    data = learn.load("digits", seed=5)
    for label, images in zip(result.pair.classes, result.images, strict=True):
        same = np.asarray(data.x_train)[np.asarray(data.y_train) == label]
        assert (images.reshape(len(images), -1) == same[: templates.SHOWN]).all()


def test_a_pair_is_confused_in_both_directions():
    confusion = np.array([[9, 3, 2], [0, 9, 0], [2, 0, 9]])
    assert templates.most_confused(confusion) == templates.Pair((0, 2), 4, 7)


def test_there_are_ten_templates_of_the_linear_model_and_a_hundred_of_the_network(result):
    """Lecture rows 9, 14 and 15."""
    shapes = [[weight.shape for weight in model.weights] for model in result.models]
    assert shapes == [[(10, 64)], [(100, 64), (10, 100)], [(100, 64), (10, 100)]]


def test_weights_that_decay_are_as_smooth_as_digits_and_others_are_rougher(result):
    """Lecture row 15."""
    _, small, he = result.models
    assert (small.roughness < result.roughness).all()
    assert (he.roughness > result.roughness + 0.1).all()
    assert (small.users > 2).all()
    assert (small.alive < 100).all()
    assert (he.alive == 100).all()
    assert min(small.accuracy.mean(), he.accuracy.mean()) > 0.96


def test_noise_has_roughness_two_and_a_flat_template_none():
    noise = np.random.default_rng(0).normal(size=(1000, 8, 8))
    # 112,000 differences: a spread of 2 * sqrt(2 / 112,000), and the mean of ratios is off by 1/64.
    assert templates.roughness(noise) == pytest.approx(2, abs=0.05)
    assert templates.roughness(np.ones((1, 8, 8))) == 0
    # By hand: neighbours differ by 2, and all squares are 1.
    board = np.indices((8, 8)).sum(axis=0) % 2 * 2.0 - 1
    assert templates.roughness(board[None]) == 4
    # What decayed to nothing has no part in it.
    assert templates.roughness(np.stack([board, 1e-4 * noise[0]])) == 4


def test_the_figure_drawn_from_the_file_names_the_pair(result):
    encoded = json.loads(json.dumps(_codec.encode(result)))
    read = _codec.decode(encoded, _codec.record_types(vars(templates).values()))
    with style.context():
        drawing = templates.plot(read)
    one, other = result.pair.classes
    titles = [place.get_title() for place in drawing.axes]
    assert f"{one} or {other}? Confused most" in titles
    assert f"We see: {result.seen.label}" in titles


def test_the_summary_has_a_row_for_every_model(result):
    rows = templates.summary(result)
    assert [row["model"] for row in rows] == [recipe.name for recipe in templates.RECIPES]
    assert rows[1]["of all errors"] == f"{result.pair.mistakes} of {result.pair.errors}"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seeds": 0}, "must be positive.*they are 0, None and 5"),
        ({"epochs": 0}, "must be positive.*they are 5, 0 and 5"),
        ({"first_seed": -1}, "not negative.*they are 5, None and -1"),
        ({"path": templates.Path("mnist")}, "digits come with the package.*'mnist'"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        templates.Config(**options)
