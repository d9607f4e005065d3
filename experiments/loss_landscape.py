"""The loss around trained networks, along directions that are normalised filter by filter.

Lecture row 24, after Li et al. Where a network ends depends on how it is trained: with small
batches or with all images at once, with weight decay or without. How sharp the loss is around it
is measured in two ways that do not know of each other: slices along random directions whose rows
are as long as the rows of the weights (a row holds what one unit sees, its filter), and the
largest eigenvalue of the Hessian, by power iteration on its products with vectors, each a
`dc.jvp` of `dc.grad`. A network that computes the same function with other weights (those of the
first layer multiplied by a factor, those of the second divided by it) shows which of the two can
be trusted: its slices have to be the same, its eigenvalue need not.

The path of the optimizer is projected onto the plane in which most of its variance lies.

The rates and numbers of epochs were chosen on the splits 0 to 2 of the digits, so that small and
large batches reach the same training loss without weight decay; the seeds start at 5.

References:
    Li et al., "Visualizing the loss landscape of neural nets", NeurIPS, 2018.
    Keskar et al., "On large-batch training for deep learning", ICLR, 2017.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from diffcompare.learn.model import Params
from experiments import _loss_landscape_figure
from experiments._runner import run_module as main

CLAIM = (
    "At the same training loss, small batches end in a flatter place than large ones, by slices "
    "and by curvature, with less loss on unseen digits; but curvature alone misleads: it more than "
    "doubles when the same function is written with other weights, and slices stay."
)

SIZES = (64, 100, 10)
MOMENTUM = 0.9
FACTOR = 3.0  # of the weights of a network that computes the same function
TOLERANCE = 1e-4  # of the eigenvalue, from one step to the next
# The two networks whose surroundings are drawn, and the one whose path is: numbers of VARIANTS.
DRAWN = (0, 1)
TRACED = 0


class Variant(NamedTuple):
    """How a network is trained: SGD with momentum, and a rate that falls to 0 along a cosine."""

    name: str
    batch_size: int | None  # None for all images
    rate: float
    epochs: int
    decay: float


VARIANTS = (
    Variant("small batch", 16, 0.05, 60, 0.0),
    Variant("large batch", None, 0.5, 600, 0.0),
    Variant("small batch, decay", 16, 0.05, 60, 1e-3),
    Variant("large batch, decay", None, 0.5, 600, 1e-3),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """How often each network is trained, and how finely its surroundings are sampled."""

    seeds: int = 5
    """How many times to train, with other weights and another split."""
    first_seed: int = 5
    """The recipes were chosen with the seeds 0 to 2."""
    directions: int = 10
    """Random directions through each network, for the slices in one dimension."""
    points: int = 31
    """Points of a slice, and of each side of one in two dimensions."""
    power_steps: int = 300
    """Products with the Hessian for an eigenvalue, at most."""
    shorter: int = 1
    """What the numbers of epochs are divided by."""

    def __post_init__(self):
        counts = (self.seeds, self.directions, self.power_steps, self.shorter)
        if min(counts) < 1 or self.first_seed < 0:
            raise ValueError(
                "seeds, directions, power_steps and shorter must be positive and first_seed not "
                f"negative, but they are {counts} and {self.first_seed}."
            )
        if self.points < 3 or self.points % 2 == 0:
            raise ValueError(
                "points must be odd and at least 3, so that the network itself is in the middle, "
                f"but it is {self.points}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(seeds=1, directions=2, points=7, power_steps=10, shorter=20)


class Trained(NamedTuple):
    """Networks trained in one way, one for each seed, and the loss around them."""

    name: str
    batch_size: int
    decay: float
    train_loss: np.ndarray  # (seeds,), cross-entropy without the decay
    test_loss: np.ndarray  # (seeds,)
    accuracy: np.ndarray  # (seeds,), of the held-out images
    norm: np.ndarray  # (seeds,), of all weights
    slices: np.ndarray  # (seeds, directions, points), the training loss
    curvature: np.ndarray  # (seeds,), the largest eigenvalue of the Hessian of the training loss
    curvature_of_same: np.ndarray  # (seeds,), of the same function by other weights


class Rescaled(NamedTuple):
    """Slices of one network, and of one that computes the same function by other weights."""

    normalised: np.ndarray  # (2, points), along one filter-normalised direction
    plain: np.ndarray  # (2, points), along one direction as long as the first weights
    largest_mismatch: float  # of a row's norm between direction and weights, relative


class Plane(NamedTuple):
    """The training loss in a plane through a network."""

    name: str
    x: np.ndarray  # (points,)
    y: np.ndarray  # (points,)
    loss: np.ndarray  # (points of y, points of x)


class Path(NamedTuple):
    """The weights along training, in the plane in which most of their variance lies."""

    plane: Plane
    steps: np.ndarray  # (epochs + 1, 2)
    shares: np.ndarray  # (2,), of the variance
    random_share: float  # of the same variance, in the plane of the random directions


class Result(NamedTuple):
    """What the figure shows."""

    offsets: np.ndarray  # (points,), along a slice
    trained: list[Trained]
    rescaled: Rescaled
    planes: list[Plane]
    path: Path
    first_seed: int


def run(config: Config) -> Result:
    """Returns the loss around networks that were trained in four ways."""
    offsets = np.linspace(-1, 1, config.points).astype(np.float32)
    fits = [_fits(variant, config) for variant in VARIANTS]
    pairs = zip(VARIANTS, fits, strict=True)
    return Result(
        offsets=offsets,
        trained=[_trained(variant, ours, config, offsets) for variant, ours in pairs],
        rescaled=_rescaled(fits[DRAWN[0]][0], offsets),
        planes=[_plane(VARIANTS[number].name, fits[number][0], offsets) for number in DRAWN],
        path=_path(fits[TRACED][0], config.points),
        first_seed=config.first_seed,
    )


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _loss_landscape_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every way to train."""
    return [
        {
            "trained with": trained.name,
            "batch": trained.batch_size,
            "decay": trained.decay,
            "train loss": _mean_and_spread(trained.train_loss),
            "held-out loss": _mean_and_spread(trained.test_loss),
            "accuracy": _mean_and_spread(trained.accuracy),
            "norm of weights": float(trained.norm.mean()),
            "rise at distance 1": _mean_and_spread(rises(trained)[:, -1]),
            "largest eigenvalue": _mean_and_spread(trained.curvature),
            "of the same function": float(trained.curvature_of_same.mean()),
            "norm of rows differs by": result.rescaled.largest_mismatch,
            "path in 2 directions": float(result.path.shares.sum()),
            "in 2 random ones": result.path.random_share,
            "seeds": len(trained.accuracy),
        }
        for trained in result.trained
    ]


