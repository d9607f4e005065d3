"""An operation in terms of simpler ones has the value and the derivatives of the operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun

from diffcompare._jaxpr import expansions, spectra, walk

EPS = np.finfo(np.float64).eps
random = np.random.default_rng(0)
image = jnp.asarray(random.normal(size=(2, 4, 7, 6)))
kernel = jnp.asarray(random.normal(size=(4, 2, 3, 2)))
line = jnp.asarray(random.normal(size=(2, 3, 8)))
ties = jnp.asarray(random.integers(-2, 3, size=(1, 5, 6, 1)).astype(float))
matrix = jnp.asarray(random.normal(size=(4, 4)))
batch = jnp.asarray(random.normal(size=(2, 3, 3)))
tall = jnp.asarray(random.normal(size=(5, 3)))
right = jnp.asarray(random.normal(size=(4, 2)))
definite = matrix @ matrix.T + 2 * jnp.eye(4)
definites = jnp.einsum("bij,bkj->bik", batch, batch) + jnp.eye(3)[None]


def conv(x, w, strides=(1, 1), padding="SAME", **options):
    return lax.conv_general_dilated(x, w, strides, padding, **options)


def pool(start, combine, window=(1, 2, 3, 1), strides=(1, 2, 2, 1), padding="SAME", **options):
    return lambda x: lax.reduce_window(x, start, combine, window, strides, padding, **options)


maximum = pool(-jnp.inf, lax.max)
spread = jnp.cos(jnp.arange(9.0)).reshape(1, 3, 3, 1)


def triangular(**options):
    return lambda a, b: lax.linalg.triangular_solve(a, b, **options)


# The primitive, a function that traces to it, and its arguments.
CASES = {
    "conv": ("conv_general_dilated", lambda x, w: conv(x, w[:, :, :, :], feature_group_count=2),
             (image, kernel)),
    "conv strides and edges": ("conv_general_dilated", lambda x, w: conv(
        x[:, :2], w, (2, 3), ((1, 2), (-1, 3))), (image, kernel)),
    "conv dilated": ("conv_general_dilated", lambda x, w: conv(
        x[:, :2], w, (2, 1), ((0, 0), (0, 0)), lhs_dilation=(2, 1), rhs_dilation=(1, 2)),
        (image, kernel)),
    "conv channels last": ("conv_general_dilated", lambda x, w: conv(
        x, w, dimension_numbers=("NHWC", "HWIO", "NHWC")),
        (jnp.moveaxis(image, 1, 3), jnp.asarray(random.normal(size=(2, 3, 4, 5))))),
    "conv depthwise": ("conv_general_dilated", lambda x, w: conv(
        x, w, feature_group_count=4), (image, jnp.asarray(random.normal(size=(8, 1, 2, 2))))),
    "conv batch groups": ("conv_general_dilated", lambda x, w: conv(
        x, w, batch_group_count=2), (image, jnp.asarray(random.normal(size=(4, 4, 2, 2))))),
    "conv of a line": ("conv_general_dilated", lambda x, w: conv(x, w, (2,), "VALID"),
                       (line, jnp.asarray(random.normal(size=(2, 3, 3))))),
    "conv as convolve": ("conv_general_dilated", lambda a, b: jnp.convolve(a, b, "full"),
                         (line[0, 0], line[0, 1, :3])),
    "conv of nothing": ("conv_general_dilated", lambda x, w: conv(x, w, padding="VALID"),
                        (image[:, :2, :2], kernel)),
    "largest of a window": ("reduce_window_max", maximum, (image,)),
    "largest of a window of ties": ("reduce_window_max", maximum, (ties,)),
    "smallest of a window of ties": ("reduce_window_min", pool(jnp.inf, lax.min), (ties,)),
    "sum of a window": ("reduce_window_sum", pool(0.0, lax.add), (image,)),
    "sum of a dilated window": ("reduce_window_sum", pool(
        0.0, lax.add, padding="VALID", window_dilation=(1, 2, 1, 1), base_dilation=(1, 1, 2, 1)),
        (image,)),
    "gradient of pooling": ("select_and_scatter_add", lambda x, w: jax.vjp(maximum, x)[1](w)[0],
                            (ties, spread)),
    "slope of pooling": ("select_and_gather_add", lambda x, t: jax.jvp(maximum, (x,), (t,))[1],
                         (ties, jnp.sin(1 + jnp.arange(30.0)).reshape(ties.shape))),
    "general reduction": ("reduce", lambda x: lax.reduce(
        x, 0.0, lambda a, b: a + b + a * b, (0,)), (tall,)),
    "cholesky": ("cholesky", jnp.linalg.cholesky, (definite,)),
    "cholesky of a batch": ("cholesky", jnp.linalg.cholesky, (definites,)),
    "lu": ("lu", lambda a: lax.linalg.lu(a)[0], (matrix,)),
    "lu of a batch": ("lu", lambda a: lax.linalg.lu(a)[0], (batch,)),
    "lu tall": ("lu", lambda a: lax.linalg.lu(a)[0], (tall,)),
    "lu wide": ("lu", lambda a: lax.linalg.lu(a)[0], (tall.T,)),
    "qr": ("qr", jnp.linalg.qr, (matrix,)),
    "qr of a batch": ("qr", jnp.linalg.qr, (batch,)),
    "qr tall": ("qr", jnp.linalg.qr, (tall,)),
    "eigenvectors": ("eigh", lambda a: lax.linalg.eigh(a), (definite,)),
    "eigenvalues of a batch": ("eigh", jnp.linalg.eigvalsh, (definites,)),
    "singular vectors": ("svd", lambda a: jnp.linalg.svd(a, full_matrices=False), (tall,)),
    "singular vectors of a wide matrix": ("svd", lambda a: jnp.linalg.svd(
        a, full_matrices=False), (tall.T,)),
    "singular values": ("svd", lambda a: jnp.linalg.svd(a, compute_uv=False), (batch,)),
    "solve": ("custom_linear_solve", jnp.linalg.solve, (matrix, right)),
    "inverse": ("custom_linear_solve", jnp.linalg.inv, (batch,)),
    "conjugate gradients": ("custom_linear_solve", lambda a, b: jax.scipy.sparse.linalg.cg(
        a, b, tol=1e-14)[0], (definite, right[:, 0])),
    "tridiagonal": ("tridiagonal_solve", lambda d, b: lax.linalg.tridiagonal_solve(
        jnp.append(0.0, b[1:, 0]), d, jnp.append(b[:-1, 1], 0.0), b),
        (jnp.full(4, 4.0), right)),
    "cumulative logsumexp": ("cumlogsumexp", lambda x: lax.cumlogsumexp(x, 1), (tall,)),
    "cumulative largest of ties": ("cummax", lambda x: lax.cummax(x, 1, reverse=True),
                                   (ties[0, :, :, 0],)),
    "cumulative smallest of ties": ("cummin", lambda x: lax.cummin(x, 0), (ties[0, :, :, 0],)),
    "cumulative product": ("cumprod", lambda x: lax.cumprod(x, 0), (tall,)),
    "product with zeros": ("reduce_prod", lambda x: jnp.prod(x, (1, 2)), (ties,)),
}  # fmt: skip
for of_left in (True, False):
    for lower in (True, False):
        for transposed in (True, False):
            CASES[f"triangular {of_left} {lower} {transposed}"] = (
                "triangular_solve",
                triangular(left_side=of_left, lower=lower, transpose_a=transposed,
                           unit_diagonal=lower == transposed),
                (matrix + 3 * jnp.eye(4), right if of_left else right.T),
            )  # fmt: skip


class Expanding(walk.Interpreter):
    """Evaluates by JAX, with every operation expanded that can be."""

    def __init__(self):
        self.expanded = set()

    def constant(self, value):
        return value

    def call(self, eqn, body, inputs):
        # What starts a refinement is computed by the machine.
        by_machine = walk.call_name(body) == spectra.MACHINE
        return jaxpr_as_fun(body)(*inputs) if by_machine else None

    def equation(self, eqn, inputs):
        simpler = expansions.expand(eqn)
        if simpler is not None:
            self.expanded.add(eqn.primitive.name)
            return walk.walk(simpler, self, inputs)
        outputs = eqn.primitive.bind(*inputs, **eqn.params)
        return outputs if eqn.primitive.multiple_results else [outputs]


def expanded(fun, arguments):
    """Returns the function with its operations expanded, and which were."""
    interpreter = Expanding()
    jaxpr = jax.make_jaxpr(fun)(*arguments)
    return lambda *xs: walk.walk(jaxpr, interpreter, xs), interpreter.expanded


@pytest.mark.parametrize("name", CASES)
def test_an_expansion_has_the_value_and_the_derivatives_of_the_operation(name):
    primitive, fun, arguments = CASES[name]
    ours, seen = expanded(fun, arguments)

    def both(function):
        outputs, pullback = jax.vjp(lambda *xs: jax.tree.leaves(function(*xs)), *arguments)
        weights = [jnp.cos(1 + jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape) for y in outputs]
        return outputs, pullback(weights)

    found, truth = both(ours), both(fun)
    assert primitive in seen
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        # Some tens of operations for each entry, and matrices of condition below 100; the
        # iterations of conjugate gradients stop at 1e-14.
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_the_cholesky_factor_depends_on_the_lower_triangle_alone():
    # JAX 0.10 differentiates as if a change were symmetric, also where only a triangle is read.
    read = lambda a: lax.linalg.cholesky(a, symmetrize_input=False)
    mirrored = lambda a: jnp.linalg.cholesky(jnp.tril(a) + jnp.tril(a, -1).T)
    a = definite + jnp.triu(matrix, 1)
    ours, seen = expanded(read, (a,))
    np.testing.assert_allclose(ours(a)[0], mirrored(a), rtol=1e-12)
    assert seen == {"cholesky"}
    found, truth = (jax.grad(lambda a, f=f: jnp.sum(f(a) ** 3))(a) for f in (
        lambda a: ours(a)[0], mirrored))  # fmt: skip
    np.testing.assert_allclose(found, truth, rtol=1e-11, atol=1e-12)


def test_pivots_and_permutations_are_those_of_the_factorization():
    for a in (matrix, batch, tall, tall.T, jnp.zeros((0, 0))):
        eqn = jax.make_jaxpr(lax.linalg.lu)(a)
        ours, _ = expanded(lax.linalg.lu, (a,))
        assert eqn.out_avals[1].dtype == jnp.int32
        for found, truth in zip(ours(a)[1:], lax.linalg.lu(a)[1:], strict=True):
            assert found.tolist() == truth.tolist()


def test_the_general_reduction_of_a_window_has_its_value():
    # Which has no derivative in JAX.
    product = pool(1.0, lax.mul)
    ours, seen = expanded(product, (ties,))
    assert ours(ties)[0].tolist() == product(ties).tolist()
    assert seen == {"reduce_window"}


def test_a_window_passes_a_nan_on():
    x = ties.at[0, 0, 1, 0].set(jnp.nan)
    ours, _ = expanded(maximum, (x,))
    np.testing.assert_array_equal(ours(x)[0], maximum(x))


def test_what_no_expansion_determines_is_none():
    for fun in (jnp.sin, lambda a: jnp.linalg.qr(a, mode="complete")[0]):
        eqn = next(e for e in jax.make_jaxpr(fun)(tall).jaxpr.eqns)
        body = walk.called(eqn)
        eqn = body.jaxpr.eqns[-1] if body else eqn
        assert expansions.expand(eqn) is None


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_an_expansion_keeps_the_dtype(dtype):
    x, w = image.astype(dtype), kernel.astype(dtype)
    eqn = jax.make_jaxpr(lambda x, w: conv(x, w, feature_group_count=2))(x, w).eqns[-1]
    (found,) = jaxpr_as_fun(expansions.expand(eqn))(x, w)
    assert found.dtype == dtype
