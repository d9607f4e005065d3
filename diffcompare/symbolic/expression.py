"""The derivative as one expression of every entry: SymPy's own, as in a textbook.

Every entry of every array becomes a symbol, every output one expression in them, and SymPy
differentiates that. The formula is the one a person would write, and it swells: its size
grows faster than that of the function. A budget of operations and of seconds stops it in time.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sympy
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from diffcompare._jaxpr import custom_rules, objects, walk
from diffcompare.symbolic import custom, operations
from diffcompare.symbolic.algebra import SympyAlgebra
from diffcompare.symbolic.budget import DEFAULT, Budget, Clock
from diffcompare.symbolic.convention import Convention, Rules
from diffcompare.symbolic.evaluation import evaluate
from diffcompare.symbolic.paths import Condition, Path

Array = Any


@dataclasses.dataclass(frozen=True)
class Jacobian:
    """The partial derivatives of a function of arrays, as expressions."""

    jaxpr: ClosedJaxpr
    constants: tuple[Any, ...]  # arrays of symbols, for what is closed over; None where it is known
    inputs: tuple[Any, ...]  # arrays of symbols; None for what is no floating-point number
    outputs: tuple[np.ndarray, ...]  # arrays of expressions, for the outputs that are wanted
    partials: dict[tuple[int, int, int, int], sympy.Expr]  # by output, entry, input, entry
    conditions: tuple[Condition, ...]  # what was decided at the known arguments

    @property
    def symbols(self) -> tuple[sympy.Symbol, ...]:
        """Of every entry of what is closed over, then of the inputs."""
        held = [array for array in [*self.constants, *self.inputs] if array is not None]
        return tuple(symbol for array in held for symbol in array.flat)

    def run(self, constants: Sequence[Array], inputs: Sequence[Array]) -> "Values":
        """Returns the outputs and the partial derivatives as numbers.

        Raises:
            ValueError: A condition that was decided when this was derived does not hold
                here. Where that cannot be known, the derivatives are NaN instead.
        """
        outputs = jaxpr_as_fun(self.jaxpr)(*inputs)
        floats = [x for x in [*constants, *inputs] if _is_floating(x)]
        dtype = jnp.result_type(*floats) if len({x.dtype for x in floats}) == 1 else _widest(floats)
        entries = [entry for x in floats for entry in jnp.ravel(x).astype(dtype)]
        values = dict(zip(self.symbols, entries, strict=True))
        values[operations.NAN] = jnp.asarray(jnp.nan, dtype)
        numbers = {key: evaluate(partial, values, dtype) for key, partial in self.partials.items()}
        holds = [condition.holds(values, dtype) for condition in self.conditions]
        return Values(self, outputs, inputs, numbers, _checked(holds, self.conditions))


def _checked(holds, conditions):
    """Returns whether all conditions hold, where that is not known, and else None."""
    for flag, condition in zip(holds, conditions, strict=True):
        if not isinstance(flag, jax.core.Tracer) and not bool(flag):
            raise ValueError(
                f"This was derived where {condition}, which does not hold at these arguments. "
                "Derive again here, or use route='program', which takes every path."
            )
    is_open = any(isinstance(flag, jax.core.Tracer) for flag in holds)
    return jnp.all(jnp.stack([jnp.asarray(flag) for flag in holds])) if is_open else None


@dataclasses.dataclass(frozen=True)
class Values:
    """A Jacobian at a point."""

    jacobian: Jacobian
    outputs: Sequence[Array]
    inputs: Sequence[Array]
    partials: dict[tuple[int, int, int, int], Array]
    valid: Array | None  # False where the derivatives are those of another path

    def push(self, tangents: Sequence[Array]) -> list[Array]:
        """Returns the slopes of the wanted outputs."""
        shapes = [np.shape(expressions) for expressions in self.jacobian.outputs]
        flat = [jnp.ravel(tangent) for tangent in tangents]
        terms = self._terms(lambda o, i, x, j: ((o, i), flat[x][j]))
        found = _assembled(terms, shapes, [out.dtype for out in self.outputs[: len(shapes)]])
        return [self._known(slope) for slope in found]

    def pull(self, weights: Sequence[Array]) -> list[Array]:
        """Returns the gradients by the inputs of the weighted sum of the wanted outputs.

        Inputs that are no floating-point numbers get None.
        """
        flat = [jnp.ravel(weight) for weight in weights]
        terms = self._terms(lambda o, i, x, j: ((x, j), flat[o][i]))
        found = _assembled(
            terms, [jnp.shape(x) for x in self.inputs], [x.dtype for x in self.inputs]
        )
        return [
            self._known(g) if _is_floating(x) else None
            for g, x in zip(found, self.inputs, strict=True)
        ]

    def _known(self, array: Array) -> Array:
        return array if self.valid is None else jnp.where(self.valid, array, jnp.nan)

    def _terms(self, place):
        terms: dict[tuple[int, int], Array] = {}
        for key, partial in self.partials.items():
            target, factor = place(*key)
            term = partial * factor.astype(partial.dtype)
            terms[target] = terms[target] + term if target in terms else term
        return terms


def derive(
    jaxpr: ClosedJaxpr,
    wanted: int,
    convention: Convention,
    budget: Budget = DEFAULT,
    *,
    active: Sequence[bool] | None = None,
    honoured: Rules = "math",
    point: Sequence[Any] | None = None,
    labels: Sequence[str] | None = None,
) -> Jacobian:
    """Returns the partial derivatives of the first outputs of a jaxpr.

    Args:
        jaxpr: The function of arrays.
        wanted: How many of its outputs are differentiated.
        convention: What the derivative is at a kink.
        budget: How many operations the derivatives may have together, and how long they
            may take.
        active: Of each input, whether to differentiate by it; None is by all.
        honoured: Whether a function with a custom derivative rule is differentiated
            ("math"), or its rule is asked ("jax").
        point: The inputs, or traced arrays. What the function decides by known numbers is
            decided by these, and the conditions are kept.
        labels: Names of the inputs, for messages.

    Raises:
        NotImplementedError: The derivatives are beyond the budget, or a decision depends
            on what is not known.
        UnknownPrimitiveError: A primitive has no rule.
    """
    inner: Any = jaxpr.jaxpr
    clock = budget.start()
    given = [None] * len(inner.invars) if point is None else point
    labels = labels or [f"x{i}" for i in range(len(inner.invars))]
    constants = [
        _symbols(f"c{i}", v, jaxpr.consts[i], clock) for i, v in enumerate(inner.constvars)
    ]
    inputs = [_symbols(labels[i], v, given[i], clock) for i, v in enumerate(inner.invars)]
    path = Path(_known([*constants, *inputs], [*jaxpr.consts, *given]))
    interpreter = _Interpreter(SympyAlgebra(convention, path, clock), clock, honoured)
    outputs = walk.walk(jaxpr, interpreter, inputs, constants)[:wanted]
    outputs = [output if objects.is_object(output) else None for output in outputs]
    expressions = tuple(
        objects.array_of([sympy.S.Zero] * v.aval.size, v.aval.shape) if output is None else output
        for output, v in zip(outputs, inner.outvars, strict=False)
    )
    flags = [True] * len(inputs) if active is None else active
    partials = _partials(expressions, inputs, flags, clock)
    held = [[a if objects.is_object(a) else None for a in part] for part in (constants, inputs)]
    return Jacobian(jaxpr, tuple(held[0]), tuple(held[1]), expressions, partials, path.conditions)


class _Interpreter(objects.ObjectInterpreter):
    """Stops before arrays are written out entry by entry that nobody could read."""

    def __init__(self, algebra, clock: Clock, honoured: Rules):
        super().__init__(algebra)
        self.clock = clock
        self.honoured = honoured
        self.spent = 0

    def call(self, eqn, body, inputs):
        found = super().call(eqn, body, inputs)
        is_known = found is not None and custom_rules.is_from_jax(eqn)
        is_asked = self.honoured == "jax" and custom_rules.is_custom(eqn) and not is_known
        if is_asked and any(map(objects.is_object, inputs)):
            return custom.claimed_outputs(self, eqn, body, inputs)
        return found

    def equation(self, eqn, inputs):
        if any(map(objects.is_object, inputs)):
            self.spent += _work(eqn)
            self.clock.check(self.spent)
        return super().equation(eqn, inputs)


def _work(eqn: Any) -> int:
    """Returns about how many operations on entries an equation stands for."""
    sizes = [variable.aval.size for variable in eqn.outvars]
    if eqn.primitive.name == "dot_general":
        (summed, _), _ = eqn.params["dimension_numbers"]
        sizes.append(sizes[0] * math.prod(eqn.invars[0].aval.shape[axis] for axis in summed))
    elif eqn.primitive.name.startswith("reduce"):
        sizes.append(eqn.invars[0].aval.size)
    return max(sizes, default=0)


def _partials(outputs, inputs, flags, clock):
    sizes: dict[sympy.Basic, int] = {}
    spent = 0
    partials = {}
    places = {
        symbol: (x, j)
        for x, (array, flag) in enumerate(zip(inputs, flags, strict=True))
        if flag and objects.is_object(array)
        for j, symbol in enumerate(array.flat)
    }
    for o, output in enumerate(outputs):
        for i, expression in enumerate(output.flat):
            expression = sympy.sympify(expression)
            clock.check(size(expression, sizes))
            found = sorted(expression.free_symbols & places.keys(), key=places.__getitem__)
            for symbol in found:
                partial = expression.diff(symbol)
                spent += size(partial, sizes)
                clock.check(spent)
                if partial != 0:
                    partials[(o, i, *places[symbol])] = partial
    return partials


def size(expression: sympy.Basic, sizes: dict[sympy.Basic, int]) -> int:
    """Returns how many operations an expression has when it is written out.

    Args:
        expression: The expression.
        sizes: Sizes that are known; what is found is added, so that an expression with
            shared parts is counted in the time of its parts.
    """
    stack = [expression]
    while stack:
        node = stack[-1]
        if node in sizes:
            stack.pop()
        elif missing := [part for part in node.args if part not in sizes]:
            stack.extend(missing)
        else:
            parts = sum(sizes[part] for part in node.args)
            sizes[stack.pop()] = parts + max(1, len(node.args) - 1) if node.args else 0
    return sizes[expression]


class Entry(sympy.Dummy):
    """An entry of an array. Differentiation comes here again and again: it checks the clock."""

    clock: Clock

    def _eval_derivative(self, s):
        self.clock.check()
        return super()._eval_derivative(s)

    def _sympystr(self, printer):
        return self.name


def _symbols(name: str, variable: Any, value: Any, clock: Clock) -> Any:
    """Returns an array of new symbols; what is no number of floating point stays as it is."""
    shape, dtype = variable.aval.shape, variable.aval.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        if value is None or isinstance(value, jax.core.Tracer | jax.ShapeDtypeStruct):
            raise NotImplementedError(
                "Symbolic(route='expression') needs to know the integers and conditions that a "
                f"function uses, but one of shape {shape} and dtype {dtype} is traced. Use "
                "route='program', or call it outside of jit and vmap."
            )
        return value
    count = int(np.prod(shape, dtype=int))
    clock.check(count)
    places = np.ndindex(*shape)
    entries = [Entry(f"{name}{list(place) if place else ''}", real=True) for place in places]
    for entry in entries:
        entry.clock = clock
    return objects.array_of(entries, shape)


def _known(arrays, values) -> dict[sympy.Symbol, float]:
    """Returns the value of every symbol whose value is known."""
    known: dict[sympy.Symbol, float] = {}
    for array, value in zip(arrays, values, strict=True):
        is_open = value is None or isinstance(value, jax.core.Tracer | jax.ShapeDtypeStruct)
        if objects.is_object(array) and not is_open:
            known.update(zip(array.flat, np.asarray(value, np.float64).flat, strict=True))
    return known


def _is_floating(x):
    return jnp.issubdtype(x.dtype, jnp.floating)


def _widest(arrays):
    return max((x.dtype for x in arrays), key=lambda dtype: jnp.finfo(dtype).bits)


def _assembled(terms, shapes, dtypes):
    """Returns arrays from their entries, by array and flat position; others are 0."""
    arrays = []
    for number, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
        count = int(np.prod(shape, dtype=int))
        zero = jnp.zeros((), dtype)
        entries = [
            terms[number, j].astype(dtype) if (number, j) in terms else zero for j in range(count)
        ]
        flat = jnp.stack(entries) if entries else jnp.zeros(0, dtype)
        arrays.append(flat.reshape(shape))
    return arrays