def rises(trained: Trained) -> np.ndarray:
    """Returns how far the loss rises at each distance `(seeds, distances)`, the last being 1.

    It is the mean over directions, both ways.
    """
    middle = trained.slices.shape[-1] // 2
    both = (trained.slices + trained.slices[..., ::-1]) / 2
    return (both[..., middle:] - both[..., middle : middle + 1]).mean(axis=1)


def filter_normalised(key: jax.Array, params: Params) -> Params:
    """Returns a random direction whose rows have the norms of the rows of the weights.

    Biases have none, as in the reference: its entries are 0.
    """
    layers = []
    for layer, layer_key in zip(params, jax.random.split(key, len(params)), strict=True):
        normal = jax.random.normal(layer_key, layer.weight.shape, layer.weight.dtype)
        length = jnp.linalg.norm(layer.weight, axis=1) / jnp.linalg.norm(normal, axis=1)
        layers.append(learn.Layer(normal * length[:, None], jnp.zeros(len(length), normal.dtype)))
    return tuple(layers)


def same_function(params: Params, factor: float) -> Params:
    """Returns the two-layer ReLU network with its first layer times `factor`, the second over it.

    It computes the same: `relu(factor * z) = factor * relu(z)`.
    """
    first, (weight, bias) = params
    return jax.tree.map(lambda w: factor * w, first), learn.Layer(weight / factor, bias)


