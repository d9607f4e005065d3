"""Finite differences: the derivative from values of the function alone."""

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, dataclass_transform, get_args

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from diffcompare import _arguments, _tree
from diffcompare.method import ColumnMethod
from diffcompare.numerical import step as steps
from diffcompare.numerical.evaluation.blocks import map_blocks

if TYPE_CHECKING:
    from diffcompare.numerical.evaluation.plans import Plan

PyTree = Any
Strategy = Literal["auto", "dense", "incremental"]


class Difference(ColumnMethod):
    """A quotient of differences of a function's values at points on a line.

    Every subclass is a weighted sum of quotients `(f(x + a h) - f(x + b h)) / (x_a - x_b)`,
    where the divisor is the displacement that happened after rounding, not `(a - b) * h`.
    """

    step: steps.Step
    batch: int | None
    evaluation: Strategy
    mesh: Mesh | None

    @property
    @abc.abstractmethod
    def accuracy(self) -> int:
        """The power of the step with which the truncation error falls."""

    @property
    @abc.abstractmethod
    def quotients(self) -> tuple[tuple[int, int, float], ...]:
        """The quotients: two offsets `a` and `b` in steps, and the weight."""

    def check(self, x: PyTree) -> None:
        steps.check_visible(self.step, x)

    def nested(self) -> tuple[ColumnMethod, ColumnMethod]:
        if self.step is not None:
            return self, self
        step = steps.AutomaticStep(derivative=2)
        twice = dataclasses.replace(self, step=step)  # type: ignore[type-var]
        return twice, twice

    def jvp(self, fun: Callable, x: PyTree, v: PyTree) -> tuple[PyTree, PyTree]:
        h = steps.direction_step(self.step, x, v, self.accuracy)

        def point(offset):
            move = offset.astype(h.dtype) * h
            return jax.tree.map(lambda p, q: steps.rounded(p + move.astype(p.dtype) * q), x, v)

        # The value belongs to the same batch: compiled apart it may differ by a few ulps.
        offsets = [0, *(offset for offset in self._offsets() if offset != 0)]
        points = jax.vmap(point)(jnp.asarray(offsets))
        values = jax.vmap(fun)(points)
        at = {offset: row for row, offset in enumerate(offsets)}

        top = jax.tree.reduce(
            jnp.maximum,
            jax.tree.map(lambda q: jnp.max(jnp.abs(q), initial=0).astype(h.dtype), v),
            jnp.zeros((), h.dtype),
        )
        length = jnp.where(top > 0, top, 1)
        unit = jax.tree.map(lambda q: q.astype(h.dtype) / length, v)
        square = jnp.where(top > 0, _tree.vdot(unit, unit), 1)

        def displacement(a, b):
            moved = jax.tree.map(lambda p: p[at[a]] - p[at[b]], points)
            return _tree.vdot(moved, unit) / square

        divisors = {(a, b): displacement(a, b) for a, b, _ in self.quotients}

        def slope(values):
            wide = values.astype(_tree.working_dtype(values.dtype))
            quotients = (
                w * (wide[at[a]] - wide[at[b]]) / divisors[a, b].astype(wide.dtype)
                for a, b, w in self.quotients
            )
            total = sum(quotients) * length.astype(wide.dtype)
            return jnp.where(top > 0, total, 0).astype(values.dtype)

        return jax.tree.map(lambda y: y[0], values), jax.tree.map(slope, values)

    def columns(self, fun: Callable, x: PyTree) -> PyTree:
        # What reads jaxprs is loaded when it is needed: importing the package stays cheap.
        from diffcompare.numerical.evaluation import plans

        leaves, treedef = jax.tree.flatten(x)
        points = sum(offset != 0 for offset in self._offsets())
        found = list(plans.of_leaves(fun, x, self.evaluation, points, self.batch))
        parts = [
            (self._slopes(plan, leaf), plan.blocks)
            for plan, leaf in zip(found, leaves, strict=True)
            if plan is not None
        ]
        columns = iter(map_blocks(parts, self.mesh))
        return jax.tree.unflatten(
            treedef, [_nothing(fun, x) if plan is None else next(columns) for plan in found]
        )

    def _slopes(self, plan: "Plan", leaf: jax.Array) -> Callable:
        """Returns the slopes by some entries of a leaf as a function of their positions."""
        entries = leaf.reshape(-1)
        entry_steps = steps.entry_steps(self.step, leaf, self.accuracy).reshape(-1)
        offsets = self._offsets()
        moving = [offset for offset in offsets if offset != 0]

        def slopes(positions):
            x, h = entries[positions], entry_steps[positions]
            moved = {k: steps.rounded(x + jnp.asarray(k).astype(h.dtype) * h) for k in moving}
            places = jnp.tile(positions, len(moving))
            values = jnp.concatenate([moved[k] for k in moving])
            if 0 in offsets:  # one point that moves nothing, in the same batch as the others
                moved[0] = x
                places = jnp.append(places, positions[0])
                values = jnp.append(values, x[0])
            row = plan.blocks.row(positions[0])
            found = jax.vmap(plan.at, in_axes=(None, 0, 0))(row, places, values)
            return jax.tree.map(lambda y: self._quotient(y, moved), found)

        return slopes

    def _quotient(self, values: jax.Array, moved: dict[int, jax.Array]) -> jax.Array:
        """Returns the slopes, of shape `(batch, ...)`, from all values of one batch."""
        wide = values.astype(_tree.working_dtype(values.dtype))
        moving = [offset for offset in moved if offset != 0]
        count = moved[moving[0]].size
        parts = {k: wide[i * count : (i + 1) * count] for i, k in enumerate(moving)}
        if 0 in moved:
            parts[0] = wide[-1:]
        widen = (count, *(1,) * (wide.ndim - 1))
        total = jnp.zeros((count, *wide.shape[1:]), wide.dtype)
        for a, b, weight in self.quotients:
            far = moved[a].astype(_tree.working_dtype(moved[a].dtype))
            divisor = (far - moved[b].astype(far.dtype)).astype(wide.dtype).reshape(widen)
            total = total + weight * (parts[a] - parts[b]) / divisor
        return total.astype(values.dtype)

    def _offsets(self) -> list[int]:
        return sorted({offset for a, b, _ in self.quotients for offset in (a, b)})


