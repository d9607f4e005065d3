"""A walk gives the function's values to many digits, and what a variation does to them."""

import functools

import corpus
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from diffcompare._jaxpr import realify
from diffcompare._jaxpr.walk import UnknownPrimitiveError
from diffcompare.checking import walks
from diffcompare.checking.budget import Budget, OverBudget
from diffcompare.checking.walks import Variation, trail, walked
from diffcompare.exact.multiprecision import MpmathArithmetic, arithmetic

NUMBERS = arithmetic(640)


def program(fun, *args):
    return realify.realified(jax.make_jaxpr(fun)(*args))


def values(fun, *args, variation=walks.EXACT, numbers=NUMBERS, budget=10.0):
    inputs = [numbers.lifted(np.asarray(arg).astype(np.float64)) for arg in args]
    return walked(program(fun, *args), inputs, numbers, Budget(budget), variation)


def value(fun, *args, **options):
    return values(fun, *args, **options)[0][()]


# What rounding of the functions themselves does, of ten to a hundred operations each; a solver
# that stops at 1e-13 is exact to a few times that.
TOLERANCE = {"float16": 1e-2, "bfloat16": 8e-2, "float32": 1e-5, "mixed precision": 1e-2}


@pytest.mark.parametrize("name", corpus.CORPUS)
def test_functions_that_users_write_have_their_values(name):
    fun, x = corpus.CORPUS[name]
    leaves, treedef = jax.tree.flatten(x)
    found = value(lambda *leaves: fun(jax.tree.unflatten(treedef, leaves)), *leaves)
    np.testing.assert_allclose(float(found), float(fun(x)), rtol=TOLERANCE.get(name, 1e-10))


@pytest.mark.parametrize("name", ["mlp", "convolution and pooling", "lstm", "eigenvalues", "beta"])
def test_both_arithmetics_give_the_same_digits(name):
    fun, x = corpus.CORPUS[name]
    leaves, treedef = jax.tree.flatten(x)
    fun = lambda *leaves, fun=fun: fun(jax.tree.unflatten(treedef, leaves))
    here, there = (str(float(value(fun, *leaves, numbers=n) * 2**200))
                   for n in (NUMBERS, MpmathArithmetic(640)))  # fmt: skip
    assert here == there


x = np.array([0.5, np.nan, -1.5, 0.5, -0.0, 2.0, np.inf])
table = np.arange(12.0).reshape(3, 4)
window = {"window_dimensions": (2, 2), "window_strides": (1, 2), "padding": ((1, 0), (0, 1))}

