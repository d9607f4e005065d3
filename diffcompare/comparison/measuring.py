"""What a program costs, and whether it is done in time."""

import re
import time
from collections.abc import Callable
from typing import Any

import jax

from diffcompare.comparison import work
from diffcompare.comparison.result import Cost

PyTree = Any

# A multiplication and an addition of a product of matrices take a fraction of the time of another
# operation: they are done several at once, and need no memory in between.
_OF_PRODUCT = 0.25

# An execution that takes more of the seconds allowed than this is not repeated.
_REPEATED = 0.2


class Refusal(Exception):
    """A method is not tried; the message says why."""


def compiled(
    program: Callable,
    arguments: tuple[PyTree, ...],
    *,
    seconds: float,
    repeats: int,
    rate: Callable[[work.Work], float] | None = None,
) -> tuple[PyTree, Cost]:
    """Returns what a program returns, compiled, and what it costs.

    Args:
        program: Function of pytrees of arrays, which JAX can trace.
        arguments: What it is called with.
        seconds: How long an execution may take, and all repeats together.
        repeats: How often it is called again.
        rate: Says about how long some work takes; None lets it run.

    Raises:
        Refusal: An execution would take longer.
    """
    began = time.perf_counter()
    traced = jax.jit(program).trace(*arguments)
    if rate is not None:
        check_time("", rate(work.of(traced.jaxpr)), seconds)
    executable = traced.lower().compile()
    started = time.perf_counter()
    result = jax.block_until_ready(executable(*arguments))
    ended = time.perf_counter()
    # A program may take other arguments than those it returns nothing of.
    samples = _samples(lambda: executable(*arguments), ended - started, seconds, repeats)
    analysis: Any = executable.cost_analysis() or {}
    memory: Any = executable.memory_analysis()
    cost = Cost(
        flops=_sum(analysis, "flops", "transcendentals"),
        bytes=_sum(analysis, "bytes accessed"),
        memory=None if memory is None else int(memory.temp_size_in_bytes),
        has_loops=re.search(r"\bwhile\(", executable.as_text() or "") is not None,
        first=ended - began,
        samples=samples,
    )
    return result, cost


def called(
    program: Callable[[], PyTree], *, seconds: float, repeats: int, compiles: bool = False
) -> tuple[PyTree, Cost]:
    """Returns what a program returns that is called as it is, and how long it takes.

    Args:
        program: What to call.
        seconds: How long all repeats may take.
        repeats: How often it is called again.
        compiles: Whether the first call compiles, so that it says nothing of the others.
    """
    began = time.perf_counter()
    result = jax.block_until_ready(program())
    first = time.perf_counter() - began
    samples = _samples(program, _timed(program) if compiles else first, seconds, repeats)
    return result, Cost(None, None, None, False, first, samples)


def check_time(what: str, expected: float, seconds: float) -> None:
    """Raises `Refusal` where something is expected to take longer than it may.

    The expected time is a coarse one, and is told with one digit.
    """
    if expected > seconds:
        raise Refusal(
            f"it {what}would take about {expected:.0e} s, and seconds is {seconds:g}".replace(
                "e+0", "e"
            )
        )


def rate_of(function: work.Work, cost: Cost) -> Callable[[work.Work], float]:
    """Returns about how long some work takes, as a function of it, from that of a function."""
    per_operation = cost.median / max(1.0, _weight(function))
    return lambda other: per_operation * _weight(other)


def _weight(done: work.Work) -> float:
    return done.operations + _OF_PRODUCT * done.products


def _sum(analysis: dict[str, float], *names: str) -> float | None:
    # XLA leaves out what is zero.
    return sum(analysis.get(name, 0.0) for name in names) if analysis else None


def _samples(
    call: Callable[[], Any], last: float, seconds: float, repeats: int
) -> tuple[float, ...]:
    if last > _REPEATED * seconds:
        return (last,)
    found: list[float] = []
    while len(found) < repeats and sum(found) < seconds:
        found.append(_timed(call))
    return tuple(found)


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began
