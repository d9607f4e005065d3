"""How much work and memory a traced function takes, estimated without running it."""

import math
from typing import NamedTuple

from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var

from diffcompare._jaxpr import walk

# Nanoseconds an entry on one core of a CPU, by measurement, rounded: only their ratios matter.
_ENTRY = 0.5
_SLOW = {
    "acos acosh asin asinh atan atan2 atanh cos cosh digamma erf erf_inv erfc exp exp2 expm1 "
    "lgamma log log1p logistic pow sin sinh tan tanh": 3.0,
    "cumlogsumexp cummax cummin cumprod cumsum dynamic_slice gather": 2.0,
    "argmax argmin reduce_max reduce_min reduce_prod reduce_sum scatter scatter-add scatter_add "
    "dynamic_update_slice": 1.0,
    "sort top_k": 50.0,
    "reshape squeeze expand_dims broadcast_in_dim iota stop_gradient copy": 0.0,
}
_NANOSECONDS = {name: cost for names, cost in _SLOW.items() for name in names.split()}
_PRODUCT = 0.1  # a multiplication and an addition within a matrix product
_GROUPED = 2.0  # the same within a grouped convolution
_DISPATCH = 300.0  # an equation, whatever its size, within a compiled loop


class Cost(NamedTuple):
    """What one evaluation takes of what depends on the inputs; constants are free."""

    work: float  # nanoseconds, very roughly
    dispatch: float  # nanoseconds beside, for starting every equation
    memory: int  # bytes alive at the worst moment, where nothing is fused


def estimate(jaxpr: ClosedJaxpr) -> Cost:
    """Returns the cost of a jaxpr.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> small, large = (
        ...     estimate(jax.make_jaxpr(jnp.sin)(jnp.ones(n, "float32"))) for n in (10, 10_000)
        ... )
        >>> small.memory, large.memory
        (80, 80000)
        >>> bool(large.work > 100 * small.work)
        True
    """
    inner = jaxpr.jaxpr
    dependent = set(inner.invars)
    last = {
        atom: place
        for place, eqn in enumerate(inner.eqns)
        for atom in eqn.invars
        if isinstance(atom, Var)
    }
    last.update((atom, len(inner.eqns)) for atom in inner.outvars if isinstance(atom, Var))
    held = {variable: _bytes(variable) for variable in inner.invars if variable in last}
    work, dispatch = 0.0, 0.0
    memory = alive = sum(held.values())
    for place, eqn in enumerate(inner.eqns):
        used = {atom for atom in eqn.invars if isinstance(atom, Var) and atom in dependent}
        if not used:
            continue
        dependent.update(eqn.outvars)
        is_view = _NANOSECONDS.get(eqn.primitive.name) == 0
        made = {variable: 0 if is_view else _bytes(variable) for variable in eqn.outvars}
        held |= made
        alive += sum(made.values())
        cost = _of_equation(eqn)
        work += cost.work
        dispatch += cost.dispatch
        memory = max(memory, alive + cost.memory)
        dead = [atom for atom in (*used, *eqn.outvars) if last.get(atom, -1) <= place]
        alive -= sum(held.pop(atom, 0) for atom in dead)
    return Cost(work, dispatch, memory)


def _of_equation(eqn: JaxprEqn) -> Cost:
    """Returns the time of an equation, and the memory it takes beside its operands."""
    name = eqn.primitive.name
    body = walk.called(eqn)
    if body is not None:
        return _inside(estimate(body), body)
    if name == "scan":
        scan = walk.scan_parts(eqn)
        cost = _inside(estimate(scan.body), scan.body)
        return Cost(cost.work * scan.length, cost.dispatch * scan.length, cost.memory)
    if name == "while":
        loop = walk.while_parts(eqn)
        cost = _inside(estimate(loop.body), loop.body)
        return Cost(
            cost.work * 10, cost.dispatch * 10, cost.memory
        )  # how often it runs, nobody knows
    if name == "cond":
        costs = [_inside(estimate(branch), branch) for branch in walk.branches(eqn)]
        works, dispatches, memories = zip(*costs, strict=True)
        return Cost(sum(works), sum(dispatches), max(memories))
    sizes = [_size(variable) for variable in eqn.outvars]
    if name == "dot_general":
        (summed, _), _ = eqn.params["dimension_numbers"]
        depth = math.prod(_shape(eqn.invars[0])[axis] for axis in summed)
        return Cost(sizes[0] * max(depth * _PRODUCT, _ENTRY), _DISPATCH, 0)
    if name == "conv_general_dilated":
        kernel = _shape(eqn.invars[1])
        depth = math.prod(kernel) // kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        groups = eqn.params["feature_group_count"] * eqn.params["batch_group_count"]
        return Cost(sizes[0] * depth * (_PRODUCT if groups == 1 else _GROUPED), _DISPATCH, 0)
    operands = [] if name == "gather" else [_size(atom) for atom in eqn.invars]
    touched = max([*sizes, *(operands if "slice" not in name else [])], default=0)
    return Cost(touched * _NANOSECONDS.get(name, _ENTRY), _DISPATCH, 0)


def _inside(cost: Cost, body: ClosedJaxpr) -> Cost:
    """Returns the cost of a body without the memory of its inputs, counted outside."""
    given = sum(_bytes(variable) for variable in body.jaxpr.invars)
    return cost._replace(memory=max(0, cost.memory - given))


def _shape(atom: Var | Literal) -> tuple[int, ...]:
    return getattr(atom.aval, "shape", ())


def _size(atom: Var | Literal) -> int:
    return math.prod(_shape(atom))


def _bytes(atom: Var) -> int:
    dtype = getattr(atom.aval, "dtype", None)
    return _size(atom) * getattr(dtype, "itemsize", 0)
