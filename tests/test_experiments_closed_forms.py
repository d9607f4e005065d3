"""The formulas of the lecture's networks, as the experiment derives and typesets them."""

import re

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from diffcompare.plot import style
from experiments import closed_forms


@pytest.fixture(scope="module")
def result():
    return closed_forms.run(closed_forms.Config.quick())


def test_the_closed_forms_are_those_of_the_lecture(result):
    """Lecture row 25."""
    two = next(case for case in result.cases if case.layers == 2)
    assert [line.text for line in two.formulas] == [
        "dL/dW1 = (W2^T (W2 sigma(W1 x) - y) o sigma'(W1 x)) x^T",
        "dL/dW2 = (W2 sigma(W1 x) - y) sigma(W1 x)^T",
    ]


def test_formulas_equal_automatic_differentiation(result):
    """Lecture row 27."""
    for case in result.cases:
        # The same products, summed in another order at most.
        assert case.error < 1e-14
        assert case.value_error < 1e-14


def test_the_steps_are_the_graph_and_its_local_derivatives(result):
    """Lecture rows 22, 29 and 30."""
    for case in result.cases:
        lines = [line.text for line in case.steps]
        last = case.layers
        error = {"half squared error": f"z{last} - y"}.get(case.loss, f"softmax(z{last}) - y")
        assert f"delta{last} = {error}" in lines
        assert "delta1 = W2^T delta2 o sigma'(z1)" in lines
        assert "dL/dW1 = delta1 x^T" in lines
        assert f"dL/dW{last} = delta{last} a{last - 1}^T" in lines


def test_only_the_cross_entropy_relies_on_its_target(result):
    for case in result.cases:
        expected = [] if case.loss == "half squared error" else ["1^T y = 1"]
        assert [line.text for line in case.assumptions] == expected


def test_nodes_do_not_grow_with_width_and_grow_in_proportion_to_depth(result):
    assert len(set(result.by_width.operations)) == 1
    layers, nodes = result.by_depth.sizes, result.by_depth.operations
    assert len(set(np.diff(nodes) / np.diff(layers))) == 1
    assert np.all(np.diff(result.by_depth.formula_characters) > np.diff(layers))


def test_every_formula_is_drawn_whole(result):
    with style.context():
        drawing = closed_forms.plot(result)
        renderer = FigureCanvasAgg(drawing).get_renderer()
        drawing.draw_without_rendering()
        page = drawing.bbox
        formulas = [
            text for panel in drawing.findobj(Axes) if not panel.axison for text in panel.texts
        ]
        extents = [(text, text.get_window_extent(renderer)) for text in formulas]
    count = sum(len(case.formulas) + len(case.steps) for case in result.cases)
    assert len(formulas) >= count
    for text, extent in extents:
        assert page.x0 <= extent.x0 < extent.x1 <= page.x1, text
        assert page.y0 <= extent.y0 < extent.y1 <= page.y1, text
    for number, (text, extent) in enumerate(extents):
        for other, below in extents[number + 1 :]:
            if text.axes is other.axes:
                assert not extent.overlaps(below), (text, other)


def test_the_summary_is_markdown_with_every_formula(result):
    text = closed_forms.summary(result)
    assert text.count("## ") == len(result.cases)
    assert text.count("```math") == len(re.findall(r"\n```(?:\n|$)", text))
    for case in result.cases:
        for line in case.formulas:
            assert line.latex in text
    assert text.count(r"\begin{aligned}") == len(result.cases)


def test_a_config_of_no_network_is_refused():
    with pytest.raises(ValueError, match="width, widths and depths"):
        closed_forms.Config(width=1)
