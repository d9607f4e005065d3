"""The study of backpropagation on three graphs."""

import numpy as np
import pytest

from diffcompare.plot import style
from experiments import _codec, backpropagation


@pytest.fixture(scope="module")
def result():
    return backpropagation.run(backpropagation.Config.quick())


def rows(result, name):
    example = next(example for example in result.examples if example.name == name)
    return {row["node"].removesuffix(" *"): row for row in example.rows}


def test_scalar_example_has_the_numbers_of_the_lecture(result):
    """Lecture rows 31 and 33."""
    found = rows(result, "scalar")
    assert {name: found[name]["gradient"] for name in ("w1", "w2", "ŷ", "e")} == {
        "w1": "80", "w2": "40", "ŷ": "8", "e": "8",
    }  # fmt: skip
    assert found["L"]["value"] == "32"
    # The factors 5, 1, 2 and 8 of dL/dw1.
    assert found["f"]["local derivatives"] == "w1: 5; x: 1"
    assert found["g"]["local derivatives"] == "f: 1"
    assert found["ŷ"]["local derivatives"] == "w2: 5; g: 2"
    assert 5 * 1 * 2 * 8 == 80


def test_all_three_levels_find_80_and_40_and_only_a_one_sided_difference_misses_them(result):
    """Lecture row 31."""
    assert {each.level for each in result.levels} == {"numerical", "symbolic", "automatic"}
    for each in result.levels:
        if each.method.startswith("forward difference"):
            # Half of the step times the curvature, which is (w2 x)^2 and (w1 x)^2, up to the
            # rounding of a value of 32 over that step.
            off = {"w1": 0.5e-6 * 10**2, "w2": 0.5e-6 * 5**2}
            rounding = 32 * np.finfo(float).eps / 1e-6
            for name, truth in (("w1", 80), ("w2", 40)):
                assert each.gradients[name] - truth == pytest.approx(off[name], abs=rounding)
        else:
            assert each.gradients == {"w1": 80.0, "w2": 40.0}


def test_the_product_with_a_rule_of_its_own_passes_upstream_times_the_other_factor(result):
    """Lecture row 35."""
    products = result.products
    assert list(products.values) == ["as it is", "jit", "vmap", "jit of vmap"]
    for way in backpropagation.WAYS:
        for number, (x, y, upstream) in enumerate(
            zip(products.x.tolist(), products.y.tolist(), products.upstream.tolist(), strict=True)
        ):
            # One rounding each, so that there is nothing to tolerate.
            assert products.values[way][number] == x * y
            assert products.by_x[way][number] == upstream * y
            assert products.by_y[way][number] == upstream * x
    assert products.saved == ["x", "y"]
    assert products.operations == ["custom_vjp_call"]
    assert products.scalar == {"w1": 80.0, "w2": 40.0}


def test_sigmoid_example_has_the_numbers_of_the_lecture(result):
    """Lecture row 41."""
    found = rows(result, "sigmoid")
    chain = [(found[name]["value"], found[name]["gradient"])
             for name in ("mul", "mul2", "add", "add2", "neg", "exp", "add3", "f")]  # fmt: skip
    assert chain == [
        ("-2", "0.196612"), ("6", "0.196612"), ("4", "0.196612"), ("1", "0.196612"),
        ("-1", "-0.196612"), ("0.367879", "-0.534447"), ("1.36788", "-0.534447"),
        ("0.731059", "1"),
    ]  # fmt: skip
    leaves = {name: found[name]["gradient"] for name in ("w1", "x1", "w2", "x2", "w0")}
    assert leaves == {
        "w1": "-0.196612", "x1": "0.393224", "w2": "-0.393224", "x2": "-0.589836",
        "w0": "0.196612",
    }  # fmt: skip


def test_gradients_are_those_of_jax_to_rounding(result):
    """Lecture row 22, with the closed forms of row 25."""
    for example in result.examples:
        assert example.error <= 8 * np.finfo(np.float64).eps
    config = backpropagation.Config.quick()
    rng = np.random.default_rng(config.seed)
    shapes = (config.hidden, config.inputs), (config.outputs, config.hidden)
    w1, w2, x, y = (rng.normal(size=s) for s in (*shapes, config.inputs, config.outputs))
    g = 1 / (1 + np.exp(-(w1 @ x)))
    error = w2 @ g - y
    closed = {
        "W1": np.outer((w2.T @ error) * g * (1 - g), x), "W2": np.outer(error, g), "y": -error,
    }  # fmt: skip
    for name, gradient in closed.items():
        found = result.examples[2].gradients[name]
        np.testing.assert_allclose(found, gradient, rtol=1e-13, atol=1e-15)  # some roundings


def test_what_is_saved_is_listed(result):
    """Lecture row 32."""
    assert {"x", "w1", "w2", "g"} <= set(result.examples[0].residuals)


def test_sharing_saves_more_the_deeper_the_network(result):
    """Lecture row 34."""
    counts = result.counts
    assert result.scalar_counts == (6, 8, 8)
    assert np.all(counts.shared < counts.unshared)
    assert np.all(counts.unshared < counts.forward)
    assert np.all(np.diff(counts.unshared / counts.shared) > 0)
    # Each further layer adds the same work: two products with its matrix, and its sigmoid.
    assert np.all(np.diff(counts.shared) == 2 * 4 * 4 + 4)


def test_figure_shows_every_stage_and_survives_the_file(result):
    types = _codec.record_types(vars(backpropagation).values())
    again = _codec.decode(_codec.encode(result), types)
    with style.context():
        figure = backpropagation.plot(again)
        titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert "backward: dL/dw1 = dL/df · ∂f/∂w1 = 16 · 5 = 80" in titles
    assert sum(title.startswith("backward") for title in titles) == 4


@pytest.mark.parametrize("options", [{"hidden": 0}, {"deepest": 0}])
def test_bad_config_is_refused(options):
    with pytest.raises(ValueError, match="inputs, hidden, outputs and deepest must be positive"):
        backpropagation.Config(**options)
