"""Differences spread over two devices of a CPU against one core, by the time that passes.

One device of a CPU is not one core: it runs the loops of several leaves side by side, and so may
use the second core too. Two cores can be worth at most two of one, so the one device is held on
one core while it is timed; what it takes with both is printed beside, and is in the samples.
"""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)

import contextlib
from collections.abc import Iterator

import jax
import numpy as np

import diffcompare as dc
from benchmarks._measure import Goal, details, interleaved, main, note, paired_ratio
from benchmarks._problems import problem

jax.config.update("jax_enable_x64", True)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Holds all threads of this process on one core; where a system cannot, on all."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    try:
        _hold(threads, {min(cores)})
        yield
    finally:
        _hold(threads, cores)


def _hold(threads: list[int], cores: set[int]) -> None:
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.sched_setaffinity(thread, cores)


def goals(
    cases=(
        ("dense", "P = 1,008, 2 layers"),
        ("dense", "P = 9,942, 3 layers"),
        ("incremental", "P = 9,942, 3 layers"),
    ),
):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("directions",))
    found = []
    for evaluation, name in cases:
        of = problem(name)
        compiled = {
            key: jax.jit(dc.grad(of.loss, method=dc.CentralDifference(**options)))
            for key, options in {
                "one": {"evaluation": evaluation},
                "two": {"evaluation": evaluation, "mesh": mesh},
            }.items()
        }
        contenders = {
            key: lambda g=g, of=of: jax.block_until_ready(g(of.params, of.x, of.y))
            for key, g in compiled.items()
        }

        def on_one_core(call=contenders["one"]):
            with one_core():
                call()

        samples = interleaved({**contenders, "one core": on_one_core}, 15)
        one, two = (g(of.params, of.x, of.y) for g in compiled.values())
        pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
        differing = sum(int(np.sum(np.asarray(a) != np.asarray(b))) for a, b in pairs)
        # How many cores the two devices were really given; others may hold them.
        cores = samples["two"].median("cpu") / samples["two"].median("wall")
        if cores < 1.5:
            note(f"Two devices were given {cores:.2f} cores; the machine is busy, measure again.")
        measured = paired_ratio(samples, "one core", "two", "wall")
        one_device = paired_ratio(samples, "one", "two", "wall")
        note(f"{evaluation}: one device on all cores takes {one_device:.2f} times that of two.")
        label = f"one core / two devices, {evaluation}, {name}"
        more = details(samples, cores=cores, one_device_ratio=one_device)
        found.append(Goal(label, 1.8, measured, False, more))
        found.append(Goal(f"entries that differ, {evaluation}, {name}", 0, differing, True, {}))
    return found


if __name__ == "__main__":
    raise SystemExit(main("sharded", goals))
