"""A jaxpr over arrays of objects gives what JAX gives, whatever the algebra."""

import fractions
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffcompare._jaxpr import objects, walk

Fraction = fractions.Fraction


class Rational(objects.Algebra):
    """Exact fractions: few rules, but no rounding."""

    name = "Rational"
    advice = "Use floating point."
    rules = {  # noqa: RUF012, a table
        "add": operator.add,
        "sub": operator.sub,
        "mul": operator.mul,
        "div": operator.truediv,
        "neg": operator.neg,
        "integer_pow": lambda a, y: a**y,
        "square": lambda a: a * a,
        "max": max,
        "min": min,
        "abs": abs,
        "ceil": math.ceil,
        "floor": math.floor,
        "round": lambda a, rounding_method: round(a),
        "sign": lambda a: (a > 0) - (a < 0),
        "stop_gradient": lambda a: a,
        "lt": operator.lt,
        "le": operator.le,
        "gt": operator.gt,
        "ge": operator.ge,
        "eq": operator.eq,
        "ne": operator.ne,
    }

    def number(self, value):
        return Fraction(value) if math.isfinite(value) else value


x = np.array([[0.5, -1.25, 2.0], [3.0, 0.25, -0.75]])
square = np.array([[1.0, 2.0, 0.5], [0.25, -1.0, 4.0], [2.0, 0.5, -0.125]])
places = jnp.array([2, 0])


def horner(values):
    step = lambda total, entry: (total * 2 + entry, total)
    return jax.lax.scan(step, jnp.zeros(()), values)


def halved_until_small(values):
    return jax.lax.while_loop(lambda v: v[0] > 0.25, lambda v: v / 2, values)


FUNCTIONS = {
    "arithmetic": lambda x: (x + 1) * x - x / 4,
    "integer powers": lambda x: x**3 - x**-2,
    "broadcasting": lambda x: x[:, None, :] * x[None, :, :],
    "dot product": lambda x: x[0] @ x[1],
    "matrix product": lambda x: x @ square,
    "batched product": lambda x: jnp.einsum("bi,bij->bj", x, jnp.stack([square, square.T])),
    "transposed product": lambda x: jnp.einsum("ai,bi->ba", x, x),
    "sum": lambda x: (jnp.sum(x), jnp.sum(x, 0), jnp.sum(x, (1,))),
    "mean": lambda x: jnp.mean(x[:, :2], 1),
    "product": lambda x: jnp.prod(x, 1),
    "extremes": lambda x: (jnp.max(x, 0), jnp.min(x)),
    "cumulative": lambda x: (jnp.cumsum(x, 1), jnp.cumprod(x, 0), jax.lax.cummax(x, 1)),
    "reverse cumulative": lambda x: jax.lax.cumsum(x, 1, reverse=True),
    "reshape and transpose": lambda x: x.reshape(3, 2).T,
    "squeeze": lambda x: jnp.squeeze(x[:1], 0),
    "slice with a stride": lambda x: x[:, ::2],
    "reverse": lambda x: x[::-1],
    "concatenate": lambda x: jnp.concatenate([x, 2 * x], 1),
    "split": lambda x: jnp.split(x, 3, axis=1),
    "pad": lambda x: jnp.pad(x, ((1, 0), (0, 2)), constant_values=5),
    "gather": lambda x: x[:, places],
    "gather beyond the end": lambda x: x.at[:, places + 1].get(mode="fill", fill_value=7),
    "take along an axis": lambda x: jnp.take_along_axis(x, places[:, None], 1),
    "scatter": lambda x: x.at[0, places].set(x[1, :2]),
    "dynamic slice": lambda x: jax.lax.dynamic_slice(x, (0, 1), (2, 2)),
    "dynamic update": lambda x: jax.lax.dynamic_update_slice(x, 3 * x[:1, :1], (1, 1)),
    "tile": lambda x: jnp.tile(x, (2, 1)),
    "roll": lambda x: jnp.roll(x, 1, 1),
    "where": lambda x: jnp.where(x > 0, x, 2 * x),
    "clip": lambda x: jnp.clip(x, -1, 1),
    "trace": lambda x: jnp.trace(x),
    "identity matrix": lambda x: x @ jnp.eye(3),
    "integer of a condition": lambda x: jax.lax.select_n((x > 0).astype(int), x, 2 * x),
    "integers beside": lambda x: x * jnp.arange(3).astype(x.dtype)[None, :],
    "comparison as number": lambda x: (x > 0).astype(x.dtype),
    "rounding to an integer": lambda x: jnp.sum(x.astype(int)),
    "scan": lambda x: horner(x[0]),
    "empty scan": lambda x: jax.lax.scan(lambda c, _: (c, c), x[0, 0], jnp.zeros((0,))),
    "while": lambda x: halved_until_small(x[1]),
    "cond": lambda x: jax.lax.cond(x[0, 0] > 0, lambda v: 2 * v, lambda v: -v, x),
    "switch": lambda x: jax.lax.switch(2, [jnp.negative, jnp.square, lambda v: v + 1], x),
    "fori": lambda x: jax.lax.fori_loop(0, 3, lambda i, v: v + i.astype(v.dtype), x),
    "jit": lambda x: jax.jit(lambda v: v + 1)(x),
    "empty": lambda x: jnp.sum(x[:0], 0),
    "constant": lambda x: jnp.ones(2),
    "cumulative extremes of ties": lambda x: jax.lax.cummin(jnp.round(x), 1),
    "sort": lambda x: (jnp.sort(x, 0), jnp.sort(x, 1, descending=True)),
    "sort of pairs": lambda x: jax.lax.sort((jnp.floor(x), x, 2 * x), num_keys=2),
    "sort by a key": lambda x: jax.lax.sort((jnp.array([2, 0, 2]), x[0]), num_keys=1),
    "order of ties": lambda x: (jnp.argsort(jnp.abs(jnp.floor(x)), 1), jnp.argsort(x, axis=None)),
    "places of extremes": lambda x: (jnp.argmax(x, 1), jnp.argmin(x), jnp.argmax(0 * x, 0)),
    "gather by data": lambda x: x[0, jnp.argmax(x[1])] * x[:, jnp.argsort(x[0])],
    "largest few": lambda x: jax.lax.top_k(jnp.abs(jnp.floor(x)), 2),
    "slice by data": lambda x: jax.lax.dynamic_slice(x, (jnp.argmin(x[:, 0]), 1), (1, 2)),
    "scatter-add": lambda x: x.at[:, places].add(x[:, 1:]).at[1, (places - 1)[:, None]].add(2.0),
    "scatter-add beyond the edge": lambda x: x.at[:, places + 1].add(1.0, mode="drop"),
    "scatter-mul": lambda x: x.at[0, jnp.array([1, 1])].multiply(x[1, :2]),
    "scatter-extremes": lambda x: x.at[0, places].max(x[1, 1:]).at[1, 0].min(-x[0, 0]),
    "scatter-sub": lambda x: x.at[0, jnp.array([1, 1])].subtract(x[1, :2]),
    "convolution": lambda x: jax.lax.conv_general_dilated(
        x[None, None], square[None, None, :2], (1, 2), "SAME"
    ),
    "pooling": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 2), (1, 1), "SAME"),
    "average pooling": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (2, 1), (1, 1), "SAME"),
    "lu": lambda x: jax.lax.linalg.lu(x @ x.T),
    "solve": lambda x: jnp.linalg.solve(square, x.T),
    "determinant": lambda x: jnp.linalg.det(x @ x.T + square[:2, :2]),
    "triangular solve": lambda x: jax.lax.linalg.triangular_solve(square, x),
}


