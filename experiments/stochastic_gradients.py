"""How much the gradient of a batch says about the gradient of all examples.

Lecture row 23: gradient descent is theta <- theta - alpha grad L, which is what `optax.sgd` does.
Row 36: the training loop samples a batch for every step; the mean of the batch gradients is the
full gradient. Batches are drawn without replacement, as training does in an epoch, so the variance
of their mean is (s^2 / B) (N - B) / (N - 1), which is 0 for the batch of all N examples.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from experiments import _small_networks as networks
from experiments import _stochastic_gradients_figure
from experiments._runner import run_module as main

CLAIM = (
    "Batch gradients are right on average and wrong one by one: over an epoch their mean is the "
    "full gradient to rounding, and their spread falls as the square root of the batch size."
)
ENABLE_X64 = True

EXAMPLES = 1024  # of which gradients are taken; every batch size below divides it
HIDDEN = 32
CLASSES = 10
RATE = 0.1  # of gradient descent
RECORDS = 25  # times that losses are recorded
SGD_STEPS = 100  # on which `optax.sgd` is compared with the formula


@dataclasses.dataclass(frozen=True)
class Config:
    """Which batches, and how often the network 64-32-10 is trained."""

    batches: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    """Batch sizes whose gradients are measured; each divides 1,024, the number of examples."""
    epochs: int = 8
    """Over how many epochs the gradients are measured, each with another order."""
    trained: tuple[int, ...] = (1, 8, 64, 1024)
    """Batch sizes to train with; each divides 1,024."""
    steps: int = 500
    """Steps of training; a multiple of 25."""
    seeds: int = 5
    """How often to draw the first weights, the split of the digits, and the order."""
    first_seed: int = 0
    """The first of them."""

    def __post_init__(self):
        sizes = (*self.batches, *self.trained)
        if len(self.batches) < 3 or not self.trained or any(EXAMPLES % abs(b or 7) for b in sizes):
            raise ValueError(
                f"batches (three or more) and trained must divide {EXAMPLES}, but they are "
                f"{self.batches} and {self.trained}."
            )
        if min(*sizes, self.epochs, self.steps, self.seeds) < 1 or self.first_seed < 0:
            raise ValueError(
                "batches, trained, epochs, steps and seeds must be positive, first_seed not "
                f"negative, but they are {self.batches}, {self.trained}, {self.epochs}, "
                f"{self.steps}, {self.seeds} and {self.first_seed}."
            )
        if self.steps % RECORDS:
            raise ValueError(f"steps must be a multiple of {RECORDS}, but it is {self.steps}.")

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(batches=(1, 32, 256), epochs=2, trained=(64,), steps=50, seeds=2)


class Descent(NamedTuple):
    """`optax.sgd` beside theta - alpha grad L, step by step with the same batches."""

    eager: float  # largest difference between the two in any parameter after any step
    compiled: float  # the same in one compiled loop, where both may be fused otherwise
    steps: int


class Spread(NamedTuple):
    """Gradients of batches at one point, as fractions of the norm of the full gradient."""

    where: str
    norm: float  # of the full gradient
    batches: np.ndarray  # (sizes,)
    mean_error: np.ndarray  # (sizes,), |mean over an epoch - full|, the largest of all epochs
    spread: np.ndarray  # (sizes, seeds), root of the mean of |batch gradient - full|^2
    expected: np.ndarray  # (sizes, seeds), from the spread of single examples: nothing is fitted
    along: np.ndarray  # (sizes, 3), component along the full gradient: 5th, 50th, 95th percentile
    cosine: np.ndarray  # (sizes,), mean cosine between batch gradient and full gradient
    slope: np.ndarray  # (seeds,), exponent of the spread in the batch size, the factor divided out


class Training(NamedTuple):
    """Losses of gradient descent with one batch size. Cross-entropies in nats."""

    batch: int
    steps: np.ndarray  # (RECORDS,), after which they were recorded
    loss: np.ndarray  # (seeds, RECORDS), of all training examples
    test_loss: np.ndarray  # (seeds, RECORDS), of held-out images
    accuracy: np.ndarray  # (seeds,), of held-out images, at the end


class Result(NamedTuple):
    """What the figure shows."""

    examples: int
    rate: float
    descent: Descent
    spreads: list[Spread]  # at the first weights, and after training
    training: list[Training]


def run(config: Config) -> Result:
    """Returns the difference to the formula, the spread of gradients, and the losses."""
    starts, data = _problems(config)
    training, ends = [], starts
    for batch in config.trained:
        ends, found = _train(starts, data, config, batch)
        training.append(found)
    # After training with the last batch size; where all of them fit, it is the full gradient.
    last = f"after {config.steps} steps"
    points = (("first weights", starts), (last, ends))
    return Result(
        examples=EXAMPLES,
        rate=RATE,
        descent=_descent(starts, data),
        spreads=[_spread(name, params, data, config) for name, params in points],
        training=training,
    )


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _stochastic_gradients_figure.draw(result)


def summary(result: Result) -> str:
    """Returns the difference to the formula, and a table of gradients and one of training."""
    descent = result.descent
    lines = [
        f"optax.sgd and theta - alpha grad L differ by {descent.eager:g} after any of "
        f"{descent.steps} steps, in one compiled loop by {descent.compiled:.1e}.",
    ]
    for spread in result.spreads:
        count = spread.spread.shape[1]
        lines += [
            "",
            f"{spread.where}: spread ~ batch^{_with_spread(spread.slope)} without the factor of "
            f"the finite population, {count} seeds; of |full gradient|:",
            f"{'batch':>6}{'|mean - full|':>15}{'spread':>22}{'expected':>10}{'cosine':>8}",
        ]
        lines += [
            f"{batch:6}{error:15.1e}{_with_spread(each):>22}{expected.mean():10.4f}{cosine:8.3f}"
            for batch, error, each, expected, cosine in zip(
                spread.batches,
                spread.mean_error,
                spread.spread,
                spread.expected,
                spread.cosine,
                strict=True,
            )
        ]
    lines += [
        "",
        f"{'batch':>6}{'steps':>7}{'training loss':>22}{'held-out loss':>22}"
        f"{'held-out accuracy':>22}",
    ]
    lines += [
        f"{each.batch:6}{each.steps[-1]:7}{_with_spread(each.loss[:, -1]):>22}"
        f"{_with_spread(each.test_loss[:, -1]):>22}{_with_spread(each.accuracy):>22}"
        for each in result.training
    ]
    return "\n".join(lines)


def _with_spread(values: np.ndarray) -> str:
    return f"{values.mean():.4f} +- {networks.spread(values):.4f}"


def _problems(config: Config):
    """Returns first weights and data for every seed, in float64."""
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    datasets = [learn.load("digits", seed=seed) for seed in seeds]
    train = [(np.asarray(d.x_train[:EXAMPLES]), np.asarray(d.y_train[:EXAMPLES])) for d in datasets]
    test = [(np.asarray(d.x_test), np.asarray(d.y_test)) for d in datasets]
    x_and_y = jax.tree.map(_widened, (networks.stacked(train), networks.stacked(test)))
    sizes = (train[0][0].shape[1], HIDDEN, CLASSES)
    return jax.tree.map(_widened, networks.initial(networks.keys(seeds), sizes)), x_and_y


def _widened(leaf):
    # In float64 the identities of the lecture show to 16 digits.
    return leaf.astype(np.float64) if np.issubdtype(leaf.dtype, np.floating) else leaf


def _orders(seed: int, epochs: int) -> jax.Array:
    """Returns a random order of the examples for every epoch, of shape `(epochs, EXAMPLES)`."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 2), epochs)
    return jax.vmap(lambda key: jax.random.permutation(key, EXAMPLES))(keys)


