"""A derivation is right in each of its forms: function, formula, steps and code."""

import itertools
import re
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sympy

import diffcompare as dc
from diffcompare.symbolic import names as naming

EPS = np.finfo(np.float64).eps
ROUTES = ("matrix", "program", "expression")
MATRIX = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)))
WEIGHTS = jnp.arange(1.0, 7.0).reshape(2, 3)


def half_squared_error(params, x, y):
    for weight, bias in params[:-1]:
        x = jnp.tanh(weight @ x + bias)
    weight, bias = params[-1]
    return jnp.sum((weight @ x + bias - y) ** 2) / 2


def network(sizes=(2, 3, 2), seed=1):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))
    layers = [(draw(m, n), draw(m)) for n, m in itertools.pairwise(sizes)]
    return layers, draw(sizes[0]), draw(sizes[-1])


def scan(x):
    step = lambda state, row: (jnp.tanh(state + row), state * row)
    last, rows = jax.lax.scan(step, jnp.zeros(3), x)
    return jnp.sum(last) + jnp.sum(rows * WEIGHTS)


FUNCTIONS = {
    "sum of squares": lambda x: jnp.sum(x**2) / 2,
    "pointwise": lambda x: jnp.sum(jnp.sin(x) * jnp.exp(-x) / (1 + x**2) ** 1.5),
    "outer product": lambda x: jnp.sum(jnp.outer(x[0], x[1]) ** 2),
    "softmax": lambda x: jnp.sum(jax.nn.softmax(x) * WEIGHTS),
    "variance": lambda x: jnp.sum(jnp.var(x, 1)),
    "largest": lambda x: jnp.sum(jnp.max(x, 1) ** 2),
    "where": lambda x: jnp.sum(jnp.where(x > 0, x**2, 3 * x)),
    "clip": lambda x: jnp.sum(jnp.clip(x, -0.5, 0.5) * WEIGHTS),
    "rows by number": lambda x: jnp.sum(x[jnp.asarray([1, 0, 1])] ** 2),
    "added to rows": lambda x: jnp.sum(x.at[jnp.asarray([0, 0])].add(x**2) * WEIGHTS),
    "slices": lambda x: jnp.sum(jnp.concatenate([x[:, 1:], x[:, ::2]], 1) ** 3),
    "cumulative": lambda x: jnp.sum(jnp.cumsum(x, 1) ** 2),
    "sort": lambda x: jnp.sum(jnp.sort(x, 1) * WEIGHTS),
    "argmax": lambda x: x[0, jnp.argmax(x[0])] ** 2,
    "scan": scan,
    "branch": lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sum, lambda x: jnp.sum(x**2), x),
    "lattice": lambda x: jnp.sum(jnp.abs(x) + jax.nn.relu(x) + jax.nn.sigmoid(x)),
}


def from_source(derivation, leaves):
    """Returns the gradients that the code of a derivation gives when it is pasted."""
    scope: dict = {}
    exec(derivation.source(), scope)
    function = scope["value_and_grad"]
    code = function.__code__
    free = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return function(*leaves, **dict(zip(free, derivation.constants, strict=True)))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("route", ["program", "expression"])
def test_function_and_code_give_the_gradient_of_jax(name, route):
    fun = FUNCTIONS[name]
    value, truth = jax.value_and_grad(fun)(MATRIX)
    derivation = dc.derive(fun, MATRIX, route=route, names="x")
    # Each entry is the result of some ten operations on numbers of order 1.
    close = lambda found, truth: np.testing.assert_allclose(found, truth, rtol=1e-13, atol=1e-13)
    close(derivation.function(MATRIX), truth)
    found, (gradient,) = from_source(derivation, [MATRIX])
    close(found, value)
    close(gradient, truth)
    assert (gradient.shape, gradient.dtype) == (truth.shape, truth.dtype)
    for written in (derivation.latex(), derivation.text(), derivation.steps().latex()):
        assert written
    assert derivation.operations > 0


