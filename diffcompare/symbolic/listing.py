"""A program written out: one line for each operation, and one for each derivative."""

import itertools
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sympy

from diffcompare._jaxpr import walk
from diffcompare.symbolic import names as naming
from diffcompare.symbolic import operations, printing, rules
from diffcompare.symbolic.program import Node, Operation, Program
from diffcompare.symbolic.python_table import Python
from diffcompare.symbolic.writing import (
    ATOM,
    PRODUCT,
    SIGN,
    SUM,
    Language,
    Term,
    Writer,
    added,
    at_least,
)

Phase = Literal["forward", "backward", "gradient"]


class Line(NamedTuple):
    """What defines one value of a program."""

    phase: Phase
    name: str
    lines: tuple[str, ...]  # the last one is the definition, those before it are parts of it
    uses: frozenset[str]  # the names of other lines that it needs


class Listing(NamedTuple):
    """A program, written out in one language."""

    arguments: tuple[str, ...]  # of the constants, then of the leaves
    lines: tuple[Line, ...]
    value: str
    gradients: tuple[str, ...]  # of the wanted leaves
    operations: int
    named: "Named"


class Named(NamedTuple):
    """Which values have lines of their own, so that both languages agree."""

    numbers: dict[Node, int]
    slopes: set[Node]


def write(
    program: Program,
    names: Sequence[str],
    wanted: Sequence[int],
    language: Language,
    named: Named | None = None,
) -> Listing:
    """Returns a program of a scalar function, written out.

    Args:
        program: The program.
        names: Of the constants, then of the leaves.
        wanted: The leaves to differentiate by.
        language: What is written.
        named: Which values get lines, as another listing has it; None decides.
    """
    return _Scribe(program, names, language, named).listing(wanted)