_gradient = dc.grad(networks.cross_entropy)


def _descent(starts, data) -> Descent:
    """Returns how far the two are apart with batches of 32 examples, on the first seed."""
    params, (x, y) = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), (starts, data[0]))
    optimizer = optax.sgd(RATE)
    batches = _orders(0, -(-SGD_STEPS * 32 // EXAMPLES)).reshape(-1, 32)[:SGD_STEPS]

    def step(state, batch):
        by_optax, by_formula, memory = state
        gradient = slope(by_optax, x[batch], y[batch])
        updates, memory = optimizer.update(gradient, memory, by_optax)
        by_optax = optax.apply_updates(by_optax, updates)
        gradient = slope(by_formula, x[batch], y[batch])
        by_formula = jax.tree.map(lambda p, g: p - RATE * g, by_formula, gradient)
        apart = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), by_optax, by_formula)
        return (by_optax, by_formula, memory), jnp.max(jnp.stack(jax.tree.leaves(apart)))

    slope: Callable = jax.jit(_gradient)
    state, eager = (params, params, optimizer.init(params)), []
    for batch in np.asarray(batches):
        state, apart = step(state, batch)
        eager.append(float(apart))
    slope = _gradient
    _, compiled = jax.jit(lambda state: jax.lax.scan(step, state, batches))(
        (params, params, optimizer.init(params))
    )
    return Descent(max(eager), float(jnp.max(compiled)), SGD_STEPS)


