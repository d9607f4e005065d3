"""Arrays of objects, and arrays of numbers beside them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare._jaxpr import views


def is_object(value: Any) -> bool:
    """Returns whether a value holds elements, and is not concrete."""
    return isinstance(value, np.ndarray) and value.dtype == object


def elementwise(function: Callable[..., Any], *arrays: Any) -> np.ndarray:
    """Returns an array of objects: `function` of the entries of arrays, broadcast together."""
    # NumPy watches the processor's flags, and would warn of a NaN that is meant.
    with np.errstate(all="ignore"):
        result = np.frompyfunc(function, len(arrays), 1)(*arrays)
    return as_array(result)


def as_array(value: Any) -> np.ndarray:
    """Returns what NumPy gave as an array, which it unpacks where the shape is ()."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    return array_of([value], ())


def polynomial(x: Any, *coefficients: Any) -> Any:
    """Returns the value of the primitive `polynomial`; the lowest degree comes first."""
    *lower, total = coefficients
    for coefficient in reversed(lower):
        total = total * x + coefficient
    return total


def array_of(elements: Sequence[Any], shape: Sequence[int]) -> np.ndarray:
    """Returns an array of objects with these elements, whatever they look like to NumPy."""
    array = np.empty(len(elements), dtype=object)
    for position, element in enumerate(elements):
        array[position] = element
    return array.reshape(shape)


def decided(values: np.ndarray) -> np.ndarray:
    """Returns conditions as a concrete array where every one of them is known."""
    if values.size and all(isinstance(value, bool | np.bool_) for value in values.flat):
        return values.astype(bool)
    return values


def concrete(eqn: Any, inputs: Sequence[Any]) -> Sequence[Any]:
    """Returns the outputs of an equation of known arrays, computed by NumPy, or by JAX."""
    found = _by_numpy(eqn, inputs)
    if found is not None:
        return found
    # What is known is computed now, also while JAX traces.
    with jax.ensure_compile_time_eval():
        outputs = eqn.primitive.bind(*map(jnp.asarray, inputs), **eqn.params)
    return outputs if eqn.primitive.multiple_results else [outputs]


def _by_numpy(eqn, inputs):
    """Returns the outputs where they are simple functions of integers, else None.

    JAX would compile each of them, for each shape.
    """
    for variable in (*eqn.invars, *eqn.outvars):
        if getattr(variable.aval.dtype, "kind", None) not in ("b", "i", "u"):
            return None
    if any(isinstance(value, jax.core.Tracer) for value in inputs):
        return None
    arrays = list(map(np.asarray, inputs))
    found = views.moved(eqn, arrays)
    if found is None:
        function = _OF_INTEGERS.get(eqn.primitive.name)
        if function is None:
            return None
        with np.errstate(all="ignore"):  # integers overflow in silence
            found = [function(eqn, *arrays)]
    return [
        np.asarray(array, variable.aval.dtype)
        for array, variable in zip(found, eqn.outvars, strict=True)
    ]


def _iota(eqn):
    axis, shape = eqn.params["dimension"], eqn.outvars[0].aval.shape
    spread = [-1 if place == axis else 1 for place in range(len(shape))]
    return np.broadcast_to(np.arange(shape[axis]).reshape(spread), shape)


def _select(eqn, which, *cases):
    return np.choose(np.asarray(which, np.int64), cases)


_OF_INTEGERS: Mapping[str, Callable[..., Any]] = {
    "convert_element_type": lambda eqn, x: x.astype(eqn.outvars[0].aval.dtype),
    "iota": _iota,
    "select_n": _select,
    **{
        name: lambda eqn, *xs, function=function: function(*xs)
        for name, function in {
            "add": np.add, "and": np.bitwise_and, "eq": np.equal, "ge": np.greater_equal,
            "gt": np.greater, "le": np.less_equal, "lt": np.less, "max": np.maximum,
            "min": np.minimum, "mul": np.multiply, "ne": np.not_equal, "neg": np.negative,
            "not": np.invert, "or": np.bitwise_or, "sub": np.subtract, "xor": np.bitwise_xor,
        }.items()
    },
}  # fmt: skip
