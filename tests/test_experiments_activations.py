"""Activation functions: derivatives beside those of mpmath, and layers without one."""

import json
from pathlib import Path

import jax
import mpmath
import numpy as np
import pytest

from diffcompare import learn
from experiments import _activation_choice, _codec, _execution, activations

FILE = Path(__file__).parents[1] / "figures" / "activations.json"


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


# The definitions, for mpmath to differentiate.
DEFINED = {
    "sigmoid": sigmoid,
    "tanh": mpmath.tanh,
    "ReLU": lambda x: x if x > 0 else 0 * x,
    "leaky ReLU": lambda x: x if x > 0 else x * mpmath.mpf("0.01"),
    "ELU": lambda x: x if x > 0 else mpmath.expm1(x),
    "GELU": lambda x: x * (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2,
    "SiLU": lambda x: x * sigmoid(x),
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
}


@pytest.fixture(scope="module")
def saved():
    return _execution.read(FILE, activations)


def test_the_saved_numbers_are_those_of_the_default_config():
    config = _codec.decode(json.loads(FILE.read_bytes())["config"], {})
    assert activations.Config(**config) == activations.Config()


def test_every_method_finds_the_derivative_of_the_definition_away_from_kinks(saved):
    """Lecture row 13."""
    chosen = slice(3, None, 13)
    for each in saved.activations:
        with mpmath.workdps(40):
            wanted = [float(mpmath.diff(DEFINED[each.name], x)) for x in saved.x[chosen]]
            values = [float(DEFINED[each.name](mpmath.mpf(x))) for x in saved.x[chosen]]
        # A few roundings; JAX's tanh has some more of them.
        np.testing.assert_allclose(each.values[chosen], values, rtol=0, atol=1e-14)
        for method, found in each.derivatives.items():
            # The best that central differences can do is about eps^(2/3).
            within = 1e-9 if method == "CentralDifference" else 1e-14
            np.testing.assert_allclose(found[chosen], wanted, rtol=0, atol=within, err_msg=method)


def test_the_saved_differences_are_those_between_the_derivatives(saved):
    for each in saved.activations:
        found = np.stack(list(each.derivatives.values()))
        assert set(each.derivatives) == set(activations.METHODS)
        assert each.difference == (found.max(axis=0) - found.min(axis=0)).max() < 1e-9
        assert each.exact_difference < 1e-14


def test_at_a_kink_each_method_has_its_own_answer(saved):
    """Lecture row 13: the two sides of a kink have the slopes 0 (or 0.01) and 1."""
    kinked = {each.name: each.at_zero for each in saved.activations if each.kinked}
    assert set(kinked) == {"ReLU", "leaky ReLU"}
    for name, left in (("ReLU", 0.0), ("leaky ReLU", 0.01)):
        answers = kinked[name]
        assert answers["ForwardDifference"] == pytest.approx(1, abs=1e-12)
        assert answers["BackwardDifference"] == pytest.approx(left, abs=1e-12)
        assert answers["CentralDifference"] == pytest.approx((1 + left) / 2, abs=1e-12)
        for method in ("ReverseMode", "ForwardMode", "Symbolic", "ComplexStep"):
            assert answers[method] in (left, 1.0)  # one of the sides
        assert len({round(answer, 6) for answer in answers.values()}) == 3
    assert kinked["ReLU"]["ReverseMode"] == kinked["ReLU"]["Symbolic"] == 0
    # Where there is no kink they agree at 0 too. ELU's second derivative jumps there, which
    # costs the central difference an order of accuracy.
    for each in saved.activations:
        if not each.kinked:
            assert np.ptp(list(each.at_zero.values())) < 1e-5


def test_networks_compute_the_formula_of_the_lecture(saved):
    """Lecture row 11: with two and three layers, with biases and without."""
    assert [(len(each.shapes), each.has_bias) for each in saved.by_hand] == [
        (2, False), (2, True), (3, False), (3, True),
    ]  # fmt: skip
    for each in saved.by_hand:
        # Sums of at most 100 products, rounded in another order.
        assert each.difference < 100 * np.finfo(float).eps
        assert each.without_relu > 0.1
        assert each.images == 450


def test_a_network_that_lacks_its_bias_is_not_that_of_the_formula(monkeypatch):
    right = learn.apply

    def wrong(params, x):
        return right(tuple(learn.Layer(layer.weight, None) for layer in params), x)

    monkeypatch.setattr(learn, "apply", wrong)
    with jax.enable_x64(True):
        found = activations._by_hand(activations.Config(), learn.load("digits", seed=5))
    assert [each.difference > 0.1 for each in found] == [each.has_bias for each in found]


def test_the_relu_reads_digits_as_well_as_any_other_and_better_than_none(saved):
    """Lecture row 13: a good default."""
    accuracy = saved.choice.accuracy
    assert list(accuracy) == [*activations.ACTIVATIONS, activations.NOTHING]
    assert saved.choice.shapes == [(100, 64), (10, 100)]
    gains = {name: np.float64(each) - accuracy["ReLU"] for name, each in accuracy.items()}
    error = {name: np.std(gain, ddof=1) / 5**0.5 for name, gain in gains.items()}
    # Of paired seeds; twice the standard error is chance.
    assert all(gain.mean() <= 2 * error[name] for name, gain in gains.items())
    assert gains["none"].mean() < -2 * error["none"]


def test_each_network_has_the_activation_of_its_name():
    """The program that is shared by all of them picks it by its number."""
    chosen = {"ReLU": jax.nn.relu, "constant": lambda x: 0 * x}
    seeds, data = range(5, 7), [learn.load("digits", seed=seed) for seed in (5, 6)]
    one, other = (
        _activation_choice.trained(dict(pairs), data, seeds, epochs=1).accuracy
        for pairs in (chosen.items(), reversed(chosen.items()))
    )
    assert one["ReLU"].tolist() == other["ReLU"].tolist()
    assert (one["ReLU"] > 0.8).all()
    # All scores are 0, so that the first class wins.
    zeros = [float(np.mean(np.asarray(each.y_test) == 0)) for each in data]
    np.testing.assert_allclose(one["constant"], zeros, rtol=1e-6)  # float32
    np.testing.assert_allclose(other["constant"], zeros, rtol=1e-6)


def test_an_epoch_visits_no_image_twice():
    batches = _activation_choice._batches(100, epochs=2, seed=0)
    assert batches.shape == (2 * 3, 32)
    for epoch in (batches[:3], batches[3:]):
        assert len(set(epoch.ravel().tolist())) == 96
    assert (batches[:3] != batches[3:]).any()


def test_layers_without_an_activation_are_one_matrix():
    """Lecture row 12: equality to rounding, and a Jacobian that is constant in x."""
    with jax.enable_x64(True):
        collapse = activations._collapsed(activations.Config(), learn.load("digits", seed=5))
    assert collapse.shapes == [(100, 64), (100, 100), (10, 100)]
    # Sums of 100 products, rounded in another order.
    assert collapse.values < 100 * np.finfo(float).eps
    assert collapse.product < 100 * np.finfo(float).eps
    assert collapse.jacobian == 0
    assert collapse.relu > 0.1


def test_a_deep_linear_network_reads_digits_as_a_linear_model_does_and_relu_better(saved):
    """Lecture row 12."""
    accuracy = {model.name: model.accuracy for model in saved.models}
    linear, deep, relu = (accuracy[name] for name in activations.MODELS)
    assert len(linear) == len(deep) == len(relu) == 5
    error = np.std(deep - linear, ddof=1) / 5**0.5  # of the mean difference over paired seeds
    assert abs(np.mean(deep - linear)) < 3 * error
    assert abs(np.mean(deep - linear)) < 0.01
    assert relu.mean() > max(linear.mean(), deep.mean()) + 0.005
    assert (relu > deep - 0.005).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"points": 15}, "points must be even.*they are 15"),
        ({"epochs": 0}, "epochs positive.*160, 5 and 0"),
        ({"choice_epochs": 0}, "choice_epochs must be positive.*it is 0"),
        ({"functions": ()}, "one or more of sigmoid, tanh"),
        ({"first_seed": -1}, "not be negative.*-1"),
    ],
)
def test_bad_options_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        activations.Config(**options)
