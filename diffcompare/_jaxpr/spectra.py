"""Eigenvalues and singular values by the equations that define them.

The value starts from what the machine computes and is refined by a few steps, each of which
doubles the digits, in whatever arithmetic interprets them. The derivative is that of the last
step, which is that of the equations.

References:
    Ogita and Aishima, "Iterative refinement for symmetric eigenvalue decomposition", 2018.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = Any
Function = Callable[..., Any]

# What the name of a function says that is computed by the machine as a whole; see `objects`.
MACHINE = "_by_machine"

# Each doubles the digits: 7 of float32 become 200.
_STEPS = 5


def eigh(eqn: Any) -> Function | None:
    """Returns the eigenvectors and eigenvalues of symmetric matrices."""
    params = eqn.params
    if params.get("subset_by_index") or params.get("sort_eigenvalues") is False:
        return None

    def decomposed(a):
        kept = jnp.triu if params["lower"] else jnp.tril
        # One triangle gives the value, both have a derivative, as in JAX.
        missing = kept(jnp.ones(a.shape[-2:], bool), 1 if params["lower"] else -1)
        missing = jnp.broadcast_to(missing, a.shape)
        a = jnp.where(missing, a + lax.stop_gradient(_turned(a) - a), a)
        start = _machine(lambda a: jnp.linalg.eigh(a)[1], a)
        vectors, values = _eigen(a, start)
        return vectors, values

    return decomposed


def svd(eqn: Any) -> Function | None:
    """Returns the singular values and vectors, from the eigenvectors of A^T A or A A^T."""
    params = eqn.params
    rows, columns = eqn.invars[0].aval.shape[-2:]
    is_whole = params["full_matrices"] and params["compute_uv"] and rows != columns
    if is_whole or params.get("subset_by_index"):
        return None

    def decomposed(a):
        is_tall = rows >= columns
        start = _machine(lambda a: _shorter_vectors(a, is_tall), a)
        a = a if is_tall else _turned(a)
        right, squares = _eigen(_times(_turned(a), a), start)
        values = jnp.sqrt(squares)
        if not params["compute_uv"]:
            return [values]
        left = _times(a, right) / values[..., None, :]
        if not is_tall:
            left, right = right, left
        return values, left, _turned(right)

    return decomposed


def _shorter_vectors(a: Array, is_tall: bool) -> Array:
    left, _, right = jnp.linalg.svd(a, full_matrices=False)
    return _turned(right) if is_tall else left


def _eigen(a: Array, vectors: Array) -> tuple[Array, Array]:
    """Returns eigenvectors and eigenvalues of symmetric matrices, from approximate vectors."""
    frozen = lax.stop_gradient(a)
    identity = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    is_off = identity == jnp.zeros_like(a)
    for _ in range(_STEPS):
        lack = identity - _times(_turned(vectors), vectors)
        inner = _times(_turned(vectors), frozen, vectors)
        values = _diagonal(inner) / (jnp.ones_like(_diagonal(lack)) - _diagonal(lack))
        gaps = values[..., None, :] - values[..., :, None]
        apart = gaps != jnp.zeros_like(gaps)
        moved = (inner + values[..., None, :] * lack) / jnp.where(apart, gaps, jnp.ones_like(gaps))
        moved = jnp.where(is_off & apart, moved, lack / 2)
        vectors = vectors + _times(vectors, moved)
    vectors = lax.stop_gradient(vectors)
    inner = _times(_turned(vectors), a, vectors)
    values = _diagonal(inner)
    # Equal eigenvalues divide by 0 here: their vectors have no derivative.
    gaps = lax.stop_gradient(values[..., None, :] - values[..., :, None]) + identity
    turned = jnp.where(is_off, inner / gaps, jnp.zeros_like(inner))
    return vectors + _times(vectors, turned), values


def _machine(function: Function, a: Array) -> Array:
    """Returns a function of machine numbers near to an array, which has no derivative."""
    kind = jnp.dtype(f"int{jnp.finfo(a.dtype).bits}")

    def by_machine(bits):
        found = function(lax.bitcast_convert_type(bits, a.dtype))
        return lax.bitcast_convert_type(found, kind)

    by_machine.__name__ = MACHINE
    bits = jax.jit(by_machine)(lax.bitcast_convert_type(a, kind))
    return lax.bitcast_convert_type(bits, a.dtype)


def _turned(a: Array) -> Array:
    return jnp.swapaxes(a, -1, -2)


def _diagonal(a: Array) -> Array:
    return jnp.diagonal(a, axis1=-2, axis2=-1)


def _times(*matrices: Array) -> Array:
    product = matrices[0]
    for matrix in matrices[1:]:
        product = jnp.matmul(product, matrix, precision="highest")
    return product
