"""Training 784-100-10 by Adam: one compiled epoch against peers, in samples a second."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._measure import Goal, details, interleaved, main, note, ratio
from diffcompare import learn

SIZES, EXAMPLES, BATCH, EPOCHS = (784, 100, 10), 59_904, 128, 1
RATE = 1e-3


def loss(params, x, y):
    scores = learn.apply(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()


def goals():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, SIZES[0])).astype("float32")
    y = rng.integers(0, SIZES[-1], EXAMPLES)
    contenders = {"fit": fit(x, y), "loop of jitted steps": jitted_steps(x, y)}
    for name, make in {"PyTorch eager": torch_eager, "scikit-learn": scikit_learn}.items():
        try:
            contenders[name] = make(x, y)
        except ImportError:
            note(f"{name} is not installed; it is left out.")
    samples = interleaved(contenders, 5)
    asked = {"PyTorch eager": 2, "loop of jitted steps": 1.4, "scikit-learn": 2.5}
    speeds = {name: EXAMPLES * EPOCHS / each.median("wall") for name, each in samples.items()}
    return [
        Goal(
            f"{name} / fit, time of an epoch",
            least,
            ratio(samples, name, "fit", "wall"),
            False,
            details(samples, samples_per_second=speeds),
        )
        for name, least in asked.items()
        if name in samples
    ]


def fit(x, y):
    params = learn.init(jax.random.key(0), SIZES, dtype="float32")
    optimizer = optax.adam(RATE)
    options = {"epochs": EPOCHS, "batch_size": BATCH, "key": jax.random.key(1)}
    data = (jnp.asarray(x), jnp.asarray(y))
    return lambda: jax.block_until_ready(learn.fit(loss, params, data, optimizer, **options).params)


def jitted_steps(x, y):
    params = learn.init(jax.random.key(0), SIZES, dtype="float32")
    optimizer = optax.adam(RATE)

    @jax.jit
    def step(params, state, x, y):
        updates, state = optimizer.update(jax.grad(loss)(params, x, y), state, params)
        return optax.apply_updates(params, updates), state

    def run():
        weights, state = params, optimizer.init(params)
        rng = np.random.default_rng(0)
        for _ in range(EPOCHS):
            for batch in rng.permutation(EXAMPLES).reshape(-1, BATCH):
                weights, state = step(weights, state, x[batch], y[batch])
        jax.block_until_ready(weights)

    return run


def torch_eager(x, y):
    import torch

    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)

    def run():
        model = torch.nn.Sequential(
            torch.nn.Linear(*SIZES[:2]), torch.nn.ReLU(), torch.nn.Linear(*SIZES[1:])
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        for _ in range(EPOCHS):
            for batch in torch.randperm(EXAMPLES).reshape(-1, BATCH):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
                optimizer.step()

    return run


def scikit_learn(x, y):
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    def run():
        model = MLPClassifier(
            SIZES[1:-1], alpha=0, batch_size=BATCH, learning_rate_init=RATE, max_iter=EPOCHS
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)

    return run


if __name__ == "__main__":
    raise SystemExit(main("training", goals))
