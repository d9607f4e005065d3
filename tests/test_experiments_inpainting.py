"""Holes in digits and in a photograph, filled by a network and by three other methods."""

import json

import jax
import numpy as np
import pytest

from diffcompare import learn
from diffcompare.plot import style
from experiments import _codec, inpainting


@pytest.fixture(scope="module")
def result():
    with jax.enable_x64(False):  # as the runner does
        return inpainting.run(inpainting.Config(seeds=1))


def test_the_network_reaches_what_is_asked_of_it_and_beats_the_others_by_two_decibels(result):
    """Lecture rows 18 to 21."""
    for task in result.tasks[:2]:
        *others, network = task.psnr[:, 0]
        assert network >= task.to_reach
        assert network > max(others) + 2
    assert [task.to_reach for task in result.tasks[:2]] == [15, 13.5]


def test_the_harmonic_fill_wins_on_the_photograph_while_examples_are_few(result):
    large, small = ({*zip(inpainting.METHODS, t.psnr[:, 0], strict=True)} for t in result.tasks[2:])
    assert max(large, key=lambda pair: pair[1])[0] == "harmonic fill"
    assert max(small, key=lambda pair: pair[1])[0] == "MLP"
    assert [task.train for task in result.tasks[2:]] == [888, 3600]


def test_known_pixels_stay_and_missing_ones_are_filled(result):
    """Lecture row 19."""
    for task in result.tasks:
        assert task.filled.shape == (4, inpainting.SHOWN, *task.mask.shape)
        assert (task.filled[..., ~task.mask] == task.shown[:, ~task.mask]).all()
        holes = task.filled[..., task.mask]
        assert ((holes >= 0) & (holes <= 1)).all()
        assert (holes != task.shown[:, task.mask]).any(axis=-1).all()


def test_the_network_has_as_many_outputs_as_pixels(result):
    """Lecture row 20."""
    assert [task.sizes for task in result.tasks] == [
        (64, 256, 256, 64),
        (64, 256, 256, 64),
        (256, 256, 256),
        (64, 256, 64),
    ]


def test_the_score_of_the_mean_image_is_that_of_numpy(result):
    data = learn.load("digits", seed=5)
    train, test = np.asarray(data.x_train), np.asarray(data.x_test)
    for task in result.tasks[:2]:
        wrong = (train.mean(axis=0) - test)[:, task.mask.ravel()]
        expected = -10 * np.log10(np.mean(wrong**2, dtype=float))
        assert task.psnr[0, 0] == pytest.approx(expected, abs=1e-4)  # float32


def test_the_loss_of_a_filled_image_is_half_of_the_sum_of_its_squared_errors(result):
    """Lecture row 21."""
    task, losses = result.tasks[0], result.losses
    sums = []
    for number, (filled, truth) in enumerate(zip(task.filled[-1], task.shown, strict=True)):
        errors = [a - b for a, b in zip(filled.ravel(), truth.ravel(), strict=True)]
        sums.append(sum(float(error) ** 2 for error in errors) / 2)
        # float32: a sum of 64 squares.
        assert losses.values[number] == pytest.approx(sums[-1], rel=64 * 2.0**-23)
        assert losses.gradients[number].ravel().tolist() == [float(error) for error in errors]
    assert losses.joint == pytest.approx(sum(sums), rel=6 * 64 * 2.0**-23)
    assert losses.values.min() > 0


def test_the_graph_is_that_of_the_loss(result):
    """Lecture row 22."""
    graph = result.graph
    assert graph.symbols[:4] == ["W1", "W2", "x", "y"]
    assert graph.symbols[4:] == ["@", "relu", "@", "-", "x²", "× 0.5", "Σ"]
    # A chain, into which the arguments come.
    chain = {(number, number + 1) for number in range(4, 10)}
    assert set(graph.wires) == chain | {(0, 4), (2, 4), (1, 6), (3, 7)}
    assert graph.shapes[-1] == ()


def test_patches_of_the_photograph_are_cut_once_each_and_held_out_apart():
    picture = np.arange(16 * 24, dtype=np.float32).reshape(16, 24)
    train, test = inpainting._patches(picture, 8, seed=0)
    assert (len(train), len(test)) == (4, 2)  # 75 % of 2 x 3, rounded
    found = np.concatenate([train, test])
    assert sorted(found.ravel()) == sorted(picture.ravel())
    assert (np.diff(found, axis=2) == 1).all()
    assert (np.diff(found, axis=1) == 24).all()


def test_the_figure_drawn_from_the_file_names_the_winner_of_every_task(result):
    encoded = json.loads(json.dumps(_codec.encode(result)))
    read = _codec.decode(encoded, _codec.record_types(vars(inpainting).values()))
    with style.context():
        drawing = inpainting.plot(read)
    captions = [text.get_text() for place in drawing.axes for text in place.get_xticklabels()]
    assert [caption.splitlines()[-1] for caption in captions if "wins" in caption] == [
        "MLP wins",
        "MLP wins",
        "harmonic fill wins",
        "MLP wins",
    ]


def test_the_summary_has_all_methods_side_by_side(result):
    rows = inpainting.summary(result)
    assert len(rows) == 4
    for row, task in zip(rows, result.tasks, strict=True):
        for name, psnr in zip(inpainting.METHODS, task.psnr[:, 0], strict=True):
            assert row[f"{name} (dB)"] == f"{psnr:.2f} +- nan"  # one seed has no spread


def test_missing_mnist_is_reported_with_the_place_searched(tmp_path):
    folder = tmp_path / "nothing"
    with pytest.raises(learn.DataNotFoundError, match="nothing"):
        inpainting.run(inpainting.Config(data="mnist", path=folder))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seeds": 0}, "must be positive.*they are 0, None and 5"),
        ({"epochs": 0}, "must be positive.*they are 5, 0 and 5"),
        ({"first_seed": -1}, "not negative.*they are 5, None and -1"),
        ({"path": inpainting.Path("mnist")}, "digits come with the package.*'mnist'"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        inpainting.Config(**options)