def largest_eigenvalue(
    params: Params, x: jax.Array, y: jax.Array, key: jax.Array, steps: int = 300
) -> jax.Array:
    """Returns the eigenvalue of the Hessian of the loss that is largest in magnitude.

    Power iteration: a vector is multiplied by the Hessian, at most `steps` times, until the
    Rayleigh quotient stays.
    """
    flat, unravel = ravel_pytree(params)
    slope = dc.grad(lambda flat: _loss(unravel(flat), x, y))

    def step(state):
        count, vector, value, _ = state
        _, product = dc.jvp(slope, (flat,), (vector,))
        new = jnp.vdot(vector, product)
        return count + 1, product / jnp.linalg.norm(product), new, value

    def goes_on(state):
        count, _, value, before = state
        return (count < steps) & (jnp.abs(value - before) > TOLERANCE * jnp.abs(value))

    start = jax.random.normal(key, flat.shape, flat.dtype)
    unknown = jnp.asarray(0, flat.dtype), jnp.asarray(jnp.inf, flat.dtype)
    state = (0, start / jnp.linalg.norm(start), *unknown)
    return jax.lax.while_loop(goes_on, step, state)[2]


class _Fitted(NamedTuple):
    params: Params
    path: list[Params]  # after each epoch, and before the first
    data: learn.Dataset


def _mean_and_spread(values: np.ndarray) -> str:
    spread = values.std(ddof=1) if len(values) > 1 else float("nan")
    return f"{values.mean():.4g} +- {spread:.2g}"


def _loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    scores = learn.apply(params, x)
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, y))