def _nothing(fun: Callable, x: PyTree) -> PyTree:
    """Returns the columns of a leaf without entries."""
    out = jax.eval_shape(fun, x)
    return jax.tree.map(lambda out: jnp.zeros((0, *out.shape), out.dtype), out)


def _check_options(method: Difference) -> None:
    steps.check_step(method.step)
    batch, mesh = method.batch, method.mesh
    if batch is not None and not (isinstance(batch, int) and batch >= 1):
        raise ValueError(f"batch must be None or a positive integer, but it is {batch!r}.")
    if method.evaluation not in get_args(Strategy):
        known = ", ".join(map(repr, get_args(Strategy)))
        raise ValueError(f"evaluation must be one of {known}, but it is {method.evaluation!r}.")
    _arguments.check_mesh(mesh, "directions")


@dataclass_transform(frozen_default=True)
def _method(cls):
    """Makes a frozen dataclass that is a pytree: its step may be a traced number."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    meta = [field.name for field in dataclasses.fields(cls) if field.name != "step"]
    return jax.tree_util.register_dataclass(cls, data_fields=["step"], meta_fields=meta)


@_method
class ForwardDifference(Difference):
    """The forward difference `(f(x + h) - f(x)) / h`: level 1 of the lecture.

    The error is about `h |f''| / 2 + 2 eps |f| / h`; with the best step half of the
    digits are left. A gradient by `n` entries takes `n + 1` evaluations, and one more
    for every further batch.

    Args:
        step: The absolute step, a positive number, also a traced one; or None for a step
            that suits the dtype, the entry and its leaf. Where a traced step vanishes,
            `x + h == x`, the derivative is NaN.
        batch: How many entries are perturbed at once, or None for as many as suit the
            memory.
        evaluation: How a whole gradient or Jacobian is evaluated. "dense" evaluates all of
            the function at every point; "incremental" computes only what a changed entry
            changes, which for the weights of a network is many times faster, with an error
            of the same size; "auto" takes what promises to be faster, leaf by leaf. The
            rules of `jax.custom_jvp` functions are not seen by a derivative of an
            incremental one.
        mesh: The devices over which the entries are spread, also those of several processes;
            None stays on one. The result is the same bit for bit, and every device has all of
            it. Arrays that live on one device, or NumPy's, are passed; not ones that are
            already spread over the mesh. A slope along one direction is not spread.

    Raises:
        TypeError: The step is not a number, or the mesh not a `jax.sharding.Mesh`.
        ValueError: The step is not positive and finite, the batch is not positive, or there
            is no such evaluation.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> method = dc.ForwardDifference(step=0.5)
        >>> float(dc.grad(lambda x: x**2, method=method)(1.0))
        2.5

    References:
        Gill, Murray, Saunders and Wright, 1983; Press et al., "Numerical Recipes",
        3rd ed., section 5.7.
    """

    step: steps.Step = None
    batch: int | None = None
    evaluation: Strategy = dataclasses.field(default="auto", kw_only=True)
    mesh: Mesh | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        _check_options(self)

    @property
    def accuracy(self) -> int:
        return 1

    @property
    def quotients(self) -> tuple[tuple[int, int, float], ...]:
        return ((1, 0, 1.0),)


@_method
class BackwardDifference(Difference):
    """The backward difference `(f(x) - f(x - h)) / h`.

    As accurate and as costly as `ForwardDifference`; it is for functions that are not
    defined above `x`.

    Args:
        step: As in `ForwardDifference`.
        batch: As in `ForwardDifference`.
        evaluation: As in `ForwardDifference`.
        mesh: As in `ForwardDifference`.

    Example:
        >>> import diffcompare as dc
        >>> method = dc.BackwardDifference(step=0.5)
        >>> float(dc.grad(lambda x: x**2, method=method)(1.0))
        1.5
    """

    step: steps.Step = None
    batch: int | None = None
    evaluation: Strategy = dataclasses.field(default="auto", kw_only=True)
    mesh: Mesh | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        _check_options(self)

    @property
    def accuracy(self) -> int:
        return 1

    @property
    def quotients(self) -> tuple[tuple[int, int, float], ...]:
        return ((0, -1, 1.0),)


@_method
class CentralDifference(Difference):
    """The central difference `(f(x + h) - f(x - h)) / (2 h)`, and those of higher order.

    A scheme of order `p` is exact for polynomials of degree `p`. Its error is
    proportional to `h**p` and to `eps |f| / h`; with the best step, `eps ** (1 / (p + 1))`,
    the share `p / (p + 1)` of the digits is left. A gradient by `n` entries takes `p * n`
    evaluations.

    Args:
        step: As in `ForwardDifference`.
        order: The order `p`: 2, 4, 6 or 8.
        batch: As in `ForwardDifference`.
        evaluation: As in `ForwardDifference`.
        mesh: As in `ForwardDifference`.

    Raises:
        ValueError: The order is another number, or the step is not positive and finite.

    Example:
        >>> import diffcompare as dc
        >>> method = dc.CentralDifference(step=0.5)
        >>> float(dc.grad(lambda x: x**3, method=method)(1.0))
        3.25
        >>> method = dc.CentralDifference(step=0.5, order=4)
        >>> float(dc.grad(lambda x: x**3, method=method)(1.0))
        3.00

    References:
        Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids",
        Math. Comp. 51, 1988; Sauer, "Numerical Analysis", 2nd ed., section 5.1.
    """

    step: steps.Step = None
    order: int = 2
    batch: int | None = None
    evaluation: Strategy = dataclasses.field(default="auto", kw_only=True)
    mesh: Mesh | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        _check_options(self)
        if self.order not in (2, 4, 6, 8):
            raise ValueError(f"order must be 2, 4, 6 or 8, but it is {self.order!r}.")

    @property
    def accuracy(self) -> int:
        return self.order

    @property
    def quotients(self) -> tuple[tuple[int, int, float], ...]:
        return tuple(
            (k, -k, _central_weight(k, self.order // 2)) for k in range(1, self.order // 2 + 1)
        )


def _central_weight(k: int, m: int) -> float:
    """Returns the weight of the quotient over `k` steps to either side, of `m` such."""
    # Extrapolation of quotients with an even error expansion to step zero.
    return (
        (-1) ** (k + 1)
        * 2
        * math.factorial(m) ** 2
        / (math.factorial(m - k) * math.factorial(m + k))
    )
