"""Holes in images filled by a network, and by three methods that a network should beat.

The lecture's image inpainting in three steps: pairs of a masked image and the truth (rows 18 and
19), the same multilayer perceptron with as many outputs as pixels (row 20), and the loss
`1/2 ||y - y_hat||^2`, a sum over the pixels (row 21), whose computational graph is drawn (row 22).
Beside it stand the mean of the training images, linear least squares in closed form, and a
harmonic fill, which learns nothing: it solves Laplace's equation on the hole.

What is known is not learned: a prediction is used on the hole alone, so only the hole has a loss.
While a network trains, some more of its inputs are dropped at random, which makes new holes. On
the photograph it learns what least squares leaves over, which is the better of the two there.

The recipes were chosen by the PSNR on held-out images of the splits 0 to 2 of digits and of the
photograph, so the seeds start at 5. Those of MNIST were chosen on 10,000 of its training images.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import optax
from matplotlib import cbook
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from diffcompare.learn import inpainting
from experiments import _devices, _image_options, _inpainting_figure
from experiments._runner import run_module as main

CLAIM = (
    "A multilayer perceptron fills holes in digits over 2 dB better than the mean image, linear "
    "least squares and a harmonic fill. On 16 x 16 patches of a photograph the harmonic fill, "
    "which learns nothing, beats all that learned from 888 of them; on 8 x 8 patches, with 3,600 "
    "to learn from, it does not."
)

METHODS = ("mean image", "least squares", "harmonic fill", "MLP")
RIDGE = 1.0
SHOWN = 6  # held-out images shown of each task
PHOTOGRAPH = "grace_hopper.jpg"
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
TRAIN_FRACTION = 0.75


class Recipe(NamedTuple):
    """A network and how it is trained: AdamW, with a rate that falls to 0 along a cosine."""

    hidden: tuple[int, ...]
    rate: float
    decay: float
    epochs: int
    batch_size: int
    dropped: float  # of the inputs, beside the hole
    is_rest: bool = False  # whether it learns what least squares leaves over


class Problem(NamedTuple):
    """Images, a hole, and what is to be reached on it."""

    name: str
    mask: np.ndarray  # (height, width), true where pixels are missing
    recipe: Recipe
    collect: Callable[[int], tuple[np.ndarray, np.ndarray]]  # seed -> images to train, held out
    to_reach: float | None = None  # dB


@dataclasses.dataclass(frozen=True)
class Config:
    """Which images, and how often each network is trained."""

    data: Literal["digits", "mnist"] = "digits"
    """The images: digits come with the package, MNIST is your own copy."""
    path: Path | None = None
    """Where to look for MNIST; otherwise in $DIFFCOMPARE_DATA and where other packages put it."""
    photograph: bool = True
    """Whether to fill holes in patches of the photograph that comes with matplotlib, too."""
    seeds: int = 5
    """How many times to train, with other weights and, but for MNIST, another split."""
    first_seed: int = 5
    """The recipes were chosen with the seeds 0 to 2."""
    epochs: int | None = None
    """How often to visit the training images; those of the recipe unless given."""

    def __post_init__(self):
        _image_options.check(self)

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(photograph=False, seeds=1, epochs=3)


class Task(NamedTuple):
    """What each method reached on one hole."""

    name: str
    mask: np.ndarray  # (height, width)
    sizes: tuple[int, ...]  # of the network: inputs, hidden units, outputs
    is_rest: bool  # whether the network learned what least squares leaves over
    train: int  # images to train on
    test: int  # images held out
    psnr: np.ndarray  # (METHODS, seeds), dB on the missing pixels of the held-out images
    train_psnr: np.ndarray  # (METHODS, seeds), of the images to train on
    to_reach: float  # dB; NaN where nothing is asked
    shown: np.ndarray  # (SHOWN, height, width), held out, with more contrast than most
    filled: np.ndarray  # (METHODS, SHOWN, height, width), of the first seed
    seconds: np.ndarray  # (seeds,), for training alone


class Losses(NamedTuple):
    """The loss of each image that is shown of the first task, as the network fills it."""

    values: np.ndarray  # (SHOWN,), of 1/2 ||y - y_hat||^2
    gradients: np.ndarray  # (SHOWN, height, width), by y_hat
    joint: float  # of all these images as one vector


class LossGraph(NamedTuple):
    """The computational graph of the loss of one image, for a network without biases."""

    symbols: list[str]  # of the nodes, in the order of computation
    shapes: list[tuple[int, ...]]
    wires: list[tuple[int, int]]  # from node to node


class Result(NamedTuple):
    """What the figure shows."""

    tasks: list[Task]
    first_seed: int
    losses: Losses
    graph: LossGraph


def run(config: Config) -> Result:
    """Returns how well each method fills holes in images that were not trained on."""
    problems = _digits() if config.data == "digits" else _mnist(config.path)
    if config.photograph:
        problems += _photograph()
    tasks = [_solved(problem, config) for problem in problems]
    return Result(tasks, config.first_seed, _losses(tasks[0]), _loss_graph(tasks[0].sizes))


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _inpainting_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every task, with the PSNR of every method."""
    return [
        {
            "images and hole": task.name,
            "train": task.train,
            "held out": task.test,
            **{
                f"{name} (dB)": f"{psnr.mean():.2f} +- {_spread(psnr):.2f}"
                for name, psnr in zip(METHODS, task.psnr, strict=True)
            },
            "to reach": "-" if np.isnan(task.to_reach) else f"{task.to_reach:g}",
            "seeds": task.psnr.shape[1],
            "MLP on train": float(task.train_psnr[-1].mean()),
            "seconds a seed": float(task.seconds.mean()),
        }
        for task in result.tasks
    ]


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _digits() -> list[Problem]:
    def collect(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return _images(learn.load("digits", seed=seed))

    recipe = Recipe((256, 256), 5e-3, 0.3, epochs=100, batch_size=64, dropped=0.05)
    wide, square = (inpainting.hole((8, 8), (height, 4)) for height in (2, 4))
    return [
        Problem("digits, 2×4 hole", wide, recipe, collect, to_reach=15.0),
        Problem("digits, 4×4 hole", square, recipe, collect, to_reach=13.5),
    ]


def _mnist(path: Path | None) -> list[Problem]:
    images = _images(learn.load("mnist", path=path))
    recipe = Recipe((512, 512), 2e-3, 0.1, epochs=10, batch_size=128, dropped=0.05)
    square = inpainting.hole((28, 28), (12, 12))
    scattered = np.random.default_rng(0).permutation(square.size).reshape(square.shape)
    half = scattered < square.size // 2
    return [
        Problem("MNIST, 12×12 hole", square, recipe, lambda seed: images, to_reach=12.0),
        Problem("MNIST, random 50 %", half, recipe._replace(is_rest=True), lambda seed: images),
    ]


def _photograph() -> list[Problem]:
    picture = _picture()
    recipe = Recipe((256,), 1e-3, 0.3, epochs=50, batch_size=32, dropped=0.1, is_rest=True)
    return [
        Problem(
            f"photo, {side}×{side} patches",
            inpainting.hole((side, side), (4, 4)),
            recipe,
            functools.partial(_patches, picture, side),
        )
        for side in (16, 8)
    ]


def _images(data: learn.Dataset) -> tuple[np.ndarray, np.ndarray]:
    train, test = np.asarray(data.x_train), np.asarray(data.x_test)
    return train.reshape(-1, *data.image_shape), test.reshape(-1, *data.image_shape)


def _picture() -> np.ndarray:
    """Returns the photograph in shades of grey from 0 to 1, of shape `(600, 512)`."""
    colours = matplotlib.image.imread(cbook.get_sample_data(PHOTOGRAPH, asfileobj=False))
    return (colours / 255 @ np.array(LUMA)).astype(np.float32)


def _patches(picture: np.ndarray, side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns patches that do not overlap, to train on and held out, chosen at random."""
    rows, columns = (length // side for length in picture.shape)
    cut = picture[: rows * side, : columns * side].reshape(rows, side, columns, side)
    patches = cut.swapaxes(1, 2).reshape(-1, side, side)
    order = np.asarray(jax.random.permutation(jax.random.key(seed), len(patches)))
    train = round(TRAIN_FRACTION * len(patches))
    return patches[order[:train]], patches[order[train:]]


class _Trial(NamedTuple):
    """What every method reached with one seed."""

    psnr: np.ndarray  # (METHODS,)
    train_psnr: np.ndarray  # (METHODS,)
    shown: np.ndarray
    filled: np.ndarray
    train: int
    test: int
    seconds: float


def _solved(problem: Problem, config: Config) -> Task:
    """Returns what every method reaches with every seed."""
    recipe, pixels = problem.recipe, problem.mask.size
    epochs = config.epochs or recipe.epochs
    # Of one seed to the next these stay the same objects, so only the first one compiles.
    loss = _loss(problem.mask.ravel(), recipe.dropped)
    steps = epochs * (len(problem.collect(config.first_seed)[0]) // recipe.batch_size)
    rate = optax.cosine_decay_schedule(recipe.rate, steps)
    optimizer = optax.adamw(rate, weight_decay=recipe.decay)
    fit = functools.partial(learn.fit, loss, optimizer=optimizer, epochs=epochs)
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    trials = [_tried(problem, fit, seed) for seed in seeds]
    return Task(
        name=problem.name,
        mask=problem.mask,
        sizes=(pixels, *recipe.hidden, pixels),
        is_rest=recipe.is_rest,
        train=trials[0].train,
        test=trials[0].test,
        psnr=np.stack([trial.psnr for trial in trials], axis=1),
        train_psnr=np.stack([trial.train_psnr for trial in trials], axis=1),
        to_reach=float("nan") if problem.to_reach is None else problem.to_reach,
        shown=trials[0].shown,
        filled=trials[0].filled,
        seconds=np.array([trial.seconds for trial in trials]),
    )


def _tried(problem: Problem, fit: Callable[..., learn.Fitted], seed: int) -> _Trial:
    mask, recipe = problem.mask, problem.recipe
    train, test = problem.collect(seed)
    y, y_test = (images.reshape(-1, mask.size) for images in (train, test))
    x, x_test = (inpainting.masked(flat, mask.ravel()) for flat in (y, y_test))
    linear = inpainting.least_squares(x, y, ridge=RIDGE)
    start = linear if recipe.is_rest else (jax.tree.map(jnp.zeros_like, linear[0]),)
    first_key, order = jax.random.split(jax.random.key(seed))
    fitted = fit(
        params=learn.init(first_key, (mask.size, *recipe.hidden, mask.size), dtype=jnp.float32),
        data=((x, learn.apply(start, x)), jnp.asarray(y)),
        batch_size=recipe.batch_size,
        key=order,
        has_key=True,
        mesh=_devices.mesh(recipe.batch_size),
    )

    def filled(x) -> np.ndarray:
        images = x.reshape(-1, *mask.shape)
        guesses = (
            jnp.broadcast_to(jnp.asarray(y.mean(axis=0)), x.shape),
            learn.apply(linear, x),
            inpainting.harmonic_fill(images, mask),
            learn.apply(start, x) + learn.apply(fitted.params, x),
        )
        shaped = [jnp.clip(guess, 0, 1).reshape(images.shape) for guess in guesses]
        return np.stack([inpainting.composed(images, guess, mask) for guess in shaped])

    of_test = filled(x_test)
    # Most patches of the photograph are flat, and show nothing.
    contrasts = test.std(axis=(1, 2))
    shown = np.flatnonzero(contrasts >= np.quantile(contrasts, 2 / 3))[:SHOWN]
    return _Trial(
        psnr=_psnr(of_test, test, mask),
        train_psnr=_psnr(filled(x), train, mask),
        shown=test[shown],
        filled=of_test[:, shown],
        train=len(train),
        test=len(test),
        seconds=float(fitted.history.seconds.sum()),
    )


def _loss(mask: np.ndarray, dropped: float) -> Callable:
    def loss(params, x, y, key):
        masked, start = x
        keeps = jax.random.bernoulli(key, 1 - dropped, masked.shape)
        y_hat = start + learn.apply(params, jnp.where(keeps, masked, 0))
        return jnp.mean(learn.half_squared_error(inpainting.composed(y, y_hat, mask), y))

    return loss


def _psnr(filled: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.array([float(inpainting.psnr(images, truth, mask)) for images in filled])


def _losses(task: Task) -> Losses:
    y_hat, y = task.filled[-1], task.shown
    flat = [jnp.asarray(images).reshape(len(images), -1) for images in (y_hat, y)]
    values, gradients = jax.vmap(jax.value_and_grad(learn.half_squared_error))(*flat)
    joint = learn.half_squared_error(*(images.ravel() for images in flat))
    return Losses(np.asarray(values), np.asarray(gradients).reshape(y.shape), float(joint))


def _loss_graph(sizes: tuple[int, ...]) -> LossGraph:
    """Returns the graph of `1/2 ||y - W2 relu(W1 x)||^2`, with the sizes of the first layers."""

    def loss(W1, W2, x, y):
        y_hat = learn.apply((learn.Layer(W1, None), learn.Layer(W2, None)), x)
        return learn.half_squared_error(y_hat, y)

    pixels, hidden = sizes[:2]
    shapes = [(hidden, pixels), (pixels, hidden), (pixels,), (pixels,)]
    graph = dc.computational_graph(loss)(*(jnp.zeros(shape) for shape in shapes))
    return LossGraph(
        [node.name if node.kind == "argument" else node.symbol for node in graph.nodes],
        [tuple(node.shape or ()) for node in graph.nodes],
        [(wire.source, wire.target) for node in graph.nodes for wire in node.inputs],
    )


if __name__ == "__main__":
    raise SystemExit(main("inpainting"))
