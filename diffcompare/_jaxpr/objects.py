"""Interpreting a jaxpr over NumPy arrays of objects, in any algebra of scalars.

An element may be a SymPy expression, a number of fifty digits or a ball: the structure of
the computation - broadcasting, contraction, reduction, movement, loops - is the same, and
stands here once. An `Algebra` says what elements are and has one row for each primitive
that works entry by entry.

Integers, booleans and random keys stay concrete, and are computed by JAX, unless they depend
on a condition that the algebra cannot decide.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import choices, expansions, indexing, movement, spectra, views, walk
from diffcompare._jaxpr.algebra import PARAMETERS as PARAMETERS
from diffcompare._jaxpr.algebra import Algebra as Algebra
from diffcompare._jaxpr.elements import array_of as array_of
from diffcompare._jaxpr.elements import as_array, concrete, decided
from diffcompare._jaxpr.elements import elementwise as elementwise
from diffcompare._jaxpr.elements import is_object as is_object


class ObjectInterpreter(walk.Interpreter[np.ndarray]):
    """Interprets a jaxpr over arrays of elements of an algebra.

    A value is a NumPy array: of dtype object where it holds elements, which every
    floating-point value becomes, and of its own dtype where it is concrete.
    """

    def __init__(self, algebra: Algebra):
        self.algebra = algebra

    def constant(self, value: Any) -> np.ndarray:
        return self.lifted(value) if _is_floating(value) else value

    def lifted(self, value: Any) -> np.ndarray:
        """Returns an array of elements for an array of numbers, or of elements already."""
        return value if is_object(value) else self.algebra.lifted(value)

    def call(self, eqn, body, inputs):
        if not any(map(is_object, inputs)):
            is_whole = walk.call_name(body) == spectra.MACHINE
            return concrete(eqn, inputs) if is_whole else None
        rule = self.algebra.call(eqn.primitive.name, body)
        return None if rule is None else [elementwise(rule, *map(self.lifted, inputs))]

    def equation(self, eqn: JaxprEqn, inputs: list[np.ndarray]) -> Sequence[np.ndarray]:
        name = eqn.primitive.name
        if any(map(is_object, inputs)) and any(map(_is_complex, eqn.outvars)):
            raise self._unknown(eqn, "for complex numbers")
        if name in _STRUCTURAL:
            return _STRUCTURAL[name](self, eqn, inputs)
        if not any(map(is_object, inputs)):
            return [self.constant(output) for output in concrete(eqn, inputs)]
        if name in movement.MOVED:
            return _move(self, eqn, inputs)
        if name in movement.IDENTITIES:
            return inputs
        if name in self.algebra.rules and not _is_integer_division(eqn):
            return [self.entrywise(eqn, inputs)]
        if not eqn.outvars:  # it prints; there is nothing to print
            return []
        simpler = expansions.expand(eqn)
        if simpler is not None:
            return self._expanded(eqn, simpler, inputs)
        raise self._unknown(eqn)

    def entrywise(self, eqn: Any, inputs: Sequence[Any]) -> np.ndarray:
        """Returns the output of an equation that works entry by entry."""
        whole = self.algebra.whole.get(eqn.primitive.name)
        if whole is not None and eqn.invars[0].aval.dtype != bool:
            with np.errstate(all="ignore"):
                return as_array(whole(*map(self.lifted, inputs)))
        return decided(elementwise(self.rule(eqn), *map(self._operand, inputs)))

    def integers(self, eqn: Any, value: Any) -> Any:
        """Returns an array of integers that is known, or decided by the algebra."""
        if not is_object(value):
            return value
        dtype = next(v.aval.dtype for v in eqn.invars if jnp.issubdtype(v.aval.dtype, jnp.integer))
        try:
            return elementwise(self.algebra.integer, value).astype(dtype)
        except NotImplementedError as error:
            raise self._unknown(eqn, "for an index that depends on the argument") from error

    def _unknown(self, eqn, where=""):
        reader = f"{self.algebra.name}, {where}," if where else self.algebra.name
        return walk.unknown_primitive(eqn, reader, self.known(), self.algebra.advice)

    def _expanded(self, eqn, simpler, inputs):
        try:
            return self.run(simpler, inputs)
        except walk.UnknownPrimitiveError as error:
            # The user called what is expanded, not what it is expanded to.
            error.place = walk.place(eqn)
            error.reader = (
                f"{self.algebra.name}, which writes '{eqn.primitive.name}' in terms of "
                "simpler operations,"
            )
            raise

    def rule(self, eqn: JaxprEqn) -> Callable[..., Any]:
        """Returns the algebra's function of elements for an equation."""
        name = eqn.primitive.name
        params = {key: eqn.params[key] for key in PARAMETERS.get(name, ())}
        function = self.algebra.rules[name]
        return functools.partial(function, **params) if params else function

    def known(self) -> set[str]:
        """Returns the names of the primitives that have a rule."""
        tables = (self.algebra.rules, _STRUCTURAL, expansions.EXPANSIONS, movement.MOVED)
        return set().union(*tables, movement.IDENTITIES, walk.CALLS)

    def run(self, jaxpr: ClosedJaxpr, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return walk.walk(jaxpr, self, inputs)

    def _operand(self, value):
        # Integers beside elements, as in x**n, are numbers; conditions stay what they are.
        return value if np.asarray(value).dtype == bool else self.lifted(value)


def _is_floating(value: Any) -> bool:
    return jnp.issubdtype(getattr(value, "dtype", type(value)), jnp.floating)


def _is_complex(variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.complexfloating)


def _is_integer_division(eqn: Any) -> bool:
    """Returns whether the rule for numbers would be wrong: integers made of open conditions."""
    names = ("and", "div", "not", "or", "rem", "sign", "xor")
    return eqn.primitive.name in names and jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.integer)