# Structure, at the edges: what falls outside, NaN among numbers, ties.
STRUCTURE = {
    "sort": (jnp.sort, x),
    "argsort": (lambda x: x[jnp.argsort(x)], x),
    "top_k": (lambda x: lax.top_k(x, 3)[0], x),
    "largest of NaN": (jnp.max, x),
    "argmin": (lambda x: x[jnp.argmin(x)], x),
    "gather, filled": (lambda x: x.at[jnp.array([1, 9, -9])].get(mode="fill"), table[0]),
    "gather, clipped": (lambda x: x.at[jnp.array([1, 9, -9])].get(mode="clip"), table[0]),
    "gather, rows": (lambda x: x[jnp.array([[2, 0], [1, 1]])], table),
    "gather, pairs": (lambda x: x[jnp.array([2, 0]), jnp.array([1, 3])], table),
    "gather, batched": (jax.vmap(lambda row, i: row[i]), table, np.array([3, 0, 1])),
    "scatter, dropped": (lambda x: x.at[jnp.array([1, 9])].set(-1.0), table[0]),
    "scatter, rows": (lambda x: x.at[jnp.array([2, 0])].set(x[:2] * 2), table),
    "scatter-add, twice": (lambda x: x.at[jnp.array([1, 1, 9])].add(2.5), table[0]),
    "scatter-mul": (lambda x: x.at[:, 1].multiply(3.0), table),
    "scatter-max": (lambda x: x.at[jnp.array([0, 0])].max(jnp.array([5.0, 2.0])), table[0]),
    "scatter, batched": (jax.vmap(lambda row, i: row.at[i].set(-7.0)), table, np.array([3, 0, 1])),
    "dynamic slice": (lambda x, i: lax.dynamic_slice(x, (i, i), (2, 2)), table, np.array(7)),
    "dynamic update": (lambda x, i: lax.dynamic_update_slice(x, x[:2, :2] * 9, (i, i)), table,
                       np.array(2)),
    "pad": (lambda x: lax.pad(x, -1.0, ((1, 2, 1), (-1, 0, 2))), table),
    "pad, cut": (lambda x: lax.pad(x, -1.0, ((-2, 3, 2), (2, -3, 1))), table),
    "pad, cut away": (lambda x: lax.pad(x, -1.0, ((-3, 3, 0), (0, -4, 0))), table),
    "reverse and stride": (lambda x: lax.rev(x, (0,))[::2, 1:4:2], table),
    "reshape and transpose": (lambda x: x.reshape(2, 3, 2).transpose(2, 0, 1), table),
    "split and stack": (lambda x: jnp.stack(jnp.split(x, [1, 2], axis=1)[:2]), table),
    "tile and repeat": (lambda x: jnp.tile(jnp.repeat(x, 2, axis=0), (1, 2)), table),
    "window sum": (lambda x: lax.reduce_window(x, 0.0, lax.add, **window), table),
    "window largest": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, **window), table),
    "cumulative": (lambda x: lax.cumsum(x, 1, reverse=True) + lax.cumprod(x, 0), table),
    "running largest": (lambda x: lax.cummax(x, 0), x[:6]),
    "cumulative logarithm": (lambda x: lax.cumlogsumexp(x, 1), table),
    "einsum": (lambda x: jnp.einsum("ij,kj->ik", x, x[::-1]), table),
    "batched product": (lambda x: jnp.einsum("bij,bjk->bki", x[None], x.T[None]), table),
    "empty product": (lambda x: x[:, :0] @ x[:0], table),
    "select among three": (lambda x: lax.select_n(jnp.array([0, 2, 1]), x[0], x[1], x[2]),
                           table[:, :3]),
    "convolution": (lambda x: lax.conv(x[None, None], jnp.ones((1, 1, 2, 2)), (1, 1), "SAME"),
                    table),
    "cholesky": (lambda x: jnp.linalg.cholesky(x @ x.T + jnp.eye(3)), table),
    "lu and solve": (lambda x: jnp.linalg.solve(x[:, :3] + 2 * jnp.eye(3), x[:, 3]), table),
    "qr": (jnp.linalg.qr, table[:, :2] + np.eye(3, 2)),
    "triangular solve": (lambda x: lax.linalg.triangular_solve(
        x[:, :3] + jnp.eye(3), x, left_side=True, lower=False, transpose_a=True), table),
    "eigh": (lambda x: jnp.linalg.eigh(x @ x.T + jnp.diag(jnp.arange(3.0)))[0], table),
    "svd": (lambda x: jnp.linalg.svd(x[:, :3] + jnp.eye(3))[1], table),
    "tridiagonal": (lambda x: lax.linalg.tridiagonal_solve(x[0], x[1], x[0], x[:, :].T), table + 1),
    "fft": (lambda x: jnp.abs(jnp.fft.rfft(x, axis=0)), table),
    "root": (lambda x: lax.custom_root(
        lambda y: y**3 - x, x, lambda f, y: lax.fori_loop(0, 30, lambda _, y: y - f(y) / (3 * y**2),
                                                          y), lambda g, y: y / g(1.0)),
             np.array(5.0)),
    "while": (lambda x: lax.while_loop(lambda s: s < 100, lambda s: s * x, x), np.array(1.7)),
    "scan": (lambda x: lax.scan(lambda c, row: (c * row[0] + row[1], c), 1.0, x), table),
    "cond": (lambda x: lax.cond(x > 1, jnp.sin, jnp.cos, x), np.array(1.7)),
    "lowered precision": (lambda x: lax.reduce_precision(x, 8, 7), table),
    "random numbers": (lambda x: x * jax.random.normal(jax.random.key(1), (3,)), np.array(2.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", STRUCTURE)
def test_structure_is_that_of_jax(name):
    fun, *args = STRUCTURE[name]
    arrays = [jnp.asarray(arg) for arg in args]
    if len(arrays) == 1:
        closed = fun
    else:  # the index is known
        closed, arrays = (lambda first, rest=arrays[1:]: fun(first, *rest)), arrays[:1]
    truth = jax.tree.leaves(closed(*arrays))
    found = values(closed, *arrays)
    assert len(found) == len(truth)
    for ours, theirs in zip(found, truth, strict=True):
        assert np.shape(ours) == theirs.shape
        # A few roundings in float64; an iteration and eigenvalues have some more.
        np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs), rtol=1e-12)


