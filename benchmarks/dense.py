"""Dense differences against 2P forwards at their best throughput, both on one core."""

import jax
import jax.numpy as jnp

import diffcompare as dc
from benchmarks._measure import Goal, details, interleaved, main, ratio, stay_on_one_core
from benchmarks._problems import Problem, problem

jax.config.update("jax_enable_x64", True)

COPIES = (1, 2, 4, 8, 16, 32, 64)


def forwards(of: Problem, copies: int):
    """Returns a call that evaluates the loss of as many batches as `copies` at once."""
    x, y = (jnp.tile(part, (copies, 1)) for part in (of.x, of.y))
    loss = jax.jit(of.loss)
    # Many calls a sample, because a single one is over in microseconds.
    calls = max(1, 256 // copies)
    return lambda: [loss(of.params, x, y).block_until_ready() for _ in range(calls)], calls


def goals(names=("P = 1,008, 2 layers", "P = 9,610, 2 layers", "P = 9,942, 3 layers")):
    found = []
    for name in names:
        of = problem(name)
        method = dc.CentralDifference(evaluation="dense")
        gradient = jax.jit(dc.grad(of.loss, method=method))
        gradient = gradient.lower(of.params, of.x, of.y).compile()
        contenders = {
            "gradient": lambda g=gradient, of=of: jax.block_until_ready(g(of.params, of.x, of.y))
        }
        evaluations = {}
        for copies in COPIES:
            contenders[f"{copies} batches"], calls = forwards(of, copies)
            evaluations[f"{copies} batches"] = copies * calls
        samples = interleaved(contenders, 5)
        each = {key: samples[key].median("cpu") / n for key, n in evaluations.items()}
        best = min(each, key=each.__getitem__)
        measured = samples["gradient"].median("cpu") / (2 * of.count * each[best])
        plain = ratio(samples, "gradient", "1 batches", "cpu") * evaluations["1 batches"]
        more = {"best": best, "against one batch at a time": plain / (2 * of.count)}
        megabytes = gradient.memory_analysis().temp_size_in_bytes / 1e6
        found.append(
            Goal(f"dense / 2P forwards, {name}", 1.2, measured, True, details(samples, **more))
        )
        found.append(Goal(f"dense, temporaries in MB, {name}", 8, megabytes, True, {}))
    return found


if __name__ == "__main__":
    stay_on_one_core()
    raise SystemExit(main("dense", goals))
