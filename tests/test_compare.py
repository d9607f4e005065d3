"""Every method on one function."""

import dataclasses
import io
import json
import math
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import diffcompare as dc
from diffcompare.comparison import compare, measuring, methods, problem, reference, result, work

EPS = float(jnp.finfo("float64").eps)
NAMES = (
    "forward difference",
    "backward difference",
    "central difference, order 2",
    "central difference, order 4",
    "central difference, order 6",
    "central difference, order 8",
    "Richardson",
    "complex step",
    "symbolic, matrix",
    "symbolic, program",
    "symbolic, expression",
    "forward mode",
    "reverse mode",
)
# What is left of the digits of the values, see `tests/helpers.py`; and how many times that the
# error may be, since a value has an error of its own and steps are no better than a guess.
POWERS = dict(zip(NAMES[:6], (1 / 2, 1 / 2, 2 / 3, 4 / 5, 6 / 7, 8 / 9), strict=True))
SLACK = 100.0


def _key(number):
    return jax.random.key(number)


def mlp(params, x, y):
    hidden = jnp.tanh(x @ params["w1"] + params["b1"][None])
    scores = hidden @ params["w2"] + params["b2"][None]
    return jnp.mean(jnp.square(scores - y)) / 2


def mlp_args():
    params = {
        "w1": jax.random.normal(_key(0), (4, 6)),
        "b1": jnp.zeros(6),
        "w2": jax.random.normal(_key(1), (6, 2)),
        "b2": jnp.zeros(2),
    }
    return params, jax.random.normal(_key(2), (8, 4)), jax.random.normal(_key(3), (8, 2))


def transformer(params, x):
    """One block: attention with two heads, then a layer of units, each after a norm."""
    tokens, width = x.shape

    def norm(x):
        mean = x.mean(-1, keepdims=True)
        return (x - mean) * lax.rsqrt(jnp.var(x, axis=-1, keepdims=True) + 1e-5)

    heads = (norm(x) @ params["qkv"]).reshape(tokens, 3, 2, width // 2)
    query, key, value = heads.transpose(1, 2, 0, 3)
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(width // 2)
    mask = jnp.tril(jnp.ones((tokens, tokens), bool))[None]
    mixed = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)) @ value
    x = x + mixed.transpose(1, 0, 2).reshape(tokens, width) @ params["o"]
    return jnp.mean(jnp.square(x + jax.nn.gelu(norm(x) @ params["u"]) @ params["w"]))


def transformer_args():
    shapes = {"qkv": (4, 12), "o": (4, 4), "u": (4, 8), "w": (8, 4)}
    params = {
        name: jax.random.normal(_key(number), shape) / math.sqrt(shape[0])
        for number, (name, shape) in enumerate(shapes.items())
    }
    return params, jax.random.normal(_key(9), (3, 4))


def square_root(x):
    """Newton's iteration, which for a negative number has no end."""
    return lax.while_loop(lambda s: jnp.abs(s * s - x) > 1e-12, lambda s: (s + x / s) / 2, x)


@jax.custom_vjp
def square(x):
    return x * x


square.defvjp(lambda x: (x * x, x), lambda x, g: (3 * x * g,))


def sum_of_squares(x):
    return jnp.sum(square(jnp.sin(x)))


def sorted_spectrum(x):
    return jnp.sum(jnp.sort(jnp.abs(jnp.fft.rfft(x))) * jnp.arange(3.0))


CASES = {
    "mlp": (mlp, mlp_args),
    "transformer": (transformer, transformer_args),
    "square_root": (square_root, lambda: (jnp.asarray(2.0),)),
    "sum_of_squares": (sum_of_squares, lambda: (jnp.arange(1.0, 4.0),)),
    "sorted_spectrum": (sorted_spectrum, lambda: (jnp.arange(1.0, 6.0) ** 1.5,)),
}
# Under load a formula may not even be found to be too long.
BY_ENTRY = "needs more than 1250 operations|was not done within 10 s|cannot follow a choice"
TOO_LATE = r"would take about \S+ s, and seconds is"
REFUSED = {
    "mlp": {"symbolic, expression": BY_ENTRY},
    "transformer": {
        "symbolic, matrix": "has no rule for the primitive",
        "symbolic, expression": BY_ENTRY,
    },
    "square_root": {
        "symbolic, matrix": "no rule for the primitive 'while'",
        "symbolic, expression": BY_ENTRY,
        "reverse mode": "Reverse-mode differentiation does not work for lax.while_loop",
    },
    "sum_of_squares": {"forward mode": "forward-mode autodiff .jvp. to a custom_vjp function"},
    "sorted_spectrum": {
        "symbolic, matrix": "has no rule for the primitive",
        "symbolic, expression": BY_ENTRY,
    },
}


