"""Loops, branches and calls over lifted values. The real parts decide where they go."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from diffcompare._jaxpr import walk
from diffcompare._jaxpr.lifted import Lifted, bind, is_lifted, lift, real


def _alike(patterns: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Returns values, lifted where their patterns are."""
    return [
        lift(value) if is_lifted(pattern) else value
        for pattern, value in zip(patterns, values, strict=True)
    ]


def _settled(carry: Sequence[Any], body: Callable[..., Sequence[Any]], *rest: Any) -> list[Any]:
    """Returns a carry, lifted where some pass of a loop makes it so.

    Args:
        carry: The carry before the first pass.
        body: Returns the carry after a pass, from the carry and `rest`.
        *rest: What else a pass takes; it may be abstract.
    """
    carry = list(carry)
    while True:
        after = jax.eval_shape(body, carry, *rest)
        if not any(is_lifted(b) and not is_lifted(a) for a, b in zip(carry, after, strict=True)):
            return carry
        carry = _alike(after, carry)


def _scan(interpreter, eqn, inputs):
    scan = walk.scan_parts(eqn)
    constants, carry, sliced = scan.split(inputs)

    def after(carry, slices):
        return interpreter.run(scan.body, [*constants, *carry, *slices])

    def first(carry, slices):
        return after(carry, slices)[: scan.carry]

    row = jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape[1:], part.dtype), sliced)
    carry = _settled(carry, first, row)

    def body(carry, slices):
        outputs = after(carry, slices)
        return _alike(carry, outputs[: scan.carry]), outputs[scan.carry :]

    carry, columns = lax.scan(
        body,
        carry,
        sliced,
        length=scan.length,
        reverse=scan.reverse,
        unroll=eqn.params.get("unroll", 1),
    )
    return [*carry, *columns]


def _while(interpreter, eqn, inputs):
    loop = walk.while_parts(eqn)
    start = loop.condition_constants + loop.body_constants
    tested, used = inputs[: loop.condition_constants], inputs[loop.condition_constants : start]

    def body(carry):
        return interpreter.run(loop.body, [*used, *carry])

    def condition(carry):
        return interpreter.run(loop.condition, [*tested, *carry])[0]

    carry = _settled(inputs[start:], body)
    return lax.while_loop(condition, lambda carry: _alike(carry, body(carry)), carry)


def _cond(interpreter, eqn, inputs):
    index, *operands = inputs

    def of(branch):
        return lambda *operands: interpreter.run(branch, list(operands))

    branches = [of(branch) for branch in walk.branches(eqn)]
    # A branch that does not move its output still has to return the same kind of value.
    outlines = [jax.eval_shape(branch, *operands) for branch in branches]
    patterns = [next(filter(is_lifted, outs), None) for outs in zip(*outlines, strict=True)]

    def alike(branch):
        return lambda *operands: _alike(patterns, branch(*operands))

    aligned = [alike(branch) for branch in branches]
    platforms = eqn.params.get("branches_platforms")
    if platforms is None:
        return lax.switch(index, aligned, *operands)
    by_platform: dict[str, Any] = {}
    for names, branch in zip(platforms, aligned, strict=True):
        by_platform.update(dict.fromkeys(names or ("default",), branch))
    return lax.platform_dependent(*operands, **by_platform)


def _linear_solve(interpreter, eqn, inputs):
    # The solver is followed, not the rule for it: the derivative is that of what is computed.
    counts = eqn.params["const_lengths"]
    start = counts.matvec + counts.vecmat
    constants = inputs[start : start + counts.solve]
    right_sides = inputs[start + counts.solve + counts.transpose_solve :]
    return interpreter.run(walk.close(eqn.params["jaxprs"].solve), [*constants, *right_sides])


def _body(interpreter, eqn, inputs):
    (body,) = [eqn.params[name] for name in ("call", "call_jaxpr", "jaxpr") if name in eqn.params]
    return interpreter.run(walk.close(body), inputs)


def _composed(interpreter, eqn, inputs):
    """Follows a primitive of JAX that is defined by a function of other primitives."""
    primitive = eqn.params["_prim"]
    name = type(primitive).__name__
    if name == "Frexp":
        return frexp(inputs[0], bind(eqn, [inputs[0].re]))
    if name == "Ldexp":
        x, n = inputs
        return [Lifted(bind(eqn, [x.re, n])[0], bind(eqn, [x.im, n])[0])]
    shapes = [variable.aval for variable in eqn.invars]
    arguments = jax.tree.unflatten(primitive.in_tree, shapes)
    jaxpr = jax.make_jaxpr(primitive.expand)(*arguments)
    return interpreter.run(jaxpr, inputs)


def frexp(x: Lifted, outputs: Sequence[Any]) -> list[Any]:
    """Returns the mantissa, which moves with `x`, and the exponent, from those of its real part."""
    mantissa, exponent = outputs
    power = jnp.where(x.re == 0, 1, mantissa / jnp.where(x.re == 0, 1, x.re))
    return [Lifted(mantissa, x.im * power), exponent]


def _callback(interpreter, eqn, inputs):
    return bind(eqn, [real(value) for value in inputs])


RULES: Mapping[str, Callable[..., Sequence[Any]]] = {
    **dict.fromkeys(("composite", "custom_vmap_call", "eval_jaxpr"), _body),
    "call_hi_primitive": _composed,
    "cond": _cond,
    "custom_linear_solve": _linear_solve,
    "debug_callback": _callback,
    "debug_print": _callback,
    "scan": _scan,
    "while": _while,
}
