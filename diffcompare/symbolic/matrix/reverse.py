"""Reverse mode on matrix symbols: one rule for each operation of the algebra."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from fractions import Fraction

from diffcompare.symbolic.matrix import functions as library
from diffcompare.symbolic.matrix.algebra import Algebra
from diffcompare.symbolic.matrix.nodes import Node, reachable

Functions = Mapping[str, library.Function]
Refuse = Callable[[Node], Exception]
Parts = list[tuple[Node, Node]]  # an argument, and what it gets


def gradients(
    graph: Algebra,
    functions: Functions,
    value: Node,
    leaves: Sequence[Node],
    deltas: Mapping[Node, Hashable],
    refuse: Refuse,
) -> list[Node]:
    """Returns the gradient of a scalar by each leaf.

    Args:
        graph: What the nodes are made in.
        functions: The functions that work entry by entry.
        value: The scalar.
        leaves: What to differentiate by.
        deltas: Nodes of which the gradient gets a name: it becomes an operation "let", which
            nothing simplifies away, so that the next layer's is written in terms of it.
        refuse: Makes the error for an operation that has no derivative here.
    """
    arrived: dict[Node, Node] = {value: graph.constant(1)}
    for node in reversed(reachable([value])):
        is_source = not node.args and node.op != "refused"
        if is_source or not node.is_active or node not in arrived:
            continue
        weight = arrived.pop(node)
        has_name = weight in deltas or weight.op in ("leaf", "let", "number", "spread")
        if node in deltas and not has_name:
            weight = graph.make("let", [weight], deltas[node], weight.shape)
        for argument, part in _pull(graph, functions, node, weight, refuse):
            if argument.is_active:
                known = arrived.get(argument)
                arrived[argument] = part if known is None else graph.add(part, known)
    return [arrived.get(leaf, graph.full(0, leaf.shape)) for leaf in leaves]


def expanded(graph: Algebra, roots: Sequence[Node]) -> list[Node]:
    """Returns the same nodes with the names of the gradients inside replaced by what they are."""
    made: dict[Node, Node] = {}
    for node in reachable(roots):
        args = [made[arg] for arg in node.args]
        if node.op == "let":
            made[node] = args[0]
        elif all(new is old for new, old in zip(args, node.args, strict=True)):
            made[node] = node
        else:
            made[node] = rebuilt(graph, node, args)
    return [made[root] for root in roots]


def rebuilt(graph: Algebra, node: Node, args: Sequence[Node]) -> Node:
    """Returns the operation of a node on other arguments."""
    made = {
        "add": lambda: graph.add(*args),
        "multiply": lambda: graph.multiply(*args),
        "scale": lambda: graph.scale(node.param, args[0]),
        "power": lambda: graph.power(args[0], node.param),
        "spread": lambda: graph.spread(args[0], node.shape, node.param),
        "sum": lambda: graph.sum(args[0], node.param),
        "matmul": lambda: graph.matmul(*args),
        "outer": lambda: graph.outer(*args),
        "transpose": lambda: graph.transpose(args[0]),
    }.get(node.op)
    if made is None:
        return graph.make(node.op, args, node.param, node.shape, node.dtype)
    return made()


def _pull(graph: Algebra, functions: Functions, node: Node, weight: Node, refuse: Refuse) -> Parts:
    """Returns what the arguments of a node get of its gradient."""
    rule = _RULES.get(node.op)
    if rule is not None:
        parts = rule(graph, node, weight)
        return list(zip(node.args, parts, strict=True))
    if node.op == "function":
        slope = library.slope(graph, dict(functions), node.param, node.args[0])
        return [(node.args[0], graph.multiply(weight, slope))]
    raise refuse(node)


def _multiply(graph, node, weight):
    def part(position):
        factor = node.args[position]
        others = [arg for index, arg in enumerate(node.args) if index != position]
        product = graph.multiply(weight, *others)
        return product if factor.rank or not node.rank else graph.sum(product)

    return [part(position) for position in range(len(node.args))]


def _power(graph, node, weight):
    (x,) = node.args
    exponent: Fraction = node.param
    return [graph.multiply(weight, graph.scale(exponent, graph.power(x, exponent - 1)))]


def _matmul(graph, node, weight):
    a, b = node.args
    if b.rank == 1:
        return [graph.outer(weight, b), graph.matmul(graph.transpose(a), weight)]
    return [graph.matmul(weight, graph.transpose(b)), graph.matmul(graph.transpose(a), weight)]


def _outer(graph, node, weight):
    u, v = node.args
    return [graph.matmul(weight, v), graph.matmul(graph.transpose(weight), u)]


def _spread(graph, node, weight):
    (x,) = node.args
    return [graph.sum(weight) if not x.rank else graph.sum(weight, 1 - node.param)]


def _softmax(graph, node, weight):
    weighted = graph.multiply(node, weight)
    share = graph.along(graph.sum(weighted, node.param), node, node.param)
    return [graph.multiply(node, graph.subtract(weight, share))]


def _logsumexp(graph, node, weight):
    (x,) = node.args
    softmax = graph.softmax(x, node.param)
    return [graph.multiply(softmax, graph.along(weight, x, node.param))]


def _extreme(graph, node, weight):
    # Entries that tie share the slope equally, as JAX has it.
    (x,) = node.args
    attains = graph.make("attains", [x, node], node.param, x.shape, is_active=False)
    count = graph.sum(attains, node.param)
    return [graph.multiply(attains, graph.along(graph.divide(weight, count), x, node.param))]


def _where(graph, node, weight):
    condition, yes, no = node.args
    return [
        graph.full(0, node.shape),
        graph.where(condition, weight, graph.full(0, yes.shape)),
        graph.where(condition, graph.full(0, no.shape), weight),
    ]


def _larger(graph, node, weight):
    a, b = node.args
    param = (node.op == "maximum", node.param)
    share = graph.make("share", [a, b], param, node.shape, is_active=False)
    rest = graph.subtract(graph.full(1, node.shape), share)
    return [graph.multiply(weight, share), graph.multiply(weight, rest)]


_RULES: dict[str, Callable[[Algebra, Node, Node], list[Node]]] = {
    "add": lambda graph, node, weight: [weight] * len(node.args),
    "scale": lambda graph, node, weight: [graph.scale(node.param, weight)],
    "cast": lambda graph, node, weight: [graph.cast(weight, node.args[0].dtype)],
    "reshape": lambda graph, node, weight: [graph.reshape(weight, node.args[0].shape)],
    "transpose": lambda graph, node, weight: [graph.transpose(weight, into=True)],
    "sum": lambda graph, node, weight: [graph.along(weight, node.args[0], node.param)],
    "multiply": _multiply,
    "power": _power,
    "matmul": _matmul,
    "outer": _outer,
    "spread": _spread,
    "softmax": _softmax,
    "logsumexp": _logsumexp,
    "max": _extreme,
    "min": _extreme,
    "where": _where,
    "maximum": _larger,
    "minimum": _larger,
}