@pytest.mark.parametrize("route", ROUTES)
def test_a_network_is_derived_in_every_route(route):
    params, x, y = network()
    derivation = dc.derive(half_squared_error, params, x, y, route=route)
    assert derivation.names == ("W1", "b1", "W2", "b2")
    truth = jax.grad(half_squared_error)(params, x, y)
    found = derivation.function(params, x, y)
    assert jax.tree.structure(found) == jax.tree.structure(truth)
    _, pasted = from_source(derivation, jax.tree.leaves((params, x, y)))
    for leaves in (jax.tree.leaves(found), pasted):
        for leaf, expected in zip(leaves, jax.tree.leaves(truth), strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=64 * EPS, atol=8 * EPS)


@pytest.mark.parametrize("route", ROUTES)
def test_the_gradient_compiles_maps_and_differentiates(route):
    fun = lambda w, x: jnp.sum(jnp.tanh(w * x) ** 2)
    w, x = jnp.asarray([0.5, -1.0]), jnp.asarray([1.0, 2.0])
    derivation = dc.derive(fun, w, x, route=route, argnums=(0, 1))
    truth = jax.grad(fun, (0, 1))
    rows = jnp.stack([w, 2 * w])
    cases = [
        (jax.jit(derivation.function)(w, x), truth(w, x)),
        (jax.vmap(derivation.function, (0, None))(rows, x), jax.vmap(truth, (0, None))(rows, x)),
        (jax.jacobian(derivation.function)(w, x), jax.jacobian(truth)(w, x)),
        (derivation.value_and_grad(w, x)[0], fun(w, x)),
    ]
    for found, expected in cases:
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=64 * EPS, atol=8 * EPS)


def test_auto_takes_the_matrix_route_where_it_fits_and_says_why_not():
    params, x, y = network()
    assert dc.derive(half_squared_error, params, x, y).route == "matrix"
    other = dc.derive(FUNCTIONS["sort"], MATRIX, names="x")
    assert other.route == "program"
    assert "'matrix' does not fit" in other.why
    assert "route 'program' ('matrix' does not fit" in repr(other)


def test_shapes_are_enough_unless_a_choice_depends_on_values():
    shape = jax.ShapeDtypeStruct((2, 3), float)
    for route in ROUTES:
        derivation = dc.derive(FUNCTIONS["sum of squares"], shape, route=route)
        assert derivation.function(MATRIX).tolist() == MATRIX.tolist()
    with pytest.raises(NotImplementedError, match=r"cannot follow a choice.*not known"):
        dc.derive(FUNCTIONS["branch"], shape, route="expression")


# Choices that depend on values.


def test_choices_are_made_at_the_known_arguments_and_kept_as_conditions():
    fun = lambda x: jax.lax.cond(x[0] > x[1], lambda x: x[0] ** 2, lambda x: x[1] ** 3, x)
    x = jnp.asarray([1.0, 2.0])
    derivation = dc.derive(fun, x, route="expression")
    assert derivation.text() == "dL/dx = [0, 3*x[1]**2]"
    assert len(derivation.conditions) == 1
    assert "x[0]" in derivation.conditions[0]
    assert derivation.function(x).tolist() == [0.0, 12.0]
    assert derivation.function(2 * x).tolist() == [0.0, 48.0]
    with pytest.raises(ValueError, match=r"This was derived where .*does not hold"):
        derivation.function(x[::-1])
    assert np.isnan(jax.jit(derivation.function)(x[::-1])).all()
    assert jax.jit(derivation.function)(x).tolist() == [0.0, 12.0]


def test_a_loop_is_followed_at_known_arguments():
    fun = lambda x: jax.lax.while_loop(lambda v: v < 10, lambda v: v * v, x)
    derivation = dc.derive(fun, 2.0, route="expression")
    assert derivation.text() == "dL/dx = 4*x**3"
    assert len(derivation.conditions) == 3
    assert float(derivation.function(2.0)) == 32.0


# Kinks.

