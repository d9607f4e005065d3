"""What is claimed: the derivatives that JAX returns for a function, with the user's rules."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from diffcompare._jaxpr import realify
from diffcompare.checking.problem import Moves, Problem, derived, usual_direction

Mode = Literal["rev", "fwd"]
MODES: tuple[Mode, ...] = ("rev", "fwd")

# How JAX says that what a rule returns does not fit the function: at fault is the rule.
_MISFITS = ("Custom VJP bwd rule", "Custom VJP fwd rule", "Custom JVP rule", "custom_vjp bwd")

# A tangent that overflows on its way is tried smaller, never so small that it vanishes.
_SHORTER = (1.0, 2.0**-20, 2.0**-60)


@dataclasses.dataclass(frozen=True, eq=False)
class Claims:
    """The derivatives of a problem, as JAX computes them.

    Attributes:
        problem: Whose derivatives.
        modes: Those that exist, of those that were asked for.
        missing: Why a mode does not exist, by mode.
        misfits: What JAX says of a rule whose result does not fit the function, by mode.
        outputs: The values of the function, in their dtypes.
        gradient: The gradients of the weighted sum of the outputs, one for each leaf, in reverse
            mode; None where that does not exist.
    """

    problem: Problem
    modes: tuple[Mode, ...]
    missing: dict[str, str]
    misfits: dict[str, str]
    outputs: list[np.ndarray]
    gradient: list[np.ndarray] | None
    _value: Callable[..., Any]
    _forward: Callable[..., Any]
    _backward: Callable[..., Any]

    def values(self, x: Sequence[jax.Array] | None = None) -> list[np.ndarray]:
        """Returns the values of the function, computed anew, here or at `x`."""
        return _as_numpy(self._value(*(self.problem.x if x is None else x)))

    def gradients(
        self, weights: Sequence[np.ndarray], x: Sequence[jax.Array] | None = None
    ) -> list[np.ndarray]:
        """Returns what weights of the outputs give for every leaf, in reverse mode."""
        x = self.problem.x if x is None else tuple(x)
        return _as_numpy(self._backward(x, _cotangents(self.problem, weights)))

    def slopes(self, moves: Moves) -> tuple[list[np.ndarray], float]:
        """Returns the claimed slopes of the outputs in forward mode, and how short they were taken.

        A direction whose slopes are not finite is tried shorter, since that may be the doing of
        the direction's length.
        """
        found: list[np.ndarray] = []
        for factor in _SHORTER:
            shorter = {leaf: direction * factor for leaf, direction in moves.items()}
            found = _as_numpy(self._forward(*tangents(self.problem, shorter)))
            if all(np.all(np.isfinite(each.astype(np.float64))) for each in found):
                return found, factor
        return found, _SHORTER[-1]

    @functools.cached_property
    def gradient_jaxpr(self) -> ClosedJaxpr | None:
        """The claimed program of gradients, of the leaves; real numbers only."""
        return self._traced("rev", functools.partial(gradient_of, self.problem), self.problem.x)

    @functools.cached_property
    def slope_jaxpr(self) -> ClosedJaxpr | None:
        """The claimed program of slopes of the outputs, of the leaves and then their tangents."""
        count = len(self.problem.x)
        slopes = lambda *arrays: jax.jvp(self.problem.fun, arrays[:count], arrays[count:])[1]
        return self._traced("fwd", slopes, (*self.problem.x, *tangents(self.problem, {})))

    def _traced(
        self, mode: Mode, program: Callable, arguments: Sequence[Any]
    ) -> ClosedJaxpr | None:
        if mode not in self.modes or self.problem.jaxpr is None:
            return None
        try:
            return realify.realified(jax.make_jaxpr(program)(*arguments), of_values=True)
        except NotImplementedError:  # complex numbers without a rule
            return None


def claims_of(problem: Problem, modes: Sequence[Mode] = MODES) -> Claims:
    """Returns the claimed derivatives, in the modes that exist."""
    # What has no trace steers by numbers, and is differentiated as it runs.
    compiled = jax.jit if problem.jaxpr is not None else lambda function: function
    gradient: list[np.ndarray] | None = None
    found: list[Mode] = []
    missing: dict[str, str] = {}
    misfits: dict[str, str] = {}
    forward = compiled(lambda *tangents: jax.jvp(problem.fun, problem.x, tangents)[1])
    backward = compiled(lambda x, cotangents: jax.vjp(problem.fun, *x)[1](cotangents))

    for mode in MODES:
        if mode not in modes:
            continue
        try:
            if mode == "rev":
                gradient = _as_numpy(backward(problem.x, _cotangents(problem, problem.weights)))
            else:
                forward(*map(jnp.zeros_like, problem.x))
            found.append(mode)
        except (NotImplementedError, TypeError, ValueError) as error:
            message = first_line(error)
            is_misfit = any(text in str(error) for text in _MISFITS)
            (misfits if is_misfit else missing)[mode] = message
    value = compiled(problem.fun)
    outputs = _as_numpy(value(*problem.x))
    return Claims(
        problem, tuple(found), missing, misfits, outputs, gradient, value, forward, backward
    )


def gradient_of(problem: Problem, *x: Any) -> tuple[jax.Array, ...]:
    """Returns the gradients of the weighted sum of the outputs, by the rules of the function."""
    return jax.vjp(problem.fun, *x)[1](_cotangents(problem, problem.weights))


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def tangents(problem: Problem, moves: Moves) -> list[jax.Array]:
    """Returns the tangent of every leaf, in its dtype; zeros where it does not move."""
    return [
        jnp.asarray(moves[number], array.dtype) if number in moves else jnp.zeros_like(array)
        for number, array in enumerate(problem.x)
    ]


def derivative_of(claims: Claims) -> Problem:
    """Returns the problem of the claimed derivative, which is a function of the same leaves.

    It is the gradient, or the slope along one direction where there is no reverse mode.
    """
    problem = claims.problem
    if "rev" in claims.modes:
        return derived(problem, functools.partial(gradient_of, problem))
    moves = {
        number: usual_direction(leaf, problem.x[number]).array
        for number, leaf in enumerate(problem.leaves)
    }
    return derived(problem, lambda *x: jax.jvp(problem.fun, x, tuple(tangents(problem, moves)))[1])


def _cotangents(problem: Problem, weights: Sequence[Any]) -> list[jax.Array]:
    return [jnp.asarray(w, dtype) for w, dtype in zip(weights, problem.dtypes, strict=True)]


def _as_numpy(arrays: Sequence[Any]) -> list[np.ndarray]:
    return [np.asarray(array) for array in arrays]
