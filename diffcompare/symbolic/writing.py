"""Equations of a jaxpr as lines of Python, or of LaTeX.

A `Writer` walks over equations and keeps text in place of values. What is used once stands
where it is used, as far as a reader can follow; what is used twice gets a name. How a
primitive is written stands in a table for each language, see `python_table` and `latex_table`.
"""

import abc
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from diffcompare._jaxpr import walk

# How tightly an operator binds; a function call and a name bind tightest.
SUM, PRODUCT, SIGN, POWER, ATOM = 1, 2, 3, 4, 9
LONGEST = 60  # letters of an expression that still stands within another

# What moves or converts entries and computes none; it does not count as an operation.
FREE = frozenset(
    [
        "broadcast_in_dim",
        "concatenate",
        "convert_element_type",
        "copy",
        "copy_p",
        "device_put",
        "dynamic_slice",
        "dynamic_update_slice",
        "expand_dims",
        "gather",
        "iota",
        "name",
        "optimization_barrier",
        "pad",
        "reduce_precision",
        "reshape",
        "rev",
        "scatter",
        "sharding_constraint",
        "slice",
        "split",
        "squeeze",
        "stack",
        "stop_gradient",
        "tile",
        "transpose",
        "unstack",
    ]
)


class Term(NamedTuple):
    """The text of a value."""

    text: str
    binds: int = ATOM
    literal: Any = None  # the number, where it is one
    negated: str = ""  # the text without its minus sign, where it has one


class Several(NamedTuple):
    """The text of an operation with several outputs."""

    text: str
    pattern: Callable[[list[str]], str]  # from names to the left side of an assignment


Rule = Callable[["Writer", JaxprEqn, list[Term]], Term | Several]


class Language(abc.ABC):
    """How things are written."""

    table: Mapping[str, Rule]

    @abc.abstractmethod
    def number(self, value: Any) -> str:
        """Returns a scalar."""

    @abc.abstractmethod
    def array(self, value: np.ndarray) -> str | None:
        """Returns a small array, or None where it is better passed as an argument."""

    @abc.abstractmethod
    def unknown(self, writer: "Writer", eqn: JaxprEqn, terms: list[Term]) -> Term | Several:
        """Returns what is written for a primitive that is not in the table."""

    @abc.abstractmethod
    def name(self, prefix: str, number: int) -> str:
        """Returns the name of a value."""


