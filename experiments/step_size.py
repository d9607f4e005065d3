"""How accurate a finite difference is, against its step, in four precisions.

Lecture row 26: "numerical: (f(x + h) - f(x)) / h with a small h, for example 1e-6; easy; not very
accurate".
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from experiments import _step_size_figure
from experiments._reference import gradient_of_half_squared_error, in_two_parts
from experiments._runner import run_module as main

CLAIM = (
    "A numerical gradient is not very accurate: its best error is eps^(1/2) by forward and "
    "eps^(2/3) by central differences, and h = 1e-6 is far from the best step in float32."
)
ENABLE_X64 = True

Dtype = Literal["float16", "bfloat16", "float32", "float64"]
Network = Literal["tanh", "relu"]

SCHEMES = {
    "forward": dc.ForwardDifference,
    "central": dc.CentralDifference,
    "order 4": functools.partial(dc.CentralDifference, order=4),  # type: ignore[call-arg]
}
# The truncation error of each scheme is `factor * h**power * |derivative of f|`, the rounding
# error `noise * eps |f| / h`; see Sauer, "Numerical Analysis", 2nd ed., section 5.1.
TRUNCATION = {"forward": (1 / 2, 1), "central": (1 / 6, 2), "order 4": (1 / 30, 4)}
NOISE = {"forward": 2.0, "central": 1.0, "order 4": 1.5}
PERCENTS = (10, 50, 90, 100)
LECTURE_STEP = 1e-6


@dataclasses.dataclass(frozen=True)
class Config:
    """The networks have 4 inputs, 3 outputs and one hidden layer."""

    smallest: int = 50
    """The steps are 2^0, 2^-1, ... down to 2^-smallest."""
    hidden: int = 6
    """Units of the hidden layer."""
    seed: int = 0
    """Of the weights, the input and the target."""
    dtypes: tuple[Dtype, ...] = ("float16", "bfloat16", "float32", "float64")
    """In which the networks are evaluated."""
    networks: tuple[Network, ...] = ("tanh", "relu")
    """The activations."""

    def __post_init__(self):
        if not 1 <= self.smallest <= 1000 or self.hidden < 1:
            raise ValueError(
                f"smallest must be from 1 to 1000 and hidden positive, but they are "
                f"{self.smallest} and {self.hidden}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        return cls(dtypes=("float32", "float64"), networks=("tanh",))


class Curve(NamedTuple):
    """The error of one scheme against the step. Errors are relative, in the 2-norm."""

    scheme: str
    errors: np.ndarray  # (steps,)
    still: np.ndarray  # (steps,), the share of entries with x + h == x; their slope counts as 0
    bands: dict[str, np.ndarray]  # layer -> (percents, steps), of the error of single entries
    truncation: np.ndarray  # (steps,), from derivatives of the loss, not fitted
    rounding: np.ndarray  # (steps,), from eps and the loss, not fitted
    falling: float  # fitted slope where truncation rules; NaN where it rules nowhere
    rising: float  # fitted slope where rounding rules
    best_error: float
    best_step: float
    lecture_error: float  # at h = 1e-6


class Panel(NamedTuple):
    """One network in one dtype."""

    network: str
    dtype: str
    first_kink: float  # no step up to this carries a hidden unit across the kink of ReLU
    automatic: float  # relative error of jax.grad
    symbolic: float
    curves: list[Curve]


class Published(NamedTuple):
    """The function of Baydin et al. at 0.2, in float64. Errors are absolute."""

    forward: np.ndarray  # (steps,)
    central: np.ndarray  # (steps,)
    slope: float  # by jax.grad


class Result(NamedTuple):
    """What the figure shows."""

    steps: np.ndarray  # (steps,)
    panels: list[Panel]
    published: Published


def run(config: Config) -> Result:
    """Returns the errors of every scheme, step, dtype and network."""
    steps = 2.0 ** -np.arange(config.smallest + 1)
    panels = [
        _panel(config, network, dtype, steps)
        for network in config.networks
        for dtype in config.dtypes
    ]
    return Result(steps, panels, _published(steps))


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _step_size_figure.draw(result)


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every network, dtype and scheme."""
    return [
        {
            "network": panel.network,
            "dtype": panel.dtype,
            "scheme": curve.scheme,
            "best error": curve.best_error,
            "at h": curve.best_step,
            "at h = 1e-6": curve.lecture_error,
            "slope, truncation": curve.falling,
            "slope, rounding": curve.rising,
            "jax.grad": panel.automatic,
            "Symbolic": panel.symbolic,
        }
        for panel in result.panels
        for curve in panel.curves
    ]