@pytest.fixture(scope="module")
def compared():
    """Returns a comparison of a case, made once."""
    found = {}

    def of(name):
        if name not in found:
            fun, args = CASES[name]
            found[name] = compare(fun, *args(), repeats=2)
        return found[name]

    return of


@pytest.mark.parametrize("name", CASES)
def test_every_row_is_as_right_as_its_method_can_be_or_says_why_not(compared, name):
    found = compared(name)
    assert tuple(row.name for row in found.rows) == NAMES
    assert found.reference.startswith("50 digits")
    # On a loaded machine a method may be expected to take longer than it may.
    late = {row.name for row in found.rows if re.search(TOO_LATE, row.refused or "")}
    assert {row.name for row in found.rows if row.refused} - late == set(REFUSED[name]) - late
    assert not late & {"reverse mode", "symbolic, program", "central difference, order 2"}
    for row in found.rows:
        if row.name in late:
            continue
        if row.refused:
            assert re.search(REFUSED[name][row.name], row.refused)
            assert row.error is row.cost is row.gradient is None
        elif (name, row.name) != ("sum_of_squares", "reverse mode"):  # of a wrong rule, see below
            allowed = SLACK * EPS ** POWERS.get(row.name, 1.0)
            assert row.error <= (row.bound if row.name == "Richardson" else allowed), row
            assert row.ulps < math.inf


def test_a_wrong_rule_is_an_error_of_what_follows_it(compared):
    found = compared("sum_of_squares")
    reverse = found.rows[-1]
    assert reverse.error == pytest.approx(0.5)  # 3/2 of the gradient
    assert reverse.note.startswith("follows the function's own rule")
    assert not any(row.note for row in found.rows[:-1])
    assert "square: a derivative rule of its own" in found.notes[0]
    assert "by 0.5 of it" in found.notes[0]
    assert reverse.note in str(found)


def test_gradients_are_those_of_grad(compared):
    expected = jax.tree.structure(mlp_args()[0])
    for row in compared("mlp").rows:
        assert row.refused or jax.tree.structure(row.gradient) == expected
    assert compare(lambda x, y: x * y, 2.0, 3.0, argnums=[1], methods=EXACT).rows[0].gradient == (
        2,
    )
    assert compare(lambda x, y: x * y, 2.0, 3.0, argnums=-1, methods=EXACT).rows[0].gradient == 2


COST = result.Cost(1, 1, 1, False, 1.0, (1.0,))
EXACT = [dc.ReverseMode()]
CHEAP = [dc.CentralDifference(), dc.ComplexStep(), dc.ReverseMode()]


def test_what_xla_counts_is_what_xla_counts(compared):
    args = mlp_args()
    cost = compared("mlp").rows[-1].cost
    program = jax.jit(jax.grad(mlp)).lower(*args).compile()
    analysis = program.cost_analysis()
    # Compiled as a program of the same arrays in another order, it is fused a little otherwise.
    assert cost.flops == pytest.approx(analysis["flops"] + analysis["transcendentals"], rel=0.1)
    assert cost.first > cost.median > 0
    assert len(cost.samples) == 2
    assert not cost.has_loops
    assert compared("square_root").rows[0].cost.has_loops


@pytest.mark.parametrize("method", [dc.ForwardDifference(), dc.CentralDifference(order=6)])
def test_evaluations_are_those_of_a_black_box(method):
    calls = []

    def counted(x):
        calls.append(x)
        return np.sum(np.sin(x))

    x = np.linspace(0.5, 1.5, 3)
    dc.grad(dc.black_box(counted), method=method)(x)
    # At x itself it is evaluated three times, to see whether it is deterministic.
    own = 1 if isinstance(method, dc.ForwardDifference) else 0
    moved = [each for each in calls if not np.array_equal(each, x)]
    assert methods.evaluations(method, x.size) == len(moved) + own


