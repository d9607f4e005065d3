"""How exact a value is by device, compilation, matrix products and dtype; and second derivatives.

The noise of a value is what no step of a difference and no rule of differentiation goes below. It
is measured against the value to 50 digits, of the function with the arguments as they are rounded.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from matplotlib.figure import Figure

import diffcompare as dc
from diffcompare import learn
from experiments import _precision_figure
from experiments._reference import in_two_parts
from experiments._runner import run_module as main

CLAIM = (
    "A value is wrong by a few eps of its dtype, however it is compiled, unless matrix products "
    "take narrower numbers than that; a second derivative keeps all digits by automatic and "
    "symbolic differentiation, two thirds by a difference of gradients, and half by differences "
    "of differences."
)
ENABLE_X64 = True

Dtype = Literal["bfloat16", "float16", "float32", "float64"]
DTYPES: tuple[Dtype, ...] = ("bfloat16", "float16", "float32", "float64")

# What the precision of matrix products can be set to; JAX takes more names for the same.
PRECISIONS = ("default", "tensorfloat32", "highest")
NARROW = "bfloat16 inputs"

CENTRAL, FORWARD, REVERSE = dc.CentralDifference(), dc.ForwardMode(), dc.ReverseMode()
EXTRAPOLATED = "Richardson of reverse mode"
# Of a second derivative: what differentiates the gradient, and what finds the gradient. A single
# method chooses for itself how it is nested.
SECOND: dict[str, Any] = {
    "differences of differences": CENTRAL,
    "differences, order 4, of the same": dc.CentralDifference(order=4),
    "forward difference of reverse mode": (dc.ForwardDifference(), REVERSE),
    "central difference of reverse mode": (CENTRAL, REVERSE),
    EXTRAPOLATED: (dc.Richardson(), REVERSE),
    "complex step of reverse mode": (dc.ComplexStep(), REVERSE),
    "complex step of complex step": dc.ComplexStep(),
    "forward over reverse": (FORWARD, REVERSE),
    "reverse over reverse": (REVERSE, REVERSE),
    "forward over forward": (FORWARD, FORWARD),
    "symbolic of symbolic": dc.Symbolic(),
}
# The best error of each is about eps to this power; 1 where it is not here. A central difference
# of exact gradients balances h^2 with eps / h; of differences, h^2 with eps / h^2; of order 4, h^4
# with eps / h^2; a forward difference of gradients, h with eps / h.
POWERS = {
    "differences of differences": 1 / 2,
    "differences, order 4, of the same": 2 / 3,
    "forward difference of reverse mode": 1 / 2,
    "central difference of reverse mode": 2 / 3,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Networks with one hidden layer, tanh and half the squared error of one example."""

    inputs: int = 32
    """Inputs and hidden units of the network whose value is taken."""
    examples: int = 32
    """At how many inputs."""
    hidden: int = 4
    """Hidden units of the network that is differentiated twice; it has 3 inputs and 2 outputs."""
    seed: int = 0
    """Of the weights, the inputs and the targets."""
    methods: tuple[str, ...] = tuple(SECOND)
    """Of the second derivative."""

    def __post_init__(self):
        if min(self.inputs, self.examples, self.hidden) < 1:
            raise ValueError(
                "inputs, examples and hidden must be positive, but they are "
                f"{self.inputs}, {self.examples} and {self.hidden}."
            )
        if not set(self.methods) <= set(SECOND):
            raise ValueError(
                f"methods must be of {', '.join(SECOND)}, but they are {self.methods}."
            )

    @classmethod
    def quick(cls) -> "Config":
        """Returns the smallest sensible config."""
        methods = (
            "differences of differences",
            "central difference of reverse mode",
            "forward over reverse",
        )
        return cls(inputs=8, examples=8, hidden=2, methods=methods)


class Noise(NamedTuple):
    """The values of one function at all inputs, found in one way."""

    device: str  # of the kind that JAX names
    dtype: str
    way: str  # how it is compiled
    products: str  # the precision of matrix products
    error: np.ndarray  # (examples,), of the value, signed, in units of eps times the exact value
    changed: float  # share of the values that differ from those of jit with default products


class Second(NamedTuple):
    """All second derivatives of a loss by its weights, by one method."""

    method: str
    power: float  # expected: the error is about eps to this power
    dtypes: tuple[str, ...]
    error: np.ndarray  # (dtypes,), relative, in the Frobenius norm
    eps: np.ndarray  # (dtypes,)
    exponent: float  # of the error in eps, fitted


class Result(NamedTuple):
    """What the figure shows."""

    noise: list[Noise]
    second: list[Second]
    weights: int  # of the network that is differentiated twice


def run(config: Config) -> Result:
    """Returns the noise of values, and the errors of second derivatives."""
    small = _second_problem(config)
    return Result(
        list(_noise(config)),
        [_second(name, small) for name in config.methods],
        small.exact[0].shape[0],
    )


