"""A computational graph as text, in the languages of other programs, and as shapes."""

import itertools
import json
import re
import sys
import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_graph import MODELS, lecture, sigmoid

import diffcompare as dc
from diffcompare.automatic.graph import layout, scene, svg

SIGMOID = (-3.0, 2.0, -1.0, -3.0, -2.0)


def wide(x, *weights):
    """A function whose graph has wires that could cross."""
    sums = [w * x for w in weights]
    return sum(a * b for a in sums for b in reversed(sums)) * weights[0]


GRAPHS = {
    **MODELS,
    "sigmoid": (sigmoid, SIGMOID),
    "wide": (wide, (2.0, 1.0, 3.0, 4.0)),
}
each_graph = pytest.mark.parametrize(("fun", "args"), GRAPHS.values(), ids=GRAPHS)


def test_table_of_the_scalar_example_is_that_of_the_lecture():
    """Lecture rows 31 and 33."""
    names = {"mul": "f", "relu": "g", "out": "L"}
    graph = dc.computational_graph(lecture, names)(5.0, 1.0, 2.0, 2.0)
    cells = [[cell.strip() for cell in line.split("|")][1:-1]
             for line in graph.table("markdown").splitlines()[2:]]  # fmt: skip
    assert cells == [
        # node, operation, value, upstream, gradient, local derivatives, passes on
        ["L *", "× 0.5", "32", "1", "1", "pow: 0.5", "pow: 0.5"],
        ["pow", "x²", "64", "0.5", "0.5", "sub: 16", "sub: 8"],
        ["sub", "-", "8", "8", "8", "y_hat: 1; y: -1", "y_hat: 8; y: -8"],
        ["y_hat", "×", "10", "8", "8", "w2: 5; g: 2", "w2: 40; g: 16"],
        ["g", "relu", "5", "16", "16", "f: 1", "f: 16"],
        ["f", "×", "5", "16", "16", "w1: 5; x: 1", "w1: 80; x: 16"],
        ["y", "argument", "2", "-8", "-8", "", ""],
        ["w2", "argument", "2", "40", "40", "", ""],
        ["w1", "argument", "1", "80", "80", "", ""],
        ["x", "argument", "5", "16", "16", "", ""],
    ]


def test_table_of_the_sigmoid_example_is_that_of_the_lecture():
    """Lecture row 41."""
    rows = dc.computational_graph(sigmoid)(*SIGMOID).rows()
    found = [(row["operation"], row["value"], row["gradient"]) for row in rows[:8]]
    assert found == [
        ("1/x", "0.731059", "1"),
        ("+ 1", "1.36788", "-0.534447"),
        ("eˣ", "0.367879", "-0.534447"),
        ("×-1", "-1", "-0.196612"),
        ("+", "1", "0.196612"),
        ("+", "4", "0.196612"),
        ("×", "6", "0.196612"),
        ("×", "-2", "0.196612"),
    ]


def test_steps_go_forward_node_by_node_then_backward():
    """Lecture rows 32 and 33."""
    graph = dc.computational_graph(lecture, {"mul": "f", "relu": "g", "out": "L"})(
        5.0, 1.0, 2.0, 2.0
    )
    steps = graph.steps()
    assert [step.direction for step in steps] == ["forward"] * 6 + ["backward"] * 10
    texts = [step.text for step in steps]
    assert texts[0] == "f = w1 × x = 1 × 5 = 5"
    assert texts[5] == "L = pow × 0.5 = 64 × 0.5 = 32"
    assert "dL/dw2 = dL/dy_hat · ∂y_hat/∂w2 = 8 · 5 = 40" in texts
    assert "dL/dw1 = dL/df · ∂f/∂w1 = 16 · 5 = 80" in texts


def test_a_step_back_to_a_value_used_twice_is_a_sum():
    graph = dc.computational_graph(lambda x: jnp.sin(x) * x)(0.0)
    text = graph.steps()[-1].text
    assert text == "dout/dx = dout/dsin · ∂sin/∂x + dout/dout · ∂out/∂x = 0 · 1 + 1 · 0 = 0"


