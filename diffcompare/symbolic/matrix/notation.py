"""Writing matrix expressions as LaTeX or as text: one grammar, two alphabets."""

import abc
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from diffcompare.symbolic import names, numerals
from diffcompare.symbolic.matrix import functions as library


class Written(NamedTuple):
    """A piece of a formula, and how tightly it holds together."""

    text: str
    level: int


# From loose to tight: a sum, a product entry by entry, a product, a power, a symbol.
ADD, HADAMARD, PRODUCT, POWER, ATOM = range(5)

COMPARED = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "=", "ne": "!="}


class Notation(abc.ABC):
    """How the parts of a formula are written."""

    @abc.abstractmethod
    def symbol(self, name: str, rank: int) -> str:
        """Returns a user's name."""

    @abc.abstractmethod
    def numbered(self, stem: str, number: int, rank: int) -> str:
        """Returns the name of an intermediate value."""

    @abc.abstractmethod
    def number(self, value: Fraction) -> str:
        """Returns a positive number."""

    @abc.abstractmethod
    def parentheses(self, text: str) -> str: ...

    @abc.abstractmethod
    def hadamard(self, factors: Sequence[str]) -> str: ...

    @abc.abstractmethod
    def entrywise_quotient(self, above: str, below: str) -> str: ...

    @abc.abstractmethod
    def product(self, factors: Sequence[str]) -> str: ...

    @abc.abstractmethod
    def quotient(self, above: Written, below: Written) -> Written: ...

    @abc.abstractmethod
    def transpose(self, text: str) -> str: ...

    @abc.abstractmethod
    def power(self, text: str, exponent: Fraction, rank: int) -> str: ...

    @abc.abstractmethod
    def root(self, text: str) -> str: ...

    @abc.abstractmethod
    def squared_norm(self, text: str, rank: int) -> str: ...

    @abc.abstractmethod
    def inner(self, left: str, right: str) -> str: ...

    @abc.abstractmethod
    def ones(self) -> str: ...

    @abc.abstractmethod
    def operator(self, name: str, *arguments: str) -> str:
        """Returns the application of an operator that has a name."""

    @abc.abstractmethod
    def function(self, function: library.Function, argument: str, is_slope: bool) -> str: ...

    @abc.abstractmethod
    def bracket(self, left: str, relation: str, right: str) -> str:
        """Returns 1 where the relation holds and 0 elsewhere."""

    @abc.abstractmethod
    def derivative(self, value: str, leaf: str) -> str: ...

    def raised(self, piece: Written, level: int) -> str:
        """Returns a piece, in parentheses unless it holds together as tightly as asked."""
        return piece.text if piece.level >= level else self.parentheses(piece.text)


class Latex(Notation):
    """LaTeX, of the kind that KaTeX, MathJax and matplotlib read too."""

    def symbol(self, name, rank):
        return _bold(names.latex(name)) if rank else names.latex(name)

    def numbered(self, stem, number, rank):
        return self.symbol(stem, rank) + f"_{{{number}}}"

    def number(self, value):
        if value.denominator == 1:
            return str(value.numerator)
        if value.denominator < 10_000 and value.numerator < 10_000:
            return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
        return numerals.latex(numerals.shortest(value))

    def parentheses(self, text):
        is_tall = any(part in text for part in (r"\frac", r"\sqrt", r"\left"))
        return rf"\left({text}\right)" if is_tall else f"({text})"

    def hadamard(self, factors):
        return r" \odot ".join(factors)

    def entrywise_quotient(self, above, below):
        return rf"{above} \oslash {below}"

    def product(self, factors):
        return " ".join(factors)

    def quotient(self, above, below):
        return Written(rf"\frac{{{above.text}}}{{{below.text}}}", PRODUCT)

    def transpose(self, text):
        return text + r"^\top"

    def power(self, text, exponent, rank):
        sign = r"\odot " if rank else ""
        return f"{text}^{{{sign}{exponent}}}"

    def root(self, text):
        return rf"\sqrt{{{text}}}"

    def squared_norm(self, text, rank):
        index = "_F" if rank == 2 else ""
        is_tall = r"\frac" in text
        bars = (r"\left\|", r"\right\|") if is_tall else (r"\|", r"\|")
        return rf"{bars[0]}{text}{bars[1]}{index}^2"

    def inner(self, left, right):
        return rf"\langle {left},\, {right} \rangle"

    def ones(self):
        return r"\mathbf{1}"

    def operator(self, name, *arguments):
        word = name if name.startswith("\\") else rf"\mathrm{{{name}}}"
        return word + self.parentheses(r",\, ".join(arguments))

    def function(self, function, argument, is_slope):
        return function.latex + ("'" if is_slope else "") + self.parentheses(argument)

    def bracket(self, left, relation, right):
        sign = {">=": r"\geq", "<=": r"\leq", "!=": r"\neq"}.get(relation, relation)
        return f"[{left} {sign} {right}]"

    def derivative(self, value, leaf):
        return rf"\frac{{\partial {value}}}{{\partial {leaf}}}"


