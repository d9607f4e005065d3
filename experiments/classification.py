"""Supervised learning in the lecture's five steps, on images of handwritten digits.

Collect labelled images, choose a model, choose a loss, train, evaluate on images that were not
trained on: lecture row 6. The models are the linear one (row 7) and multilayer perceptrons with
one and two hidden layers (row 11), the first with 100 units (row 14). What comes out is the
lecture's function `classify_digit(image)` (row 5): an image in, a class out.

The recipes, learning rate and the like, were chosen by the accuracy on the held-out images of the
digits' splits 0 to 4, so the seeds start at 5: those splits had no part in the choice. MNIST has
one split only, and its recipes were chosen on its test images.
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
from experiments import _classification_figure, _devices, _image_options, templates
from experiments._runner import run_module as main

CLAIM = (
    "A program that nobody could write by hand is learned in five steps; one hidden layer of 100 "
    "units makes less than half the errors of the linear model on unseen images."
)

CLASSES = 10
SAMPLES = 8  # images shown of each class
SHOWN = 12  # held-out images shown with the class that was predicted
SMOOTHING = 0.1


class Recipe(NamedTuple):
    """A model and how it is trained: AdamW, with a rate that falls to 0 along a cosine."""

    hidden: tuple[int, ...]  # units of each hidden layer
    smoothing: float  # the probability of the target that is spread over all classes
    rate: float
    decay: float  # of the weights
    epochs: int
    batch_size: int
    to_reach: float  # accuracy on held-out images
    scale: float = 1.0  # of the first weights


RECIPES = {
    "digits": (
        Recipe((), 0.0, 3e-2, 1e-2, 60, 32, to_reach=0.965),
        Recipe((100,), SMOOTHING, 1e-2, 1e-2, 60, 32, to_reach=0.975),
        Recipe((100, 100), SMOOTHING, 3e-3, 1e-2, 60, 32, to_reach=0.975),
    ),
    "mnist": (
        Recipe((), 0.0, 3e-3, 0.0, 10, 128, to_reach=0.924, scale=0.1),
        Recipe((100,), SMOOTHING, 3e-3, 1e-2, 15, 128, to_reach=0.979),
        Recipe((300, 100), SMOOTHING, 3e-3, 1e-2, 15, 128, to_reach=0.985),
    ),
}


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
    """The recipes of digits were chosen with the seeds 0 to 4."""
    epochs: int | None = None
    """How often to visit the training images; those of the recipe unless given."""

    def __post_init__(self):
        _image_options.check(self)

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(seeds=2, epochs=8)


class Collected(NamedTuple):
    """Step 1: the data."""

    name: str
    sha256: str
    train: int  # images to train on
    test: int  # images held out
    samples: np.ndarray  # (classes, SAMPLES, height, width), from the training images


class Trained(NamedTuple):
    """Steps 2, 4 and 5: a model, trained once for each seed.

    The loss is cross-entropy with the label itself, also where training smoothed the labels.
    """

    name: str
    shapes: list[tuple[int, int]]  # of the weights, layer by layer: (outputs, inputs)
    parameters: int
    smoothing: float
    train_loss: np.ndarray  # (seeds, epochs), of the training images, after each epoch
    test_loss: np.ndarray  # (seeds, epochs), of the held-out images
    accuracy: np.ndarray  # (seeds,), of the held-out images, at the end
    confusion: np.ndarray  # (classes, classes), held-out images by label and prediction, all seeds
    to_reach: float
    seconds: np.ndarray  # (seeds,), for training alone
    compile_seconds: float


class Example(NamedTuple):
    """Step 3: the loss of one held-out image."""

    image: np.ndarray  # (height, width)
    label: int
    probabilities: np.ndarray  # (classes,), the softmax of the scores
    loss: float  # -log of the probability of the label


class Predicted(NamedTuple):
    """Step 5: some held-out images; up to half of them are those that were misread."""

    model: str  # with the first seed
    images: np.ndarray  # (SHOWN, height, width)
    labels: np.ndarray  # (SHOWN,)
    predictions: np.ndarray  # (SHOWN,)
    wrong: int  # of all held-out images
    scores: np.ndarray  # (SHOWN, classes), W2 max(0, W1 x + b1) + b2 in NumPy


class Function(NamedTuple):
    """The lecture's `classify_digit(image)`: what goes in and what comes out.

    It was called with every held-out image, one at a time.
    """

    image_shape: tuple[int, ...]  # of what goes in
    class_shape: tuple[int, ...]  # of what comes out
    class_dtype: str
    calls: int
    not_a_class: int  # results that are no class
    not_highest: int  # results that are not the class with the highest of the scores
    right: int  # results that are the label
    known: int  # images that are among the training ones, so that a table could look them up
    looked_up: int  # of these, how many have the same label there


class Result(NamedTuple):
    """What the figure shows."""

    collected: Collected
    models: list[Trained]
    first_seed: int
    example: Example
    predicted: Predicted
    function: Function


def run(config: Config) -> Result:
    """Returns how well each model reads images that it was not trained on."""
    datasets = _collect(config)
    recipes = RECIPES[config.data]
    models, params = zip(*(_train(recipe, config, datasets) for recipe in recipes), strict=True)
    return Result(
        collected=_collected(datasets[0]),
        models=list(models),
        first_seed=config.first_seed,
        example=_example(params[0], datasets[0]),
        predicted=_predicted(models[1].name, params[1], datasets[0]),
        function=_called(params[1], datasets[0]),
    )


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _classification_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every model."""
    return [
        {
            "data": result.collected.name,
            "model": model.name,
            "parameters": model.parameters,
            "accuracy": f"{model.accuracy.mean():.4f} +- {_spread(model.accuracy):.4f}",
            "lowest": float(model.accuracy.min()),
            "to reach": model.to_reach,
            "seeds": len(model.accuracy),
            "most confused": _most_confused(model.confusion),
            "held-out loss": float(model.test_loss[:, -1].mean()),
            "training loss": float(model.train_loss[:, -1].mean()),
            "seconds a seed": float(model.seconds.mean()),
        }
        for model in result.models
    ]


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _most_confused(confusion: np.ndarray) -> str:
    pair = templates.most_confused(confusion)
    one, other = pair.classes
    return f"{one} and {other}: {pair.mistakes} of {pair.errors}"