@dataclasses.dataclass
class Writer:
    """Lines that are being written."""

    language: Language
    prefix: str  # of names for what is used twice
    fresh: Any  # an iterator over integers, shared with inner writers
    lines: list[str] = dataclasses.field(default_factory=list)
    operations: int = 0

    def inner(self) -> "Writer":
        """Returns a writer for the body of a function; what it counts has to be added."""
        return Writer(self.language, self.prefix, self.fresh)

    def assign(self, text: str) -> Term:
        """Writes a line and returns the name that it defines."""
        name = self.new_name()
        self.lines.append(f"{name} = {text}")
        return Term(name)

    def new_name(self) -> str:
        return self.language.name(self.prefix, next(self.fresh))

    def constant(self, value: Any) -> Term:
        """Returns a number or a small array."""
        value = np.asarray(value) if not hasattr(value, "dtype") else value
        is_number = np.ndim(value) == 0 and not isinstance(value, jax.core.Tracer)
        if is_number and (jnp.issubdtype(value.dtype, np.number) or value.dtype == bool):
            number = np.asarray(value).item()
            text = self.language.number(number)
            return Term(text, SIGN if text.startswith("-") else ATOM, number)
        array = None if isinstance(value, jax.core.Tracer) else self.language.array(value)
        if array is None:
            raise NotImplementedError(
                f"A derivation cannot write down an array of shape {np.shape(value)} that is "
                "computed while the function is traced. Pass it as an argument."
            )
        return self.assign(array)

    def body(self, jaxpr: ClosedJaxpr, operands: Sequence[Term]) -> list[Term]:
        """Writes the equations of a jaxpr, and returns its outputs."""
        closed = walk.close(jaxpr)
        inner = closed.jaxpr
        known: dict[Any, Term] = dict(zip(inner.invars, operands, strict=True))
        for variable, value in zip(inner.constvars, closed.consts, strict=True):
            known[variable] = self.constant(value)
        uses = Counter(
            atom for eqn in inner.eqns for atom in [*eqn.invars] if not isinstance(atom, Literal)
        )
        uses.update(atom for atom in inner.outvars if not isinstance(atom, Literal))

        def read(atom: Any) -> Term:
            if isinstance(atom, Literal):
                aval: Any = atom.aval
                return self.constant(np.asarray(atom.val, aval.dtype))
            return known[atom]

        for eqn, _ in walk.live_equations(inner):
            terms = self.equation(eqn, [read(atom) for atom in eqn.invars])
            for variable, term in zip(eqn.outvars, terms, strict=True):
                is_compound = term.binds < ATOM or "(" in term.text
                limit = 1 if len(term.text) <= LONGEST else 0
                if is_compound and uses[variable] > limit:
                    term = self.assign(term.text)
                known[variable] = term
        return [read(atom) for atom in inner.outvars]

    def equation(self, eqn: JaxprEqn, terms: list[Term]) -> list[Term]:
        """Writes one equation, and returns its outputs, which may stand within others."""
        body = walk.called(eqn)
        if body is not None:
            return self.body(body, terms)
        written = self.written(eqn, terms)
        if isinstance(written, Term):
            return [written]
        names = [self.new_name() for _ in eqn.outvars]
        self.lines.append(f"{written.pattern(names)} = {written.text}")
        return [Term(name) for name in names]

    def written(self, eqn: JaxprEqn, terms: list[Term]) -> Term | Several:
        """Returns an equation as text, without assigning it."""
        name = eqn.primitive.name
        if name not in FREE:
            self.operations += 1
        rule = self.language.table.get(name, self.language.unknown)
        return rule(self, eqn, terms)


def at_least(term: Term, binds: int) -> str:
    """Returns the text of a term, in parentheses where it binds less."""
    return term.text if term.binds >= binds else f"({term.text})"


def infix(sign: str, binds: int, is_associative: bool = True) -> Rule:
    """Returns the rule of a binary operator."""

    def rule(writer, eqn, terms):
        left, right = terms
        text = f"{at_least(left, binds)} {sign} {at_least(right, binds + 1)}"
        return Term(text, binds)

    return rule


def added(writer: Writer, left: Term, right: Term) -> Term:
    """Returns a sum, or a difference where that is one operation less."""
    for first, second in ((left, right), (right, left)):
        if second.negated and first is not second:
            writer.operations -= 1
            return Term(f"{at_least(first, SUM)} - {second.negated}", SUM)
    return Term(f"{at_least(left, SUM)} + {at_least(right, SUM + 1)}", SUM)


def negated(operand: Term) -> Term:
    """Returns the negative of a term."""
    inner = at_least(operand, SIGN)
    return Term(f"-{inner}", SIGN, negated=at_least(operand, PRODUCT))


def finite(value: Any) -> bool:
    """Returns whether a number is neither infinite nor NaN."""
    return isinstance(value, int) or math.isfinite(value)


def ranges(eqn: JaxprEqn) -> list[str]:
    """Returns the range of each axis that a `slice` equation takes, as Python writes it."""
    starts, stops = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or [1] * len(starts)
    lengths: Any = eqn.invars[0].aval
    parts = []
    for start, stop, stride, length in zip(starts, stops, strides, lengths.shape, strict=True):
        text = f"{start or ''}:{'' if stop == length else stop}"
        parts.append(text if stride == 1 else f"{text}:{stride}")
    return parts
