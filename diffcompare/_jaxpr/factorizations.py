"""Factorizations and solutions of linear equations in terms of products of arrays.

Each is the algorithm that a textbook has, written out row by row. It is not meant to be
fast, but every step is an operation that any kind of number can do, so that numbers of fifty
digits and expressions get them too.

References:
    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, chapters 3 to 5.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun

from diffcompare._jaxpr import walk

Array = Any
Function = Callable[..., Any]


def cholesky(eqn: Any) -> Function:
    """Returns the Cholesky factor, computed column by column from the lower triangle."""

    def factor(a):
        size = a.shape[-1]
        lower = jnp.zeros_like(a)
        for j in range(size):
            column = a[..., j:, j] - _dot(lower[..., j:, :j], lower[..., j, :j])
            pivot = jnp.sqrt(column[..., :1])
            column = jnp.concatenate([pivot, column[..., 1:] / pivot], axis=-1)
            lower = lower.at[..., j:, j].set(column)
        return lower

    return factor


def lu(eqn: Any) -> Function:
    """Returns the LU factorization with row exchanges by the largest entry of a column."""
    return _lu


def _lu(a):
    rows, columns = a.shape[-2:]
    batch = a.shape[:-2]
    places = jnp.broadcast_to(jnp.arange(rows, dtype=jnp.int32), (*batch, rows))
    order, pivots = places, []
    for k in range(min(rows, columns)):
        sizes = lax.stop_gradient(jnp.abs(a[..., k:, k]))
        best = lax.argmax(sizes, sizes.ndim - 1, jnp.int32) + jnp.int32(k)
        pivots.append(best)
        best = best[..., None]
        swapped = jnp.where(places == best, jnp.int32(k), places)
        swapped = jnp.where(places == jnp.int32(k), best, swapped)
        order = jnp.take_along_axis(order, swapped, axis=-1)
        a = jnp.take_along_axis(a, swapped[..., None], axis=-2)
        factors = a[..., k + 1 :, k] / a[..., k, k][..., None]
        outer = factors[..., None] * a[..., k, k + 1 :][..., None, :]
        a = a.at[..., k + 1 :, k + 1 :].add(-outer).at[..., k + 1 :, k].set(factors)
    empty = jnp.zeros((*batch, 0), jnp.int32)
    return a, jnp.stack(pivots, axis=-1) if pivots else empty, order


def triangular_solve(eqn: Any) -> Function:
    """Returns the solution of triangular equations, by substitution row after row."""
    params = eqn.params
    transposed, lower = params["transpose_a"], params["lower"]

    def solve(a, b):
        if not params["left_side"]:  # X A = B is A^T X^T = B^T
            b = jnp.swapaxes(b, -1, -2)
        if params["conjugate_a"]:
            a = jnp.conj(a)
        if transposed == params["left_side"]:
            a = jnp.swapaxes(a, -1, -2)
        forward = lower != (transposed == params["left_side"])
        x = _substituted(a, b, forward, params["unit_diagonal"])
        return x if params["left_side"] else jnp.swapaxes(x, -1, -2)

    return solve


def _substituted(a, b, forward, unit):
    """Returns the solution of triangular equations, `forward` where the matrix is lower."""
    size = a.shape[-1]
    found: list[Any] = [None] * size
    for i in range(size) if forward else reversed(range(size)):
        known = slice(0, i) if forward else slice(i + 1, size)
        rest = b[..., i, :]
        if found[known]:
            solved = jnp.stack(found[known], axis=-2)
            rest = rest - _dot(jnp.swapaxes(solved, -1, -2), a[..., i, known])
        found[i] = rest if unit else rest / a[..., i, i][..., None]
    return jnp.stack(found, axis=-2) if found else b


def tridiagonal_solve(eqn: Any) -> Function:
    """Returns the solution of tridiagonal equations, by elimination without exchanges."""

    def solve(below, diagonal, above, b):
        size = diagonal.shape[-1]
        pivots: list[Any] = []
        rows: list[Any] = []
        for i in range(size):
            pivot, row = diagonal[..., i], b[..., i, :]
            if i:
                factor = below[..., i] / pivots[-1]
                pivot = pivot - factor * above[..., i - 1]
                row = row - factor[..., None] * rows[-1]
            pivots.append(pivot)
            rows.append(row)
        found: list[Any] = [None] * size
        for i in reversed(range(size)):
            row = rows[i]
            if i + 1 < size:
                row = row - above[..., i][..., None] * found[i + 1]
            found[i] = row / pivots[i][..., None]
        return jnp.stack(found, axis=-2)

    return solve


def qr(eqn: Any) -> Function | None:
    """Returns the QR factorization by Householder reflections, signed as LAPACK signs it.

    None is returned for column exchanges, and where Q has columns that A does not determine.
    """
    params = eqn.params
    rows, columns = eqn.invars[0].aval.shape[-2:]
    width = eqn.outvars[0].aval.shape[-1]
    if params.get("pivoting") or width > min(rows, columns):
        return None

    def factor(a):
        reflections = []
        for k in range(min(rows - 1, columns)):
            axis, scale = _reflection(a[..., k:, k])
            reflections.append((axis, scale))
            a = a.at[..., k:, k:].add(-_reflected(axis, scale, a[..., k:, k:]))
        q = jnp.broadcast_to(jnp.eye(rows, width, dtype=a.dtype), (*a.shape[:-2], rows, width))
        for k, (axis, scale) in reversed(list(enumerate(reflections))):
            q = q.at[..., k:, :].add(-_reflected(axis, scale, q[..., k:, :]))
        upper = jnp.broadcast_to(jnp.triu(jnp.ones((width, columns), bool)), (*a.shape[:-2], width,
                                 columns))  # fmt: skip
        r = a[..., :width, :]
        return q, jnp.where(upper, r, jnp.zeros_like(r))

    return factor


def _reflection(x):
    """Returns the axis v and the scale t of the reflection I - t v v^T that makes x e1."""
    first, rest = x[..., :1], x[..., 1:]
    squares = jnp.sum(rest * rest, axis=-1, keepdims=True)
    done = squares == jnp.zeros_like(squares)  # nothing below the diagonal: LAPACK leaves it
    one = jnp.ones_like(squares)
    length = jnp.sqrt(first * first + jnp.where(done, one, squares))
    end = jnp.where(first < jnp.zeros_like(first), length, -length)
    axis = jnp.concatenate([first - end, rest], axis=-1)
    total = jnp.sum(axis * axis, axis=-1, keepdims=True)
    scale = jnp.where(done, jnp.zeros_like(one), jnp.ones_like(one) + one) / total
    return axis, scale


def _reflected(axis, scale, a):
    """Returns t v (v^T A), which the reflection takes from A."""
    products = _dot(jnp.swapaxes(a, -1, -2), axis)
    return (scale * axis)[..., None] * products[..., None, :]


def linear_solve(eqn: Any) -> Function:
    """Returns `custom_linear_solve`: the value of its own solver, the derivative of its equation.

    The solver is not differentiated, which may iterate, or not see the matrix. Instead what
    its solution lacks, b - A x, is solved for, and added with the value 0: the derivative of
    that is that of the solution. Where the solver iterates, it would stop at once for so small
    a right-hand side, and the matrix is factored. The derivative of the derivative is not that
    of the solution.
    """
    lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    counts = [lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve]
    apply = jaxpr_as_fun(walk.close(jaxprs.matvec))
    invert = jaxpr_as_fun(walk.close(jaxprs.solve))
    iterates = "while" in _inner_primitives(walk.close(jaxprs.solve))

    def solve(*inputs):
        of_apply = inputs[: counts[0]]
        of_invert = [lax.stop_gradient(x) for x in inputs[sum(counts[:2]) : sum(counts[:3])]]
        wanted = inputs[sum(counts) :]
        found = invert(*of_invert, *map(lax.stop_gradient, wanted))
        solution = [lax.stop_gradient(x) for x in found[: len(wanted)]]
        missing = [b - ax for b, ax in zip(wanted, apply(*of_apply, *solution), strict=True)]
        if iterates:
            frozen = list(map(lax.stop_gradient, of_apply))
            steps = _solved(lambda *xs: apply(*frozen, *xs), missing)
        else:
            steps = invert(*of_invert, *missing)[: len(wanted)]
        moved = [x + (d - lax.stop_gradient(d)) for x, d in zip(solution, steps, strict=True)]
        return [*moved, *found[len(wanted) :]]

    return solve


def _solved(apply, wanted):
    """Returns the solution of linear equations by the matrix of a linear function."""
    sizes = [b.size for b in wanted]
    total = sum(sizes)

    def of_flat(vector):
        parts, start = [], 0
        for b, size in zip(wanted, sizes, strict=True):
            parts.append(vector[start : start + size].reshape(b.shape))
            start += size
        return parts

    flat = lambda parts: jnp.concatenate([part.ravel() for part in parts])
    unit = jnp.eye(total, dtype=wanted[0].dtype)
    matrix = jax.vmap(lambda row: flat(apply(*of_flat(row))), out_axes=1)(unit)
    factors, _, order = _lu(matrix)
    rows = flat(wanted)[order][:, None]
    rows = _substituted(factors, rows, forward=True, unit=True)
    return of_flat(_substituted(factors, rows, forward=False, unit=False)[:, 0])


def _inner_primitives(jaxpr):
    """Returns the names of all primitives in a jaxpr, those of loops and branches too."""
    names = set()
    for eqn in jaxpr.jaxpr.eqns:
        names.add(eqn.primitive.name)
        bodies: list[Any] = [walk.called(eqn)]
        if eqn.primitive.name == "cond":
            bodies = walk.branches(eqn)
        elif eqn.primitive.name == "scan":
            bodies = [walk.scan_parts(eqn).body]
        names.update(*[_inner_primitives(body) for body in bodies if body is not None])
    return names


def _dot(matrix, vector):
    """Returns the products of matrices with vectors, along their last axes."""
    batch = tuple(range(vector.ndim - 1))
    last = ((matrix.ndim - 1,), (vector.ndim - 1,))
    return lax.dot_general(matrix, vector, (last, (batch, batch)), precision="highest")