def _move(interpreter: ObjectInterpreter, eqn, inputs):
    moved = movement.moved_operands(eqn)
    inputs = [
        value if position in moved else interpreter.integers(eqn, value)
        for position, value in enumerate(inputs)
    ]
    whole = list(map(np.asarray, inputs))
    for position in moved:
        whole[position] = interpreter.lifted(inputs[position])
    found = views.moved(eqn, whole)
    if found is not None:
        return found
    return [_MOVED_BY_INDEX[eqn.primitive.name](interpreter, eqn, *whole)]


def _gather(interpreter, eqn, values, indices):
    fill = eqn.params.get("fill_value")
    pool = np.empty(values.size + 1, object)
    pool[:-1] = values.ravel()
    pool[-1] = interpreter.algebra.number(math.nan if fill is None else fill)
    places = indexing.gathered(eqn, values.shape, indices)
    return pool[places.ravel()].reshape(places.shape)


def _scatter(interpreter, eqn, values, indices, updates):
    pool = np.empty(values.size + 1, object)
    pool[:-1] = values.ravel()
    places = indexing.scattered(eqn, values.shape, indices, updates.shape)
    pool[places.ravel()] = updates.ravel()  # of several at one place, the last
    return pool[:-1].reshape(values.shape)


_MOVED_BY_INDEX: dict[str, Callable[..., Any]] = {"gather": _gather, "scatter": _scatter}


def _reduce(interpreter, eqn, inputs, fold):
    (values,) = inputs
    if not is_object(values):
        return [interpreter.constant(output) for output in concrete(eqn, inputs)]
    axes = eqn.params["axes"]
    kept = [axis for axis in range(values.ndim) if axis not in axes]
    shape = [values.shape[axis] for axis in kept]
    length = math.prod(values.shape[axis] for axis in axes)
    rows = values.transpose(*kept, *axes).reshape(math.prod(shape), length)
    return [decided(array_of([fold(list(row)) for row in rows], shape))]


def _reduction(name: str):
    def reduction(interpreter, eqn, inputs):
        return _reduce(interpreter, eqn, inputs, getattr(interpreter.algebra, name))

    return reduction


def _logical_reduction(name: str):
    def reduction(interpreter, eqn, inputs):
        fold = lambda row: functools.reduce(interpreter.algebra.rules[name], row)
        return _reduce(interpreter, eqn, inputs, fold)

    return reduction


def _cumulative(name: str):
    def cumulate(interpreter, eqn, inputs):
        if not is_object(inputs[0]):
            return [interpreter.constant(output) for output in concrete(eqn, inputs)]
        values = np.moveaxis(inputs[0], eqn.params["axis"], 0)
        order = range(len(values))
        order = order[::-1] if eqn.params["reverse"] else order
        results, total = np.empty_like(values), None
        for position in order:
            row = values[position]
            total = (
                row if total is None else elementwise(interpreter.algebra.rules[name], total, row)
            )
            results[position] = as_array(total)[()]
        return [np.moveaxis(results, 0, eqn.params["axis"])]

    return cumulate


