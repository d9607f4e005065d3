"""Functions recognised as a whole: by the call that has a name, or by what they compute."""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import walk
from diffcompare.symbolic import operations
from diffcompare.symbolic.matrix import functions as library
from diffcompare.symbolic.matrix import reverse, values
from diffcompare.symbolic.matrix.algebra import Algebra
from diffcompare.symbolic.matrix.nodes import Node, coefficient, reachable
from diffcompare.symbolic.matrix.values import Unfit, Value

if TYPE_CHECKING:
    from diffcompare.symbolic.matrix.reading import Reader


class Definition(NamedTuple):
    """A function that the program has, and its derivative, as scalar expressions."""

    argument: Node
    value: Node
    slope: Node


# What works entry by entry, so that a body made of it is a function of one number.
_ENTRYWISE = frozenset(
    {"add", "sub", "mul", "div", "neg", "square", "sqrt", "rsqrt", "one_minus_square",
     "integer_pow", "pow", "max", "min", "eq", "ne", "lt", "le", "gt", "ge", "select_n",
     "convert_element_type", "copy", "copy_p", "stop_gradient", "broadcast_in_dim",
     *library.PRIMITIVES}
)  # fmt: skip
# Calls whose name says less than their body does.
_ANONYMOUS = frozenset({"absolute", "clip", "divide", "multiply", "negative", "power", "square",
                        "subtract", "true_divide", "where"})  # fmt: skip


def taken_whole(
    reader: "Reader", eqn: JaxprEqn, body: ClosedJaxpr, inputs: list[Value]
) -> list[Value] | None:
    """Returns the outputs of a call that is known, or has a name worth keeping; else None."""
    known = operations.known_call(eqn.primitive.name, body)
    if known in ("relu", "relu6"):
        return [reader.apply(known, inputs[0])]
    if known == "logaddexp":
        return [_logaddexp(reader, *inputs)]
    if known is not None:
        return None
    name = eqn.params.get("name") or walk.call_name(body)
    return _named(reader, name, body, inputs)


def _logaddexp(reader, a, b):
    graph = reader.graph

    def build(x, y):
        return graph.add(y, graph.apply("softplus", graph.subtract(x, y)))

    return values.pointwise(graph, build, a, b)


def _named(reader, name, body, inputs):
    if not name.isidentifier() or name.startswith("_") or name in _ANONYMOUS:
        return None
    places = [k for k, value in enumerate(inputs) if value.node.op not in ("number", "special")]
    primitives = walk.primitives(body)
    outputs = body.jaxpr.outvars
    if len(places) != 1 or len(outputs) != 1 or not _ENTRYWISE.issuperset(primitives):
        return None
    (place,) = places
    argument = inputs[place]
    if len(set(primitives)) < 2 or outputs[0].aval.shape != argument.shape:
        return None
    if not _only_scalars_are_spread(body):
        return None
    symbol = _argument(reader, argument.node.dtype)
    stand_in = argument._replace(node=symbol, axes=(None,) * len(argument.shape))
    arguments = [stand_in if k == place else value for k, value in enumerate(inputs)]
    (output,) = walk.walk(body, reader, arguments)
    found = _define(reader, name, symbol, output.node)
    return None if found is None else [reader.apply(found, argument)]


def _only_scalars_are_spread(body: ClosedJaxpr) -> bool:
    """Returns whether no array is moved by the broadcasts in a body."""
    for eqn in body.jaxpr.eqns:
        inner = walk.called(eqn)
        if inner is not None and not _only_scalars_are_spread(inner):
            return False
        if eqn.primitive.name == "broadcast_in_dim":
            before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape  # type: ignore[attr-defined]
            if before and before != after:
                return False
    return True


def _argument(reader: "Reader", dtype: Any) -> Node:
    return reader.graph.make("argument", dtype=dtype, is_active=True)


def _define(reader: "Reader", name: str, symbol: Node, body: Node) -> str | None:
    """Returns the name under which a scalar expression of the argument is known from now on."""
    if body.op == "function" and body.args[0] is symbol:
        return str(body.param)
    inside = reachable([body])
    if symbol not in inside or any(node.op in ("refused", "leaf", "array") for node in inside):
        return None
    unique, count = name, 1
    while unique in reader.functions:
        if unique in reader.definitions and reader.definitions[unique].value is body:
            return unique
        count += 1
        unique = f"{name}_{count}"
    try:
        (slope,) = reverse.gradients(
            reader.graph, reader.functions, body, [symbol], {}, lambda node: Unfit(node.op)
        )
    except Unfit:
        return None
    reader.definitions[unique] = Definition(symbol, body, slope)
    reader.functions[unique] = library.Function(
        unique, rf"\mathrm{{{unique.replace('_', chr(92) + '_')}}}", f"{unique}({{}})"
    )
    return unique


