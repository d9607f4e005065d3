"""Linear algebra over lifted values, by first-order perturbation of the factors.

With `A + j dA` in place of `A` a factorisation changes by a solution of linear equations. The
matrices are matrices of lifted numbers, so a transpose never conjugates the unit `j`; where the
function itself is complex, `H` below conjugates its `i` and nothing else.

References:
    Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation", 2008; Walter and Lehmann, "Algorithmic differentiation of linear algebra
    functions", 2010.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from diffcompare._jaxpr.lifted import Lifted, bind, imaginary, is_lifted, real

_matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _transposed(a):
    return jnp.swapaxes(a, -1, -2)


def _adjoint(a):
    return jnp.conj(_transposed(a))


def _solve(triangle, b, **options):
    return lax.linalg.triangular_solve(triangle, b, **options)


def _times_diagonal(a, diagonal):
    return a * diagonal[..., None, :]


def _diagonal(a):
    return jnp.diagonal(a, axis1=-2, axis2=-1)


def _hermitian_from_lower(a):
    """Returns the matrix of which only the lower triangle is read."""
    strict = jnp.tril(a, -1)
    on_diagonal = jnp.real(_diagonal(a)).astype(a.dtype)
    return (
        strict
        + _adjoint(strict)
        + _times_diagonal(jnp.eye(a.shape[-1], dtype=a.dtype), on_diagonal)
    )


def _cholesky(interpreter, eqn, inputs):
    (a,) = inputs
    (factor,) = bind(eqn, [a.re])
    lower = jnp.tril(factor)  # the primitive leaves what it was given above the diagonal
    # L^-1 dA L^-H, of which the lower triangle with half the diagonal is L^-1 dL.
    da = _hermitian_from_lower(a.im)
    half = _solve(lower, da, left_side=True, lower=True)
    both = _solve(lower, half, left_side=False, lower=True, transpose_a=True, conjugate_a=True)
    rest = jnp.tril(both) - _times_diagonal(
        jnp.eye(da.shape[-1], dtype=da.dtype), _diagonal(both) / 2
    )
    return [Lifted(factor, jnp.tril(_matmul(lower, rest)))]


def _lu(interpreter, eqn, inputs):
    (a,) = inputs
    lu, pivots, permutation = bind(eqn, [a.re])
    rows, columns = a.re.shape[-2:]
    da = jnp.take_along_axis(a.im, permutation[..., :, None], axis=-2)
    k = min(rows, columns)
    # With square factors, filled up by an identity: L^-1 dA U^-1 = L^-1 dL + dU U^-1, a strictly
    # lower and an upper triangle. The part beside the square one follows.
    square = lu[..., :k, :k]
    eye = jnp.eye(k, dtype=lu.dtype)
    lower, upper = jnp.tril(square, -1) + eye, jnp.triu(square)
    middle = _solve(lower, da[..., :k, :k], left_side=True, lower=True, unit_diagonal=True)
    middle = _solve(upper, middle, left_side=False, lower=False)
    below, above = jnp.tril(middle, -1), jnp.triu(middle)
    d_lower, d_upper = _matmul(lower, below), _matmul(above, upper)
    d_square = jnp.tril(d_lower, -1) + jnp.triu(d_upper)
    if rows > columns:  # L2 U = A2, so dL2 = (dA2 - L2 dU) U^-1
        rest = da[..., k:, :] - _matmul(lu[..., k:, :], d_upper)
        bottom = _solve(upper, rest, left_side=False, lower=False)
        d_square = jnp.concatenate([d_square, bottom], axis=-2)
    elif columns > rows:  # L U2 = A2, so dU2 = L^-1 (dA2 - dL U2)
        rest = da[..., :, k:] - _matmul(d_lower, lu[..., :, k:])
        right = _solve(lower, rest, left_side=True, lower=True, unit_diagonal=True)
        d_square = jnp.concatenate([d_square, right], axis=-1)
    return [Lifted(lu, d_square), pivots, permutation]


def _triangular_solve(interpreter, eqn, inputs):
    a, b = inputs
    params = eqn.params
    (x,) = bind(eqn, [real(a), real(b)])
    change = imaginary(b)
    if is_lifted(a):
        # op(A) X = B changes by op(dA) X, where only the triangle that is read counts.
        da = (jnp.tril if params["lower"] else jnp.triu)(
            a.im, (-1 if params["lower"] else 1) if params["unit_diagonal"] else 0
        )
        da = jnp.conj(da) if params["conjugate_a"] else da
        da = _transposed(da) if params["transpose_a"] else da
        change = change - (_matmul(da, x) if params["left_side"] else _matmul(x, da))
    return [Lifted(x, bind(eqn, [real(a), change])[0])]


def _tridiagonal_solve(interpreter, eqn, inputs):
    *diagonals, b = inputs
    parts = [real(diagonal) for diagonal in diagonals]
    (x,) = bind(eqn, [*parts, real(b)])
    below, middle, above = (imaginary(diagonal)[..., None] for diagonal in diagonals)
    none = jnp.zeros_like(x[..., :1, :])
    before = jnp.concatenate([none, x[..., :-1, :]], axis=-2)
    after = jnp.concatenate([x[..., 1:, :], none], axis=-2)
    change = imaginary(b) - below * before - middle * x - above * after
    return [Lifted(x, bind(eqn, [*parts, change])[0])]


def _qr(interpreter, eqn, inputs):
    (a,) = inputs
    rows, columns = a.re.shape[-2:]
    if (
        eqn.params.get("pivoting")
        or rows < columns
        or (eqn.params["full_matrices"] and rows != columns)
    ):
        raise interpreter.unknown(
            eqn, "It is known without pivoting, for no more columns than rows and a thin Q."
        )
    q, r = bind(eqn, [a.re])
    # With M = dA R^-1, Q^H M is a sum of Q^H dQ, antihermitian, and dR R^-1, an upper triangle.
    m = _solve(r, a.im, left_side=False, lower=False)
    inner = _matmul(_adjoint(q), m)
    strict = jnp.tril(inner, -1)
    turn = strict - _adjoint(strict)
    on_diagonal = _diagonal(inner)
    turn = turn + _times_diagonal(
        jnp.eye(columns, dtype=q.dtype), (on_diagonal - jnp.conj(on_diagonal)) / 2
    )
    dq = m - _matmul(q, inner) + _matmul(q, turn)
    return [Lifted(q, dq), Lifted(r, jnp.triu(_matmul(inner - turn, r)))]


def _gaps(to, of):
    """Returns `1 / (to_j - of_i)`, and zero on the diagonal."""
    gaps = to[..., None, :] - of[..., :, None]
    on_diagonal = jnp.eye(to.shape[-1], dtype=bool)
    return jnp.where(on_diagonal, 0, 1 / jnp.where(on_diagonal, 1, gaps))


def _eigh(interpreter, eqn, inputs):
    (a,) = inputs
    vectors, values = bind(eqn, [a.re])
    if values.shape[-1] != a.re.shape[-1]:
        raise interpreter.unknown(eqn, "It is known for all eigenvalues, not for a subset.")
    da = _hermitian_from_lower(a.im if eqn.params["lower"] else _adjoint(a.im))
    inner = _matmul(_adjoint(vectors), _matmul(da, vectors))
    # Where eigenvalues meet, the vectors have no derivative: the gap is zero and the result
    # infinite or NaN.
    d_vectors = _matmul(vectors, _gaps(values, values).astype(inner.dtype) * inner)
    return [Lifted(vectors, d_vectors), Lifted(values, jnp.real(_diagonal(inner)))]


def _eig(interpreter, eqn, inputs):
    (a,) = inputs
    if eqn.params["compute_left_eigenvectors"] or eqn.params["compute_right_eigenvectors"]:
        raise interpreter.unknown(eqn, "It is known for eigenvalues, not for eigenvectors.")
    values, vectors = bind(eqn, [a.re], compute_right_eigenvectors=True)
    inner = jnp.linalg.solve(vectors, _matmul(a.im.astype(vectors.dtype), vectors))
    return [Lifted(values, _diagonal(inner))]


def _svd(interpreter, eqn, inputs):
    (a,) = inputs
    rows, columns = a.re.shape[-2:]
    with_vectors, k = eqn.params["compute_uv"], min(rows, columns)
    if eqn.params.get("subset_by_index") not in (None, (0, k)):
        raise interpreter.unknown(eqn, "It is known for all singular values, not for a subset.")
    if with_vectors and eqn.params["full_matrices"] and rows != columns:
        raise interpreter.unknown(eqn, "Its vectors are known with full_matrices=False.")
    s, u, vh = bind(eqn, [a.re], compute_uv=True, full_matrices=False)
    v = _adjoint(vh)
    inner = _matmul(_adjoint(u), _matmul(a.im, v))
    ds = jnp.real(_diagonal(inner))
    if not with_vectors:
        return [Lifted(s, ds)]
    # F_ij = 1 / (s_j^2 - s_i^2), factored so that close values do not cancel.
    scale = _gaps(s, s) / jnp.where(jnp.eye(k, dtype=bool), 1, s[..., None, :] + s[..., :, None])
    left = _times_diagonal(inner, s.astype(inner.dtype))
    right = s[..., :, None].astype(inner.dtype) * inner
    scale = scale.astype(inner.dtype)
    du = _matmul(u, scale * (left + _adjoint(left)))
    dv = _matmul(v, scale * (right + _adjoint(right)))
    # The phase of a complex pair is free; it is put on the left vectors.
    phase = (_diagonal(inner) - jnp.conj(_diagonal(inner))) / 2 / s.astype(inner.dtype)
    du = du + _times_diagonal(u, phase)
    inverse = (1 / s).astype(inner.dtype)
    outside = _times_diagonal(_matmul(a.im, v), inverse)
    du = du + outside - _matmul(u, _matmul(_adjoint(u), outside))
    outside = _times_diagonal(_matmul(_adjoint(a.im), u), inverse)
    dv = dv + outside - _matmul(v, _matmul(vh, outside))
    return [Lifted(s, ds), Lifted(u, du), Lifted(vh, _adjoint(dv))]


RULES: Mapping[str, Callable[..., Sequence[Any]]] = {
    "cholesky": _cholesky,
    "eig": _eig,
    "eigh": _eigh,
    "lu": _lu,
    "qr": _qr,
    "svd": _svd,
    "triangular_solve": _triangular_solve,
    "tridiagonal_solve": _tridiagonal_solve,
}
