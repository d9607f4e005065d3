"""How an operation is called, and how it is written in a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from diffcompare._jaxpr import walk

# Short names of primitives whose own name says how JAX computes, not what.
_NAMES = {
    "add_any": "add",
    "broadcast_in_dim": "broadcast",
    "conv_general_dilated": "conv",
    "convert_element_type": "convert",
    "dot_general": "dot",
    "integer_pow": "pow",
    "logistic": "sigmoid",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": "prod",
    "reduce_sum": "sum",
    "select_n": "select",
}
_SIGNS = {
    "add": "+", "add_any": "+", "concatenate": "concat", "conv_general_dilated": "conv",
    "div": "÷", "dot_general": "@", "exp": "eˣ", "logistic": "σ", "mul": "×", "neg": "×-1",
    "pow": "xʸ", "reduce_prod": "Π", "reduce_sum": "Σ", "rsqrt": "1/√x", "sqrt": "√x",
    "square": "x²", "stop_gradient": "stop", "sub": "-", "transpose": "ᵀ",
}  # fmt: skip
# What stands before and after the other operand, where one of the two is a number.
_WITH_NUMBER = {
    ("add", 0): "+ {}", ("add", 1): "+ {}", ("mul", 0): "× {}", ("mul", 1): "× {}",
    ("sub", 0): "{} - x", ("sub", 1): "- {}", ("div", 0): "{}/x", ("div", 1): "÷ {}",
    ("max", 0): "max({}, x)", ("max", 1): "max({}, x)", ("min", 0): "min({}, x)",
    ("min", 1): "min({}, x)", ("pow", 0): "{}^x", ("pow", 1): "x^{}",
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# One number of the output for one number of each operand: the Jacobian is diagonal.
ELEMENTWISE = frozenset(
    {"abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh",
     "cbrt", "ceil", "clamp", "convert_element_type", "copy", "copy_p", "cos", "cosh",
     "digamma", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor",
     "integer_pow", "lgamma", "log", "log1p", "logistic", "max", "min", "mul", "name", "neg",
     "nextafter", "pow", "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign",
     "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh"}
)  # fmt: skip

# Their local derivatives are 1, -1 or 0 for every entry, so that nothing is multiplied.
ADDITIVE = frozenset({"add", "add_any", "convert_element_type", "neg", "reduce_sum", "sub"})


def number(value: Any, digits: int = 6) -> str:
    """Returns a number as text: whole numbers without a point, others with `digits` digits.

    Example:
        >>> number(8.0), number(0.1966119), number(-1e-9), number(float("nan"))
        ('8', '0.196612', '-1e-09', 'nan')
    """
    value = np.asarray(value)[()]
    if isinstance(value, np.bool_):
        return str(bool(value))
    if isinstance(value, np.complexfloating):
        sign = "-" if np.signbit(value.imag) else "+"
        return f"{number(value.real, digits)}{sign}{number(abs(value.imag), digits)}i"
    text = f"{float(value):.{digits}g}"
    return "0" if text == "-0" else text


def operation_name(eqn: JaxprEqn) -> str:
    """Returns the name of an operation: of a call, that of the function which is called."""
    name = eqn.primitive.name
    body = walk.called(eqn)
    if body is not None:
        given = eqn.params.get("name")
        return (given if isinstance(given, str) else None) or walk.call_name(body) or name
    return _NAMES.get(name, name)


def symbol(eqn: JaxprEqn, numbers: Sequence[Any]) -> str:
    """Returns how an operation is written in its circle.

    Args:
        eqn: The operation.
        numbers: For each operand its value where that is a number written in the program,
            otherwise None.
    """
    name = eqn.primitive.name
    if name == "integer_pow":
        power = eqn.params["y"]
        return "1/x" if power == -1 else "x" + str(power).translate(_SUPERSCRIPTS)
    known = [position for position, value in enumerate(numbers) if value is not None]
    if len(known) == 1 and len(numbers) == 2 and (name, known[0]) in _WITH_NUMBER:
        return _WITH_NUMBER[name, known[0]].format(number(numbers[known[0]], 4))
    return _SIGNS.get(name) or operation_name(eqn)


def is_elementwise(eqn: JaxprEqn) -> bool:
    """Returns whether every output entry of an operation depends on one entry of each operand."""
    avals: list[Any] = [atom.aval for atom in [*eqn.invars, *eqn.outvars]]
    shapes = {aval.shape for aval in avals if aval.shape}
    if len(shapes) > 1:
        return False
    body = walk.called(eqn)
    if body is None:
        return eqn.primitive.name in ELEMENTWISE
    # What is broadcast inside has another shape there, so the shapes within decide as well.
    return all(is_elementwise(inner) for inner in body.jaxpr.eqns)
