"""Functions whose derivative rule is a method of this package."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffcompare as dc


def table(x, scale, power=2):
    """A function of NumPy that JAX cannot trace."""
    return {"sum": np.sum(np.asarray(x) ** power) * scale, "all": np.asarray(x) * np.float64(scale)}


def loss(fun, x, scale):
    out = fun(x, scale)
    return out["sum"] ** 2 + jnp.sum(jnp.sin(out["all"]))


def in_jax(x, scale):
    return {"sum": jnp.sum(x**2) * scale, "all": x * scale}


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("host", [True, False])
def test_black_box_works_under_grad(transform, host):
    fun = dc.differentiable(table if host else in_jax, host=host)
    x, scale = jnp.array([0.5, -1.0]), jnp.array(1.5)
    found = transform(jax.value_and_grad(lambda *a: loss(fun, *a), (0, 1)))(x, scale)
    expected = jax.value_and_grad(lambda *a: loss(in_jax, *a), (0, 1))(x, scale)
    for leaf, truth in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, truth, rtol=1e-8)  # a few times eps ** (2 / 3)


@pytest.mark.parametrize("host", [True, False])
def test_black_box_works_under_vmap_and_jvp(host):
    fun = dc.differentiable(table if host else in_jax, host=host)
    xs = jnp.arange(6.0).reshape(3, 2)
    scale = jnp.array(0.5)
    found = jax.vmap(jax.grad(lambda x: loss(fun, x, scale)))(xs)
    expected = jax.vmap(jax.grad(lambda x: loss(in_jax, x, scale)))(xs)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    _, slope = jax.jvp(lambda x: loss(fun, x, scale), (xs[1],), (xs[2],))
    _, truth = jax.jvp(lambda x: loss(in_jax, x, scale), (xs[1],), (xs[2],))
    assert float(slope) == pytest.approx(float(truth), rel=1e-8)


@pytest.mark.parametrize(
    "method",
    [dc.ForwardDifference(), dc.CentralDifference(order=4), dc.ForwardMode(), dc.ReverseMode()],
)
def test_every_method_can_be_the_rule(method):
    fun = dc.differentiable(lambda x: jnp.tanh(x) * x, method=method)
    error = 1e-6 if isinstance(method, dc.ForwardDifference) else 1e-10
    assert float(jax.grad(fun)(0.5)) == pytest.approx(
        float(jax.grad(lambda x: jnp.tanh(x) * x)(0.5)), rel=error
    )


def test_arguments_that_are_not_floating_point_are_constants():
    fun = dc.differentiable(lambda x, n, name: x**n if name == "power" else x, host=False)
    assert float(jax.grad(fun)(2.0, 3, "power")) == pytest.approx(12)
    fun = dc.differentiable(lambda x, n: np.float64(x) ** int(n), host=True)
    assert float(jax.jit(jax.grad(fun))(2.0, 3)) == pytest.approx(12)


def test_shape_is_found_or_told():
    calls = []

    def fun(x):
        calls.append(float(x))
        if x == 1.0:
            raise ArithmeticError("not at one")
        return np.float64(x) ** 2

    with pytest.raises(
        ValueError, match=r"calling it to find out raised ArithmeticError.*Pass output="
    ):
        jax.jit(dc.differentiable(fun, host=True))(2.0)
    told = dc.differentiable(fun, host=True, output=jax.ShapeDtypeStruct((), jnp.float64))
    assert float(jax.jit(told)(2.0)) == 4.0


def test_solution_of_an_ode_by_scipy_trains_inside_a_jax_loss():
    integrate = pytest.importorskip("scipy.integrate")
    times = np.linspace(0.1, 2.0, 6)

    def decay(rate):
        solution = integrate.solve_ivp(
            lambda t, y: -rate * y, (0, 2), [1.0], t_eval=times, rtol=1e-11, atol=1e-13
        )
        return solution.y[0]

    fun = dc.differentiable(decay, host=True)
    observed = jnp.exp(-1.3 * times)
    loss = jax.jit(lambda rate: jnp.sum((fun(rate) - observed) ** 2))
    gradient = jax.jit(jax.grad(loss))
    rate = jnp.array(0.5)
    truth = float(
        jnp.sum(2 * (jnp.exp(-rate * times) - observed) * -times * jnp.exp(-rate * times))
    )
    # The solver's own tolerance, 1e-11, over a step of 4e-6, is what limits the difference.
    assert float(gradient(rate)) == pytest.approx(truth, rel=1e-4)
    for _ in range(60):
        rate = rate - 0.5 * gradient(rate)
    assert float(rate) == pytest.approx(1.3, abs=1e-4)


def test_function_that_cannot_be_traced_asks_for_the_host():
    with pytest.raises(TypeError, match="Pass host=True"):
        jax.grad(dc.differentiable(lambda x: np.sin(x)))(1.0)
    with pytest.raises(TypeError, match="method must be"):
        dc.differentiable(np.sin, method="central")
    with pytest.raises(TypeError, match="ReverseMode needs a function that JAX can trace"):
        dc.differentiable(np.sin, method=dc.ReverseMode(), host=True)


def test_a_second_derivative_on_the_host_is_refused_with_the_way_out():
    fun = dc.differentiable(lambda x: np.sin(x), host=True)
    loss = lambda x: jnp.sum(fun(x))
    x = jnp.array([0.3, -0.2])
    with pytest.raises(NotImplementedError, match=r"first derivatives of .* only"):
        jax.hessian(loss)(x)
    found = dc.jacobian(jax.grad(loss), method=dc.CentralDifference())(x)
    # A difference of differences: the noise of the inner, 1e-11, over a step of 1e-5.
    np.testing.assert_allclose(found, -np.diag(np.sin(x)), atol=1e-5)