def recognised(reader: "Reader", node: Node) -> Node:
    """Returns the node, or the known function that it computes without saying so."""
    graph = reader.graph
    if not reader.recognises:
        return node
    if node.op == "power" and node.param == -1:  # 1 / (1 + exp(-x))
        inside = _one_plus_exponential(node.args[0])
        if inside is not None:
            return graph.apply("sigma", graph.scale(-1, inside))
    if node.op == "function" and node.param in ("log", "log1p"):  # log(1 + exp(x))
        inside = node.args[0]
        exponent = _exponent(inside) if node.param == "log1p" else _one_plus_exponential(inside)
        if exponent is not None:
            return graph.apply("softplus", exponent)
    factor, rest = coefficient(node)
    if rest is not None and rest.op == "multiply":
        for part in rest.args:
            if part.op == "function" and part.param == "sigma" and part.args[0] in rest.args:
                return graph.scale(factor, _silu(reader, rest, part))
        return _gelu(reader, rest, node) or node
    return node


def _silu(reader, product, sigma):
    x = sigma.args[0]
    symbol = _argument(reader, x.dtype)
    body = reader.graph.multiply(symbol, reader.graph.apply("sigma", symbol))
    name = _define(reader, "silu", symbol, body)
    others = [part for part in product.args if part is not sigma and part is not x]
    return reader.graph.multiply(*others, reader.graph.apply(name, x))


def _exponent(node: Node) -> Node | None:
    return node.args[0] if node.op == "function" and node.param == "exp" else None


def _one_plus_exponential(node: Node) -> Node | None:
    """Returns the x of 1 + exp(x)."""
    if node.op != "add" or len(node.args) != 2:
        return None
    for one, other in (node.args, node.args[::-1]):
        if one.op == "spread":
            one = one.args[0]
        if one.op == "number" and one.param == 1:
            return _exponent(other)
    return None


# --- GELU, which JAX compiles into its caller, so that no call has its name


def _gelu(reader: "Reader", product: Node, node: Node) -> Node | None:
    """Returns gelu(x) where the node is its formula, by tanh or by erfc."""
    for inner, approximate in (("tanh", True), ("erfc", False)):
        if not any(sub.op == "function" and sub.param == inner for sub in _near(product)):
            continue
        symbol = _argument(reader, node.dtype)
        template = _template(reader, approximate, symbol)
        for x in product.args:
            if substituted(reader.graph, template, x) is node:
                name = _define(reader, "gelu", symbol, template)
                return None if name is None else reader.graph.apply(name, x)
    return None


def _near(node: Node) -> list[Node]:
    """Returns the nodes at most two operations inside the factors of a product."""
    inside = list(node.args)
    for _ in range(3):
        inside += [sub for arg in inside for sub in arg.args if sub not in inside]
    return inside


def _template(reader: "Reader", approximate: bool, symbol: Node) -> Node:
    """Returns the formula of GELU, as the installed JAX writes it in this dtype."""
    stand_in = Value(symbol, (), ())
    reader.recognises = False  # or it would be looked for inside itself
    try:
        (output,) = walk.walk(_traced_gelu(approximate, symbol.dtype), reader, [stand_in])
    finally:
        reader.recognises = True
    return output.node


@functools.lru_cache(maxsize=16)
def _traced_gelu(approximate: bool, dtype: Any) -> ClosedJaxpr:
    gelu = functools.partial(jax.nn.gelu, approximate=approximate)
    return jax.make_jaxpr(gelu)(jax.ShapeDtypeStruct((), dtype))


def substituted(graph: Algebra, formula: Node, x: Node) -> Node:
    """Returns a scalar formula with a node in place of its argument."""
    made: dict[Node, Node] = {}
    for node in reachable([formula]):
        args = [made[arg] for arg in node.args]
        if node.op == "argument":
            made[node] = x
        elif not args:
            made[node] = node
        elif node.op == "function":
            made[node] = graph.apply(node.param, args[0])
        else:
            made[node] = reverse.rebuilt(graph, node, args)
    return made[formula]
