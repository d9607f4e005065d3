"""Arrays as matrix symbols: what each axis of an array is, of a scalar, a vector or a matrix.

JAX's arrays have axes of length 1, and axes along which nothing changes, wherever a program
broadcasts. A node has neither, so that `b`, `b[None, :]` and `b` spread over a batch are one
symbol until they meet something that has the other axis.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from diffcompare.symbolic.matrix.algebra import Algebra
from diffcompare.symbolic.matrix.nodes import Node


class Unfit(Exception):
    """An operation is not one on scalars, vectors and matrices. The message is a reason."""


class Value(NamedTuple):
    """An array of a traced function."""

    node: Node
    axes: tuple[int | None, ...]  # of each axis of the array, the axis of the node; None: constant
    shape: tuple[int, ...]

    @property
    def places(self) -> tuple[int, ...]:
        """The axes of the array along which the node has one, in order."""
        return tuple(place for place, axis in enumerate(self.axes) if axis is not None)


def symbol(node: Node) -> Value:
    """Returns the value of which every axis is one of the node."""
    return Value(node, tuple(range(node.rank)), node.shape)


def placed(node: Node, places: Sequence[int], shape: tuple[int, ...]) -> Value:
    """Returns a value whose node has its axes at these places, in order."""
    where = {place: axis for axis, place in enumerate(places)} if node.rank else {}
    return Value(node, tuple(where.get(place) for place in range(len(shape))), shape)


def without(graph: Algebra, value: Value, places: Sequence[int]) -> Value:
    """Returns the value with axes of length 1 of its node at these places taken away."""
    drop = [value.axes[place] for place in places if value.axes[place] is not None]
    if not drop:
        return value
    node = graph.sum(value.node, None if len(drop) == value.node.rank else drop[0])
    kept = [place for place in value.places if place not in places]
    return placed(node, kept, value.shape)


def aligned(graph: Algebra, values: Sequence[Value]) -> tuple[list[Node], list[int], tuple]:
    """Returns the nodes of arrays that meet entry by entry, the places they have, and the shape.

    A node is a scalar or has all the axes.
    """
    rank = max(len(value.shape) for value in values)
    values = [v if v.shape else Value(v.node, (None,) * rank, (1,) * rank) for v in values]
    if any(len(value.shape) != rank for value in values):
        raise Unfit("its operands differ in rank")
    shape = tuple(max(lengths) for lengths in zip(*(v.shape for v in values), strict=True))
    if 0 in (length for value in values for length in value.shape):
        raise Unfit("its operands are empty")
    values = [
        without(graph, v, [p for p in v.places if v.shape[p] == 1 and shape[p] > 1]) for v in values
    ]
    places = sorted({place for value in values for place in value.places})
    return [on(graph, value, places, shape) for value in values], places, shape


def on(graph: Algebra, value: Value, places: Sequence[int], shape: tuple[int, ...]) -> Node:
    """Returns the node of a value with axes at these places; a scalar stays one."""
    if len(places) > 2:
        lengths = tuple(shape[place] for place in places)
        raise Unfit(f"it makes an array of shape {lengths}, and a matrix has two axes")
    node = value.node
    if not node.rank or value.places == tuple(places):
        return node
    return graph.spread(node, tuple(shape[p] for p in places), places.index(value.places[0]))


def pointwise(graph: Algebra, build: Callable[..., Node], *values: Value) -> Value:
    """Returns an operation entry by entry."""
    nodes, places, shape = aligned(graph, values)
    return placed(build(*nodes), places, shape)


def permuted(graph: Algebra, value: Value, order: Sequence[int], into: bool) -> Value:
    """Returns the value with its axes in another order."""
    axes = [value.axes[place] for place in order]
    shape = tuple(value.shape[place] for place in order)
    turned = [axis for axis in axes if axis is not None] == [1, 0]
    node = graph.transpose(value.node, into) if turned else value.node
    return placed(node, [p for p, axis in enumerate(axes) if axis is not None], shape)


def reduced(graph: Algebra, value: Value, axes: Sequence[int], op: str) -> Value:
    """Returns the sum, the largest or the smallest entry along axes."""
    axes = [int(axis) for axis in axes]
    drop = [value.axes[place] for place in axes if value.axes[place] is not None]
    repeats = math.prod(value.shape[place] for place in axes if value.axes[place] is None)
    node = value.node
    if drop:
        if node.rank > max(2, len(drop)):
            raise Unfit(f"it reduces an array of {node.rank} axes along {len(drop)} of them")
        axis = None if len(drop) == node.rank else drop[0]
        node = graph.sum(node, axis) if op == "sum" else graph.extreme(op, node, axis)
    if op == "sum":
        node = graph.scale(repeats, node)
    kept = [place for place in range(len(value.shape)) if place not in axes]
    places = [new for new, old in enumerate(kept) if value.axes[old] is not None]
    return placed(node, places, tuple(value.shape[place] for place in kept))


def reshaped(graph: Algebra, value: Value, shape: tuple[int, ...]) -> Value:
    """Returns the value in another shape."""
    value = without(graph, value, [p for p in value.places if value.shape[p] == 1])
    old = [place for place, length in enumerate(value.shape) if length != 1]
    new = [place for place, length in enumerate(shape) if length != 1]
    if [value.shape[place] for place in old] == [shape[place] for place in new]:
        moved = dict(zip(old, new, strict=True))
        return placed(value.node, [moved[place] for place in value.places], shape)
    if len(value.places) != len(old) or len(new) > 2:
        raise Unfit(f"it makes an array of shape {shape} of one of shape {value.shape}")
    node = graph.reshape(value.node, tuple(shape[place] for place in new))
    return placed(node, new, shape)


def product(graph: Algebra, a: Value, b: Value, dimensions, shape: tuple[int, ...]) -> Value:
    """Returns `dot_general` of two values."""
    (left_sum, right_sum), (left_batch, right_batch) = dimensions
    left = _labels(a, left_sum, left_batch, "left")
    right = _labels(b, right_sum, right_batch, "right")
    order = [("batch", k) for k in range(len(left_batch))]
    order += [label for label in left if label[0] == "left"]
    order += [label for label in right if label[0] == "right"]
    x, of_x = a.node, [left[place] for place in a.places]
    y, of_y = b.node, [right[place] for place in b.places]
    for k, place in enumerate(left_sum):
        label = ("sum", k)
        if label in of_x and label not in of_y:
            x, of_x = _summed(graph, x, of_x, label)
        elif label in of_y and label not in of_x:
            y, of_y = _summed(graph, y, of_y, label)
        elif label not in of_x:
            x = graph.scale(a.shape[place], x)
    if any(label[0] == "batch" and label in of_y for label in of_x):
        node, labels = _batched(graph, x, of_x, y, of_y)
    else:
        node, labels = _multiplied(graph, x, of_x, y, of_y)
    places = [place for place, label in enumerate(order) if label in labels]
    if len(labels) == 2 and [order[place] for place in places] != labels:
        node = graph.transpose(node, into=True)
    return placed(node, places, shape)


Label = tuple[str, int]


def _labels(value: Value, summed, batch, side: str) -> list[Label]:
    labels: list[Label] = [(side, place) for place in range(len(value.shape))]
    for kind, places in (("sum", summed), ("batch", batch)):
        for k, place in enumerate(places):
            labels[int(place)] = (kind, k)
    return labels


def _summed(graph: Algebra, node: Node, labels: list[Label], label: Label):
    axis = None if len(labels) == 1 else labels.index(label)
    return graph.sum(node, axis), [other for other in labels if other != label]


def _batched(graph: Algebra, x: Node, of_x: list[Label], y: Node, of_y: list[Label]):
    """Multiplies entry by entry along the axes that both have, then sums."""
    labels = of_x + [label for label in of_y if label not in of_x]
    if len(labels) > 2:
        raise Unfit("it multiplies a batch of matrices, and a matrix has two axes")
    lengths = dict(zip([*of_x, *of_y], [*x.shape, *y.shape], strict=True))
    shape = tuple(lengths[label] for label in labels)

    def spread(node, of_node):
        if len(of_node) == 2 and of_node != labels:
            return graph.transpose(node)
        axis = labels.index(of_node[0]) if len(of_node) == 1 else None
        return graph.spread(node, shape, axis)

    node = graph.multiply(spread(x, of_x), spread(y, of_y))
    for label in [label for label in labels if label[0] == "sum"]:
        node, labels = _summed(graph, node, labels, label)
    return node, labels


def _multiplied(graph: Algebra, x: Node, of_x: list[Label], y: Node, of_y: list[Label]):
    """Multiplies as matrices and vectors."""
    common = [label for label in of_x if label in of_y]
    if not common:
        if len(of_x) + len(of_y) > 2:
            raise Unfit("it makes an array of more than two axes")
        outer = len(of_x) == len(of_y) == 1
        return (graph.outer if outer else graph.multiply)(x, y), of_x + of_y
    if len(common) == 2:
        return graph.dot(x, y if of_x == of_y else graph.transpose(y)), []
    rest = [label for label in of_x + of_y if label not in common]
    if len(of_y) == 1 and len(of_x) == 1:
        return graph.dot(x, y), []
    x = x if of_x[-1] == common[0] else graph.transpose(x)
    if len(of_x) == 1:
        y = y if of_y[-1] == common[0] else graph.transpose(y)
        return graph.matmul(y, x), rest
    y = y if of_y[0] == common[0] else graph.transpose(y)
    return graph.matmul(x, y), rest
