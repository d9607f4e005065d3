"""What a computer sees, what it confuses, and what its weights look like.

An image is a table of numbers (lecture row 3). Images of one class differ, those of two classes
can be alike: which classes are confused most is counted (row 4). The rows of the weights are
templates that an image is compared with: ten of the linear model, one for each class (row 9), and
a hundred of the multilayer perceptron, which the classes share (rows 14 and 15).

Whether templates look like strokes or like noise is a number here, the roughness: the mean squared
difference of weights of neighbouring pixels over the mean square of the weights. It is 2 for
noise, and 0 where all pixels of a template have one weight. Digits less their mean show what it is
for strokes of this resolution.

The recipes were chosen on the splits 0 to 2 of the digits, so the seeds start at 5.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from diffcompare import learn
from diffcompare.learn.model import Params
from experiments import _image_options, _templates_figure
from experiments._runner import run_module as main

CLAIM = (
    "Trained from small weights that decay, rows of W1 become templates as smooth as the digits "
    "themselves, which several classes share, or nothing at all; from He initialisation without "
    "decay they stay closer to noise, and read unseen digits no worse."
)

CLASSES = 10
HIDDEN = 100
WINDOW = 8  # pixels on each side of the table
SHOWN = 16  # images of each of the two classes that are confused most
SHARED = 0.5  # of the largest weight of a template: a class above it uses the template


class Recipe(NamedTuple):
    """A model and how it is trained: Adam, with a rate that falls to 0 along a cosine."""

    name: str
    hidden: tuple[int, ...]
    scale: float  # of the first weights, beside that of He et al.
    decay: float  # the L2 penalty is half of it times the squared weights
    rate: float = 1e-2
    epochs: int = 60
    batch_size: int = 32


RECIPES = (
    Recipe("linear", (), 0.1, 1e-3),
    Recipe("MLP, small and decaying", (HIDDEN,), 0.1, 1e-3),
    Recipe("MLP, He initialisation", (HIDDEN,), 1.0, 0.0),
)
LINEAR, STROKES, NOISE = range(3)
MNIST_EPOCHS, MNIST_BATCH_SIZE = 10, 128


@dataclasses.dataclass(frozen=True)
class Config:
    """Which images, and how often each model is trained."""

    data: Literal["digits", "mnist"] = "digits"
    """The images: digits come with the package, MNIST is your own copy."""
    path: Path | None = None
    """Where to look for MNIST; otherwise in $DIFFCOMPARE_DATA and where other packages put it."""
    seeds: int = 5
    """How many times to train, each with other first weights and, for digits, another split."""
    first_seed: int = 5
    """The recipes of digits were chosen with the seeds 0 to 2."""
    epochs: int | None = None
    """How often to visit the training images; those of the recipe unless given."""

    def __post_init__(self):
        _image_options.check(self)

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(seeds=1, epochs=2)


class Seen(NamedTuple):
    """What a computer sees: an image, and some of its pixels as they are stored."""

    image: np.ndarray  # (height, width), from 0 to 1
    corner: tuple[int, int]  # row and column where the table begins
    table: np.ndarray  # (WINDOW, WINDOW), integers
    white: int  # the largest there can be
    label: int


class Trained(NamedTuple):
    """A model, trained once for each seed."""

    name: str
    accuracy: np.ndarray  # (seeds,), of the held-out images
    confusion: np.ndarray  # (classes, classes), held-out images by label and prediction, all seeds
    roughness: np.ndarray  # (seeds,), of the first weights, mean over their rows
    alive: np.ndarray  # (seeds,), how many rows of the first weights have not decayed to 0
    users: np.ndarray  # (seeds,), how many classes use such a template; 1 for the linear model
    weights: list[np.ndarray]  # of the first seed, layer by layer


class Pair(NamedTuple):
    """The two classes that are confused most, in both directions together."""

    classes: tuple[int, int]
    mistakes: int
    errors: int  # of all classes


class Result(NamedTuple):
    """What the figure shows."""

    data: str
    image_shape: tuple[int, int]
    seen: Seen
    models: list[Trained]
    pair: Pair  # of the MLP with small and decaying weights
    images: np.ndarray  # (2, SHOWN, height, width), of these two classes, to train on
    roughness: float  # of the images to train on less their mean
    first_seed: int


def run(config: Config) -> Result:
    """Returns the weights of models that read digits, and what they confuse."""
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    if config.data == "digits":
        datasets = [learn.load("digits", seed=seed) for seed in seeds]
    else:
        datasets = [learn.load("mnist", path=config.path)] * config.seeds
    models = [_trained(recipe, config, datasets) for recipe in RECIPES]
    pair = most_confused(models[STROKES].confusion)
    return Result(
        data=datasets[0].name,
        image_shape=datasets[0].image_shape,
        seen=_seen(datasets[0]),
        models=models,
        pair=pair,
        images=_images(datasets[0], pair.classes),
        roughness=_roughness_of_images(datasets[0]),
        first_seed=config.first_seed,
    )


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _templates_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every model."""
    rows: list[dict[str, object]] = []
    for model in result.models:
        pair = most_confused(model.confusion)
        rows.append(
            {
                "data": result.data,
                "model": model.name,
                "accuracy": _mean_and_spread(model.accuracy, 4),
                "most confused": f"{pair.classes[0]} and {pair.classes[1]}",
                "of all errors": f"{pair.mistakes} of {pair.errors}",
                "roughness (noise: 2)": _mean_and_spread(model.roughness, 3),
                "of the images": result.roughness,
                "templates alive": float(model.alive.mean()),
                "classes a template": _mean_and_spread(model.users, 2),
                "seeds": len(model.accuracy),
            }
        )
    return rows