class Text(Notation):
    """Plain text, in which `o` multiplies entry by entry."""

    def __init__(self, hadamard: str = "o"):
        self._hadamard = hadamard

    def symbol(self, name, rank):
        return name

    def numbered(self, stem, number, rank):
        return f"{stem}{number}"

    def number(self, value):
        if value.denominator == 1:
            return str(value.numerator)
        if value.denominator < 10_000 and value.numerator < 10_000:
            return f"{value.numerator}/{value.denominator}"
        return numerals.shortest(value)

    def parentheses(self, text):
        return f"({text})"

    def hadamard(self, factors):
        return f" {self._hadamard} ".join(factors)

    def entrywise_quotient(self, above, below):
        return f"{above} / {below}"

    def product(self, factors):
        return " ".join(factors)

    def quotient(self, above, below):
        return Written(f"{self.raised(above, PRODUCT)} / {self.raised(below, POWER)}", HADAMARD)

    def transpose(self, text):
        return f"{text}^T"

    def power(self, text, exponent, rank):
        sign = self._hadamard if rank else ""
        return f"{text}^{sign}{exponent if exponent.denominator == 1 else f'({exponent})'}"

    def root(self, text):
        return f"sqrt({text})"

    def squared_norm(self, text, rank):
        return f"||{text}||^2"

    def inner(self, left, right):
        return f"<{left}, {right}>"

    def ones(self):
        return "1"

    def operator(self, name, *arguments):
        return f"{name.removeprefix(chr(92))}({', '.join(arguments)})"

    def function(self, function, argument, is_slope):
        return f"{function.text}{chr(39) if is_slope else ''}({argument})"

    def bracket(self, left, relation, right):
        return f"[{left} {relation} {right}]"

    def derivative(self, value, leaf):
        return f"d{value}/d{leaf}" if re.fullmatch(r"\w+", leaf) else f"d{value}/d({leaf})"


def _bold(latex: str) -> str:
    """Returns a name of `names.latex` with its stem in bold."""
    match = re.fullmatch(r"(\\mathrm\{.*\}|\\[A-Za-z]+|.)(_\{.*\})?", latex, re.DOTALL)
    if match is None:
        return rf"\boldsymbol{{{latex}}}"
    stem, index = match[1], match[2] or ""
    if stem.startswith(r"\mathrm"):
        return r"\mathbf" + stem.removeprefix(r"\mathrm") + index
    is_greek = stem.startswith("\\") or not stem.isascii()
    return (rf"\boldsymbol{{{stem}}}" if is_greek else rf"\mathbf{{{stem}}}") + index


def distinct(notation: Notation, leaves: Sequence[str], ranks: Sequence[int]) -> list[str]:
    """Returns how the leaves are written, no two alike."""
    found: list[str] = []
    for name, rank in zip(leaves, ranks, strict=True):
        text = notation.symbol(name, rank)
        if text in found:  # W1 and W_1 are both W with an index
            escaped = re.sub(r"([_&%$#{}])", r"\\\1", name).replace(" ", r"\ ")
            text = rf"\{'mathbf' if rank else 'mathrm'}{{{escaped}}}"
        while text in found:
            text += "'"
        found.append(text)
    return found
