"""Which functions the matrix route may take."""

from collections.abc import Iterator, Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from diffcompare._jaxpr import custom_rules, walk
from diffcompare.symbolic import operations
from diffcompare.symbolic.convention import Convention, Rules
from diffcompare.symbolic.derived import Derived
from diffcompare.symbolic.trace import Trace


def matrix_derived(
    traced: Trace,
    labels: Sequence[str],
    convention: Convention,
    wanted: Sequence[int],
    honoured: Rules,
) -> Derived:
    """Returns a derivation in matrix symbols.

    Raises:
        UnknownPrimitiveError: An operation is none on scalars, vectors and matrices.
        NotImplementedError: A custom derivative rule would have to be asked.
    """
    from diffcompare.symbolic import matrix

    if honoured == "jax":
        for eqn in _calls(traced.jaxpr):
            if not is_trusted(eqn):
                raise NotImplementedError(
                    f"Symbolic(route='matrix') differentiates functions and asks no rules, but "
                    f"{custom_rules.name_of(eqn)} has a custom derivative rule, met at "
                    f"{custom_rules.place_of(eqn) or 'an unknown place'}. Use route='program', or "
                    "rules='math'."
                )
    return matrix.derive(traced, labels, convention, wanted)


def is_trusted(eqn: JaxprEqn) -> bool:
    """Returns whether the function with the custom rule is known, or one of JAX's activations."""
    body = walk.called(eqn)
    if body is not None and operations.known_call(eqn.primitive.name, body):
        return custom_rules.is_from_jax(eqn)
    where = custom_rules.defined_at(eqn).replace("\\", "/")
    return "/jax/_src/nn/functions.py:" in where


def _calls(jaxpr: Any) -> Iterator[JaxprEqn]:
    """Yields the equations that call a function with a custom rule, in all bodies."""
    for eqn in walk.close(jaxpr).jaxpr.eqns:
        if custom_rules.is_custom(eqn):
            yield eqn
            continue
        for value in eqn.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if hasattr(part, "eqns") or hasattr(part, "jaxpr"):
                    yield from _calls(part)
