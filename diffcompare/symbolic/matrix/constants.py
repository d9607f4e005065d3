"""What a program computes from numbers alone, such as masks and identities, is computed."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from diffcompare._jaxpr import walk
from diffcompare.symbolic.matrix.values import Value

LARGEST = 2**22  # entries


def folded(eqn: JaxprEqn, inputs: Sequence[Value], arrays: Sequence[Any]) -> list[Any] | None:
    """Returns the outputs of an equation on known integers or booleans, else None.

    `iota` stays a symbol, by which a one-hot matrix is recognised.
    """
    outputs: list[Any] = [variable.aval for variable in eqn.outvars]
    is_discrete = not all(jnp.issubdtype(aval.dtype, jnp.floating) for aval in outputs) or any(
        not jnp.issubdtype(atom.aval.dtype, jnp.floating)  # type: ignore[attr-defined]
        for atom in eqn.invars
    )
    if not inputs or not is_discrete or eqn.effects or walk.called(eqn) is not None:
        return None
    if eqn.primitive.name in ("scan", "while", "cond"):
        return None
    variables: list[Any] = [*eqn.invars, *eqn.outvars]
    if any(jnp.issubdtype(v.aval.dtype, jax.dtypes.extended) for v in variables):
        return None  # random keys, which are no arrays of numbers
    known = [
        _known(value, atom.aval.dtype, arrays)  # type: ignore[attr-defined]
        for value, atom in zip(inputs, eqn.invars, strict=True)
    ]
    if any(array is None for array in known) or any(aval.size > LARGEST for aval in outputs):
        return None
    with jax.ensure_compile_time_eval():
        found = eqn.primitive.bind(*map(jnp.asarray, known), **eqn.params)
        return [
            np.asarray(array) for array in (found if eqn.primitive.multiple_results else [found])
        ]


def _known(value: Value, dtype: Any, arrays: Sequence[Any]) -> np.ndarray | None:
    node = value.node
    if node.op in ("number", "special"):
        return np.full(value.shape, float(node.param), dtype)
    if node.op == "range":
        array = np.arange(node.param, dtype=dtype)
    elif node.op == "array" and not isinstance(arrays[node.param], jax.core.Tracer):
        array = np.asarray(arrays[node.param])
    else:
        return None
    own = [length if axis is not None else 1
           for axis, length in zip(value.axes, value.shape, strict=True)]  # fmt: skip
    return np.broadcast_to(array.reshape(own), value.shape)
