"""What a gradient by central differences costs, against the number of weights.

A black box has to be evaluated at 2 P points, so its time grows with P squared. What one weight
changes in a network is little of it, and only that needs to be computed again.
"""

import dataclasses
import itertools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from diffcompare.plot import style
from experiments._cost_measure import Contender, Made, take_turns
from experiments._runner import run_module as main

CLAIM = (
    "As a black box, a gradient costs about 2 P evaluations of the function; computing only what a "
    "changed weight changes costs a few hundredths of that at 10,000 weights."
)
ENABLE_X64 = True

INPUTS, OUTPUTS = 64, 10
COPIES = (1, 4, 16)  # batches evaluated at once, to find the best throughput


@dataclasses.dataclass(frozen=True)
class Config:
    """Networks with 64 inputs and 10 outputs, tanh, half squared error, in float64."""

    hidden: tuple[int, ...] = (8, 32, 128)
    """The units of the hidden layers, one network each."""
    layers: int = 2
    """How many layers of weights."""
    batch: int = 16
    """Examples that a loss is the mean over; so few that no matrix product of NumPy takes a second
    thread, whose waiting would count against the peers."""
    directions: int = 50
    """Peers follow so many directions; their time is scaled to all of them."""
    repeats: int = 5
    """Samples whose median is shown, which all ways and networks take in turns."""

    def __post_init__(self):
        if not self.hidden or min(*self.hidden, self.batch, self.directions, self.repeats) < 1:
            raise ValueError(f"Every number of {self} must be positive, and hidden not empty.")
        if self.layers < 2:
            raise ValueError(f"layers must be at least 2, but it is {self.layers}.")

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(hidden=(2, 4), batch=4, directions=4, repeats=1)


class Measured(NamedTuple):
    """One way to a gradient, for every network; NaN where it was not measured."""

    name: str
    seconds: np.ndarray  # (networks, repeats), CPU time of all threads
    memory: np.ndarray  # (networks,), bytes beside arguments and result
    error: np.ndarray  # (networks,), relative to jax.grad, in the 2-norm, of what was computed


class Result(NamedTuple):
    """What the figure shows."""

    weights: np.ndarray  # (networks,), P
    limit: np.ndarray  # (networks,), seconds that 2 P evaluations take at their best throughput
    measured: list[Measured]
    notes: list[str]


def run(config: Config) -> Result:
    """Returns time, memory and error of a gradient in every way and for every network."""
    networks = [_network(config, units) for units in config.hidden]
    ways, notes = _ways(config)
    gradients = [[way(network) for way in ways.values()] for network in networks]
    evaluations = [_evaluations(config, network) for network in networks]
    each_network = zip(gradients, evaluations, strict=True)
    take_turns([one for both in each_network for some in both for one in some], config.repeats)
    weights = np.array([network.flat.size for network in networks])
    directions = np.minimum(weights, config.directions)
    measured = []
    for name, *made in zip(ways, *gradients, strict=True):
        scale = weights / directions if name in _PEERS else np.ones(len(weights))
        measured.append(
            Measured(
                name,
                scale[:, None] * np.array([each.samples for each in made]),
                np.array([each.made.memory for each in made]),
                np.array([each.error for each in made]),
            )
        )
    best = [min(np.median(e.samples) / e.made.passes for e in several) for several in evaluations]
    return Result(weights, 2 * weights * np.array(best), measured, notes)


