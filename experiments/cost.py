"""What a gradient costs by each method, against the number of parameters.

Lecture row 28: backpropagation is efficient. Every method differentiates the lecture's loss of a
few examples, half the squared error of `W2 tanh(W1 x)`, by all weights, in float64, until a
gradient no longer fits a budget of time and memory.

Compiling is kept apart. One evaluation of the loss and one gradient of every method take turns, on
all networks, so that the load of the machine falls on all of them alike.
"""

import dataclasses
import itertools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from experiments import _cost_figure, _cost_passes
from experiments._cost_measure import (
    Contender,
    Made,
    clock,
    clock_name,
    expected,
    fitted_exponent,
    reached,
    take_turns,
)
from experiments._runner import run_module as main

CLAIM = (
    "Differences, the complex step and forward mode go through the function once or more for every "
    "parameter, so a gradient by them takes time as the square of their number, about a second at "
    "ten thousand; backpropagation and the derived program take a few evaluations at any number."
)
ENABLE_X64 = True

OUTPUTS = 3
VALUE = "one evaluation"
REVERSE = "reverse mode"
# To derive and compile may take so many times as long as a gradient: it is done once.
COMPILING = 30
# So many operations the compiler takes some seconds for. They decide where formulas end, on every
# machine at the same size, and not the seconds.
FORMULAS = dc.Budget(operations=20_000, seconds=30.0)
LIMITS = (1.0, 60.0)  # seconds from which a gradient is long, and from which it is very long

Name = Literal[
    "reverse mode",
    "symbolic, program",
    "symbolic, matrix",
    "symbolic, expression",
    "incremental differences",
    "complex step",
    "forward mode",
    "forward differences",
    "central differences",
    "Richardson",
]
NAMES: tuple[Name, ...] = get_args(Name)
QUICK: tuple[Name, ...] = ("reverse mode", "symbolic, matrix", "central differences")


@dataclasses.dataclass(frozen=True)
class Config:
    """The networks have as many inputs as hidden units, 3 outputs, and no biases."""

    hidden: tuple[int, ...] = (2, 9, 17, 30, 55, 98, 315, 561, 999)
    """The hidden units n of each network, in rising order; it has n (n + 3) parameters."""
    batch: int = 1
    """Examples that the loss is the mean over."""
    repeats: int = 9
    """Samples of the time of a gradient; fewer where they would take longer than `seconds`."""
    seconds: float = 2.0
    """A method goes on to the next network while a gradient is expected to take less."""
    megabytes: float = 1000.0
    """And while its temporary memory is less."""
    methods: tuple[Name, ...] = NAMES
    """Which methods, of those above."""

    def __post_init__(self):
        numbers = (*self.hidden, self.batch, self.repeats, self.seconds, self.megabytes)
        if not self.hidden or not all(number > 0 for number in numbers):
            raise ValueError(f"Every number of {self} must be positive, and hidden not empty.")
        if list(self.hidden) != sorted(set(self.hidden)):
            raise ValueError(f"hidden must be in rising order, but it is {self.hidden}.")
        if not set(self.methods) <= set(NAMES):
            raise ValueError(f"methods must be of {', '.join(NAMES)}, but are {self.methods}.")

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        # Each program is compiled once for each size, which is what takes the time.
        return cls(hidden=(9, 16, 30), repeats=3, methods=QUICK)


class Curve(NamedTuple):
    """What a method costs, a point for every network that it was measured on."""

    name: str
    parameters: np.ndarray  # (points,)
    passes: np.ndarray  # (points,), through the function: values, slopes and pullbacks
    first: np.ndarray  # (points,), to derive, to compile what is new, and for the first call
    seconds: list[np.ndarray]  # of a call after it: all samples of every point
    memory: np.ndarray  # (points,), bytes beside arguments and result
    error: np.ndarray  # (points,), relative to reverse mode in the 2-norm; NaN for the value
    time_exponent: float  # of time in the parameters, fitted; NaN for too few points
    memory_exponent: float
    reaches: np.ndarray  # (limits,), parameters at which a gradient takes so long; extrapolated
    stopped_at: int  # parameters of the first network it was not measured on; 0 where there is none
    reason: str  # why not
    by_time: bool  # whether it is that a gradient takes too long


