"""Stochastic gradient descent as one compiled loop for each epoch."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from diffcompare._progress import progress
from diffcompare.automatic.mode import ReverseMode
from diffcompare.learn.errors import DivergenceError
from diffcompare.method import Method
from diffcompare.operators import value_and_grad

PyTree = Any
Metrics = Callable[[PyTree], Mapping[str, Any]]


class History(NamedTuple):
    """What happened during training, epoch by epoch."""

    loss: np.ndarray  # (epochs,), mean over the steps of an epoch, each before its update
    step_loss: np.ndarray  # (epochs, steps), the loss of every batch
    seconds: np.ndarray  # (epochs,), for training alone; no compilation, no metrics
    samples_per_second: np.ndarray  # (epochs,)
    metrics: dict[str, np.ndarray]  # name -> (epochs,), after each epoch
    compile_seconds: float


class Fitted(NamedTuple):
    """Trained parameters, and how they came about."""

    params: PyTree
    history: History


class _State(NamedTuple):
    params: PyTree
    optimizer: PyTree


def fit(
    loss: Callable[..., Array],
    params: PyTree,
    data: tuple[PyTree, PyTree],
    optimizer: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int,
    key: Array,
    method: Method = ReverseMode(),
    metrics: Metrics | None = None,
    has_key: bool = False,
    mesh: Any = None,
    checkpoint: Any = None,
) -> Fitted:
    """Returns parameters that make the loss small, found from gradients of random batches.

    An epoch visits the examples in a random order, `batch_size` at a time, and leaves out the
    rest that does not fill a batch (a different one each time). It is one compiled
    `jax.lax.scan`. The same key gives the same numbers. Progress is shown on stderr, where
    that is a terminal.

    Args:
        loss: `loss(params, x, y) -> scalar`, the mean loss of a batch. It is compiled together
            with `optimizer` and `method`, once for each three of them: pass the same objects
            again to train again without compiling again.
        params: Where to start; any pytree of floating-point arrays. It is left as it is.
        data: `(x, y)`, arrays, or pytrees of arrays, with one entry for each example along
            their first axis.
        optimizer: Any optax optimizer, such as `optax.adam(1e-3)`.
        epochs: How often to visit the data.
        batch_size: How many examples make one gradient.
        key: A PRNG key for the order of the examples.
        method: How the gradient is found; see `diffcompare.Method`.
        metrics: `metrics(params) -> {name: scalar}`, called after each epoch, for example for
            the accuracy on held-out data. It is not compiled unless you do.
        has_key: Whether the loss is random, for example because of dropout: it is then called
            as `loss(params, x, y, key)`, with another key in every step.
        mesh: Not supported yet.
        checkpoint: Not supported yet.

    Returns:
        The parameters and the history.

    Raises:
        TypeError: `epochs` or `batch_size` is not an integer, or `data` is not a pair.
        ValueError: `epochs` or `batch_size` is not positive, there are fewer examples than
            make a batch, or `x` and `y` differ in their number.
        FloatingPointError: The loss became infinite or NaN. The error, a `DivergenceError`,
            names the step and carries the parameters and history from before.
        NotImplementedError: `mesh` or `checkpoint` is given.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from diffcompare import learn
        >>> x = jax.random.normal(jax.random.key(0), (64, 2))
        >>> y = x @ jnp.array([[2.0], [-1.0]])
        >>> params = learn.init(jax.random.key(1), (2, 1))
        >>> def loss(params, x, y):
        ...     return jnp.mean(learn.half_squared_error(learn.apply(params, x), y))
        >>> fitted = learn.fit(
        ...     loss,
        ...     params,
        ...     (x, y),
        ...     optax.sgd(0.1),
        ...     epochs=50,
        ...     batch_size=16,
        ...     key=jax.random.key(2),
        ... )
        >>> fitted.params[0].weight.tolist()
        [[2.00, -1.00]]

    References:
        Robbins and Monro, "A stochastic approximation method", Annals of Mathematical
        Statistics 22(3), 1951.
    """
    _reject_later("mesh", mesh)
    _reject_later("checkpoint", checkpoint)
    examples = _checked_examples(data)
    _check_positive(epochs=epochs, batch_size=batch_size)
    if batch_size > examples:
        raise ValueError(
            f"batch_size must be at most the number of examples, {examples}, but it is "
            f"{batch_size}."
        )
    data = jax.tree.map(jnp.asarray, tuple(data))
    # The loop donates its state. A copy keeps the caller's arrays alive.
    params = _copy(params)
    state = _State(params, _copy(optimizer.init(params)))
    options = {"loss": loss, "optimizer": optimizer, "method": method}
    options |= {"batch_size": batch_size, "has_key": has_key}

    began = time.perf_counter()
    epoch = _epoch.lower(state, data, key, **options).compile()
    recorder = _Recorder(examples // batch_size * batch_size, time.perf_counter() - began)
    with progress(epochs, "epoch") as report:
        for number in range(epochs):
            # Only the state is donated, so this is what a loss that is not finite falls back to.
            before = _copy(state.params)
            began = time.perf_counter()
            state, losses = epoch(state, data, jax.random.fold_in(key, number))
            losses = np.asarray(losses)
            seconds = time.perf_counter() - began
            _check_finite(losses, number, before, recorder)
            recorder.add(losses, seconds, metrics(state.params) if metrics else {})
            report(recorder.line())
    return Fitted(state.params, recorder.history())


@functools.partial(
    jax.jit,
    static_argnames=("loss", "optimizer", "method", "batch_size", "has_key"),
    donate_argnums=0,
)
def _epoch(
    state: _State,
    data: PyTree,
    key: Array,
    *,
    loss: Callable[..., Array],
    optimizer: optax.GradientTransformation,
    method: Method,
    batch_size: int,
    has_key: bool,
) -> tuple[_State, Array]:
    """Returns the state after one epoch, and the loss of every batch."""
    examples = jax.tree.leaves(data)[0].shape[0]
    steps = examples // batch_size
    order_key, loss_key = jax.random.split(key)
    order = jax.random.permutation(order_key, examples)[: steps * batch_size]
    slope = value_and_grad(loss, method=method)
    update = optax.with_extra_args_support(optimizer).update

    def step(state: _State, inputs: tuple[Array, Array]) -> tuple[_State, Array]:
        number, batch = inputs
        x, y = jax.tree.map(lambda leaf: leaf.at[batch].get(mode="promise_in_bounds"), data)
        keys = (jax.random.fold_in(loss_key, number),) if has_key else ()
        value, gradient = slope(state.params, x, y, *keys)
        # Line searches and the like ask for these; other optimizers pass over them.
        extra = {"value": value, "grad": gradient, "value_fn": lambda p: loss(p, x, y, *keys)}
        # Optimizers of optax mix dtypes, as in 0.9**count with an integer count.
        with jax.numpy_dtype_promotion("standard"):
            updates, new = update(gradient, state.optimizer, state.params, **extra)
            new_params = optax.apply_updates(state.params, updates)
        return _State(new_params, jax.tree.map(_in_dtype_of, state.optimizer, new)), value

    batches = order.reshape(steps, batch_size)
    return jax.lax.scan(step, state, (jnp.arange(steps), batches))


def _in_dtype_of(old: Array, new: Array) -> Array:
    return new if new.dtype == old.dtype else new.astype(old.dtype)


class _Recorder:
    """Gathers the history, as it goes."""

    def __init__(self, samples: int, compile_seconds: float):
        self._samples = samples
        self._compile_seconds = compile_seconds
        self._losses: list[np.ndarray] = []
        self._seconds: list[float] = []
        self._metrics: list[dict[str, float]] = []

    def add(self, losses: np.ndarray, seconds: float, metrics: Mapping[str, Any]) -> None:
        self._losses.append(losses)
        self._seconds.append(seconds)
        self._metrics.append({name: float(value) for name, value in metrics.items()})

    def line(self) -> str:
        loss, speed = self._losses[-1].mean(dtype=float), self._samples / self._seconds[-1]
        values = "".join(f"  {name} {value:.4f}" for name, value in self._metrics[-1].items())
        return f"loss {loss:.4f}{values}  {speed:,.0f} samples/s"

    def history(self) -> History:
        seconds = np.array(self._seconds)
        names = self._metrics[0] if self._metrics else {}
        losses = np.stack(self._losses) if self._losses else np.empty((0, 0))
        return History(
            loss=np.array([losses.mean(dtype=float) for losses in self._losses]),
            step_loss=losses,
            seconds=seconds,
            samples_per_second=self._samples / seconds,
            metrics={name: np.array([row[name] for row in self._metrics]) for name in names},
            compile_seconds=self._compile_seconds,
        )


def _copy(tree: PyTree) -> PyTree:
    # An explicit dtype, so that the leaves of a scanned state are not weakly typed.
    return jax.tree.map(lambda leaf: jnp.array(leaf, jnp.result_type(leaf), copy=True), tree)


def _check_finite(losses: np.ndarray, epoch: int, before: PyTree, recorder: _Recorder) -> None:
    bad = np.flatnonzero(~np.isfinite(losses.astype(float)))
    if not bad.size:
        return
    step = epoch * len(losses) + int(bad[0])
    raise DivergenceError(
        f"The loss must stay finite, but it became {losses[bad[0]]} at step {step} (step "
        f"{bad[0]} of epoch {epoch}, both counted from 0). Try a smaller learning rate, or "
        "optax.clip_by_global_norm. The parameters from the start of that epoch are in .params "
        "of this error, the epochs before it in .history.",
        step=step,
        params=before,
        history=recorder.history(),
    )


def _reject_later(name: str, value: Any) -> None:
    if value is not None:
        raise NotImplementedError(
            f"fit does not support {name} yet, but it is {value!r}. Leave it out."
        )


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, but it is {value!r}.")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but it is {value}.")


def _checked_examples(data: Any) -> int:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(f"data must be a pair (x, y), but it is {type(data).__name__}.")
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(part)] for part in data]
    lengths = {shape[:1] for part in shapes for shape in part}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            "x and y must have one entry for each example along their first axis, but their "
            f"shapes are {shapes[0]} and {shapes[1]}."
        )
    return lengths.pop()[0]
