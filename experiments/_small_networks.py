"""Many small networks trained in one compiled call: the first axis of every array counts them."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffcompare import learn

Params = learn.model.Params
Examples = tuple[np.ndarray, np.ndarray]
Draw = Callable[[jax.Array, int], tuple[jax.Array, jax.Array]]


class Descended(NamedTuple):
    """Networks after training, with what was measured on the way: `records` times, equally spaced.

    They are arrays, and the losses mean cross-entropies in nats.
    """

    params: Params
    train_loss: Any  # (networks, records)
    test_loss: Any  # (networks, records)
    accuracy: Any  # (networks,), on the held-out points, at the end


def initial(
    keys: Iterable[jax.Array], sizes: tuple[int, ...], padded: tuple[int, ...] = ()
) -> Params:
    """Returns one network for every key, with hidden units up to those of `padded`.

    A unit that is added has no weights, neither in nor out, so it adds 0 to the scores; nor does
    a gradient reach its weights, so no training changes that. Networks of several widths then have
    one shape, and so one compiled program.
    """
    # One by one: a program that draws for all keys takes longer to compile than these to run.
    drawn = stacked([learn.init(key, sizes, dtype=jnp.float32) for key in keys])
    wanted = padded or sizes
    return tuple(
        learn.Layer(
            _padded(layer.weight, (wanted[number + 1], wanted[number])),
            _padded(layer.bias, (wanted[number + 1],)),
        )
        for number, layer in enumerate(drawn)
    )


def points(draw: Draw, seeds: range, train: int, test: int) -> tuple[Examples, Examples]:
    """Returns training and held-out points and labels, in float32, for every seed.

    Args:
        draw: `draw(key, points) -> (x, y)`.
        seeds: Which.
        train: How many points to train on.
        test: How many to hold out.
    """
    x, y = stacked([draw(jax.random.key(seed), train + test) for seed in seeds])
    x = x.astype(np.float32)
    return (x[:, :train], y[:, :train]), (x[:, train:], y[:, train:])


def keys(seeds: range) -> list[jax.Array]:
    """Returns a key for every seed, other than the one that draws the data."""
    return [jax.random.fold_in(jax.random.key(seed), 1) for seed in seeds]


def stacked(trees: list[Any]) -> Any:
    """Returns one tree with a new first axis."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)


def together(trees: list[Any]) -> Any:
    """Returns one tree with the networks, or the data, of all of them."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *trees)


def cross_entropy(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the mean cross-entropy, in nats, of the scores of one network."""
    scores = learn.apply(params, x)
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, y))


@functools.partial(jax.jit, static_argnames=("optimizer", "steps", "records"))
def descend(
    params: Params,
    train: tuple[jax.Array, jax.Array],
    test: tuple[jax.Array, jax.Array],
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    records: int = 1,
) -> Descended:
    """Returns every network after `steps` steps along the gradient of all its training points."""

    def one(params, train, test):
        def step(state, _):
            params, memory = state
            gradient = jax.grad(cross_entropy)(params, *train)
            # Optimizers of optax mix dtypes, as in 0.9**count with an integer count.
            with jax.numpy_dtype_promotion("standard"):
                updates, memory = optimizer.update(gradient, memory, params)
                return (optax.apply_updates(params, updates), memory), None

        def stretch(state, _):
            state, _ = jax.lax.scan(step, state, length=steps // records)
            return state, (cross_entropy(state[0], *train), cross_entropy(state[0], *test))

        state = (params, optimizer.init(params))
        (params, _), losses = jax.lax.scan(stretch, state, length=records)
        return Descended(params, losses[0], losses[1], learn.accuracy(params, *test))

    return jax.vmap(one)(params, train, test)


def on_grid(half: float, cells: int, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Returns the middles of the cells of a square, of shape `(cells**2, 2)`.

    They come row by row, the lowest first.

    Args:
        half: Half the side of the square.
        cells: How many cells fill a side.
        centre: The middle of the square.
    """
    along = half * (2 * (np.arange(cells) + 0.5) / cells - 1)
    across, up = np.meshgrid(along + centre[0], along + centre[1])
    return np.stack([across.ravel(), up.ravel()], axis=-1)


def spread(values: np.ndarray) -> float:
    """Returns the standard deviation of a sample; NaN for a single value."""
    return float(np.std(values, ddof=1)) if np.size(values) > 1 else float("nan")


def _padded(array: jax.Array, shape: tuple[int, ...]) -> Any:
    missing = [(0, want - have) for want, have in zip(shape, array.shape[1:], strict=True)]
    return np.pad(np.asarray(array), [(0, 0), *missing])
