"""What more parameters do to a model that has few and noisy points to learn from.

Lecture row 17: more parameters are not always better. Networks with two hidden layers, from 2 units
each to 256, and the linear model learn from 60 points of two noisy half moons; what they learned is
measured on points that they did not see.
"""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from diffcompare import learn
from experiments import _overfitting_figure
from experiments import _small_networks as networks
from experiments._runner import run_module as main

CLAIM = (
    "More parameters are not always better: trained on 60 noisy points, the largest network "
    "makes the training loss all but vanish, and its loss on unseen points is several times that "
    "of the linear model, the smallest of all; of the classes it gets no more right."
)

RATE = 1e-2  # of Adam
HELD_OUT = 2000  # points
RECORDS = 20  # times that losses are recorded
DRAWN = 150  # cells along each side of a map in the figure
HALF = 2.4  # half the side of the square that is plotted
CENTRE = (0.5, 0.25)  # of the half moons
FEW = 64  # units; fewer are filled up to it


@dataclasses.dataclass(frozen=True)
class Config:
    """How many points and networks."""

    widths: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128, 256)
    """Units of both hidden layers; the linear model is always there."""
    points: int = 60
    """Training points."""
    noise: float = 0.36
    """Standard deviation of the noise; the half moons have radius 1."""
    seeds: int = 5
    """How often to draw points and first weights."""
    first_seed: int = 0
    """The first of them."""
    steps: int = 1000
    """Steps of Adam, each with all training points; a multiple of 20."""

    def __post_init__(self):
        if not self.widths or min(*self.widths, self.points, self.seeds, self.steps) < 1:
            raise ValueError(
                "widths, points, seeds and steps must be positive, but they are "
                f"{self.widths}, {self.points}, {self.seeds} and {self.steps}."
            )
        if self.steps % RECORDS or self.first_seed < 0 or not self.noise >= 0:
            raise ValueError(
                f"steps must be a multiple of {RECORDS}, first_seed and noise not negative, but "
                f"they are {self.steps}, {self.first_seed} and {self.noise}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(widths=(4, 64), seeds=2, steps=300)


class Model(NamedTuple):
    """A model, trained once for each seed. Losses are cross-entropies in nats."""

    name: str
    width: int  # of both hidden layers; 0 for the linear model
    parameters: int
    train_loss: np.ndarray  # (seeds, RECORDS)
    test_loss: np.ndarray  # (seeds, RECORDS), of held-out points
    accuracy: np.ndarray  # (seeds,), of held-out points, at the end
    train_accuracy: np.ndarray  # (seeds,)


class Map(NamedTuple):
    """What a model predicts in the square around the points, with the first seed."""

    model: str
    percent: np.ndarray  # (DRAWN, DRAWN), the probability of class 1, rows from below
    extent: tuple[float, float, float, float]  # left, right, lower and upper end
    test_loss: float
    train_loss: float


class Result(NamedTuple):
    """What the figure shows."""

    steps: np.ndarray  # (RECORDS,), after which losses were recorded
    models: list[Model]
    best: str  # the model with the smallest mean loss on held-out points
    points: np.ndarray  # (points, 2), trained on with the first seed
    labels: np.ndarray  # (points,)
    maps: list[Map]  # of the best and of the largest model
    noise: float


def run(config: Config) -> Result:
    """Returns the losses of every model, and the boundaries of the best and the largest."""
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    draw = functools.partial(learn.two_moons, noise=config.noise)
    train, test = networks.points(draw, seeds, config.points, HELD_OUT)
    fits = _trained(config, train, test)
    models = [_measured(width, fitted, train) for width, fitted in fits.items()]
    best = min(models, key=lambda model: model.test_loss[:, -1].mean())
    largest = max(models, key=lambda model: model.width)
    return Result(
        steps=np.arange(1, RECORDS + 1) * (config.steps // RECORDS),
        models=models,
        best=best.name,
        points=train[0][0],
        labels=train[1][0],
        maps=[_map(model, fits[model.width]) for model in (best, largest)],
        noise=config.noise,
    )


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _overfitting_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every model."""
    return [
        {
            "model": model.name,
            "parameters": model.parameters,
            "training loss (nats)": float(model.train_loss[:, -1].mean()),
            "held-out loss (nats)": f"{model.test_loss[:, -1].mean():.3f} +- "
            f"{networks.spread(model.test_loss[:, -1]):.3f}",
            "from": float(model.test_loss[:, -1].min()),
            "to": float(model.test_loss[:, -1].max()),
            "held-out accuracy": f"{model.accuracy.mean():.4f} +- "
            f"{networks.spread(model.accuracy):.4f}",
            "training accuracy": float(model.train_accuracy.mean()),
            "seeds": len(model.accuracy),
        }
        for model in result.models
    ]


def _trained(config: Config, train, test) -> dict[int, networks.Descended]:
    """Returns width -> its networks, one for each seed; the width of the linear model is 0."""
    keys = networks.keys(range(config.first_seed, config.first_seed + config.seeds))
    optimizer = optax.adam(RATE)
    few = [width for width in config.widths if width <= FEW]
    trained = {}
    # Units that only fill up cost as much as others: those of few share a program.
    for group in filter(None, ([0], few, *([w] for w in config.widths if w > FEW))):
        widest = _sizes(max(group))
        fits = networks.descend(
            networks.together([networks.initial(keys, _sizes(w), widest) for w in group]),
            *networks.together([(train, test)] * len(group)),
            optimizer=optimizer,
            steps=config.steps,
            records=RECORDS,
        )
        fits = jax.tree.map(np.asarray, fits)
        for number, width in enumerate(group):
            part = slice(number * config.seeds, (number + 1) * config.seeds)
            trained[width] = jax.tree.map(lambda a, p=part: a[p], fits)
    return trained


def _sizes(width: int) -> tuple[int, ...]:
    return (2, width, width, 2) if width else (2, 2)


def _measured(width: int, fitted: networks.Descended, train) -> Model:
    sizes = _sizes(width)
    right = jax.vmap(learn.accuracy)(jax.tree.map(jnp.asarray, fitted.params), *train)
    return Model(
        name=f"{width}-{width}" if width else "linear",
        width=width,
        parameters=sum(b * (a + 1) for a, b in itertools.pairwise(sizes)),
        train_loss=fitted.train_loss,
        test_loss=fitted.test_loss,
        accuracy=fitted.accuracy,
        train_accuracy=np.asarray(right),
    )


def _map(model: Model, fitted: networks.Descended) -> Map:
    grid = networks.on_grid(HALF, DRAWN, CENTRE).astype(np.float32)
    scores = learn.apply(jax.tree.map(lambda a: jnp.asarray(a[0]), fitted.params), grid)
    probability = np.asarray(jax.nn.softmax(scores)[:, 1]).reshape(DRAWN, DRAWN)
    losses = (float(model.test_loss[0, -1]), float(model.train_loss[0, -1]))
    # A percent is what the colours can show.
    percent = np.round(100 * probability).astype(np.uint8)
    x, y = CENTRE
    extent = (x - HALF, x + HALF, y - HALF, y + HALF)
    return Map(model.name, percent, extent, *losses)


if __name__ == "__main__":
    raise SystemExit(main("overfitting"))