def test_all_but_the_seconds_is_the_same_on_every_run():
    def told():
        tree = json.loads(compare(mlp, *mlp_args(), methods=CHEAP, repeats=1).to_json())
        for part in (tree["value"], *tree["rows"]):
            assert part.pop("seconds")["first"] > 0
        return tree

    assert told() == told()


def test_numpy_is_compared_by_what_evaluates_it():
    chosen = [dc.CentralDifference(), dc.ComplexStep(), dc.ReverseMode()]
    x = np.linspace(0.5, 1.5, 3)
    found = compare(lambda x: np.sum(np.sin(x)), x, methods=chosen, reference=np.cos(x))
    central, complex_step, reverse = found.rows
    assert central.error < SLACK * EPS ** (2 / 3)
    assert central.cost.flops is None
    assert "needs a function that JAX can trace" in complex_step.refused
    assert "is a black box" in reverse.refused


def test_without_fifty_digits_the_reference_is_a_bound_and_says_so():
    def opaque(x):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jnp.sum(jax.pure_callback(np.sin, like, x, vmap_method="expand_dims"))

    found = compare(opaque, jnp.linspace(0.5, 1.5, 3), methods=CHEAP, repeats=1)
    assert re.match(
        r"values of the function alone, .*not 50 digits: .*'pure_callback'", found.reference
    )
    assert 0 < found.uncertainty < 1e-9
    assert found.rows[0].error < 1e-9
    assert "pure_callback" in found.rows[1].refused
    assert "Pure callbacks do not support JVP" in found.rows[2].refused


def test_the_bound_of_a_float32_function_is_found_in_float64():
    x = jnp.linspace(0.5, 1.5, 4, dtype=jnp.float32)
    fun = lambda x: jnp.sum(jnp.exp(jnp.sin(x)))
    estimated = compare(fun, x, methods=EXACT, reference="estimate", repeats=1)
    exact = compare(fun, x, methods=EXACT, repeats=1)
    assert "in float64" in estimated.reference
    # Both tell the error of reverse mode, of some units of float32.
    assert estimated.rows[0].error == pytest.approx(exact.rows[0].error, rel=1e-3)
    assert estimated.uncertainty < 1e-3 * exact.rows[0].error


def test_reverse_mode_in_float64_stands_in_where_a_bound_says_little():
    args = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), mlp_args())
    split = problem.problem_of(mlp, args, 0)
    exact = reference.find(split, "exact", seconds=10, value_seconds=0)
    # An estimate of 62 entries would take 62 * 69 s.
    other = reference.find(split, "exact", seconds=1e-4, value_seconds=1)
    assert other.text.startswith("reverse mode in float64, which nothing guarantees (not 50 digits")
    for high, low in zip(exact.high, other.high, strict=True):
        np.testing.assert_allclose(low, high, rtol=1e3 * EPS, atol=10 * EPS)
    nothing = reference.find(
        problem.problem_of(mlp, mlp_args(), 0), "exact", seconds=1e-4, value_seconds=1
    )
    assert nothing.error(None) is None
    assert "no error is known" in nothing.text


def test_what_is_below_the_uncertainty_is_shown_so():
    row = result.Row("a", "A()", error=1e-9, cost=COST)
    found = result.Comparison("f", 1, ("float64",), "cpu", (row,), row.cost, "some", 1e-6)
    assert "< 1.0e-06" in str(found)
    assert "right to 1.0e-06" in str(found)


def test_what_would_take_long_is_not_begun():
    def heavy(x):
        return jnp.sum(lax.scan(lambda c, _: (jnp.sin(c), None), x, None, 200)[0])

    began = time.perf_counter()
    chosen = [dc.CentralDifference(), dc.ComplexStep(), dc.ForwardMode(), dc.Richardson()]
    found = compare(heavy, jnp.linspace(0.0, 1.0, 5000), methods=[*chosen, *EXACT], seconds=1)
    # Compiling is most of it: each method alone would take minutes.
    assert time.perf_counter() - began < 60
    for row in found.rows[:-1]:
        assert re.search(r"would take about \de\d+ s, and seconds is 1", row.refused)
    assert "at 345000 points" in found.rows[3].refused
    assert found.rows[-1].cost is not None
    assert re.search(r"not 50 digits: it would take about \de\d", found.reference)


