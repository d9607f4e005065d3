"""What an exact gradient is, and how far a computed one is from it."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np

from diffcompare import _tree
from diffcompare.exact.weights import Kink

PyTree = Any
Number = Any  # an mpmath.mpf

_SHOWN = 3  # leaves, entries and kinks that a printed result shows of many


class LeafError(NamedTuple):
    """How far a computed gradient is from the exact one, in one leaf.

    An entry that is not finite where the exact one is has an infinite error.
    """

    path: str  # of the leaf, such as "['w'][0]"
    shape: tuple[int, ...]
    dtype: str  # of the computed gradient
    relative: float  # of the 2-norm of the leaf
    worst: float  # the largest relative error of an entry
    ulps: float  # the largest error, in units in the last place of the exact entry
    median_ulps: float
    entry: tuple[int, ...] | None  # where the error is largest in ulps; None where all are right


class Errors(tuple[LeafError, ...]):
    """One `LeafError` for each leaf; printed, a table.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> exact = dc.exact_grad(jnp.tanh)(20.0)
        >>> [leaf.relative for leaf in exact.error(jnp.zeros(()))]
        [1.0]
    """

    __slots__ = ()

    def __str__(self) -> str:
        head = ("leaf", "shape", "dtype", "relative", "worst entry", "ulps", "median")
        rows = [
            (
                leaf.path or "the only leaf",
                str(leaf.shape),
                leaf.dtype,
                f"{leaf.relative:.2g}",
                f"{leaf.worst:.2g}",
                f"{leaf.ulps:.3g}",
                f"{leaf.median_ulps:.2g}",
            )
            for leaf in self
        ]
        return _table([head, *rows])


@dataclasses.dataclass(frozen=True, repr=False)
class Exact:
    """The gradient of a function, to a guaranteed number of digits.

    Attributes:
        value: The value of the function, an `mpmath.mpf`.
        grad: The gradient: the structure of the argument, a tuple of such where `argnums` is a
            sequence; in place of each array an array of objects, `mpmath.mpf`, of its shape.
        kinks: Where the function has no derivative, and what was taken for it.
        radius: Like `(value, grad)`, half the width of an interval around each number that
            contains the true one, where the arithmetic was that of balls; else None.
        digits: How many significant decimal digits are right, in every number.
        bits: How many binary digits it was computed with.
        arithmetic: "arb", with an enclosure, or "mpmath", where two precisions agree.
        remarks: What else is to be known: numbers that are 0 as far as the bits show.
    """

    value: Number
    grad: PyTree
    kinks: tuple[Kink, ...]
    radius: tuple[Number, PyTree] | None
    digits: int
    bits: int
    arithmetic: str
    remarks: tuple[str, ...] = ()

    def error(self, grad: PyTree) -> Errors:
        """Returns how far a computed gradient is from this one, for each of its leaves.

        Args:
            grad: Arrays of any floating-point dtype, in the structure and shapes of `self.grad`.

        Raises:
            TypeError: The structure or a shape is another, or a leaf is not floating point.

        Example:
            >>> import jax
            >>> import jax.numpy as jnp
            >>> import diffcompare as dc
            >>> fun, x = lambda x: jnp.log(1 + jnp.exp(x)), jnp.array(800.0)
            >>> (leaf,) = dc.exact_grad(fun)(x).error(jax.grad(fun)(x))
            >>> leaf.relative, leaf.ulps
            (inf, inf)
        """
        return Errors(
            _leaf_error(path, truth, found) for path, truth, found in self._leaves(grad, "error")
        )

    def ulps(self, grad: PyTree) -> PyTree:
        """Returns the error of every entry of a computed gradient, in units in the last place.

        Args:
            grad: As in `error`.

        Returns:
            Arrays of float64 in the structure and shapes of `self.grad`.

        Raises:
            TypeError: As in `error`.

        Example:
            >>> import jax.numpy as jnp
            >>> import diffcompare as dc
            >>> exact = dc.exact_grad(lambda x: jnp.sum(x**3))(jnp.array([1.0, 2.0]))
            >>> exact.ulps(jnp.array([3.0, 12.0 + 2.0**-19], "float32")).tolist()
            [0.0, 2.0]
        """
        arrays = [
            np.array(_differences(truth, found)[1], np.float64).reshape(truth.shape)
            for _, truth, found in self._leaves(grad, "ulps")
        ]
        return jax.tree.unflatten(jax.tree.structure(self.grad), arrays)

    def _leaves(self, grad: PyTree, name: str) -> list[tuple[str, np.ndarray, Any]]:
        """Returns the path, the exact and the computed array of each leaf."""
        if jax.tree.structure(grad) != jax.tree.structure(self.grad):
            raise TypeError(
                f"{name} needs a gradient of the structure {jax.tree.structure(self.grad)}, but "
                f"got {jax.tree.structure(grad)}."
            )
        paths, truths = _tree.leaf_paths(self.grad), jax.tree.leaves(self.grad)
        triples = list(zip(paths, truths, jax.tree.leaves(grad), strict=True))
        for path, truth, found in triples:
            _check_leaf(name, path, truth, found)
        return triples

    def __repr__(self) -> str:
        count = sum(leaf.size for leaf in jax.tree.leaves(self.grad))
        return (
            f"Exact(value={mpmath.nstr(self.value, 17)}, digits={self.digits}, {count} entries, "
            f"{len(self.kinks)} kinks, by {self.arithmetic} in {self.bits} bits)"
        )

    def __str__(self) -> str:
        digits = min(self.digits, 50)
        rows = [("value", "", mpmath.nstr(self.value, digits))]
        paths, leaves = _tree.leaf_paths(self.grad), jax.tree.leaves(self.grad)
        for path, leaf in list(zip(paths, leaves, strict=True))[:_SHOWN]:
            for index in list(np.ndindex(leaf.shape))[:_SHOWN]:
                place = str(list(index)) if index else ""
                rows.append((f"grad{path}", place, mpmath.nstr(leaf[index], digits)))
            if leaf.size > _SHOWN:
                rows.append((f"grad{path}", "...", f"{leaf.size} entries of shape {leaf.shape}"))
        lines = [_table(rows)]
        if len(leaves) > _SHOWN:
            lines.append(f"... {len(leaves)} leaves")
        lines += [_kink_line(kink) for kink in self.kinks[:_SHOWN]]
        if len(self.kinks) > _SHOWN:
            lines.append(f"... {len(self.kinks)} kinks")
        how = "enclosed by arb" if self.radius is not None else "by mpmath, two precisions agree"
        lines += [*self.remarks, f"{self.digits} digits, {how}, in {self.bits} bits"]
        return "\n".join(lines)


def _kink_line(kink: Kink) -> str:
    where = f" at {kink.place}" if kink.place else ""
    entries = "1 entry" if kink.entries == 1 else f"{kink.entries} entries"
    return f"kink of {kink.primitive}{where}, {entries}: {kink.convention}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _check_leaf(name: str, path: str, truth: np.ndarray, found: Any) -> None:
    dtype = jnp.result_type(found)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"{name} needs floating-point arrays, but leaf {path or 'the only one'} has dtype "
            f"{dtype}."
        )
    if np.shape(found) != truth.shape:
        raise TypeError(
            f"{name} needs an array of shape {truth.shape} at {path or 'the only leaf'}, but got "
            f"{np.shape(found)}."
        )


def _differences(truth: np.ndarray, found: Any) -> tuple[list[Number], list[float]]:
    """Returns how far apart the entries are, and that in units in the last place."""
    dtype = jnp.result_type(found)
    computed = [float(entry) for entry in np.asarray(found).ravel()]
    # Enough bits that a difference of nearly equal numbers keeps some.
    with mpmath.workprec(200):
        pairs = zip(truth.ravel(), computed, strict=True)
        differences = [_difference(exact, entry, dtype) for exact, entry in pairs]
        ulps = [float(d / ulp(t, dtype)) for t, d in zip(truth.ravel(), differences, strict=True)]
    return differences, ulps


def _leaf_error(path: str, truth: np.ndarray, found: Any) -> LeafError:
    differences, ulps = _differences(truth, found)
    with mpmath.workprec(200):
        relative = [_ratio(d, abs(t)) for t, d in zip(truth.ravel(), differences, strict=True)]
        whole = _ratio(
            mpmath.sqrt(mpmath.fsum(d * d for d in differences)),
            mpmath.sqrt(mpmath.fsum(t * t for t in truth.ravel() if mpmath.isfinite(t))),
        )
    worst = int(np.argmax(ulps)) if ulps and max(ulps) > 0 else None
    return LeafError(
        path=path,
        shape=truth.shape,
        dtype=str(jnp.result_type(found)),
        relative=whole,
        worst=max(relative, default=0.0),
        ulps=max(ulps, default=0.0),
        median_ulps=float(np.median(ulps)) if ulps else 0.0,
        entry=None if worst is None else tuple(map(int, np.unravel_index(worst, truth.shape))),
    )


def _difference(exact: Number, computed: float, dtype: Any) -> Number:
    """Returns how far apart two numbers are; not finite and finite are infinitely so."""
    if mpmath.isnan(exact) or computed != computed:
        return mpmath.mpf(0) if mpmath.isnan(exact) and computed != computed else mpmath.inf
    if not np.isfinite(computed):
        # An infinity is the right answer for what the dtype cannot hold.
        is_right = abs(exact) > float(jnp.finfo(dtype).max) and (exact > 0) == (computed > 0)
        return mpmath.mpf(0) if is_right else mpmath.inf
    return abs(mpmath.mpf(computed) - exact)


def _ratio(difference: Number, size: Number) -> float:
    if difference == 0:
        return 0.0
    if size == 0 or not mpmath.isfinite(size) or not mpmath.isfinite(difference):
        return float("inf")
    return float(difference / size)


def ulp(number: Number, dtype: Any) -> Number:
    """Returns the distance of neighbours of a dtype at a number: a unit in the last place.

    Example:
        >>> ulp(mpmath.mpf(1), "float64") == 2.0**-52
        True
    """
    info = jnp.finfo(dtype)
    smallest = int(info.minexp)
    exponent = smallest if number == 0 else mpmath.mag(number) - 1 if mpmath.isfinite(number) else 0
    return mpmath.ldexp(1, max(exponent, smallest) - int(info.nmant))
