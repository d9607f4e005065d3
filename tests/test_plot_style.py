"""Figures look the same everywhere, and are the same bytes on every run."""

import subprocess
import sys

import matplotlib
import pytest
from matplotlib.text import Text

import diffcompare
from diffcompare.method import Method
from diffcompare.plot import style


def names_of_methods():
    found = (
        value
        for name in dir(diffcompare)
        if not name.startswith("_")
        for value in [getattr(diffcompare, name)]
    )
    return sorted(
        v.__name__
        for v in found
        if isinstance(v, type) and issubclass(v, Method) and v is not Method
    )


def drawn():
    with style.context():
        drawing, axes = style.figure()
        axes.plot([1, 2, 3], [1, 4, 9], **style.series(0, label="squares"))
        axes.set_xlabel("x")
        axes.legend()
    return drawing


def test_every_exported_method_has_a_look_of_its_own():
    names = names_of_methods()
    assert "ReverseMode" in names
    looks = [str(style.method(name)) for name in names]
    assert len(set(looks)) == len(looks)


def test_a_series_is_told_apart_without_its_colour():
    # As many as there are colours, then as many again with another line each.
    count = len(style.COLOURS)
    for key in ("linestyle", "marker"):
        assert len({str(style.series(i)[key]) for i in range(count)}) == count
    looks = {str(style.series(i)) for i in range(2 * count)}
    assert len(looks) == 2 * count


def test_an_unknown_method_is_named_in_the_error():
    with pytest.raises(ValueError, match=r"but got 'Guess'.*CentralDifference.*style\.series"):
        style.method("Guess")


def test_no_text_is_smaller_than_eight_points():
    with style.context():
        drawing, axes = style.figure()
        axes.plot([0, 1], [0, 1], label="a line")
        axes.set(title="title", xlabel="x", ylabel="y")
        axes.legend(title="legend")
        axes.annotate("note", (0, 0))
        drawing.suptitle("all")
        drawing.draw_without_rendering()  # it makes the labels of the ticks
        sizes = {text.get_text(): text.get_fontsize() for text in drawing.findobj(Text)}
    assert {"title", "x", "legend", "a line", "note", "all", "0.4"} <= set(sizes)
    assert min(sizes.values()) >= 8


def test_the_settings_of_the_user_neither_matter_nor_change():
    plain = style.render(drawn(), "svg")
    with matplotlib.rc_context({"lines.linewidth": 9.0, "font.size": 30}):
        assert style.render(drawn(), "svg") == plain
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_figure_is_the_same_bytes_in_another_process(kind):
    code = f"import sys; sys.path.insert(0, {str(__file__.rpartition('/')[0])!r})\n"
    code += "import test_plot_style as here\n"
    code += f"sys.stdout.buffer.write(here.style.render(here.drawn(), {kind!r}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ran.stdout == style.render(drawn(), kind)


def test_a_diverging_scale_is_centred_at_zero_whatever_is_not_finite():
    assert style.image_limits([1.0, -4.0, float("nan"), float("inf")]) == (-4.0, 4.0)
    assert style.image_limits([]) == (0.0, 0.0)
