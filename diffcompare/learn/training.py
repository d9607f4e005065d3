"""Stochastic gradient descent as one compiled loop for each epoch."""

import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from diffcompare._progress import progress
from diffcompare.automatic.mode import ReverseMode
from diffcompare.learn import checkpoint as checkpoints
from diffcompare.learn import placement
from diffcompare.learn.errors import DivergenceError
from diffcompare.learn.history import Epoch, History
from diffcompare.learn.journal import Journal
from diffcompare.learn.order import permutation
from diffcompare.method import Method
from diffcompare.operators import value_and_grad

PyTree = Any
Metrics = Callable[[PyTree], Mapping[str, Any]]


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
    mesh: Mesh | None = None,
    compute_dtype: Any = None,
    checkpoint: str | os.PathLike | None = None,
    save_every: int = 1,
    log: str | os.PathLike | None = None,
    stop: Callable[[History], bool] | None = None,
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
        mesh: The devices that share every batch, also those of several processes, each of
            which calls `fit` with the same arguments. The data is there on each of them. The
            result is that of one device, but for the rounding of sums over a batch.
        compute_dtype: A dtype in which the loss is computed, such as `jnp.bfloat16`: floating
            parameters and data are converted to it for every step, while the parameters
            themselves, and what the optimizer keeps, stay in their own dtype.
        checkpoint: A folder in which the run is saved, so that one that was killed goes on
            where it was when it is started again with the same arguments; it then gives, bit
            for bit, the parameters and losses of one that was not. A run that was complete
            gives its result, or goes on to more epochs. It needs orbax-checkpoint.
        save_every: After how many epochs to save. The last one is always saved.
        log: A file to which every epoch is written as it ends, a line of JSON each.
        stop: `stop(history) -> bool`, called after each epoch: whether it was the last. See
            `EarlyStopping`.

    Returns:
        The parameters and the history.

    Raises:
        TypeError: `epochs`, `batch_size` or `save_every` is not an integer, `data` is not a
            pair, or `mesh` is not a mesh.
        ValueError: One of these numbers is not positive, there are fewer examples than make a
            batch, `x` and `y` differ in their number, the devices cannot share a batch
            equally, or `checkpoint` holds another run: one of other data, another key, batch
            size, method, dtype, or parameters of other shapes. (It cannot know whether `loss`
            and `optimizer` are what they were.)
        FloatingPointError: The loss became infinite or NaN. The error, a `DivergenceError`,
            names the step and carries the parameters and history from before.
        CheckpointError: A checkpoint was truncated or altered.

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
    examples = _checked_examples(data)
    _check_positive(epochs=epochs, batch_size=batch_size, save_every=save_every)
    if batch_size > examples:
        raise ValueError(
            f"batch_size must be at most the number of examples, {examples}, but it is "
            f"{batch_size}."
        )
    mesh = placement.checked_mesh(mesh, batch_size)
    data = placement.everywhere(jax.tree.map(jnp.asarray, tuple(data)), mesh)
    # The loop donates its state. A copy keeps the caller's arrays alive.
    state = placement.everywhere(_copied(_State(params, optimizer.init(params))), mesh)
    options = {"loss": loss, "optimizer": optimizer, "method": method, "mesh": mesh}
    options |= {"has_key": has_key, "compute_dtype": _checked_dtype(compute_dtype)}

    journal = Journal(
        samples=examples // batch_size * batch_size,
        log=None if log is None else Path(log),
        folder=None if checkpoint is None else Path(checkpoint),
        save_every=save_every,
        conditions={} if checkpoint is None else _conditions(state, data, key, batch_size, options),
    )
    state = journal.begin(state, epochs)

    began = time.perf_counter()
    batches = functools.partial(_batches, key, examples, batch_size, mesh)
    coming = batches(len(journal.epochs))
    epoch = _epoch.lower(state, data, *coming, **options).compile()
    journal.compile_seconds = time.perf_counter() - began
    # Only the state is donated, so this is what a loss that is not finite falls back to, and
    # what `metrics` may keep.
    params = placement.here(_copied(state.params), mesh)
    done = len(journal.epochs)
    ended = done == epochs or (done > 0 and stop is not None and stop(journal.history()))
    with progress(epochs, "epoch", done) as report:
        while not ended:
            number = len(journal.epochs)
            began = time.perf_counter()
            state, losses = epoch(state, data, *coming)
            if number + 1 < epochs:  # found while the devices compute
                coming = batches(number + 1)
            losses = np.asarray(losses)
            seconds = time.perf_counter() - began
            _check_finite(losses, number, params, journal)
            params = placement.here(_copied(state.params), mesh)
            found = metrics(params) if metrics else {}
            found = {name: float(value) for name, value in found.items()}
            journal.add(Epoch(losses, seconds, found))
            ended = number + 1 == epochs or (stop is not None and stop(journal.history()))
            journal.save(state, ended)
            report(journal.line())
    return Fitted(params, journal.history())


