"""What the matrix route gives: formulas, steps, code and a function."""

import functools
import inspect
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from diffcompare.symbolic import names
from diffcompare.symbolic.derived import Derived, Step
from diffcompare.symbolic.matrix import code, planning, reverse
from diffcompare.symbolic.matrix.building import Built
from diffcompare.symbolic.matrix.nodes import Node, reachable
from diffcompare.symbolic.matrix.notation import Latex, Notation, Text, distinct
from diffcompare.symbolic.matrix.source import Source, write
from diffcompare.symbolic.matrix.writing import Writer


class MatrixDerived(Derived):
    """The gradient of a scalar function in matrix symbols.

    Args:
        exact: What is computed.
        shown: What is written; it may rely on assumptions, which `assumptions` states.
        leaf_names: Of the leaves, then of what the function closes over.
        wanted: The leaves that are differentiated.
        size: How many of the leaves are arguments.
    """

    def __init__(
        self,
        exact: Built,
        shown: Built,
        leaf_names: Sequence[str],
        wanted: Sequence[int],
        size: int,
    ):
        self._exact, self._shown = exact, shown
        self._names, self._wanted, self._size = list(leaf_names), list(wanted), size
        self._stems = planning.stems(self._names)
        self._ranks = [leaf.rank for leaf in shown.leaves]
        hadamard = "o" if "o" not in self._names else "*"
        self._notations: tuple[Notation, Notation] = (Text(hadamard), Latex())

    @property
    def operations(self) -> int:
        roots = [self._exact.value, *self._exact.gradients]
        return sum(bool(node.args) and node.op != "let" for node in reachable(roots))

    # --- formulas

    def latex(self, index):
        return self._formulas(1)[index]

    def text(self, index):
        return self._formulas(0)[index]

    @functools.cache  # noqa: B019  (the derivation lives as long as its formulas)
    def _formulas(self, which: int) -> tuple[str, ...]:
        shown = self._shown
        writer = Writer(self._notations[which], shown.functions, self._symbols(which))
        closed = reverse.expanded(shown.graph, shown.gradients)
        return tuple(
            f"{self.derivative_name(index)[which]} = {writer.use(node)}"
            for index, node in enumerate(closed)
        )

    def expression(self, index):
        return self._exact.gradients[index]

    @property
    def value_name(self) -> tuple[str, str]:
        """What the value is called, in text and in LaTeX."""
        loss = self._stems.loss
        return loss, rf"\mathcal{{{loss}}}" if len(loss) == 1 else names.latex(loss)

    def derivative_name(self, index: int) -> tuple[str, str]:
        """What a gradient is called, in text and in LaTeX."""
        leaf = self._wanted[index]
        text, latex = (
            notation.derivative(value, distinct(notation, self._names, self._ranks)[leaf])
            for notation, value in zip(self._notations, self.value_name, strict=True)
        )
        return text, latex

    # --- steps

    def steps(self):
        return self._steps

    @functools.cached_property
    def _steps(self) -> tuple[Step, ...]:
        shown = self._shown
        given = [self._given(which) for which in (0, 1)]
        writers = [
            Writer(notation, shown.functions, {**self._symbols(which), **given[which]})
            for which, notation in enumerate(self._notations)
        ]

        def line(phase, names_, node, is_root=False):
            bodies = [w.use(node) if is_root else w.body(node) for w in writers]
            (text, latex) = (f"{n} = {b}" for n, b in zip(names_, bodies, strict=True))
            return Step(phase, names_[0], text, latex)

        forward = set(reachable([shown.value]))
        lines = list(self.assumptions)
        for phase in ("forward", "backward"):
            for node in sorted(given[0], key=lambda node: node.number):
                if (node in forward) == (phase == "forward"):
                    lines.append(line(phase, [g[node] for g in given], node))
            if phase == "forward":
                lines.append(line(phase, self.value_name, shown.value))
        for index, node in enumerate(shown.gradients):
            lines.append(line("gradient", self.derivative_name(index), node, True))
        return tuple(lines)

    def definitions(self) -> tuple[Step, ...]:
        """Returns what the functions in the formulas mean, and their derivatives."""
        roots = [self._shown.value, *self._shown.gradients]
        used = dict.fromkeys(
            (node.param, node.op == "slope")
            for node in reachable(roots)
            if node.op == "slope" or (node.op == "function" and node.param in
                                      self._shown.definitions)
        )  # fmt: skip
        return tuple(itertools.chain.from_iterable(self._defined(*pair) for pair in used))

    def _defined(self, name: str, is_slope: bool) -> list[Step]:
        function = self._shown.functions[name]
        definition = self._shown.definitions.get(name)
        texts = []
        for which, notation in enumerate(self._notations):
            left = notation.function(function, "z", is_slope)
            if definition is None:
                right = (function.slope_text, function.slope_latex)[which].format("z")
            else:
                writer = Writer(notation, self._shown.functions, {definition.argument: "z"})
                right = writer.use(definition.slope if is_slope else definition.value)
            texts.append(f"{left} = {right}")
        return [Step("forward", function.text, texts[0], texts[1])] if texts else []

    @property
    def assumptions(self) -> tuple[Step, ...]:
        """What the formulas rely on, and the code does not: that targets sum to 1."""
        found = []
        writers = [
            Writer(notation, self._shown.functions, self._symbols(which))
            for which, notation in enumerate(self._notations)
        ]
        for node in self._shown.graph.relied_on:
            text, latex = (writer.use(node) for writer in writers)
            ones = (text + " 1 = 1", latex + r" \mathbf{1} = \mathbf{1}")
            if node.rank == 1:
                ones = (f"1^T {text} = 1", rf"\mathbf{{1}}^\top {latex} = 1")
            found.append(Step("forward", text, *ones))
        return tuple(found)

    def _symbols(self, which: int) -> dict[Node, str]:
        written = distinct(self._notations[which], self._names, self._ranks)
        shown = self._shown
        found = dict(zip(shown.leaves, written, strict=True))
        for node, name in planning.arrays(shown.value, shown.gradients).items():
            stem = self._stems.of(name, node.rank)
            found[node] = self._notations[which].numbered(stem, name.number, node.rank)
        return found

    def _given(self, which: int) -> dict[Node, str]:
        """Returns the names of intermediate values, in a notation."""
        shown, notation = self._shown, self._notations[which]
        return {
            node: notation.numbered(self._stems.of(name, node.rank), name.number, node.rank)
            for node, name in planning.named(shown.names, shown.value, shown.gradients).items()
        }

    # --- code

    @property
    def held(self):
        return self._source.held

    def source(self):
        return self._source.text

    @functools.cached_property
    def _source(self) -> Source:
        return write(self._exact, self._names, self._wanted, self._size, self._stems)

    @functools.cached_property
    def _function(self):
        namespace: dict[str, Any] = {}
        exec(compile(self.source(), "<derive(route='matrix')>", "exec"), namespace)
        return namespace[code.NAME]

    def run(self, constants, leaves):
        arrays = [jnp.asarray(leaf) for leaf in leaves]
        names_of_held = inspect.getfullargspec(self._function).kwonlyargs
        held = map(jnp.asarray, [*constants, *self._source.held])
        value, gradients = self._function(*arrays, **dict(zip(names_of_held, held, strict=True)))
        # Steps are written with plain numbers, whose dtype may be another.
        wanted = [arrays[index].dtype for index in self._wanted]
        return value, [g.astype(dtype) for g, dtype in zip(gradients, wanted, strict=True)]
