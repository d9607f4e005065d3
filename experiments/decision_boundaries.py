"""Which boundaries a linear model and multilayer perceptrons draw between classes in the plane.

Lecture row 8: every score of a linear model is an inner product, and is 0 along a line. Row 10:
linear classifiers learn straight boundaries only. Row 16: boundaries become more complex with the
units and layers. A network of ReLU units is linear in each of many pieces of the plane; here they
are counted.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from diffcompare import learn
from experiments import _decision_boundaries_figure
from experiments import _small_networks as networks
from experiments._runner import run_module as main

CLAIM = (
    "A linear classifier draws one straight line, so it does little better than guess on spiral, "
    "rings and XOR; hidden units fold the line into more pieces the more there are, and 100 of "
    "them get 98 of 100 unseen points right."
)

RATE = 3e-2  # of Adam, falling to 0 along a cosine
HELD_OUT = 2000  # points
FEW = 20  # hidden units
SHOWN = 150  # training points in the figure
DRAWN = 120  # cells along each side of a map in the figure
BLOBS = ((0.0, 1.0), (-0.9, -0.6), (0.9, -0.6))  # the middles of the classes of row 8


class Problem(NamedTuple):
    """A way to draw points of two classes, and the square around them."""

    draw: networks.Draw
    half: float  # half the side of the square that is plotted, about the origin


PROBLEMS = {
    # Two turns: with fewer a line through the origin separates more of the arms by chance.
    "spiral": Problem(lambda key, points: learn.spiral(key, points, turns=2.0), 1.1),
    "rings": Problem(learn.rings, 2.5),
    "XOR": Problem(learn.xor, 1.0),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """How many points, networks and cells."""

    units: tuple[int, ...] = (3, 6, 20, 100)
    """Hidden units of the networks with one hidden layer."""
    deep: int = 20
    """Hidden units of both layers of a network with two; 0 for none."""
    points: int = 400
    """Training points of each problem."""
    seeds: int = 5
    """How often to draw points and first weights."""
    first_seed: int = 0
    """The first of them."""
    steps: int = 2000
    """Steps of Adam, each with all training points."""
    cells: int = 200
    """Cells along each side of the grid on which linear regions are counted."""

    def __post_init__(self):
        counts = (*self.units, self.points, self.seeds, self.steps, self.cells)
        if not self.units or min(counts) < 1 or self.deep < 0 or self.first_seed < 0:
            raise ValueError(
                "units, points, seeds, steps and cells must be positive, deep and first_seed not "
                f"negative, but they are {self.units}, {self.points}, {self.seeds}, {self.steps}, "
                f"{self.cells}, {self.deep} and {self.first_seed}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(units=(3, 20), deep=0, points=100, seeds=2, steps=300, cells=60)


class Model(NamedTuple):
    """A model on one problem, trained once for each seed."""

    name: str
    hidden: list[int]  # units of each hidden layer
    accuracy: np.ndarray  # (seeds,), of held-out points
    loss: np.ndarray  # (seeds,), cross-entropy of held-out points in nats
    regions: np.ndarray  # (seeds,), distinct activation patterns on the grid
    exact: np.ndarray  # (seeds,) regions in the square, without a grid; empty for two layers
    classes: np.ndarray  # (DRAWN, DRAWN), with the first seed; rows from below
    pieces: np.ndarray  # (DRAWN, DRAWN), the number of the region, with the first seed


class Boundaries(NamedTuple):
    """A problem and what the models made of it."""

    problem: str
    half: float  # half the side of the plotted square
    points: np.ndarray  # (SHOWN, 2), trained on with the first seed
    labels: np.ndarray  # (SHOWN,)
    models: list[Model]


class Lines(NamedTuple):
    """A linear model in the plane; its score of class i is 0 where weight[i] x + bias[i] = 0."""

    half: float
    points: np.ndarray  # (points, 2)
    labels: np.ndarray  # (points,)
    weight: np.ndarray  # (classes, 2)
    bias: np.ndarray  # (classes,)
    classes: np.ndarray  # (DRAWN, DRAWN), rows from below
    accuracy: float  # of held-out points


class Result(NamedTuple):
    """What the figure shows."""

    cells: int  # along each side of the grid on which regions are counted
    problems: list[Boundaries]
    lines: Lines


def run(config: Config) -> Result:
    """Returns the accuracy and the boundaries of every model on every problem."""
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    data = {
        name: networks.points(problem.draw, seeds, config.points, HELD_OUT)
        for name, problem in PROBLEMS.items()
    }
    trained = _trained(config, data)
    problems = []
    for index, (name, problem) in enumerate(PROBLEMS.items()):
        (points, labels), _ = data[name]
        found = [
            _measured(hidden, fits, index, problem.half, config) for hidden, fits in trained.items()
        ]
        shown = (points[0, :SHOWN], labels[0, :SHOWN])
        problems.append(Boundaries(name, problem.half, *shown, found))
    return Result(config.cells, problems, _lines(config))


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _decision_boundaries_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every problem and model."""
    return [
        {
            "problem": problem.problem,
            "model": model.name,
            "held-out accuracy": f"{model.accuracy.mean():.4f} +- "
            f"{networks.spread(model.accuracy):.4f}",
            "lowest": float(model.accuracy.min()),
            "loss (nats)": float(model.loss.mean()),
            "seeds": len(model.accuracy),
            "patterns on the grid": f"{model.regions.mean():.1f} +- "
            f"{networks.spread(model.regions):.1f}",
            "regions in the square": float(model.exact.mean()) if model.exact.size else "",
            "at most": most_regions(model.hidden[0]) if len(model.hidden) == 1 else "",
        }
        for problem in result.problems
        for model in problem.models
    ]


