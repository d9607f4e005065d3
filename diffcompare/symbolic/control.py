"""Derivatives of loops and branches: the derivative of the body, in a loop or a branch."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import walk
from diffcompare.symbolic import solves
from diffcompare.symbolic.rule import Rule

Derive = Callable[[ClosedJaxpr, Sequence[bool]], Any]  # a Program


def find(
    eqn: JaxprEqn, name: str, active: Sequence[bool], derive: Derive
) -> tuple[Rule, list[bool]] | None:
    """Returns the rule of a loop or a branch, and which outputs depend on active inputs.

    None is returned for any other equation.
    """
    found = _FOUND.get(name)
    return None if found is None else found(eqn, active, derive)


def _scan(eqn, active, derive):
    scan = walk.scan_parts(eqn)
    flags, start, stop = list(active), scan.constants, scan.constants + scan.carry
    while True:
        program = derive(scan.body, flags)
        found = [node.is_active for node in program.outputs]
        carried = [a or b for a, b in zip(flags[start:stop], found, strict=False)]
        if carried == flags[start:stop]:
            return _Scan(scan, program, tuple(flags)), [*carried, *found[scan.carry :]]
        flags[start:stop] = carried


@dataclasses.dataclass(frozen=True)
class _Scan(Rule):
    """A loop. In reverse it is run once more for the carries, which are saved, then backwards."""

    scan: walk.Scan
    program: Any
    active: tuple[bool, ...]  # of each input; of a carry, also where the body makes it so

    def push(self, inputs, outputs, tangents):
        scan = self.scan
        constants, carry, slices = scan.split(inputs)
        slopes = _kept(_whole(inputs, tangents), self.active)
        of_constants, of_carry, of_slices = scan.split(slopes)

        def step(state, sliced):
            (carry, of_carry), (entries, of_entries) = state, sliced
            env = self._run([*constants, *carry, *entries])
            found = self.program.push(env, [*of_constants, *of_carry, *of_entries])
            moved = _kept(found[: scan.carry], self._carry_active)
            return (self._carry(env), moved), found[scan.carry :]

        start = (carry, of_carry), (slices, of_slices)
        (_, last), stacked = lax.scan(step, *start, length=scan.length, reverse=scan.reverse)
        return [*last, *stacked]

    def pull(self, inputs, outputs, weights):
        scan = self.scan
        constants, carry, slices = scan.split(inputs)
        carries = self._carries(constants, carry, slices)
        whole = _whole(outputs, weights)
        of_carry = _kept(whole[: scan.carry], self._carry_active)
        of_constants = _kept([jnp.zeros_like(x) for x in constants], self.active)

        def step(state, sliced):
            (of_constants, of_carry), (carry, entries, arrived) = state, sliced
            env = self._run([*constants, *carry, *entries])
            found = _kept(self.program.pull(env, [*of_carry, *arrived]), self.active)
            by_constants, by_carry, by_entries = scan.split(found)
            total = [
                None if a is None else a + b
                for a, b in zip(of_constants, by_constants, strict=True)
            ]
            return (total, by_carry), by_entries

        start = (of_constants, of_carry), (carries, slices, whole[scan.carry :])
        (by_constants, by_carry), by_slices = lax.scan(
            step, *start, length=scan.length, reverse=not scan.reverse
        )
        return [*by_constants, *by_carry, *by_slices]

    @property
    def _carry_active(self):
        return self.active[self.scan.constants : self.scan.constants + self.scan.carry]

    def _run(self, inputs):
        return self.program.run(self.scan.body.consts, inputs)

    def _carry(self, env):
        return self.program.values(env)[: self.scan.carry]

    def _carries(self, constants, carry, slices):
        """Returns the carry before each step."""

        def step(carry, entries):
            return self._carry(self._run([*constants, *carry, *entries])), carry

        scan = self.scan
        return lax.scan(step, carry, slices, length=scan.length, reverse=scan.reverse)[1]


def _cond(eqn, active, derive):
    bodies = walk.branches(eqn)
    programs = tuple(derive(body, active[1:]) for body in bodies)
    flags = [any(nodes) for nodes in zip(*[_active(p) for p in programs], strict=True)]
    constants = tuple(tuple(body.consts) for body in bodies)
    return _Cond(programs, constants, tuple(active[1:]), tuple(flags)), flags


def _active(program) -> list[bool]:
    return [node.is_active for node in program.outputs]


@dataclasses.dataclass(frozen=True)
class _Cond(Rule):
    """A branch: the derivative of the one that is taken."""

    programs: tuple[Any, ...]
    constants: tuple[tuple[Any, ...], ...]
    active: tuple[bool, ...]  # of each operand
    output_active: tuple[bool, ...]

    def push(self, inputs, outputs, tangents):
        index, *operands = inputs
        slopes = _kept(_whole(operands, tangents[1:]), self.active)

        def branch(program, env, slopes):
            return _kept(program.push(env, slopes), self.output_active)

        return self._switch(branch, index, operands, slopes)

    def pull(self, inputs, outputs, weights):
        index, *operands = inputs
        whole = _kept(_whole(outputs, weights), self.output_active)

        def branch(program, env, weights):
            return _kept(program.pull(env, weights), self.active)

        return [None, *self._switch(branch, index, operands, whole)]

    def _switch(self, function, index, operands, derivatives):
        def branch(program, constants):
            return lambda operands, derivatives: function(
                program, program.run(constants, operands), derivatives
            )

        cases = [branch(*each) for each in zip(self.programs, self.constants, strict=True)]
        return lax.switch(index, cases, operands, derivatives)


def _whole(values, derivatives):
    """Returns derivatives with zeros in place of None."""
    return [
        jnp.zeros_like(value) if derivative is None else derivative
        for value, derivative in zip(values, derivatives, strict=True)
    ]


def _kept(derivatives, flags):
    """Returns derivatives with None where there is none; `flags` may be longer."""
    return [d if flag else None for d, flag in zip(derivatives, flags, strict=False)]


_FOUND: dict[str, Callable[..., tuple[Rule, list[bool]] | None]] = {
    "cond": _cond,
    "custom_linear_solve": solves.linear_solve,
    "scan": _scan,
    "while": solves.loop,
}
