"""Training by several processes with several devices each."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]

PROCESS = """
import sys
import jax
port, number, folder = sys.argv[1:]
alone = number == "alone"
if not alone:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize("localhost:" + port, 2, int(number))
import jax.numpy as jnp, numpy as np, optax
from diffcompare import learn
digits = learn.load("digits")
mesh = None if alone else jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
def loss(params, x, y):
    scores = learn.apply(params, x)
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, y))
fitted = learn.fit(
    loss, learn.init(jax.random.key(0), (64, 10, 10)), (digits.x_train, digits.y_train),
    optax.adam(1e-2), epochs=3, batch_size=32, key=jax.random.key(1), mesh=mesh,
    checkpoint=folder, metrics=lambda p: {"a": learn.accuracy(p, digits.x_test, digits.y_test)},
)
print("devices:", jax.device_count())
print("loss:", fitted.history.step_loss.astype(float).ravel().tolist())
leaves = map(np.asarray, jax.tree.leaves(fitted.params))
print("bits:", b"".join(leaf.tobytes() for leaf in leaves).hex())
"""


def _run(commands, devices):
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    started = [
        subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    outputs = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), outputs
    return [out for out, _ in outputs]


def _free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


def _line(output, name):
    return output.partition(f"{name}: ")[2].partition("\n")[0]


def test_two_processes_of_four_devices_reach_the_loss_of_one_device(tmp_path):
    port = _free_port()
    folders = {"alone": tmp_path / "alone", "0": tmp_path / "both", "1": tmp_path / "both"}
    commands = [
        [sys.executable, "-c", PROCESS, port, number, str(folder)]
        for number, folder in folders.items()
    ]
    alone, first, second = _run(commands, devices=4)
    assert (_line(first, "devices"), _line(alone, "devices")) == ("8", "4")
    assert _line(first, "bits") == _line(second, "bits")
    losses = [np.array(json.loads(_line(output, "loss"))) for output in (alone, first)]
    # float32 sums over a batch in another order, whose rounding 126 steps of Adam carry on.
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == [
        "epoch-00000002",
        "epoch-00000003",
    ]


def test_an_experiment_runs_in_several_processes_by_its_command_line(tmp_path):
    port = _free_port()
    shared = ["-m", "experiments", "classification", "--quick", "--epochs", "1", "--seeds", "1"]
    commands = [
        [
            sys.executable,
            *shared,
            *("--coordinator", f"localhost:{port}", "--num-processes", "2"),
            *("--process-id", number, "--out", str(tmp_path)),
        ]
        for number in "01"
    ]
    first, second = _run(commands, devices=1)
    assert "accuracy" in first
    assert "accuracy" not in second  # one of them writes
    numbers = json.loads((tmp_path / "classification.json").read_text())
    assert len(numbers["environment"]["devices"]) == 2
