"""The route "program": a derivation with one line for each operation."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from diffcompare.symbolic import listing, names, program
from diffcompare.symbolic.convention import Convention, Rules
from diffcompare.symbolic.derived import Derived, Step
from diffcompare.symbolic.latex_table import Latex
from diffcompare.symbolic.listing import Line, Listing
from diffcompare.symbolic.python_table import Python
from diffcompare.symbolic.writing import Language

Array = Any


def derive(
    jaxpr: ClosedJaxpr,
    labels: Sequence[str],
    wanted: Sequence[int],
    convention: Convention,
    honoured: Rules,
) -> "ProgramDerived":
    """Returns the derivation of a scalar function of arrays.

    Args:
        jaxpr: The function.
        labels: The names of its inputs.
        wanted: Which of its inputs to differentiate by.
        convention: What the derivative is at a kink.
        honoured: See `program.derive`.
    """
    active = [position in set(wanted) for position in range(len(labels))]
    derived = program.derive(jaxpr, active, convention, honoured)
    return ProgramDerived(derived, tuple(labels), tuple(wanted), tuple(jaxpr.consts))


@dataclasses.dataclass(frozen=True)
class ProgramDerived(Derived):
    """A program, and how it is written."""

    program: program.Program
    labels: tuple[str, ...]
    wanted: tuple[int, ...]
    constants: tuple[Any, ...]

    @property
    def operations(self) -> int:
        return self._text.operations

    def run(self, constants: Sequence[Array], leaves: Sequence[Array]) -> tuple[Array, list[Array]]:
        env = self.program.run(constants, leaves)
        (value,) = self.program.values(env)
        value = jnp.asarray(value)
        gradients = self.program.pull(env, [jnp.ones_like(value)])
        return value, [gradients[position] for position in self.wanted]

    def latex(self, index: int) -> str:
        lines = _needed(self._latex, self._latex.gradients[index])
        rows = r" \\ ".join(line.replace(" = ", " &= ", 1) for line in _flat(lines))
        return rf"\begin{{aligned}} {rows} \end{{aligned}}"

    def text(self, index: int) -> str:
        return "\n".join(map(_plain, _flat(_needed(self._text, self._text.gradients[index]))))

    def steps(self) -> tuple[Step, ...]:
        return tuple(
            Step(line.phase, line.name, "\n".join(map(_plain, line.lines)), _stacked(other.lines))
            for line, other in zip(self._text.lines, self._latex.lines, strict=True)
        )

    def source(self) -> str:
        listed = self._python
        body: list[str] = []
        phase = None
        titles = {"forward": "the value", "backward": "backwards, by the chain rule",
                  "gradient": "the gradients"}  # fmt: skip
        for line in listed.lines:
            if line.phase != phase:
                phase = line.phase
                body.append(f"# {titles[phase]}")
            body += line.lines
        gradients = ", ".join(listed.gradients) + ("," if len(listed.gradients) == 1 else "")
        held = listed.arguments[: len(self.constants)]
        return function(listed.arguments, held, body, f"{listed.value}, ({gradients})")

    def expression(self, index: int) -> tuple[Line, ...]:
        return _needed(self._text, self._text.gradients[index])

    @functools.cached_property
    def _python(self) -> Listing:
        return self._listing(Python())

    @functools.cached_property
    def _latex(self) -> Listing:
        return self._listing(Latex(), self._text.named)

    @functools.cached_property
    def _text(self) -> Listing:
        return self._listing(Python(is_strict=False))

    def _listing(self, language: Language, named: listing.Named | None = None) -> Listing:
        held = held_names(self.labels, len(self.constants))
        return listing.write(self.program, [*held, *self.labels], self.wanted, language, named)


def held_names(labels: Sequence[str], count: int) -> list[str]:
    """Returns names for the arrays that a function closes over."""
    prefix = names.prefix(labels, ("c", "k", "const"))
    return [f"{prefix}{position + 1}" for position in range(count)]


def function(
    arguments: Sequence[str], held: Sequence[str], body: Sequence[str], result: str
) -> str:
    """Returns the Python code of a function of leaves, and of what the function closes over."""
    free = arguments[len(held) :]
    signature = ", ".join([*free, *(["*", *held] if held else [])])
    lines = [f"    {line}" for line in [*body, f"return {result}"]]
    return "\n".join(
        ["import jax", "import jax.numpy as jnp", "from jax import lax", "", "",
         f"def value_and_grad({signature}):", *lines, ""]
    )  # fmt: skip


def _needed(listed: Listing, name: str) -> tuple[Line, ...]:
    """Returns the lines that a value depends on, in order."""
    needed = {name}
    kept = []
    for line in reversed(listed.lines):
        if line.name in needed:
            kept.append(line)
            needed |= line.uses
    return tuple(kept[::-1])


def _flat(lines: Sequence[Line]) -> list[str]:
    return [text for line in lines for text in line.lines]


def _plain(line: str) -> str:
    return re.sub(r"\b(jnp|lax|jax\.nn|jax\.scipy\.special)\.", "", line)


def _stacked(lines: Sequence[str]) -> str:
    if len(lines) == 1:
        return lines[0]
    return rf"\begin{{gathered}} {(' ' + chr(92) * 2 + ' ').join(lines)} \end{{gathered}}"
