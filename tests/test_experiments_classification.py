"""The five steps of supervised learning, on the digits of the package."""

import json

import jax
import numpy as np
import pytest

from diffcompare import learn
from diffcompare.plot import style
from experiments import _codec, _runner, classification


@pytest.fixture(scope="module")
def result():
    with jax.enable_x64(False):  # as the runner does
        return classification.run(classification.Config(seeds=2, epochs=2))


def test_every_model_reaches_the_accuracy_asked_of_it_on_unseen_digits():
    """Lecture rows 6, 7 and 11: collect, model, loss, train, evaluate on unseen images."""
    config = classification.Config()
    with jax.enable_x64(False):
        result = classification.run(config)
    means = {model.name: model.accuracy.mean() for model in result.models}
    assert len(result.models[0].accuracy) == 5
    assert means["linear"] >= 0.965
    assert means["2-layer"] >= 0.975
    assert means["3-layer"] >= 0.975
    # The claim: less than half the errors.
    assert 1 - means["2-layer"] < (1 - means["linear"]) / 2


def test_the_models_have_the_shapes_of_the_lecture(result):
    """Lecture rows 7, 11 and 14: W of shape (C, D); W1 (H, D) and W2 (C, H) with H = 100."""
    shapes = {model.name: model.shapes for model in result.models}
    assert shapes == {
        "linear": [(10, 64)],
        "2-layer": [(100, 64), (10, 100)],
        "3-layer": [(100, 64), (100, 100), (10, 100)],
    }
    assert [model.parameters for model in result.models] == [650, 7510, 17610]


def test_every_class_is_shown_by_images_that_were_trained_on(result):
    """Lecture row 2."""
    data = learn.load("digits", seed=5)
    images, labels = np.asarray(data.x_train), np.asarray(data.y_train)
    assert result.collected.samples.shape == (10, classification.SAMPLES, 8, 8)
    for label, samples in enumerate(result.collected.samples):
        for sample in samples:
            found = labels[(images == sample.ravel()).all(axis=1)]
            assert label in found
    assert (result.collected.train, result.collected.test) == (1347, 450)


def test_training_makes_the_loss_fall_on_seen_and_on_unseen_images(result):
    for model in result.models:
        assert model.train_loss.shape == model.test_loss.shape == (2, 2)
        assert (model.train_loss[:, 1] < model.train_loss[:, 0]).all()
        assert (model.test_loss[:, 1] < model.test_loss[:, 0]).all()
        assert (model.test_loss < np.log(10)).all()  # the loss of a guess


def test_the_loss_of_an_image_is_minus_the_logarithm_of_the_probability_of_its_class(result):
    example = result.example
    # Ten exponentials, each rounded to float32.
    assert example.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert example.loss == pytest.approx(-np.log(example.probabilities[example.label]), rel=1e-5)


