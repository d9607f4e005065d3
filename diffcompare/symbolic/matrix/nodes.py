"""Matrix symbols, each written once: two equal expressions are one node."""

import dataclasses
from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Node:
    """An expression whose value is a scalar, a vector or a matrix.

    `number` grows with creation, so that arguments have smaller numbers than what is made of
    them: sorting by it is a topological order.
    """

    op: str
    args: tuple["Node", ...]
    param: Any
    shape: tuple[int, ...]
    dtype: Any  # None for a number, which takes the dtype of what it meets
    number: int
    is_active: bool  # whether it depends on a leaf that is differentiated

    @property
    def rank(self) -> int:
        return len(self.shape)


# Operations of which the order of the arguments does not matter.
COMMUTATIVE = ("add", "multiply")


class Graph:
    """The table of all nodes of one derivation.

    The methods of `algebra` make nodes, and simplify as they do; this class only sees to it
    that nothing is made twice.
    """

    def __init__(self):
        self._table: dict[Hashable, Node] = {}

    def make(
        self,
        op: str,
        args: Sequence[Node] = (),
        param: Hashable = None,
        shape: tuple[int, ...] = (),
        dtype: Any = None,
        is_active: bool | None = None,
    ) -> Node:
        """Returns the node of this description, the same one for the same description."""
        numbers: list[int] = [arg.number for arg in args]
        if op in COMMUTATIVE:
            numbers.sort()
        key = (op, tuple(numbers), param, shape, dtype)
        node = self._table.get(key)
        if node is None:
            if is_active is None:
                is_active = any(arg.is_active for arg in args)
            if dtype is None:
                dtype = next((arg.dtype for arg in args if arg.dtype is not None), None)
            node = Node(op, tuple(args), param, shape, dtype, len(self._table), is_active)
            self._table[key] = node
        return node


def reachable(roots: Iterable[Node]) -> list[Node]:
    """Returns all nodes that the roots are made of, arguments first.

    Example:
        >>> graph = Graph()
        >>> x = graph.make("leaf", param=0)
        >>> y = graph.make("add", [x, x])
        >>> [node.op for node in reachable([y])]
        ['leaf', 'add']
    """
    seen: dict[int, Node] = {}
    waiting = list(roots)
    while waiting:  # not by recursion: a network may be deeper than Python's stack
        node = waiting.pop()
        if node.number not in seen:
            seen[node.number] = node
            waiting.extend(node.args)
    return [seen[number] for number in sorted(seen)]


def count_uses(roots: Sequence[Node]) -> dict[Node, int]:
    """Returns how often each node is an argument; a root counts as one use."""
    uses: dict[Node, int] = {}
    for root in roots:
        uses[root] = uses.get(root, 0) + 1
    for node in reachable(roots):
        for arg in node.args:
            uses[arg] = uses.get(arg, 0) + 1
    return uses


def coefficient(node: Node) -> tuple[Fraction, Node | None]:
    """Returns the number in front of a node, and the rest; None where there is only a number."""
    if node.op == "number":
        return node.param, None
    if node.op == "scale":
        return node.param, node.args[0]
    return Fraction(1), node