def test_what_has_no_rule_is_named():
    with pytest.raises(UnknownPrimitiveError, match=r"the exact walk has no rule.*'nextafter'"):
        values(lambda x: lax.nextafter(x, 2.0), np.array(1.0))


# Custom rules.


@jax.custom_jvp
def wrong(x):
    return jnp.sin(x)


@wrong.defjvp
def _(primals, tangents):
    return wrong(*primals), 7 * tangents[0]


@jax.custom_vjp
def iterated(x):
    return lax.fori_loop(0, 4, lambda _, y: (y + x / y) / 2, x)


iterated.defvjp(lambda x: (iterated(x), x), lambda x, w: (w / (2 * jnp.sqrt(x)),))


@jax.custom_vjp
def until(x):
    step = lambda s: ((s[0] + x / s[0]) / 2, s[0])
    return lax.while_loop(lambda s: jnp.abs(s[0] - s[1]) > 1e-3, step, (x, 0.0 * x))[0]


until.defvjp(lambda x: (until(x), x), lambda x, w: (w / (2 * jnp.sqrt(x)),))


def heron(x, passes):
    y = x
    for _ in range(passes):
        y = (y + x / y) / 2
    return y


def test_a_custom_rule_is_not_asked_when_its_derivative_is_walked():
    jaxpr = program(lambda x: jax.jvp(wrong, (x,), (1.0,))[1], 0.5)
    (found,) = walked(jaxpr, [NUMBERS.lifted(0.5)], NUMBERS, Budget(1.0))
    assert float(found[()]) == 7.0  # it is what the program claims
    assert float(value(wrong, 0.5)) == np.sin(0.5)


@pytest.mark.parametrize("passes", [-1, 0, 1, 2])
def test_iterations_under_rules_run_more_passes_or_fewer(passes):
    variation = Variation("passes", passes=passes)
    found = value(iterated, 3.0, variation=variation)
    np.testing.assert_allclose(float(found), heron(3.0, 4 + passes), rtol=1e-15)
    # It stops after the fifth pass, which changes it by less than 1e-3 for the first time.
    count = next(n for n in range(1, 9) if abs(heron(3.0, n) - heron(3.0, n - 1)) <= 1e-3)
    found = value(until, 3.0, variation=variation)
    np.testing.assert_allclose(float(found), heron(3.0, count + passes), rtol=1e-15)
    outside = lambda x: lax.fori_loop(0, 4, lambda _, y: (y + x / y) / 2, x)
    np.testing.assert_allclose(
        float(value(outside, 3.0, variation=variation)), heron(3.0, 4), rtol=1e-15
    )


def followed(fun, *args, **options):
    inputs = [NUMBERS.lifted(np.asarray(arg, float)) for arg in args]
    return trail(program(fun, *args), inputs, NUMBERS, Budget(10.0), **options)


def test_loops_under_rules_are_noticed():
    assert followed(iterated, 3.0).has_loops_under_rules
    assert followed(until, 3.0).has_loops_under_rules
    assert not followed(heron_loop, 3.0).has_loops_under_rules
    assert not followed(wrong, 3.0).has_loops_under_rules


def heron_loop(x):
    return lax.fori_loop(0, 4, lambda _, y: (y + x / y) / 2, x)


# Rounding, and constants.


def relative_changes(fun, x, kind, seeds=6):
    exact = value(fun, x)
    with NUMBERS.active():
        return [
            float((value(fun, x, variation=Variation(kind, seed)) - exact) / exact)
            for seed in range(seeds)
        ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_every_operation_is_rounded_in_its_own_dtype(dtype):
    x, eps = jnp.asarray(1.25, dtype), float(jnp.finfo(dtype).eps)
    changes = relative_changes(lambda x: x * x, x, "rounding")
    assert set(np.abs(changes)) == {eps}
    assert len(set(changes)) == 2  # of both signs
    assert max(np.abs(relative_changes(lambda x: x * x * x * x, x, "rounding"))) > 1.5 * eps


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: jnp.maximum(-x, jnp.abs(x))[::-1].reshape(1, 2),
        lambda x: jnp.sort(jnp.where(x > 1, x, 1.0)),
        lambda x: x.astype(jnp.float64),
        lambda x: jnp.floor(x),
        lambda x: x[jnp.array([1, 0])],
    ],
)
def test_what_floating_point_does_exactly_is_not_rounded(fun):
    x = jnp.asarray([1.25, 3.5], jnp.float32)
    (exact,), (varied,) = values(fun, x), values(fun, x, variation=Variation("rounding", 1))
    assert exact.tolist() == varied.tolist()


