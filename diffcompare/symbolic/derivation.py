"""Deriving a function of JAX: the derivative as formulas, as steps, as code and as a function."""

import ast
import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare import _arguments
from diffcompare.symbolic import names as naming
from diffcompare.symbolic.budget import DEFAULT, Budget
from diffcompare.symbolic.convention import Convention, Rules, check_convention, check_rules
from diffcompare.symbolic.derived import Derived, Step
from diffcompare.symbolic.trace import Trace, trace

PyTree = Any
Route = Literal["auto", "matrix", "program", "expression"]
ROUTES = ("auto", "matrix", "program", "expression")


def derive(
    fun: Callable,
    *args: PyTree,
    names: Any = None,
    argnums: int | Sequence[int] = 0,
    route: Route = "auto",
    convention: Convention | None = None,
    rules: Rules = "math",
    budget: Budget = DEFAULT,
) -> "Derivation":
    """Returns the gradient of a function as formulas, as steps, as code and as a function.

    Args:
        fun: Function of pytrees, returning a floating-point scalar.
        *args: Where to derive: arrays, whose shapes and dtypes count, or
            `jax.ShapeDtypeStruct`. Where the function chooses by the values of its
            arguments, the route "expression" follows the choice at these.
        names: For each argument a name, or a pytree of names of its structure, or None.
            By default an argument that is an array is called as the parameter of `fun`,
            and an array in a pytree by its key: `params["w1"]` is w1. Layers that are
            pairs of a matrix and a vector in a list are W1, b1, W2, b2.
        argnums: The argument, or the arguments, to differentiate by.
        route: How the derivative is written. "matrix" has matrix symbols, and gives what
            one writes by hand for networks and losses; "program" has a line for each
            operation, and takes nearly everything; "expression" has a formula for each
            entry, and swells. "auto" takes "matrix" where it fits, and else "program".
        convention: What the derivative is at a kink; None is `Convention.jax()`.
        rules: What a function with a custom derivative rule is taken for: "math"
            differentiates its body, since a derivation says what the derivative of a
            function is and not what its author asks for; "jax" asks the rule. The route
            "matrix" asks no rules.
        budget: How large a formula of the route "expression" may be.

    Returns:
        A `Derivation`.

    Raises:
        TypeError: The output is not a floating-point scalar, or an argument to
            differentiate by is not floating point.
        ValueError: There is no such route, argument or rule, or two arrays have one name.
        UnknownPrimitiveError: The route has no rule for an operation. It is a
            `NotImplementedError` that names the primitive and where it was used.
        NotImplementedError: The formula is beyond its budget.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> loss = lambda w, x: jnp.sum(jnp.sin(w * x))
        >>> derivation = dc.derive(loss, jnp.ones(()), jnp.ones(()), route="expression")
        >>> derivation.text()
        'dL/dw = x*cos(w*x)'
        >>> float(derivation.function(0.0, 2.0))
        2.0

    References:
        Laue, "On the equivalence of automatic and symbolic differentiation", 2019,
        arXiv:1904.02990.
    """
    _check(route, convention, rules, budget)
    call = _Call.of(fun, args, argnums)
    labels = call.traced_only(naming.of_arguments(fun, call.args, names))
    traced = trace(call.run, call.dynamic)
    _arguments.check_scalar("derive", fun, _like(traced))
    chosen, derived, why = _derived(
        traced, labels, call.wanted, route, convention or Convention.jax(), rules, budget
    )
    return Derivation(
        _arguments.name_of(fun), chosen, why, derived, tuple(labels), call, tuple(traced.constants)
    )


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Derivation:
    """A gradient that was derived: formulas, steps, code and a function.

    Attributes:
        name: Of the function.
        route: The route that was taken.
        why: Why the route "auto" took it; otherwise empty.
        derived: What the route gives.
        labels: The names of the arrays in all arguments.
        call: How the function is called.
        constants: What the function closes over.
    """

    name: str
    route: str
    why: str
    derived: Derived
    labels: tuple[str, ...]
    call: "_Call"
    constants: tuple[Any, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """What the arrays are called by which the function is differentiated."""
        return tuple(self.labels[position] for position in self.call.wanted)

    @property
    def operations(self) -> int:
        """How many operations the value and all gradients have, each shared one counted once."""
        return self.derived.operations

    @property
    def conditions(self) -> tuple[str, ...]:
        """What was decided by the values of the arguments; the formulas hold only where it is so.

        `function` raises `ValueError` where they do not hold, and is NaN under `jax.jit`.
        """
        found = getattr(self.derived, "conditions", None)
        return found() if found is not None else ()

    @property
    def expression(self) -> PyTree:
        """The gradient in the route's own expressions, in the structure of the gradient."""
        count = len(self.call.wanted)
        return self.call.gradient([self.derived.expression(index) for index in range(count)])

    def function(self, *args: PyTree) -> PyTree:
        """Returns the gradient at `args`, with the structure of `dc.grad(fun, argnums)`.

        It can be compiled, mapped and differentiated by JAX.

        Raises:
            TypeError: The arguments have other structures, shapes or dtypes than those that
                the function was derived for.
            ValueError: A condition of the derivation does not hold here.
        """
        return self.value_and_grad(*args)[1]

    def value_and_grad(self, *args: PyTree) -> tuple[jax.Array, PyTree]:
        """Returns the value and the gradient at `args`; see `function`."""
        leaves = self.call.leaves(self.name, args)
        # A function that takes longer to compile than to be evaluated is run as it is.
        is_small = self.route != "expression" or self.operations <= COMPILED
        is_open = not _arguments.is_traced((leaves, self.constants)) and not self.conditions
        run = self._compiled if is_small and is_open else self.derived.run
        value, gradients = run(list(self.constants), leaves)
        return value, self.call.gradient(gradients)

    def latex(self, name: str | None = None) -> str:
        """Returns the formula of the gradient by the array called `name` in LaTeX.

        Args:
            name: None is all of them, one below the other.
        """
        if name is None and self.route == "program":  # whose formulas share their lines
            return self.steps().latex()
        if name is not None or len(self.names) == 1:
            return self.derived.latex(self._index(name))
        formulas = [self.derived.latex(index) for index in range(len(self.names))]
        lines = " \\\\\n".join(formulas)
        return rf"\begin{{gathered}} {lines} \end{{gathered}}"

    def text(self, name: str | None = None) -> str:
        """Returns the formula of the gradient by the array called `name` as plain text."""
        if name is None and self.route == "program":  # whose formulas share their lines
            return str(self.steps())
        if name is not None or len(self.names) == 1:
            return self.derived.text(self._index(name))
        return "\n".join(self.derived.text(index) for index in range(len(self.names)))

    def steps(self) -> "Steps":
        """Returns the derivation line by line: forward, backward, gradients."""
        return Steps(self.derived.steps())

    def definitions(self) -> "Steps":
        """Returns what the functions in the formulas mean that need it, such as sigma'."""
        return Steps(self.derived.definitions())

    def source(self) -> str:
        """Returns Python code of a function of the arrays that gives the value and the gradients.

        It runs when it is pasted. What the function closes over are keyword arguments, and a
        comment says what each is.
        """
        source = self.derived.source()
        held = [*self.constants, *self.derived.held]
        legend = [
            f"# {name}: {array.dtype} of shape {array.shape}, closed over"
            for name, array in zip(_keywords(source), map(jnp.asarray, held), strict=True)
        ]
        return "\n".join([*legend, source])

    def constants_by_name(self) -> dict[str, jax.Array]:
        """Returns what the function closes over, by the names of the keywords in `source`."""
        held = map(jnp.asarray, [*self.constants, *self.derived.held])
        return dict(zip(_keywords(self.derived.source()), held, strict=True))

    def __repr__(self) -> str:
        by = ", ".join(self.names)
        why = f" ({self.why})" if self.why else ""
        lines = [f"Derivation of {self.name} by {by}: route '{self.route}'{why}, "
                 f"{self.operations} operations"]  # fmt: skip
        lines += [f"where {condition}" for condition in self.conditions]
        return "\n".join([*lines, *(f"  {line}" for line in self._shown())])

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def _shown(self) -> list[str]:
        try:
            lines = self.text().split("\n")
        except NotImplementedError as error:  # it took too long to print
            return [str(error)]
        return [line if len(line) <= 300 else f"{line[:300]} ..." for line in lines]

    def _index(self, name: str | None) -> int:
        if name is None:
            return 0
        if name not in self.names:
            raise ValueError(
                f"There is no derivative by {name!r}; there are those by "
                f"{', '.join(map(repr, self.names))}."
            )
        return self.names.index(name)

    @functools.cached_property
    def _compiled(self) -> Callable:
        return jax.jit(self.derived.run)


class Steps(tuple[Step, ...]):
    """The lines of a derivation; `str` prints them, `latex` typesets them."""

    def __repr__(self) -> str:
        return "\n".join(step.text for step in self)

    def __str__(self) -> str:
        return repr(self)

    def latex(self) -> str:
        """Returns the lines as an `aligned` environment."""
        # A step of several lines has an environment of its own.
        rows = [
            f"& {step.latex}" if r"\begin" in step.latex else step.latex.replace(" = ", " &= ", 1)
            for step in self
        ]
        return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


# A formula with more operations is evaluated one operation after the other: XLA takes some 8 ms to
# compile each, as long as evaluating it 50 times. Programs work on whole arrays, and are compiled.
COMPILED = 200


def _keywords(source: str) -> list[str]:
    """Returns the names of the keywords of `value_and_grad` in some code."""
    (function,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "value_and_grad"
    )
    return [argument.arg for argument in function.args.kwonlyargs]


def _check(route, convention, rules, budget):
    if route not in ROUTES:
        raise ValueError(
            f"route must be one of {', '.join(map(repr, ROUTES))}, but it is {route!r}."
        )
    check_convention(convention)
    check_rules(rules)
    if not isinstance(budget, Budget):
        raise TypeError(
            f"budget must be a Budget, such as Budget(operations=1000), but it is {budget!r}."
        )


def _derived(
    traced: Trace,
    labels: Sequence[str],
    wanted: Sequence[int],
    route: Route,
    convention: Convention,
    rules: Rules,
    budget: Budget,
) -> tuple[str, Derived, str]:
    """Returns the route that was taken, what it gives, and why it was taken."""
    # SymPy is loaded here: importing the package must not.
    from diffcompare.symbolic import expression_route, program_route
    from diffcompare.symbolic.routes import matrix_derived

    if route == "expression":
        found: Derived = expression_route.derive(
            traced.jaxpr, labels, wanted, convention, rules, budget, traced.leaves
        )
        return route, found, ""
    why = ""
    if route in ("auto", "matrix"):
        try:
            return "matrix", matrix_derived(traced, labels, convention, wanted, rules), why
        except NotImplementedError as error:
            if route == "matrix":
                raise
            why = f"'matrix' does not fit: {str(error).partition('. ')[0]}"
    derived = program_route.derive(traced.jaxpr, labels, wanted, convention, rules)
    return "program", derived, why


def _like(traced: Trace) -> PyTree:
    """Returns something with the structure, shapes and dtypes of the output."""
    zero = lambda aval: np.broadcast_to(np.zeros((), aval.dtype), aval.shape)
    return jax.tree.unflatten(traced.outputs, [zero(aval) for aval in traced.jaxpr.out_avals])


@dataclasses.dataclass(frozen=True, eq=False)
class _Call:
    """How a function is called: which leaves of its arguments are arrays, and which are wanted."""

    fun: Callable
    args: tuple[PyTree, ...]  # as given, floats and NumPy arrays made arrays
    structure: Any
    flags: tuple[bool, ...]  # of each leaf, whether it is an array
    wanted: tuple[int, ...]  # positions among the arrays
    positions: tuple[int, ...]
    is_single: bool

    @classmethod
    def of(cls, fun: Callable, args: Sequence[PyTree], argnums: Any) -> "_Call":
        positions, is_single = _arguments.check_argnums(argnums)
        _arguments.check_positions("derive", fun, positions, len(args))
        positions = tuple(position % len(args) for position in positions)
        given = [_convert(arg, n in positions) for n, arg in enumerate(args)]
        for position in positions:
            _arguments.check_floating("derive", given[position], f"argument {position}")
        leaves, structure = jax.tree.flatten(tuple(given))
        flags = tuple(map(_is_array, leaves))
        starts = np.cumsum([0, *(sum(map(_is_array, jax.tree.leaves(arg))) for arg in given)])
        wanted = tuple(int(i) for p in positions for i in range(starts[p], starts[p + 1]))
        return cls(fun, tuple(given), structure, flags, wanted, positions, is_single)

    @property
    def dynamic(self) -> list[Any]:
        return self.traced_only(jax.tree.leaves(self.args))

    def traced_only(self, items: Sequence[Any]) -> list[Any]:
        return [item for item, flag in zip(items, self.flags, strict=True) if flag]

    def run(self, dynamic: list[Any]) -> PyTree:
        """Returns the value of the function at these arrays."""
        arrays = iter(dynamic)
        leaves = [
            next(arrays) if flag else leaf
            for leaf, flag in zip(jax.tree.leaves(self.args), self.flags, strict=True)
        ]
        return self.fun(*jax.tree.unflatten(self.structure, leaves))

    def leaves(self, name: str, args: Sequence[PyTree]) -> list[Any]:
        """Returns the arrays of a call, which has to be like the one that was derived."""
        given = tuple(_convert(arg, n in self.positions) for n, arg in enumerate(args))
        leaves, structure = jax.tree.flatten(given)
        known = jax.tree.leaves(self.args)
        if structure != self.structure or not all(map(_is_alike, leaves, known)):
            raise TypeError(
                f"{name} was derived for {_described(self.args)}, but is called with "
                f"{_described(given)}. Derive it again for these."
            )
        return [
            jnp.asarray(leaf, old.dtype)
            for leaf, old in zip(self.traced_only(leaves), self.dynamic, strict=True)
        ]

    def gradient(self, entries: Sequence[Any]) -> PyTree:
        """Returns one entry for each wanted leaf in the structure of the gradient."""
        given = iter(entries)
        trees = tuple(
            jax.tree.unflatten(
                jax.tree.structure(self.args[p]),
                [next(given) for _ in jax.tree.leaves(self.args[p])],
            )
            for p in self.positions
        )
        return operator.itemgetter(0)(trees) if self.is_single else trees


def _convert(arg: PyTree, is_wanted: bool) -> PyTree:
    def convert(leaf):
        is_number = isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex)
        return jnp.asarray(leaf) if is_number or (is_wanted and isinstance(leaf, int)) else leaf

    return jax.tree.map(convert, arg)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _is_alike(a: Any, b: Any) -> bool:
    if _is_array(a) and _is_array(b):
        return a.shape == b.shape and a.dtype == b.dtype
    return type(a) is type(b) and bool(a == b)


def _described(args: PyTree) -> str:
    parts = [
        f"{leaf.dtype}{list(leaf.shape)}" if _is_array(leaf) else repr(leaf)
        for leaf in jax.tree.leaves(args)
    ]
    return f"({', '.join(parts)})"
