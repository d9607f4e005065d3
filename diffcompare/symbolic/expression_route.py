"""The route "expression": a derivation as one formula for each entry of the gradient."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import sympy
from jax.extend.core import ClosedJaxpr

from diffcompare.symbolic import expression, operations, printing
from diffcompare.symbolic import names as naming
from diffcompare.symbolic.budget import Budget
from diffcompare.symbolic.convention import Convention, Rules
from diffcompare.symbolic.derived import Derived, Step
from diffcompare.symbolic.program_route import function, held_names

Array = Any
_TALL = 12  # rows or columns of a matrix of formulas that is still printed as one


def derive(
    jaxpr: ClosedJaxpr,
    labels: Sequence[str],
    wanted: Sequence[int],
    convention: Convention,
    honoured: Rules,
    budget: Budget,
    point: Sequence[Any],
) -> "ExpressionDerived":
    """Returns the derivation of a scalar function of arrays; see `expression.derive`."""
    active = [position in set(wanted) for position in range(len(labels))]
    jacobian = expression.derive(
        jaxpr, 1, convention, budget, active=active, honoured=honoured, point=point, labels=labels
    )
    return ExpressionDerived(jacobian, tuple(labels), tuple(wanted), budget)


@dataclasses.dataclass(frozen=True)
class ExpressionDerived(Derived):
    """Formulas, and how they are written."""

    jacobian: expression.Jacobian
    labels: tuple[str, ...]
    wanted: tuple[int, ...]
    budget: Budget

    @functools.cached_property
    def _operations(self) -> int:
        nodes: set[sympy.Basic] = set()
        for root in [self.value, *self.jacobian.partials.values()]:
            nodes.update(_nodes(root))
        return sum(max(1, len(node.args) - 1) for node in nodes if node.args)

    @property
    def operations(self) -> int:
        return self._operations

    @property
    def written_out(self) -> int:
        """How many operations the gradients have where nothing is shared."""
        sizes: dict[sympy.Basic, int] = {}
        return sum(expression.size(p, sizes) for p in self.jacobian.partials.values())

    @property
    def value(self) -> sympy.Expr:
        """The function itself."""
        (entry,) = self.jacobian.outputs[0].flat
        return sympy.sympify(entry)

    def run(self, constants: Sequence[Array], leaves: Sequence[Array]) -> tuple[Array, list[Array]]:
        values = self.jacobian.run(constants, leaves)
        (value,) = values.outputs
        gradients = values.pull([jnp.ones((), value.dtype)])
        return jnp.asarray(value), [gradients[position] for position in self.wanted]

    def expression(self, index: int) -> Any:
        """Returns an expression for a scalar, and else an array of them."""
        entries = self._entries(index)
        return entries.item() if entries.ndim == 0 else entries

    def latex(self, index: int) -> str:
        name = naming.latex(self.labels[self.wanted[index]])
        return rf"\frac{{\partial L}}{{\partial {name}}} = {self._matrix(index)}"

    def text(self, index: int) -> str:
        check = self.budget.start().check
        show = lambda e: printing.text(e, self._names("text"), check)
        name = self.labels[self.wanted[index]]
        return f"dL/d{_word(name)} = {_nested(self._entries(index), show)}"

    def steps(self) -> tuple[Step, ...]:
        check = self.budget.start().check
        lines = [Step(
            "forward", "L", f"L = {printing.text(self.value, self._names('text'), check)}",
            f"L = {printing.latex(self.value, self._names('latex'), check)}",
        )]  # fmt: skip
        for index, position in enumerate(self.wanted):
            name = f"dL/d{_word(self.labels[position])}"
            lines.append(Step("gradient", name, self.text(index), self.latex(index)))
        return tuple(lines)

    def source(self) -> str:
        return self._source(is_shared=True)

    def source_written_out(self) -> str:
        """Returns the code in which nothing is shared: the swell."""
        return self._source(is_shared=False)

    def conditions(self) -> tuple[str, ...]:
        """Returns what was decided by the values of the arguments."""
        return tuple(map(str, self.jacobian.conditions))

    def _source(self, is_shared: bool) -> str:
        check = self.budget.start().check
        known = self._names("python")
        arguments = self._arguments
        held = arguments[: len(self.jacobian.constants)]
        prefix = naming.prefix(arguments, ("s", "t", "u", "r", "q"))
        keys = list(self.jacobian.partials)
        roots, known = printing.readable([self.value, *self.jacobian.partials.values()], known)
        partials = dict(zip(keys, roots[1:], strict=True))
        body = []
        if is_shared:
            counter = itertools.count(1)
            for node in _shared(roots, check):
                body.append(f"{prefix}{next(counter)} = {printing.python(node, known, check)}")
                known = {**known, node: body[-1].partition(" = ")[0]}
        body += [f"# {line}" for line in ["valid where", *self.conditions()]] * bool(
            self.jacobian.conditions
        )
        results = naming.identifiers(
            ["value", *(f"d_{arguments[len(held) + p]}" for p in self.wanted)],
            {*arguments, *(known[node] for node in known)},
        )
        body.append(f"{results[0]} = {printing.python(roots[0], known, check)}")
        for name, index in zip(results[1:], range(len(self.wanted)), strict=True):
            body.append(f"{name} = {self._array(index, partials, known, check)}")
        grads = ", ".join(results[1:]) + ("," if len(results) == 2 else "")
        return function(arguments, held, body, f"{results[0]}, ({grads})")

    def _array(self, index, partials, known, check) -> str:
        entries = self._entries(index, partials)
        shown = [printing.python(entry, known, check) for entry in entries.flat]
        dtype = jnp.dtype(self._aval(index).dtype).name
        if entries.ndim == 0:
            return f'jnp.asarray({shown[0]}, "{dtype}")'
        if not shown:
            return f'jnp.zeros({entries.shape}, "{dtype}")'
        rows = ", ".join(f'jnp.asarray({entry}, "{dtype}")' for entry in shown)
        return f"jnp.stack([{rows}]).reshape({entries.shape})"

    def _matrix(self, index: int) -> str:
        check = self.budget.start().check
        show = lambda e: printing.latex(e, self._names("latex"), check)
        entries = self._entries(index)
        if entries.ndim == 0:
            return show(entries.item())
        if entries.ndim > 2 or max(entries.shape, default=0) > _TALL:
            return r"\left[" + ", ".join(map(show, entries.flat)) + r"\right]"
        rows = entries.reshape(entries.shape[0], -1)
        lines = r" \\ ".join(" & ".join(map(show, row)) for row in rows)
        return rf"\begin{{pmatrix}} {lines} \end{{pmatrix}}"

    def _aval(self, index: int) -> Any:
        return self.jacobian.jaxpr.in_avals[self.wanted[index]]

    def _entries(self, index: int, partials: Any = None) -> np.ndarray:
        position = self.wanted[index]
        shape = self._aval(index).shape
        entries = np.full(int(np.prod(shape, dtype=int)), sympy.S.Zero, dtype=object)
        for (_, _, x, place), partial in (partials or self.jacobian.partials).items():
            if x == position:
                entries[place] = partial
        return entries.reshape(shape)

    @property
    def _arguments(self) -> list[str]:
        held = held_names(self.labels, len(self.jacobian.constants))
        return naming.identifiers([*held, *self.labels])

    def _names(self, language: str) -> dict[sympy.Basic, str]:
        labels = [*held_names(self.labels, len(self.jacobian.constants)), *self.labels]
        if language == "python":
            shown = self._arguments
        else:
            shown = [naming.latex(label) for label in labels] if language == "latex" else labels
        nan = {"python": "jnp.nan", "latex": r"\mathrm{nan}", "text": "nan"}[language]
        found: dict[sympy.Basic, str] = {operations.NAN: nan}
        arrays = [*self.jacobian.constants, *self.jacobian.inputs]
        for name, array in zip(shown, arrays, strict=True):
            if array is not None:
                places = np.ndindex(*array.shape)
                for place, symbol in zip(places, array.flat, strict=True):
                    found[symbol] = _entry(name, place, language)
        return found


def _entry(name: str, place: tuple[int, ...], language: str) -> str:
    if not place:
        return name
    inner = ", ".join(map(str, place))
    if language != "latex":
        return f"{name}[{inner}]"
    # In brackets, so that no name with an index looks the same.
    stem, _, index = name.partition("_{")
    return f"{stem}_{{{index[:-1]}[{inner.replace(' ', '')}]}}"


def _word(name: str) -> str:
    return name if name.isidentifier() else f"({name})"


def _nested(entries: np.ndarray, show: Callable[[Any], str]) -> str:
    if entries.ndim == 0:
        return show(entries.item())
    return "[" + ", ".join(_nested(np.asarray(row), show) for row in entries) + "]"


def _nodes(root: sympy.Basic) -> set[sympy.Basic]:
    seen = {root}
    stack = [root]
    while stack:
        for part in stack.pop().args:
            if part not in seen:
                seen.add(part)
                stack.append(part)
    return seen


def _shared(roots: Sequence[sympy.Basic], check: Callable[[], None]) -> list[sympy.Basic]:
    """Returns the subexpressions that occur in several places, inner ones first."""
    uses: dict[sympy.Basic, int] = {}
    order: list[sympy.Basic] = []
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        node, is_done = stack.pop()
        check()
        if is_done:
            order.append(node)
            continue
        uses[node] = uses.get(node, 0) + 1
        if uses[node] == 1 and node.args:
            stack.append((node, True))
            stack.extend((part, False) for part in reversed(_operands(node)))
    return [node for node in order if uses[node] > 1 and isinstance(node, sympy.Expr)
            and not node.is_number and not _is_negative(node)]  # fmt: skip


def _operands(node: sympy.Basic) -> list[sympy.Basic]:
    if isinstance(node, sympy.Piecewise):
        return [part for pair in node.args for part in pair.args]
    # Only the value of a function with a custom rule is written.
    return list(node.args[:1] if node.func.__name__ in ("claimed", "frozen") else node.args)


def _is_negative(node: sympy.Basic) -> bool:
    """Returns whether a printer writes a node within a product or a sum, not by its name."""
    return bool(node.is_Mul and len(node.args) == 2 and node.args[0] == -1)