def test_a_program_for_each_of_many_arrays_is_not_compiled():
    def chain(xs):
        total = jnp.zeros(())
        for x in xs:
            total = jnp.sin(total + x)
        return total

    found = compare(chain, [jnp.ones(())] * 60, methods=[dc.ForwardMode(), *EXACT], seconds=5)
    assert "a program for each of 60 arrays, of 120 equations" in found.rows[0].refused
    assert found.rows[1].error < SLACK * EPS


def test_loops_count_as_often_as_they_run():
    x = jnp.asarray(2.0)
    traced = jax.make_jaxpr(jax.vmap(square_root))(x[None])
    steps, s = 0, 2.0
    while abs(s * s - 2.0) > 1e-12:
        steps, s = steps + 1, (s + 2.0 / s) / 2
    once, more = work.of(traced).operations, work.measured(traced, [x[None]]).operations
    assert once < more <= (steps + 1) * once

    def nested(x):
        inner = lambda c, _: (square_root(c + 1), None)
        return lax.cond(x > 0, lambda x: lax.scan(inner, x, None, 3)[0], lambda x: x, x)

    counted = jax.make_jaxpr(nested)(x)
    assert work.measured(counted, [-x]).operations < 10 < work.measured(counted, [x]).operations
    assert float(work.bounded(counted, 1e4)(x)[0]) == float(nested(x))
    endless = jax.make_jaxpr(lambda x: square_root(x))(x)
    assert math.isnan(work.bounded(endless, 1e3)(-x)[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_errors_are_those_of_exact(dtype):
    x = jnp.asarray([0.5, -3.0, 1e-30, 40.0, 700.0], dtype)
    fun = lambda x: jnp.sum(jnp.exp(x) * jnp.sin(x))
    exact = dc.exact_grad(fun)(x)
    split = problem.problem_of(fun, (x,), 0)
    truth = reference.find(split, "exact", seconds=10, value_seconds=0)
    wrong = jnp.asarray([jnp.nan, 1.0, 1e-30, jnp.inf, -jnp.inf], dtype)
    for computed in (jax.grad(fun)(x), jnp.round(jax.grad(fun)(x)), wrong):
        (leaf,) = exact.error(computed)
        relative, ulps = truth.error((computed,))
        assert relative == pytest.approx(leaf.relative, rel=1e-12)
        assert ulps == pytest.approx(leaf.ulps, rel=1e-12)


def test_errors_of_several_arrays_are_taken_together():
    given = (jnp.array([3.0, 0.0]), jnp.array([4.0]))
    fun = lambda x: jnp.sum(x[0] * given[0]) + x[1][0] * 4
    truth = reference.find(
        problem.problem_of(fun, (given,), 0), (given[0], given[1]), seconds=1, value_seconds=0
    )
    assert truth.error(((jnp.array([3.0, 0.5]), given[1]),)) == (0.1, pytest.approx(math.inf))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"fun": jnp.sin}, TypeError, r"compare needs a function with a scalar output, but sin"),
        ({"x": jnp.arange(2)}, TypeError, "compare needs floating-point arrays"),
        ({"x": []}, ValueError, "needs something to differentiate by"),
        ({"argnums": 1}, ValueError, "compare is to differentiate argument 1"),
        ({"methods": []}, TypeError, "methods must be a list of methods"),
        ({"methods": ["reverse"]}, TypeError, "method must be a method of differentiation"),
        ({"seconds": 0}, ValueError, "seconds must be positive"),
        ({"repeats": 0}, ValueError, "repeats must be a positive integer"),
        ({"reference": "best"}, ValueError, "reference must be 'exact', 'estimate' or a gradient"),
        ({"reference": 1.0}, TypeError, "with the structure and shapes of the argument"),
    ],
)
def test_what_is_wrong_with_a_call_is_told(change, kind, message):
    given = {"fun": lambda x: jnp.sum(x**2), "x": jnp.ones(2), "methods": EXACT, **change}
    fun, x = given.pop("fun"), given.pop("x")
    with pytest.raises(kind, match=message):
        compare(fun, x, **given)


