"""Differences whose directions are spread over devices."""

import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffcompare as dc
from diffcompare import learn

ROOT = Path(__file__).parents[1]

needs_two_devices = pytest.mark.skipif(
    jax.device_count() < 2, reason="needs two devices; conftest.py makes them on a CPU"
)


def problem():
    """Returns a loss and weights whose entries do not divide evenly over two devices."""
    params = learn.init(jax.random.key(0), (5, 7, 3))
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(9, 5))), jnp.asarray(rng.normal(size=(9, 3)))

    def loss(params):
        return jnp.mean(learn.half_squared_error(learn.apply(params, x, jnp.tanh), y))

    return loss, params


@needs_two_devices
@pytest.mark.parametrize("evaluation", ["dense", "incremental"])
@pytest.mark.parametrize("batch", [1, 4, None])
def test_gradient_over_two_devices_has_the_same_bits(evaluation, batch):
    loss, params = problem()
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("directions",))
    method = dc.CentralDifference(batch=batch, evaluation=evaluation)
    spread = dc.CentralDifference(batch=batch, evaluation=evaluation, mesh=mesh)
    one = jax.jit(dc.grad(loss, method=method))(params)
    two = jax.jit(dc.grad(loss, method=spread))(params)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
        assert b.sharding.device_set == set(jax.devices()[:2])
        assert b.is_fully_replicated


@needs_two_devices
def test_meshes_of_explicit_and_of_several_axes_serve_too():
    loss, params = problem()
    truth = dc.grad(loss, method=dc.ForwardDifference())(params)
    for mesh in (jax.make_mesh((2,), ("a",)), jax.make_mesh((1, 2), ("a", "b"))):
        found = dc.grad(loss, method=dc.ForwardDifference(mesh=mesh))(params)
        jax.tree.map(np.testing.assert_array_equal, found, truth)


@needs_two_devices
def test_jacobian_over_two_devices_is_that_of_one():
    fun = lambda x: {"y": jnp.sin(x) @ x, "z": x**2}
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3)))
    mesh = jax.make_mesh((2,), ("directions",))
    found = dc.jacobian(fun, method=dc.CentralDifference(mesh=mesh))(x)
    truth = dc.jacobian(fun, method=dc.CentralDifference())(x)
    jax.tree.map(np.testing.assert_array_equal, found, truth)


def test_what_is_not_a_mesh_is_refused():
    for method in (dc.ForwardDifference, dc.BackwardDifference, dc.CentralDifference):
        with pytest.raises(TypeError, match=r"mesh must be None or a jax\.sharding\.Mesh"):
            method(mesh=2)


PROCESS = """
import sys
import numpy as np
import jax
import jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
if len(sys.argv) > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize("localhost:" + sys.argv[1], 2, int(sys.argv[2]))
import diffcompare as dc
mesh = None
if len(sys.argv) > 1:
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("directions",))
rng = np.random.default_rng(0)
w, x = rng.normal(size=(6, 5)), rng.normal(size=(4, 6))
fun = lambda w, x: jnp.sum(jnp.tanh(x @ w) ** 2)
found = dc.grad(fun, method=dc.CentralDifference(batch=2, mesh=mesh))(w, x)
print("bits:", np.asarray(found).tobytes().hex())
"""


def test_two_processes_find_the_bits_of_one():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in ([], [port, "0"], [port, "1"])
    ]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], outputs
    alone, *others = (out.rpartition("bits:")[2].strip() for out, _ in outputs)
    assert len(alone) == 2 * 8 * 30
    assert others == [alone, alone]
