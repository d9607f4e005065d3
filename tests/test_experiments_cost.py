"""The study of what a gradient costs by each method."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffcompare as dc
from diffcompare.plot import style
from experiments import _codec, _cost_figure, _cost_measure, _cost_passes, cost

EPS = np.finfo(np.float64).eps
METHODS = ("reverse mode", "symbolic, matrix", "forward mode", "central differences")


@pytest.fixture(scope="module")
def result():
    config = cost.Config(hidden=(2, 30, 98), repeats=3, seconds=5.0, methods=METHODS)
    return cost.run(config)


def curve(result, name):
    return next(each for each in result.curves if each.name == name)


def growth(found):
    """Returns the exponent between the last two points."""
    before, last = (np.median(samples) for samples in found.seconds[-2:])
    return math.log(last / before) / math.log(found.parameters[-1] / found.parameters[-2])


def test_every_network_has_the_parameters_that_it_says(result):
    assert result.parameters.tolist() == [n * (n + 3) for n in (2, 30, 98)]
    for found in result.curves:
        assert not found.reason
        assert found.parameters.tolist() == result.parameters.tolist()
        assert [samples.shape for samples in found.seconds] == [(3,)] * 3


def test_every_method_finds_the_gradient_that_it_is_timed_for(result):
    for found in result.curves:
        # An entry by central differences is wrong by up to eps^(2/3) of the loss, which is a few
        # times the norm of the gradient, and falls with the size of the network no more than that;
        # others round.
        is_difference = found.name == "central differences"
        limit = 4 * EPS ** (2 / 3) * np.sqrt(found.parameters) if is_difference else 256 * EPS
        assert np.all(found.error <= limit), found.name


def test_passes_grow_with_the_parameters_where_the_method_has_no_pullback(result):
    """Lecture rows 26 and 28."""
    p = result.parameters
    for name in ("reverse mode", "symbolic, matrix"):
        assert curve(result, name).passes.tolist() == [2, 2, 2]
    np.testing.assert_array_equal(curve(result, "forward mode").passes, p + 1)
    passes = curve(result, "central differences").passes
    # Some more fill the last batch of each of two arrays.
    assert np.all((2 * p + 1 <= passes) & (passes <= 2 * p + 1 + 2 * 64))


def test_time_of_differences_grows_much_faster_than_that_of_reverse_mode(result):
    """Lecture row 28: from 990 to 9,898 parameters."""
    # Ten times the passes, each through a function that has ten times the operations, less what a
    # call takes at any size; so the exponent is between 1 and 2, and nearer to 2.
    assert growth(curve(result, "central differences")) > 1.3
    # Ten times the operations, and what a call takes at any size; 1 at most but for noise.
    assert growth(curve(result, "reverse mode")) < 1.3
    slow, fast = (
        np.median(curve(result, name).seconds[-1])
        for name in ("central differences", "reverse mode")
    )
    # 19,797 passes against two: a pass in a batch is not a hundred times cheaper.
    assert slow > 100 * fast


def test_a_gradient_by_reverse_mode_takes_a_few_evaluations():
    """Lecture row 28: the cheap gradient principle."""
    config = cost.Config(hidden=(315,), batch=16, methods=("reverse mode",))
    medians = (np.median(cost.run(config).ratios["reverse mode"]) for _ in range(4))
    # Operations are at most 4 times as many; twice that for the memory it writes, which they do
    # not count. Load only adds to a time, so that one quiet moment tells.
    assert any(median < 2 * _cost_figure.CHEAP for median in medians)


def test_a_method_stops_where_a_gradient_is_expected_to_take_too_long(monkeypatch):
    monkeypatch.setattr(cost, "COMPILING", math.inf)
    config = cost.Config(
        hidden=(2, 9, 30), seconds=1e-5, methods=("central differences", "reverse mode")
    )
    found = curve(cost.run(config), "central differences")
    assert found.by_time
    assert found.stopped_at == 990  # two points are needed to expect anything
    assert found.reason.startswith("a gradient would take about")
    assert len(found.seconds[0]) == 1


def test_a_method_stops_where_it_needs_too_much_memory():
    config = cost.Config(hidden=(9,), megabytes=1e-3, methods=("forward mode", "reverse mode"))
    result = cost.run(config)
    assert curve(result, "forward mode").stopped_at == 108
    assert curve(result, "forward mode").reason.endswith("MB")
    assert not curve(result, "reverse mode").reason


def test_formulas_that_swell_are_stopped_and_said_so():
    config = cost.Config(hidden=(2, 30), methods=("symbolic, expression",))
    result = cost.run(config)
    (found,) = result.curves
    # Each of the 990 entries has, for each of 3 outputs, 30 terms: more than 20,000 operations.
    assert found.parameters.tolist() == [10]
    assert found.stopped_at == 990
    assert found.reason.startswith("the formula is beyond 20,000 operations")
    assert any(found.reason in text for text in cost.sentences(result))


def test_a_method_stops_after_it_took_too_long_to_compile(monkeypatch):
    monkeypatch.setattr(cost, "COMPILING", 0)
    (found,) = cost.run(cost.Config(hidden=(2, 9), methods=("reverse mode",))).curves
    assert (found.stopped_at, found.by_time) == (108, False)
    assert found.reason.endswith("to derive and to compile")


@pytest.mark.parametrize("scheme", [dc.ForwardDifference, dc.CentralDifference])
def test_passes_are_those_that_are_made(scheme):
    method = scheme(evaluation="dense")
    params = {"w": jnp.ones((3, 5)), "b": jnp.ones(4)}
    made = 0

    def tally(value):
        nonlocal made
        made += 1
        return value

    def counted(params):
        value = jnp.sum(params["w"]) + jnp.sum(params["b"])
        shape = jax.ShapeDtypeStruct((), value.dtype)
        return jax.pure_callback(tally, shape, value, vmap_method="sequential")

    jax.block_until_ready(dc.value_and_grad(counted, method=method)(params))
    assert _cost_passes.count(method, params) == made


def test_a_time_is_reached_between_points_and_beyond_them():
    parameters, seconds = np.array([10, 100, 1000]), np.array([1e-4, 1e-2, 1.0])
    found = [_cost_measure.reached(parameters, seconds, 2.0, limit) for limit in (0.1, 4.0)]
    assert found == pytest.approx([10**2.5, 2000.0])
    assert math.isnan(_cost_measure.reached(parameters, seconds, math.nan, 4.0))


def test_the_next_time_is_expected_from_the_growth_of_the_last():
    made = _cost_measure.Made(lambda: None, 1, 0.0)
    smaller = [
        _cost_measure.Contender(made, p, 1.0, 0.0, once=p**2 / 1e4, calls=1, rounds=1)
        for p in (10, 100, 200)
    ]
    assert _cost_measure.expected(smaller, 1000) == pytest.approx(100.0)
    assert _cost_measure.expected(smaller[:1], 1000) == 0


def test_contenders_take_turns_and_a_slow_one_fewer():
    order = []

    def contender(name, rounds):
        made = _cost_measure.Made(lambda: order.append(name), 1, 0.0)
        return _cost_measure.Contender(made, 1, 0.0, 0.0, once=1.0, calls=1, rounds=rounds)

    contenders = [contender("fast", 3), contender("slow", 1)]
    _cost_measure.take_turns(contenders, 3)
    assert order == ["fast", "slow", "fast", "fast"]
    assert [len(each.samples) for each in contenders] == [3, 1]


def test_figure_and_summary_name_every_method(result):
    # What a file holds, read back, is all that the figure needs.
    text = json.dumps(_codec.encode(result), allow_nan=False)
    read = _codec.decode(json.loads(text), _codec.record_types(vars(cost).values()))
    with style.context():
        drawing = cost.plot(read)
    labels = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert labels == [cost.VALUE, *METHODS, "the next size is beyond the budget"]
    rows = cost.summary(read)
    assert [row["method"] for row in rows] == [cost.VALUE, *METHODS]
    assert "A gradient by reverse mode takes" in cost.sentences(read)[-1]


@pytest.mark.parametrize("options", [{"hidden": ()}, {"batch": 0}, {"seconds": 0.0}])
def test_a_config_that_is_not_positive_is_refused(options):
    with pytest.raises(ValueError, match="must be positive, and hidden not empty"):
        cost.Config(**options)


def test_networks_in_another_order_and_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="hidden must be in rising order"):
        cost.Config(hidden=(9, 2))
    with pytest.raises(ValueError, match="methods must be of reverse mode"):
        cost.Config(methods=("guessing",))
