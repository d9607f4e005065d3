"""From nodes to Python: a JAX function that gives the value and the gradients."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from diffcompare.symbolic.matrix import functions as library
from diffcompare.symbolic.matrix.calls import Definition
from diffcompare.symbolic.matrix.nodes import Node, coefficient, reachable
from diffcompare.symbolic.matrix.notation import COMPARED, Written

# Python's operators, from loose to tight.
COMPARE, ADD, MULTIPLY, SIGN, POWER, ATOM = range(6)
NAME = "value_and_grad"
LARGEST_LITERAL = 64  # entries of an array that is written out; a larger one is an argument


def literal(value: Fraction) -> str:
    """Returns a number in Python, which rounds to the fraction."""
    if value.denominator == 1 and abs(value) < 2**31:
        return str(value.numerator)
    return repr(float(value))


class Coder:
    """Writes nodes in Python.

    Args:
        functions: The functions that work entry by entry.
        given: The variables that hold nodes.
        dtype: Of what numbers alone fill.
    """

    def __init__(
        self,
        functions: Mapping[str, library.Function],
        given: Mapping[Node, str],
        arrays: Sequence[Any] = (),
        dtype: Any = None,
    ):
        self.functions, self.given, self.arrays, self.dtype = functions, given, arrays, dtype
        self.helpers: dict[str, None] = {}  # the functions that are called, in order
        self.slopes: set[str] = set()  # those whose derivative is
        self._bodies: dict[Node, Written] = {}

    def body(self, node: Node) -> str:
        for inner in reachable([node]):
            if inner not in self._bodies:
                self._bodies[inner] = self._operation(inner)
        return self._bodies[node].text

    def use(self, node: Node) -> str:
        body = self.body(node)
        return self.given.get(node, body)

    # --- arguments

    def _written(self, node: Node) -> Written:
        name = self.given.get(node)
        return self._bodies[node] if name is None else Written(name, ATOM)

    def _at(self, node: Node, level: int) -> str:
        return _raised(self._written(node), level)

    def _plain(self, node: Node) -> str:
        return self._written(node).text

    def _thin(self, node: Node) -> Written:
        """Returns a node that need not have its shape: it meets one that has."""
        if node.op != "spread" or node in self.given:
            if node.op == "scale" and node not in self.given and node.args[0].op == "spread":
                return self._scaled(node.param, self._thin(node.args[0]), node.args[0])
            return self._written(node)
        (x,) = node.args
        if not x.rank:
            return self._written(x)
        return Written(self._at(x, ATOM) + ("[None, :]" if node.param == 1 else "[:, None]"), ATOM)

    def _thinned(self, nodes: Sequence[Node]) -> list[Written]:
        """Returns arguments of an operation entry by entry: one at least has the full shape."""
        shape = max((node.shape for node in nodes), key=len)
        thick = [node for node in nodes if node.shape == shape and not _is_thin(node)]
        if thick or not shape:
            return [self._thin(node) for node in nodes]
        places = {_core(node).param for node in nodes}
        if len(shape) == 2 and {0, 1} <= places:  # a column and a row make a matrix
            return [self._thin(node) for node in nodes]
        return [self._written(nodes[0]), *(self._thin(node) for node in nodes[1:])]

    # --- operations

    def _operation(self, node: Node) -> Written:
        method = getattr(self, f"_{node.op}", None)
        if method is None:
            raise NotImplementedError(f"There is no Python code for the operation {node.op!r}.")
        return method(node)

    def _leaf(self, node):
        return Written(self.given.get(node, "z"), ATOM)

    _argument = _leaf

    def _array(self, node):
        array = np.asarray(self.arrays[node.param])
        return Written(f"jnp.asarray({array.tolist()!r}, {str(array.dtype)!r})", ATOM)

    def _number(self, node):
        text = literal(node.param)
        return Written(text, SIGN if text.startswith("-") else ATOM)

    def _special(self, node):
        return Written(f"float({str(float(node.param))!r})", ATOM)

    def _let(self, node):
        return self._written(node.args[0])

    def _stop(self, node):
        return self._called("jax.lax.stop_gradient({})", node)

    def _cast(self, node):
        x = node.args[0]
        if x.op == "onehot" and x not in self.given:
            labels = self._plain(x.args[0])
            return Written(f"jax.nn.one_hot({labels}, {x.param}, dtype={node.param!r})", ATOM)
        return Written(f"{self._at(x, ATOM)}.astype({node.param!r})", ATOM)

    def _onehot(self, node):
        labels = self._plain(node.args[0])
        return Written(f"jax.nn.one_hot({labels}, {node.param}, dtype=bool)", ATOM)

    def _range(self, node):
        return Written(f"jnp.arange({node.param}, dtype={str(node.dtype)!r})", ATOM)

    def _isfinite(self, node):
        return Written(f"jnp.isfinite({self._plain(node.args[0])})", ATOM)

    def _reshape(self, node):
        return Written(f"{self._at(node.args[0], ATOM)}.reshape({node.shape!r})", ATOM)

    def _add(self, node):
        terms = list(node.args)
        terms.sort(key=lambda term: coefficient(term)[0] < 0)
        text = ""
        for term, written in zip(terms, self._thinned(terms), strict=True):
            factor, rest = coefficient(term)
            if factor < 0 and term not in self.given:
                thin = Written("", ATOM) if rest is None else self._thin(rest)
                positive = self._scaled(-factor, thin, rest)
                piece = _raised(positive, MULTIPLY)
                text += f" - {piece}" if text else f"-{piece}"
            else:
                piece = _raised(written, ADD)
                text += f" + {piece}" if text else piece
        return Written(text, ADD)

    def _scale(self, node):
        return self._scaled(node.param, self._written(node.args[0]), node.args[0])

    def _scaled(self, factor: Fraction, written: Written, node: Node | None) -> Written:
        number = _only_number(node, written)
        if number is not None:
            text = literal(factor * number)
            return Written(text, SIGN if text.startswith("-") else ATOM)
        text = _raised(written, MULTIPLY)
        sign = "-" if factor < 0 else ""
        size = abs(factor)
        level = SIGN if sign else MULTIPLY
        if size == 1:
            return Written(f"{sign}{_raised(written, SIGN)}" if sign else text, level)
        if size.numerator == 1 and 1 < size.denominator < 2**24:
            return Written(f"{sign}{text} / {size.denominator}", MULTIPLY)
        if size.denominator < 2**24 and size.numerator < 2**24 and size.denominator > 1:
            return Written(f"{sign}{size.numerator} / {size.denominator} * {text}", MULTIPLY)
        dtype = None if node is None else node.dtype
        digits = literal(size) if size.denominator == 1 else _shortest(size, dtype)
        return Written(f"{sign}{digits} * {_raised(written, SIGN)}", MULTIPLY)

    def _multiply(self, node):
        written = dict(zip(node.args, self._thinned(node.args), strict=True))
        below = [
            arg for arg in node.args
            if arg.op == "power" and arg.param < 0 and arg not in self.given
            and arg.shape in ((), node.shape)
        ]  # fmt: skip
        above = [_raised(written[arg], SIGN) for arg in node.args if arg not in below]
        text = " * ".join(above) or "1"
        for arg in below:
            text += f" / {_raised(self._raised_to(arg.args[0], -arg.param), SIGN)}"
        return Written(text, MULTIPLY)

    def _power(self, node):
        (x,) = node.args
        if node.param > 0:
            return self._raised_to(x, node.param)
        return Written(f"1 / {_raised(self._raised_to(x, -node.param), SIGN)}", MULTIPLY)

    def _raised_to(self, x: Node, exponent: Fraction) -> Written:
        if exponent == 1:
            return self._written(x)
        if exponent == Fraction(1, 2):
            return Written(f"jnp.sqrt({self._plain(x)})", ATOM)
        if exponent == Fraction(3, 2):
            base = self._at(x, SIGN)
            return Written(f"({base} * jnp.sqrt({self._plain(x)}))", ATOM)
        return Written(f"{self._at(x, ATOM)} ** {literal(exponent)}", POWER)

    def _matmul(self, node):
        a, b = node.args
        left = self._at(a, SIGN)
        if a.op == "matmul" and a not in self.given:
            left = self._at(a, MULTIPLY)
        return Written(f"{left} @ {self._at(b, SIGN)}", MULTIPLY)

    def _outer(self, node):
        return Written(f"jnp.outer({', '.join(self._plain(arg) for arg in node.args)})", ATOM)

    def _transpose(self, node):
        return Written(f"{self._at(node.args[0], ATOM)}.T", ATOM)

    def _spread(self, node):
        (x,) = node.args
        if not x.rank:
            dtype = "" if x.dtype is not None else f", {str(self.dtype)!r}"
            return Written(f"jnp.full({node.shape!r}, {self._plain(x)}{dtype})", ATOM)
        return Written(f"jnp.broadcast_to({self._thin(node).text}, {node.shape!r})", ATOM)

    def _sum(self, node):
        (x,) = node.args
        is_product = x.op == "multiply" and x.rank == 1 and x not in self.given
        if is_product and len(x.args) == 2 and not any(_is_thin(arg) for arg in x.args):
            return Written(" @ ".join(self._at(arg, SIGN) for arg in x.args), MULTIPLY)
        return self._reduction("jnp.sum", node)

    def _reduction(self, name: str, node: Node) -> Written:
        axis = "" if node.param is None else f", axis={node.param}"
        return Written(f"{name}({self._plain(node.args[0])}{axis})", ATOM)

    def _softmax(self, node):
        return self._reduction("jax.nn.softmax", node)

    def _logsumexp(self, node):
        return self._reduction("jax.nn.logsumexp", node)

    def _max(self, node):
        return self._reduction("jnp.max", node)

    def _min(self, node):
        return self._reduction("jnp.min", node)

    def _function(self, node):
        self.helpers[node.param] = None
        return self._called(self.functions[node.param].code, node)

    def _slope(self, node):
        self.slopes.add(node.param)
        return self._called(f"{slope_name(node.param)}({{}})", node)

    def _called(self, code: str, node: Node) -> Written:
        return Written(code.format(self._plain(node.args[0])), ATOM)

    def _maximum(self, node):
        return self._elementwise("jnp.maximum", node)

    def _minimum(self, node):
        return self._elementwise("jnp.minimum", node)

    def _where(self, node):
        written = self._elementwise("jnp.where", node)
        _, yes, no = node.args
        if yes.op == no.op == "number":  # two integers would make an array of integers
            condition, *_ = self._thinned(node.args)
            numbers = ", ".join(str(float(side.param)) for side in (yes, no))
            return Written(f"jnp.where({condition.text}, {numbers})", ATOM)
        return written

    def _elementwise(self, name: str, node: Node) -> Written:
        texts = [written.text for written in self._thinned(node.args)]
        return Written(f"{name}({', '.join(texts)})", ATOM)

    def _compare(self, node):
        left, right = (_raised(written, ADD) for written in self._thinned(node.args))
        sign = {"=": "=="}.get(COMPARED[node.param], COMPARED[node.param])
        return Written(f"{left} {sign} {right}", COMPARE)

    def _share(self, node):
        left, right = (_raised(written, ADD) for written in self._thinned(node.args))
        larger, share = node.param
        greater, less = (">", "<") if larger else ("<", ">")
        no = f"jnp.where({left} {less} {right}, 0.0, {float(share)!r})"
        return Written(f"jnp.where({left} {greater} {right}, 1.0, {no})", ATOM)

    def _attains(self, node):
        x, extreme = node.args
        place = {None: "", 0: "[None, :]", 1: "[:, None]"}[node.param]
        dtype = str(x.dtype)
        text = f"({self._at(x, ADD)} == {self._at(extreme, ATOM)}{place}).astype({dtype!r})"
        return Written(text, ATOM)


def _shortest(value: Fraction, dtype: Any) -> str:
    if dtype == np.float32 and Fraction(float(np.float32(float(value)))) == value:
        return str(np.float32(float(value)))
    return repr(float(value))


def _raised(written: Written, level: int) -> str:
    return written.text if written.level >= level else f"({written.text})"


def _only_number(node: Node | None, written: Written) -> Fraction | None:
    """Returns the number that a node is, or that it is filled with where it is written thin."""
    if node is None:
        return Fraction(1)
    if node.op == "spread" and written.text == "1":
        node = node.args[0]
    return node.param if node.op == "number" else None


def _core(node: Node) -> Node:
    return node.args[0] if node.op == "scale" else node


def _is_thin(node: Node) -> bool:
    return _core(node).op in ("spread", "number")


def slope_name(function: str) -> str:
    """Returns the Python name of the derivative of a function."""
    return f"{function}_slope"


def helpers(coder: Coder, definitions: Mapping[str, Definition]) -> list[str]:
    """Returns the functions that the code calls, as lines."""
    lines: list[str] = []
    done: set[str] = set()
    wanted = [*coder.helpers, *(slope_name(name) for name in sorted(coder.slopes))]
    while wanted:
        name = wanted.pop(0)
        if name in done:
            continue
        done.add(name)
        is_slope = name.endswith("_slope") and name.removesuffix("_slope") in coder.functions
        function = name.removesuffix("_slope") if is_slope else name
        definition = definitions.get(function)
        if definition is None:
            body = coder.functions[function].slope_code.format("z") if is_slope else ""
            needed: list[str] = []
        else:
            inner = Coder(coder.functions, {definition.argument: "z"})
            body = inner.use(definition.slope if is_slope else definition.value)
            needed = [*inner.helpers, *(slope_name(slope) for slope in sorted(inner.slopes))]
        wanted += needed
        if body:
            lines = [f"def {name}(z):", f"    return {body}", "", "", *lines]
    return lines