def test_large_arrays_are_summarised():
    graph = dc.computational_graph(lambda x: jnp.sum(x))(jnp.arange(12.0).reshape(3, 4))
    row = graph.rows()[-1]
    assert row["value"] == "(3, 4) mean 5.5, 0 to 11"
    assert row["gradient"] == "(3, 4) all 1"


def test_dot_has_every_node_and_wire_and_boxes_as_clusters():
    fun, args = MODELS["scan"]
    graph = dc.computational_graph(fun, depth=1)(*args)
    text = graph.to_dot()
    assert len(re.findall(r"^ *n\d+ \[label=<", text, re.M)) == len(graph.nodes)
    assert len(re.findall(r"n\d+ -> n\d+ \[style", text)) == len(graph.wires)
    assert text.count("{") == text.count("}")
    assert 'label="scan"' in text


def test_mermaid_has_every_node_and_wire_and_escapes_what_means_something_to_it():
    fun, args = MODELS["dict of arrays"]
    graph = dc.computational_graph(fun)(*args)
    text = graph.to_mermaid()
    assert text.startswith("flowchart LR\n")
    assert len(re.findall(r"^ *n\d+[\[(]\"", text, re.M)) == len(graph.nodes)
    assert len(re.findall(r"n\d+ -[-.].*> n\d+$", text, re.M)) == len(graph.wires)
    assert "model#91;#39;b#39;#93;" in text
    for label in re.findall(r"n\d+[\[(]\"(.*)\"[\])]$", text, re.M):
        plain = re.sub(r"</?(span|b)[^>]*>|<br/>|#\d+;", "", label)
        assert not set("\"'<>[](){}|`") & set(plain)


def test_json_holds_the_numbers_and_is_the_same_on_every_run():
    fun, args = MODELS["lecture"]
    texts = {dc.computational_graph(fun)(*args).to_json() for _ in range(2)}
    assert len(texts) == 1
    tree = json.loads(texts.pop())
    gradients = {node["name"]: node["gradient"] for node in tree["nodes"]}
    assert (gradients["w1"], gradients["w2"]) == (80.0, 40.0)
    assert tree["wires"][0]["local"]["value"] == 5.0


@each_graph
def test_svg_is_well_formed_and_the_same_on_every_run(fun, args):
    graph_of = dc.computational_graph(fun)
    text = graph_of(*args).to_svg()
    assert text == dc.computational_graph(fun)(*args).to_svg()
    root = ET.fromstring(text)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len(words) >= len(graph_of(*args).nodes)
    html = graph_of(*args)._repr_html_()
    assert html.count("<tr>") == len(graph_of(*args).nodes) + 1


def test_pictures_within_svg_are_files_that_others_read():
    from io import BytesIO

    from PIL import Image

    colours = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(svg._png(colours)))), colours)


def rectangles(shapes):
    """Yields what no wire may touch: texts beside the wires, heat maps."""
    for text in shapes.texts:
        if text.role in ("value", "gradient", "name"):
            width = scene.shapes.text_width(text.text, text.role)
            height = scene.shapes.SIZES[text.role]
            yield text.node, (text.x - width / 2, text.y - height / 2), (width, height)
    for heat in shapes.heats:
        corner = (heat.x - heat.width / 2, heat.y - heat.height / 2)
        yield heat.node, corner, (heat.width, heat.height)


def touches(start, end, corner, size):
    """Returns whether a segment meets a rectangle, by clipping it to each side in turn."""
    low, high = 0.0, 1.0
    for a, b, first, length in zip(start, end, corner, size, strict=True):
        if a == b:
            if not first < a < first + length:
                return False
            continue
        enters, leaves = sorted(((first - a) / (b - a), (first + length - a) / (b - a)))
        low, high = max(low, enters), min(high, leaves)
    return low < high


def labels_on_wires(shapes):
    segments = [pair for path in shapes.paths for pair in itertools.pairwise(path.points)]
    return [
        (node, segment)
        for node, corner, size in rectangles(shapes)
        for segment in segments
        if touches(*segment, corner, size)
    ]


