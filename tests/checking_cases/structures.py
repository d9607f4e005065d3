"""Arguments and outputs of every structure, and transformed functions."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

import checking_cases.case as c
from experiments._planted_mistakes import misreported

double = misreported(lambda g: 2 * g)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    """A dataclass whose name is no leaf."""

    weight: Any
    bias: Any
    name: str = dataclasses.field(default="layer", metadata={"static": True})


class Pair(NamedTuple):
    """A NamedTuple."""

    first: Any
    second: Any


@jax.tree_util.register_pytree_with_keys_class
class Module:
    """A module that is a function of its input, like those of Equinox."""

    def __init__(self, weight, activation=jnp.tanh):
        self.weight, self.activation = weight, activation

    def __call__(self, x):
        return self.activation(self.weight @ x)

    def tree_flatten_with_keys(self):
        key = jax.tree_util.GetAttrKey("weight")
        return [(key, self.weight)], self.activation

    @classmethod
    def tree_unflatten(cls, activation, children):
        return cls(children[0], activation)


def _module(wrap):
    def build(dtype):
        x = c.normal(dtype, 3)
        fun = lambda module: Module(wrap(module.weight), module.activation)(x)
        return fun, (Module(c.normal(dtype, 2, 3)),)

    return build


def _layer(wrap):
    def build(dtype):
        fun = lambda layer, x: jnp.sin(layer.weight @ x + wrap(layer.bias))
        return fun, (Layer(c.normal(dtype, 2, 3), c.normal(dtype, 2)), c.normal(dtype, 3, seed=1))

    return build


def _mixture(wrap):
    """Returns the builder of a function of a dictionary in which few leaves are real arrays."""

    def build(dtype):
        def fun(tree, count):
            noise = jax.random.normal(tree["key"], (3,), tree["w"].dtype)
            scale = 2 if tree["is_scaled"] else 1
            kept = jnp.where(tree["mask"], wrap(tree["w"]), 0)
            return jnp.sum(jnp.sin(kept + noise) * scale) * count + jnp.sum(tree["empty"])

        tree = {
            "w": c.normal(dtype, 3),
            "empty": jnp.zeros((0, 2), dtype),
            "is_scaled": True,
            "key": jax.random.key(1),
            "mask": jnp.asarray([True, False, True]),
            "nothing": None,
            "index": jnp.arange(3),
        }
        return fun, (tree, 3)

    return build


def _nested(wrap):
    def build(dtype):
        def fun(tree):
            (a, b), rest = tree
            return a * jnp.sum(wrap(rest["c"].second)) + jnp.sum(b * rest["c"].first)

        inner = {"c": Pair(c.normal(dtype, 3), c.normal(dtype, 2, 2))}
        return fun, (((c.array(dtype, 1.5), c.normal(dtype, 3, seed=1)), inner),)

    return build


def _python_number(wrap):
    def build(dtype):
        return (lambda x, a: jnp.sum(jnp.sin(x * wrap(jnp.asarray(a, dtype))))), (
            c.normal(dtype, 3), 0.75)  # fmt: skip

    return build


def _mixed_precision(wrap):
    def build(dtype):
        def fun(half, full):
            hidden = jnp.tanh(wrap(half).astype(full.dtype) * full)
            return jnp.sum(hidden) + jnp.sum(half.astype("float32")).astype(full.dtype)

        return fun, (c.normal("bfloat16", 3), c.normal(dtype, 3, seed=1))

    return build


def _optimizer_state(wrap):
    def build(dtype):
        fun = lambda state: jnp.sum(wrap(state.mu["w"]) * state.nu["w"]) ** 2
        mu, nu = {"w": c.normal(dtype, 3)}, {"w": c.normal(dtype, 3, seed=1)}
        return fun, (optax.ScaleByAdamState(jnp.asarray(3), mu, nu),)

    return build


same = lambda x: x
# Builders, and the leaf that is wrong where something is wrapped around it.
PYTREES = {
    "module": (_module, "[0].weight"),
    "dataclass": (_layer, "[0].bias"),
    "dictionary with keys, masks and nothing": (_mixture, "[0]['w']"),
    "nested tuples": (_nested, "[0][1]['c'].second"),
    "python number": (_python_number, "[1]"),
    "mixed precision": (_mixed_precision, "[0]"),
    "optimizer state": (_optimizer_state, "[0].mu['w']"),
}


def _outputs(fun, size=4):
    return c.of_vector(fun, size)


OUTPUTS = {
    "dictionary of outputs": _outputs(lambda x: {"a": jnp.sin(x), "b": (x[0] ** 2, None)}),
    "outputs of far scales": _outputs(lambda x: (1e6 * jnp.sin(x), 1e-6 * jnp.cos(x))),
    "integer beside the output": _outputs(lambda x: (jnp.sum(x**2), jnp.argmax(x))),
    "boolean beside the output": _outputs(lambda x: (x**2, x > 0)),
    "outputs of two dtypes": _outputs(lambda x: (jnp.sin(x), jnp.cos(x).astype("float32"))),
    "constant output": _outputs(lambda x: (jnp.sin(x), jnp.ones(3, x.dtype))),
    "python number beside the output": _outputs(lambda x: (jnp.sum(x**3), 1.5)),
    "output that does not depend": _outputs(lambda x: jnp.zeros_like(x)),
    "argument returned": _outputs(lambda x: x),
    "empty output beside another": _outputs(lambda x: (x[:0], jnp.tanh(x))),
    "large output": _outputs(lambda x: jnp.sin(jnp.outer(x, jnp.arange(400, dtype=x.dtype))), 2),
}
OUTPUTS_WRONG = {
    "one of two outputs, doubled": _outputs(lambda x: {"a": jnp.sin(x), "b": double(x) ** 2}),
    "small output beside a large one, doubled": _outputs(
        lambda x: (1e6 * jnp.sin(x), 1e-3 * jnp.cos(double(x)))),
    "integer beside an output that is lost": _outputs(
        lambda x: (jnp.sum(lax.stop_gradient(x) ** 2), jnp.argmax(x))),
    "large output, one of 800 lost": _outputs(
        lambda x: (lambda y: y.at[0, 7].set(lax.stop_gradient(y[0, 7])))(
            jnp.sin(jnp.outer(x, jnp.arange(400, dtype=x.dtype)))), 2),
}  # fmt: skip
# There is nothing to differentiate, in or out.
NOTHING = {
    "integers only": lambda dtype: (lambda n: n * 2, (jnp.arange(3),)),
    "no float output": c.of_vector(jnp.argmax),
    "empty argument": lambda dtype: (jnp.sum, (jnp.zeros((0, 3), dtype),)),
    "no argument": lambda dtype: (lambda: jnp.ones(3, dtype), ()),
    "strings and nothing": lambda dtype: (lambda name, x: 1.0, ("name", None)),
    "empty output": c.of_vector(lambda x: x[:0]),
    "no output": c.of_vector(lambda x: None),
}
UNUSED = {
    "unused leaf": lambda dtype: (
        lambda x, y: jnp.sin(x),
        (c.normal(dtype, 3), c.normal(dtype, 2)),
    ),
    "leaf multiplied by zero": lambda dtype: (
        lambda x, y: jnp.sin(x) + 0 * jnp.sum(y),
        (c.normal(dtype, 3), c.normal(dtype, 2)),
    ),
    "no leaf used": c.of_vector(lambda x: 1.0),
    "leaf used as an index": c.of_vector(lambda x: jnp.arange(3.0)[(x[0] > 0).astype(int)] * x),
    "the same leaf twice": lambda dtype: (lambda x, y: x * y, (c.normal(dtype, 3),) * 2),
}
TRANSFORMED = {  # of a function of one array
    "jit": jax.jit,
    "vmap": jax.vmap,
    "checkpoint": jax.checkpoint,
    "jit of vmap of jit": lambda f: jax.jit(jax.vmap(jax.jit(f))),
    "map": lambda f: lambda x: lax.map(f, x),
    "scan": lambda f: lambda x: lax.scan(lambda s, y: (s + f(y), f(s)), x[0], x)[1],
    "checkpoint of scan": lambda f: lambda x: lax.scan(
        jax.checkpoint(lambda s, y: (f(s) + y, None)), x[0], x)[0],
    "loop": lambda f: lambda x: lax.fori_loop(0, 3, lambda _, s: f(s) + x, x),
    "branch": lambda f: lambda x: lax.cond(x[0] > -9, f, lambda x: x, x),
    "grad": lambda f: jax.vmap(jax.grad(lambda y: f(f(y)))),
    "linearize": lambda f: lambda x: jax.linearize(f, x)[1](x),
    "jacfwd": lambda f: lambda x: jax.jacfwd(lambda y: f(y) * jnp.sum(y))(x),
}  # fmt: skip


def _transformed(transform, f):
    return c.of_vector(transform(f), 3)


def _sine_of(wrap):
    return lambda y: jnp.sin(wrap(y))


# A rule that is wrong where it is differentiated once, inside of the transformation.
WRONG_INSIDE = ("jit", "vmap", "checkpoint", "jit of vmap of jit", "map", "scan", "loop", "branch")

CASES = [
    *[case for name, (builder, _) in PYTREES.items()
      for case in c.cases("structures", {name: builder(same)}, ("float32",), c.RIGHT)],
    *[case for name, (builder, path) in PYTREES.items()
      for case in c.cases("structures", {f"{name}, doubled": builder(double)}, ("float64",),
                          c.WRONG, (path,))],
    *c.taking_turns("outputs", OUTPUTS, ("float64", "float32"), c.RIGHT),
    *c.cases("outputs", OUTPUTS_WRONG, c.DOUBLE, c.WRONG),
    *c.cases("nothing", NOTHING, c.SINGLE, c.RIGHT),
    *c.taking_turns("structures", UNUSED, c.FULL, c.RIGHT),
    *[case for number, (name, transform) in enumerate(TRANSFORMED.items())
      for case in c.cases("transformed", {name: _transformed(transform, jnp.sin)},
                          [c.REAL[number % 4]], c.RIGHT)],
    *[case for number, name in enumerate(WRONG_INSIDE)
      for case in c.cases("transformed",
                          {f"{name}, doubled": _transformed(TRANSFORMED[name], _sine_of(double))},
                          [c.REAL[number % 4]], c.WRONG)],
]  # fmt: skip