def test_a_conversion_to_fewer_digits_is_rounded():
    x = jnp.asarray(1.25, jnp.float32)
    changes = relative_changes(lambda x: x.astype(jnp.bfloat16), x, "rounding")
    assert set(np.abs(changes)) == {float(jnp.finfo(jnp.bfloat16).eps)}
    changes = relative_changes(lambda x: lax.reduce_precision(x, 8, 10), x, "rounding")
    assert set(np.abs(changes)) == {2.0**-10}


def test_sums_are_rounded_on_their_way():
    x, eps = jnp.asarray([1.0, -1.0, 2.0**-10], jnp.float32), float(jnp.finfo(jnp.float32).eps)
    # The sum is 2**-10; what is rounded are terms of size 1.
    changes = relative_changes(jnp.sum, x, "rounding", seeds=16)
    assert max(np.abs(changes)) > eps * 2**10
    assert max(np.abs(changes)) < 3 * eps * 2**10


def test_the_same_seed_rounds_the_same_way_and_another_otherwise():
    x = np.linspace(0.5, 2.0, 20)
    fun = lambda x: jnp.sum(jnp.sin(x) ** 2)
    once, again, other = (
        value(fun, x, variation=Variation("rounding", seed)) for seed in (1, 1, 2)
    )
    assert once == again != other


def test_only_constants_that_fill_their_mantissa_are_moved():
    for constant in (0.5, 3.0, 1e3, -0.75):
        assert relative_changes(lambda x, c=constant: x * c, 1.0, "constants", 3) == [0, 0, 0]
    changes = relative_changes(lambda x: x * 0.1, 1.0, "constants")
    assert set(np.abs(changes)) == {2.0**-52}
    x = jnp.asarray(1.0, jnp.float32)
    changes = relative_changes(lambda x: x * 0.1, x, "constants")
    assert set(np.abs(changes)) == {2.0**-23}


def test_a_constant_is_the_same_wherever_it_stands():
    changes = relative_changes(lambda x: 1 + (0.1 * x - 0.1 * x), 1.0, "constants")
    assert set(changes) == {0.0}


# Continuing from an earlier walk.


class Counting(Budget):
    """Counts the equations that are evaluated."""

    def __init__(self):
        super().__init__(1e6)
        self.names = []

    def charge(self, eqn):
        self.names.append(eqn.primitive.name)


@pytest.mark.parametrize("wrap", [lambda fun: fun, jax.jit, jax.checkpoint])
def test_only_what_depends_on_the_input_that_moved_is_walked_again(wrap):
    fun = wrap(lambda x, y: jnp.sum(jnp.sin(x) * jnp.exp(y)) + jnp.cos(y)[0])
    args = (np.arange(3.0), np.ones(3))
    inputs, jaxpr = [NUMBERS.lifted(arg) for arg in args], program(fun, *args)
    base = trail(jaxpr, inputs, NUMBERS, Budget(1.0))
    counting = Counting()
    moved = [NUMBERS.lifted(args[0] + 0.25), inputs[1]]
    found = trail(jaxpr, moved, NUMBERS, counting, base=base)
    assert counting.names == ["sin", "mul", "reduce_sum", "add"]
    (whole,) = walked(jaxpr, moved, NUMBERS, Budget(1.0))
    assert found.outcome[0][()] == whole[()]
    counting = Counting()
    same = trail(jaxpr, inputs, NUMBERS, counting, base=base)
    assert counting.names == []
    assert same.outcome[0][()] == base.outcome[0][()]