def _problem(config: Config, network: str, dtype: str):
    """Returns the loss as a function of the weights, and the weights, rounded to `dtype`."""
    keys = jax.random.split(jax.random.key(config.seed), 3)
    params = learn.init(keys[0], (4, config.hidden, 3), dtype=dtype)
    x = jax.random.normal(keys[1], (4,), dtype)
    y = jax.random.normal(keys[2], (3,), dtype)
    return functools.partial(_loss, network), params, x, y


def _loss(network: str, params, x, y):
    activation = {"tanh": jnp.tanh, "relu": jax.nn.relu}[network]
    return learn.half_squared_error(learn.apply(params, x, activation), y)


def _panel(config: Config, network: Network, dtype: str, steps: np.ndarray) -> Panel:
    loss, params, x, y = _problem(config, network, dtype)
    exact = gradient_of_half_squared_error(
        [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in params],
        np.asarray(x),
        np.asarray(y),
        network,
    )
    reference = in_two_parts(np.concatenate([np.ravel(part) for layer in exact for part in layer]))

    def error(method):
        return _relative(_flat(dc.grad(loss, method=method)(params, x, y)), reference)

    widened = jax.tree.map(lambda leaf: leaf.astype("float64"), (params, x, y))
    value = float(loss(*widened))
    derivatives = {k: np.asarray(v) for k, v in _derivatives(network, *widened).items()}
    layer_of = np.repeat(
        np.arange(len(params)), [layer.weight.size + layer.bias.size for layer in params]
    )
    kink = _first_kink(network, params, x)
    curves = []
    for name, scheme in SCHEMES.items():
        # The step is a traced number, so one compiled call sweeps all of them.
        sweep = jax.jit(
            lambda params, x, y, steps, scheme=scheme: jax.lax.map(
                lambda h: dc.grad(loss, method=scheme(step=h))(params, x, y), steps
            )
        )
        every_step = jnp.asarray([*steps, LECTURE_STEP])
        found = _flat(sweep(params, x, y, every_step), len(every_step))
        factor, power = TRUNCATION[name]
        size = np.linalg.norm(reference[0])
        truncation = factor * np.linalg.norm(derivatives[power + 1]) * steps**power / size
        eps = float(jnp.finfo(dtype).eps)
        rounding = NOISE[name] * eps * abs(value) * np.sqrt(reference[0].size) / steps / size
        curves.append(_curve(name, steps, found, reference, layer_of, truncation, rounding, kink))
    return Panel(network, dtype, kink, error(dc.ReverseMode()), error(dc.Symbolic()), curves)


