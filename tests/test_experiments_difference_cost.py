"""The study of what a gradient by differences costs."""

import builtins

import numpy as np
import pytest

from experiments import difference_cost


@pytest.fixture(scope="module")
def result():
    return difference_cost.run(difference_cost.Config.quick())


def test_every_way_finds_the_gradient(result):
    # Central differences in float64; numdifftools and jacobi choose steps of their own.
    for way in result.measured:
        assert np.all(way.error <= 1e-6), way.name


def test_times_and_memory_are_there_for_every_network(result):
    assert result.weights.tolist() == [64 * 2 + 2 + 2 * 10 + 10, 64 * 4 + 4 + 4 * 10 + 10]
    assert np.all(result.limit > 0)
    for way in result.measured:
        assert way.seconds.shape == (2, 1)
        assert np.all(way.seconds > 0)
        assert way.memory.shape == (2,)
    names = [way.name for way in result.measured]
    assert names[:3] == ["dense", "incremental", "reverse mode"]


def test_figure_and_summary_name_every_way(result):
    labels = difference_cost.plot(result).axes[0].get_legend_handles_labels()[1]
    assert labels == [way.name for way in result.measured] + ["2 P evaluations"]
    rows = difference_cost.summary(result)
    assert len(rows) == 2 * len(result.measured) + len(result.notes)
    assert len({tuple(row) for row in rows}) == 1


def test_peers_that_are_not_installed_are_named_and_left_out(monkeypatch):
    load = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] in ("scipy", "jacobi", "numdifftools"):
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    ways, notes = difference_cost._ways(difference_cost.Config.quick())
    assert list(ways) == ["dense", "incremental", "reverse mode"]
    assert [note.partition(" is not installed")[0] for note in notes] == [
        "SciPy, 3-point",
        "numdifftools, fixed step",
        "jacobi",
    ]


@pytest.mark.parametrize("options", [{"hidden": ()}, {"batch": 0}, {"hidden": (4, 0)}])
def test_bad_config_is_refused(options):
    with pytest.raises(ValueError, match="must be positive, and hidden not empty"):
        difference_cost.Config(**options)


def test_a_single_layer_is_refused():
    with pytest.raises(ValueError, match="layers must be at least 2"):
        difference_cost.Config(layers=1)