def test_the_classes_predicted_one_image_at_a_time_have_the_accuracy_of_the_batch(result):
    """Lecture row 5: an image in, a class out."""
    predicted = result.predicted
    model = next(model for model in result.models if model.name == predicted.model)
    assert 1 - predicted.wrong / result.collected.test == pytest.approx(model.accuracy[0], abs=1e-6)
    shown_wrong = (predicted.predictions != predicted.labels).sum()
    assert shown_wrong == min(predicted.wrong, classification.SHOWN // 2)


def test_the_learned_function_takes_an_image_and_returns_its_class(result):
    """Lecture row 5; the class is that of the highest score."""
    called, predicted = result.function, result.predicted
    assert (called.image_shape, called.class_shape, called.class_dtype) == ((8, 8), (), "int32")
    assert (called.calls, called.not_a_class, called.not_highest) == (450, 0, 0)
    assert called.right == 450 - predicted.wrong
    assert predicted.scores.argmax(axis=1).tolist() == predicted.predictions.tolist()


def test_a_table_of_the_training_images_knows_those_alone(result):
    """Lecture row 5: the program that could be written."""
    data = learn.load("digits", seed=5)
    seen, unseen = np.asarray(data.x_train), np.asarray(data.x_test)
    same = (seen[:, None, :8] == unseen[None, :, :8]).all(axis=-1)
    pairs = np.argwhere(same)  # of equal first rows; the others are compared for these alone
    known = {int(b) for a, b in pairs if (seen[a] == unseen[b]).all()}
    assert (result.function.known, result.function.looked_up) == (len(known), 0)
    params = learn.init(jax.random.key(0), (64, 100, 10), dtype=np.float32)
    again = data._replace(x_test=data.x_train[:30], y_test=(data.y_train[:30] + 1) % 10)
    called = classification._called(params, again)
    assert (called.calls, called.known, called.looked_up) == (30, 30, 0)
    called = classification._called(params, again._replace(y_test=data.y_train[:30]))
    assert (called.calls, called.known, called.looked_up) == (30, 30, 30)


def test_the_confusion_matrix_counts_every_held_out_image_by_label_and_prediction(result):
    """Lecture row 4."""
    for model in result.models:
        assert model.confusion.shape == (10, 10)
        assert model.confusion.sum() == 2 * 450
        right = np.diag(model.confusion).sum()
        assert right / 900 == pytest.approx(model.accuracy.mean(), abs=1e-6)  # float32
    wrong = result.models[1].confusion - np.diag(np.diag(result.models[1].confusion))
    pairs = {(a, b): wrong[a, b] + wrong[b, a] for a in range(10) for b in range(a)}
    assert classification.summary(result)[1]["most confused"].endswith(
        f": {max(pairs.values())} of {wrong.sum()}"
    )


def test_the_figure_drawn_from_the_file_names_the_five_steps_and_marks_errors_by_text(result):
    encoded = json.loads(json.dumps(_codec.encode(result)))
    read = _codec.decode(encoded, _codec.record_types(vars(classification).values()))
    with style.context():
        drawing = classification.plot(read)
    titles = [place.get_title() for place in drawing.axes]
    for number, step in enumerate(("Collect", "Model", "Loss", "Train", "Evaluate"), start=1):
        assert any(title.startswith(f"{number}. {step}") for title in titles)
    texts = [text.get_text() for place in drawing.axes for text in place.texts]
    wrong = read.predicted.predictions != read.predicted.labels
    assert sum(text.startswith("wrong:") for text in texts) == wrong.sum() > 0
    assert sum(text.startswith("right:") for text in texts) == (~wrong).sum()


def test_the_summary_has_a_row_for_every_model_with_accuracy_spread_and_what_is_asked(result):
    rows = classification.summary(result)
    assert [row["model"] for row in rows] == ["linear", "2-layer", "3-layer"]
    assert [row["to reach"] for row in rows] == [0.965, 0.975, 0.975]
    accuracy = result.models[0].accuracy
    spread = abs(accuracy[0] - accuracy[1]) / 2**0.5  # the standard deviation of two
    assert rows[0]["accuracy"] == f"{accuracy.mean():.4f} +- {spread:.4f}"


def test_missing_mnist_is_reported_with_the_places_searched(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "nothing"
    config = classification.Config(data="mnist", path=folder)
    with pytest.raises(learn.DataNotFoundError, match="nothing"):
        classification.run(config)
    monkeypatch.setattr(classification.Config, "quick", classmethod(lambda cls: config))
    out = str(tmp_path / "figures")
    assert _runner.main(["classification", "--quick", "--out", out]) == 2
    assert "missing data: classification" in capsys.readouterr().err
    assert not list((tmp_path / "figures").iterdir())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seeds": 0}, "must be positive.*they are 0, None and 5"),
        ({"epochs": 0}, "must be positive.*they are 5, 0 and 5"),
        ({"first_seed": -1}, "not negative.*they are 5, None and -1"),
        ({"path": classification.Path("mnist")}, "digits come with the package.*'mnist'"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        classification.Config(**options)
