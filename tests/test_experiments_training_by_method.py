"""Training with the gradient of each method."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffcompare import learn
from diffcompare.plot import style
from experiments import _codec, training_by_method

SIZES = (64, 10, 10)
PARAMETERS = 64 * 10 + 10 * 10


@pytest.fixture(scope="module")
def result():
    return training_by_method.run(training_by_method.Config.quick())


@pytest.fixture(scope="module")
def runs(result):
    return {run.label: run for run in result.runs}


def test_training_makes_the_loss_fall_with_every_gradient(runs):
    """Lecture row 36: sample a batch, forward, backward, a step of gradient descent."""
    for run in runs.values():
        assert run.loss.shape == (3,)
        assert (np.diff(run.loss) < 0).all()


def test_the_derived_gradient_trains_like_backpropagation(runs):
    """Lecture rows 27 and 28."""
    # 126 steps in float32, each of which rounds the weights to eps.
    np.testing.assert_allclose(runs["Symbolic"].loss, runs["ReverseMode"].loss, rtol=1e-5)
    # The square of some eps: the angle itself is of the order of eps = 1.2e-7.
    assert runs["ReverseMode"].defect.max() < 1e-11
    assert runs["Symbolic"].defect.max() < 1e-11


def test_a_difference_with_a_suitable_step_trains_as_well(runs):
    """Lecture row 26: easy."""
    central, exact = runs["CentralDifference"], runs["ReverseMode"]
    # A step across a kink of ReLU may turn a gradient by a degree or two.
    assert central.defect.max() < 1e-3
    np.testing.assert_allclose(central.loss, exact.loss, rtol=0.03)


def test_the_step_of_the_lecture_in_float32_leads_elsewhere(runs):
    """Lecture row 26: not very accurate, with h = 1e-6."""
    small, exact = runs["Central, h = 1e-6"], runs["ReverseMode"]
    # More than 30 degrees at the start: each entry is off by about eps * loss / h = 0.1.
    assert small.defect[0] > 0.13
    # Where noise leads is luck, and differs between versions of JAX; but not where others go.
    assert abs(small.loss[-1] / exact.loss[-1] - 1) > 0.05


def test_the_same_step_in_float64_points_the_right_way():
    config = training_by_method.Config(epochs=1, methods=("1e-6-f64",))
    (run,) = training_by_method.run(config).runs
    assert run.dtype == "float64"
    # The square of eps * loss / h = 2e-10, relative to the gradient.
    assert run.defect.max() < 1e-14


@pytest.mark.parametrize(
    ("name", "each", "more"),
    [
        ("reverse", 0, 2),
        ("symbolic", 0, 2),
        ("forward", 1, 1),
        ("forward-difference", 1, 1),
        ("central", 2, 1),
        ("order-4", 4, 1),
    ],
)
def test_passes_are_counted(name, each, more):
    """Lecture row 26: N + 1 and 2 N evaluations, and here one for the value itself."""
    params = learn.init(jax.random.key(0), SIZES, bias=False, dtype=jnp.float32)
    passes = training_by_method._passes(training_by_method.METHODS[name].method, params)
    least = each * PARAMETERS + more
    assert passes >= least
    # Differences fill up their last batch, and may repeat the unmoved point in every batch.
    assert passes <= least + (0 if each == 0 or name == "forward" else 0.1 * PARAMETERS)


def test_one_minus_the_cosine_is_exact_for_small_angles():
    def of(*vectors):
        return training_by_method._one_minus_cosine(*map(np.array, vectors))

    assert of([3.0, 0.0], [0.0, 0.5]) == pytest.approx(1, rel=1e-15)
    assert of([1.0, 2.0], [-2.0, -4.0]) == pytest.approx(2, rel=1e-15)
    # 1 - cos(t) = t**2 / 2, of which the next term is t**4.
    assert of([1.0, 0.0], [1.0, 1e-10]) == pytest.approx(5e-21, rel=1e-6)


def test_the_figure_drawn_from_the_file_shows_every_method(result):
    encoded = json.loads(json.dumps(_codec.encode(result)))
    read = _codec.decode(encoded, _codec.record_types(vars(training_by_method).values()))
    with style.context():
        drawing = training_by_method.plot(read)
    labels = [run.label for run in result.runs]
    assert [text.get_text() for text in drawing.legends[0].get_texts()] == labels
    losses, defects, passes, times = drawing.axes
    assert [line.get_ydata().tolist() for line in losses.lines] == [
        run.loss.tolist() for run in result.runs
    ]
    assert [line.get_ydata().tolist() for line in defects.lines] == [
        run.defect.tolist() for run in result.runs
    ]
    assert [bar.get_width() for bar in passes.patches] == [run.passes for run in result.runs]
    assert [bar.get_width() for bar in times.patches] == [run.milliseconds for run in result.runs]


def test_the_summary_has_a_row_for_every_method(result):
    rows = training_by_method.summary(result)
    assert [row["gradient by"] for row in rows] == [run.label for run in result.runs]
    # 42 batches of 32 images in each of 3 epochs, with two passes for each gradient.
    assert rows[0]["passes in all"] == 2 * 3 * 42


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"hidden": 0}, r"must be positive, but they are 0, 10, 32, 0\.2"),
        ({"rate": -1.0}, r"must be positive, but they are 10, 10, 32, -1\.0"),
        ({"methods": ()}, "methods must name one or more of reverse, forward, symbolic"),
        ({"methods": ("guess",)}, "methods must name one or more of .*'guess'"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        training_by_method.Config(**options)