def _collect(config: Config) -> list[learn.Dataset]:
    """Returns the data for every seed: another split of digits, the one of MNIST."""
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    if config.data == "digits":
        return [learn.load("digits", seed=seed) for seed in seeds]
    return [learn.load("mnist", path=config.path)] * config.seeds


def _collected(data: learn.Dataset) -> Collected:
    labels = np.asarray(data.y_train)
    chosen = np.stack([np.flatnonzero(labels == label)[:SAMPLES] for label in range(CLASSES)])
    samples = _images(data, data.x_train, chosen)
    return Collected(data.name, data.sha256, len(labels), len(data.y_test), samples)


def _images(data: learn.Dataset, x, chosen: np.ndarray) -> np.ndarray:
    return np.asarray(x)[chosen].reshape(*chosen.shape, *data.image_shape)


def _name(recipe: Recipe) -> str:
    return f"{len(recipe.hidden) + 1}-layer" if recipe.hidden else "linear"


def _train(
    recipe: Recipe, config: Config, datasets: list[learn.Dataset]
) -> tuple[Trained, learn.model.Params]:
    """Returns the model trained with every seed, and its parameters for the first one."""
    pixels = datasets[0].x_train.shape[1]
    sizes = (pixels, *recipe.hidden, CLASSES)
    epochs = config.epochs or recipe.epochs
    # Of one seed to the next these stay the same objects, so only the first one compiles.
    loss = _loss(recipe.smoothing)
    steps = epochs * (len(datasets[0].y_train) // recipe.batch_size)
    rate = optax.cosine_decay_schedule(recipe.rate, steps)
    optimizer = optax.adamw(rate, weight_decay=recipe.decay)
    fits = []
    for seed, data in enumerate(datasets, start=config.first_seed):
        start, order = jax.random.split(jax.random.key(seed))
        fitted = learn.fit(
            loss,
            learn.init(start, sizes, recipe.scale, dtype=jnp.float32),
            (data.x_train, data.y_train),
            optimizer,
            epochs=epochs,
            batch_size=recipe.batch_size,
            key=order,
            metrics=functools.partial(_metrics, data[:4]),
            mesh=_devices.mesh(recipe.batch_size),
        )
        fits.append(fitted)
    histories = [fitted.history for fitted in fits]
    params = fits[0].params
    return Trained(
        name=_name(recipe),
        shapes=[layer.weight.shape for layer in params],
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        smoothing=recipe.smoothing,
        train_loss=np.stack([history.metrics["train_loss"] for history in histories]),
        test_loss=np.stack([history.metrics["test_loss"] for history in histories]),
        accuracy=np.array([history.metrics["accuracy"][-1] for history in histories]),
        confusion=np.sum(
            [
                templates.confusion(fitted.params, data)
                for fitted, data in zip(fits, datasets, strict=True)
            ],
            axis=0,
        ),
        to_reach=recipe.to_reach,
        seconds=np.array([history.seconds.sum() for history in histories]),
        compile_seconds=histories[0].compile_seconds,
    ), params


def _loss(smoothing: float) -> Callable:
    def loss(params, x, y):
        scores = learn.apply(params, x)
        targets = optax.losses.smooth_labels(
            jax.nn.one_hot(y, CLASSES, dtype=scores.dtype), smoothing
        )
        return jnp.mean(optax.losses.softmax_cross_entropy(scores, targets))

    return loss


@jax.jit
def _metrics(arrays, params) -> dict[str, jax.Array]:
    # The images are arguments: captured, those of MNIST would be compiled as a constant.
    x_train, y_train, x_test, y_test = arrays
    loss = _loss(0.0)
    return {
        "train_loss": loss(params, x_train, y_train),
        "test_loss": loss(params, x_test, y_test),
        "accuracy": learn.accuracy(params, x_test, y_test),
    }


def _example(params: learn.model.Params, data: learn.Dataset) -> Example:
    """Returns a held-out image that is hard: 95 of 100 have a smaller loss."""
    scores = jax.nn.log_softmax(learn.apply(params, data.x_test))
    losses = -np.asarray(scores)[np.arange(len(scores)), np.asarray(data.y_test)]
    chosen = np.argsort(losses)[int(0.95 * len(losses))]
    return Example(
        _images(data, data.x_test, chosen),
        int(data.y_test[chosen]),
        np.exp(np.asarray(scores[chosen])),
        float(losses[chosen]),
    )


def _predicted(name: str, params: learn.model.Params, data: learn.Dataset) -> Predicted:
    predictions = np.asarray(jax.vmap(learn.predict, (None, 0))(params, data.x_test))
    labels = np.asarray(data.y_test)
    wrong = np.flatnonzero(predictions != labels)
    right = np.flatnonzero(predictions == labels)
    shown_wrong = wrong[: SHOWN // 2]
    chosen = np.concatenate([right[: SHOWN - len(shown_wrong)], shown_wrong])
    images = _images(data, data.x_test, chosen)
    scores = _scores(params, np.asarray(data.x_test)[chosen])
    return Predicted(name, images, labels[chosen], predictions[chosen], len(wrong), scores)


def _scores(params: learn.model.Params, x: np.ndarray) -> np.ndarray:
    """Returns `W2 max(0, W1 x + b1) + b2`, and so on for more layers, in NumPy."""
    *hidden, last = ((np.asarray(weight), np.asarray(bias)) for weight, bias in params)
    for weight, bias in hidden:
        x = np.maximum(0, x @ weight.T + bias)
    return x @ last[0].T + last[1]


def _called(params: learn.model.Params, data: learn.Dataset) -> Function:
    """Returns what the learned function does with the held-out images, one at a time."""
    classify_digit = jax.jit(functools.partial(learn.predict, params))
    images = _images(data, data.x_test, np.arange(len(data.y_test)))
    results = [classify_digit(image) for image in images]
    classes, labels = np.array(results), np.asarray(data.y_test)
    highest = np.argmax(_scores(params, np.asarray(data.x_test)), axis=1)
    # The program by hand: it lists every image that one has, with its class.
    table = {
        image.tobytes(): int(label)
        for image, label in zip(np.asarray(data.x_train), data.y_train.tolist(), strict=True)
    }
    answers = [table.get(image.tobytes()) for image in np.asarray(data.x_test)]
    return Function(
        image_shape=images.shape[1:],
        class_shape=results[0].shape,
        class_dtype=results[0].dtype.name,
        calls=len(results),
        not_a_class=int(np.sum((classes < 0) | (classes >= CLASSES))),
        not_highest=int(np.sum(classes != highest)),
        right=int(np.sum(classes == labels)),
        known=sum(answer is not None for answer in answers),
        looked_up=sum(
            answer == label for answer, label in zip(answers, labels.tolist(), strict=True)
        ),
    )


if __name__ == "__main__":
    raise SystemExit(main("classification"))
