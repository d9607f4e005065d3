"""From nodes to formulas: every operation of the algebra in some notation."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from diffcompare.symbolic.matrix import functions as library
from diffcompare.symbolic.matrix.nodes import Node, coefficient, reachable
from diffcompare.symbolic.matrix.notation import (
    ADD,
    ATOM,
    COMPARED,
    HADAMARD,
    POWER,
    PRODUCT,
    Notation,
    Written,
)


class Writer:
    """Writes nodes in a notation.

    A node that has a name is written by it wherever it is used; `body` is what it is.
    """

    def __init__(
        self,
        notation: Notation,
        functions: Mapping[str, library.Function],
        given: Mapping[Node, str],
    ):
        self.notation, self.functions, self.given = notation, functions, given
        self._bodies: dict[Node, Written] = {}
        self._uses: dict[Node, Written] = {}

    def body(self, node: Node) -> str:
        """Returns what a node is, in terms of named nodes."""
        self._write([node])
        return self._bodies[node].text

    def use(self, node: Node) -> str:
        """Returns a node as it is used: its name, if it has one."""
        self._write([node])
        return self._uses[node].text

    def _write(self, roots: Sequence[Node]) -> None:
        for node in reachable(roots):  # not by recursion: a network may be deep
            if node not in self._bodies:
                written = self._operation(node)
                self._bodies[node] = written
                name = self.given.get(node)
                self._uses[node] = written if name is None else Written(name, ATOM)

    def _operation(self, node: Node) -> Written:
        method = getattr(self, f"_{node.op}", None)
        if method is not None:
            return method(node)
        args = [self._uses[arg].text for arg in node.args]
        if node.op in ("let", "cast", "stop"):
            return self._uses[node.args[0]]
        return Written(self.notation.operator(node.op, *args), POWER)

    def _at(self, node: Node, level: int) -> str:
        return self.notation.raised(self._uses[node], level)

    # --- symbols and numbers

    def _leaf(self, node):
        return Written(self.given.get(node, "?"), ATOM)

    _array = _argument = _leaf

    def _number(self, node):
        return self._signed(node.param)

    def _signed(self, value: Fraction) -> Written:
        text = self.notation.number(abs(value))
        loose = value < 0 or ("/" in text)
        return Written(("-" if value < 0 else "") + text, ADD if value < 0 else
                       PRODUCT if loose else ATOM)  # fmt: skip

    def _special(self, node):
        return Written(str(float(node.param)), ATOM)

    def _range(self, node):
        return Written(self.notation.operator("range", str(node.param)), POWER)

    def _onehot(self, node):
        return Written(self.notation.operator("onehot", self._uses[node.args[0]].text), POWER)

    # --- sums and products

    def _add(self, node):
        terms = [(coefficient(term), term) for term in node.args]
        # What is added comes before what is taken away.
        terms.sort(key=lambda pair: pair[0][0] < 0)
        text = ""
        for (factor, _), term in terms:
            piece = self._term(term, abs(factor))
            sign = "-" if factor < 0 else "+"
            text += f" {sign} {piece}" if text else (f"-{piece}" if sign == "-" else piece)
        return Written(text, ADD)

    def _term(self, term: Node, factor: Fraction) -> str:
        """Returns a term of a sum without its sign."""
        if term in self.given and factor == coefficient(term)[0]:
            return self.given[term]
        _, rest = coefficient(term)
        if rest is None:
            return self.notation.number(factor)
        if rest.op == "spread" and rest.args[0].op == "number":  # a number, added to each entry
            return self.notation.number(factor * rest.args[0].param)
        piece = self._scaled(factor, rest)
        # A sum that is added needs no parentheses.
        flat = factor == 1 and coefficient(term)[0] > 0
        return self.notation.raised(piece, ADD if flat else HADAMARD)

    def _scale(self, node):
        return self._scaled(node.param, node.args[0])

    def _scaled(self, factor: Fraction, node: Node) -> Written:
        inner = self._uses[node]
        if factor == 1:
            return inner
        level = min(inner.level, PRODUCT)
        text = self.notation.raised(inner, HADAMARD)
        if factor == -1:
            return Written(f"-{text}", ADD)
        if node.op == "spread" and node.args[0].op == "number" and not node.args[0].rank:
            text = self.notation.ones() if node not in self.given else text
        number = self.notation.number(abs(factor))
        product = self.notation.product([number, text])
        return Written(f"-{product}", ADD) if factor < 0 else Written(product, max(level, HADAMARD))

    def _multiply(self, node):
        above, below, left, right = self._factors(node)
        scalars = [
            self._at(arg, POWER if arg.op == "sum" else PRODUCT) for arg in above if not arg.rank
        ]
        arrays = [arg for arg in above if arg.rank]
        lower = [(arg, exponent) for arg, exponent in below if not arg.rank]
        under = [(arg, exponent) for arg, exponent in below if arg.rank]
        made = self._entrywise(arrays, under)
        if left or right:
            pieces = [*left, *([self.notation.raised(made, PRODUCT)] if made else []), *right]
            made = Written(self.notation.product(pieces), PRODUCT)
        if lower:
            one = Written("1", ATOM)
            bottom = self._product_of([self._raised_to(arg, e) for arg, e in lower]) or one
            top = self._product_of([Written(s, PRODUCT) for s in scalars]) or one
            quotient = self.notation.quotient(top, bottom)
            if made is None:
                return quotient
            scalars = [self.notation.raised(quotient, PRODUCT)]
        if made is None:
            return Written(self.notation.product(scalars), PRODUCT)
        if not scalars:
            return made
        text = self.notation.product([*scalars, self.notation.raised(made, HADAMARD)])
        return Written(text, min(made.level, PRODUCT))

    def _factors(self, node):
        """Splits factors into those above and below a bar, and diagonal matrices at the sides."""
        above: list[Node] = []
        below: list[tuple[Node, Fraction]] = []
        left: list[str] = []
        right: list[str] = []
        for arg in node.args:
            if arg.op == "spread" and arg.args[0].rank and arg not in self.given:
                (right if arg.param == 1 else left).append(self._diagonal(arg.args[0]))
            elif arg.op == "power" and arg.param < 0 and arg not in self.given:
                below.append((arg.args[0], -arg.param))
            else:
                above.append(arg)
        return above, below, left, right

    def _diagonal(self, vector: Node) -> str:
        if vector.op == "power" and vector.param < 0 and vector not in self.given:
            inside = self.notation.operator("diag", self._uses[vector.args[0]].text)
            return self.notation.power(inside, vector.param, 0)
        return self.notation.operator("diag", self._uses[vector].text)

    def _entrywise(self, arrays: Sequence[Node], under: Sequence[tuple[Node, Fraction]]):
        if not arrays and not under:
            return None
        if len(arrays) == 1 and not under:
            return self._uses[arrays[0]]
        text = self.notation.hadamard([self._at(arg, PRODUCT) for arg in arrays])
        text = text or self.notation.ones()
        for arg, exponent in under:
            below = self.notation.raised(self._raised_to(arg, exponent), PRODUCT)
            text = self.notation.entrywise_quotient(text, below)
        return Written(text, HADAMARD)

    def _product_of(self, pieces: Sequence[Written]) -> Written | None:
        if len(pieces) < 2:
            return pieces[0] if pieces else None
        texts = [self.notation.raised(piece, PRODUCT) for piece in pieces]
        return Written(self.notation.product(texts), PRODUCT)

    def _power(self, node):
        (x,) = node.args
        if node.param > 0:
            return self._raised_to(x, node.param)
        below = self._raised_to(x, -node.param)
        if not node.rank:
            return self.notation.quotient(Written("1", ATOM), below)
        text = self.notation.entrywise_quotient(
            self.notation.ones(), self.notation.raised(below, PRODUCT)
        )
        return Written(text, HADAMARD)

    def _raised_to(self, x: Node, exponent: Fraction) -> Written:
        if exponent == 1:
            return self._uses[x]
        if exponent == Fraction(1, 2):
            return Written(self.notation.root(self._uses[x].text), POWER)
        return Written(self.notation.power(self._at(x, ATOM), exponent, x.rank), POWER)

    # --- matrices

    def _matmul(self, node):
        a, b = node.args
        return Written(self.notation.product([self._at(a, PRODUCT), self._at(b, PRODUCT)]), PRODUCT)

    def _outer(self, node):
        u, v = node.args
        right = self.notation.transpose(self._at(v, ATOM))
        return Written(self.notation.product([self._at(u, PRODUCT), right]), PRODUCT)

    def _transpose(self, node):
        return Written(self.notation.transpose(self._at(node.args[0], ATOM)), POWER)

    def _spread(self, node):
        (x,) = node.args
        ones = self.notation.ones()
        if not x.rank:
            both = [ones, self.notation.transpose(ones)] if node.rank == 2 else [ones]
            if x.op == "number" and x.param == 1:
                return Written(self.notation.product(both), PRODUCT if node.rank == 2 else ATOM)
            if x.op == "number" and x.param == 0:
                return Written("0", ATOM)
            return Written(self.notation.product([self._at(x, PRODUCT), *both]), PRODUCT)
        if node.param == 1:
            pieces = [ones, self.notation.transpose(self._at(x, ATOM))]
        else:
            pieces = [self._at(x, PRODUCT), self.notation.transpose(ones)]
        return Written(self.notation.product(pieces), PRODUCT)

    def _sum(self, node):
        (x,) = node.args
        ones = self.notation.ones()
        if node.param is not None:
            matrix = self._at(x, PRODUCT)
            if node.param == 0:
                matrix = self.notation.transpose(self._at(x, ATOM))
            return Written(self.notation.product([matrix, ones]), PRODUCT)
        if x.op == "power" and x.param == 2 and x not in self.given:
            inside = self._uses[x.args[0]].text
            return Written(self.notation.squared_norm(inside, x.rank), POWER)
        if x.op == "multiply" and x not in self.given and _is_plain(x):
            first, *others = x.args
            rest = [self._at(arg, PRODUCT) for arg in others]
            second = rest[0] if len(rest) == 1 else self.notation.hadamard(rest)
            if x.rank == 2:
                return Written(self.notation.inner(self._uses[first].text, second), ATOM)
            second = second if len(rest) == 1 else self.notation.parentheses(second)
            left = self.notation.transpose(self._at(first, ATOM))
            return Written(self.notation.product([left, second]), PRODUCT)
        pieces = [self.notation.transpose(ones), self._at(x, PRODUCT)]
        return Written(self.notation.product(pieces + [ones] * (x.rank - 1)), PRODUCT)

    # --- functions

    def _function(self, node):
        return self._called(node, False)

    def _slope(self, node):
        return self._called(node, True)

    def _called(self, node: Node, is_slope: bool) -> Written:
        function = self.functions[node.param]
        argument = self._uses[node.args[0]].text
        return Written(self.notation.function(function, argument, is_slope), ATOM)

    def _softmax(self, node):
        return self._along("softmax", node)

    def _logsumexp(self, node):
        return self._along("logsumexp", node)

    def _max(self, node):
        return self._along(r"\max", node)

    def _min(self, node):
        return self._along(r"\min", node)

    def _along(self, name: str, node: Node) -> Written:
        """Writes what is taken along the rows; along columns it is that of the transpose."""
        (x,) = node.args
        if node.param != 0:
            return Written(self.notation.operator(name, self._uses[x].text), ATOM)
        turned = self.notation.operator(name, self.notation.transpose(self._at(x, ATOM)))
        return Written(self.notation.transpose(turned) if node.rank == 2 else turned, POWER)

    def _maximum(self, node):
        return Written(self.notation.operator(r"\max", *self._plain(node)), POWER)

    def _minimum(self, node):
        return Written(self.notation.operator(r"\min", *self._plain(node)), POWER)

    def _plain(self, node: Node) -> list[str]:
        """Returns the arguments, numbers that are spread as numbers."""
        return [
            self._uses[arg.args[0] if arg.op == "spread" and not arg.args[0].rank else arg].text
            for arg in node.args
        ]

    def _compare(self, node):
        left, right = self._plain(node)
        return Written(self.notation.bracket(left, COMPARED[node.param], right), ATOM)

    def _where(self, node):
        return Written(self.notation.operator("where", *self._plain(node)), POWER)

    def _share(self, node):
        left, right = self._plain(node)
        larger, share = node.param
        relation = ">" if larger else "<"
        text = self.notation.bracket(left, relation, right)
        if share == 0:
            return Written(text, ATOM)
        tie = self.notation.bracket(left, "=", right)
        tie = tie if share == 1 else self.notation.product([self.notation.number(share), tie])
        return Written(f"{text} + {tie}", ADD)

    def _attains(self, node):
        x, extreme = node.args
        return Written(
            self.notation.bracket(self._uses[x].text, "=", self._uses[extreme].text), ATOM
        )


def _is_plain(product: Node) -> bool:
    """Returns whether a product is of arrays only, with none below a bar or spread."""
    return all(arg.rank and arg.op != "spread" and not (arg.op == "power" and arg.param < 0)
               for arg in product.args)  # fmt: skip
