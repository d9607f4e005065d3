"""One network trained with each of several activations by one recipe, many seeds at a time."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from diffcompare import learn
from experiments import _small_networks as networks

HIDDEN = 100
# Those of the same network in `classification`, which were chosen on splits of the digits that
# have no part here.
RATE, BATCH = 1e-2, 32

Activations = dict[str, Callable[[jax.Array], jax.Array]]


class Choice(NamedTuple):
    """A network with one hidden layer, trained with each activation."""

    shapes: list[tuple[int, ...]]  # of the weights: (outputs, inputs)
    rate: float  # of Adam; it falls to 0 along a cosine
    epochs: int
    accuracy: dict[str, np.ndarray]  # activation -> (seeds,), of held-out images


def trained(
    activations: Activations, datasets: list[learn.Dataset], seeds: range, epochs: int
) -> Choice:
    """Returns how well the network reads unseen images with each activation.

    The first weights and the order of the images depend on the seed, and not on the activation.

    Args:
        activations: Which, by name.
        datasets: Images for every seed.
        seeds: Of the first weights and of the order of the images.
        epochs: How often to visit the training images.
    """
    split = networks.stacked([data[:4] for data in datasets])
    sizes = (split[0].shape[-1], HIDDEN, int(split[1].max()) + 1)
    first = [learn.init(jax.random.key(seed), sizes, bias=False, dtype=jnp.float32)
             for seed in seeds]  # fmt: skip
    start = networks.stacked(first)
    batches = np.stack([_batches(split[0].shape[1], epochs, seed) for seed in seeds])
    # The number of the activation is an argument, so that one program serves for all of them.
    fit = jax.jit(functools.partial(_fitted, tuple(activations.values())))
    accuracy = {
        name: np.asarray(fit(number, start, split, batches))
        for number, name in enumerate(activations)
    }
    return Choice([layer.weight.shape for layer in first[0]], RATE, epochs, accuracy)


def _batches(examples: int, epochs: int, seed: int) -> np.ndarray:
    """Returns the indices of every batch, of shape `(steps, BATCH)`; an epoch drops the rest."""
    rng = np.random.default_rng(seed)
    full = examples // BATCH
    orders = [rng.permutation(examples)[: full * BATCH] for _ in range(epochs)]
    return np.concatenate(orders).reshape(-1, BATCH)


def _fitted(functions: tuple, number: Any, start: Any, split: Any, batches: Any) -> jax.Array:
    """Returns the accuracy on held-out images for every seed, of shape `(seeds,)`."""
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, batches.shape[1]))

    def activation(x):
        return jax.lax.switch(number, functions, x)

    def one(params, arrays, batches):
        x, y, x_test, y_test = arrays

        def loss(params, batch):
            scores = learn.apply(params, x[batch], activation)
            return jnp.mean(
                optax.losses.softmax_cross_entropy_with_integer_labels(scores, y[batch])
            )

        def step(state, batch):
            params, memory = state
            gradient = jax.grad(loss)(params, batch)
            # Optimizers of optax mix dtypes, as in 0.9**count with an integer count.
            with jax.numpy_dtype_promotion("standard"):
                updates, memory = optimizer.update(gradient, memory, params)
                return (optax.apply_updates(params, updates), memory), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
        return learn.accuracy(params, x_test, y_test, activation)

    return jax.vmap(one)(start, split, batches)
