"""Work in processes beside each other, each on cores of its own, which end with the first one."""

import collections
import concurrent.futures.process
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# A process that runs experiments takes up to a gigabyte of memory.
_MOST = 4


def cores() -> list[int]:
    """Returns the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def default_jobs() -> int:
    """Returns how many processes there are to be: one for each core, up to a limit.

    It is one where a process cannot be kept to some of the cores, and so off those of the others.
    """
    return min(len(cores()), _MOST) if hasattr(os, "sched_setaffinity") else 1


def run(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    jobs: int,
    begin: Callable[[Task], None],
) -> Iterator[tuple[Task, Result | None]]:
    """Yields every task with what `function` makes of it, in the order in which they end.

    It is None where a process was killed, as for lack of memory: of what ran then, and of what was
    to run after it.

    Args:
        function: Can be pickled, as can its arguments and results.
        tasks: What to do, begun in this order.
        jobs: How many processes there are at most.
        begin: Is called with each task as it begins.
    """
    # A process that is forked from one in which JAX runs can hang.
    spawned = multiprocessing.get_context("spawn")
    cache, shares = tempfile.TemporaryDirectory(), spawned.SimpleQueue()
    for number in range(jobs):
        shares.put(cores()[number::jobs] or cores())
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, spawned, initializer=_prepare, initargs=(shares, cache.name)
    )
    left = collections.deque(tasks)
    running: dict[concurrent.futures.Future[Result], Task] = {}
    try:
        while left or running:
            while left and len(running) < jobs:
                future = pool.submit(_ending, function, left[0])
                running[future] = left.popleft()
                begin(running[future])
            ended, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ended:
                result = future.result()
                yield running.pop(future), result
    except concurrent.futures.process.BrokenProcessPool:
        for task in (*running.values(), *left):
            yield task, None
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        cache.cleanup()


def _ending(function: Callable[[Task], Result], task: Task) -> Result:
    try:
        return function(task)
    except SystemExit:  # which a pool takes for the end of the task, and goes on
        os._exit(128 + signal.SIGTERM)


def _prepare(shares: Any, cache: str) -> None:
    # Before JAX is imported, which makes as many threads as there are cores. The times that a
    # process measures are then those of its own cores, which no other process takes.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, shares.get())
    # What one process compiles the others need not. A user who has a cache keeps it.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    # So that what a process is writing when it has to end is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the others
