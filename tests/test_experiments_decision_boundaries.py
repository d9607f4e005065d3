"""Boundaries in the plane: what the saved numbers say, and the counting of linear regions."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffcompare import learn
from experiments import _codec, _execution, _small_networks, decision_boundaries

FILE = Path(__file__).parents[1] / "figures" / "decision_boundaries.json"


@pytest.fixture(scope="module")
def saved():
    return _execution.read(FILE, decision_boundaries)


@pytest.fixture(scope="module")
def models(saved):
    return {problem.problem: {m.name: m for m in problem.models} for problem in saved.problems}


def test_the_saved_numbers_are_those_of_the_default_config():
    config = _codec.decode(json.loads(FILE.read_bytes())["config"], {})
    assert decision_boundaries.Config(**config) == decision_boundaries.Config()


def test_a_line_does_little_better_than_guess_and_a_hundred_units_are_right(models):
    """Lecture rows 10 and 16: on the spiral about .54 and .99."""
    for problem in ("spiral", "rings", "XOR"):
        linear, network = models[problem]["linear"], models[problem]["H = 100"]
        assert len(linear.accuracy) == len(network.accuracy) == 5
        assert linear.accuracy.mean() < 0.62
        assert network.accuracy.mean() > 0.98
    assert models["spiral"]["linear"].accuracy.mean() == pytest.approx(0.54, abs=0.03)
    assert models["spiral"]["H = 100"].accuracy.mean() == pytest.approx(0.99, abs=0.01)


def test_regions_grow_with_the_units_and_never_beyond_what_lines_can_cut(models):
    """Lecture row 16."""
    for of_problem in models.values():
        shallow = [model for model in of_problem.values() if len(model.hidden) == 1]
        counts = [model.exact.mean() for model in shallow]
        assert counts == sorted(counts)
        for model in shallow:
            assert (model.regions <= model.exact).all()  # a grid can only miss some
            assert (model.exact <= decision_boundaries.most_regions(model.hidden[0])).all()
        assert (of_problem["linear"].regions == 1).all()


def test_each_score_of_a_linear_model_is_an_inner_product_that_is_0_along_a_line(saved):
    """Lecture row 8."""
    lines = saved.lines
    params = (learn.Layer(jnp.asarray(lines.weight), jnp.asarray(lines.bias)),)
    x = lines.points[:20]
    scores = np.asarray(learn.apply(params, jnp.asarray(x)))
    for i, (w, b) in enumerate(zip(lines.weight.astype(float), lines.bias, strict=True)):
        by_hand = [w[0] * point[0] + w[1] * point[1] + b for point in x.astype(float)]
        np.testing.assert_allclose(scores[:, i], by_hand, rtol=1e-5, atol=1e-5)  # float32
        # The foot of the origin on the line, and any point along it, score 0; one step along the
        # normal scores |w|.
        size = np.hypot(*w)
        on_line = -b * w / size**2 + 3.0 * np.array([-w[1], w[0]]) / size
        assert w @ on_line + b == pytest.approx(0, abs=1e-6 * size)
        assert w @ (on_line + w / size) + b == pytest.approx(size)
    assert lines.accuracy > 0.95


@pytest.mark.parametrize(
    ("weight", "bias", "pieces"),
    [
        (np.zeros((0, 2)), [], 1),
        ([[1.0, 0.0]], [0.5], 2),
        ([[1.0, 0.0]], [1.5], 1),  # passes beside the square
        ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], 4),
        ([[1.0, 0.01], [1.0, -0.01]], [0.5, -0.5], 3),  # meet far away
        ([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0.0, 0.0, -0.5], 7),
    ],
)
def test_lines_cut_a_square_into_the_pieces_counted_by_hand(weight, bias, pieces):
    assert decision_boundaries.exact_regions(np.array(weight), np.array(bias), 1.0) == pieces


def test_a_fine_grid_sees_as_many_patterns_as_there_are_regions():
    params = learn.init(jax.random.key(3), (2, 5, 2), dtype=jnp.float32)
    params = (params[0]._replace(bias=jnp.linspace(-0.4, 0.5, 5, dtype=jnp.float32)), params[1])
    exact = decision_boundaries.exact_regions(*params[0], 1.0)
    bits, classes = decision_boundaries.evaluate(params, _small_networks.on_grid(1.0, 1000))
    assert len(np.unique(bits)) == exact > 6
    assert set(classes) <= {0, 1}


def test_a_network_is_linear_where_the_same_units_are_on():
    params = learn.init(jax.random.key(0), (2, 8, 8, 2), dtype=jnp.float64)
    x = _small_networks.on_grid(1.0, 60)
    bits, classes = decision_boundaries.evaluate(params, x)
    scores = np.asarray(learn.apply(params, jnp.asarray(x)))
    np.testing.assert_array_equal(classes, scores.argmax(axis=1))
    codes = bits.astype(int) @ (256 ** np.arange(bits.shape[1]))
    values, counts = np.unique(codes, return_counts=True)
    assert len(values) > 8
    for code in values[counts > 10]:
        inside = np.column_stack([x, np.ones(len(x))])[codes == code]
        _, _, rank, _ = np.linalg.lstsq(inside, scores[codes == code], rcond=None)
        fit = inside @ np.linalg.lstsq(inside, scores[codes == code], rcond=None)[0]
        assert rank == 3
        np.testing.assert_allclose(fit, scores[codes == code], atol=1e-12)  # roundings of the fit


def test_units_that_fill_up_change_no_training():
    key = jax.random.key(0)
    data = _small_networks.points(learn.rings, range(1), 40, 40)

    def trained(padded):
        start = _small_networks.initial([key], (2, 3, 2), padded)
        return _small_networks.descend(start, *data, optimizer=optax.adam(0.03), steps=20)

    alone, filled = trained(()), trained((2, 5, 2))
    for small, large in zip(alone.params, filled.params, strict=True):
        rows, columns = small.weight.shape[1:]
        # The sums of float32 are taken in another order.
        kept = large.weight[:, :rows, :columns]
        np.testing.assert_allclose(small.weight, kept, rtol=1e-4, atol=1e-5)
        assert float(jnp.abs(large.weight).sum()) == pytest.approx(float(jnp.abs(kept).sum()))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"units": ()}, r"must be positive.*they are \(\)"),
        ({"units": (3, 0)}, r"must be positive.*they are \(3, 0\)"),
        ({"deep": -1}, "not negative.*-1 and 0"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        decision_boundaries.Config(**options)
