"""How numbers are written that were rounded when they became a constant of a program."""

from fractions import Fraction
from typing import Any

import numpy as np


def shortest(value: Fraction, dtype: Any = None) -> str:
    """Returns a number as it was probably written: the shortest one that rounds to it.

    Args:
        value: The number, exactly.
        dtype: What it was rounded to, as far as that is known.

    Example:
        >>> rounded = Fraction(float(np.float32(0.3)))
        >>> shortest(rounded), shortest(rounded, np.float32)
        ('0.30000001192092896', '0.3')
    """
    kinds: list[Any] = [np.float32] if dtype == np.float32 else []
    with np.errstate(over="ignore"):
        for kind in [*kinds, np.float64, np.float32]:
            short = str(kind(float(value)))
            if np.isfinite(kind(float(value))) and Fraction(float(kind(float(value)))) == value:
                return short.removesuffix(".0")
    return f"{float(value):.12g}"


def latex(text: str) -> str:
    r"""Returns a decimal number in LaTeX.

    Example:
        >>> latex("2.5e+10"), latex("1e-07"), latex("0.25")
        ('2.5 \\cdot 10^{10}', '10^{-7}', '0.25')
    """
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return mantissa
    power = rf"10^{{{int(exponent)}}}"
    return {"1": power, "-1": f"-{power}"}.get(mantissa, rf"{mantissa} \cdot {power}")
