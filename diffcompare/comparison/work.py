"""How much work a traced function is, counted, not timed: the same number on every run."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun

from diffcompare._jaxpr import walk

# Primitives that visit every entry of their input, and return fewer.
_VISITING = ("arg", "cum", "reduce", "sort")


class Work(NamedTuple):
    """What is done when a program runs; the body of a loop counts each time."""

    equations: float
    operations: float  # on single numbers, other than those of products of matrices
    products: float  # multiplications and additions of products of matrices, a pair counted once

    def times(self, count: float) -> "Work":
        return Work(*(count * part for part in self))

    def plus(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Work(0.0, 0.0, 0.0)


def length(jaxpr: ClosedJaxpr | Jaxpr) -> int:
    """Returns how many equations a program consists of, those in loops and calls once.

    Example:
        >>> length(jax.make_jaxpr(lambda x: lax.fori_loop(0, 9, lambda i, y: y * y, x))(1.0))
        2
    """
    return sum(sum(map(length, bodies(eqn))) or 1 for eqn in walk.close(jaxpr).jaxpr.eqns)


def of(jaxpr: ClosedJaxpr | Jaxpr) -> Work:
    """Returns the work of a program, where a `while` runs once, and the dearest branch is taken.

    Example:
        >>> fun = lambda a, x: jnp.sum(jnp.sin(a @ x))
        >>> of(jax.make_jaxpr(fun)(jnp.ones((2, 3)), jnp.ones(3)))
        Work(equations=3.0, operations=4.0, products=6.0)
    """
    return functools.reduce(Work.plus, map(_of_equation, walk.close(jaxpr).jaxpr.eqns), NOTHING)


def measured(jaxpr: ClosedJaxpr, inputs: Sequence[Any]) -> Work:
    """Returns the work of a program at its inputs, each `while` counted as often as it runs there.

    Example:
        >>> loop = lambda x: lax.while_loop(lambda y: y < 100, lambda y: 2 * y, x)
        >>> jaxpr = jax.make_jaxpr(loop)(1.0)
        >>> of(jaxpr).operations, measured(jaxpr, [1.0]).operations
        (2.0, 14.0)
    """
    if not _has_while(jaxpr):
        return of(jaxpr)

    @jax.jit
    def count(*inputs):
        counter = _Counter()
        walk.walk(jaxpr, counter, inputs)
        return counter.work

    return Work(*map(float, count(*map(jnp.asarray, inputs))))


def bounded(jaxpr: ClosedJaxpr, equations: float) -> Callable[..., list[Any]]:
    """Returns a program as a function whose loops end: where they have not by then, it is NaN.

    A loop that ends where the function is differentiated need not end a long step away.

    Args:
        jaxpr: The program.
        equations: After how many of them a `while` is stopped.

    Example:
        >>> loop = lambda x: lax.while_loop(lambda y: y < 100, lambda y: 2 * y, x)
        >>> run = bounded(jax.make_jaxpr(loop)(1.0), 1000)
        >>> [float(run(x)[0]) for x in (1.0, 0.0)]
        [128.0, nan]
    """
    if not _has_while(jaxpr):
        return jaxpr_as_fun(jaxpr)
    return lambda *inputs: walk.walk(jaxpr, _Counter(equations), list(map(jnp.asarray, inputs)))


def _of_equation(eqn: JaxprEqn) -> Work:
    name = eqn.primitive.name
    inner = list(bodies(eqn))
    if name == "scan":
        return of(walk.scan_parts(eqn).body).times(walk.scan_parts(eqn).length)
    if name == "cond":
        return max(map(of, inner), key=sum)
    if inner:
        return functools.reduce(Work.plus, map(of, inner))
    outputs = sum(_size(variable) for variable in eqn.outvars)
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        length = math.prod(_shape(eqn.invars[0])[axis] for axis in contracted)
        return Work(1.0, 0.0, float(outputs * length))
    if name == "conv_general_dilated":
        kernel = eqn.invars[1]
        features = _shape(kernel)[eqn.params["dimension_numbers"].rhs_spec[0]]
        return Work(1.0, 0.0, outputs * _size(kernel) / max(1, features))
    visited = max(map(_size, eqn.invars), default=0) if name.startswith(_VISITING) else 0
    return Work(1.0, float(max(outputs, visited)), 0.0)


def _shape(atom: Any) -> tuple[int, ...]:
    return np.shape(atom.aval)


def _size(atom: Any) -> int:
    return math.prod(_shape(atom))


def bodies(eqn: JaxprEqn) -> Iterator[ClosedJaxpr]:
    """Yields the jaxprs that an equation has, of a loop, of branches, of a call."""
    for value in eqn.params.values():
        for part in value if isinstance(value, tuple | list) else (value,):
            if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                yield walk.close(part)


def _has_while(jaxpr: ClosedJaxpr | Jaxpr) -> bool:
    return any(
        eqn.primitive.name == "while" or any(map(_has_while, bodies(eqn)))
        for eqn in walk.close(jaxpr).jaxpr.eqns
    )


class _Counter(walk.Interpreter[Any]):
    """Runs a program and counts; loops carry the count along, and may be stopped by it."""

    def __init__(self, equations: float = math.inf):
        self.limit = equations
        self.work = jnp.zeros(3, jnp.float32)

    def constant(self, value):
        return jnp.asarray(value)

    def equation(self, eqn, inputs):
        run = {"while": self._while, "scan": self._scan, "cond": self._cond}.get(eqn.primitive.name)
        if run is not None and (run == self._while or any(map(_has_while, bodies(eqn)))):
            return run(eqn, inputs)
        self._add(_of_equation(eqn))
        outputs = eqn.primitive.bind(*inputs, **eqn.primitive.get_bind_params(eqn.params))
        return outputs if eqn.primitive.multiple_results else [outputs]

    def _add(self, work):
        self.work = self.work + jnp.asarray(work, jnp.float32)

    def _while(self, eqn, inputs):
        loop = walk.while_parts(eqn)
        start = loop.condition_constants + loop.body_constants
        of_condition = inputs[: loop.condition_constants]
        of_body = inputs[loop.condition_constants : start]
        each_time = of(loop.condition)

        def goes_on(carry):
            return jaxpr_as_fun(loop.condition)(*of_condition, *carry)[0]

        def body(state):
            work, carry = state
            outputs, more = self._counted(loop.body, [*of_body, *carry])
            outputs = _chosen(goes_on(carry), outputs, carry)
            return work + more + jnp.asarray(each_time, jnp.float32), outputs

        condition = lambda state: jnp.any(goes_on(state[1])) & (state[0][0] < self.limit)
        self.work, carry = lax.while_loop(condition, body, (self.work, list(inputs[start:])))
        if self.limit == math.inf:
            return carry
        lost = [
            jnp.full_like(value, jnp.nan) if jnp.issubdtype(value.dtype, jnp.floating) else value
            for value in carry
        ]
        return _chosen(goes_on(carry), lost, carry)

    def _scan(self, eqn, inputs):
        scan = walk.scan_parts(eqn)
        constants, carry, sliced = scan.split(inputs)

        def body(state, slices):
            work, carry = state
            outputs, more = self._counted(scan.body, [*constants, *carry, *slices])
            return (work + more, outputs[: scan.carry]), outputs[scan.carry :]

        start = (self.work, carry)
        (self.work, carry), stacked = lax.scan(
            body, start, sliced, length=scan.length, reverse=scan.reverse
        )
        return [*carry, *stacked]

    def _cond(self, eqn, inputs):
        index, *operands = inputs
        paths = [functools.partial(self._counted, branch) for branch in walk.branches(eqn)]
        outputs, more = lax.switch(index.astype(jnp.int32), paths, operands)
        self.work = self.work + more
        return outputs

    def _counted(self, jaxpr, inputs):
        counter = _Counter(self.limit)
        return walk.walk(jaxpr, counter, inputs), counter.work


def _chosen(flags, values, others):
    """Returns values where a flag is set, else the others; many loops in one have many flags."""

    def choose(value, other):
        whole = flags.reshape(flags.shape + (1,) * (value.ndim - flags.ndim))
        return jnp.where(whole, value, other)

    return list(map(choose, values, others))
