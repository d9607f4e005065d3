"""Checkpoints: a run that was killed goes on as if it had not been."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffcompare import learn
from diffcompare.learn import checkpoint

pytest.importorskip("orbax.checkpoint")

ROOT = Path(__file__).parents[1]
OPTIMIZER = optax.chain(
    optax.add_noise(0.1, 0.5, 3), optax.adam(optax.exponential_decay(0.1, 4, 0.9))
)


def loss(params, x, y):
    return jnp.mean(learn.half_squared_error(learn.apply(params, x, jnp.tanh), y))


def _run(folder=None, *, epochs=6, **changed):
    x = jax.random.normal(jax.random.key(1), (24, 3), jnp.float32)
    options = {
        "loss": loss,
        "params": [*learn.init(jax.random.key(0), (3, 4, 1), dtype=jnp.float32)],
        "data": (x, x[:, :1]),
        "optimizer": OPTIMIZER,
        "batch_size": 8,
        "key": jax.random.key(2),
        "checkpoint": folder,
        "metrics": lambda params: {"w": params[0].weight[0, 0]},
    } | changed
    return learn.fit(epochs=epochs, **options)


def _assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert one.history.step_loss.tobytes() == other.history.step_loss.tobytes()
    assert one.history.metrics["w"].tobytes() == other.history.metrics["w"].tobytes()


@pytest.fixture(scope="module")
def undisturbed():
    return _run()


@pytest.fixture(scope="module")
def complete(tmp_path_factory, undisturbed):
    folder = tmp_path_factory.mktemp("complete")
    _assert_same(_run(folder, epochs=4), _run(epochs=4))
    return folder


@pytest.fixture
def saved(complete, tmp_path):
    """A folder of its own with the checkpoints of four epochs."""
    return shutil.copytree(complete, tmp_path / "saved")


def test_a_run_goes_on_where_it_was(saved, undisturbed):
    _assert_same(_run(saved), undisturbed)


def test_the_newest_two_checkpoints_are_kept(saved):
    names = sorted(path.name for path in saved.iterdir())
    assert names == ["epoch-00000003", "epoch-00000004"]


def test_a_run_that_was_complete_trains_no_more(saved):
    def unused(params, x, y):
        return jnp.nan * loss(params, x, y)  # any step would be noticed

    assert len(_run(saved, epochs=4, loss=unused).history.loss) == 4


def test_it_is_saved_as_often_as_it_is_told_and_at_the_end(tmp_path):
    seen = []

    def metrics(params):
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        return {"w": 0.0}

    _run(tmp_path, epochs=5, metrics=metrics, save_every=2)
    assert seen == [
        [],
        [],
        ["epoch-00000002"],
        ["epoch-00000002"],
        ["epoch-00000002", "epoch-00000004"],
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00000004", "epoch-00000005"]


def test_the_log_goes_on_with_the_run(saved, tmp_path, undisturbed):
    log = tmp_path / "log.jsonl"
    log.write_text("a line of an epoch that was not saved\n")
    _run(saved, log=log)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["loss"] for record in records] == undisturbed.history.loss.tolist()


def test_a_state_of_any_kind_is_saved(tmp_path):
    """Keys, numbers of half precision, arrays without entries and None among them."""
    state = {
        "key": jax.random.key(3),
        "half": [jnp.ones(2, jnp.bfloat16), None],
        "empty": jnp.zeros((0, 2)),
        "count": jnp.int32(7),
    }
    checkpoint.save(tmp_path, state, [], {"of": "the test"})
    like = jax.tree.map(jnp.zeros_like, {**state, "key": 0}) | {"key": jax.random.key(0)}
    found = checkpoint.load(tmp_path, like, {"of": "the test"}).state
    assert jax.random.key_data(found["key"]).tolist() == jax.random.key_data(state["key"]).tolist()
    assert found["half"][0].dtype == jnp.bfloat16
    assert found["half"][1] is None
    assert found["empty"].shape == (0, 2)
    assert int(found["count"]) == 7


# Killed.


class _Killed(BaseException):
    pass


def _killed_at(monkeypatch, number):
    """Makes the operation on files of that number the last one."""
    count = 0

    def counted(operation):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == number:
                raise _Killed
            return operation(*args, **kwargs)

        return call

    monkeypatch.setattr(os, "replace", counted(os.replace))
    monkeypatch.setattr(Path, "mkdir", counted(Path.mkdir))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))


def test_a_run_may_be_stopped_between_any_two_operations_on_files(tmp_path, monkeypatch):
    state = {"w": jnp.arange(3.0)}
    epochs = [learn.history.Epoch(np.zeros(2), 1.0, {})] * 4
    for number in range(1, 100):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patched:
            _killed_at(patched, number)
            saved = 0
            try:
                for saved in range(4):
                    checkpoint.save(folder, {"w": state["w"] + saved}, epochs[:saved], {})
                saved = 4
            except _Killed:
                pass
        found = checkpoint.load(folder, state, {})
        if saved == 4:
            break
        # What is found is whole: that of the save that was stopped, or that of the one before.
        if found is None:
            assert saved == 0
        else:
            assert len(found.epochs) in (saved - 1, saved)
            assert found.state["w"].tolist() == (state["w"] + len(found.epochs)).tolist()
        # And the next save removes what was left.
        checkpoint.save(folder, state, epochs[:saved], {})
        assert all(path.name.startswith("epoch-") for path in folder.iterdir())
    assert 10 < number < 99  # every operation has been the last one


KILLED = """
import sys
sys.path.insert(0, {tests!r})
import jax
jax.config.update("jax_enable_x64", True)
from test_learn_checkpoint import _run
print("begun", flush=True)
_run({folder!r}, epochs=2000)
"""


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path):
    code = KILLED.format(tests=str(ROOT / "tests"), folder=str(tmp_path))
    random = np.random.default_rng()
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
        process.stdout.readline()
        before = set(tmp_path.iterdir())
        while set(tmp_path.glob("epoch-*")) <= before:
            time.sleep(0.01)
            assert process.poll() is None
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    epochs = int(max(path.name for path in tmp_path.glob("epoch-*"))[-8:]) + 2
    _assert_same(_run(tmp_path, epochs=epochs), _run(epochs=epochs))


# Refused.


@pytest.mark.parametrize("which", range(6))
def test_a_checkpoint_that_was_altered_is_refused_by_name(saved, which):
    newest = saved / "epoch-00000004"
    files = sorted(path for path in newest.rglob("*") if path.is_file() and path.stat().st_size)
    file = files[which * (len(files) - 1) // 5]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(learn.CheckpointError, match=f"{file.name}.*Remove the folder.*00000004"):
        _run(saved)
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(learn.CheckpointError, match=f"{file.name}.*Remove the folder.*00000004"):
        _run(saved)
    file.unlink()
    with pytest.raises(learn.CheckpointError, match=f"{file.name}.*Remove the folder.*00000004"):
        _run(saved)


def test_without_the_altered_one_the_one_before_is_used(saved, undisturbed):
    shutil.rmtree(saved / "epoch-00000004")
    _assert_same(_run(saved), undisturbed)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"key": jax.random.key(3)}, "key was"),
        ({"batch_size": 4}, "batch_size was 8, now 4"),
        ({"data": (np.ones((24, 3), np.float32), np.ones((24, 1), np.float32))}, "data was"),
        ({"optimizer": optax.sgd(0.1)}, "state was"),
        ({"compute_dtype": jnp.bfloat16}, "compute_dtype was None, now bfloat16"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_the_checkpoint_of_another_run_is_refused(saved, changed, told):
    with pytest.raises(ValueError, match=f"is of another run: {told}"):
        _run(saved, **changed)


def test_fewer_epochs_than_were_saved_are_refused(saved):
    with pytest.raises(ValueError, match=r"epochs must be at least 4, .* but it is 3"):
        _run(saved, epochs=3)


def test_without_orbax_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    with pytest.raises(ModuleNotFoundError, match=r"diffcompare\[experiments\]"):
        _run(tmp_path)