def _curve(name, steps, found, reference, layer_of, truncation, rounding, first_kink) -> Curve:
    still = np.mean(np.isnan(found), axis=1)
    found = np.where(np.isnan(found), 0.0, found)
    errors = np.array([_relative(row, reference) for row in found])
    # A weight into a ReLU that is off has the gradient 0, of which no error is a fraction.
    alive = reference[0] != 0
    single = np.abs((found - reference[0]) - reference[1])[:-1, alive] / np.abs(reference[0][alive])
    bands = {
        f"layer {layer + 1}": np.percentile(single[:, layer_of[alive] == layer], PERCENTS, axis=1)
        for layer in np.unique(layer_of)
    }
    best = int(np.argmin(errors[:-1]))
    _, power = TRUNCATION[name]
    return Curve(
        scheme=name,
        errors=errors[:-1],
        still=still[:-1],
        bands=bands,
        truncation=truncation,
        rounding=rounding,
        # The next term of the expansion is smaller by h (one-sided) or h**2.
        falling=_slope(
            steps,
            errors[:-1],
            (truncation > 30 * rounding) & (steps <= (2**-6 if power == 1 else 2**-4)),
        ),
        rising=_slope(
            steps,
            errors[:-1],
            (rounding > 10 * truncation)
            & (errors[:-1] < 0.3)
            & (still[:-1] == 0)
            & (steps < first_kink),
            points=8,  # rounding is random; fewer points do not fix a slope to a tenth
        ),
        best_error=float(errors[best]),
        best_step=float(steps[best]),
        lecture_error=float(errors[-1]),
    )


def _slope(steps: np.ndarray, errors: np.ndarray, where: np.ndarray, points: int = 4) -> float:
    """Returns the fitted exponent of the error in the step; NaN for fewer than `points`."""
    where = where & (errors > 0)
    if where.sum() < points:
        return float("nan")
    return float(np.polyfit(np.log(steps[where]), np.log(errors[where]), 1)[0])


def _first_kink(network: str, params, x) -> float:
    """Returns the smallest `|f_i| / |x_j|`: weight (i, j) moves unit i by the step times x_j.

    The order-4 scheme goes two steps to either side, so half of it is safe for all schemes.
    """
    if network == "tanh":
        return float("inf")
    hidden = params[0]
    sums = np.asarray(hidden.weight @ x + hidden.bias, np.float64)
    return float(np.min(np.abs(sums)) / max(1.0, np.max(np.abs(np.asarray(x, np.float64)))) / 2)


# Compiled once for all dtypes, whose weights are widened.
@functools.partial(jax.jit, static_argnums=0)
def _derivatives(network: str, params, x, y) -> dict[int, jax.Array]:
    """Returns the 2nd, 3rd and 5th derivative of the loss by every single weight."""
    flat, unravel = ravel_pytree(params)

    def along(v):
        def value(t):
            return _loss(network, unravel(flat + t * v), x, y)

        orders = [value]
        for _ in range(5):
            orders.append(_slope_of(orders[-1]))
        return {order: orders[order](jnp.zeros(())) for order in (2, 3, 5)}

    return jax.vmap(along)(jnp.eye(flat.size))


def _slope_of(fun):
    return lambda t: jax.jvp(fun, (t,), (jnp.ones_like(t),))[1]


def _published(steps: np.ndarray) -> Published:
    """Returns the errors for the function in figure 3 of Baydin et al., JMLR 18, 2018."""

    def fun(x):
        return 64 * x * (1 - x) * (1 - 2 * x) ** 2 * (1 - 8 * x + 8 * x**2) ** 2

    x, slope = 0.2, 9.0660864

    def errors(scheme):
        sweep = jax.vmap(lambda h: dc.grad(fun, method=scheme(step=h))(x))
        return np.abs(np.asarray(jax.jit(sweep)(jnp.asarray(steps))) - slope)

    forward, central = errors(dc.ForwardDifference), errors(dc.CentralDifference)
    return Published(forward, central, float(dc.grad(fun)(x)))


def _flat(grads, *lead: int) -> np.ndarray:
    """Returns all entries in float64, of shape `(*lead, entries)`, in the order of the leaves."""
    leaves = [np.asarray(leaf, np.float64).reshape(*lead, -1) for leaf in jax.tree.leaves(grads)]
    return np.concatenate(leaves, axis=-1)


def _relative(found: np.ndarray, reference: tuple[np.ndarray, np.ndarray]) -> float:
    high, low = reference
    return float(np.linalg.norm((found - high) - low) / np.linalg.norm(high))


if __name__ == "__main__":
    raise SystemExit(main("step_size"))
