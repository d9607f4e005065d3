"""The study of checkers of gradients."""

import numpy as np
import pytest

from diffcompare.plot import style
from experiments import gradient_checking
from experiments.gradient_checking import ACCUSED, PASSED, UNDECIDED


@pytest.fixture(scope="module")
def result():
    return gradient_checking.run(gradient_checking.Config.quick())


def test_our_checker_passes_what_is_right_and_names_what_is_wrong(result):
    right, wrong = result.said[result.checkers.index(gradient_checking.OURS), 0, :, 0]
    assert (right, wrong) == (PASSED, ACCUSED)
    assert np.all(result.named)


def test_a_fixed_step_in_single_precision_accuses_what_is_right(result):
    # The rounding errors of values, eps / 2 of 1, over a step of 1e-5: 0.6 % of slopes of 1 each.
    right, _ = result.said[result.checkers.index(gradient_checking.TEXTBOOK), 0, :, 0]
    assert right == ACCUSED


def test_what_is_undecided_is_not_accused(result):
    said = np.full_like(result.said, UNDECIDED)
    assert not np.any(gradient_checking.accused(result._replace(said=said)))


def test_a_mistake_that_is_rounded_away_is_none():
    config = gradient_checking.Config(
        models=1, dtypes=("bfloat16",), mistakes=("leaf, 0.1 %",), others=False
    )
    found = gradient_checking.run(config)
    assert np.isnan(gradient_checking.accused(found)[0, 0, 1])


def test_a_mistake_of_the_size_of_rounding_is_not_visible(result):
    # 1 % is more than 4 eps of float32, and less than those of bfloat16, 3 %.
    assert np.all(gradient_checking.visible(result))
    assert not np.any(gradient_checking.visible(result._replace(dtypes=("bfloat16",))))


def test_the_figure_shows_every_checker(result):
    with style.context():
        drawing = gradient_checking.plot(result)
        assert len(drawing.axes) == len(result.checkers)
        assert style.render(drawing, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"models": 0}, "models must be positive"), ({"dtypes": ("int8",)}, "dtypes may be of")],
)
def test_options_are_what_they_have_to_be(options, message):
    with pytest.raises(ValueError, match=message):
        gradient_checking.Config(**options)