@functools.partial(
    jax.jit,
    static_argnames=(
        "loss",
        "optimizer",
        "method",
        "has_key",
        "mesh",
        "compute_dtype",
    ),
    donate_argnums=0,
)
def _epoch(
    state: _State,
    data: PyTree,
    batches: Array,
    loss_key: Array,
    *,
    loss: Callable[..., Array],
    optimizer: optax.GradientTransformation,
    method: Method,
    has_key: bool,
    mesh: Mesh | None,
    compute_dtype: np.dtype | None,
) -> tuple[_State, Array]:
    """Returns the state after one epoch, and the loss of every batch."""
    loss = loss if compute_dtype is None else _computed_in(compute_dtype, loss)
    slope = value_and_grad(loss, method=method)
    update = optax.with_extra_args_support(optimizer).update

    def step(state: _State, inputs: tuple[Array, Array]) -> tuple[_State, Array]:
        number, batch = inputs
        batch = placement.shared(batch, mesh)
        x, y = jax.tree.map(lambda leaf: leaf.at[batch].get(mode="promise_in_bounds"), data)
        x, y = placement.shared((x, y), mesh)
        keys = (jax.random.fold_in(loss_key, number),) if has_key else ()
        value, gradient = slope(state.params, x, y, *keys)
        # Line searches and the like ask for these; other optimizers pass over them.
        extra = {"value": value, "grad": gradient, "value_fn": lambda p: loss(p, x, y, *keys)}
        # Optimizers of optax mix dtypes, as in 0.9**count with an integer count.
        with jax.numpy_dtype_promotion("standard"):
            updates, new = update(gradient, state.optimizer, state.params, **extra)
            new_params = optax.apply_updates(state.params, updates)
        return _State(new_params, jax.tree.map(_in_dtype_of, state.optimizer, new)), value

    return jax.lax.scan(step, state, (jnp.arange(len(batches)), batches))


def _in_dtype_of(old: Array, new: Array) -> Array:
    return new if new.dtype == old.dtype else new.astype(old.dtype)


def _computed_in(dtype: np.dtype, loss: Callable[..., Array]) -> Callable[..., Array]:
    """Returns the loss computed in a dtype; its derivative is one of the parameters as they are."""

    def computed(params, x, y, *keys):
        return loss(*jax.tree.map(converted, (params, x, y)), *keys)

    def converted(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return computed


def _batches(
    key: Array, examples: int, batch_size: int, mesh: Mesh | None, number: int
) -> tuple[Array, Array]:
    """Returns the examples of every batch of an epoch, and the key of its losses."""
    order_key, loss_key = jax.random.split(jax.random.fold_in(key, number))
    steps = examples // batch_size
    order = permutation(order_key, examples)[: steps * batch_size]
    return placement.everywhere((order.reshape(steps, batch_size), loss_key), mesh)


@jax.jit
def _copied(tree: PyTree) -> PyTree:
    # Compiled, because arrays of several processes cannot be copied otherwise. An explicit
    # dtype, so that the leaves of a scanned state are not weakly typed.
    return jax.tree.map(lambda leaf: jnp.copy(leaf).astype(jnp.result_type(leaf)), tree)


def _conditions(
    state: _State, data: PyTree, key: Array, batch_size: int, options: Mapping
) -> dict[str, Any]:
    """Returns what a run has to have in common with the one it goes on with."""
    shapes = jax.tree_util.tree_leaves_with_path(state)
    return {
        "state": {jax.tree_util.keystr(k): f"{v.dtype}{list(v.shape)}" for k, v in shapes},
        "data": checkpoints.fingerprint(data),
        "key": checkpoints.fingerprint(key),
        "method": repr(options["method"]),
        "batch_size": int(batch_size),
        "has_key": bool(options["has_key"]),
        "compute_dtype": str(options["compute_dtype"]),
    }


def _check_finite(losses: np.ndarray, epoch: int, before: PyTree, journal: Journal) -> None:
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
        history=journal.history(),
    )


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
            raise TypeError(f"{name} must be an integer, but it is {value!r}.")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but it is {value}.")


def _checked_dtype(dtype: Any) -> np.dtype | None:
    if dtype is None:
        return None
    dtype = jnp.dtype(dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"compute_dtype must be a floating-point dtype, but it is {dtype}.")
    return dtype


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
