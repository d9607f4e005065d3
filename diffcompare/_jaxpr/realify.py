"""A function with complex numbers inside, as a function of real numbers only.

Every complex array becomes two real ones, so that interpreters that know only real numbers
differentiate functions with complex numbers on the way: a spectrum, a wave, a rotation.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from diffcompare._jaxpr import expansions, fourier, pairs, walk
from diffcompare._jaxpr.pairs import Pair, paired

_ADVICE = "Write it in terms of real and imaginary parts, or use ReverseMode()."
_READER = "The way of complex numbers as pairs of real ones"


def realified(jaxpr: ClosedJaxpr, *, of_values: bool = False) -> ClosedJaxpr:
    """Returns the jaxpr with two real arrays in place of every complex one.

    Inputs and outputs that are complex become two, the real part and the imaginary part. A
    jaxpr without complex numbers is returned as it is.

    Args:
        jaxpr: The function.
        of_values: Whether only values are wanted, so that functions of complex numbers with a
            derivative rule of their own may be replaced by their bodies.

    Raises:
        UnknownPrimitiveError: An operation on complex numbers has no rule.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> fun = lambda x: jnp.abs(jnp.exp(1j * x) + 1)
        >>> jaxpr = realified(jax.make_jaxpr(fun)(0.0))
        >>> any(jnp.iscomplexobj(v.aval) for e in jaxpr.eqns for v in e.outvars)
        False
    """
    if not has_complex(jaxpr):
        return jaxpr
    inner = jaxpr.jaxpr
    interpreter = _Realifier(of_values)
    constants = [interpreter.constant(constant) for constant in jaxpr.consts]

    def function(*arrays):
        given = iter(arrays)
        inputs = [
            Pair(next(given), next(given)) if _is_complex(variable) else next(given)
            for variable in inner.invars
        ]
        return _flat(walk.walk(jaxpr, interpreter, inputs, constants))

    abstract = []
    for variable in inner.invars:
        aval: Any = variable.aval
        shape = jax.ShapeDtypeStruct(aval.shape, pairs.real_dtype(aval.dtype))
        abstract += [shape] * (2 if _is_complex(variable) else 1)
    return jax.make_jaxpr(function)(*abstract)


def has_complex(jaxpr: ClosedJaxpr) -> bool:
    """Returns whether a jaxpr, or one that it calls, has complex numbers."""
    inner = jaxpr.jaxpr
    if any(map(_is_complex, [*inner.invars, *inner.constvars])):
        return True
    return any(map(_touches_complex, inner.eqns))


class _Realifier(walk.Interpreter[Any]):
    """Evaluates a jaxpr, with pairs in place of complex arrays."""

    def __init__(self, of_values: bool):
        self.of_values = of_values

    def constant(self, value):
        if not jnp.issubdtype(value.dtype, jnp.complexfloating):
            return jnp.asarray(value)
        if isinstance(value, jax.core.Tracer):
            return Pair(jnp.real(value), jnp.imag(value))
        value = np.asarray(value)
        return Pair(jnp.asarray(value.real), jnp.asarray(value.imag))

    def call(self, eqn, body, inputs):
        if not _touches_complex(eqn):
            return self._bound(eqn, inputs)
        if eqn.primitive.name in ("custom_jvp_call", "custom_vjp_call") and not self.of_values:
            raise self._unknown(eqn)
        return None

    def equation(self, eqn, inputs):
        name = eqn.primitive.name
        if not _touches_complex(eqn):
            return self._bound(eqn, inputs)
        if name in _CONTROL:
            return _CONTROL[name](self, eqn, inputs)
        rule = _RULES.get(name)
        if rule is not None and _is_filled(eqn):
            rule = None
        if rule is not None:
            found = rule(eqn, *inputs)
            return found if eqn.primitive.multiple_results else [found]
        if not eqn.outvars:
            return []
        simpler = expansions.expand(eqn)
        if simpler is None:
            raise self._unknown(eqn)
        return walk.walk(simpler, self, inputs)

    def run(self, jaxpr: ClosedJaxpr, inputs: Sequence[Any]) -> list[Any]:
        """Returns the outputs of a jaxpr."""
        return walk.walk(jaxpr, self, list(inputs))

    def _bound(self, eqn, inputs):
        # Fresh variables for the inputs, some of which may be literals, or the same twice.
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
        fresh = jax.make_jaxpr(lambda *arrays: arrays)(*shapes).jaxpr
        eqns = [eqn.replace(invars=list(fresh.invars))]
        alone = fresh.replace(eqns=eqns, outvars=list(eqn.outvars))
        return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*inputs)

    def _unknown(self, eqn):
        return walk.unknown_primitive(eqn, _READER, [*_RULES, *_CONTROL, *walk.CALLS], _ADVICE)


def _flat(values):
    return [part for value in values for part in (value if isinstance(value, Pair) else (value,))]


def _is_complex(variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.complexfloating)


def _touches_complex(eqn: Any) -> bool:
    if any(map(_is_complex, [*eqn.invars, *eqn.outvars])):
        return True
    return any(map(has_complex, _bodies(eqn)))


def _bodies(eqn):
    name, body = eqn.primitive.name, walk.called(eqn)
    if body is not None:
        return [body]
    if name == "cond":
        return walk.branches(eqn)
    if name == "scan":
        return [walk.scan_parts(eqn).body]
    if name == "while":
        loop = walk.while_parts(eqn)
        return [loop.condition, loop.body]
    return []


def _is_filled(eqn):
    # A fill value of a complex gather is one number for both parts.
    return eqn.primitive.name == "gather" and eqn.params["fill_value"] not in (None, 0)


def _cond(realifier, eqn, inputs):
    index, *operands = inputs
    like = [_is_complex(variable) for variable in eqn.outvars]
    cases = [
        lambda operands, body=body: _matched(realifier.run(body, operands), like)
        for body in walk.branches(eqn)
    ]
    return lax.switch(index.astype(jnp.int32), cases, operands)


def _scan(realifier, eqn, inputs):
    scan = walk.scan_parts(eqn)
    constants, carry, sliced = scan.split(inputs)
    like = [_is_complex(variable) for variable in eqn.outvars]

    def step(carry, entries):
        found = _matched(realifier.run(scan.body, [*constants, *carry, *entries]), like)
        return found[: scan.carry], found[scan.carry :]

    start = _matched(carry, like)
    last, stacked = lax.scan(step, start, sliced, length=scan.length, reverse=scan.reverse)
    return [*last, *stacked]


def _while(realifier, eqn, inputs):
    loop = walk.while_parts(eqn)
    start = loop.condition_constants + loop.body_constants
    tested, used = inputs[: loop.condition_constants], inputs[loop.condition_constants : start]
    like = [_is_complex(variable) for variable in eqn.outvars]
    return lax.while_loop(
        lambda carry: realifier.run(loop.condition, [*tested, *carry])[0],
        lambda carry: _matched(realifier.run(loop.body, [*used, *carry]), like),
        _matched(inputs[start:], like),
    )


def _matched(values, like):
    """Returns values as pairs where a complex one is meant; a carry may be shorter."""
    return [paired(v) if flag else v for v, flag in zip(values, like, strict=False)]


_CONTROL = {"cond": _cond, "scan": _scan, "while": _while}
_RULES = {**pairs.RULES, "fft": fourier.fft}
