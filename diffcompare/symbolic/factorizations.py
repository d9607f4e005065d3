"""How a derivative crosses factorizations of matrices: by the equations that define them.

Each rule differentiates an equation, such as A V = V diag(w), and solves it for what is asked;
it costs a few products of matrices, whatever the algorithm behind the value.

References:
    Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation", 2008. Murray, "Differentiation of the Cholesky decomposition", 2016,
    arXiv:1602.07527. Townsend, "Differentiating the singular value decomposition", 2016.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax.lax.linalg import triangular_solve

from diffcompare.symbolic.rule import Rule, apply

Array = Any


def _transposed(a: Array) -> Array:
    return jnp.swapaxes(a, -1, -2)


def _times(*matrices: Array) -> Array:
    product = matrices[0]
    for matrix in matrices[1:]:
        product = jnp.matmul(product, matrix, precision="highest")
    return product


def _diagonal(values: Array) -> Array:
    return values[..., None] * jnp.eye(values.shape[-1], dtype=values.dtype).reshape(
        (1,) * (values.ndim - 1) + (values.shape[-1],) * 2
    )


def _half(a: Array) -> Array:
    """Returns the lower triangle, with half of the diagonal."""
    return jnp.tril(a) - _diagonal(jnp.diagonal(a, axis1=-2, axis2=-1)) / 2


@dataclasses.dataclass(frozen=True)
class Cholesky(Rule):
    """`cholesky`, which reads the lower triangle: L L^T = A."""

    eqn: Any

    def push(self, inputs, outputs, tangents):
        (change,) = tangents
        factor = jnp.tril(outputs[0])  # above it the primitive leaves what it likes
        change = jnp.tril(change) + _transposed(jnp.tril(change, -1))
        inner = triangular_solve(factor, change, left_side=True, lower=True)
        inner = triangular_solve(factor, inner, transpose_a=True, lower=True)
        return [_times(factor, _half(inner))]

    def pull(self, inputs, outputs, weights):
        (weight,) = weights
        factor = jnp.tril(outputs[0])
        inner = _half(_times(_transposed(factor), weight))
        inner = triangular_solve(factor, inner, left_side=True, lower=True, transpose_a=True)
        inner = triangular_solve(factor, inner, lower=True)
        return [jnp.tril(inner) + jnp.tril(_transposed(inner), -1)]


@dataclasses.dataclass(frozen=True)
class TriangularSolve(Rule):
    """`triangular_solve`: op(A) X = B, or X op(A) = B."""

    eqn: Any

    def push(self, inputs, outputs, tangents):
        (a, b), (x,) = inputs, outputs
        change, right = tangents
        right = jnp.zeros_like(b) if right is None else right
        if change is not None:
            change = self._triangle(change)
            change = _transposed(change) if self.eqn.params["transpose_a"] else change
            moved = _times(change, x) if self.eqn.params["left_side"] else _times(x, change)
            right = right - moved
        return apply(self.eqn, [a, right])

    def pull(self, inputs, outputs, weights):
        (a, _), (x,) = inputs, outputs
        params = self.eqn.params
        is_turned = params["transpose_a"]
        (by_b,) = apply(self.eqn, [a, weights[0]], transpose_a=not is_turned)
        if params["left_side"]:
            by_a = -_times(by_b, _transposed(x))
        else:
            by_a = -_times(_transposed(x), by_b)
        return [self._triangle(_transposed(by_a) if is_turned else by_a), by_b]

    def _triangle(self, a):
        offset = 1 if self.eqn.params["unit_diagonal"] else 0
        return jnp.tril(a, -offset) if self.eqn.params["lower"] else jnp.triu(a, offset)


@dataclasses.dataclass(frozen=True)
class Lu(Rule):
    """`lu` of a square matrix: L U = P A."""

    eqn: Any

    def push(self, inputs, outputs, tangents):
        both, _, order = outputs
        change = jnp.take_along_axis(tangents[0], order[..., None], axis=-2)
        inner = triangular_solve(both, change, left_side=True, lower=True, unit_diagonal=True)
        inner = triangular_solve(both, inner, lower=False)
        below = _times(self._lower(both), jnp.tril(inner, -1))
        return [below + _times(jnp.triu(inner), jnp.triu(both)), None, None]

    def pull(self, inputs, outputs, weights):
        both, _, order = outputs
        below = _times(_transposed(self._lower(both)), jnp.tril(weights[0], -1))
        above = _times(jnp.triu(weights[0]), _transposed(jnp.triu(both)))
        inner = jnp.tril(below, -1) + jnp.triu(above)
        inner = triangular_solve(both, inner, lower=False, transpose_a=True)
        inner = triangular_solve(
            both, inner, left_side=True, lower=True, transpose_a=True, unit_diagonal=True
        )
        back = jnp.argsort(order, axis=-1)
        return [jnp.take_along_axis(inner, back[..., None], axis=-2)]

    def _lower(self, both):
        return jnp.tril(both, -1) + _diagonal(jnp.ones(both.shape[:-1], both.dtype))


def _gaps(values: Array) -> Array:
    """Returns 1 / (w_j - w_i), and 0 on the diagonal."""
    one = _diagonal(jnp.ones_like(values))
    return 1 / (values[..., None, :] - values[..., :, None] + one) - one


@dataclasses.dataclass(frozen=True)
class Eigh(Rule):
    """`eigh`: A V = V diag(w) with V^T V = 1."""

    eqn: Any

    def push(self, inputs, outputs, tangents):
        vectors, values = outputs
        inner = _times(_transposed(vectors), tangents[0], vectors)
        moved = _times(vectors, _gaps(values) * inner)
        return [moved, jnp.diagonal(inner, axis1=-2, axis2=-1)]

    def pull(self, inputs, outputs, weights):
        vectors, values = outputs
        by_vectors, by_values = weights
        inner = _diagonal(jnp.zeros_like(values) if by_values is None else by_values)
        if by_vectors is not None:
            inner = inner + _gaps(values) * _times(_transposed(vectors), by_vectors)
        return [_times(vectors, inner, _transposed(vectors))]


@dataclasses.dataclass(frozen=True)
class Svd(Rule):
    """`svd`: A = U diag(s) V^T with U^T U = V^T V = 1."""

    eqn: Any

    def push(self, inputs, outputs, tangents):
        (change,) = tangents
        s, u, v = self._factors(inputs, outputs)
        inner = _times(_transposed(u), change, v)
        slopes = [jnp.diagonal(inner, axis1=-2, axis2=-1)]
        if len(outputs) == 1:
            return slopes
        gaps, across = _gaps(s * s), s[..., None, :]
        by_u, by_v = inner * across, inner * s[..., :, None]
        of_u = _times(u, gaps * (by_u + _transposed(by_u)))
        of_v = _times(v, gaps * (by_v + _transposed(by_v)))
        rows, columns = inputs[0].shape[-2:]
        if rows > columns:
            of_u = of_u + _outside(u, _times(change, v)) / across
        if columns > rows:
            of_v = of_v + _outside(v, _times(_transposed(change), u)) / across
        return [*slopes, of_u, _transposed(of_v)]

    def pull(self, inputs, outputs, weights):
        s, u, v = self._factors(inputs, outputs)
        by_s, by_u, by_vt = [*weights, None, None][:3]
        rows, columns = inputs[0].shape[-2:]
        inner = _diagonal(jnp.zeros_like(s) if by_s is None else by_s)
        gaps, across = _gaps(s * s), s[..., None, :]
        rest = jnp.zeros_like(inputs[0])
        if by_u is not None:
            part = gaps * _times(_transposed(u), by_u)
            inner = inner + (part + _transposed(part)) * across
            if rows > columns:
                rest = rest + _times(_outside(u, by_u) / across, _transposed(v))
        if by_vt is not None:
            by_v = _transposed(by_vt)
            part = gaps * _times(_transposed(v), by_v)
            inner = inner + (part + _transposed(part)) * s[..., :, None]
            if columns > rows:
                rest = rest + _times(u, _transposed(_outside(v, by_v) / across))
        return [_times(u, inner, _transposed(v)) + rest]

    def _factors(self, inputs, outputs):
        if len(outputs) == 1:
            s, u, vt = apply(self.eqn, inputs, compute_uv=True, full_matrices=False)
        else:
            s, u, vt = outputs
        return s, u, _transposed(vt)


def _outside(basis: Array, a: Array) -> Array:
    """Returns what of the columns of a matrix stands outside of the span of a basis."""
    return a - _times(basis, _times(_transposed(basis), a))


def _eigh(eqn):
    return None if eqn.params.get("subset_by_index") else Eigh(eqn)


def _lu(eqn):
    rows, columns = eqn.invars[0].aval.shape[-2:]
    return Lu(eqn) if rows == columns else None


def _svd(eqn):
    params = eqn.params
    rows, columns = eqn.invars[0].aval.shape[-2:]
    is_whole = params["full_matrices"] and params["compute_uv"] and rows != columns
    return None if is_whole or params.get("subset_by_index") else Svd(eqn)


RULES: dict[str, Any] = {
    "cholesky": Cholesky,
    "eigh": _eigh,
    "lu": _lu,
    "svd": _svd,
    "triangular_solve": TriangularSolve,
}
