"""Reading a traced function as an expression in matrix symbols.

What does not fit, a third axis or an unknown primitive, stops nothing yet: it becomes an
operation "refused", and the error is raised where the value turns out to need it.
"""

import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Var

from diffcompare._jaxpr import movement, walk
from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.matrix import calls, constants, values
from diffcompare.symbolic.matrix import functions as library
from diffcompare.symbolic.matrix.algebra import Algebra
from diffcompare.symbolic.matrix.values import Unfit, Value

READER = "derive(route='matrix')"
ADVICE = (
    "Use route='program', which takes any shape and has rules for more primitives, or "
    "method=ReverseMode()."
)


LONGEST_LOOP = 128  # steps of a loop that are written out

# A matrix symbol has no entries.
_BY_INDEX = frozenset({"dynamic_slice", "dynamic_update_slice", "gather", "scatter", "scatter-add",
                       "slice"})  # fmt: skip
_BY_INDEX_REASON = (
    "single entries are taken by their index; a product with jax.nn.one_hot, or arguments of "
    "their own, say the same in matrices"
)


class Reader(walk.Interpreter[Value]):
    """What equations mean, on matrix symbols.

    Attributes:
        graph: What the nodes are made in.
        functions: Those that work entry by entry, by name, known and met.
        definitions: Of those that were met: the argument, the value and the slope.
        arrays: Arrays that the program holds as constants.
        refused: The errors of operations that do not fit.
    """

    def __init__(
        self,
        graph: Algebra,
        functions: dict[str, library.Function],
        convention: Convention,
        jaxpr: ClosedJaxpr,
    ):
        self.graph, self.functions = graph, functions
        self.share = Fraction(convention.maximum)  # of each of two arrays where they tie
        self.definitions: dict[str, calls.Definition] = {}
        self.arrays: list[Any] = []
        self.refused: list[walk.UnknownPrimitiveError] = []
        self.recognises = True  # whether to look for functions in what they compute
        self.used_once = _used_once(jaxpr)

    def constant(self, value):
        shape = jnp.shape(value)
        if not shape and isinstance(value, np.ndarray | np.generic):
            number = value.item()
            node = self.graph.constant(number if isinstance(number, bool) else float(number))
            return Value(node, (), ())
        self.arrays.append(value)
        node = self.graph.make("array", param=len(self.arrays) - 1, shape=shape, dtype=value.dtype)
        return values.symbol(node)

    def call(self, eqn, body, inputs):
        if not any(value.node.op == "refused" for value in inputs):
            outputs = calls.taken_whole(self, eqn, body, inputs)
            if outputs is not None:
                return outputs
        before = len(self.refused)
        outputs = walk.walk(body, self, inputs)
        for error in self.refused[before:]:
            # The body of a function that is compiled once does not know who calls it.
            error.place = error.place or self._refusal(eqn, "").place
        return outputs

    def equation(self, eqn, inputs):
        name = eqn.primitive.name
        folded = constants.folded(eqn, inputs, self.arrays)
        if folded is not None:
            return [self.constant(array) for array in folded]
        if name == "scan" and (outputs := self._unrolled(eqn, inputs)) is not None:
            return outputs
        if name in _BY_INDEX:
            return self._refuse(eqn, self._refusal(eqn, _BY_INDEX_REASON))
        poisoned = next((value for value in inputs if value.node.op == "refused"), None)
        if poisoned is not None:
            return self._refuse(eqn, self.refused[poisoned.node.param])
        try:
            rule = _RULES.get(name)
            if rule is None and name in movement.IDENTITIES:
                return inputs
            if rule is None:
                raise Unfit("")
            found = rule(self, eqn, *inputs)
            return [found._replace(node=calls.recognised(self, found.node))]
        except Unfit as error:
            return self._refuse(eqn, self._refusal(eqn, str(error)))

    def _unrolled(self, eqn, inputs) -> list[Value] | None:
        """Returns the outputs of a loop that carries values only, and is not long."""
        loop = walk.scan_parts(eqn)
        first = loop.constants + loop.carry
        if len(inputs) > first or len(eqn.outvars) > loop.carry or loop.length > LONGEST_LOOP:
            return None
        held, carry = inputs[: loop.constants], inputs[loop.constants :]
        for _ in range(loop.length):
            carry = walk.walk(loop.body, self, [*held, *carry])
        return carry

    def _refusal(self, eqn, reason: str) -> walk.UnknownPrimitiveError:
        advice = f"Here {reason}. {ADVICE}" if reason else ADVICE
        return walk.unknown_primitive(eqn, READER, known(), advice)

    def _refuse(self, eqn, error: walk.UnknownPrimitiveError) -> list[Value]:
        self.refused.append(error)
        node = self.graph.make("refused", param=len(self.refused) - 1, is_active=True)
        shapes = [variable.aval.shape for variable in eqn.outvars]
        return [Value(node, (None,) * len(shape), tuple(shape)) for shape in shapes]

    def apply(self, name: str, value: Value) -> Value:
        return value._replace(node=self.graph.apply(name, value.node))


