"""The algebra of matrix symbols: every constructor simplifies what it makes.

A scalar has shape (), a vector (n,), a matrix (rows, columns). Numbers are exact fractions and
move to the front, sums collect equal terms, `-(a - b)` becomes `b - a`, and what is constant
along an axis is spread along it last. Products of matrices are not expanded and their order is
kept, so that the cost of a derivation is that of backpropagation.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from diffcompare.symbolic.matrix import recognition
from diffcompare.symbolic.matrix.nodes import Graph, Node, coefficient

Shape = tuple[int, ...]


class Algebra(Graph):
    """A graph with the constructors of matrix calculus.

    Args:
        assumed: Leaves whose last axis is taken to sum to 1, as that of one-hot targets does,
            which are then taken so too; None assumes nothing.
    """

    def __init__(self, assumed: Sequence[int] | None = None):
        super().__init__()
        self._assumed = assumed
        self.relied_on: dict[Node, None] = {}  # what of that was used

    # --- scalars, and what is constant along an axis

    def constant(self, value: Any) -> Node:
        """Returns a number; what is not finite stands for itself."""
        value = (
            value if isinstance(value, Fraction) or not math.isfinite(value) else Fraction(value)
        )
        return self.make("number" if isinstance(value, Fraction) else "special", param=value)

    def full(self, value: Any, shape: Shape) -> Node:
        return self.spread(self.constant(value), shape)

    def spread(self, node: Node, shape: Shape, axis: int | None = None) -> Node:
        """Returns a node repeated to a shape; `axis` is where the axis of a vector goes.

        A vector on axis 1 becomes the rows of a matrix, on axis 0 its columns.
        """
        if node.shape == shape:
            return node
        if node.op == "spread" and not node.args[0].rank:
            return self.spread(node.args[0], shape)
        factor, rest = coefficient(node)
        if factor not in (0, 1):
            one = self.constant(1) if rest is None else rest
            return self.scale(factor, self.spread(one, shape, axis))
        return self.make("spread", [node], axis if node.rank else None, shape)

    def scale(self, factor: Fraction | int, node: Node) -> Node:
        """Returns a number times a node."""
        factor = Fraction(factor)
        inner, rest = coefficient(node)
        factor *= inner
        if rest is None:
            return self.constant(factor)
        if factor == 0 or recognition.is_zero(rest):
            return self.full(0, rest.shape)
        if factor < 0 and rest.op == "add" and any(coefficient(t)[0] < 0 for t in rest.args):
            return self.scale(-factor, self.add(*(self.scale(-1, term) for term in rest.args)))
        if factor == 1:
            return rest
        return self.make("scale", [rest], factor, rest.shape)

    # --- entry by entry

    def add(self, *terms: Node) -> Node:
        """Returns a sum; scalars are added to every entry."""
        shape = max((term.shape for term in terms), key=len)
        total: dict[Node, Fraction] = {}
        for term in self._terms(terms, shape):
            factor, rest = coefficient(term)
            rest = self.constant(1) if rest is None else rest
            if not recognition.is_zero(rest):
                total[rest] = total.get(rest, Fraction(0)) + factor
        kept = [(factor, rest) for rest, factor in total.items() if factor != 0]
        if not kept:
            return self.full(0, shape)
        if len(kept) == 1:
            return self.scale(kept[0][0], kept[0][1])
        common = abs(kept[0][0]) if len({abs(factor) for factor, _ in kept}) == 1 else 1
        common = -common if all(factor < 0 for factor, _ in kept) else common
        if common != 1:
            inside = [self.scale(factor / common, rest) for factor, rest in kept]
            return self.scale(common, self.make("add", inside, None, shape))
        merged = self._merged_choices(kept)
        if merged is not None:
            return merged
        return self.make("add", [self.scale(f, rest) for f, rest in kept], None, shape)

    def _merged_choices(self, kept) -> Node | None:
        """Returns a sum in which two choices by one condition are one choice."""
        choices: dict[Node, Node] = {}
        for factor, rest in kept:
            if rest.op == "where" and factor == 1:
                first = choices.setdefault(rest.args[0], rest)
                if first is not rest:
                    yes, no = map(self.add, first.args[1:], rest.args[1:])
                    others = [self.scale(f, r) for f, r in kept if r not in (first, rest)]
                    return self.add(self.where(rest.args[0], yes, no), *others)
        return None

    def _terms(self, nodes: Sequence[Node], shape: Shape) -> list[Node]:
        terms: list[Node] = []
        for node in nodes:
            factor, rest = coefficient(self.spread(node, shape))
            if rest is not None and rest.op == "add" and not _is_layer(rest):
                terms.extend(self.scale(factor, term) for term in rest.args)
            elif rest is not None and rest.op == "spread" and recognition.has_shift(rest.args[0]):
                spread = [self.spread(t, shape, rest.param) for t in rest.args[0].args]
                terms.extend(self.scale(factor, term) for term in spread)
            else:
                terms.append(self.scale(factor, self.constant(1) if rest is None else rest))
        return terms

    def subtract(self, a: Node, b: Node) -> Node:
        return self.add(a, self.scale(-1, b))

    def multiply(self, *factors: Node) -> Node:
        """Returns a product entry by entry; a scalar multiplies every entry."""
        shape = max((factor.shape for factor in factors), key=len)
        number = Fraction(1)
        powers: dict[Node, Fraction] = {}
        order: list[Node] = []
        for factor in factors:
            inner, rest = coefficient(factor)
            number *= inner
            if rest is not None and rest.op == "spread" and not rest.args[0].rank and len(shape):
                inner, rest = coefficient(rest.args[0])
                number *= inner
            if rest is None:
                continue
            for part in rest.args if rest.op == "multiply" else (rest,):
                base, exponent = (part.args[0], part.param) if part.op == "power" else (part, 1)
                known = powers.get(base)
                # Powers of one base are gathered, unless a quotient would cancel: 0 / 0 is not 1.
                if known is not None and _gathers(known, exponent):
                    powers[base] = known + exponent
                elif known is not None:
                    order.append(part)
                else:
                    powers[base] = Fraction(exponent)
                    order.append(base)
        if number == 0:
            return self.full(0, shape)
        parts = [self.power(node, powers.pop(node)) if node in powers else node for node in order]
        return self.scale(number, self._product(parts, shape))

    def _product(self, parts: list[Node], shape: Shape) -> Node:
        if not parts:
            return self.full(1, shape)
        for part in parts:  # 0 or 1 times something is a choice, also where that is infinite
            if part.op == "where" and all(map(_is_bit, part.args[1:])) and len(parts) > 1:
                others = self.multiply(*(other for other in parts if other is not part))
                sides = [others if not recognition.is_zero(bit) else self.full(0, others.shape)
                         for bit in part.args[1:]]  # fmt: skip
                if others.shape == shape:
                    return self.where(part.args[0], *sides)
        softmax = recognition.softmax_of_quotient(self, parts)
        if softmax is not None:
            return softmax
        scalars = [part for part in parts if not part.rank]
        arrays = [part for part in parts if part.rank]
        directions = {(part.op, part.param) for part in arrays}
        if len(directions) == 1 and arrays[0].op == "spread" and len(parts) > 1:
            inner = self.multiply(*scalars, *(part.args[0] for part in arrays))
            return self.spread(inner, shape, arrays[0].param)
        if shape and not arrays:
            return self.spread(self.multiply(*scalars), shape)
        if len(parts) == 1:
            return parts[0]
        return self.make("multiply", [*scalars, *arrays], None, shape)

    def divide(self, a: Node, b: Node) -> Node:
        return self.multiply(a, self.power(b, -1))

    def power(self, node: Node, exponent: Fraction | int) -> Node:
        """Returns a node to an exact power, entry by entry."""
        exponent = Fraction(exponent)
        if exponent == 1:
            return node
        if exponent == 0:
            return self.full(1, node.shape)
        factor, rest = coefficient(node)
        if rest is None and (factor != 0 or exponent > 0):
            exact = _exact_power(factor, exponent)
            if exact is not None:
                return self.constant(exact)
        if rest is not None and factor != 1 and exponent.denominator == 1:
            return self.scale(Fraction(factor**exponent), self.power(rest, exponent))
        if node.op == "spread":
            return self.spread(self.power(node.args[0], exponent), node.shape, node.param)
        if node.op == "power" and exponent.denominator == 1:
            # Not (1 / x) to the power -1, which is not x where x is 0; a root has no sign.
            is_root = (node.param * exponent).denominator > 1
            is_safe = node.param.denominator == 1 if exponent > 0 else node.param > 0 and is_root
            if is_safe:
                return self.power(node.args[0], node.param * exponent)
        return self.make("power", [node], exponent, node.shape)

    def apply(self, name: str, node: Node) -> Node:
        """Returns a named function of a node, entry by entry."""
        if name == "exp" and node.op == "add":
            softmax = recognition.softmax_of_exponential(self, node)
            if softmax is not None:
                return softmax
        if name == "log":
            simpler = recognition.simpler_logarithm(self, node)
            if simpler is not None:
                return simpler
        if name == "abs" and recognition.is_positive(node):
            return node
        return self.make("function", [node], name, node.shape)

    def slope(self, name: str, node: Node) -> Node:
        """Returns the derivative of a named function at a node."""
        return self.make("slope", [node], name, node.shape)

    def where(self, condition: Node, yes: Node, no: Node) -> Node:
        if yes is no:
            return yes
        if yes.op == "where" and yes.args[0] is condition:
            yes = yes.args[1]
        if no.op == "where" and no.args[0] is condition:
            no = no.args[2]
        shape = max((node.shape for node in (condition, yes, no)), key=len)
        return self.make("where", [condition, yes, no], None, shape, yes.dtype or no.dtype)

    def cast(self, node: Node, dtype: Any) -> Node:
        """Returns a node in another dtype; a number has none."""
        if dtype is None or node.dtype == dtype or node.op == "number":
            return node
        return self.make("cast", [node], str(dtype), node.shape, dtype)

    def reshape(self, node: Node, shape: Shape) -> Node:
        return node if node.shape == shape else self.make("reshape", [node], shape, shape)

    # --- along axes

    def sum(self, node: Node, axis: int | None = None) -> Node:
        """Returns the sum of all entries, or of a matrix along one axis."""
        if not node.rank:
            return node
        axis = None if node.rank == 1 else axis
        shape = () if axis is None else (node.shape[1 - axis],)
        factor, rest = coefficient(node)
        assert rest is not None
        if factor != 1:
            return self.scale(factor, self.sum(rest, axis))
        if rest.op == "spread":
            return self._sum_of_spread(rest, axis, shape)
        if rest.op == "sum":
            return self.sum(rest.args[0])
        if rest.op == "transpose":
            return self.sum(rest.args[0], None if axis is None else 1 - axis)
        if rest.op == "multiply" and not rest.args[0].rank:
            scalars = [part for part in rest.args if not part.rank]
            arrays = [part for part in rest.args if part.rank]
            return self.multiply(*scalars, self.sum(self.multiply(*arrays), axis))
        if self.sums_to_one(rest, axis):
            return self.full(1, shape)
        return self.make("sum", [rest], axis, shape)

    def sums_to_one(self, node: Node, axis: int | None) -> bool:
        """Returns whether the entries along an axis are known to sum to 1."""
        if node.op == "softmax" and (node.rank == 1 or node.param == axis):
            return True
        if self._assumed is None or (node.rank == 2 and axis != 1):
            return False
        if (node.op == "leaf" and node.param in self._assumed) or recognition.is_one_hot(node):
            self.relied_on[node] = None
            return True
        return False

    def _sum_of_spread(self, node, axis, shape):
        source = node.args[0]
        if not source.rank:
            count = math.prod(node.shape) // math.prod(shape)
            return self.spread(self.scale(count, source), shape)
        if axis is None:
            return self.scale(node.shape[1 - node.param], self.sum(source))
        if axis == node.param:
            return self.spread(self.sum(source), shape)
        return self.scale(node.shape[axis], source)

    def along(self, node: Node, like: Node, axis: int | None) -> Node:
        """Returns what was reduced along an axis, spread along it again."""
        if axis is None or like.rank == 1:
            return self.spread(node, like.shape)
        return self.spread(node, like.shape, 1 - axis)

    def softmax(self, node: Node, axis: int | None) -> Node:
        axis = None if node.rank == 1 else axis
        rest, _ = recognition.constant_part(self, node, axis)
        return self.make("softmax", [rest], axis, node.shape)

    def logsumexp(self, node: Node, axis: int | None) -> Node:
        axis = None if node.rank == 1 else axis
        rest, constants = recognition.constant_part(self, node, axis)
        shape = () if axis is None else (node.shape[1 - axis],)
        made = self.make("logsumexp", [rest], axis, shape)
        return self.add(made, *constants) if constants else made

    def extreme(self, op: str, node: Node, axis: int | None) -> Node:
        """Returns the largest ("max") or smallest ("min") entry along an axis."""
        axis = None if node.rank == 1 else axis
        shape = () if axis is None else (node.shape[1 - axis],)
        return self.make(op, [node], axis, shape)

    # --- products of matrices

    def transpose(self, node: Node, into: bool = False) -> Node:
        """Returns the transpose; `into` a product turns it round, (A B)^T = B^T A^T."""
        if node.rank < 2:
            return node
        shape = node.shape[::-1]
        factor, rest = coefficient(node)
        assert rest is not None
        if factor != 1:
            return self.scale(factor, self.transpose(rest, into))
        if rest.op == "transpose":
            return rest.args[0]
        if rest.op == "outer":
            return self.outer(rest.args[1], rest.args[0])
        if rest.op == "spread":
            axis = None if rest.param is None else 1 - rest.param
            return self.spread(rest.args[0], shape, axis)
        if rest.op == "matmul" and into and sum(a.op == "transpose" for a in rest.args):
            left, right = rest.args
            return self.matmul(self.transpose(right), self.transpose(left))
        return self.make("transpose", [rest], None, shape)

    def matmul(self, a: Node, b: Node) -> Node:
        """Returns a matrix times a matrix or a vector."""
        shape = (a.shape[0], *b.shape[1:])
        left, a_ = coefficient(a)
        right, b_ = coefficient(b)
        assert a_ is not None
        assert b_ is not None
        a, b = a_, b_
        if left * right == 0 or recognition.is_zero(a) or recognition.is_zero(b):
            return self.full(0, shape)
        if b.op == "spread":
            made = self._times_spread(a, b)
        elif a.op == "spread":
            made = self._spread_times(a, b)
        else:
            made = self.make("matmul", [a, b], None, shape)
        return self.scale(left * right, made)

    def _times_spread(self, a, b):
        source, shape = b.args[0], (a.shape[0], *b.shape[1:])
        if not source.rank:
            return self.multiply(source, self.spread(self.sum(a, 1), shape, 0))
        if b.param == 0:
            return self.spread(self.matmul(a, source), shape, 0)
        return self.outer(self.sum(a, 1), source)

    def _spread_times(self, a, b):
        source, shape = a.args[0], (a.shape[0], *b.shape[1:])
        if not source.rank:
            return self.multiply(source, self.spread(self.sum(b, 0), shape, 1))
        if b.rank == 1:
            total = self.sum(b) if a.param == 0 else self.dot(source, b)
            return self.multiply(total, source) if a.param == 0 else self.spread(total, shape)
        if a.param == 0:
            return self.outer(source, self.sum(b, 0))
        return self.spread(self.matmul(self.transpose(b), source), shape, 1)

    def outer(self, u: Node, v: Node) -> Node:
        """Returns the matrix u v^T of two vectors."""
        shape = (u.shape[0], v.shape[0])
        left, u_ = coefficient(u)
        right, v_ = coefficient(v)
        assert u_ is not None
        assert v_ is not None
        if u_.op == "spread":
            made = self.multiply(u_.args[0], self.spread(v_, shape, 1))
        elif v_.op == "spread":
            made = self.multiply(v_.args[0], self.spread(u_, shape, 0))
        else:
            made = self.make("outer", [u_, v_], None, shape)
        return self.scale(left * right, made)

    def dot(self, u: Node, v: Node) -> Node:
        """Returns the sum over all entries of the product of two vectors or matrices."""
        return self.sum(self.multiply(u, v))


def _is_bit(node: Node) -> bool:
    node = node.args[0] if node.op == "spread" else node
    return node.op == "number" and node.param in (0, 1)


def _is_layer(node: Node) -> bool:
    """Returns whether a sum is a product of matrices with a bias, which is kept together."""
    terms = [coefficient(term) for term in node.args]
    return all(factor > 0 for factor, _ in terms) and any(
        rest is not None and rest.op == "matmul" for _, rest in terms
    )


def _gathers(known: Fraction, exponent: Fraction | int) -> bool:
    exponent = Fraction(exponent)
    integers = known.denominator == exponent.denominator == 1
    # The product of two roots of x is x, but not where x is negative.
    return (known > 0) == (exponent > 0) and (integers or (known + exponent).denominator > 1)


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """Returns a power of a number where it is a fraction, whole exponents and roots of squares."""
    if exponent.denominator == 1:
        return Fraction(base**exponent)
    if exponent.denominator != 2 or base < 0:
        return None
    above, below = math.isqrt(base.numerator), math.isqrt(base.denominator)
    root = Fraction(above, below)
    return root**exponent.numerator if root * root == base else None