def is_alive(weights: np.ndarray) -> np.ndarray:
    """Returns which rows have not decayed to 0: those with a thousandth of the largest norm."""
    norms = np.linalg.norm(weights.reshape(len(weights), -1), axis=1)
    return norms > 1e-3 * norms.max()


def roughness(templates: np.ndarray) -> float:
    """Returns how much weights of neighbouring pixels differ, in mean squares; noise has 2.

    Args:
        templates: Weights of shape `(templates, height, width)`; what decayed to 0 has no shape.
    """
    templates = templates[is_alive(templates)]
    across, down = (np.square(np.diff(templates, axis=axis)) for axis in (2, 1))
    pairs = across.shape[1] * across.shape[2] + down.shape[1] * down.shape[2]
    differences = (across.sum(axis=(1, 2)) + down.sum(axis=(1, 2))) / pairs
    squares = np.square(templates).mean(axis=(1, 2))
    return float(np.mean(differences / squares))


def confusion(params: Params, data: learn.Dataset) -> np.ndarray:
    """Returns how many held-out images of each class are predicted to be of each."""
    predictions = np.argmax(learn.apply(params, data.x_test), axis=1)
    found = np.zeros((CLASSES, CLASSES), int)
    np.add.at(found, (np.asarray(data.y_test), predictions), 1)
    return found


def most_confused(confusion: np.ndarray) -> Pair:
    """Returns the two classes that are taken for each other most often.

    Args:
        confusion: How many images of each class were predicted to be of each, `(label,
            prediction)`.
    """
    wrong = confusion - np.diag(np.diag(confusion))
    both = np.triu(wrong + wrong.T)
    first, second = np.unravel_index(np.argmax(both), both.shape)
    return Pair((int(first), int(second)), int(both.max()), int(wrong.sum()))


def _mean_and_spread(values: np.ndarray, digits: int) -> str:
    spread = values.std(ddof=1) if len(values) > 1 else float("nan")
    return f"{values.mean():.{digits}f} +- {spread:.{digits}f}"


def _trained(recipe: Recipe, config: Config, datasets: list[learn.Dataset]) -> Trained:
    is_mnist = config.data == "mnist"
    epochs = config.epochs or (MNIST_EPOCHS if is_mnist else recipe.epochs)
    batch_size = MNIST_BATCH_SIZE if is_mnist else recipe.batch_size
    pixels = datasets[0].x_train.shape[1]
    # Of one seed to the next this stays the same object, so only the first one compiles.
    steps = epochs * (len(datasets[0].y_train) // batch_size)
    rate = optax.cosine_decay_schedule(recipe.rate, steps)
    optimizer = optax.chain(optax.add_decayed_weights(recipe.decay), optax.adam(rate))
    fits = []
    for seed, data in enumerate(datasets, start=config.first_seed):
        start, order = jax.random.split(jax.random.key(seed))
        sizes = (pixels, *recipe.hidden, CLASSES)
        params = learn.init(start, sizes, recipe.scale, dtype=jnp.float32)
        fit: Callable[..., learn.Fitted] = functools.partial(
            learn.fit, _loss, params, (data.x_train, data.y_train), optimizer
        )
        fits.append(fit(epochs=epochs, batch_size=batch_size, key=order).params)
    pairs = list(zip(fits, datasets, strict=True))
    confusions = [confusion(params, data) for params, data in pairs]
    shape = datasets[0].image_shape
    first = [np.asarray(params[0].weight).reshape(-1, *shape) for params in fits]
    return Trained(
        name=recipe.name,
        accuracy=np.array([np.trace(found) / found.sum() for found in confusions]),
        confusion=np.sum(confusions, axis=0),
        roughness=np.array([roughness(templates) for templates in first]),
        alive=np.array([is_alive(templates).sum() for templates in first]),
        users=np.array([_users(params) for params in fits]),
        weights=[np.asarray(layer.weight) for layer in fits[0]],
    )


def _loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    scores = learn.apply(params, x)
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, y))


def _users(params: Params) -> float:
    """Returns how many classes weigh a template at least half as much as the one that does most."""
    if len(params) == 1:
        return 1.0
    weights = np.abs(np.asarray(params[-1].weight))[:, is_alive(np.asarray(params[0].weight))]
    return float((weights >= SHARED * weights.max(axis=0)).sum(axis=0).mean())


def _seen(data: learn.Dataset) -> Seen:
    white = 16 if data.name == "digits" else 255
    image = np.asarray(data.x_train[0]).reshape(data.image_shape)
    top, left = ((side - WINDOW) // 2 for side in data.image_shape)
    table = np.rint(image[top : top + WINDOW, left : left + WINDOW] * white).astype(int)
    return Seen(image, (top, left), table, white, int(data.y_train[0]))


def _roughness_of_images(data: learn.Dataset) -> float:
    images = np.asarray(data.x_train).reshape(-1, *data.image_shape)
    return roughness(images - images.mean(axis=0))


def _images(data: learn.Dataset, classes: tuple[int, int]) -> np.ndarray:
    labels, images = np.asarray(data.y_train), np.asarray(data.x_train)
    chosen = np.stack([np.flatnonzero(labels == label)[:SHOWN] for label in classes])
    return images[chosen].reshape(2, SHOWN, *data.image_shape)


if __name__ == "__main__":
    raise SystemExit(main("templates"))
