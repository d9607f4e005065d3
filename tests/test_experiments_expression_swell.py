"""The swell of formulas."""

import numpy as np
import pytest

from experiments import expression_swell


@pytest.fixture(scope="module")
def result():
    # The widest network is beyond the budget whatever the machine, by its operations.
    config = expression_swell.Config(steps=8, widths=(1, 2, 32), depths=(1, 2))
    return expression_swell.run(config)


def test_the_logistic_map_has_the_published_numbers_of_operations(result):
    """Lecture row 27."""
    found = {row.size: (row.function, row.naive, row.program) for row in result.logistic}
    assert found == expression_swell.PUBLISHED


def test_programs_and_matrices_do_not_grow_with_the_width_and_formulas_do(result):
    small, larger, wide = result.widths
    assert small.program == larger.program == wide.program
    assert small.matrix == larger.matrix == wide.matrix
    assert larger.naive > 10 * small.naive
    assert wide.naive == expression_swell.STOPPED
    assert wide.weights == 2048


def test_a_program_grows_by_the_same_number_for_each_step(result):
    assert set(np.diff([row.program for row in result.logistic]).tolist()) == {7}


def test_every_route_has_the_gradient_of_jax(result):
    # The logistic map is chaotic: each of its steps magnifies a rounding by at most 4.
    eps = np.finfo(np.float64).eps
    for row in result.logistic:
        assert row.error <= 4**row.size * eps
    for row in [*result.widths, *result.depths]:
        assert row.error <= 64 * eps


def test_what_is_stopped_is_shown_as_stopped(result):
    rows = expression_swell.summary(result)
    assert [row["derivatives"] for row in rows if row["function"] == "width 32"] == ["stopped"]
    drawing = expression_swell.plot(result)
    assert drawing.axes[1].get_legend_handles_labels()[1][-1] == "stopped at the budget"


@pytest.mark.parametrize("options", [{"steps": 9}, {"widths": (0,)}, {"operations": 0}])
def test_bad_config_is_refused(options):
    with pytest.raises(ValueError, match="steps must be from 2 to 8"):
        expression_swell.Config(**options)