def test_a_traced_argument_is_refused():
    with pytest.raises(TypeError, match="compare needs the numbers themselves"):
        jax.jit(lambda x: compare(jnp.sin, x).rows[0].error)(1.0)


def test_a_function_may_steer_by_another_argument():
    def scaled(x, times, power):
        for _ in range(int(times)):
            x = x**power
        return x

    found = compare(scaled, 1.5, np.int64(2), 3, methods=EXACT, repeats=1)
    assert float(found.rows[0].gradient) == pytest.approx(9 * 1.5**8)


def test_methods_are_named_in_words():
    assert tuple(map(methods.name_of, methods.default(10.0))) == NAMES
    assert methods.name_of(dc.ComplexStep(step=1e-20)) == "complex step, step 1e-20"
    name = "central difference, order 2, evaluation dense"
    assert methods.name_of(dc.CentralDifference(evaluation="dense")) == name


def test_a_table_has_a_line_for_each_method(compared):
    found = compared("square_root")
    lines = str(found).splitlines()
    assert [name for name in NAMES if any(line.startswith(name) for line in lines)] == [*NAMES]
    assert "symbolic, matrix is refused: " in str(found)
    assert lines[0].startswith("square_root: 1 entry, float64, on cpu")
    table = [line for line in found.to_markdown().splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(NAMES)
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    tree = json.loads(found.to_json())
    assert [row["name"] for row in tree["rows"]] == [*NAMES]
    assert tree["rows"][0]["error"] == found.rows[0].error


def test_rich_shows_every_cell(compared):
    rich_console = pytest.importorskip("rich.console")
    console = rich_console.Console(width=160, record=True, file=io.StringIO())
    console.print(compared("mlp"))
    shown = console.export_text()
    assert all(name in shown for name in NAMES)
    assert "evaluations" in shown


def test_numbers_that_are_not_finite_are_strings_in_json():
    row = result.Row("a", "A()", error=math.inf, ulps=math.nan)
    found = result.Comparison("f", 1, (), "cpu", (row,), COST, "", None)
    (told,) = json.loads(found.to_json())["rows"]
    assert (told["error"], told["ulps"]) == ("inf", "nan")


def test_spread_is_the_distance_of_quartiles():
    cost = result.Cost(None, None, None, False, 1.0, (1.0, 2.0, 3.0, 4.0, 100.0))
    assert (cost.median, cost.spread) == (3.0, 2.0)
    assert dataclasses.replace(cost, samples=(5.0,)).spread == 0.0


@pytest.mark.parametrize(
    ("message", "first"),
    [
        ("lax.while_loop is none. Try x.", "lax.while_loop is none"),
        ("one e.g. two. Three", "one e.g. two"),
        ("", "ValueError"),
    ],
)
def test_a_refusal_is_the_first_sentence(message, first):
    assert reference.first_sentence(ValueError(message)) == first


def test_a_figure_has_a_mark_for_each_method_and_all_text_within(compared):
    found = compared("sum_of_squares")
    figure = found.draw()
    left, right = figure.axes
    marks = [line for line in left.lines if line.get_marker() not in ("", "None", None)]
    assert len(marks) == sum(row.cost is not None for row in found.rows)
    for mark, row in zip(marks, (row for row in found.rows if row.cost), strict=True):
        assert mark.get_xdata()[0] == pytest.approx(1e3 * row.cost.median)
        assert mark.get_ydata()[0] == row.error or row.error == 0
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    # Ticks outside of the axes have labels that are not drawn.
    ticks = [label for axes in figure.axes for label in axes.get_xticklabels(which="both")]
    ticks += [label for axes in figure.axes for label in axes.get_yticklabels(which="both")]
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text() and text not in ticks:
            box = text.get_window_extent(renderer)
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= width
            assert box.y1 <= height
            assert text.get_fontsize() >= 7
    assert right.get_xlabel().endswith("(bytes)")


def test_nothing_is_drawn_where_no_error_is_known():
    found = result.Comparison("f", 1, (), "cpu", (), COST, "none", None)
    with pytest.raises(ValueError, match="a figure needs a method with an error, but f has none"):
        found.draw()


def test_expected_seconds_are_told_with_one_digit():
    with pytest.raises(measuring.Refusal, match=r"it would take about 4e2 s, and seconds is 10"):
        measuring.check_time("", 412.0, 10.0)
