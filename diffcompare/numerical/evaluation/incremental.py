"""Evaluating a function of which one entry has changed: only what depends on it is computed.

One entry of a weight matrix changes one unit of a layer, not all of them. An interpreter
of the traced function carries such a change, a slab beside the array as it was, through the
equations. Where a contraction runs over the changed axis, the product is updated by the
outer product of the change and of what it meets; where no rule is known, the change is
spread over the whole array and the equation is evaluated as it stands.

The entry really is rounded to `x + h` and the function of that is evaluated, so this is a
finite difference like any other; the sums in it are taken in another order.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, DebugInfo, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

from diffcompare._jaxpr import walk
from diffcompare.numerical.evaluation import rules
from diffcompare.numerical.evaluation.changed import Changed, Index, Value, full

PyTree = Any


class Trace(NamedTuple):
    """A function at one point: its jaxpr, and every value that is computed on the way.

    The values are computed once, outside any loop over directions.
    """

    jaxpr: ClosedJaxpr
    leaves: list[jax.Array]
    values: list[list[jax.Array]]  # the outputs of every equation, in the order of the walk
    outputs: list[jax.Array]
    structure: Any  # of the output

    @classmethod
    def of(cls, fun: Callable, x: PyTree, *, effects: bool = True) -> "Trace | None":
        """Returns the trace of a function of one pytree.

        Args:
            fun: The function.
            x: Where it is evaluated.
            effects: Whether it may do something beside returning values, such as printing.
                Where it may not but does, there is no trace.
        """
        leaves, treedef = jax.tree.flatten(x)
        jaxpr, out = jax.make_jaxpr(
            lambda *leaves: fun(jax.tree.unflatten(treedef, leaves)), return_shape=True
        )(*leaves)
        if jaxpr.effects and not effects:
            return None
        recorder = _Recorder()
        outputs = [jnp.asarray(output) for output in walk.walk(jaxpr, recorder, leaves)]
        return cls(jaxpr, leaves, recorder.values, outputs, jax.tree.structure(out))

    def at_entry(self, leaf: int, shared: int | None) -> Callable:
        """Returns the function, of the leaf with one entry replaced.

        Args:
            leaf: The number of the leaf.
            shared: The axis of the leaf along which all entries of a batch have one
                position; None where there is no such axis.

        Returns:
            A function of the position along the shared axis, of the flat position of the
            entry, and of its new value. It returns the output of the function, and works
            under `jax.vmap` over the last two.
        """
        base = self.leaves[leaf]

        def evaluate(row, position, value):
            coordinates = jnp.unravel_index(position, base.shape) if base.ndim else ()
            at = {
                axis: Index(
                    axis, row if axis == shared else coordinates[axis], is_shared=axis == shared
                )
                for axis in range(base.ndim)
                if base.shape[axis] > 1
            }
            new = value.reshape([1] * (base.ndim - len(at)))
            inputs: list[Value] = [*self.leaves]
            inputs[leaf] = Changed(base, at, new)
            outputs = walk.walk(self.jaxpr, _Updater(self.values), inputs)
            return jax.tree.unflatten(self.structure, [full(output) for output in outputs])

        return evaluate


class _Recorder(walk.Interpreter[Any]):
    """Evaluates, and keeps the outputs of every equation."""

    def __init__(self) -> None:
        self.values: list[list[jax.Array]] = []

    def constant(self, value):
        return value

    def equation(self, eqn, inputs):
        self.values.append(_evaluated(eqn, inputs))
        return self.values[-1]


class _Updater(walk.Interpreter[Value]):
    """Evaluates what has changed; the rest is read from a record of the same walk."""

    def __init__(self, values: Sequence[list[jax.Array]]) -> None:
        self.values = iter(values)

    def constant(self, value):
        return value

    def equation(self, eqn, inputs):
        bases = next(self.values)
        if not any(isinstance(value, Changed) for value in inputs):
            return bases
        outputs = rules.apply(eqn, inputs, bases)
        if outputs is not None:
            return outputs
        news = _evaluated(eqn, [full(value) for value in inputs])
        return [Changed(base, {}, new) for base, new in zip(bases, news, strict=True)]


def _evaluated(eqn: JaxprEqn, inputs: Sequence[Any]) -> list[jax.Array]:
    """Returns the outputs of an equation, whatever it is."""
    given = {
        atom: value
        for atom, value in zip(eqn.invars, inputs, strict=True)
        if not isinstance(atom, Literal)
    }
    info = DebugInfo("finite difference", eqn.primitive.name, None, None)
    alone = Jaxpr((), list(given), eqn.outvars, [eqn], eqn.effects, info)
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*given.values())
