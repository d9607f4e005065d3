"""The operators, for every method and every problem."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffcompare as dc

METHODS = [pytest.param(row, id=row.name) for row in helpers.METHODS]
PROBLEMS = [pytest.param(problem, id=problem.name) for problem in helpers.PROBLEMS]
DIFFERENCES = [row for row in helpers.METHODS if row.power < 1]


def tolerance(row, dtype):
    # The error of a method is a small multiple of eps ** power; 8 leaves room for functions
    # whose higher derivatives are larger than their scale suggests.
    return 8 * float(jnp.finfo(dtype).eps) ** row.power


@pytest.mark.parametrize("row", METHODS)
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("dtype", helpers.DTYPES)
def test_gradient_is_the_one_derived_by_hand(row, problem, dtype):
    x, truth = problem.at(dtype)
    found = dc.grad(problem.fun, method=row.method)(x)
    assert jax.tree.structure(found) == jax.tree.structure(x)
    for leaf, like in zip(jax.tree.leaves(found), jax.tree.leaves(x), strict=True):
        assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)
    assert helpers.relative_error(found, truth) <= tolerance(row, dtype)


@pytest.mark.parametrize("row", METHODS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_slope_along_a_direction_is_its_product_with_the_gradient(row, problem):
    x, truth = problem.at("float64")
    rng = np.random.default_rng(1)
    v = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * leaf), x)
    value, slope = dc.jvp(problem.fun, (x,), (v,), method=row.method)
    terms = [
        (np.asarray(g) * np.asarray(d)).ravel()
        for g, d in zip(jax.tree.leaves(truth), jax.tree.leaves(v), strict=True)
    ]
    size = np.sum(np.abs(np.concatenate(terms)))
    assert value == problem.fun(x)
    assert abs(float(slope) - np.sum(np.concatenate(terms))) <= tolerance(row, "float64") * size


@pytest.mark.parametrize("row", METHODS)
def test_pullback_is_the_transposed_jacobian(row):
    fun = lambda x, y: {"a": jnp.sin(x) * y, "b": jnp.sum(x * x)}
    x, y = jnp.array([0.5, 1.5]), jnp.array(2.0)
    value, pullback = dc.vjp(fun, x, y, method=row.method)
    weights = {"a": jnp.array([3.0, -1.0]), "b": jnp.array(0.5)}
    by_x, by_y = pullback(weights)
    truth = np.array([3.0, -1.0]) * np.cos([0.5, 1.5]) * 2 + 0.5 * 2 * np.array([0.5, 1.5])
    assert value["b"] == 2.5
    np.testing.assert_allclose(by_x, truth, rtol=tolerance(row, "float64"))
    truth = 3 * np.sin(0.5) - np.sin(1.5)
    np.testing.assert_allclose(by_y, truth, rtol=4 * tolerance(row, "float64"))


@pytest.mark.parametrize("row", METHODS)
def test_jacobian_is_laid_out_output_by_input(row):
    """Lecture row 37."""
    fun = lambda t: {"sum": t["x"] + jnp.sum(t["y"]), "product": t["y"] * t["x"][0]}
    x = {"x": jnp.array([1.0, 2.0]), "y": jnp.array([[1.0, 2.0, 3.0]])}
    found = dc.jacobian(fun, method=row.method)(x)
    y = np.array([[1.0, 2.0, 3.0]])
    by_x = np.stack([y, np.zeros((1, 3))], axis=-1)
    by_y = np.eye(3).reshape(1, 3, 1, 3)
    expected = {
        "sum": {"x": np.eye(2), "y": np.ones((2, 1, 3))},
        "product": {"x": by_x, "y": by_y},
    }
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for leaf, truth in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, truth, atol=3 * tolerance(row, "float64"))


HESSIANS = [
    # A difference of a difference: truncation h**2 and rounding eps / h**2 leave half the
    # digits; taken of an exact gradient it is as good as a first derivative.
    pytest.param(dc.CentralDifference(), 1e-7, id="central of central"),
    pytest.param((dc.CentralDifference(), dc.ReverseMode()), 1e-9, id="central of reverse"),
    pytest.param((dc.ForwardMode(), dc.ReverseMode()), 1e-15, id="forward over reverse"),
    pytest.param(dc.ForwardMode(), 1e-15, id="forward over forward"),
    pytest.param(dc.ReverseMode(), 1e-15, id="reverse over reverse"),
    pytest.param((dc.ForwardMode(), dc.CentralDifference()), 1e-9, id="forward over central"),
]


@pytest.mark.parametrize(("method", "error"), HESSIANS)
def test_hessian_is_the_one_derived_by_hand(method, error):
    x = jnp.array([0.5, 1.5])
    found = dc.hessian(lambda x: jnp.sin(x[0]) * x[1] ** 2, method=method)(x)
    s, c, y = np.sin(0.5), np.cos(0.5), 1.5
    truth = [[-s * y**2, c * 2 * y], [c * 2 * y, 2 * s]]
    np.testing.assert_allclose(found, truth, atol=4 * error)


@pytest.mark.parametrize("row", METHODS)
@pytest.mark.parametrize("argnums", [0, -1, (0, 1), [1, 0]])
@pytest.mark.parametrize("has_aux", [False, True])
def test_argnums_and_has_aux_are_those_of_jax(row, argnums, has_aux):
    def fun(x, y, power=2):
        value = jnp.sum(x**power) * y
        return (value, {"power": power, "y": y}) if has_aux else value

    args = (jnp.array([1.0, 2.0]), jnp.array(3.0))
    expected = jax.value_and_grad(fun, argnums, has_aux)(*args, power=3)
    found = dc.value_and_grad(fun, argnums, has_aux, method=row.method)(*args, power=3)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for leaf, truth in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, truth, rtol=tolerance(row, "float64"))
    gradient = dc.grad(fun, argnums, has_aux, method=row.method)(*args, power=3)
    assert jax.tree.structure(gradient) == jax.tree.structure(
        jax.grad(fun, argnums, has_aux)(*args, power=3)
    )


@pytest.mark.parametrize("row", METHODS)
def test_gradient_can_be_compiled_and_mapped(row):
    fun = lambda x, y: jnp.sum(jnp.tanh(x) * y)
    gradient = dc.grad(fun, method=row.method)
    x = jnp.linspace(0.1, 0.9, 6).reshape(3, 2)
    y = jnp.array([1.0, -2.0])
    one_by_one = jnp.stack([gradient(each, y) for each in x])
    compiled = jax.jit(jax.vmap(gradient, in_axes=(0, None)))(x, y)
    # Compiled apart, the values of the function may differ by a few ulps.
    np.testing.assert_allclose(compiled, one_by_one, rtol=tolerance(row, "float64"))


@pytest.mark.parametrize("row", METHODS)
def test_gradient_of_a_gradient_is_the_second_derivative(row):
    outer = jax.grad(dc.grad(jnp.sin, method=row.method))(1.0)
    inner = dc.grad(jax.grad(jnp.sin), method=row.method)(1.0)
    np.testing.assert_allclose(inner, -np.sin(1), rtol=tolerance(row, "float64"))
    # Differentiating the quotient again differentiates each value exactly.
    np.testing.assert_allclose(outer, -np.sin(1), rtol=4 * tolerance(row, "float64"))


@pytest.mark.parametrize("row", METHODS)
def test_numbers_and_numpy_arrays_are_arguments(row):
    square = lambda x: jnp.sum(x**2)
    assert float(dc.grad(square, method=row.method)(3.0)) == pytest.approx(6, rel=1e-6)
    found = dc.grad(square, method=row.method)(np.array([1.0, 2.0], np.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, [2, 4], rtol=tolerance(row, "float32"))


@pytest.mark.parametrize("row", METHODS)
def test_output_that_does_not_depend_on_the_argument_has_gradient_zero(row):
    x = {"used": jnp.array([1.0, 2.0]), "unused": jnp.array([3.0])}
    found = dc.grad(lambda t: jnp.sum(t["used"]), method=row.method)(x)
    np.testing.assert_array_equal(found["unused"], [0.0])


@pytest.mark.parametrize("row", METHODS)
def test_method_is_a_frozen_value(row):
    assert hash(row.method) == hash(type(row.method)(**vars(row.method)))
    assert row.method == type(row.method)(**vars(row.method))
    assert repr(row.method).startswith(type(row.method).__name__ + "(")
    with pytest.raises(AttributeError):
        row.method.step = 1.0


def test_python_arguments_keep_their_values_when_compiled():
    gradient = dc.grad(
        lambda x, n, name: x**n if name == "power" else x, method=dc.CentralDifference()
    )
    assert float(gradient(2.0, 3, "power")) == pytest.approx(12)
    assert float(gradient(2.0, 1, "power")) == pytest.approx(1)
    assert float(gradient(2.0, True, "power")) == pytest.approx(1)
    assert float(gradient(2.0, 3, "other")) == pytest.approx(1)


def test_argument_without_a_hash_is_no_obstacle():
    class Options:
        __hash__ = None
        power = 3

    gradient = dc.grad(lambda x, options: x**options.power, method=dc.CentralDifference())
    assert float(gradient(2.0, Options())) == pytest.approx(12)


def test_function_is_traced_once_for_each_shape():
    traces = []

    def fun(x):
        traces.append(x.shape)
        return jnp.sum(x**2)

    gradient = dc.grad(fun, method=dc.CentralDifference())
    gradient(jnp.ones(3))
    first = len(traces)
    gradient(jnp.zeros(3))
    assert len(traces) == first
    gradient(jnp.zeros(4))
    assert len(traces) > first


def test_name_of_the_derivative_says_what_it_is():
    def loss(x):
        return x

    assert dc.grad(loss).__name__ == "gradient_of_loss"
    assert dc.value_and_grad(loss).__name__ == "value_and_gradient_of_loss"


REFUSED = [
    (lambda m: dc.grad(lambda x: x, method=m)(jnp.ones(2)), TypeError, r"returned shape \(2,\)"),
    (lambda m: dc.grad(lambda x: (x, x), method=m)(1.0), TypeError, "tuple of 2 arrays"),
    (lambda m: dc.grad(lambda x: x > 0, method=m)(1.0), TypeError, "dtype bool"),
    (lambda m: dc.grad(jnp.sum, method=m)(jnp.arange(3)), TypeError, "dtype int64"),
    (lambda m: dc.grad(jnp.sum, method=m)(1 + 2j), TypeError, "dtype complex128"),
    (lambda m: dc.grad(jnp.sum, method=m)({"a": "text"}), TypeError, r"\['a'\] is a str"),
    (lambda m: dc.grad(jnp.sum, 1, method=m)(1.0), ValueError, "called with 1 positional"),
    (lambda m: dc.grad(jnp.sum, -2, method=m)(1.0), ValueError, "argument -2"),
    (lambda m: dc.grad(jnp.sum, method=m)(), ValueError, "called with 0 positional"),
    (lambda m: dc.grad(jnp.sum, 0.5, method=m), TypeError, "argnums must be an integer"),
    (lambda m: dc.grad(jnp.sum, "x", method=m), TypeError, "argnums must be an integer"),
    (lambda m: dc.grad(jnp.sum, (0, 0), method=m), ValueError, "an argument twice"),
    (lambda m: dc.jacobian(lambda x: x > 0, method=m)(1.0), TypeError, "dtype bool"),
    (lambda m: dc.jvp(jnp.sin, (1.0,), (jnp.ones(2),), method=m), TypeError, "shapes and dtypes"),
    (
        lambda m: dc.jvp(jnp.sin, (1.0,), (1.0, 2.0), method=m),
        TypeError,
        "structure of the primals",
    ),
    (lambda m: dc.vjp(jnp.sin, 1.0, method=m)[1](jnp.ones(2)), TypeError, "shapes and dtypes"),
    (lambda m: dc.vjp(jnp.sin, 1, method=m), TypeError, "dtype int64"),
]


@pytest.mark.parametrize("row", METHODS)
@pytest.mark.parametrize(("call", "error", "match"), REFUSED)
def test_what_cannot_be_differentiated_is_refused_by_name(row, call, error, match):
    with pytest.raises(error, match=match):
        call(row.method)


@pytest.mark.parametrize("method", [None, "reverse", dc.ReverseMode, 1e-6])
def test_what_is_no_method_is_refused(method):
    for operator in (dc.grad, dc.value_and_grad, dc.jacobian):
        with pytest.raises(TypeError, match="method must be a method of differentiation"):
            operator(jnp.sin, method=method)
    with pytest.raises(TypeError, match="method must be"):
        dc.jvp(jnp.sin, (1.0,), (1.0,), method=method)


@pytest.mark.parametrize("row", METHODS)
def test_large_jacobian_in_several_batches_equals_that_in_one(row, monkeypatch):
    fun = lambda x: jnp.sin(x) * x[::-1]
    x = jnp.linspace(0.5, 1.5, 7)
    whole = dc.jacobian(fun, method=row.method)(x)
    monkeypatch.setattr("diffcompare._jacobians._BATCH_BYTES", 2 * x.nbytes)
    parts = dc.jacobian(fun, method=row.method)(x)
    np.testing.assert_allclose(parts, whole, rtol=tolerance(row, "float64"))


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row.name)
def test_scalar_example_of_the_lecture_is_exact_by_differences_too(row):
    """Lecture row 31: factors 5, 1, 2, 8 give 80 and 40. The loss is quadratic in each weight."""
    loss = lambda w1, w2: (w2 * jax.nn.relu(w1 * 5.0) - 2.0) ** 2 / 2
    found = dc.grad(loss, (0, 1), method=row.method)(1.0, 2.0)
    exact = row.power > 1 / 2  # a one-sided difference is exact for linear functions only
    np.testing.assert_allclose(found, (80, 40), rtol=1e-9 if exact else 1e-6)


@pytest.mark.parametrize(
    "method",
    [dc.CentralDifference(step=2.0**-3), dc.Symbolic(), dc.ForwardMode(), dc.ReverseMode()],
)
def test_scalar_example_of_the_lecture_is_80_and_40(method):
    """Lecture row 31; w1 = 1 and y = 2 are a reconstruction."""
    loss = lambda w1, w2: (w2 * jax.nn.relu(w1 * 5.0) - 2.0) ** 2 / 2
    by_w1, by_w2 = dc.grad(loss, (0, 1), method=method)(1.0, 2.0)
    assert (float(by_w1), float(by_w2)) == (80.0, 40.0)