def _fits(variant: Variant, config: Config) -> list[_Fitted]:
    """Returns a network for every seed."""
    fits = []
    epochs = max(variant.epochs // config.shorter, 1)
    optimizer: optax.GradientTransformation | None = None
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        data = learn.load("digits", seed=seed)
        batch_size = variant.batch_size or len(data.y_train)
        if optimizer is None:  # it stays the same object, so that only the first seed compiles
            steps = epochs * (len(data.y_train) // batch_size)
            rate = optax.cosine_decay_schedule(variant.rate, steps)
            descent = optax.sgd(rate, momentum=MOMENTUM)
            optimizer = optax.chain(optax.add_decayed_weights(variant.decay), descent)
        start, order = jax.random.split(jax.random.key(seed))
        params = learn.init(start, SIZES, dtype=jnp.float32)
        path = [params]

        def keep(params, path=path):
            path.append(params)
            return {}

        fitted = learn.fit(
            _loss,
            params,
            (data.x_train, data.y_train),
            optimizer,
            epochs=epochs,
            batch_size=batch_size,
            key=order,
            metrics=keep,
        )
        fits.append(_Fitted(fitted.params, path, data))
    return fits


def _trained(variant: Variant, fits: list[_Fitted], config: Config, offsets: np.ndarray) -> Trained:
    keys = jax.random.split(jax.random.key(config.first_seed), config.directions)
    probe_of = functools.partial(_probe, power_steps=config.power_steps)
    probes = [probe_of(fit.params, fit.data[:4], keys, jnp.asarray(offsets)) for fit in fits]
    found = {name: np.stack([probe[name] for probe in probes]) for name in probes[0]}
    return Trained(
        name=variant.name,
        batch_size=variant.batch_size or len(fits[0].data.y_train),
        decay=variant.decay,
        **found,
    )


@functools.partial(jax.jit, static_argnames="power_steps")
def _probe(
    params: Params, arrays, keys: jax.Array, offsets: jax.Array, *, power_steps: int
) -> dict[str, jax.Array]:
    x, y, x_test, y_test = arrays

    def slice_along(key):
        return _losses(params, filter_normalised(key, params), offsets, x, y)

    same = same_function(params, FACTOR)
    return {
        "train_loss": _loss(params, x, y),
        "test_loss": _loss(params, x_test, y_test),
        "accuracy": learn.accuracy(params, x_test, y_test),
        "norm": optax.tree.norm(params),
        "slices": jax.lax.map(slice_along, keys),
        "curvature": largest_eigenvalue(params, x, y, keys[0], power_steps),
        "curvature_of_same": largest_eigenvalue(same, x, y, keys[0], power_steps),
    }


def _moved(params: Params, direction: Params, offset: jax.Array) -> Params:
    return jax.tree.map(lambda w, d: w + offset * d, params, direction)


def _losses(params: Params, direction: Params, offsets: jax.Array, x, y) -> jax.Array:
    return jax.lax.map(lambda offset: _loss(_moved(params, direction, offset), x, y), offsets)


def _rescaled(fit: _Fitted, offsets: np.ndarray) -> Rescaled:
    x, y, *_ = fit.data
    key = jax.random.key(0)
    networks = [fit.params, same_function(fit.params, FACTOR)]
    along = jax.jit(_losses)
    directions = [filter_normalised(key, params) for params in networks]
    mismatches = [
        jnp.abs(jnp.linalg.norm(d.weight, axis=1) / jnp.linalg.norm(w.weight, axis=1) - 1).max()
        for params, direction in zip(networks, directions, strict=True)
        for w, d in zip(params, direction, strict=True)
    ]
    # What one would do without thinking: the direction of the first network for both of them.
    pairs = list(zip(networks, directions, strict=True))
    return Rescaled(
        normalised=np.stack([along(params, own, offsets, x, y) for params, own in pairs]),
        plain=np.stack([along(params, directions[0], offsets, x, y) for params, _ in pairs]),
        largest_mismatch=float(max(mismatches)),
    )


def _two_directions(params: Params) -> tuple[Params, Params]:
    one, other = jax.random.split(jax.random.key(1))
    return filter_normalised(one, params), filter_normalised(other, params)


def _plane(name: str, fit: _Fitted, offsets: np.ndarray) -> Plane:
    directions = _two_directions(fit.params)
    losses = _plane_losses(fit.params, directions, offsets, offsets, fit.data[:2])
    return Plane(name, offsets, offsets, np.asarray(losses))


@jax.jit
def _plane_losses(params: Params, directions, across, down, arrays) -> jax.Array:
    right, up = directions
    return jax.lax.map(
        lambda offset: _losses(_moved(params, up, offset), right, across, *arrays), down
    )


def _path(fit: _Fitted, points: int) -> Path:
    """Returns the path of the optimizer in the plane of its first two principal components."""
    weights = np.stack([ravel_pytree(params)[0] for params in fit.path])
    _, unravel = ravel_pytree(fit.params)
    rest = weights.astype(np.float64) - weights[-1]  # from the end, as in the reference
    _, sizes, components = np.linalg.svd(rest, full_matrices=False)
    # An SVD leaves the signs open. The path comes from the right and from above.
    components = components[:2] * np.where(rest[0] @ components[:2].T < 0, -1, 1)[:, None]
    steps = rest @ components.T
    random, _ = np.linalg.qr(
        np.stack([ravel_pytree(d)[0] for d in _two_directions(fit.params)], axis=1)
    )
    random_share = np.sum((rest @ random) ** 2) / np.sum(rest**2)
    low, high = steps.min(axis=0), steps.max(axis=0)
    margin = 0.25 * (high - low) + 1e-6
    x, y = np.linspace(low - margin, high + margin, points).astype(np.float32).T
    directions = tuple(unravel(jnp.asarray(c, jnp.float32)) for c in components)
    losses = _plane_losses(fit.params, directions, x, y, fit.data[:2])
    shares = sizes[:2] ** 2 / np.sum(sizes**2)
    return Path(
        Plane(VARIANTS[TRACED].name, x, y, np.asarray(losses)), steps, shares, float(random_share)
    )


if __name__ == "__main__":
    raise SystemExit(main("loss_landscape"))