class _Scribe:
    """Writes lines, and knows what every node is called."""

    def __init__(self, program, names, language: Language, named: Named | None):
        self.program = program
        self.language = language
        self.is_python = isinstance(language, Python)
        self.given = named
        self.named = Named({}, set()) if named is None else named
        plain = naming.identifiers(names)
        taken = [*names, *plain]
        self.value_prefix = naming.prefix(taken, ("v", "u", "t", "h", "r", "q"))
        temporary = naming.prefix([*taken, self.value_prefix], ("s", "t", "p", "k", "m"))
        slope = next(p for p in ("d_", "grad_", "bar_", "slope_of_")
                     if not any(name.startswith(p) for name in taken))  # fmt: skip
        self.bar = (lambda name: f"{slope}{name}") if self.is_python else _bar
        self.writer = Writer(self.language, temporary, itertools.count(1))
        self.numbers = itertools.count(1)
        shown = plain if self.is_python else [naming.latex(name) for name in names]
        inputs = [*program.constants, *program.inputs]
        self.terms = {n: Term(name) for n, name in zip(inputs, shown, strict=True)}
        self.arguments = tuple(shown)
        self.done: list[Line] = []
        self.marks = 0

    def listing(self, wanted: Sequence[int]) -> Listing:
        for operation in self.program.operations:
            self._forward(operation)
        (output,) = self.program.outputs
        value = self._read(output).text
        gradients = self._backward(output, [self.program.inputs[index] for index in wanted])
        return Listing(
            self.arguments,
            tuple(self.done),
            value,
            tuple(gradients),
            self.writer.operations,
            self.named,
        )

    def _read(self, node: Node) -> Term:
        if node not in self.terms:
            self.terms[node] = self.writer.constant(node.constant)
        return self.terms[node]

    def _close(self, phase: Phase, name: str) -> None:
        """Ends the line that defines a name: what was written since the last one is part of it."""
        lines = tuple(self.writer.lines[self.marks :])
        self.marks = len(self.writer.lines)
        known = {line.name for line in self.done}
        words = set(re.findall(r"[^\W\d][\w{},\\]*", " ".join(lines)))
        uses = known & words if self.is_python else frozenset(k for k in known if k in str(lines))
        self.done.append(Line(phase, name, lines, frozenset(uses)))

    def _forward(self, operation: Operation) -> None:
        eqn = operation.eqn
        terms = [self._read(node) for node in operation.inputs]
        body = walk.called(eqn)
        known = body and operations.known_call(eqn.primitive.name, body)
        if known and known in self.language.table:
            self.writer.operations += 1
            written: Any = self.language.table[known](self.writer, eqn, terms)
        elif body is not None:
            found = self.writer.body(body, terms)
            self._name_all(operation.outputs, found)
            return
        else:
            written = self.writer.written(eqn, terms)
        if isinstance(written, Term):
            self._name_all(operation.outputs, [written])
            return
        names = [self._new_name(node) for node in operation.outputs]
        self.writer.lines.append(f"{written.pattern(names)} = {written.text}")
        self.terms.update(zip(operation.outputs, map(Term, names), strict=True))
        self._close("forward", names[0])

    def _name_all(self, nodes: Sequence[Node], terms: Sequence[Term]) -> None:
        for node, term in zip(nodes, terms, strict=True):
            is_plain = self._is_plain(term) if self.given is None else node not in self.named[0]
            if not is_plain:
                name = self._new_name(node)
                self.writer.lines.append(f"{name} = {term.text}")
                self._close("forward", name)
                term = Term(name)
            self.terms[node] = term

    def _is_plain(self, term: Term) -> bool:
        """Returns whether a term is a name, or a number, that needs no line of its own."""
        if term.literal is not None:
            return True
        return term.text.isidentifier() or any(term.text == t.text for t in self.terms.values())

    def _new_name(self, node: Node) -> str:
        if self.given is None:
            self.named.numbers[node] = next(self.numbers)
        return self.language.name(self.value_prefix, self.named.numbers[node])

    def _backward(self, output: Node, leaves: Sequence[Node]) -> list[str]:
        parts: dict[Node, list[Term]] = {}
        if output.is_active:
            parts[output] = [Term(self.language.number(1.0), literal=1.0)]
        for operation in reversed(self.program.operations):
            arrived = [self._arrived(node, parts.pop(node, [])) for node in operation.outputs]
            if operation.rule is None or all(term is None for term in arrived):
                continue
            for node, term in zip(operation.inputs, self._pulled(operation, arrived), strict=True):
                if node.is_active and term is not None:
                    parts.setdefault(node, []).append(term)
        return [self._gradient(node, parts.get(node, [])) for node in leaves]

    def _arrived(self, node: Node, parts: list[Term]) -> Term | None:
        if not parts:
            return None
        total = self._total(parts)
        if self.given is None:
            if self._is_plain(total) or total.text in {line.name for line in self.done}:
                return total
            self.named.slopes.add(node)
        elif node not in self.named.slopes:
            return total
        name = self.bar(self.terms[node].text)
        self.writer.lines.append(f"{name} = {total.text}")
        self._close("backward", name)
        return Term(name)

    def _total(self, parts: list[Term]) -> Term:
        total = parts[0]
        for part in parts[1:]:
            self.writer.operations += 1
            total = added(self.writer, total, part)
        return total

    def _gradient(self, node: Node, parts: list[Term]) -> str:
        shape, dtype = node.aval.shape, jnp.dtype(node.aval.dtype).name
        if parts:
            text = self._total(parts).text
            if parts[0].literal is not None and len(parts) == 1 and self.is_python:
                text = f'jnp.full({shape}, {text}, "{dtype}")'
        else:
            text = f'jnp.zeros({shape}, "{dtype}")' if self.is_python else "0"
        name = self.bar(self.terms[node].text)
        self.writer.lines.append(f"{name} = {text}")
        self._close("gradient", name)
        return name

    def _pulled(self, operation: Operation, arrived: list[Term | None]) -> list[Term | None]:
        rule: Any = operation.rule
        if isinstance(rule, rules.Pointwise):
            (weight,) = arrived
            assert weight is not None
            return [
                None if partial is None else self._scaled(operation, rule, partial, node, weight)
                for node, partial in zip(operation.inputs, rule.partials, strict=True)
            ]
        nodes = [*operation.inputs, *operation.outputs]
        free = [node for node in dict.fromkeys(nodes) if node.constant is None]
        held = [term for term in arrived if term is not None]
        count = len(free)

        def pull(*arrays):
            env = dict(zip(free, arrays[:count], strict=True))
            weights = iter(arrays[count:])
            read = [env[n] if n.constant is None else n.constant for n in nodes]
            given = [None if term is None else next(weights) for term in arrived]
            size = len(operation.inputs)
            return rule.pull(read[:size], read[size:], given)

        avals = [jax.ShapeDtypeStruct(node.aval.shape, node.aval.dtype) for node in free]
        avals += [
            jax.ShapeDtypeStruct(node.aval.shape, node.aval.dtype)
            for node, term in zip(operation.outputs, arrived, strict=True)
            if term is not None
        ]
        jaxpr, shapes = jax.make_jaxpr(pull, return_shape=True)(*avals)
        found = iter(self.writer.body(jaxpr, [*[self._read(node) for node in free], *held]))
        return [None if shape is None else next(found) for shape in shapes]

    def _scaled(self, operation, rule, partial, node, weight) -> Term:
        """Returns a weight times the derivative of an operation entry by entry."""
        used = {}
        exchanged = {}
        for symbol, each in zip(rule.symbols, [*operation.inputs, *operation.outputs], strict=True):
            term = self._read(each)
            if term.literal is not None and symbol in partial.free_symbols:
                exchanged[symbol] = operations.exact(float(term.literal))
            used[symbol] = self._floating(term, each)
        used[operations.NAN] = self.language.number(float("nan"))
        partial = partial.xreplace(exchanged)
        if partial == 1:
            part = weight
        elif partial == -1:
            self.writer.operations += 1
            part = Term(f"-{at_least(weight, SIGN)}", SIGN, negated=at_least(weight, PRODUCT))
        else:
            part = self._product(partial, used, weight)
        return self._summed(part, operation.outputs[0], node)

    def _floating(self, term: Term, node: Node) -> str:
        # Whole numbers beside floating-point ones would be promoted.
        if self.is_python and not rules.is_floating(node.aval) and term.literal is None:
            return f"{term.text}.astype({jnp.result_type(float).name!r})"
        return term.text

    def _product(self, partial, used, weight) -> Term:
        # The SymPy expression is counted as it is printed: shared parts once.
        self.writer.operations += count(partial) + (weight.literal is None)
        if weight.literal is not None:
            if partial.is_number:
                return self.writer.constant(np.asarray(float(partial) * weight.literal))
            text = self._expression(partial * operations.exact(weight.literal), used)
            whole = ATOM if partial.is_Atom else SUM if partial.is_Add else PRODUCT
            return Term(text, whole)
        if self.is_python:
            (partial,), used = printing.readable([partial], used)
            text = printing.python(partial, used)
            plain = partial.is_Atom or partial.is_Function or text.startswith("jnp.where")
            return Term(f"{weight.text} * {text if plain else f'({text})'}", PRODUCT)
        arriving = sympy.Dummy(real=True)
        product = sympy.Mul(arriving, partial, evaluate=not partial.is_Add)
        return Term(printing.latex(product, {**used, arriving: weight.text}), PRODUCT)

    def _expression(self, partial, used) -> str:
        if not self.is_python:
            return printing.latex(partial, used)
        (partial,), used = printing.readable([partial], used)
        return printing.python(partial, used)

    def _summed(self, part: Term, output: Node, node: Node) -> Term:
        shape, whole = node.aval.shape, output.aval.shape
        if shape == whole:
            return part
        self.writer.operations += 1
        if not self.is_python:
            return Term(rf"\sum {at_least(part, PRODUCT)}", PRODUCT)
        if not shape:
            return Term(f"jnp.sum({part.text})")
        own = (1,) * (len(whole) - len(shape)) + shape
        axes = tuple(axis for axis, length in enumerate(own) if length != whole[axis])
        return Term(f"jnp.sum({part.text}, {axes}).reshape({shape})")


def _bar(name: str) -> str:
    stem, _, index = name.rpartition("_{")
    return rf"\bar{{{stem}}}_{{{index}" if stem else rf"\bar{{{name}}}"


def count(expression: sympy.Basic) -> int:
    """Returns how many operations an expression has, shared parts counted once.

    Example:
        >>> x = sympy.Symbol("x")
        >>> count((x + 1) * sympy.sin(x + 1))
        3
    """
    return sum(
        max(1, len(node.args) - 1)
        for node in set(sympy.preorder_traversal(expression))
        if node.args
    )
