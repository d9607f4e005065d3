"""Pieces of Python: dtypes, shapes, lists of names, and terms that have to be arrays."""

from typing import Any

import numpy as np

from diffcompare.symbolic.writing import Term


def of_dtype(dtype: Any) -> str:
    """Returns the name of a dtype in quotes."""
    return f'"{np.dtype(dtype).name}"'


def integers(items: Any) -> str:
    """Returns a tuple of integers."""
    items = [int(item) for item in items]
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(map(str, items))})"


def as_array(term: Term, variable: Any) -> str:
    """Returns a term as an array, where Python's own number would not do."""
    if term.literal is None:
        return term.text
    return f"jnp.asarray({term.text}, {of_dtype(variable.aval.dtype)})"


def as_arrays(eqn, terms) -> list[str]:
    """Returns the operands of an equation as arrays."""
    return [as_array(term, variable) for term, variable in zip(terms, eqn.invars, strict=True)]


def listed(names: list[str]) -> str:
    """Returns names as the inside of a tuple."""
    return ", ".join(names) + ("," if len(names) == 1 else "")