KINKS = {
    "relu": (jax.nn.relu, 0.0),
    "maximum with 0": (lambda x: jnp.maximum(x, 0), 0.0),
    "0 with maximum": (lambda x: jnp.maximum(0, x), 0.0),
    "minimum with 0": (lambda x: jnp.minimum(x, 0), 0.0),
    "maximum of two": (lambda x: jnp.maximum(x, 3 * x), 0.0),
    "where >": (lambda x: jnp.where(x > 0, x, 0), 0.0),
    "where >=": (lambda x: jnp.where(x >= 0, x, 0), 0.0),
    "abs": (jnp.abs, 0.0),
    "sign": (jnp.sign, 0.0),
    "leaky relu": (jax.nn.leaky_relu, 0.0),
    "elu": (jax.nn.elu, 0.0),
    "relu6 at 0": (jax.nn.relu6, 0.0),
    "relu6 at 6": (jax.nn.relu6, 6.0),
    "clip below": (lambda x: jnp.clip(x, 0, 1), 0.0),
    "clip above": (lambda x: jnp.clip(x, 0, 1), 1.0),
    "largest of three": (lambda x: jnp.sum(jnp.asarray([1.0, 2, 4]) @ jnp.stack([x, x, x])), 1.0),
    "max of three": (jnp.max, (1.0, 1.0, 1.0)),
    "min of three": (jnp.min, (1.0, 2.0, 1.0)),
    "sort of a tie": (lambda x: jnp.sort(x) @ jnp.asarray([1.0, 2.0]), (1.0, 1.0)),
    "hard tanh": (jax.nn.hard_tanh, 1.0),
    "floor": (lambda x: x * jnp.floor(x), 2.0),
}
# The matrix route has no sort; see the routes that a function fits in.
TEXTBOOK = {"relu": 1.0, "relu6 at 0": 1.0, "maximum with 0": 1.0, "0 with maximum": 1.0}


@pytest.mark.parametrize("name", KINKS)
def test_at_a_kink_every_route_says_what_jax_says(name):
    fun, point = KINKS[name]
    x = jnp.asarray(point)
    truth = jax.grad(fun)(x)
    fitting = 0
    for route in ROUTES:
        try:
            derivation = dc.derive(fun, x, route=route, names="x")
        except NotImplementedError:
            assert route == "matrix"
            continue
        fitting += 1
        assert derivation.function(x).tolist() == truth.tolist(), route
    assert fitting >= 2


@pytest.mark.parametrize("name", TEXTBOOK)
def test_at_the_kink_of_relu_the_lecture_says_1(name):
    """Lecture row 30."""
    fun, point = KINKS[name]
    for route in ROUTES:
        derivation = dc.derive(
            fun, jnp.asarray(point), route=route, convention=dc.Convention.lecture()
        )
        assert float(derivation.function(jnp.asarray(point))) == 1.0


# Names.

STRANGE = ("v_1", "z_1", "lambda", "E", "I", "x y", "θ", "d_v1", "jnp", "pi", "s1", "L")


@pytest.mark.parametrize("route", ["program", "expression"])
def test_no_name_of_a_user_collides(route):
    rng = np.random.default_rng(0)
    args = [jnp.asarray(value) for value in rng.uniform(1, 2, len(STRANGE))]

    def fun(*xs):
        total = jnp.zeros(())
        for x in xs:
            total = jnp.sin(total * x + x) + x
        return total

    derivation = dc.derive(fun, *args, names=STRANGE, argnums=range(len(args)), route=route)
    assert derivation.names == STRANGE
    truth = jax.grad(fun, tuple(range(len(args))))(*args)
    np.testing.assert_allclose(derivation.function(*args), truth, rtol=256 * EPS)
    _, pasted = from_source(derivation, args)
    np.testing.assert_allclose(pasted, truth, rtol=256 * EPS)
    for name in STRANGE:
        assert derivation.latex(name)
        assert derivation.text(name)