def known() -> set[str]:
    """Returns the names of the primitives that have a rule."""
    return {*_RULES, *movement.IDENTITIES, *walk.CALLS}


def _used_once(jaxpr: Any) -> set[Var]:
    """Returns the variables that a single equation reads, in a jaxpr and what it calls."""
    counts: dict[Var, int] = {}
    bodies = [walk.close(jaxpr).jaxpr]
    while bodies:
        body = bodies.pop()
        atoms = [*body.outvars, *itertools.chain.from_iterable(eqn.invars for eqn in body.eqns)]
        for atom in atoms:
            if isinstance(atom, Var):
                counts[atom] = counts.get(atom, 0) + 1
        bodies.extend(inner.jaxpr for eqn in body.eqns if (inner := walk.called(eqn)) is not None)
    return {variable for variable, count in counts.items() if count == 1}


# --- rules: (reader, equation, *inputs) -> value


def _pointwise(build):
    def rule(reader, eqn, *inputs):
        if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
            raise Unfit("its result is not a floating-point array")
        return values.pointwise(reader.graph, lambda *nodes: build(reader.graph, *nodes), *inputs)

    return rule


def _power_of(exponent):
    return _pointwise(lambda graph, x: graph.power(x, exponent))


def _function(name):
    return lambda reader, eqn, x: reader.apply(name, x)


def _integer_power(reader, eqn, x):
    return x._replace(node=reader.graph.power(x.node, eqn.params["y"]))


def _general_power(reader, eqn, x, y):
    graph = reader.graph
    if y.node.op == "number":
        return x._replace(node=graph.power(x.node, y.node.param))
    if x.node.op == "number" and x.node.param > 0:
        logarithm = graph.constant(float(np.log(float(x.node.param))))
        return y._replace(node=graph.apply("exp", graph.multiply(logarithm, y.node)))
    raise Unfit("its exponent is not a number")


def _larger(op):
    neutral = -np.inf if op == "maximum" else np.inf

    def rule(reader, eqn, *pair):
        for value, other in (pair, pair[::-1]):
            if value.node.op == "special" and value.node.param == neutral:
                shape = eqn.outvars[0].aval.shape
                return other if other.shape == shape else other._replace(shape=shape)
            if op == "maximum" and value.node.op == "number" and value.node.param == 0:
                return reader.apply("maximum_of_zero", _broadcast(reader, other, eqn))
        return values.pointwise(reader.graph, _full(reader, op), *pair)

    return rule


def _broadcast(reader, value, eqn):
    return (
        value
        if value.shape
        else value._replace(
            axes=(None,) * len(eqn.outvars[0].aval.shape), shape=eqn.outvars[0].aval.shape
        )
    )


def _full(reader, op):
    """Returns what makes an operation whose operands all have one shape."""

    def build(*nodes):
        shape = max((node.shape for node in nodes), key=len)
        spread = [reader.graph.spread(node, shape) for node in nodes]
        return reader.graph.make(op, spread, reader.share, shape)

    return build


def _compare(reader, eqn, a, b):
    name = eqn.primitive.name

    def build(x, y):
        if x.op == y.op == "number":
            fold = {
                "eq": x.param == y.param,
                "ne": x.param != y.param,
                "lt": x.param < y.param,
                "le": x.param <= y.param,
                "gt": x.param > y.param,
                "ge": x.param >= y.param,
            }
            return reader.graph.constant(fold[name])  # fmt: skip
        shape = max(x.shape, y.shape, key=len)
        one_hot = _one_hot(reader.graph, name, x, y, shape)
        if one_hot is not None:
            return one_hot
        nodes = [reader.graph.spread(node, shape) for node in (x, y)]
        return reader.graph.make("compare", nodes, name, shape, np.dtype(bool), is_active=False)

    return values.pointwise(reader.graph, build, a, b)


def _one_hot(graph, name, x, y, shape):
    """Returns a comparison of labels with 0, 1, 2, ... as the one-hot matrix that it is."""
    for labels, classes in ((x, y), (y, x)):
        if name != "eq" or not shape:
            continue
        if classes.op == "range" and not labels.rank:
            return graph.make("onehot", [labels], shape[0], shape, np.dtype(bool), is_active=False)
        is_pair = classes.op == labels.op == "spread" and classes.args[0].op == "range"
        if is_pair and classes.param == 1 and labels.param == 0:
            return graph.make("onehot", labels.args, shape[1], shape, np.dtype(bool), False)
    return None


