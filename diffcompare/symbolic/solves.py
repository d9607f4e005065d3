"""Derivatives of loops of unknown length, and of solutions of linear equations."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import jaxpr_as_fun

from diffcompare._jaxpr import walk
from diffcompare.symbolic.rule import Rule, apply

Array = Any


def loop(eqn: Any, active: Sequence[bool], derive: Any) -> tuple[Rule, list[bool]]:
    """Returns the rule of a `while` equation, and which outputs depend on active inputs."""
    parts = walk.while_parts(eqn)
    start = parts.condition_constants + parts.body_constants
    flags = [*active[parts.condition_constants : start], *active[start:]]
    while True:
        program = derive(parts.body, flags)
        found = [node.is_active for node in program.outputs]
        carried = [a or b for a, b in zip(flags[parts.body_constants :], found, strict=True)]
        if carried == flags[parts.body_constants :]:
            return _While(parts, program, tuple(flags)), carried
        flags[parts.body_constants :] = carried


@dataclasses.dataclass(frozen=True)
class _While(Rule):
    """A loop whose condition is asked at every step; how often it runs does not vary.

    In reverse the steps are counted first. Where the count is known when the derivative is
    taken, outside of `jit`, the carries are saved; where it is traced they are computed again
    from the start for every step, since no array has a length that varies.
    """

    parts: walk.While
    program: Any  # of the body
    active: tuple[bool, ...]  # of each constant of the body, and of each carry

    def push(self, inputs, outputs, tangents):
        tested, used, carry = self._split(inputs)
        _, of_used, of_carry = self._split(
            [
                t if t is not None else jnp.zeros_like(x)
                for x, t in zip(inputs, tangents, strict=True)
            ]
        )
        of_carry = [
            t if flag else None for t, flag in zip(of_carry, self._carry_active, strict=True)
        ]

        def step(state):
            carry, slopes = state
            env = self._run([*used, *carry])
            moved = self.program.push(env, [*of_used, *slopes])
            moved = [t if f else None for t, f in zip(moved, self._carry_active, strict=True)]
            return self.program.values(env), moved

        going = lambda state: self._goes_on(tested, state[0])
        return lax.while_loop(going, step, (carry, of_carry))[1]

    def pull(self, inputs, outputs, weights):
        tested, used, carry = self._split(inputs)
        count = self._count(tested, used, carry)
        flags, width = self.active, len(used)
        kept = lambda values, flags: [v if f else None for v, f in zip(values, flags, strict=True)]
        start = kept([jnp.zeros_like(x) for x in used], flags[:width])
        whole = [
            jnp.zeros_like(y) if w is None else w for y, w in zip(outputs, weights, strict=True)
        ]

        def back(state, before):
            by_used, by_carry = state
            found = self.program.pull(self._run([*used, *before]), by_carry)
            found = kept(found, flags)
            total = [None if a is None else a + b for a, b in zip(by_used, found, strict=False)]
            return total, found[width:]

        state = start, kept(whole, self._carry_active)
        if isinstance(count, jax.core.Tracer):
            after = lambda i: lax.fori_loop(0, i, lambda _, c: self._stepped(used, c), carry)
            by_used, by_carry = lax.fori_loop(
                0, count, lambda i, state: back(state, after(count - 1 - i)), state
            )
        else:
            save = lambda c, _: (self._stepped(used, c), c)
            carries = lax.scan(save, carry, None, length=int(count))[1]
            again = lambda state, before: (back(state, before), None)
            by_used, by_carry = lax.scan(again, state, carries, reverse=True)[0]
        return [*[None] * len(tested), *by_used, *by_carry]

    @property
    def _carry_active(self):
        return self.active[self.parts.body_constants :]

    def _split(self, values):
        first, second = self.parts.condition_constants, self.parts.body_constants
        values = list(values)
        return values[:first], values[first : first + second], values[first + second :]

    def _run(self, inputs):
        return self.program.run(self.parts.body.consts, inputs)

    def _stepped(self, used, carry):
        return self.program.values(self._run([*used, *carry]))

    def _goes_on(self, tested, carry):
        return jaxpr_as_fun(self.parts.condition)(*tested, *carry)[0]

    def _count(self, tested, used, carry):
        """Returns how many steps the loop has."""
        step = lambda state: (state[0] + 1, self._stepped(used, state[1]))
        going = lambda state: self._goes_on(tested, state[1])
        return lax.while_loop(going, step, (jnp.zeros((), jnp.int32), list(carry)))[0]


def linear_solve(eqn: Any, active: Sequence[bool], derive: Any) -> tuple[Rule, list[bool]] | None:
    """Returns the rule of `custom_linear_solve`, and which outputs depend on active inputs."""
    lengths = eqn.params["const_lengths"]
    counts = (lengths.matvec, lengths.vecmat, lengths.solve, lengths.transpose_solve)
    wanted = len(eqn.invars) - sum(counts)
    flags = [*active[: lengths.matvec], *[False] * wanted]
    program = derive(walk.close(eqn.params["jaxprs"].matvec), flags)
    told = len(eqn.outvars) - wanted  # what a solver tells beside its solution
    return _LinearSolve(eqn, program, counts, told), [*[True] * wanted, *[False] * told]


@dataclasses.dataclass(frozen=True)
class _LinearSolve(Rule):
    """A(c) x = b: a change of x solves the same equations."""

    eqn: Any
    program: Any  # of A(c) x, by c
    counts: tuple[int, int, int, int]  # of what A, its transpose and their solvers close over
    told: int

    def push(self, inputs, outputs, tangents):
        constants, wanted = inputs[: sum(self.counts)], inputs[sum(self.counts) :]
        slopes = tangents[sum(self.counts) :]
        right = [jnp.zeros_like(b) if t is None else t for b, t in zip(wanted, slopes, strict=True)]
        of_matrix = tangents[: self.counts[0]]
        if any(t is not None for t in of_matrix):
            solution = outputs[: len(wanted)]
            moved = self.program.push(
                self._applied(inputs, solution), [*of_matrix, *[None] * len(wanted)]
            )
            right = [b - m for b, m in zip(right, moved, strict=True)]
        found = apply(self.eqn, [*constants, *right])
        return [*found[: len(wanted)], *[None] * self.told]

    def pull(self, inputs, outputs, weights):
        jaxprs, (first, second, third, fourth) = self.eqn.params["jaxprs"], self.counts
        if jaxprs.transpose_solve is None:
            raise NotImplementedError(
                "Symbolic(route='program') needs `transpose_solve` for the gradient of a solution "
                "by jax.lax.custom_linear_solve. Pass it there, or symmetric=True, or use a "
                "numerical method such as CentralDifference()."
            )
        start = first + second
        of_back, of_solve = inputs[first:start], inputs[start : start + third]
        of_transpose = inputs[start + third : start + third + fourth]
        count = len(outputs) - self.told
        solution = outputs[:count]
        whole = [
            jnp.zeros_like(x) if w is None else w
            for x, w in zip(solution, weights[:count], strict=True)
        ]
        of = lambda jaxpr, constants: (
            lambda x: list(jaxpr_as_fun(walk.close(jaxpr))(*constants, *x)[:count])
        )
        solve, back = of(jaxprs.solve, of_solve), of(jaxprs.transpose_solve, of_transpose)
        adjoint = lax.custom_linear_solve(
            of(jaxprs.vecmat, of_back),
            whole,
            solve=lambda _, b: back(b),
            transpose_solve=lambda _, b: solve(b),
        )
        by_matrix = self.program.pull(self._applied(inputs, solution), [-part for part in adjoint])[
            :first
        ]
        return [*by_matrix, *[None] * (second + third + fourth), *adjoint]

    def _applied(self, inputs, solution):
        constants = inputs[: self.counts[0]]
        body = walk.close(self.eqn.params["jaxprs"].matvec)
        return self.program.run(body.consts, [*constants, *solution])
