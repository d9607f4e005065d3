"""What happened during training: kept as arrays, and written line by line as it happens."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp  # which knows bfloat16 by name
import numpy as np

from diffcompare import _files


class History(NamedTuple):
    """What happened during training, epoch by epoch."""

    loss: np.ndarray  # (epochs,), mean over the steps of an epoch, each before its update
    step_loss: np.ndarray  # (epochs, steps), the loss of every batch
    seconds: np.ndarray  # (epochs,), for training alone; no compilation, no metrics
    samples_per_second: np.ndarray  # (epochs,)
    metrics: dict[str, np.ndarray]  # name -> (epochs,), after each epoch
    compile_seconds: float  # of this run


class Epoch(NamedTuple):
    """What happened in one epoch."""

    step_loss: np.ndarray  # (steps,)
    seconds: float
    metrics: dict[str, float]

    def line(self, samples: int) -> str:
        """Returns the epoch as shown to who waits; it had `samples` examples."""
        values = "".join(f"  {name} {value:.4f}" for name, value in self.metrics.items())
        return f"loss {self.loss:.4f}{values}  {samples / self.seconds:,.0f} samples/s"

    @property
    def loss(self) -> float:
        return float(self.step_loss.mean(dtype=float))


def history(epochs: list[Epoch], samples: int, compile_seconds: float) -> History:
    """Returns epochs, of `samples` examples each, as arrays."""
    seconds = np.array([epoch.seconds for epoch in epochs])
    names = epochs[0].metrics if epochs else {}
    return History(
        loss=np.array([epoch.loss for epoch in epochs]),
        step_loss=np.stack([e.step_loss for e in epochs]) if epochs else np.empty((0, 0)),
        seconds=seconds,
        samples_per_second=samples / seconds,
        metrics={name: np.array([epoch.metrics[name] for epoch in epochs]) for name in names},
        compile_seconds=compile_seconds,
    )


def to_json(number: int, epoch: Epoch) -> dict[str, Any]:
    """Returns an epoch as what JSON can hold; floats come back as the same numbers."""
    return {
        "epoch": number,
        "loss": epoch.loss,
        "seconds": epoch.seconds,
        "metrics": epoch.metrics,
        "step_loss": [float(loss) for loss in epoch.step_loss],
        "dtype": str(epoch.step_loss.dtype),
    }


def from_json(record: Mapping[str, Any]) -> Epoch:
    """Returns the epoch that `to_json` wrote."""
    losses = np.asarray(record["step_loss"], np.float64).astype(jnp.dtype(record["dtype"]))
    return Epoch(losses, record["seconds"], dict(record["metrics"]))


def write_lines(path: Path, epochs: list[Epoch]) -> None:
    """Writes the epochs so far to a file, a line each; what was in it is replaced."""
    lines = [json.dumps(to_json(number, epoch)) + "\n" for number, epoch in enumerate(epochs)]
    path.parent.mkdir(parents=True, exist_ok=True)
    _files.write_atomically(path, "".join(lines).encode())


def append_line(path: Path, number: int, epoch: Epoch) -> None:
    """Adds an epoch to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(to_json(number, epoch)) + "\n")