def plot(result: Result) -> Figure:
    """Returns the figure."""
    return _precision_figure.draw(result, sentences(result))


def summary(result: Result) -> list[dict[str, object]]:
    """Returns a row for every way to a value, and to second derivatives."""
    rows: list[dict[str, object]] = [
        {
            "what": "value",
            "how": f"{noise.way}, products {noise.products}, {noise.device}",
            "dtype": noise.dtype,
            "median error, eps": float(np.median(np.abs(noise.error))),
            "largest, eps": float(np.abs(noise.error).max()),
            "relative": float(np.median(np.abs(noise.error)) * _eps(noise.dtype)),
            "changed": noise.changed,
            "power of eps": "",
        }
        for noise in result.noise
    ]
    rows += [
        {
            "what": "second derivatives",
            "how": second.method,
            "dtype": dtype,
            "median error, eps": "",
            "largest, eps": error / eps,
            "relative": error,
            "changed": "",
            "power of eps": second.exponent,
        }
        for second in result.second
        for dtype, error, eps in zip(second.dtypes, second.error, second.eps, strict=True)
    ]
    return rows


def _eps(dtype: str) -> float:
    return float(jnp.finfo(dtype).eps)


def _noise(config: Config):
    """Yields the noise of every dtype, device, way to compile and precision of products."""
    rng = np.random.default_rng(config.seed)
    size = config.inputs
    weights = rng.normal(size=(size, size)) / size**0.5, rng.normal(size=(4, size)) / size**0.5
    inputs, target = rng.normal(size=(config.examples, size)), rng.normal(size=4)
    for dtype in DTYPES:
        given = [jnp.asarray(each, dtype) for each in (*weights, target)]
        x = jnp.asarray(inputs, dtype)
        exact = [dc.exact_grad(_loss, 3, digits=30)(*given, each).value for each in np.asarray(x)]
        for device in _devices():
            here = jax.device_put((*given, x), device)
            usual = None
            for way, products in _ways(dtype):
                found = _values(way, products, *here).astype(np.float64)
                usual = found if usual is None else usual
                yield Noise(
                    device.device_kind,
                    dtype,
                    way,
                    products,
                    _in_eps(found, exact, dtype),
                    float(np.mean(found != usual)),
                )


def _loss(w1, w2, y, x):
    return learn.half_squared_error(w2 @ jnp.tanh(w1 @ x), y)


def _loss_of_narrow_products(w1, w2, y, x):
    # As in mixed precision: factors are rounded to bfloat16, and their products added wider.
    def product(a, b):
        narrow = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
        return jnp.matmul(*narrow, preferred_element_type=a.dtype)

    return learn.half_squared_error(product(w2, jnp.tanh(product(w1, x))), y)


def _devices() -> list[Any]:
    """Returns the first device of JAX's backend, and of the CPU if that is another."""
    devices = [jax.devices()[0]]
    if devices[0].platform != "cpu":
        with contextlib.suppress(RuntimeError):  # where JAX was told to use no CPU
            devices.append(jax.devices("cpu")[0])
    return devices


def _ways(dtype: str) -> list[tuple[str, str]]:
    """Returns the pairs of how to compile and how to multiply; the usual one comes first."""
    ways = [("jit", "default"), ("eager", "default"), ("jit of vmap", "default"),
            ("weights in the program", "default")]  # fmt: skip
    if dtype == "float32":
        ways += [("jit", products) for products in (*PRECISIONS[1:], NARROW)]
    return ways


def _values(way: str, products: str, w1, w2, y, xs) -> np.ndarray:
    """Returns the loss at all inputs."""
    # Iterating an array compiles a program that takes all of it apart.
    rows = [xs[number] for number in range(len(xs))]
    loss = _loss_of_narrow_products if products == NARROW else _loss
    setting = None if products in ("default", NARROW) else products
    # Functions of their own: a program that was compiled in another setting must not serve.
    call: Callable[..., jax.Array] = lambda *args: loss(*args)
    context = jax.default_matmul_precision(setting) if setting else contextlib.nullcontext()
    with context:
        if way == "jit of vmap":
            return np.asarray(jax.jit(jax.vmap(call, (None, None, None, 0)))(w1, w2, y, xs))
        if way == "weights in the program":
            # XLA may compute with them while it compiles.
            compiled = jax.jit(lambda x: call(w1, w2, y, x))
            return np.stack([compiled(x) for x in rows])
        whole = jax.jit(call) if way == "jit" else call
        return np.stack([whole(w1, w2, y, x) for x in rows])


