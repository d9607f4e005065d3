"""Computational graphs as figures and animations."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from test_graph import MODELS, lecture
from test_graph_views import touches

import diffcompare as dc
from diffcompare.plot import style


def drawn(graph, **options):
    axes = graph.draw(**options)
    figure = axes.get_figure()
    FigureCanvasAgg(figure).draw()
    return axes, figure.canvas.get_renderer()


@pytest.mark.parametrize("name", ["lecture", "attention", "residual block", "dict of arrays"])
def test_no_text_touches_a_wire_as_it_is_drawn(name):
    fun, args = MODELS[name]
    axes, renderer = drawn(dc.computational_graph(fun)(*args))
    segments = [
        pair
        for line in axes.lines
        for points in [axes.transData.transform(line.get_xydata())]
        for pair in itertools.pairwise(points)
    ]
    texts = [text for text in axes.texts if not text.get_gid().startswith("symbol")]
    assert len(texts) >= 10
    for text in texts:
        box = text.get_window_extent(renderer)
        for start, end in segments:
            assert not touches(start, end, (box.x0, box.y0), (box.width, box.height))


def test_symbols_fit_into_their_outlines():
    fun, args = MODELS["dict of arrays"]
    graph = dc.computational_graph(fun)(*args)
    axes, renderer = drawn(graph)
    from diffcompare.automatic.graph.scene import compose

    boxes = {box.node: box for box in compose(graph).boxes}
    for text in axes.texts:
        role, node = text.get_gid().split()
        if role == "symbol":
            drawn_box = text.get_window_extent(renderer).transformed(axes.transData.inverted())
            assert abs(drawn_box.width) < boxes[int(node)].width


def test_all_texts_lie_within_the_figure():
    fun, args = MODELS["mlp"]
    axes, renderer = drawn(dc.computational_graph(fun)(*args))
    width, height = axes.get_figure().get_size_inches() * axes.get_figure().dpi
    for text in axes.texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height  # noqa: PT018


def test_a_step_shows_what_is_known_by_then():
    """Lecture rows 32 and 33."""
    graph = dc.computational_graph(lecture)(5.0, 1.0, 2.0, 2.0)
    shown = [
        [sum(text.get_gid().startswith(role) for text in graph.draw(step=step).texts)
         for role in ("value", "gradient")]
        for step in (-1, 0, 5, 6, 15)
    ]  # fmt: skip
    assert shown == [[4, 0], [5, 0], [10, 0], [10, 1], [10, 10]]
    with pytest.raises(ValueError, match="step must be from -1 to 15, but it is 16"):
        graph.draw(step=16)


def test_it_is_drawn_on_axes_that_are_given_and_leaves_the_style_alone():
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    graph = dc.computational_graph(jnp.sin)(1.0)
    assert graph.draw(axes) is axes
    assert len(axes.texts) == 7  # two symbols, a name, two values, two gradients


def test_the_same_graph_gives_the_same_bytes():
    fun, args = MODELS["mlp"]
    graph = dc.computational_graph(fun)(*args)
    files = {style.render(graph.draw().get_figure(), "png") for _ in range(2)}
    assert len(files) == 1


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_an_animation_has_a_picture_for_every_step(tmp_path, suffix):
    graph = dc.computational_graph(lambda w, x: w * x)(2.0, 5.0)
    file = tmp_path / f"steps{suffix}"
    graph.animate(file, seconds=0.5, dpi=50)
    with Image.open(file) as image:
        # Before the first, one for each of 4 steps; the last one stays.
        assert image.n_frames >= 1 + len(graph.steps())
        first = np.asarray(image.convert("RGB"))
        image.seek(image.n_frames - 1)
        assert (np.asarray(image.convert("RGB")) != first).any()
    other = tmp_path / f"again{suffix}"
    graph.animate(other, seconds=0.5, dpi=50)
    assert other.read_bytes() == file.read_bytes()


def test_other_files_are_refused(tmp_path):
    graph = dc.computational_graph(jnp.sin)(1.0)
    with pytest.raises(ValueError, match=r"animate writes \.gif, \.png or \.apng files"):
        graph.animate(tmp_path / "steps.mp4")


def test_a_path_is_no_place_to_draw():
    graph = dc.computational_graph(lambda w, x: w * x)(2.0, 5.0)
    with pytest.raises(TypeError, match=r"ax must be axes.*figure\.savefig\(path\)"):
        graph.draw("graph.png")


def test_steps_are_printed_a_line_each():
    steps = dc.computational_graph(lambda w, x: w * x)(2.0, 5.0).steps()
    assert str(steps).splitlines()[0] == "forward   out = w × x = 2 × 5 = 10"
    assert len(str(steps).splitlines()) == len(steps) == 4
