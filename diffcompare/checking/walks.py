"""Walking a traced function exactly: its values, and nothing that a derivative rule says.

The bodies of functions with rules of their own are walked as ordinary code, and what stops
gradients lets values through. A walk may be varied: as if every operation were rounded, every
rounded constant were another, every iteration inside a rule were longer.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from diffcompare._jaxpr import composed, custom_rules, movement, objects, walk
from diffcompare._jaxpr.elements import array_of, is_object
from diffcompare.checking.budget import Budget
from diffcompare.checking.budget import OverBudget as OverBudget
from diffcompare.exact.multiprecision import Arithmetic

Array = np.ndarray


class Variation(NamedTuple):
    """How a walk differs from the exact one.

    Attributes:
        kind: "exact"; "rounding", after every operation a relative change of eps of its dtype;
            "constants", a change of eps of those that were rounded to their dtype; "passes", of
            the loops inside custom rules.
        seed: Of the random signs of the changes.
        passes: By how many passes such a loop is longer; -1 is shorter.
    """

    kind: Literal["exact", "rounding", "constants", "passes"]
    seed: int = 0
    passes: int = 0


EXACT = Variation("exact")

# How often rounding errors are drawn. That others are 32 times as large as the largest of four
# draws is out of the question, even where few operations matter and all of them were drawn small.
ROUNDINGS = tuple(Variation("rounding", seed) for seed in range(4))
DRAWN = 32.0

# What operations do that floating point does exactly. All others round their result.
_EXACT = frozenset(
    {"abs", "bitcast_convert_type", "ceil", "clamp", "convert_element_type", "floor", "is_finite",
     "max", "min", "neg", "reduce_max", "reduce_min", "round", "scatter-max", "scatter-min",
     "select_n", "sign", "sort", "stop_gradient", "top_k", *movement.MOVED, *movement.IDENTITIES}
)  # fmt: skip
# Those that round on their way: what that does is what a change of each of their operands does.
_SUMS = frozenset(
    {"cumprod", "cumsum", "dot_general", "reduce_prod", "reduce_sum", "scatter-add",
     "scatter-mul", "scatter-sub"}
)  # fmt: skip
_LOOPS = ("cond", "scan", "while")


@dataclasses.dataclass
class Trail:
    """What a walk left behind, from which another continues where only some inputs moved.

    Attributes:
        inputs: Of the walk.
        outputs: Of every equation that is taken as a whole, in order.
        frozen: What stopped gradients, by the equation and the time there.
        outcome: The outputs of the walk.
        has_loops_under_rules: Whether a loop stands inside a custom rule's function.
    """

    inputs: list[Any]
    outputs: list[Sequence[Any]] = dataclasses.field(default_factory=list)
    frozen: dict[tuple[int, int], Any] = dataclasses.field(default_factory=dict)
    outcome: list[Any] = dataclasses.field(default_factory=list)
    has_loops_under_rules: bool = False


def walked(
    jaxpr: ClosedJaxpr,
    inputs: Sequence[Array],
    arithmetic: Arithmetic,
    budget: Budget,
    variation: Variation = EXACT,
) -> list[Array]:
    """Returns the outputs of a jaxpr for arrays of numbers of an arithmetic.

    Raises:
        UnknownPrimitiveError: There is no rule for an operation.
        OverBudget: The walk would cost more than is left of the budget.

    Example:
        >>> from diffcompare.exact.multiprecision import arithmetic
        >>> numbers, fun = arithmetic(640), lambda x: jnp.sin(x) ** 2 + jnp.cos(x) ** 2 - 1
        >>> (found,) = walked(jax.make_jaxpr(fun)(0.5), [numbers.lifted(0.5)], numbers, Budget(1.0))
        >>> abs(float(found[()])) < 1e-180
        True
    """
    return trail(jaxpr, inputs, arithmetic, budget, variation).outcome


def trail(
    jaxpr: ClosedJaxpr,
    inputs: Sequence[Array],
    arithmetic: Arithmetic,
    budget: Budget,
    variation: Variation = EXACT,
    base: Trail | None = None,
    constants: dict[int, Any] | None = None,
) -> Trail:
    """Returns the trail of a walk.

    Args:
        jaxpr: What is walked.
        inputs: Its inputs.
        arithmetic: The numbers.
        budget: What it may cost.
        variation: How the walk differs from the exact one.
        base: An earlier walk of the same variation, whose values are taken where no input that
            moved is involved; where it is varied by rounding, what stops gradients stays as it
            was there, since a derivative does not see it move.
        constants: A place to keep constants for other walks of the jaxpr.
    """
    budget.walks += 1
    walker = Walker(arithmetic, budget, variation, base, {} if constants is None else constants)
    with arithmetic.active():
        return walker.walk(jaxpr, inputs)


class Walker(objects.ObjectInterpreter):
    """Interprets a jaxpr in multiprecision. See `trail`."""

    def __init__(
        self,
        arithmetic: Arithmetic,
        budget: Budget,
        variation: Variation,
        base: Trail | None,
        constants: dict[int, Any],
    ):
        super().__init__(arithmetic)
        self.arithmetic, self.budget, self.variation = arithmetic, budget, variation
        self.base, self._constants = base, constants
        self._moved: dict[int, Any] = {}  # arrays that are not those of the base
        self._trail = Trail([])
        self._number = 0  # of the equation in the trail
        self._is_inside = False  # an equation that is taken as a whole
        self._under_rules = 0
        self._times_frozen = 0
        self._random = np.random.default_rng(0)

    def walk(self, jaxpr: ClosedJaxpr, inputs: Sequence[Array]) -> Trail:
        """Returns the trail of the walk."""
        self._trail = Trail(list(inputs))
        if self.base is not None:
            pairs = zip(inputs, self.base.inputs, strict=True)
            self._mark([given for given, was in pairs if given is not was])
        self._trail.outcome = self.run(jaxpr, inputs)
        return self._trail

    def constant(self, value: Any) -> Any:
        if not jnp.issubdtype(getattr(value, "dtype", type(value)), jnp.floating):
            return value
        if np.ndim(value) == 0:
            number = self.lifted(value)
            return self._other(value, number) if self.variation.kind == "constants" else number
        if id(value) not in self._constants:
            # With the array itself, whose id stays its own.
            self._constants[id(value)] = value, self.lifted(value)
        return self._constants[id(value)][1]

    def call(self, eqn, body, inputs):
        if custom_rules.is_custom(eqn):
            return self._by_body(body, inputs, True)
        return super().call(eqn, body, inputs)

    def equation(self, eqn: JaxprEqn, inputs: list[Any]) -> Sequence[Any]:
        body = composed.body(eqn)
        if body is not None:
            return self._by_body(body, inputs, composed.has_own_rule(eqn))
        if eqn.primitive.name == "custom_linear_solve":
            lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
            start = lengths.matvec + lengths.vecmat
            stop = start + lengths.solve
            wanted = inputs[stop + lengths.transpose_solve :]
            return self._by_body(walk.close(jaxprs.solve), [*inputs[start:stop], *wanted], True)
        if self._is_inside:
            return self._evaluated(eqn, inputs)
        return self._followed(eqn, inputs)

    def _by_body(self, body, inputs, is_under_rule):
        self._under_rules += is_under_rule
        try:
            return self.run(body, inputs)
        finally:
            self._under_rules -= is_under_rule

    def _followed(self, eqn, inputs):
        """Returns the outputs of an equation that is taken as a whole, and writes them down."""
        number, self._number = self._number, self._number + 1
        was = None if self.base is None else self.base.outputs[number]
        if was is not None and not any(id(value) in self._moved for value in inputs):
            self._trail.outputs.append(was)
            return was
        self._is_inside, self._times_frozen = True, 0
        if self.variation.kind == "rounding":
            self._random = np.random.default_rng([self.variation.seed, number])
        try:
            outputs = self._evaluated(eqn, inputs)
        finally:
            self._is_inside = False
        if was is not None:
            outputs = [
                old if _is_same(new, old) else new for new, old in zip(outputs, was, strict=True)
            ]
            self._mark([new for new, old in zip(outputs, was, strict=True) if new is not old])
        self._trail.outputs.append(outputs)
        return outputs

    def _mark(self, arrays):
        self._moved.update((id(array), array) for array in arrays)

    def _evaluated(self, eqn, inputs):
        name = eqn.primitive.name
        self.budget.charge(eqn)
        if name == "stop_gradient":
            return self._stopped(inputs)
        if name in ("scan", "while") and self._under_rules:
            found = self._iterated(eqn, inputs)
            if found is not None:
                return found
        if self.variation.kind != "rounding":
            return super().equation(eqn, inputs)
        return self._rounded(eqn, inputs)

    # Variations.

    def _stopped(self, inputs):
        place = self._number, self._times_frozen
        self._times_frozen += 1
        (value,) = inputs
        if self.variation.kind == "rounding":
            if self.base is not None:
                value = self.base.frozen.get(place, value)
            self._trail.frozen[place] = value
        return [value]

    def _iterated(self, eqn, inputs):
        """Returns the outputs of a loop of more passes, or fewer; None if it is no iteration."""
        if eqn.primitive.name == "scan":
            scan = walk.scan_parts(eqn)
            if len(eqn.outvars) != scan.carry or len(inputs) != scan.constants + scan.carry:
                return None  # it goes through an array
            self._trail.has_loops_under_rules = True
            used, carry = inputs[: scan.constants], list(inputs[scan.constants :])
            for _ in range(scan.length + self.variation.passes):
                carry = self.run(scan.body, [*used, *carry])
            return carry
        self._trail.has_loops_under_rules = True
        loop = walk.while_parts(eqn)
        start = loop.condition_constants + loop.body_constants
        tested, used = inputs[: loop.condition_constants], inputs[loop.condition_constants : start]
        before = carry = list(inputs[start:])
        more = self.variation.passes
        while True:
            (again,) = self.run(loop.condition, [*tested, *carry])
            if not bool(np.asarray(again)[()]):
                break
            before, carry = carry, self.run(loop.body, [*used, *carry])
        if more < 0:
            return before
        for _ in range(more):
            carry = self.run(loop.body, [*used, *carry])
        return carry

    def _rounded(self, eqn, inputs):
        name = eqn.primitive.name
        if name in _LOOPS or not any(map(is_object, inputs)):
            return super().equation(eqn, inputs)
        if name in _SUMS:
            eps = _eps(eqn.outvars[0])
            inputs = [self._shaken(value, eps) if is_object(value) else value for value in inputs]
        outputs = super().equation(eqn, inputs)
        eps = self._rounding(eqn) if name in _EXACT else _eps(eqn.outvars[0])
        if not eps or not (name in _EXACT or name in _SUMS or name in self.algebra.rules):
            return outputs  # written with simpler operations, each of which was rounded
        return [self._shaken(out, eps) if is_object(out) else out for out in outputs]

    def _rounding(self, eqn):
        """Returns the relative error of a conversion; 0 for all that is exact."""
        if eqn.primitive.name == "reduce_precision":
            return 2.0 ** -eqn.params["mantissa_bits"]
        if eqn.primitive.name == "convert_element_type":
            before, after = _eps(eqn.invars[0]), _eps(eqn.outvars[0])
            return after if after > before > 0 else 0.0
        return 0.0

    def _shaken(self, values, eps):
        """Returns numbers times 1 + eps or 1 - eps."""
        signs = self._random.integers(0, 2, values.shape).astype(bool)
        factors = np.where(signs, *_factors(self.arithmetic, eps))
        with np.errstate(all="ignore"):
            return objects.as_array(np.multiply(values, factors))

    def _other(self, value, number):
        """Returns a constant as another program would have rounded it."""
        value = np.asarray(value)
        eps = float(jnp.finfo(value.dtype).eps)
        wide = value.astype(np.float64)
        if not np.isfinite(wide) or _is_short(float(wide), eps):
            return number
        # The same constant at two places, or in two passes, is rounded the same way.
        bits = int(wide.view(np.uint64))
        sign = np.random.default_rng([self.variation.seed, bits]).integers(0, 2)
        factor = _factors(self.arithmetic, eps)[sign]
        return array_of([number[()] * factor], ())


@functools.lru_cache(maxsize=64)
def _factors(arithmetic: Arithmetic, eps: float) -> tuple[Any, Any]:
    one, small = arithmetic.number(1.0), arithmetic.number(eps)
    return one + small, one - small


def _is_short(value: float, eps: float) -> bool:
    """Returns whether a number leaves half of its mantissa empty, as 3, 0.5 and 1e3 do.

    A number that was rounded ends in zeros by chance only: with 2**-27 in float64, 2**-12 in
    float32 and 2**-4 in bfloat16, which only makes the excuse of a rounded constant smaller.
    """
    mantissa, _ = np.frexp(value)
    digits = round(-np.log2(eps)) + 1
    return bool((mantissa * 2.0 ** max(2, digits // 2)).is_integer())


def _eps(variable: Any) -> float:
    dtype = variable.aval.dtype
    is_key = jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    if is_key or not jnp.issubdtype(dtype, jnp.floating):
        return 0.0
    return float(jnp.finfo(dtype).eps)


def _is_same(new: Any, old: Any) -> bool:
    """Returns whether what is no floating-point number is what it was."""
    if is_object(new) or is_object(old) or new is old:
        return new is old
    if jax.dtypes.issubdtype(new.dtype, jax.dtypes.prng_key):
        return False
    return bool(np.array_equal(np.asarray(new), np.asarray(old)))