def _in_eps(found: np.ndarray, exact: list[Any], dtype: str) -> np.ndarray:
    with mpmath.workdps(30):
        return np.array(
            [
                float((mpmath.mpf(value) - truth) / abs(truth))
                for value, truth in zip(found.tolist(), exact, strict=True)
            ]
        ) / _eps(dtype)


class _Problem(NamedTuple):
    loss: Callable[[jax.Array], jax.Array]  # of all weights in one array, in any dtype
    weights: np.ndarray  # which all dtypes hold exactly
    exact: tuple[np.ndarray, np.ndarray]  # all second derivatives, in two parts


def _second_problem(config: Config) -> _Problem:
    inputs, outputs, hidden = 3, 2, config.hidden
    rng = np.random.default_rng(config.seed + 1)
    sizes = hidden * inputs + outputs * hidden
    # Numbers with few bits, so that in every dtype it is the same function at the same point.
    drawn = rng.normal(size=sizes + inputs + outputs).astype(jnp.bfloat16).astype(np.float64)
    weights, x, y = np.split(drawn, [sizes, sizes + inputs])

    def split(weights):
        w1, w2 = jnp.split(weights, [hidden * inputs])
        return w1.reshape(hidden, inputs), w2.reshape(outputs, hidden)

    def loss(weights):
        w1, w2 = split(weights)
        data = (jnp.asarray(each, weights.dtype) for each in (y, x))
        return _loss(w1, w2, *data)

    def slope(weights, along):
        """The derivative along a direction, derived by hand: row 25 of the lecture."""
        w1, w2 = split(weights)
        g = jnp.tanh(w1 @ x)
        back = w2 @ g - y
        by_w2 = jnp.outer(back, g)
        by_w1 = jnp.outer((w2.T @ back) * (1 - g * g), jnp.asarray(x))
        return jnp.vdot(jnp.concatenate([by_w1.ravel(), by_w2.ravel()]), along)

    exact_slope = dc.exact_grad(slope)
    at = jnp.asarray(weights)
    rows = [exact_slope(at, each).grad for each in jnp.eye(sizes)]
    return _Problem(loss, weights, in_two_parts(np.stack(rows)))


def _second(name: str, problem: _Problem) -> Second:
    high, low = problem.exact
    errors = []
    for dtype in DTYPES:
        at = jnp.asarray(problem.weights, dtype)
        if name == EXTRAPOLATED:
            matrix = _extrapolated(problem.loss, at)
        else:
            matrix = jax.jit(dc.hessian(problem.loss, method=SECOND[name]))(at)
        found = np.asarray(matrix).astype(np.float64)
        errors.append(float(np.linalg.norm((found - high) - low) / np.linalg.norm(high)))
    error, eps = np.array(errors), np.array([_eps(dtype) for dtype in DTYPES])
    exponent = float(np.polyfit(np.log(eps), np.log(error), 1)[0])
    return Second(name, POWERS.get(name, 1.0), DTYPES, error, eps, exponent)


def _extrapolated(loss: Callable, weights: jax.Array) -> np.ndarray:
    """Returns all second derivatives, a row at a time.

    `dc.hessian` finds the same in one program, which takes half a minute to compile.
    """
    estimate = dc.estimate(lambda at, along: jnp.vdot(jax.grad(loss)(at), along))
    rows = jnp.eye(weights.size, dtype=weights.dtype)
    return np.stack([np.asarray(estimate(weights, row).grad) for row in rows])


def sentences(result: Result) -> list[str]:
    """Returns what was found, in words."""
    found = []
    devices = list(dict.fromkeys(noise.device for noise in result.noise))
    for device in devices:
        here = [noise for noise in result.noise if noise.device == device]
        wide = [noise for noise in here if noise.products != NARROW]
        largest = max(float(np.abs(noise.error).max()) for noise in wide)
        changed = {
            way: max(noise.changed for noise in wide if noise.way == way)
            for way in ("eager", "jit of vmap")
        }
        found.append(
            f"On {device}, a value is off by {largest:.1f} eps at most. Of the values of jit, "
            f"eager evaluation changes {changed['eager']:.0%} at most, and a batch "
            f"{changed['jit of vmap']:.0%}."
        )
        single = {noise.products: noise for noise in here if noise.dtype == "float32"
                  and noise.way == "jit"}  # fmt: skip
        medians = ", ".join(
            f"{_shown(float(np.median(np.abs(noise.error))))} eps ({products})"
            for products, noise in single.items()
        )
        found.append(f"In float32 the median error by the precision of products is {medians}.")
    exponents = ", ".join(f"{second.exponent:.2f} ({second.method})" for second in result.second)
    found.append(f"The error of second derivatives is a power of eps, fitted: {exponents}.")
    return found


def _shown(size: float) -> str:
    return f"{size:.2g}" if size < 100 else f"{float(f'{size:.2g}'):,.0f}"


if __name__ == "__main__":
    raise SystemExit(main("precision"))
