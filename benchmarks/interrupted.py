"""Training that is killed at twenty random moments, and started again, against one that is not."""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._measure import Goal, main, note

KILLS, EPOCHS = 20, 120

PROCESS = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax
from diffcompare import learn
folder, epochs, out = sys.argv[1:]
digits = learn.load("digits")
def loss(params, x, y):
    scores = learn.apply(params, x)
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, y))
fitted = learn.fit(
    loss, learn.init(jax.random.key(0), (64, 100, 10)), (digits.x_train, digits.y_train),
    optax.adam(1e-3), epochs=int(epochs), batch_size=32, key=jax.random.key(1),
    checkpoint=folder or None, log=out + ".log", metrics=lambda _: print("epoch", flush=True) or {},
)
leaves = map(np.asarray, [*jax.tree.leaves(fitted.params), fitted.history.step_loss])
open(out, "wb").write(b"".join(leaf.tobytes() for leaf in leaves))
"""


def goals():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start(folder, "", "undisturbed").wait()
        kills, epochs = 0, []
        while kills < KILLS:
            process = start(folder, "checkpoints", "resumed")
            for _ in range(random.randrange(10)):
                process.stdout.readline()
            # An epoch with its checkpoint takes about this long.
            time.sleep(random.uniform(0, 0.1))
            process.kill()
            if process.wait() == 0:
                note(f"complete after {kills} kills; begun anew")
                for path in (folder / "checkpoints").iterdir():
                    path.rename(folder / f"{path.name}-{kills}")
                continue
            kills += 1
            epochs.append(reached(folder / "checkpoints"))
        note(f"epochs saved at each kill: {epochs}")
        start(folder, "checkpoints", "resumed").wait()
        undisturbed, resumed = ((folder / name).read_bytes() for name in ("undisturbed", "resumed"))
        differing = sum(a != b for a, b in zip(undisturbed, resumed, strict=True))
        logs = [losses(folder / f"{name}.log") for name in ("undisturbed", "resumed")]
    more = {"epochs": epochs}
    return [
        Goal(f"bytes that differ after {KILLS} kills", 0, differing, True, more),
        Goal(
            "lines of the log that differ",
            0,
            sum(a != b for a, b in zip(*logs, strict=True)),
            True,
            {},
        ),
    ]


def start(folder: Path, checkpoints: str, out: str) -> subprocess.Popen:
    where = str(folder / checkpoints) if checkpoints else ""
    command = [sys.executable, "-c", PROCESS, where, str(EPOCHS), str(folder / out)]
    root = Path(__file__).parents[1]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


def reached(checkpoints: Path) -> int:
    return max((int(path.name[-8:]) for path in checkpoints.glob("epoch-*")), default=0)


def losses(log: Path) -> list:
    return [json.loads(line)["step_loss"] for line in log.read_text().splitlines()]


if __name__ == "__main__":
    raise SystemExit(main("interrupted", goals))
