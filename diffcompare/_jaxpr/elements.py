"""Arrays of objects, and arrays of numbers beside them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn


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


def concrete(eqn: JaxprEqn, inputs: Sequence[Any]) -> Sequence[Any]:
    """Returns the outputs of an equation of known arrays, computed by JAX."""
    # What is known is computed now, also while JAX traces.
    with jax.ensure_compile_time_eval():
        outputs = eqn.primitive.bind(*map(jnp.asarray, inputs), **eqn.params)
    return outputs if eqn.primitive.multiple_results else [outputs]