def test_names_come_from_the_signature_and_the_path():
    def loss(params, x, *rest):
        return 0.0

    pairs = [(jnp.ones((2, 2)), jnp.ones(2)), (jnp.ones((2, 2)), jnp.ones(2))]
    cases = [
        (pairs, ["W1", "b1", "W2", "b2"]),
        ([jnp.ones((2, 2)), jnp.ones((2, 2))], ["W1", "W2"]),
        ({"w1": jnp.ones(2), "w2": jnp.ones(2)}, ["w1", "w2"]),
        ({"a": {"w": 1.0}, "b": {"w": 2.0}}, ["params_a_w", "params_b_w"]),
        ([{"weight": 1.0, "bias": 1.0}] * 2, ["b1", "W1", "b2", "W2"]),
        (1.0, ["params"]),
    ]
    for params, expected in cases:
        assert naming.of_arguments(loss, (params, 1.0)) == [*expected, "x"]
    assert naming.of_arguments(loss, (1.0, 2.0, 3.0), ("a", None, "c")) == ["a", "x", "c"]
    assert naming.of_arguments(lambda *xs: 0.0, (1.0, 2.0)) == ["xs1", "xs2"]
    assert naming.of_arguments(loss, (pairs, 1.0), ([("A", "a"), ("B", "b")],))[:2] == ["A", "a"]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (("a", "a"), ValueError, "'a' is twice"),
        (("a", "b", "c"), TypeError, "one entry for each of the 2 arguments"),
        ((["a", "b"],), TypeError, "with the structure of the argument"),
        (("",), ValueError, "not empty"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, error, message):
    with pytest.raises(error, match=message):
        dc.derive(lambda x, y: x * y, 1.0, 2.0, names=names)


# The budget.


def test_a_formula_beyond_its_budget_stops_in_time_and_names_the_way_out():
    params, x, y = network((4, 5, 5, 3))
    started = time.perf_counter()
    with pytest.raises(NotImplementedError, match=r"more than 2000 operations.*route='program'"):
        dc.derive(half_squared_error, params, x, y, route="expression",
                  budget=dc.Budget(operations=2000))  # fmt: skip
    with pytest.raises(NotImplementedError, match=r"within 0.05 seconds.*route='matrix'"):
        dc.derive(half_squared_error, params, x, y, route="expression",
                  budget=dc.Budget(operations=10**9, seconds=0.05))  # fmt: skip
    # The budgets take a second at most; the rest is for a machine that is busy.
    assert time.perf_counter() - started < 10


def test_printing_looks_at_the_clock():
    params, x, y = network()
    derivation = dc.derive(half_squared_error, params, x, y, route="expression")
    hurried = derivation.derived.__class__(
        derivation.derived.jacobian,
        derivation.derived.labels,
        derivation.derived.wanted,
        dc.Budget(seconds=1e-6),
    )
    for write in (hurried.source, lambda: hurried.latex(0), lambda: hurried.text(0)):
        with pytest.raises(NotImplementedError, match="not done within 1e-06 seconds"):
            write()


# What is written.


def test_the_program_has_a_line_for_each_operation():
    """Lecture row 31: the scalar example, by the chain rule."""
    loss = lambda w1, w2: jnp.square(w2 * jax.nn.relu(w1 * 5.0) - 2.0) / 2
    derivation = dc.derive(loss, 1.0, 2.0, argnums=(0, 1), route="program")
    assert [float(g) for g in derivation.function(1.0, 2.0)] == [80.0, 40.0]
    assert str(derivation.steps()).split("\n") == [
        "v1 = w1 * 5.0",
        "v2 = relu(v1)",
        "v3 = w2 * v2",
        "v4 = v3 - 2.0",
        "v5 = square(v4)",
        "v6 = v5 / 2.0",
        "d_v2 = v4 * w2",
        "d_v1 = d_v2 * where(v1 > 0, 1.0, 0.0)",
        "d_w1 = d_v1 * 5",
        "d_w2 = v4 * v2",
    ]
    assert [step.phase for step in derivation.steps()] == 6 * ["forward"] + 2 * ["backward"] + 2 * [
        "gradient"
    ]
    assert r"\bar{v}_{1} &= \bar{v}_{2} \left[v_{1} > 0\right]" in derivation.steps().latex()


