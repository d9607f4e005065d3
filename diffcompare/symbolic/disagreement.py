"""Where custom derivative rules and calculus disagree."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun

from diffcompare import _arguments
from diffcompare._jaxpr import custom_rules, walk
from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.trace import trace

Array = Any

# By how much more a difference has to be the worse one.
_FAR = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Disagreement:
    """A place where the derivative that JAX takes is not that of the function.

    Attributes:
        function: The name of the function that has the rule.
        kind: "custom_jvp", "custom_vjp" or "stop_gradient".
        place: The line that calls it.
        defined: The line where it is defined.
        claimed: What the rule gives, by each floating-point input, where `cotangent` arrives at
            every output: of 1, the derivatives of the sum of the outputs. For "stop_gradient",
            the gradients of the whole function.
        mathematical: What calculus gives.
        error: Their largest difference, relative to the larger of the two.
        is_linear: Whether twice the gradient gives twice the result. A clipped gradient is
            not, and may agree where little arrives.
        calls: How many calls at this place disagree.
        cotangent: 1, or the power of two from which on a disagreement shows.
        drawn: The pair of what the rule gives and what calculus gives where other numbers arrive
            at every entry of the outputs; empty for "stop_gradient", and for a single number.
    """

    function: str
    kind: str
    place: str
    defined: str
    claimed: tuple[np.ndarray, ...]
    mathematical: tuple[np.ndarray, ...]
    error: float
    is_linear: bool = True
    calls: int = 1
    cotangent: float = 1.0
    drawn: tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]] = ((), ())

    def __str__(self) -> str:
        at = f" at {self.place}" if self.place else ""
        times = f", {self.calls} times" if self.calls > 1 else ""
        lines = [f"{self.function}{at} ({self.kind}{times})"]
        if self.kind == "stop_gradient":
            lines.append("  holds a value constant that depends on the argument")
        if not self.is_linear:
            lines.append("  is not linear in the gradient that arrives: it clips, or rounds it")
        if self.error > 0:
            (claimed, truth), is_drawn = self.worst()
            what = "gives" if self.kind == "stop_gradient" else "claims"
            if is_drawn:
                where = f"for {truth:.6g} where not the same arrives at all entries"
            elif self.cotangent == 1:
                where = f"where the derivative is {truth:.6g}"
            else:
                where = f"for {truth:.6g} where {self.cotangent:g} arrives"
            lines.append(f"  {what} {claimed:.6g} {where}, a relative error of {self.error:.3g}")
        return "\n".join(lines)

    def worst(self) -> tuple[tuple[float, float], bool]:
        """Returns the entries that differ most, claimed and true, and whether of `drawn`."""
        claimed, truth = _worst(self.claimed, self.mathematical)
        if self.drawn[0]:
            other, its_truth = _worst(*self.drawn)
            # Of sums that are zero where ones arrive, rounding is all that differs there.
            if abs(other - its_truth) > _FAR * abs(claimed - truth):
                return (other, its_truth), True
        return (claimed, truth), False


def rule_disagreements(
    fun: Callable, *args: Any, argnums: int | Sequence[int] = 0
) -> tuple[Disagreement, ...]:
    """Returns where custom derivative rules and calculus disagree, in the order of calls.

    Every call of a function with a `jax.custom_jvp` or `jax.custom_vjp` rule that the
    gradient passes is compared with the derivative of the function's body, at the values
    that arrive there. `jax.grad` trusts the rule, so that neither it nor a second way
    through JAX can find a wrong one. A straight-through estimator, or a gradient that is
    clipped, is meant to disagree; this says where they are, and by how much. A
    `stop_gradient` is named where the gradient would be another without it.

    Args:
        fun: Function of pytrees.
        *args: Where to look: numbers, not traced.
        argnums: The arguments that the gradient is taken by.

    Returns:
        One record for each place; none where all agree. `str` of a record is readable.

    Raises:
        TypeError: An argument to differentiate by is not floating point, or is traced.

    Example:
        >>> import jax, diffcompare as dc
        >>> @jax.custom_jvp
        ... def square(x):
        ...     return x * x
        >>> square.defjvp(lambda x, v: (square(*x), 3 * x[0] * v[0]))  # doctest: +ELLIPSIS
        <function ...>
        >>> (found,) = dc.rule_disagreements(lambda x: square(x), 2.0)
        >>> found.function, float(found.claimed[0]), float(found.mathematical[0])
        ('square', 6.0, 4.0)
    """
    positions, _ = _arguments.check_argnums(argnums)
    _arguments.check_positions("rule_disagreements", fun, positions, len(args))
    x = _arguments.to_arrays(tuple(args[position] for position in positions))
    _arguments.check_floating("rule_disagreements", x)
    if _arguments.is_traced((x, args)):
        raise TypeError("rule_disagreements needs numbers, but an argument is traced.")

    def of_x(x):
        filled = list(args)
        for position, argument in zip(positions, x, strict=True):
            filled[position] = argument
        return fun(*filled)

    traced = trace(of_x, x)
    watcher = _Watcher()
    inputs = [_Value(leaf, True) for leaf in traced.leaves]
    walk.walk(traced.jaxpr, watcher, inputs)
    return (*_merged(watcher.found), *_stopped(traced.jaxpr, traced.leaves))


class _Value(NamedTuple):
    array: Array
    is_active: bool  # whether it depends on the argument


class _Watcher(walk.Interpreter[_Value]):
    """Computes a function, and compares every custom rule on the way."""

    def __init__(self):
        self.found: list[Disagreement] = []

    def constant(self, value):
        return _Value(value, False)

    def call(self, eqn, body, inputs):
        if not custom_rules.is_custom(eqn):
            return None
        arrays = [jnp.asarray(x.array) for x in inputs]
        flags = [
            x.is_active and floating
            for x, floating in zip(inputs, custom_rules.floating_inputs(eqn), strict=True)
        ]
        if any(flags) and any(custom_rules.floating_outputs(eqn)):
            found = _compared(eqn, body, arrays, flags)
            self.found += [found] if found is not None else []
        return [_Value(y, any(flags)) for y in jaxpr_as_fun(body)(*arrays)]

    def equation(self, eqn, inputs):
        name = eqn.primitive.name
        is_active = any(x.is_active for x in inputs) and name != "stop_gradient"
        if name == "scan":
            return self._scan(eqn, inputs)
        if name == "cond":
            index, *operands = inputs
            bodies = walk.branches(eqn)
            chosen = min(max(int(index.array), 0), len(bodies) - 1)
            return walk.walk(bodies[chosen], self, operands)
        outputs = eqn.primitive.bind(*[jnp.asarray(x.array) for x in inputs], **eqn.params)
        outputs = outputs if eqn.primitive.multiple_results else [outputs]
        return [_Value(output, is_active) for output in outputs]

    def _scan(self, eqn, inputs):
        def stack(column, variable):
            if not column:
                aval = variable.aval
                return _Value(jnp.zeros(aval.shape, aval.dtype), False)
            arrays = jnp.stack([value.array for value in column])
            return _Value(arrays, any(value.is_active for value in column))

        return walk.unrolled_scan(
            eqn,
            inputs,
            lambda body, values: walk.walk(body, self, values),
            lambda value, step: _Value(value.array[step], value.is_active),
            stack,
        )


def _compared(
    eqn: JaxprEqn, body: ClosedJaxpr, arrays: list[Array], flags: list[bool]
) -> Disagreement | None:
    """Returns how a rule and the derivative of the body differ, or None where they agree."""
    rule = jaxpr_as_fun(custom_rules.reverse(eqn, flags))
    floating = custom_rules.floating_outputs(eqn)
    outputs: list[Any] = [v.aval for v, f in zip(eqn.outvars, floating, strict=True) if f]
    ones = [jnp.ones(aval.shape, aval.dtype) for aval in outputs]
    claimed = rule(*arrays, *ones)
    truth = _derivative(eqn, body, arrays, flags)
    error, both = 0.0, []
    for weights in _probes(outputs):
        found, expected = rule(*arrays, *weights), truth(weights)
        both.append((tuple(map(np.asarray, found)), tuple(map(np.asarray, expected))))
        error = max(error, *(_error(c, m) for c, m in zip(found, expected, strict=True)))
    # A power of two changes no digit, and is more than any bound that a gradient is clipped to.
    scale = 2.0 ** (10 if min(jnp.finfo(a.dtype).bits for a in outputs) <= 16 else 40)
    large = rule(*arrays, *[w * jnp.asarray(scale, w.dtype) for w in ones])
    is_linear = all(_error(a / jnp.asarray(scale, a.dtype), b) == 0
                    for a, b in zip(large, claimed, strict=True))  # fmt: skip
    if error == 0 and is_linear:
        return None
    expected, cotangent = truth(ones), 1.0
    if error == 0:
        cotangent, error = _where_it_shows(lambda w: rule(*arrays, *w), expected, ones, scale)
        scaled = lambda values: [a * jnp.asarray(cotangent, a.dtype) for a in values]
        claimed, expected = rule(*arrays, *scaled(ones)), scaled(expected)
    return Disagreement(
        custom_rules.name_of(eqn),
        eqn.primitive.name.removesuffix("_call"),
        custom_rules.place_of(eqn),
        custom_rules.defined_at(eqn),
        tuple(map(np.asarray, claimed)),
        tuple(map(np.asarray, expected)),
        error,
        is_linear,
        cotangent=cotangent,
        drawn=both[1] if len(both) > 1 and cotangent == 1 else ((), ()),
    )


def _where_it_shows(rule, truth, ones, scale) -> tuple[float, float]:
    """Returns the power of two from which on a rule disagrees, and by how much it does there.

    Args:
        rule: Of weights of the outputs.
        truth: What calculus gives for ones, at which the rule agrees.
        ones: Weights.
        scale: A power of two, for which the rule does not give as many times as much.

    Returns:
        1 and 0 where even then it does not disagree by more than rounding.
    """

    def error_at(exponent):
        times = lambda arrays: [a * jnp.asarray(2.0**exponent, a.dtype) for a in arrays]
        pairs = zip(rule(times(ones)), times(truth), strict=True)
        return max(_error(c, m) for c, m in pairs)

    agrees, differs = 0, round(np.log2(scale))
    if error_at(differs) == 0:
        return 1.0, 0.0
    while differs - agrees > 1:
        middle = (agrees + differs) // 2
        agrees, differs = (agrees, middle) if error_at(middle) > 0 else (middle, differs)
    return 2.0**differs, error_at(differs)


def _probes(avals: Sequence[Any]) -> Iterator[list[Array]]:
    """Yields weights of the outputs: ones, and others that no two entries share."""
    yield [jnp.ones(aval.shape, aval.dtype) for aval in avals]
    keys = jax.random.split(jax.random.key(0), len(avals))
    if any(aval.shape for aval in avals) or len(avals) > 1:
        yield [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, avals, strict=True)]


def _derivative(eqn, body, arrays, flags) -> Callable[[list[Array]], list[Array]]:
    """Returns the gradients of the body by its active inputs, as a function of weights."""
    from diffcompare.symbolic import program

    floating = custom_rules.floating_outputs(eqn)
    try:
        derived = program.derive(custom_rules.single(eqn), flags, Convention.jax())
    except NotImplementedError:  # JAX knows more operations, though it trusts rules within
        return functools.partial(_by_jax, body, arrays, flags, floating)
    env = derived.run((), arrays)

    def gradients(weights):
        given = iter(weights)
        found = derived.pull(env, [next(given) if flag else None for flag in floating])
        return [g for g, flag in zip(found, flags, strict=True) if flag]

    return gradients


def _by_jax(body, arrays, flags, floating, weights):
    def of_active(*active):
        given = iter(active)
        filled = [next(given) if flag else x for x, flag in zip(arrays, flags, strict=True)]
        outputs = jaxpr_as_fun(body)(*filled)
        return [y for y, flag in zip(outputs, floating, strict=True) if flag]

    active = [x for x, flag in zip(arrays, flags, strict=True) if flag]
    try:
        return list(jax.vjp(of_active, *active)[1](list(weights)))
    except Exception:  # whatever it is, JAX cannot differentiate the body
        return [jnp.full_like(x, jnp.nan) for x in active]  # which agrees with everything


def _error(claimed: Array, truth: Array) -> float:
    """Returns the largest relative error of entries beyond rounding, or 0.

    Where calculus has no number, as for sqrt(x * x) at 0, a rule may say what it likes; but an
    infinite slope, as of sqrt(x) at 0, is one.
    """
    eps = float(jnp.finfo(claimed.dtype).eps)
    c, m = np.asarray(claimed, np.float64).ravel(), np.asarray(truth, np.float64).ravel()
    if np.any(np.isinf(m) & (c != m)):
        return float("inf")
    known = np.isfinite(m)
    c, m = c[known], m[known]
    if not c.size:
        return 0.0
    if not np.all(np.isfinite(c)):
        return float("inf")
    # A rule is often written otherwise than the body, and rounds otherwise: half of the digits.
    larger = np.maximum(np.abs(c), np.abs(m))
    slack = np.sqrt(eps) * larger + 1000 * eps * np.max(np.abs(m))
    wrong = np.abs(c - m) > slack
    return float(np.max(np.abs(c - m)[wrong] / larger[wrong])) if wrong.any() else 0.0


def _worst(claimed: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> tuple[float, float]:
    """Returns the pair of entries that differ most."""
    c, m = (np.concatenate([np.ravel(a).astype(np.float64) for a in part])
            for part in (claimed, truth))  # fmt: skip
    with np.errstate(invalid="ignore"):
        distance = np.where(c == m, 0, np.abs(c - m))
    # A claim that is no number is the worst, where calculus has one.
    distance = np.where(
        np.isnan(c) & np.isfinite(m), np.inf, np.nan_to_num(distance, posinf=np.inf)
    )
    place = int(np.argmax(distance))
    return float(c[place]), float(m[place])


def _merged(found: Sequence[Disagreement]) -> list[Disagreement]:
    """Returns the worst of all calls at one place, with how many there are."""
    places: dict[tuple[str, str], list[Disagreement]] = {}
    for each in found:
        places.setdefault((each.function, each.place), []).append(each)
    return [
        dataclasses.replace(max(group, key=lambda d: d.error), calls=len(group))
        for group in places.values()
    ]


class _Through(walk.Interpreter[Array]):
    """Computes a function with one of its `stop_gradient`s left out, counted in order."""

    def __init__(self, number: int):
        self.number = number
        self.met: list[JaxprEqn] = []

    def constant(self, value):
        return jnp.asarray(value)

    def call(self, eqn, body, inputs):
        return (
            jaxpr_as_fun(custom_rules.single(eqn))(*inputs) if custom_rules.is_custom(eqn) else None
        )

    def equation(self, eqn, inputs):
        if eqn.primitive.name == "stop_gradient":
            self.met.append(eqn)
            if len(self.met) - 1 == self.number:
                return inputs
        outputs = eqn.primitive.bind(*inputs, **eqn.params)
        return outputs if eqn.primitive.multiple_results else [outputs]


def _stopped(jaxpr: ClosedJaxpr, leaves: Sequence[Array]) -> list[Disagreement]:
    """Returns the `stop_gradient`s without which the gradient would be another."""

    def gradient(number):
        through = _Through(number)

        def total(leaves):
            outputs = walk.walk(jaxpr, through, leaves, [jnp.asarray(c) for c in jaxpr.consts])
            return sum(
                (
                    jnp.sum(y).astype(float)
                    for y in outputs
                    if jnp.issubdtype(y.dtype, jnp.floating)
                ),
                start=jnp.zeros(()),
            )

        found = jax.grad(total)(list(leaves))
        return found, through.met

    if not any(name == "stop_gradient" for name in walk.primitives(jaxpr)):
        return []
    claimed, met = gradient(-1)
    found = []
    for number, eqn in enumerate(met):
        if not custom_rules.place_of(eqn):  # within JAX, such as jnp.sinc, where it is a device
            continue
        truth, _ = gradient(number)
        error = max(_error(c, m) for c, m in zip(claimed, truth, strict=True))
        if error > 0:
            found.append(
                Disagreement(
                    "stop_gradient",
                    "stop_gradient",
                    custom_rules.place_of(eqn),
                    "",
                    tuple(map(np.asarray, claimed)),
                    tuple(map(np.asarray, truth)),
                    error,
                )
            )
    return found
