"""The derivative as one expression of every entry: SymPy's own, as in a textbook.

Every entry of every array becomes a symbol, every output one expression in them, and SymPy
differentiates that. The formula is the one a person would write, and it swells: its size
grows faster than that of the function. A budget stops it in time.
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

from diffcompare._jaxpr import objects, walk
from diffcompare.symbolic import operations
from diffcompare.symbolic.algebra import SympyAlgebra
from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.evaluation import evaluate

Array = Any

# Operations of all derivatives together, written out; SymPy takes about three seconds for them.
BUDGET = 100_000


@dataclasses.dataclass(frozen=True)
class Jacobian:
    """The partial derivatives of a function of arrays, as expressions."""

    jaxpr: ClosedJaxpr
    symbols: tuple[sympy.Symbol, ...]  # of every entry of what is closed over, then of the inputs
    inputs: tuple[np.ndarray, ...]  # arrays of symbols
    outputs: tuple[np.ndarray, ...]  # arrays of expressions, for the outputs that are wanted
    partials: dict[tuple[int, int, int, int], sympy.Expr]  # by output, entry, input, entry

    def run(self, constants: Sequence[Array], inputs: Sequence[Array]) -> "Values":
        """Returns the outputs and the partial derivatives as numbers."""
        outputs = jaxpr_as_fun(self.jaxpr)(*inputs)
        floats = [x for x in [*constants, *inputs] if _is_floating(x)]
        dtype = jnp.result_type(*floats) if len({x.dtype for x in floats}) == 1 else _widest(floats)
        entries = [entry for x in floats for entry in jnp.ravel(x).astype(dtype)]
        values = dict(zip(self.symbols, entries, strict=True))
        values[operations.NAN] = jnp.asarray(jnp.nan, dtype)
        numbers = {key: evaluate(partial, values, dtype) for key, partial in self.partials.items()}
        return Values(self, outputs, inputs, numbers)


@dataclasses.dataclass(frozen=True)
class Values:
    """A Jacobian at a point."""

    jacobian: Jacobian
    outputs: Sequence[Array]
    inputs: Sequence[Array]
    partials: dict[tuple[int, int, int, int], Array]

    def push(self, tangents: Sequence[Array]) -> list[Array]:
        """Returns the slopes of the wanted outputs."""
        shapes = [np.shape(expressions) for expressions in self.jacobian.outputs]
        flat = [jnp.ravel(tangent) for tangent in tangents]
        terms = self._terms(lambda o, i, x, j: ((o, i), flat[x][j]))
        return _assembled(terms, shapes, [out.dtype for out in self.outputs[: len(shapes)]])

    def pull(self, weights: Sequence[Array]) -> list[Array]:
        """Returns the gradients by the inputs of the weighted sum of the wanted outputs."""
        flat = [jnp.ravel(weight) for weight in weights]
        terms = self._terms(lambda o, i, x, j: ((x, j), flat[o][i]))
        return _assembled(
            terms, [jnp.shape(x) for x in self.inputs], [x.dtype for x in self.inputs]
        )

    def _terms(self, place):
        terms: dict[tuple[int, int], Array] = {}
        for key, partial in self.partials.items():
            target, factor = place(*key)
            term = partial * factor.astype(partial.dtype)
            terms[target] = terms[target] + term if target in terms else term
        return terms


def derive(
    jaxpr: ClosedJaxpr, wanted: int, convention: Convention, budget: int = BUDGET
) -> Jacobian:
    """Returns the partial derivatives of the first outputs of a jaxpr.

    Args:
        jaxpr: The function of floating-point arrays.
        wanted: How many of its outputs are differentiated.
        convention: What the derivative is at a kink.
        budget: How many operations the derivatives may have together.

    Raises:
        NotImplementedError: The derivatives are larger than the budget.
        UnknownPrimitiveError: A primitive has no rule.
    """
    inner: Any = jaxpr.jaxpr
    constants = [_symbols(f"c{i}", v, jaxpr.consts[i]) for i, v in enumerate(inner.constvars)]
    inputs = [_symbols(f"x{i}", variable) for i, variable in enumerate(inner.invars)]
    interpreter = _Interpreter(SympyAlgebra(convention), budget)
    outputs = walk.walk(jaxpr, interpreter, inputs, constants)[:wanted]
    outputs = [output if objects.is_object(output) else None for output in outputs]
    expressions = tuple(
        objects.array_of([sympy.S.Zero] * v.aval.size, v.aval.shape) if output is None else output
        for output, v in zip(outputs, inner.outvars, strict=False)
    )
    held = [array for array in [*constants, *inputs] if objects.is_object(array)]
    symbols = tuple(symbol for array in held for symbol in array.flat)
    partials = _partials(expressions, inputs, budget)
    return Jacobian(jaxpr, symbols, tuple(inputs), expressions, partials)


class _Interpreter(objects.ObjectInterpreter):
    """Stops before arrays are written out entry by entry that nobody could read."""

    def __init__(self, algebra, budget):
        super().__init__(algebra)
        self.budget = budget
        self.spent = 0

    def equation(self, eqn, inputs):
        if any(map(objects.is_object, inputs)):
            self.spent += _work(eqn)
            _check_budget(self.spent, self.budget)
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


def _partials(outputs, inputs, budget):
    sizes: dict[sympy.Basic, int] = {}
    spent = 0
    partials = {}
    places = {s: (x, j) for x, array in enumerate(inputs) for j, s in enumerate(array.flat)}
    for o, output in enumerate(outputs):
        for i, expression in enumerate(output.flat):
            expression = sympy.sympify(expression)
            _check_budget(size(expression, sizes), budget)
            found = sorted(expression.free_symbols & places.keys(), key=places.__getitem__)
            for symbol in found:
                partial = expression.diff(symbol)
                spent += size(partial, sizes)
                _check_budget(spent, budget)
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


def _check_budget(operations_count: int, budget: int) -> None:
    if operations_count > budget:
        raise NotImplementedError(
            f"Symbolic(route='expression') writes out every entry, and needs more than {budget} "
            "operations for these derivatives. Use route='program', whose size is that of the "
            "function."
        )


def _symbols(name: str, variable: Any, value: Any = None) -> Any:
    """Returns an array of new symbols; what is no number of floating point stays as it is."""
    shape, dtype = variable.aval.shape, variable.aval.dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        if isinstance(value, jax.core.Tracer):
            raise NotImplementedError(
                "Symbolic(route='expression') needs to know the integers and conditions that a "
                f"function uses, but one of shape {shape} and dtype {dtype} is traced. Use "
                "route='program', or call it outside of jit and vmap."
            )
        return value
    count = int(np.prod(shape, dtype=int))
    return objects.array_of([sympy.Dummy(f"{name}_{j}", real=True) for j in range(count)], shape)


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
