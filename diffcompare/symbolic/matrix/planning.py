"""Which values of a derivation get a name, and which name: the steps of backpropagation."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from diffcompare.symbolic import names
from diffcompare.symbolic.matrix.nodes import Node, coefficient, count_uses, reachable

# Functions that are part of a formula rather than the activation of a layer.
_ORDINARY = frozenset({"abs", "cos", "exp", "expm1", "log", "log1p", "sin"})
_TRIVIAL = frozenset({"argument", "array", "leaf", "number", "onehot", "range", "special", "let"})

_FREE = frozenset({"cast", "spread", "stop", "transpose"})


class Name(NamedTuple):
    """The name of an intermediate value: a letter and a number."""

    kind: str  # "z", "a", "delta", "u" or "p"
    number: int


class Stems(NamedTuple):
    """The letters of generated names, which no user's name begins with."""

    loss: str
    kinds: Mapping[str, str]  # from a kind, capital for matrices, to a letter

    def of(self, name: Name, rank: int) -> str:
        kind = name.kind.capitalize() if rank == 2 else name.kind
        return self.kinds[kind]


_CANDIDATES = {
    "z": ("z", "s", "q", "pre"),
    "Z": ("Z", "S", "Q", "Pre"),
    "a": ("a", "h", "r", "act"),
    "A": ("A", "H", "R", "Act"),
    "delta": ("delta", "epsilon", "eta", "err"),
    "Delta": ("Delta", "Gamma", "Psi", "Err"),
    "c": ("c", "k", "m", "const"),
    "C": ("C", "K", "M", "Const"),
    "u": ("u", "t", "v", "aux"),
    "U": ("U", "T", "V", "Aux"),
    "p": ("p", "pi", "rho", "prob"),
    "P": ("P", "Pi", "Phi", "Prob"),
}


def stems(leaves: Sequence[str]) -> Stems:
    """Returns letters for generated names that cannot be taken for a user's name.

    Example:
        >>> stems(["W1", "x"]).kinds["z"], stems(["z_1", "x"]).kinds["z"]
        ('z', 's')
    """
    taken = list(leaves)
    kinds = {}
    for kind, candidates in _CANDIDATES.items():
        kinds[kind] = names.prefix(taken, candidates)
        taken.append(kinds[kind])
    return Stems(names.prefix(taken, ("L", "J", "loss")), kinds)


def layers(value: Node) -> dict[Node, Name]:
    """Returns the values before and after each activation, z and a, numbered by layer.

    What an activation is applied to is a z, and so is every other product with a matrix, with
    what is added to it.
    """
    nodes = reachable([value])
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        for arg in node.args:
            users.setdefault(arg, []).append(node)
    activations = [node for node in nodes if _is_activation(node)]
    before = {node.args[0] for node in activations if not _is_trivial(node.args[0])}
    for node in nodes:
        if _is_product(node):
            top = node
            while (above := _sum_above(top, users)) is not None:
                top = above
            before.add(top)
    found: dict[Node, Name] = {}
    for number, node in enumerate(sorted(before, key=lambda node: node.number), start=1):
        found[node] = Name("z", number)
    for node in activations:
        layer = found.get(node.args[0])
        if layer is not None and node not in found and node is not value:
            name = Name("a", layer.number)
            found[node] = name if name not in found.values() else Name("u", 0)
    return {node: name for node, name in found.items() if name.kind != "u"}


def _is_product(node: Node) -> bool:
    """Returns whether a node is a product with a matrix, or with a weight where all is scalar."""
    if not node.is_active:
        return False
    factors = node.args[0] if node.op == "sum" and node.args[0].rank == 1 else node
    weights = any(arg.op == "leaf" and arg.is_active for arg in factors.args)
    is_scalar = not node.rank and factors.op == "multiply" and weights
    return node.op == "matmul" or is_scalar


def _is_activation(node: Node) -> bool:
    return node.op == "function" and node.param not in _ORDINARY and node.is_active


def _sum_above(node: Node, users: Mapping[Node, Sequence[Node]]) -> Node | None:
    """Returns the sum that is all a product is for, such as one with a bias."""
    above = users.get(node, ())
    if len(above) != 1 or above[0].op != "add":
        return None
    # y_hat - y is no layer, but its error.
    return above[0] if all(coefficient(term)[0] > 0 for term in above[0].args) else None


def shared(value: Node, gradients: Sequence[Node], named: Mapping[Node, Name]) -> dict[Node, Name]:
    """Returns names for what is used more than once and has none yet."""
    roots = [value, *gradients]
    uses = _uses(roots)
    found: dict[Node, Name] = {}
    counts = {"u": 0, "p": 0}
    for node in reachable(roots):
        if uses.get(node, 0) < 2 or node in named or _is_trivial(node, named) or node is value:
            continue
        kind = "p" if node.op == "softmax" else "u"
        counts[kind] += 1
        found[node] = Name(kind, counts[kind])
    return found


def named(found: Mapping[Node, Name], value: Node, gradients: Sequence[Node]) -> dict[Node, Name]:
    """Returns the names of intermediate values, and those of the gradients of layers."""
    lets = [node for node in reachable([value, *gradients]) if node.op == "let"]
    return {**found, **{node: node.param for node in lets}}


def arrays(value: Node, gradients: Sequence[Node]) -> dict[Node, Name]:
    """Returns names for the arrays that a program holds."""
    nodes = [node for node in reachable([value, *gradients]) if node.op == "array"]
    return {node: Name("c", number) for number, node in enumerate(nodes, start=1)}


def _uses(roots: Sequence[Node]) -> dict[Node, int]:
    """Returns how often each node is used, through operations that cost nothing."""
    uses = count_uses(roots)
    for node in reversed(reachable(roots)):
        if node.op == "let":  # the name of a delta is name enough
            uses[node.args[0]] -= 1
        elif node.op in _FREE:
            uses[node.args[0]] += uses[node] - 1
    return uses


def _is_trivial(node: Node, named: Iterable[Node] = ()) -> bool:
    """Returns whether a name for a node would be longer than the node."""
    if node.op in _FREE:
        return True
    while node.op in ("scale", *_FREE):
        node = node.args[0]
        if node in named:
            return True
    return node.op in _TRIVIAL or all(
        inner.args or inner.op == "number" for inner in reachable([node])
    )