def _iota(reader, eqn):
    (aval,) = (variable.aval for variable in eqn.outvars)
    place = eqn.params["dimension"]
    length = aval.shape[place]
    node = reader.graph.make("range", param=length, shape=(length,), dtype=aval.dtype)
    return values.placed(node, [place], aval.shape)


def _select(reader, eqn, which, *cases):
    if len(cases) != 2:
        raise Unfit("it chooses among more than two arrays")

    def build(condition, no, yes):
        if condition.op == "number":
            return yes if condition.param else no
        shape = max((node.shape for node in (condition, no, yes)), key=len)
        no, yes = (reader.graph.spread(node, shape) for node in (no, yes))
        return reader.graph.where(condition, yes, no)

    return values.pointwise(reader.graph, build, which, *cases)


def _convert(reader, eqn, x):
    dtype = np.dtype(eqn.params["new_dtype"])
    if not jnp.issubdtype(dtype, jnp.floating) and x.node.is_active:
        raise Unfit("it makes integers of what is differentiated")
    return x._replace(node=reader.graph.cast(x.node, dtype))


def _stop(reader, eqn, x):
    if not x.node.is_active:
        return x
    node = reader.graph.make("stop", [x.node], None, x.node.shape, is_active=False)
    return x._replace(node=node)


def _is_finite(reader, eqn, x):
    node = reader.graph.make(
        "isfinite", [x.node], None, x.node.shape, np.dtype(bool), is_active=False
    )
    return x._replace(node=node)


def _broadcast_in_dim(reader, eqn, x, *_):
    shape, where = eqn.params["shape"], [int(k) for k in eqn.params["broadcast_dimensions"]]
    repeated = [k for k, place in enumerate(where) if x.shape[k] == 1 and shape[place] > 1]
    x = values.without(reader.graph, x, repeated)
    return values.placed(x.node, [where[place] for place in x.places], tuple(shape))


def _reshape(reader, eqn, x, *_):
    return values.reshaped(reader.graph, x, tuple(eqn.outvars[0].aval.shape))


def _transpose(reader, eqn, x):
    # A product that nothing else reads is turned round: (A B)^T is never needed as A B.
    once = eqn.invars[0] in reader.used_once
    return values.permuted(reader.graph, x, eqn.params["permutation"], into=once)


def _reduction(op):
    def rule(reader, eqn, x):
        return values.reduced(reader.graph, x, eqn.params["axes"], op)

    return rule


def _dot_general(reader, eqn, a, b):
    aval = eqn.outvars[0].aval
    dtypes = {node.dtype for node in (a.node, b.node) if node.dtype is not None}
    if not jnp.issubdtype(aval.dtype, jnp.floating) or len(dtypes) > 1:
        raise Unfit(f"it multiplies {a.node.dtype} by {b.node.dtype}")
    found = values.product(reader.graph, a, b, eqn.params["dimension_numbers"], tuple(aval.shape))
    return found._replace(node=reader.graph.cast(found.node, aval.dtype))


def _one_minus_square(graph, x):
    return graph.subtract(graph.constant(1), graph.power(x, 2))


_RULES: Mapping[str, Any] = {
    "add": _pointwise(lambda graph, a, b: graph.add(a, b)),
    "add_any": _pointwise(lambda graph, a, b: graph.add(a, b)),
    "sub": _pointwise(lambda graph, a, b: graph.subtract(a, b)),
    "mul": _pointwise(lambda graph, a, b: graph.multiply(a, b)),
    "div": _pointwise(lambda graph, a, b: graph.divide(a, b)),
    "neg": _pointwise(lambda graph, a: graph.scale(-1, a)),
    "square": _power_of(2),
    "sqrt": _power_of(Fraction(1, 2)),
    "rsqrt": _power_of(Fraction(-1, 2)),
    "one_minus_square": _pointwise(_one_minus_square),
    "integer_pow": _integer_power,
    "pow": _general_power,
    **{primitive: _function(name) for primitive, name in library.PRIMITIVES.items()},
    "max": _larger("maximum"),
    "min": _larger("minimum"),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge"), _compare),
    "iota": _iota,
    "select_n": _select,
    "convert_element_type": _convert,
    "stop_gradient": _stop,
    "is_finite": _is_finite,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "reduce_sum": _reduction("sum"),
    "reduce_max": _reduction("max"),
    "reduce_min": _reduction("min"),
    "dot_general": _dot_general,
}