def interpreted(fun, *args):
    interpreter = objects.ObjectInterpreter(Rational())
    inputs = [interpreter.lifted(arg) for arg in args]
    return walk.walk(jax.make_jaxpr(fun)(*args), interpreter, inputs)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_exact_fractions_agree_with_jax(name):
    fun = FUNCTIONS[name]
    truth = jax.tree.leaves(fun(jnp.asarray(x)))
    found = interpreted(fun, x)
    assert len(found) == len(truth)
    for ours, theirs in zip(found, truth, strict=True):
        assert np.shape(ours) == theirs.shape
        if jnp.issubdtype(theirs.dtype, jnp.floating):
            assert objects.is_object(ours)
            # The entries are short binary fractions; only a division by a number that is no power
            # of 2 rounds, of which elimination has a few.
            np.testing.assert_allclose(
                np.asarray(ours, float), np.asarray(theirs), rtol=2e-15, atol=0
            )
        else:
            assert np.asarray(ours).tolist() == theirs.tolist()


def test_nothing_is_rounded():
    (found,) = interpreted(lambda x: (x + 1e30) - 1e30, np.array([0.1]))
    assert found[0] == Fraction(0.1)


def test_integers_and_conditions_stay_concrete():
    (found,) = interpreted(lambda x: x > 0, x)
    assert found.dtype == bool


def test_movement_works_while_jax_traces():
    @jax.jit
    def fun(y):
        (found,) = interpreted(FUNCTIONS["gather"], x)
        return y * float(found[0, 0])

    assert fun(2.0) == 4.0


@pytest.mark.parametrize(
    ("fun", "message"),
    [
        (jnp.sin, "Rational has no rule for the primitive 'sin'.*Use floating point.*It knows"),
        (lambda x: jnp.linalg.cholesky(x[:, :2]), "writes 'cholesky' in.*'sqrt', met at .*objects"),
        (lambda x: jax.lax.nextafter(x, 2 * x), "'nextafter'"),
    ],
)
def test_an_unknown_primitive_is_named(fun, message):
    with pytest.raises(walk.UnknownPrimitiveError, match=message):
        interpreted(fun, x)


def test_what_does_not_depend_on_the_argument_needs_no_rule():
    (found,) = interpreted(lambda x: x + jnp.asarray(np.sin(1.0)), np.zeros(1))
    assert found[0] == Fraction(math.sin(1.0))