@each_graph
def test_no_label_stands_on_a_wire_and_no_outline_on_another(fun, args):
    shapes = scene.compose(dc.computational_graph(fun, depth=9)(*args))
    assert labels_on_wires(shapes) == []
    for a, b in itertools.combinations(shapes.boxes, 2):
        apart_x = abs(a.x - b.x) >= (a.width + b.width) / 2
        assert apart_x or abs(a.y - b.y) >= (a.height + b.height) / 2


@each_graph
def test_no_exchange_of_neighbours_removes_a_crossing(fun, args):
    graph = dc.computational_graph(fun, depth=9)(*args)
    cells = [layout.Cell(1.0, 1.0)] * len(graph.nodes)
    wires = [(wire.source, wire.target) for wire in graph.wires]
    leaves = [node.index for node in graph.nodes if node.kind != "operation"]
    found = layout.lay_out(cells, wires, leaves, 0.5)
    segments = layout._segments(found.routes)
    fewest = layout.crossings(found.columns, segments)
    for number, units in enumerate(found.columns):
        for i in range(len(units) - 1):
            exchanged = [*units[:i], units[i + 1], units[i], *units[i + 2 :]]
            columns = [*found.columns[:number], exchanged, *found.columns[number + 1 :]]
            assert layout.crossings(columns, segments) >= fewest


def test_a_tree_has_no_crossing_and_a_chain_is_straight():
    shapes = scene.compose(dc.computational_graph(sigmoid)(*SIGMOID))
    (last,) = {box.y for box in shapes.boxes if box.x > shapes.boxes[8].x}
    assert last == shapes.boxes[8].y
    wires = [(0, 4), (3, 4), (1, 5), (2, 5), (4, 6), (5, 6)]
    found = layout.lay_out([layout.Cell(1, 1)] * 7, wires, [0, 1, 2, 3], 0.5)
    assert layout.crossings(found.columns, layout._segments(found.routes)) == 0


def test_values_stand_above_and_gradients_below_their_wires():
    shapes = scene.compose(dc.computational_graph(lecture)(5.0, 1.0, 2.0, 2.0))
    middles = {box.node: box.y for box in shapes.boxes}
    for text in shapes.texts:
        if text.role == "value":
            assert text.y < middles[text.node]
        if text.role == "gradient":
            assert text.y > middles[text.node]


def test_sixty_nodes_are_laid_out_in_time():
    fun = lambda x, w: jnp.sum(sum(jnp.tanh(x * w[i]) * w[(3 * i) % 12] for i in range(12)))
    graph = dc.computational_graph(fun)(jnp.ones(3), list(jnp.linspace(0, 1, 12)))
    assert 50 <= len(graph.nodes) <= 75
    assert labels_on_wires(scene.compose(graph)) == []


def test_heat_maps_grow_lighter_and_leave_what_is_not_a_number_white():
    colours = scene.shapes._colours(np.array([[-2.0, 0.0], [np.nan, 2.0]]))
    lightness = colours.astype(float) @ [0.299, 0.587, 0.114]
    assert lightness[0, 0] < lightness[0, 1] < lightness[1, 1] < lightness[1, 0] == 255
    assert scene.shapes._colours(np.ones((100, 3, 50))).shape == (24, 24, 3)


def test_dot_places_nodes_where_no_label_stands_on_a_wire():
    pytest.importorskip("pygraphviz")
    graph = dc.computational_graph(lecture)(5.0, 1.0, 2.0, 2.0)
    shapes = scene.compose(graph, "dot")
    assert labels_on_wires(shapes) == []
    assert len(shapes.boxes) == len(graph.nodes)


def test_without_pygraphviz_the_engine_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    graph = dc.computational_graph(jnp.sin)(1.0)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'diffcompare\[graphviz\]'"):
        graph.to_svg(engine="dot")
    with pytest.raises(ValueError, match="engine must be 'layers' or 'dot'"):
        graph.to_svg(engine="neato")


def test_arrays_that_are_empty_or_a_single_entry_are_shown():
    fun = lambda x, y: jnp.sum(x) + jnp.sum(y)
    graph = dc.computational_graph(fun)(jnp.zeros((0, 3)), jnp.asarray([[2.5]]))
    assert "[[2.5]]" in graph.table()
    assert graph.to_svg()
    assert jax.tree.leaves(json.loads(graph.to_json())["nodes"][0]["value"]) == []