def test_what_a_moved_comparison_does_not_change_stays():
    fun = lambda x, y: jnp.sum(jnp.where(x > 0, jnp.sin(y), jnp.exp(y)))
    args = (np.ones(3), np.ones(3))
    inputs, jaxpr = [NUMBERS.lifted(arg) for arg in args], program(fun, *args)
    base = trail(jaxpr, inputs, NUMBERS, Budget(1.0))
    counting = Counting()
    trail(jaxpr, [NUMBERS.lifted(2 * args[0]), inputs[1]], NUMBERS, counting, base=base)
    assert counting.names == ["gt"]


@pytest.mark.parametrize("kind", ["rounding", "constants"])
def test_a_varied_walk_continues_as_it_began(kind):
    fun = lambda x, y: jnp.sum(0.1 * jnp.sin(x) * jnp.exp(y) / 3.3 + jnp.tanh(y * 0.7))
    args, variation = (np.arange(3.0), np.ones(3)), Variation(kind, 5)
    inputs, jaxpr = [NUMBERS.lifted(arg) for arg in args], program(fun, *args)
    base = trail(jaxpr, inputs, NUMBERS, Budget(1.0), variation)
    moved = [NUMBERS.lifted(args[0] + 0.25), inputs[1]]
    found = trail(jaxpr, moved, NUMBERS, Budget(1.0), variation, base)
    (whole,) = walked(jaxpr, moved, NUMBERS, Budget(1.0), variation)
    assert found.outcome[0][()] == whole[()]


def test_stopped_gradients_stay_as_they_were_where_rounding_is_varied():
    fun = lambda x: x * lax.stop_gradient(x)
    jaxpr, inputs, moved = program(fun, 3.0), [NUMBERS.lifted(3.0)], [NUMBERS.lifted(4.0)]
    exact = trail(jaxpr, inputs, NUMBERS, Budget(1.0))
    assert float(trail(jaxpr, moved, NUMBERS, Budget(1.0), base=exact).outcome[0][()]) == 16.0
    rounding = Variation("rounding", 1)
    base = trail(jaxpr, inputs, NUMBERS, Budget(1.0), rounding)
    found = trail(jaxpr, moved, NUMBERS, Budget(1.0), rounding, base).outcome[0][()]
    np.testing.assert_allclose(float(found), 12.0, rtol=1e-15)


# What it costs.


def test_a_loop_without_end_stops_by_the_budget():
    endless = lambda x: lax.while_loop(lambda s: s[0] < 10**6, lambda s: (s[0] + 1, s[1] * x),
                                       (0, x))  # fmt: skip
    budget = Budget(0.05)
    with pytest.raises(OverBudget, match=r"more than 0\.05 seconds"):
        walked(program(endless, 1.0), [NUMBERS.lifted(1.0)], NUMBERS, budget)
    assert budget.left < 0.001


def test_a_large_product_is_refused_before_it_is_computed():
    x = np.ones((2000, 2000))
    jaxpr = program(lambda x: x @ x, x)
    with pytest.raises(OverBudget):  # 8e9 products
        walked(jaxpr, [np.broadcast_to(NUMBERS.lifted(1.0), x.shape)], NUMBERS, Budget(10.0))


def test_the_cost_is_counted_and_not_measured():
    spent = []
    for numbers in (NUMBERS, NUMBERS, MpmathArithmetic(640)):
        budget = Budget(10.0)
        walked(program(jnp.sin, 1.0), [numbers.lifted(1.0)], numbers, budget)
        spent.append(budget.spent)
    assert spent[0] == spent[1] == spent[2] > 0


@functools.cache
def perceptron():
    random = np.random.default_rng(0)
    params = [random.normal(size=s).astype(np.float32) / 30 for s in ((300, 100), (100, 10))]
    data = random.normal(size=(4, 300)).astype(np.float32)
    return lambda *w: jnp.mean(jax.nn.logsumexp(jax.nn.relu(data @ w[0]) @ w[1], axis=1)), params


def test_a_model_costs_what_its_products_cost():
    fun, params = perceptron()
    budget = Budget(10.0)
    inputs = [NUMBERS.lifted(p) for p in params]
    (found,) = walked(program(fun, *params), inputs, NUMBERS, budget)
    np.testing.assert_allclose(float(found[()]), float(fun(*params)), rtol=1e-5)
    # 124,000 multiplications of a third of a microsecond.
    assert 0.03 < budget.spent < 0.1
