"""Linear algebra of lifted matrices: against fifty digits, and by what defines each factor."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from jax import lax
from slopes import EPS, slopes

POINTS = np.random.default_rng(1).normal(size=(4, 5))
SQUARE = POINTS[:, :4] + np.eye(4)
ALGEBRA = {
    "cholesky": (lambda a: jnp.linalg.cholesky(a @ a.T + jnp.eye(4)),
                 lambda a: [mp.cholesky(a * a.T + mp.eye(4))]),
    "inverse": (jnp.linalg.inv, lambda a: [mp.inverse(a)]),
    "determinant": (lambda a: jnp.linalg.det(a)[None, None], lambda a: [mp.matrix([mp.det(a)])]),
}  # fmt: skip


def _matrix_slope(definition, a, da):
    with mp.workdps(50):
        h = mp.mpf(10) ** -20
        a, da = mp.matrix(a.tolist()), mp.matrix(da.tolist())
        pairs = zip(definition(a + h * da), definition(a - h * da), strict=True)
        return [np.array(((p - m) / (2 * h)).tolist(), dtype=np.float64) for p, m in pairs]


@pytest.mark.parametrize("name", ALGEBRA)
def test_a_factorisation_moves_with_its_matrix(name):
    fun, definition = ALGEBRA[name]
    da = np.random.default_rng(6).normal(size=(4, 4))
    (truth,) = _matrix_slope(definition, SQUARE, da)
    found = slopes(fun, SQUARE, directions=[da])[1]
    # The condition number, about 10, times the rounding of four-term sums.
    assert np.abs(found - truth).max() < 64 * EPS["float64"] * np.abs(truth).max()


@pytest.mark.parametrize("is_complex", [False, True])
def test_factors_multiply_to_the_matrix_to_first_order(is_complex):
    def plane(x):
        return lax.complex(x, 0.5 * jnp.sin(3 * x)) if is_complex else x

    def h(a):
        return jnp.conj(jnp.swapaxes(a, -1, -2))

    def hermitian(x):
        a = plane(x)
        return a @ h(a) + jnp.eye(a.shape[0])

    def rebuilt_eigh(x):
        w, v = jnp.linalg.eigh(hermitian(x))
        return (
            v @ (w[:, None] * h(v))
            if not is_complex
            else v @ (w[:, None] * h(v).real + 1j * w[:, None] * h(v).imag)
        )

    def rebuilt_svd(x):
        u, s, vt = jnp.linalg.svd(plane(x), full_matrices=False)
        return u @ (s.astype(u.dtype)[:, None] * vt)

    def rebuilt_qr(x):
        q, r = jnp.linalg.qr(plane(x.T))
        return (q @ r).T

    def rebuilt_cholesky(x):
        factor = jnp.linalg.cholesky(hermitian(x))
        return factor @ h(factor)

    def rebuilt_lu(x):
        a = plane(x)
        lu, _, permutation = lax.linalg.lu(a)
        lower = jnp.tril(lu, -1)[:, :4] + jnp.eye(4, dtype=lu.dtype)
        return (lower @ jnp.triu(lu))[jnp.argsort(permutation)]

    def parts(fun):
        return lambda x: jnp.stack([jnp.real(fun(x)), jnp.imag(fun(x))])

    da = np.random.default_rng(7).normal(size=(4, 5))
    rebuilt = {rebuilt_svd: plane, rebuilt_qr: plane, rebuilt_lu: plane,
               rebuilt_cholesky: hermitian, rebuilt_eigh: hermitian}  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):
        for product, matrix in rebuilt.items():
            found = slopes(parts(product), POINTS, directions=[da])[1]
            truth = slopes(parts(matrix), POINTS, directions=[da])[1]
            # Inverse gaps of eigenvalues, below ten here, multiply the rounding of the sums.
            assert np.abs(found - truth).max() < 1e-13 * np.abs(truth).max(), product.__name__


def test_orthogonal_factors_stay_orthogonal_to_first_order():
    def of(fun):
        return lambda x: (lambda q: jnp.swapaxes(q, -1, -2) @ q)(fun(x))

    factors = [
        lambda x: jnp.linalg.qr(x.T)[0],
        lambda x: jnp.linalg.svd(x.T, full_matrices=False)[0],
        lambda x: jnp.linalg.svd(x, full_matrices=False)[2].T,
        lambda x: jnp.linalg.eigh(x @ x.T)[1],
    ]
    for fun in factors:
        assert np.abs(slopes(of(fun), POINTS)[1]).max() < 1e-13  # as above


def test_eigenvalues_move_with_their_matrix():
    a = SQUARE
    value, slope = slopes(lambda a: jnp.sum(jnp.linalg.eigvals(a) ** 3).real, a)
    # The trace of a**3, whose derivative along ones is 3 times the sum of entries of a**2.
    assert np.isclose(value, np.trace(a @ a @ a), rtol=1e-13)
    assert np.isclose(slope, 3 * (a @ a).sum(), rtol=1e-13)
    trace = lambda a: jnp.sum(jnp.linalg.eigvalsh(a + a.T) ** 2)
    symmetric = a + a.T
    assert np.isclose(slopes(trace, a)[1], 4 * symmetric.sum(), rtol=1e-13)


def test_singular_values_move_with_their_matrix():
    fun = lambda x: jnp.sum(jnp.linalg.svd(x, compute_uv=False) ** 2)  # the sum of squares
    assert np.isclose(slopes(fun, POINTS)[1], 2 * POINTS.sum(), rtol=1e-13)