def _spread(name: str, params, data, config: Config) -> Spread:
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    orders = np.stack([_orders(seed, config.epochs) for seed in seeds])
    found = [_of_batches(params, *data[0], orders, batch=batch) for batch in config.batches]
    found = [jax.tree.map(np.asarray, each) for each in found]
    sizes = np.array(config.batches)
    left = np.sqrt((EXAMPLES - sizes) / (EXAMPLES - 1))[:, None]
    spread = np.sqrt([each["square"].mean(axis=1) for each in found])
    single = np.sqrt(_of_batches(params, *data[0], orders[:, :1], batch=1)["square"])
    some = sizes < EXAMPLES  # the spread of the full gradient is 0
    fitted = np.log(spread[some] / left[some])
    return Spread(
        where=name,
        norm=float(found[0]["norm"].mean()),
        batches=sizes,
        mean_error=np.array([each["mean_error"].max() for each in found]),
        spread=spread,
        expected=single.T / np.sqrt(sizes)[:, None] * left,
        along=np.array([np.percentile(each["along"], (5, 50, 95)) for each in found]),
        cosine=np.array([each["cosine"].mean() for each in found]),
        slope=np.polyfit(np.log(sizes[some]), fitted, 1)[0],
    )


@functools.partial(jax.jit, static_argnames="batch")
def _of_batches(params, x, y, orders, *, batch: int) -> dict[str, jax.Array]:
    """Returns what the batch gradients of every seed and epoch are, by the full gradient's norm."""

    def seed(inputs):
        params, x, y, orders = inputs
        full = _flat(_gradient(params, x, y))
        norm = jnp.linalg.norm(full)

        def epoch(order):
            chosen = order.reshape(-1, batch)
            every = jax.vmap(lambda b: _flat(_gradient(params, x[b], y[b])))(chosen)
            along = every @ full / norm
            return {
                "mean_error": jnp.linalg.norm(every.mean(axis=0) - full) / norm,
                "square": jnp.mean(jnp.sum((every - full[None]) ** 2, axis=1)) / norm**2,
                "along": along / norm,
                "cosine": jnp.mean(along / jnp.linalg.norm(every, axis=1)),
                "norm": norm,
            }

        return jax.lax.map(epoch, orders)

    return jax.lax.map(seed, (params, x, y, orders))


def _flat(tree) -> jax.Array:
    return ravel_pytree(tree)[0]


def _train(starts, data, config: Config, batch: int):
    """Returns the parameters after training with one batch size, and the losses on the way."""
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    epochs = -(-config.steps * batch // EXAMPLES)
    orders = np.stack([_orders(seed, epochs) for seed in seeds])
    visited = orders.reshape(config.seeds, -1)[:, : config.steps * batch]
    batches = visited.reshape(config.seeds, RECORDS, -1, batch)
    params, loss, test_loss, accuracy = _descended(starts, *data, batches)
    every = config.steps // RECORDS
    steps = np.arange(every, config.steps + 1, every)
    return params, Training(batch, steps, *map(np.asarray, (loss, test_loss, accuracy)))


@jax.jit
@jax.vmap
def _descended(params, train, test, batches):
    optimizer = optax.sgd(RATE)

    def step(state, batch):
        params, memory = state
        gradient = _gradient(params, train[0][batch], train[1][batch])
        updates, memory = optimizer.update(gradient, memory, params)
        return (optax.apply_updates(params, updates), memory), None

    def stretch(state, batches):
        state, _ = jax.lax.scan(step, state, batches)
        losses = [networks.cross_entropy(state[0], *each) for each in (train, test)]
        return state, tuple(losses)

    state, losses = jax.lax.scan(stretch, (params, optimizer.init(params)), batches)
    return state[0], *losses, learn.accuracy(state[0], *test)


if __name__ == "__main__":
    raise SystemExit(main("stochastic_gradients"))
