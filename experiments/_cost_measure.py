"""Timing in turns, and what is concluded from times: what larger sizes will take."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

SAMPLE = 2e-3  # seconds of one sample at least: as many calls as that takes
# A line is fitted to the points within this factor of the largest, about a decade: below them, what
# a call takes whatever its size counts.
RANGE = 12


class Made(NamedTuple):
    """A function of no arguments that finds a gradient, and what is known of it."""

    call: Callable[[], Any]
    passes: int  # through the function that is differentiated
    memory: float  # bytes


@dataclasses.dataclass
class Contender:
    """A gradient of one network, which was called once, and its samples as they are taken."""

    made: Made
    parameters: int
    first: float  # seconds to derive, to compile what is new, and for the first call
    error: float
    once: float  # seconds of the call after it
    calls: int  # in one sample
    rounds: int  # how many samples
    samples: list[float] = dataclasses.field(default_factory=list)

    @classmethod
    def of(
        cls,
        made: Made,
        parameters: int,
        first: float,
        error: float,
        repeats: int,
        seconds: float = math.inf,
    ) -> "Contender":
        """Returns one with as many samples, up to `repeats`, as fit in so many seconds."""
        once = _timed(made.call)
        calls = max(1, math.ceil(SAMPLE / once))
        rounds = int(min(repeats, max(1, seconds / (once * calls))))
        return cls(made, parameters, first, error, once, calls, rounds)


def take_turns(contenders: Sequence[Contender], repeats: int) -> None:
    """Adds samples to all contenders: one of each, then the next of each."""
    for turn in range(repeats):
        for contender in contenders:
            if turn < contender.rounds:
                contender.samples.append(_timed(contender.made.call, contender.calls))


def clock() -> float:
    """Returns seconds by a clock that, on a CPU, stands still while other programs run.

    They still take its caches, and wake threads that wait: where another program ran on the same
    two cores, gradients took up to 2.6 times as long by it.
    """
    return time.process_time() if _is_cpu() else time.perf_counter()


def clock_name() -> str:
    """Returns what the seconds of `clock` are."""
    return "CPU time of all threads" if _is_cpu() else "time that passes"


def expected(smaller: Sequence[Contender], parameters: int) -> float:
    """Returns the seconds that a size will take, by the growth of the last two; 0 before there are.

    Args:
        smaller: The same gradient of smaller networks.
        parameters: The size.
    """
    if len(smaller) < 2:
        return 0.0
    before, last = smaller[-2:]
    growth = math.log(last.once / before.once) / math.log(last.parameters / before.parameters)
    # Operations grow as the square at most. What grew faster left a cache, which happens once;
    # what took less on the larger network was noise.
    return last.once * (parameters / last.parameters) ** min(max(growth, 0.0), 2.0)


def fitted_exponent(parameters: np.ndarray, values: np.ndarray) -> float:
    """Returns the slope of a straight line through the upper points, on logarithmic axes.

    It is NaN for fewer than three points.

    Example:
        >>> parameters = np.array([10, 1000, 3000, 10000])
        >>> fitted_exponent(parameters, parameters**2.0)
        2.0
    """
    upper = parameters * RANGE >= parameters.max(initial=0)
    if upper.sum() < 3 or np.any(values[upper] <= 0):
        return math.nan
    return float(np.polyfit(np.log(parameters[upper]), np.log(values[upper]), 1)[0])


def reached(parameters: np.ndarray, seconds: np.ndarray, exponent: float, limit: float) -> float:
    """Returns the parameters at which a gradient takes `limit` seconds.

    It is interpolated between points, or extrapolated from the last one by the exponent; NaN
    where there is none. In the end no exponent is below 1: that many numbers are written.

    Example:
        >>> reached(np.array([100, 1000]), np.array([0.01, 1.0]), 2.0, 100.0)
        10000.0
    """
    above = np.flatnonzero(seconds >= limit)
    if above.size and above[0] > 0:
        ends = slice(above[0] - 1, above[0] + 1)
        logs = np.log(limit), np.log(seconds[ends]), np.log(parameters[ends])
        return float(np.exp(np.interp(*logs)))
    if seconds.size and not above.size and exponent > 0:
        return float(parameters[-1] * (limit / seconds[-1]) ** (1 / max(1.0, exponent)))
    return math.nan


def _timed(call: Callable[[], Any], calls: int = 1) -> float:
    start = clock()
    for _ in range(calls):
        call()
    return (clock() - start) / calls


def _is_cpu() -> bool:
    return jax.default_backend() == "cpu"
