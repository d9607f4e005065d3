"""Trains a network that reads digits."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro

SMOOTHING = 0.1


class Recipe(NamedTuple):
    """What is taken unless it is given."""

    rate: float
    epochs: int
    batch_size: int


RECIPES = {"digits": Recipe(1e-2, 60, 32), "mnist": Recipe(3e-3, 15, 128)}


def train(
    params: Annotated[Path, tyro.conf.Positional],
    data: Literal["digits", "mnist"] = "digits",
    path: Path | None = None,
    hidden: tuple[int, ...] = (100,),
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    dtype: Literal["float32", "bfloat16"] = "float32",
    checkpoint: Path | None = None,
    log: Path | None = None,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> int:
    """Trains a network that reads digits, on all devices, and writes it to a file.

    Args:
        params: Where to write the network; see `classify`.
        data: The images: digits come with the package, MNIST is your own copy.
        path: Where MNIST is; otherwise it is searched for.
        hidden: Units of each hidden layer; none for the linear model.
        epochs: How often to visit the training images; 60 for digits, 15 for MNIST.
        batch_size: Images of one gradient, a multiple of the number of devices; 32 or 128.
        seed: Of the first weights, of the order of the images, and of the split of digits.
        dtype: What the loss is computed in; the weights are float32.
        checkpoint: A folder in which the run is saved, to go on where it was if it is killed.
        log: A file for the loss and accuracy of every epoch, a line of JSON each.
        coordinator: HOST:PORT of the first of several processes.
        num_processes: How many processes there are.
        process_id: Which of them this is, counted from 0.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from diffcompare import learn
    from diffcompare.learn import placement

    if coordinator is not None:
        if num_processes is None or process_id is None:
            raise ValueError("several processes need --num-processes and --process-id too.")
        placement.join_processes(coordinator, num_processes, process_id)
    found = learn.load(data, path=path, seed=seed)
    sizes = (found.x_train.shape[1], *hidden, int(found.y_train.max()) + 1)

    def loss(params, x, y):
        scores = learn.apply(params, x)
        targets = jax.nn.one_hot(y, sizes[-1], dtype=scores.dtype)
        smooth = optax.losses.smooth_labels(targets, SMOOTHING if hidden else 0.0)
        return optax.losses.softmax_cross_entropy(scores, smooth).mean()

    measure = jax.jit(learn.accuracy)
    recipe = RECIPES[data]
    epochs, batch_size = epochs or recipe.epochs, batch_size or recipe.batch_size
    steps = epochs * (len(found.y_train) // batch_size)
    start, order = jax.random.split(jax.random.key(seed))
    devices = jax.devices()
    fitted = learn.fit(
        loss,
        learn.init(start, sizes, dtype=jnp.float32),
        (found.x_train, found.y_train),
        optax.adamw(optax.cosine_decay_schedule(recipe.rate, steps), weight_decay=1e-2),
        epochs=epochs,
        batch_size=batch_size,
        key=order,
        metrics=lambda params: {"accuracy": measure(params, found.x_test, found.y_test)},
        mesh=jax.sharding.Mesh(np.array(devices), ("batch",)) if len(devices) > 1 else None,
        compute_dtype=None if dtype == "float32" else dtype,
        checkpoint=checkpoint,
        log=log,
    )
    if jax.process_index() == 0:
        learn.save(params, learn.Network(fitted.params, found.image_shape, found.name))
        history = fitted.history
        print(
            f"{params}: {found.name}, {'-'.join(map(str, sizes))}, held-out accuracy "
            f"{history.metrics['accuracy'][-1]:.4f} after {epochs} epochs on {len(devices)} x "
            f"{devices[0].device_kind}, {history.samples_per_second[-1]:,.0f} samples/s"
        )
    return 0