def test_an_expression_is_the_one_of_a_textbook():
    derivation = dc.derive(lambda x: jnp.exp(x) * jnp.sin(3 * x), 1.0, route="expression")
    x = next(iter(derivation.expression.free_symbols))
    truth = sympy.exp(x) * (sympy.sin(3 * x) + 3 * sympy.cos(3 * x))
    assert sympy.simplify(derivation.expression - truth) == 0
    assert derivation.text() == "dL/dx = exp(x)*sin(3*x) + 3*exp(x)*cos(3*x)"
    assert derivation.latex() == (
        r"\frac{\partial L}{\partial x} = e^{x} \sin{\left(3 x \right)} + "
        r"3 e^{x} \cos{\left(3 x \right)}"
    )
    assert derivation._repr_latex_().startswith("$")


def test_code_without_shared_parts_shows_the_swell():
    def logistic_map(x):
        for _ in range(4):
            x = 4 * x * (1 - x)
        return x

    derivation = dc.derive(logistic_map, 0.3, route="expression")
    assert len(derivation.derived.source_written_out()) > 2 * len(derivation.source())
    assert derivation.derived.written_out > 2 * derivation.operations


def test_fractions_are_written_as_they_were():
    derivation = dc.derive(lambda x: 0.1 * x**2, 1.0, route="expression")
    assert derivation.text() == "dL/dx = 0.2*x"
    assert float(derivation.function(3.0)) == 0.2 * 3.0


# Arguments.


def test_arguments_may_be_any_pytree_and_steer_python():
    def fun(params, mode, power):
        x = params["a"] if mode == "a" else params["b"][0]
        return jnp.sum(x**power)

    params = {"a": jnp.ones(2), "b": (jnp.asarray([2.0, 3.0]), None)}
    for route in ROUTES:
        derivation = dc.derive(fun, params, "b", 3, route=route)
        found = derivation.function(params, "b", 3)
        truth = jax.grad(fun)(params, "b", 3)
        assert jax.tree.structure(found) == jax.tree.structure(truth)
        assert found["b"][0].tolist() == truth["b"][0].tolist()
        assert found["a"].tolist() == [0.0, 0.0]
    with pytest.raises(TypeError, match=r"was derived for .*Derive it again"):
        derivation.function(params, "a", 3)


def test_a_loss_of_optax_is_derived():
    labels = jnp.asarray([1, 0])
    fun = lambda z: jnp.mean(optax.softmax_cross_entropy_with_integer_labels(z, labels))
    truth = jax.grad(fun)(MATRIX)
    for route in ("program", "expression"):
        found = dc.derive(fun, MATRIX, route=route, names="z").function(MATRIX)
        np.testing.assert_allclose(found, truth, rtol=64 * EPS, atol=8 * EPS)


def test_what_is_closed_over_becomes_an_argument_of_the_code():
    table = jnp.arange(200.0).reshape(100, 2)
    derivation = dc.derive(lambda x: jnp.sum((table @ x) ** 2), jnp.ones(2), route="program")
    assert "def value_and_grad(x, *, c1):" in derivation.source()
    _, (found,) = from_source(derivation, [jnp.ones(2)])
    np.testing.assert_allclose(found, derivation.function(jnp.ones(2)), rtol=16 * EPS)


def test_other_shapes_than_those_derived_are_refused():
    derivation = dc.derive(jnp.sum, jnp.ones(2), names="x")
    with pytest.raises(TypeError, match=r"was derived for \(float64\[2\]\), but is called with"):
        derivation.function(jnp.ones(3))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((jnp.ones(2),), {}, TypeError, r"derive needs a function with a scalar output.*\(2,\)"),
        ((1,), {"argnums": 1}, ValueError, "argument 1"),
        ((jnp.ones((), int),), {}, TypeError, "floating-point arrays"),
        ((1.0,), {"route": "magic"}, ValueError, "route must be one of 'auto', 'matrix'"),
        ((1.0,), {"rules": "mine"}, ValueError, "rules must be 'math' or 'jax'"),
        ((1.0,), {"convention": "jax"}, TypeError, "convention must be a Convention"),
        ((1.0,), {"budget": 10}, TypeError, "budget must be a Budget"),
    ],
)
def test_what_cannot_be_derived_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        dc.derive(lambda x: x, *arguments, **options)


