"""The walk visits equations in order, goes into calls, and knows nothing of the values."""

import jax
import jax.numpy as jnp
import pytest

from diffcompare._jaxpr import walk


class Names(walk.Interpreter[str]):
    """Values are the names of what was applied."""

    def __init__(self):
        self.seen = []

    def constant(self, value):
        return f"{float(value):g}" if jnp.ndim(value) == 0 else "array"

    def equation(self, eqn, inputs):
        self.seen.append(eqn.primitive.name)
        return [f"{eqn.primitive.name}({','.join(inputs)})"] * len(eqn.outvars)


class Numbers(walk.Interpreter):
    """Values are arrays: equations are bound as they stand."""

    def __init__(self):
        self.live = 0

    def constant(self, value):
        return jnp.asarray(value)

    def equation(self, eqn, inputs):
        outputs = eqn.primitive.bind(*inputs, **eqn.params)
        return outputs if eqn.primitive.multiple_results else [outputs]


def named(fun, *args):
    return walk.walk(jax.make_jaxpr(fun)(*args), Names(), ["x", "y"][: len(args)])


@jax.custom_jvp
def tripled(x):
    return 3 * x


tripled.defjvp(lambda primals, tangents: (3 * primals[0], 3 * tangents[0]))


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, weight: (2 * weight,))


@pytest.mark.parametrize(
    "fun",
    [
        jax.jit(jnp.sin),
        jax.checkpoint(jnp.sin),
        lambda x: jax.jit(jax.checkpoint(jax.jit(jnp.sin)))(x),
    ],
)
def test_a_call_is_replaced_by_its_body(fun):
    assert named(fun, 1.0) == ["sin(x)"]


def test_a_function_with_a_custom_rule_is_replaced_by_its_body():
    assert named(lambda x: doubled(tripled(x)), 1.0) == ["mul(2,mul(3,x))"]


def test_what_a_called_function_closes_over_is_a_constant():
    table = jnp.arange(3.0)
    inner = jax.make_jaxpr(jax.jit(lambda x: x * table))(1.0)
    (found,) = walk.walk(inner, Numbers(), [jnp.asarray(2.0)])
    assert found.tolist() == [0.0, 2.0, 4.0]


def test_the_values_of_constants_can_be_given():
    table = jnp.arange(3.0)
    jaxpr = jax.make_jaxpr(lambda x: x * table)(table)
    assert walk.walk(jaxpr, Names(), ["x"], ["table"]) == ["mul(x,table)"]


def test_an_interpreter_may_take_a_call_as_a_whole():
    class WithRelu(Names):
        def call(self, eqn, body, inputs):
            return ["relu"] if walk.call_name(body) == "relu" else None

    jaxpr = jax.make_jaxpr(lambda x: jax.jit(jnp.sin)(jax.nn.relu(x)))(1.0)
    assert walk.walk(jaxpr, WithRelu(), ["x"]) == ["sin(relu)"]


def test_equations_that_no_output_needs_are_skipped():
    def fun(x):
        jnp.exp(x)
        return jnp.sin(x)

    interpreter = Names()
    walk.walk(jax.make_jaxpr(fun)(1.0), interpreter, ["x"])
    assert interpreter.seen == ["sin"]


def test_a_value_is_dropped_after_its_last_use():
    class Counted:
        alive = 0

        def __init__(self):
            Counted.alive += 1

        def __del__(self):
            Counted.alive -= 1

    most = []

    class Counter(walk.Interpreter):
        def constant(self, value):
            return None

        def equation(self, eqn, inputs):
            most.append(Counted.alive)
            return [Counted() for _ in eqn.outvars]

    def chain(x):
        for _ in range(20):
            x = jnp.sin(x)
        return x

    walk.walk(jax.make_jaxpr(chain)(1.0), Counter(), [Counted()])
    assert max(most) <= 2


def test_outputs_may_be_inputs_and_literals():
    assert named(lambda x, y: (y, 2.0, x), 1.0, 1.0) == ["y", "2", "x"]


@pytest.mark.parametrize("reverse", [False, True])
def test_an_unrolled_scan_is_the_scan(reverse):
    scale = jnp.asarray(0.5)

    def fun(start, rows):
        def step(carry, row):
            return carry * scale + row, (carry, carry * row)

        return jax.lax.scan(step, start, rows, reverse=reverse)

    class Unrolled(Numbers):
        def equation(self, eqn, inputs):
            if eqn.primitive.name != "scan":
                return super().equation(eqn, inputs)
            run = lambda body, values: walk.walk(body, self, values)
            stack = lambda column, variable: jnp.stack(column)
            return walk.unrolled_scan(eqn, inputs, run, lambda rows, i: rows[i], stack)

    args = jnp.asarray(1.0), jnp.arange(1.0, 5.0)
    found = walk.walk(jax.make_jaxpr(fun)(*args), Unrolled(), args)
    truth = jax.tree.leaves(fun(*args))
    assert [f.tolist() for f in found] == [t.tolist() for t in truth]


def test_the_parts_of_branches_and_loops_are_found():
    cond = jax.make_jaxpr(lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x))(1.0).eqns[-1]
    assert [walk.primitives(branch) for branch in walk.branches(cond)] == [("cos",), ("sin",)]
    bound = jnp.asarray(3.0)
    loop = lambda x: jax.lax.while_loop(lambda x: x < bound, lambda x: x * x + bound, x)
    parts = walk.while_parts(jax.make_jaxpr(loop)(1.0).eqns[-1])
    assert (parts.condition_constants, parts.body_constants) == (1, 1)
    assert walk.primitives(parts.body) == ("mul", "add")


def test_the_error_for_an_unknown_primitive_names_it_and_the_line_of_the_user():
    eqn = jax.make_jaxpr(lambda x: jnp.sin(x))(1.0).eqns[0]
    error = walk.unknown_primitive(eqn, "The reader", ["exp", "cos"], "Use another.")
    assert isinstance(error, NotImplementedError)
    message = str(error)
    assert "The reader has no rule for the primitive 'sin'" in message
    assert "test_jaxpr_walk.py" in message
    assert message.endswith("Use another. It knows: cos, exp.")
