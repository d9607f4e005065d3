"""Derivatives that say how wrong they can be."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare import _arguments, _tree
from diffcompare.numerical import ladder, line
from diffcompare.numerical import step as steps
from diffcompare.numerical.conclusion import Slope, Status
from diffcompare.numerical.host import (
    TRACING_ERRORS,
    BlackBox,
    black_box,
    scalar_on_host,
    values_on_host,
)

PyTree = Any

# How many bytes of perturbed copies are in flight at once, and how many copies.
_CPU_BYTES, _CPU_ROWS = 2**20, 64
_ACCELERATOR_BYTES, _ACCELERATOR_ROWS = 2**28, 4096
# How many values are computed by one call of a compiled function: half of a scan, up to a limit.
_ROWS_PER_ENTRY, _MOST_ROWS = ladder.SCAN + 1, 4096


class Estimate(NamedTuple):
    """A gradient, and a bound of its error for every entry.

    The pytrees have the structure and shapes of what was differentiated.
    """

    value: jax.Array  # (), of the function
    grad: PyTree  # of the dtypes of the argument
    bound: PyTree  # of the absolute error of `grad`; infinite where nothing is known
    step: PyTree  # the shortest step that an entry was found from
    evaluations: int  # of the function, for all entries together; not what fills a batch up
    status: PyTree  # of int8, see `Status`

    @property
    def reasons(self) -> PyTree:
        """The names of `status` as NumPy arrays of text, such as `"not finite"`."""
        names = np.array([status.name.lower().replace("_", " ") for status in Status])
        return jax.tree.map(lambda status: names[np.asarray(status)], self.status)


def estimate(fun: Callable, argnums: int | Sequence[int] = 0) -> Callable[..., Estimate]:
    """Returns a function that computes the gradient of `fun`, with a bound of its error.

    Nothing but values of `fun` is used, and no step or tolerance is asked for. Values on a
    ladder of steps, each half of the one before, are extrapolated to step zero. Their noise
    is measured, not assumed; so is the scale on which `fun` changes; and a bound is only
    given where nothing seen at shorter steps contradicts it, which is what a pole, a kink,
    a jump or an oscillation would do. A derivative takes 69 evaluations, in three batches.

    A bound is not a proof: it rests on values at finitely many points. What changes `fun`
    by less than its rounding errors, or between these points only, is not seen.

    Args:
        fun: Function of one or more pytrees, returning a floating-point scalar of shape `()`.
            It has to be pure; it is called many times, compiled. A black box, or what JAX
            cannot trace, is called on the host with arrays of its own.
        argnums: The positional argument, or the arguments, to differentiate: pytrees of
            floating-point arrays.

    Returns:
        A function of the same arguments as `fun`, which returns an `Estimate`. Where `argnums`
        is a sequence, its pytrees are tuples. The status of an entry is `CONVERGED` where the
        bound is at most a tenth of the derivative, or tiny beside other changes of `fun`;
        else it says why it is not: `NOISE`, `KINK`, `NOT_FINITE` or `FLAT`. It is `DOMAIN`
        where only one side has finite values.

    Raises:
        TypeError: `fun` did not return a floating-point scalar, an argument to
            differentiate is not floating point, or `argnums` is not made of integers.
        ValueError: There is no argument of that number.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> found = dc.estimate(lambda x: jnp.sum(jnp.sin(x)))(jnp.array([0.0, 1.0]))
        >>> found.grad.tolist()
        [1.000, 0.540]
        >>> bool(jnp.all(found.bound < 1e-2))
        True

    References:
        Richardson, "The approximate arithmetical solution by finite differences", Phil.
        Trans. R. Soc. A 210, 1911; Moré and Wild, "Estimating computational noise", SIAM J.
        Sci. Comput. 33, 2011.
    """
    positions, is_single = _arguments.check_argnums(argnums)

    def of_x(given, kwargs, x):
        filled = list(given)
        for position, argument in zip(positions, x, strict=True):
            filled[position] = argument
        value = fun(*filled, **kwargs)
        _arguments.check_scalar("estimate", fun, value)
        return value

    def run(args, kwargs):
        given, number, indices, entries = args
        x = tuple(given[position] for position in positions)
        if number is None:
            return of_x(given, kwargs, x)
        leaf, of_leaf = list(_tree.functions_of_leaves(functools.partial(of_x, given, kwargs), x))[
            number
        ]
        return _values(leaf, of_leaf, indices, entries)

    run_compiled = _arguments.compiled(run)

    def checked(given, kwargs, convert):
        args = list(given)
        _arguments.check_positions("estimate", fun, positions, len(args))
        for position in positions:
            args[position] = convert(args[position])
            _arguments.check_floating("estimate", args[position], f"argument {position}")
        _check_concrete((args, kwargs))
        return args, tuple(args[position] for position in positions)

    def traced(given, kwargs):
        args, x = checked(given, kwargs, _arguments.to_arrays)
        return _gathered(
            x,
            is_single,
            lambda number, *rows: _filled(
                lambda *batch: run_compiled((args, number, *batch), kwargs), x, number, *rows
            ),
            lambda: run_compiled((args, None, None, None), kwargs),
            jnp.asarray,
        )

    def on_host(given, kwargs):
        args, x = checked(given, kwargs, _arguments.to_numpy)
        box = fun if isinstance(fun, BlackBox) else black_box(fun)
        of_all = functools.partial(of_x, args, kwargs)
        # Slopes are found in the precision of the argument, whatever JAX is set to.
        with jax.enable_x64(True):
            here = scalar_on_host(box, of_all, x)
            found = _gathered(
                x,
                is_single,
                lambda *rows: values_on_host(box, of_all, x, here, *rows),
                lambda: here,
                np.asarray,
            )
        return found._replace(evaluations=found.evaluations + 1)

    def estimated(*given, **kwargs):
        if not isinstance(fun, BlackBox):
            try:
                return traced(given, kwargs)
            except TRACING_ERRORS:
                pass
        return on_host(given, kwargs)

    estimated.__name__ = f"estimate_of_{_arguments.name_of(fun)}"
    estimated.__doc__ = f"Gradient of {_arguments.name_of(fun)}, with bounds of its error."
    return estimated


def _gathered(
    x: tuple[PyTree, ...], is_single: bool, values: Callable, value_of: Callable, kind: Callable
) -> Estimate:
    """Returns the estimate of all leaves of `x`.

    Args:
        x: What to differentiate by.
        is_single: Whether `x` holds one argument, whose structure the result has.
        values: Takes the number of a leaf, flat positions in it and entries to put there.
        value_of: Returns the value, where no leaf has an entry.
        kind: Makes arrays of the kind that is to be returned.
    """
    leaves, treedef = jax.tree.flatten(x)
    value, found = None, []
    for number, leaf in enumerate(leaves):
        if leaf.size == 0:
            found.append(Slope(leaf, leaf, leaf, leaf.astype(np.int8)))
            continue
        value, slopes = _slopes_of_leaf(functools.partial(values, number), leaf)
        found.append(_of_leaf(leaf, slopes, kind))
    if value is None:
        value = value_of()
    trees = (jax.tree.unflatten(treedef, [each[field] for each in found]) for field in range(4))
    grad, bound, step, status = (tree[0] if is_single else tree for tree in trees)
    entries = sum(leaf.size for leaf in leaves)
    return Estimate(value, grad, bound, step, entries * ladder.EVALUATIONS, status)


def _check_concrete(arguments: PyTree) -> None:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
        raise TypeError(
            "estimate needs concrete values, but an argument is traced, as within jax.jit, "
            "jax.vmap or jax.grad. Call it outside, or differentiate there with "
            "diffcompare.grad(fun, method=diffcompare.Richardson()), which finds the same gradient."
        )


def _values(leaf: jax.Array, fun: Callable, indices: jax.Array, entries: jax.Array) -> jax.Array:
    """Returns the values of `fun` with one entry of `leaf` replaced, shape `(rows,)`."""
    positions = _tree.positions(leaf)

    def at(index, entry):
        return fun(jnp.where(positions == index, entry, leaf))

    def some(rows):
        return jax.vmap(at)(indices[rows], entries[rows])

    return _tree.map_in_batches(some, len(indices), min(rows_at_once(leaf), len(indices)))


def _filled(
    values: Callable, x: PyTree, number: int, indices: np.ndarray, entries: np.ndarray
) -> np.ndarray:
    """Returns the values for any number of rows, from calls with as many as are compiled for."""
    rows = min(_ROWS_PER_ENTRY * jax.tree.leaves(x)[number].size, _MOST_ROWS)
    missing = -len(indices) % rows
    indices, entries = (np.pad(each, (0, missing), mode="edge") for each in (indices, entries))
    parts = [
        values(indices[start : start + rows], entries[start : start + rows])
        for start in range(0, len(indices), rows)
    ]
    return np.concatenate([np.asarray(part) for part in parts])[: len(indices) - missing]


def _slopes_of_leaf(values: Callable, leaf: jax.Array) -> tuple[jax.Array, Slope]:
    """Returns the value of a function and its slopes by the entries of `leaf`.

    Args:
        values: Takes flat positions in the leaf and the entries to put there, both of shape
            `(rows,)`, and returns values of that shape.
        leaf: Where to differentiate.
    """

    def evaluate(points):
        indices = np.repeat(np.arange(len(points)), points.shape[1])
        return values(indices, points.ravel()).reshape(points.shape)

    # By NumPy: JAX would compile its scale for every shape.
    x = np.asarray(leaf).reshape(-1)
    value, found = line.slopes_of_lines(evaluate, x, steps.entry_scale(x))
    return value[0], found


def _of_leaf(leaf: jax.Array, found: Slope, kind: Callable) -> Slope:
    """Returns slopes in the shape of a leaf, the gradient in its dtype."""
    with np.errstate(over="ignore"):  # of half precision; then the bound is infinite
        slope = found.slope.astype(leaf.dtype)
    rounding = np.abs(slope.astype(found.slope.dtype) - found.slope)
    bound = found.bound + np.nan_to_num(rounding, posinf=np.inf)
    found = found._replace(slope=slope, bound=bound)
    return jax.tree.map(lambda each: kind(each.reshape(leaf.shape)), found)


def rows_at_once(leaf: jax.Array) -> int:
    """Returns how many copies of a leaf are in flight at once."""
    cpu = jax.default_backend() == "cpu"
    budget, most = (_CPU_BYTES, _CPU_ROWS) if cpu else (_ACCELERATOR_BYTES, _ACCELERATOR_ROWS)
    return max(1, min(budget // leaf.nbytes, most))