def _dot_general(interpreter, eqn, inputs):
    if not any(map(is_object, inputs)):
        return [interpreter.constant(output) for output in concrete(eqn, inputs)]
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, left_shape, batch = _as_rows(interpreter.lifted(inputs[0]), left_batch, left_sum)
    right, right_shape, _ = _as_rows(interpreter.lifted(inputs[1]), right_batch, right_sum)
    products = interpreter.algebra.matmul(left, right.transpose(0, 2, 1))
    return [products.reshape([*batch, *left_shape, *right_shape])]


def _as_rows(values, batch_axes, summed_axes):
    """Returns values as (batch, free, summed), with the free and the batch shape."""
    free = [axis for axis in range(values.ndim) if axis not in (*batch_axes, *summed_axes)]
    groups = [[values.shape[axis] for axis in axes] for axes in (batch_axes, free, summed_axes)]
    rows = values.transpose(*batch_axes, *free, *summed_axes)
    return rows.reshape([math.prod(shape) for shape in groups]), groups[1], groups[0]


def _select_n(interpreter, eqn, inputs):
    which, *cases = inputs
    if not is_object(which) and not any(map(is_object, cases)):
        return concrete(eqn, inputs)
    if not any(map(is_object, cases)) and np.asarray(cases[0]).dtype != bool:
        which = elementwise(interpreter.algebra.decide, which)
        kind = eqn.invars[0].aval.dtype
        return concrete(eqn, [which.astype(kind), *cases])
    select = interpreter.algebra.select
    return [decided(elementwise(lambda w, *c: select(w, c), which, *cases))]


def _convert(interpreter, eqn, inputs):
    (values,) = inputs
    dtype = eqn.params["new_dtype"]
    if not is_object(values):
        return [interpreter.constant(output) for output in concrete(eqn, inputs)]
    algebra = interpreter.algebra
    if jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.floating):
        if jnp.issubdtype(dtype, jnp.floating):
            return [values]
        integers = elementwise(algebra.integer, values)
        return [integers.astype(dtype)]
    if eqn.invars[0].aval.dtype != bool:
        return [values]
    cases = algebra.number(0.0), algebra.number(1.0)
    return [elementwise(lambda condition: algebra.select(condition, cases), values)]


def _bits(interpreter, eqn, inputs):
    """The bits of elements are those of machine numbers near to them."""
    (values,) = inputs
    if is_object(values):
        near = elementwise(interpreter.algebra.approximate, values)
        inputs = [near.astype(eqn.invars[0].aval.dtype)]
    return [interpreter.constant(output) for output in concrete(eqn, inputs)]


def _scan(interpreter, eqn, inputs):
    def stack(column, variable):
        if not column:
            return interpreter.constant(np.zeros(variable.aval.shape, variable.aval.dtype))
        if any(map(is_object, column)):
            column = [interpreter.lifted(value) for value in column]
        return np.stack(column)

    def entry(values, step):
        taken = values[step]
        return array_of([taken], ()) if is_object(values) and values.ndim == 1 else taken

    return walk.unrolled_scan(eqn, inputs, interpreter.run, entry, stack)


def _cond(interpreter, eqn, inputs):
    index, *operands = inputs
    choice = int(interpreter.algebra.decide(index.item() if is_object(index) else index))
    bodies = walk.branches(eqn)
    return interpreter.run(bodies[min(max(choice, 0), len(bodies) - 1)], operands)


def _while(interpreter, eqn, inputs):
    loop = walk.while_parts(eqn)
    start = loop.condition_constants + loop.body_constants
    tested, used = inputs[: loop.condition_constants], inputs[loop.condition_constants : start]
    carry = list(inputs[start:])
    while True:
        (again,) = interpreter.run(loop.condition, [*tested, *carry])
        if not interpreter.algebra.decide(again.item() if is_object(again) else again):
            return carry
        carry = interpreter.run(loop.body, [*used, *carry])


_STRUCTURAL: dict[str, Callable[..., Sequence[Any]]] = {
    **choices.CHOICES,
    "bitcast_convert_type": _bits,
    "cond": _cond,
    "convert_element_type": _convert,
    "cumprod": _cumulative("mul"),
    "cumsum": _cumulative("add"),
    "dot_general": _dot_general,
    "reduce_and": _logical_reduction("and"),
    "reduce_max": _reduction("largest"),
    "reduce_min": _reduction("smallest"),
    "reduce_or": _logical_reduction("or"),
    "reduce_prod": _reduction("product"),
    "reduce_sum": _reduction("sum"),
    "scan": _scan,
    "select_n": _select_n,
    "while": _while,
}
