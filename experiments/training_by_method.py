"""One small network, trained on digits with the gradient of each method.

Lecture row 26: the numerical gradient is easy and not very accurate; row 28: backpropagation is
efficient; row 36: the training loop. Every run starts from the same weights and sees the same
batches in the same order; only the gradient differs.

How much a gradient of mostly noise costs depends on luck. With h = 1e-6 in float32 the loss ended
between 0.98 and 1.5 times that of backpropagation, on three seeds and two versions of JAX.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from experiments import _training_by_method_figure
from experiments._runner import run_module as main

CLAIM = (
    "Training needs a gradient that points the right way: differences with a suitable step train "
    "as well as backpropagation, from hundreds of evaluations for each of its two passes; with "
    "h = 1e-6 in float32 the gradient is tens of degrees off, and training takes another course."
)
ENABLE_X64 = True

CLASSES = 10
LECTURE_STEP = 1e-6

Name = Literal[
    "reverse", "forward", "symbolic", "forward-difference", "central", "order-4", "1e-6", "1e-6-f64"
]


class Row(NamedTuple):
    """A way to find the gradient."""

    label: str
    method: dc.Method
    dtype: str


METHODS: dict[Name, Row] = {
    "reverse": Row("ReverseMode", dc.ReverseMode(), "float32"),
    "forward": Row("ForwardMode", dc.ForwardMode(), "float32"),
    "symbolic": Row("Symbolic", dc.Symbolic(), "float32"),
    "forward-difference": Row("ForwardDifference", dc.ForwardDifference(), "float32"),
    "central": Row("CentralDifference", dc.CentralDifference(), "float32"),
    "order-4": Row("Central, order 4", dc.CentralDifference(order=4), "float32"),
    "1e-6": Row("Central, h = 1e-6", dc.CentralDifference(step=LECTURE_STEP), "float32"),
    "1e-6-f64": Row("the same in float64", dc.CentralDifference(step=LECTURE_STEP), "float64"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """The network is the lecture's W2 activation(W1 x), with 64 inputs and 10 outputs."""

    hidden: int = 10
    """Units of the hidden layer."""
    activation: Literal["relu", "tanh"] = "relu"
    """A difference may step across the kinks of ReLU; tanh has none."""
    epochs: int = 10
    """How often to visit the 1,347 training images."""
    batch_size: int = 32
    """How many images make one gradient."""
    rate: float = 0.2
    """The learning rate of gradient descent."""
    seed: int = 0
    """Of the weights, the order of the images, and the split."""
    methods: tuple[Name, ...] = tuple(METHODS)
    """How the gradient is found, in the order in which they are shown."""

    def __post_init__(self):
        numbers = (self.hidden, self.epochs, self.batch_size, self.rate)
        if not all(number > 0 for number in numbers):
            raise ValueError(
                "hidden, epochs, batch_size and rate must be positive, but they are "
                f"{', '.join(map(str, numbers))}."
            )
        if not self.methods or not set(self.methods) <= set(METHODS):
            raise ValueError(
                f"methods must name one or more of {', '.join(METHODS)}, but they are "
                f"{self.methods}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(epochs=3, methods=("reverse", "symbolic", "central", "1e-6"))


class Run(NamedTuple):
    """The network, trained with one method."""

    label: str
    method: str  # the name of its class
    dtype: str
    loss: np.ndarray  # (epochs,), mean over the batches of an epoch
    defect: np.ndarray  # (epochs + 1,), 1 - cosine to the exact gradient, before and after epochs
    accuracy: float  # on held-out images, at the end
    passes: int  # through the loss for one gradient: evaluations, slopes and pullbacks
    seconds: np.ndarray  # (epochs,), for training alone
    milliseconds: float  # for one gradient and step, in the epoch of median speed
    compile_seconds: float  # apart from it; deriving, where the method derives, is in here


class Result(NamedTuple):
    """What the figure shows."""

    parameters: int
    gradients: int  # in one run
    runs: list[Run]


class Problem(NamedTuple):
    """What all methods are given."""

    loss: Callable  # of params, x and y
    exact: Callable  # the gradient of the loss, to be called in float64
    activation: Callable
    params: learn.model.Params  # in float32
    data: learn.Dataset
    config: Config


def run(config: Config) -> Result:
    """Returns how training goes with the gradient of every method."""
    problem = _problem(config)
    return Result(
        parameters=sum(leaf.size for leaf in jax.tree.leaves(problem.params)),
        gradients=config.epochs * (len(problem.data.y_train) // config.batch_size),
        runs=[_train(problem, METHODS[name]) for name in config.methods],
    )


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _training_by_method_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every method."""
    return [
        {
            "gradient by": run.label,
            "dtype": run.dtype,
            "last loss": float(run.loss[-1]),
            "accuracy": run.accuracy,
            "1 - cosine, first": float(run.defect[0]),
            "1 - cosine, worst": float(run.defect.max()),
            "passes a gradient": run.passes,
            "passes in all": run.passes * result.gradients,
            "ms a gradient": run.milliseconds,
            "seconds": float(run.seconds.sum()),
            "compiling": run.compile_seconds,
        }
        for run in result.runs
    ]


def _problem(config: Config) -> Problem:
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[config.activation]

    def loss(params, x, y):
        scores = learn.apply(params, x, activation)
        return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, y))

    data = learn.load("digits", seed=config.seed)
    sizes = (data.x_train.shape[1], config.hidden, CLASSES)
    # As in the lecture, without biases: a difference compiles one loop for each array.
    params = learn.init(jax.random.key(config.seed), sizes, bias=False, dtype=jnp.float32)
    return Problem(loss, jax.jit(dc.grad(loss)), activation, params, data, config)


def _train(problem: Problem, row: Row) -> Run:
    loss, exact, activation, params, data, config = problem
    label, method, dtype = row
    params = _cast(params, dtype)
    x, y = _cast((data.x_train, data.y_train), dtype)
    batch = x[: config.batch_size], y[: config.batch_size]
    by_method = jax.jit(dc.grad(loss, method=method))

    def defect(params) -> float:
        widened = _cast((params, *batch), "float64")
        return _one_minus_cosine(by_method(params, *batch), exact(*widened))

    fitted = learn.fit(
        loss,
        params,
        (x, y),
        optax.sgd(config.rate),
        epochs=config.epochs,
        batch_size=config.batch_size,
        key=jax.random.key(config.seed + 1),
        method=method,
        metrics=lambda params: {"defect": defect(params)},
    )
    history = fitted.history
    accuracy = learn.accuracy(fitted.params, data.x_test, data.y_test, activation)
    return Run(
        label=label,
        method=type(method).__name__,
        dtype=dtype,
        loss=history.loss,
        defect=np.array([defect(params), *history.metrics["defect"]]),
        accuracy=float(accuracy),
        passes=_passes(method, problem.params),
        seconds=history.seconds,
        milliseconds=1e3 * float(np.median(history.seconds)) / history.step_loss.shape[1],
        compile_seconds=history.compile_seconds,
    )


def _cast(tree, dtype: str):
    """Returns floating-point leaves in `dtype`, and others as they are."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def _one_minus_cosine(one, other) -> float:
    """Returns 1 minus the cosine of the angle between two pytrees."""
    u, v = (
        np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])
        for tree in (one, other)
    )
    # Half the squared distance of the unit vectors. 1 - u @ v would be lost in its rounding.
    return float(np.sum((u / np.linalg.norm(u) - v / np.linalg.norm(v)) ** 2) / 2)


def _passes(method: dc.Method, params) -> int:
    """Returns how many times one value and gradient go through the function.

    A difference evaluates it, the whole or what an entry changes, which is counted. The others
    evaluate it once; then forward mode pushes a tangent for every parameter, and reverse mode and
    the derived program pull once.
    """
    if isinstance(method, dc.ForwardMode):
        return 1 + sum(leaf.size for leaf in jax.tree.leaves(params))
    if isinstance(method, dc.ReverseMode | dc.Symbolic):
        return 2
    count = 0

    def tally(value):
        nonlocal count
        count += 1
        return value

    def counted(params):
        # Any function of these parameters: what a difference evaluates depends on nothing else.
        value = jax.tree.reduce(jnp.add, jax.tree.map(jnp.sum, params))
        shape = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return jax.pure_callback(tally, shape, value, vmap_method="sequential")

    jax.block_until_ready(dc.value_and_grad(counted, method=method)(params))
    return count


if __name__ == "__main__":
    raise SystemExit(main("training_by_method"))
