"""The study of accuracy against fifty digits."""

import mpmath
import numpy as np
import pytest

from experiments import accuracy


@pytest.fixture(scope="module")
def result():
    return accuracy.run(accuracy.Config(draws=2, points=8, steps=3, dtypes=("float64",)))


def series(panel):
    return {each.method: each for each in panel.series}


def test_symbolic_and_automatic_gradients_are_right_to_a_few_units(result):
    """Lecture rows 27 and 28."""
    for panel in result.panels:
        for name, each in series(panel).items():
            if name != "CentralDifference":
                # The conditions of these problems are about 10; three steps of the logistic map
                # lose two binary digits each.
                assert each.relative < 64 * np.finfo(panel.dtype).eps
                assert np.median(each.ulps) < 64


def test_numerical_gradients_lose_a_third_of_the_digits(result):
    """Lecture row 26."""
    for panel in result.panels:
        found = series(panel)["CentralDifference"]
        eps = np.finfo(panel.dtype).eps
        # The best error of a central difference is of the order of eps^(2/3), for a scale near 1.
        assert eps ** (2 / 3) / 1000 < found.relative < eps ** (2 / 3) * 10_000


def test_the_expression_is_written_where_it_fits(result):
    written = {panel.problem: "Symbolic, expression" in series(panel) for panel in result.panels}
    assert list(written.values()) == [True, False, True]


def test_the_table_shows_the_known_failures(result):
    with mpmath.workdps(50):
        exact = {failure.function: mpmath.mpf(failure.exact) for failure in result.failures}
        assert abs(exact["tanh(x)"] / mpmath.sech(20) ** 2 - 1) < 1e-45
        assert abs(exact["expm1(x)"] / mpmath.exp(-40) - 1) < 1e-45
        assert abs(exact["x / sqrt(1 + x²)"] * (1 + mpmath.mpf(10) ** 16) ** 1.5 - 1) < 1e-45
    automatic = {failure.function: failure.relative["ReverseMode"] for failure in result.failures}
    assert automatic["tanh(x)"] == automatic["sigmoid(x)"] == automatic["x / sqrt(1 + x²)"] == 1
    assert automatic["log(1 + exp(x))"] == automatic["sqrt(x x)"] == np.inf
    assert 1e-6 < automatic["gelu(x)"] < 1e-5
    by_program = {
        failure.function: failure.relative["Symbolic, program"] for failure in result.failures
    }
    # Its derivative is written so that nothing cancels; what is left is the rounding of exp(-40).
    assert by_program["tanh(x)"] < 1e-14
    assert {f.function: f.kinks for f in result.failures}["sqrt(x x)"] == 1


def test_the_figure_is_drawn_and_summarised(result):
    drawing = accuracy.plot(result)
    assert len(drawing.axes) == len(result.panels) + 1
    rows = accuracy.summary(result)
    assert len(rows) == sum(len(panel.series) for panel in result.panels)


def test_the_smallest_config_draws_every_problem():
    result = accuracy.run(accuracy.Config.quick())
    assert len(result.panels) == 3
    assert accuracy.plot(result).axes


def test_a_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="must be positive"):
        accuracy.Config(draws=0)