def test_a_budget_has_to_be_positive():
    with pytest.raises(ValueError, match="must be positive, but operations is 0"):
        dc.Budget(operations=0)


def test_an_array_that_was_not_differentiated_by_is_named():
    derivation = dc.derive(lambda x, y: x * y, 1.0, 2.0)
    with pytest.raises(ValueError, match="no derivative by 'y'; there are those by 'x'"):
        derivation.latex("y")


def test_the_matrix_route_of_the_method_takes_scalars():
    params, x, y = network()
    method = dc.Symbolic("matrix")
    fun = lambda params: half_squared_error(params, x, y)
    truth = jax.value_and_grad(fun)(params)
    found = jax.jit(dc.value_and_grad(fun, method=method))(params)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(a, b, rtol=64 * EPS, atol=8 * EPS)
    slope = dc.jvp(fun, (params,), (params,), method=method)[1]
    np.testing.assert_allclose(slope, jax.jvp(fun, (params,), (params,))[1], rtol=64 * EPS)
    with pytest.raises(NotImplementedError, match=r"matrix.*one scalar output.*route='program'"):
        dc.jacobian(lambda x: x**2, method=method)(x)


def test_naming_a_derivation_loads_no_sympy():
    code = "import sys, diffcompare as dc; dc.derive; assert 'sympy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_definitions_say_what_the_functions_of_a_formula_mean():
    derivation = dc.derive(jax.nn.sigmoid, 1.0)
    assert str(derivation.definitions()) == "sigma'(z) = sigma(z) (1 - sigma(z))"
    assert dc.derive(jnp.sin, 1.0, route="program").definitions() == ()


@pytest.mark.parametrize("route", ["matrix", "program", "expression"])
def test_the_code_says_what_is_closed_over(route):
    c = jnp.array([2.0, 3.0, 4.0])
    fun = lambda x: jnp.sum(c * x**3)
    x = jnp.array([0.3, -0.2, 0.5])
    derivation = dc.derive(fun, x, route=route)
    source = derivation.source()
    assert "float64 of shape (3,), closed over" in source
    namespace = {}
    exec(source, namespace)
    value, (gradient,) = namespace["value_and_grad"](x, **derivation.constants_by_name())
    # Three roundings of numbers of order 1.
    np.testing.assert_allclose(value, fun(x), rtol=1e-15)
    np.testing.assert_allclose(gradient, 3 * c * x**2, rtol=1e-15)


def test_lines_are_aligned_once():
    def fun(w, x):
        return jnp.sum(jnp.sort(x) * jnp.cumsum(x)) * w

    latex = dc.derive(fun, 1.0, jnp.arange(3.0), argnums=(0, 1), route="program").latex()
    inside = 0
    for line in latex.splitlines():
        inside += line.count(r"\begin{gathered}")
        if inside:
            assert "&=" not in line
        inside -= line.count(r"\end{gathered}")


def test_a_slice_in_latex_says_which_entries():
    def fun(x):
        return jnp.sum(x[1:3, ::2] * x[:2, 1:2])

    latex = dc.derive(fun, jnp.ones((3, 4)), route="program").latex()
    assert r"x\left[1{:}, {:}{:}2\right]" in latex
    assert r"x\left[{:}2, 1{:}2\right]" in latex
    assert r"\operatorname{slice}" not in latex


def test_the_text_of_a_program_defines_every_name_it_uses():
    text = dc.derive(lambda x: jnp.sum(jnp.sort(x) * jnp.cumsum(x)), jnp.arange(3.0)).text()
    defined = {line.partition(" = ")[0].strip() for line in text.splitlines()}
    for name in re.findall(r"\bd_v\d+\b", text):
        assert name in defined