def plot(result: Result) -> Figure:
    """Returns the figure."""
    drawing, (left, right) = style.figure(1, 2, height=3.6)
    for number, way in enumerate(result.measured):
        look = style.series(number)
        if way.name == "reverse mode":
            look = style.method("ReverseMode")
        left.plot(result.weights, np.median(way.seconds, axis=1), label=way.name, **look)
        right.plot(result.weights, way.memory / 1e6, **look)
    left.fill_between(
        result.weights, result.limit, left.get_ylim()[0], color="0.9", zorder=0, linewidth=0
    )
    left.plot(result.weights, result.limit, color="0.4", linewidth=1, label="2 P evaluations")
    right.axhline(8, color="0.4", linewidth=1)
    right.annotate("8 MB", (result.weights[0], 8), (0, 2), textcoords="offset points", fontsize=8)
    for axes, title in ((left, "CPU time of a gradient (s)"), (right, "memory beside it (MB)")):
        axes.set(xscale="log", yscale="log", xlabel="weights P", title=title)
    drawing.legend(loc="outside lower center", ncols=4)
    return drawing


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every way and network."""
    rows = [
        {
            "way": way.name,
            "P": int(weights),
            "CPU ms": 1e3 * float(np.median(seconds)),
            "of 2 P evaluations": float(np.median(seconds) / limit),
            "MB": float(memory) / 1e6,
            "relative error": float(error),
        }
        for way in result.measured
        for weights, limit, seconds, memory, error in zip(
            result.weights, result.limit, way.seconds, way.memory, way.error, strict=True
        )
    ]
    missing: list[dict[str, object]] = [
        {**dict.fromkeys(rows[0], ""), "way": text} for text in result.notes
    ]
    return [*rows, *missing]


class _Network(NamedTuple):
    loss: Callable[..., jax.Array]
    numpy_loss: Callable[[np.ndarray], float]  # of the flat weights
    arguments: tuple[Any, jax.Array, jax.Array]  # weights, inputs, targets
    flat: np.ndarray
    gradient: np.ndarray  # flat, by jax.grad


def _network(config: Config, units: int) -> _Network:
    sizes = (INPUTS, *[units] * (config.layers - 1), OUTPUTS)
    # Drawn by NumPy: JAX would compile a program for every shape.
    normal = np.random.default_rng(0).normal
    params = tuple(
        learn.Layer(jnp.asarray(normal(size=(m, n)) / n**0.5), jnp.asarray(np.zeros(m)))
        for n, m in itertools.pairwise(sizes)
    )
    x, y = (jnp.asarray(normal(size=(config.batch, size))) for size in (INPUTS, OUTPUTS))

    def loss(params, x, y):
        return jnp.mean(learn.half_squared_error(learn.apply(params, x, jnp.tanh), y))

    gradient = _flat(jax.jit(jax.grad(loss))(params, x, y))
    inputs, targets = np.asarray(x), np.asarray(y)
    return _Network(
        loss, _numpy_loss(sizes, inputs, targets), (params, x, y), _flat(params), gradient
    )


def _numpy_loss(sizes, x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], float]:
    layers = list(itertools.pairwise(sizes))

    def loss(weights):
        values, start = x, 0
        for number, (inputs, outputs) in enumerate(layers):
            end = start + inputs * outputs
            matrix = weights[start:end].reshape(outputs, inputs)
            values = values @ matrix.T + weights[end : end + outputs]
            start = end + outputs
            if number < len(layers) - 1:
                values = np.tanh(values)
        return 0.5 * np.vdot(values - y, values - y) / len(x)

    return loss


def _ways(config: Config) -> tuple[dict[str, Callable], list[str]]:
    """Returns what measures each way, and what is said of those that are missing."""
    ways: dict[str, Callable] = {
        name: lambda network, method=method: _of_method(config, network, method)
        for name, method in {
            "dense": dc.CentralDifference(evaluation="dense"),
            "incremental": dc.CentralDifference(evaluation="incremental"),
            "reverse mode": dc.ReverseMode(),
        }.items()
    }
    notes = []
    for name, load in _PEERS.items():
        try:
            peer = load()
        except ImportError:
            notes.append(f"{name} is not installed and left out")
            continue
        ways[name] = lambda network, peer=peer: _of_peer(config, network, peer)
    return ways, notes


def _of_method(config: Config, network: _Network, method: dc.Method) -> Contender:
    gradient = jax.jit(dc.grad(network.loss, method=method)).lower(*network.arguments).compile()
    found = _flat(gradient(*network.arguments))
    call = lambda: jax.block_until_ready(gradient(*network.arguments))
    memory: Any = gradient.memory_analysis()
    made = Made(call, 1, memory.temp_size_in_bytes)
    return _contender(config, network, made, _relative(found, network.gradient))


def _of_peer(config: Config, network: _Network, peer: Callable) -> Contender:
    """Returns the same of a peer, which follows some directions only."""
    count = min(config.directions, network.flat.size)
    rest = network.flat[count:]
    fun = lambda weights: network.numpy_loss(np.concatenate([weights, rest]))
    start = network.flat[:count]
    found = np.ravel(peer(fun, start))
    tracemalloc.start()
    try:
        peer(fun, start)
        _, memory = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    error = _relative(found, network.gradient[:count])
    return _contender(config, network, Made(lambda: peer(fun, start), 1, memory), error)


def _evaluations(config: Config, network: _Network) -> list[Contender]:
    """Returns evaluations of the loss, of which several at once may be the fastest."""
    params, x, y = network.arguments
    loss = jax.jit(network.loss)

    def contender(copies):
        many = jnp.tile(x, (copies, 1)), jnp.tile(y, (copies, 1))
        call = lambda: loss(params, *many).block_until_ready()
        call()  # compiles
        return _contender(config, network, Made(call, copies, math.nan), math.nan)

    return [contender(copies) for copies in COPIES]


def _contender(config: Config, network: _Network, made: Made, error: float) -> Contender:
    return Contender.of(made, network.flat.size, math.nan, error, config.repeats)


def _scipy():
    from scipy.optimize._numdiff import approx_derivative

    return lambda fun, x: approx_derivative(fun, x, method="3-point")


def _numdifftools():
    import numdifftools

    return lambda fun, x: numdifftools.Gradient(fun, step=1e-5, order=2)(x)


def _jacobi():
    import jacobi

    return lambda fun, x: jacobi.jacobi(fun, x)[0]


_PEERS = {
    "SciPy, 3-point": _scipy,
    "numdifftools, fixed step": _numdifftools,
    "jacobi": _jacobi,
}


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(tree)])


def _relative(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


if __name__ == "__main__":
    raise SystemExit(main("difference_cost"))
