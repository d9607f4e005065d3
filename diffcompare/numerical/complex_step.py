"""The complex step: a derivative without a difference."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diffcompare import _tree
from diffcompare.method import ColumnMethod
from diffcompare.numerical import step as steps

PyTree = Any

# How many directions are moved at once: on a CPU more gain nothing and lose the cache.
_CPU_BYTES, _CPU_BATCH = 2**20, 16
_ACCELERATOR_BYTES, _ACCELERATOR_BATCH = 2**28, 4096


@dataclasses.dataclass(frozen=True)
class ComplexStep(ColumnMethod):
    """The complex step `Im f(x + i h) / h`: no subtraction, so nothing cancels.

    With `f` real on the real line, `f(x + i h) = f(x) + i h f'(x) - h**2 f''(x) / 2 - ...`. The
    imaginary part has the slope but for an error of `h**2 |f'''| / 6`, and `h` may be as small as
    one likes. The result is as precise as that of automatic differentiation; Martins, Sturdza and
    Alonso show that both do the same arithmetic. But here no rule of JAX and no custom rule takes
    part, so it is a witness of its own.

    Called with complex numbers, a JAX function is silently wrong wherever it is not analytic
    (`abs`, `max`, norms, variances, `softplus`), and where XLA's complex version loses a small
    imaginary part (`expm1`, `cosh`, convolutions). Therefore the function is traced for real
    numbers, and each primitive is evaluated by what it means for a number with a small imaginary
    part: `conj` and `real` leave it alone; comparisons and branches follow the real part;
    `stop_gradient` stops nothing.

    At a kink of `abs`, `max`, `min`, `clip`, a sort or a pooling the slope is that from the side
    to which the direction points, the limit of `ForwardDifference`: 1 for `relu` at 0. At an
    explicit comparison it is the slope of the branch taken. It is NaN where the first order does
    not decide, for a norm at the zero vector, as with `jax.grad`.

    The value is `f(x)`. Whatever `f` rounds it to on its way, what depends on `x` is kept in the
    dtype of `x`; in float32 for float16 and bfloat16, whose results are rounded at the end.

    A gradient by `n` entries costs one evaluation of `f` and `n` of its linear part. It works
    under `jax.jit`, `jax.vmap` and `jax.grad`, except that JAX's reverse mode does not go back
    through a `while` loop.

    Args:
        step: The absolute step `h` along a direction of size one, also a traced number. The
            function is then evaluated in complex arithmetic, with its error of truncation. None
            takes the limit: terms in `h**2` are left out. With steps of 1e-20 in complex64 or
            1e-100 in complex128 they are lost beside any number but a tiny one.

    Raises:
        ValueError: The step is not positive and finite.
        NotImplementedError: When it is called: the function has a primitive for which there is no
            rule. The message has its name and the line where it arose.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> x = jnp.array([3.0, -4.0])
        >>> dc.grad(jnp.linalg.norm, method=dc.ComplexStep())(x).tolist()
        [0.600000, -0.800000]
        >>> float(dc.grad(lambda x: x**3, method=dc.ComplexStep(step=0.5))(1.0))
        2.75

    References:
        Squire and Trapp, "Using complex variables to estimate derivatives of real functions",
        SIAM Review 40, 1998. Martins, Sturdza and Alonso, "The complex-step derivative
        approximation", ACM Transactions on Mathematical Software 29, 2003.
    """

    step: float | jax.Array | None = None

    def __post_init__(self):
        steps.check_step(self.step)

    def check(self, x: PyTree) -> None:
        pass  # a step of any size is visible beside an entry of any size

    def nested(self) -> tuple[ColumnMethod, ColumnMethod]:
        return self, self

    def jvp(self, fun: Callable, x: PyTree, v: PyTree) -> tuple[PyTree, PyTree]:
        jaxpr, out = jax.make_jaxpr(fun, return_shape=True)(x)
        treedef = jax.tree.structure(out)
        directions = jax.tree.leaves(v)
        length = _length(directions) if self.step is not None else None
        if length is not None:
            directions = [q / length.astype(q.dtype) for q in directions]
        values, slopes = _complexified(jaxpr, jax.tree.leaves(x), directions, self.step)
        if length is not None:
            slopes = [slope * length.astype(slope.dtype) for slope in slopes]
        return jax.tree.unflatten(treedef, values), jax.tree.unflatten(treedef, slopes)

    def columns(self, fun: Callable, x: PyTree) -> PyTree:
        columns = [
            self._columns_of_leaf(of_leaf, leaf)
            for leaf, of_leaf in _tree.functions_of_leaves(fun, x)
        ]
        return jax.tree.unflatten(jax.tree.structure(x), columns)

    def _columns_of_leaf(self, fun: Callable, leaf: jax.Array) -> PyTree:
        jaxpr, out = jax.make_jaxpr(fun, return_shape=True)(leaf)
        treedef = jax.tree.structure(out)
        if leaf.size == 0:
            return jax.tree.map(lambda o: jnp.zeros((0, *o.shape), o.dtype), out)

        def slope(index):
            direction = _tree.one_hot(leaf, index)
            return _complexified(jaxpr, [leaf], [direction], self.step)[1]

        slopes = _tree.map_in_batches(jax.vmap(slope), leaf.size, _batch_size(leaf))
        return jax.tree.unflatten(treedef, slopes)


jax.tree_util.register_dataclass(ComplexStep, data_fields=["step"], meta_fields=[])


def _complexified(jaxpr: Any, leaves: list, directions: list, step: Any) -> tuple[list, list]:
    # What reads jaxprs is loaded when it is needed: importing the package stays cheap.
    from diffcompare._jaxpr.complexify import complexify

    return complexify(jaxpr, leaves, directions, step=step)


def _length(directions: list[jax.Array]) -> jax.Array:
    """Returns the size of the largest entry of a direction, one for a direction of zeros."""
    dtype = _tree.widest(directions)
    sizes = [jnp.max(jnp.abs(q), initial=0).astype(dtype) for q in directions]
    top = jnp.max(jnp.stack([jnp.zeros((), dtype), *sizes]))
    return jnp.where(top > 0, top, 1)


def _batch_size(leaf: jax.Array) -> int:
    is_cpu = jax.default_backend() == "cpu"
    budget = _CPU_BYTES if is_cpu else _ACCELERATOR_BYTES
    most = _CPU_BATCH if is_cpu else _ACCELERATOR_BATCH
    return max(1, min(budget // leaf.nbytes, most, leaf.size))