def most_regions(units: int) -> int:
    """Returns into how many regions so many lines can cut the plane (Zaslavsky 1975)."""
    return 1 + units + units * (units - 1) // 2


def evaluate(params: learn.model.Params, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns which hidden units are on at every point, and the class that is predicted.

    Two points with the same units on are in the same convex piece of the plane, in which the
    network is linear.

    Args:
        params: The layers of a network with ReLU.
        x: Points of shape `(points, 2)`.

    Returns:
        The bits of the units of all hidden layers, of shape `(points, bytes)`, and the classes,
        of shape `(points,)`.
    """
    # In parts that fit into the cache.
    parts = [_evaluated(params, part) for part in np.array_split(x, max(1, len(x) // 2000))]
    bits, classes = zip(*parts, strict=True)
    return np.concatenate(bits), np.concatenate(classes)


def _evaluated(params: learn.model.Params, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    on, signal = [np.empty((len(x), 0), bool)], x
    for weight, bias in params[:-1]:
        sums = signal @ np.asarray(weight, np.float64).T + np.asarray(bias, np.float64)
        on.append(sums > 0)
        signal = np.maximum(sums, 0)
    scores = signal @ np.asarray(params[-1].weight).T + np.asarray(params[-1].bias)
    return np.packbits(np.concatenate(on, axis=1), axis=1), np.argmax(scores, axis=1)


def exact_regions(weight: np.ndarray, bias: np.ndarray, half: float) -> int:
    """Returns the pieces into which the lines `weight x + bias = 0` cut a square.

    Each line that crosses the square adds one piece, and one more for each earlier line that it
    meets in there; no three meet in one point, and none are parallel, with random weights.

    Args:
        weight: Of shape `(lines, 2)`.
        bias: Of shape `(lines,)`.
        half: Half the side of the square, about the origin.
    """
    weight, bias = np.asarray(weight, np.float64), np.asarray(bias, np.float64)
    # The linear form is largest in one corner, smallest in the opposite one.
    crossing = np.abs(bias) < half * np.abs(weight).sum(axis=1)
    weight, bias = weight[crossing], bias[crossing]
    first, second = np.triu_indices(len(weight), 1)
    meets = np.linalg.solve(
        np.stack([weight[first], weight[second]], axis=1),
        -np.stack([bias[first], bias[second]], axis=1)[..., None],
    )
    inside = (np.abs(meets[..., 0]) < half).all(axis=1)
    return 1 + len(weight) + int(inside.sum())


def _trained(config: Config, data) -> dict[tuple[int, ...], list[networks.Descended]]:
    """Returns hidden sizes -> for every problem its networks, one for each seed.

    One compiled call trains the linear models, one the networks with few hidden units, and so on.
    """
    keys = networks.keys(range(config.first_seed, config.first_seed + config.seeds))
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, config.steps))
    # Units that only fill up cost as much as others: few of them share a program with many.
    few = [(units,) for units in config.units if units <= FEW]
    many = [(units,) for units in config.units if units > FEW]
    deep = [(config.deep, config.deep)] if config.deep else []
    groups: list[list[tuple[int, ...]]] = [[()], [*few], [*many], [*deep]]
    trained: dict[tuple[int, ...], list[networks.Descended]] = {}
    for group in filter(None, groups):
        widest = (2, *max(group), 2)
        sizes = [hidden for hidden in group for _ in data]
        starts = {hidden: networks.initial(keys, (2, *hidden, 2), widest) for hidden in group}
        fits = networks.descend(
            networks.together([starts[hidden] for hidden in sizes]),
            *networks.together([data[name] for _ in group for name in data]),
            optimizer=optimizer,
            steps=config.steps,
        )
        fits = jax.tree.map(np.asarray, fits)
        for number, hidden in enumerate(sizes):
            part = slice(number * config.seeds, (number + 1) * config.seeds)
            trained.setdefault(hidden, []).append(jax.tree.map(lambda a, p=part: a[p], fits))
    return trained


def _measured(
    hidden: tuple[int, ...],
    fits: list[networks.Descended],
    index: int,
    half: float,
    config: Config,
) -> Model:
    fitted = fits[index]
    params = [jax.tree.map(lambda a, s=seed: a[s], fitted.params) for seed in range(config.seeds)]
    grid = networks.on_grid(half, config.cells)
    counts = [len(_numbered(evaluate(each, grid)[0])[0]) for each in params]
    first = [(each[0].weight[: hidden[0]], each[0].bias[: hidden[0]]) for each in params if hidden]
    exact = [exact_regions(*layer, half) for layer in first] if hidden else [1] * len(params)
    bits, classes = evaluate(params[0], networks.on_grid(half, DRAWN))
    return Model(
        name=f"H = {', '.join(map(str, hidden))}" if hidden else "linear",
        hidden=list(hidden),
        accuracy=fitted.accuracy,
        loss=fitted.test_loss[:, -1],
        regions=np.array(counts),
        exact=np.array(exact if len(hidden) < 2 else []),
        classes=classes.astype(np.uint8).reshape(DRAWN, DRAWN),
        pieces=_numbered(bits)[1].astype(np.uint16).reshape(DRAWN, DRAWN),
    )


def _numbered(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct patterns, and for every point the number of its own."""
    if not bits.shape[1]:  # a linear model has no hidden units, and so one pattern
        return np.zeros(1), np.zeros(len(bits), int)
    return np.unique(np.ascontiguousarray(bits).view(f"V{bits.shape[1]}"), return_inverse=True)


def _lines(config: Config) -> Lines:
    """Returns a linear model of three classes that lines do separate, all but for their edges."""

    def draw(key, points):
        labels = jnp.arange(points, dtype=jnp.int32) % len(BLOBS)
        scatter = jax.random.normal(key, (points, 2), jnp.float32)
        return jnp.asarray(BLOBS, jnp.float32)[labels] + jnp.float32(0.4) * scatter, labels

    seed = range(config.first_seed, config.first_seed + 1)
    train, test = networks.points(draw, seed, config.points, HELD_OUT)
    # From 0, because the loss leaves open what is added to all rows: so they sum to 0.
    random = networks.initial(networks.keys(seed), (2, len(BLOBS)))
    fitted = networks.descend(
        jax.tree.map(np.zeros_like, random),
        train,
        test,
        optimizer=optax.adam(RATE),
        steps=min(config.steps, 500),
    )
    weight, bias = (np.asarray(leaf[0]) for leaf in fitted.params[0])
    half = 2.0
    classes = np.argmax(networks.on_grid(half, DRAWN) @ weight.T + bias, axis=1)
    return Lines(
        half,
        train[0][0, :SHOWN],
        train[1][0, :SHOWN],
        weight,
        bias,
        classes.astype(np.uint8).reshape(DRAWN, DRAWN),
        float(fitted.accuracy[0]),
    )


if __name__ == "__main__":
    raise SystemExit(main("decision_boundaries"))