class Result(NamedTuple):
    """What the figure shows."""

    device: str
    clock: str  # what the times are
    parameters: np.ndarray  # (networks,)
    value: Curve  # of one evaluation of the loss
    curves: list[Curve]
    ratios: dict[str, np.ndarray]  # method -> (networks, repeats), time over that of an evaluation


def run(config: Config) -> Result:
    """Returns what every method costs on every network that it can be measured on."""
    tracks = {name: _Track() for name in (VALUE, *config.methods)}
    parameters = []
    for hidden in config.hidden:
        network = _network(config, hidden)
        parameters.append(network.size)
        for name, track in tracks.items():
            if not track.reason and (contender := _contender(config, network, name, track)):
                track.contenders.append(contender)
    by_size = itertools.zip_longest(*(track.contenders for track in tracks.values()))
    take_turns(list(filter(None, itertools.chain(*by_size))), config.repeats)
    found = [_curve(name, track) for name, track in tracks.items()]
    ratios = {
        name: np.divide(found[number].seconds, found[0].seconds)
        for number, (name, track) in enumerate(tracks.items())
        if number
        and len(track.contenders) == len(parameters)
        and all(each.rounds == config.repeats for each in track.contenders)
    }
    device = jax.devices()[0].device_kind
    return Result(device, clock_name(), np.array(parameters), found[0], found[1:], ratios)


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _cost_figure.draw(result, sentences(result))


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every method."""
    return [
        {
            "method": curve.name,
            "largest P": int(curve.parameters[-1]) if len(curve.parameters) else 0,
            "passes there": int(curve.passes[-1]) if len(curve.parameters) else 0,
            "ms there": 1e3 * float(np.median(curve.seconds[-1])) if curve.seconds else math.nan,
            "MB there": float(curve.memory[-1]) / 1e6 if len(curve.parameters) else math.nan,
            "time as P^": curve.time_exponent,
            "memory as P^": curve.memory_exponent,
            "1 s from P": float(curve.reaches[0]),
            "1 min from P": float(curve.reaches[1]),
            "stopped": f"at P = {curve.stopped_at:,}: {curve.reason}" if curve.reason else "",
        }
        for curve in (result.value, *result.curves)
    ]


def sentences(result: Result) -> list[str]:
    """Returns where each method stops being practical, and what reverse mode takes."""
    found = []
    for limit, name in enumerate(("a second", "a minute")):
        reaching = sorted(
            (float(curve.reaches[limit]), curve)
            for curve in result.curves
            if math.isfinite(curve.reaches[limit])
        )
        each = [
            f"{_rounded(size)}{'' if size <= curve.parameters[-1] else '*'} ({curve.name})"
            for size, curve in reaching
        ]
        if each:
            found.append(f"A gradient takes {name} from P = {', '.join(each)}. *: extrapolated.")
    found += [
        f"{curve.name} ends before P = {curve.stopped_at:,}: {curve.reason}."
        for curve in result.curves
        if curve.reason and not curve.by_time
    ]
    if REVERSE in result.ratios:
        ratios = np.median(result.ratios[REVERSE], axis=1)
        found.append(
            f"A gradient by {REVERSE} takes {ratios.min():.1f} to {ratios.max():.1f} times as long "
            f"as one evaluation, from P = {result.parameters[0]:,} to {result.parameters[-1]:,}."
        )
    return found


def _rounded(size: float) -> str:
    return f"{float(f'{size:.2g}'):,.0f}"


class _Network(NamedTuple):
    loss: Callable[..., jax.Array]
    arguments: tuple[Any, jax.Array, jax.Array]  # weights, inputs, targets
    size: int  # how many parameters
    gradient: np.ndarray  # flat, by jax.grad


@dataclasses.dataclass
class _Track:
    """How far a method has come."""

    contenders: list[Contender] = dataclasses.field(default_factory=list)
    stopped_at: int = 0
    reason: str = ""
    by_time: bool = False

    def stop(self, network: _Network, reason: str, by_time: bool = False) -> None:
        self.stopped_at, self.reason, self.by_time = network.size, reason, by_time


def _network(config: Config, hidden: int) -> _Network:
    # Drawn by NumPy: JAX would compile a program for every shape.
    normal = np.random.default_rng(0).normal
    params = tuple(
        learn.Layer(jnp.asarray(normal(size=(rows, hidden)) / hidden**0.5), None)
        for rows in (hidden, OUTPUTS)
    )
    x, y = (jnp.asarray(normal(size=(config.batch, size))) for size in (hidden, OUTPUTS))

    def loss(params, x, y):
        return jnp.mean(learn.half_squared_error(learn.apply(params, x, jnp.tanh), y))

    gradient = _flat(jax.jit(jax.grad(loss))(params, x, y))
    return _Network(loss, (params, x, y), gradient.size, gradient)


def _method(name: str) -> dc.Method:
    return {
        "reverse mode": dc.ReverseMode(),
        "symbolic, program": dc.Symbolic(route="program"),
        "symbolic, matrix": dc.Symbolic(route="matrix"),
        "symbolic, expression": dc.Symbolic(route="expression", budget=FORMULAS),
        "incremental differences": dc.CentralDifference(evaluation="incremental"),
        "complex step": dc.ComplexStep(),
        "forward mode": dc.ForwardMode(),
        "forward differences": dc.ForwardDifference(evaluation="dense"),
        "central differences": dc.CentralDifference(evaluation="dense"),
        "Richardson": dc.Richardson(),
    }[name]


def _contender(config: Config, network: _Network, name: str, track: _Track) -> Contender | None:
    """Returns a gradient that was compiled and called once; or None, and the track is stopped."""
    gradient = expected(track.contenders, network.size)
    compiling = track.contenders[-1].first if track.contenders else 0.0
    if gradient > config.seconds:
        track.stop(network, f"a gradient would take about {gradient:.1f} s", by_time=True)
        return None
    if compiling > COMPILING * config.seconds:
        track.stop(network, f"the one before took {compiling:.0f} s to derive and to compile")
        return None
    start = clock()
    try:
        made = _estimated(network) if name == "Richardson" else _compiled(network, name)
    except NotImplementedError:
        track.stop(
            network,
            f"the formula is beyond {FORMULAS.operations:,} operations or {FORMULAS.seconds:g} s",
        )
        return None
    if made.memory > 1e6 * config.megabytes:
        track.stop(network, f"a gradient would need {made.memory / 1e6:,.0f} MB")
        return None
    found = made.call()
    first = clock() - start
    error = math.nan if name == VALUE else _relative(_flat(found), network.gradient)
    return Contender.of(made, network.size, first, error, config.repeats, config.seconds)


def _compiled(network: _Network, name: str) -> Made:
    if name == VALUE:
        fun, passes = network.loss, 1
    else:
        method = _method(name)
        fun = dc.grad(network.loss, method=method)
        passes = _cost_passes.count(method, network.arguments[0])
    compiled = jax.jit(fun).lower(*network.arguments).compile()
    memory: Any = compiled.memory_analysis()
    call = lambda: jax.block_until_ready(compiled(*network.arguments))
    return Made(call, passes, memory.temp_size_in_bytes)


def _estimated(network: _Network) -> Made:
    """Returns Richardson's extrapolation as `estimate` calls it: many compiled evaluations.

    As one compiled program it would take ten seconds to compile for each network. Its memory is
    that of NumPy on the host, beside which the batches of evaluations are small.
    """
    estimate = dc.estimate(network.loss)
    found = estimate(*network.arguments)  # compiles, whose memory is another matter
    tracemalloc.start()
    try:
        estimate(*network.arguments)
        _, memory = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    call = lambda: jax.block_until_ready(estimate(*network.arguments).grad)
    return Made(call, found.evaluations + 1, memory)


def _curve(name: str, track: _Track) -> Curve:
    made = track.contenders
    parameters = np.array([each.parameters for each in made], int)
    samples = [np.array(each.samples) for each in made]
    seconds = np.array([np.median(each) for each in samples])
    memory = np.array([each.made.memory for each in made], float)
    exponent = fitted_exponent(parameters, seconds)
    return Curve(
        name,
        parameters,
        np.array([each.made.passes for each in made], int),
        np.array([each.first for each in made]),
        samples,
        memory,
        np.array([each.error for each in made]),
        exponent,
        fitted_exponent(parameters, memory),
        np.array([reached(parameters, seconds, exponent, limit) for limit in LIMITS]),
        track.stopped_at,
        track.reason,
        track.by_time,
    )


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(tree)])


def _relative(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


if __name__ == "__main__":
    raise SystemExit(main("cost"))
