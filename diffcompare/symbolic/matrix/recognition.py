"""What an expression is without saying so: softmax and its relatives, and facts about signs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from diffcompare.symbolic.matrix.nodes import Node, coefficient

if TYPE_CHECKING:
    from diffcompare.symbolic.matrix.algebra import Algebra


def constant_part(graph: "Algebra", node: Node, axis: int | None) -> tuple[Node, list[Node]]:
    """Splits off the terms that are constant along an axis, which softmax does not see."""
    rest: list[Node] = []
    constants: list[Node] = []
    for term in node.args if node.op == "add" else ():
        factor, inner = coefficient(term)
        if (
            inner is not None
            and inner.op == "spread"
            and (inner.param is None or inner.param == (None if axis is None else 1 - axis))
        ):
            source = inner.args[0]
            shape = () if axis is None else (node.shape[1 - axis],)
            constants.append(graph.spread(graph.scale(factor, source), shape))
        else:
            rest.append(term)
    if not constants or not rest:
        return node, []
    return graph.add(*rest), constants


def softmax_of_quotient(graph: "Algebra", parts: Sequence[Node]) -> Node | None:
    """Returns exp(u) / sum(exp(u)) as the softmax that it is, times what else there is."""
    for numerator in parts:
        if numerator.op != "function" or numerator.param != "exp":
            continue
        for part in parts:
            inverse = part.args[0] if part.op == "spread" else part
            if inverse.op != "power" or inverse.param != -1:
                continue
            total = inverse.args[0]
            if total.op != "sum" or total.args[0] is not numerator:
                continue
            if part.op == "spread" and total.rank and part.param != 1 - total.param:
                continue
            others = [other for other in parts if other not in (numerator, part)]
            if total.param is None and numerator.rank == 2:
                continue  # over all entries of a matrix
            softmax = graph.softmax(numerator.args[0], total.param)
            return graph.multiply(*others, softmax) if others else softmax
    return None


def softmax_of_exponential(graph: "Algebra", node: Node) -> Node | None:
    """Returns exp(u - logsumexp(u)) as the softmax that it is."""
    for term in node.args:
        factor, inner = coefficient(term)
        if factor != -1 or inner is None or inner.op != "spread":
            continue
        total = inner.args[0]
        if total.op == "logsumexp":
            rest = graph.add(*(other for other in node.args if other is not term))
            if rest is total.args[0] and (not total.rank or inner.param == 1 - total.param):
                return graph.softmax(rest, total.param)
    return None


def simpler_logarithm(graph: "Algebra", node: Node) -> Node | None:
    """Returns log(sum(exp(u))) and log(softmax(u)) by logsumexp(u), which does not overflow."""
    if node.op == "sum" and node.args[0].op == "function" and node.args[0].param == "exp":
        inside = node.args[0].args[0]
        if inside.rank == 1 or node.param is not None:
            return graph.logsumexp(inside, node.param)
    if node.op == "softmax":
        inside = node.args[0]
        total = graph.logsumexp(inside, node.param)
        return graph.subtract(inside, graph.along(total, inside, node.param))
    return None


def is_one_hot(node: Node) -> bool:
    """Returns whether the rows are one-hot where all labels are classes."""
    return node.op == "onehot" or (node.op == "cast" and node.args[0].op == "onehot")


def is_zero(node: Node) -> bool:
    """Returns whether all entries are certainly zero."""
    factor, rest = coefficient(node)
    return factor == 0 or (rest is not None and rest.op == "spread" and is_zero(rest.args[0]))


def is_positive(node: Node) -> bool:
    """Returns whether all entries are certainly positive."""
    if node.op == "function":
        return node.param == "exp"
    return node.op == "softmax" or (node.op in ("sum", "spread") and is_positive(node.args[0]))


def has_shift(node: Node) -> bool:
    """Returns whether a sum has a logarithm of exponentials, whose shift cancels elsewhere."""
    terms = [coefficient(term)[1] for term in node.args] if node.op == "add" else []
    return any(term is not None and term.op == "logsumexp" for term in terms)
