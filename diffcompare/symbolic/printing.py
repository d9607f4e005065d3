"""SymPy expressions as LaTeX, as text and as Python, with the user's names.

SymPy's own printers know neither the functions of a derivation nor the names that stand for
its symbols, and write a binary fraction such as 0.1 with seventeen digits over seventeen.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from sympy import S
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from diffcompare.symbolic import custom, numerals, operations
from diffcompare.symbolic import functions as f

Names = Mapping[sympy.Basic, str]
Check = Callable[[], None]


def latex(expression: sympy.Basic, names: Names, check: Check = lambda: None) -> str:
    """Returns an expression in LaTeX; `check` is called on the way, and may raise."""
    (expression,), names = readable([expression], names, lambda r: numerals.latex(_shown(r)))
    return _Latex(names, check).doprint(expression)


def text(expression: sympy.Basic, names: Names, check: Check = lambda: None) -> str:
    """Returns an expression as text."""
    (expression,), names = readable([expression], names, _shown)
    return _Text(names, check).doprint(expression)


def python(expression: sympy.Basic, names: Names, check: Check = lambda: None) -> str:
    """Returns an expression as Python code in terms of `jnp`, `lax` and `jax`.

    Long fractions have to be symbols; see `readable`.
    """
    return _Python(names, check).doprint(expression)


def readable(
    expressions: Sequence[sympy.Basic],
    names: Names,
    write: Callable[[sympy.Rational], str] | None = None,
) -> tuple[list[sympy.Basic], dict[sympy.Basic, str]]:
    """Returns expressions in which long fractions are symbols, and all names.

    Args:
        expressions: What is to be printed.
        names: Of its symbols.
        write: How a long fraction is written; None is `decimal`, which loses no digit.
    """
    write = write or decimal
    fractions = set().union(*(expression.atoms(sympy.Rational) for expression in expressions))
    symbols = {r: sympy.Dummy(write(abs(r)), positive=True) for r in fractions if decimal(r)}
    exchanged = {r: symbol if r > 0 else -symbol for r, symbol in symbols.items()}
    shown = [expression.xreplace(exchanged) for expression in expressions]
    return shown, {**names, **{s: s.name for s in symbols.values()}}


def decimal(number: sympy.Rational) -> str:
    """Returns a fraction as it is best read: 1/2 and 2/3 as they are, 0.1 by its digits."""
    p, q = int(number.p), int(number.q)
    if q == 1 or (q < 1000 and abs(p) < 10**6):
        return ""
    try:
        return repr(p / q)
    except OverflowError:
        return ""


def _shown(number: sympy.Rational) -> str:
    """Returns `decimal`, for a reader: without the digits that rounding to float32 made."""
    value = Fraction(int(number.p), int(number.q))
    return numerals.shortest(value, np.float32) if decimal(number) else ""


class _Named:
    """What all three printers share: names, the clock, and what functions are about."""

    def __init__(self, names: Names, check: Check):
        super().__init__()
        self.names, self.check = names, check

    def _print(self, expr, **kwargs):
        self.check()
        if expr in self.names:
            return self.names[expr]
        return super()._print(expr, **kwargs)  # type: ignore[misc]

    def _print_frozen(self, e, exp=None):
        return self._print(e.args[0])

    def _print_claimed(self, e, exp=None):
        return self._print_frozen(e, exp)


class _Text(_Named, StrPrinter):
    """Infix notation; a comparison in brackets is 1 where it holds and 0 elsewhere."""

    def _print_Rational(self, e):
        return _shown(e) or super()._print_Rational(e)

    def _print_step(self, e):
        a, b, tie = e.args
        if tie in (0, 1):
            return f"[{self._print(a)} {'>' if tie == 0 else '>='} {self._print(b)}]"
        return f"step({self._print(a)} - {self.parenthesize(b, PRECEDENCE['Add'])})"

    def _print_inside(self, e):
        return "[" + " < ".join(map(self._print, e.args)) + "]"

    def _print_Piecewise(self, e):
        *cases, last = e.args
        parts = [f"{self._print(a)} if {self._print(c)}" for a, c in cases]
        return "(" + " else ".join([*parts, self._print(last[0])]) + ")"

    def _print_Function(self, e):
        count = _ARGUMENTS.get(type(e), len(e.args))
        name = _TEXT_NAMES.get(type(e), type(e).__name__)
        return f"{name}({', '.join(map(self._print, e.args[:count]))})"


class _Latex(_Named, LatexPrinter):
    """As a book prints it, with Iverson's brackets for the slopes of kinked functions."""

    def _print_Rational(self, e):
        return numerals.latex(_shown(e)) or super()._print_Rational(e)

    def _print_step(self, e, exp=None):
        a, b, tie = e.args
        if tie in (0, 1):
            sign = ">" if tie == 0 else r"\ge"
            return self._powered(rf"\left[{self._print(a)} {sign} {self._print(b)}\right]", exp)
        body = rf"\operatorname{{step}}\left({self._print(a - b)}\right)"
        return self._powered(body, exp)

    def _print_inside(self, e, exp=None):
        return self._powered(rf"\left[{' < '.join(map(self._print, e.args))}\right]", exp)

    def _print_frozen(self, e, exp=None):
        value = self._print(e.args[0])
        return value if exp is None else rf"\left({value}\right)^{{{exp}}}"

    def _print_claimed(self, e, exp=None):
        return self._print_frozen(e, exp)

    def _print_Function(self, e, exp=None):
        kind = type(e)
        if kind not in _LATEX_NAMES and not isinstance(e, f.RealFunction):
            return super()._print_Function(e, exp)
        count = _ARGUMENTS.get(kind, len(e.args))
        name = _LATEX_NAMES.get(kind, rf"\operatorname{{{_TEXT_NAMES.get(kind, kind.__name__)}}}")
        name = name.replace("_", r"\_")
        power = f"^{{{exp}}}" if exp is not None else ""
        return rf"{name}{power}\left({', '.join(map(self._print, e.args[:count]))}\right)"

    def _powered(self, body, exp):
        return body if exp is None else f"{body}^{{{exp}}}"


for _name in ("relu", "relu6", "absolute", "maximum", "minimum", "signum"):
    setattr(_Latex, f"_print_{_name}", _Latex._print_Function)


class _Python(_Named, StrPrinter):
    """Python that runs: `jnp`, `lax` and `jax` are in scope, and so are the names."""

    def _print_Rational(self, e):
        return _literal(e)

    def _print_Integer(self, e):
        return str(int(e)) if abs(e) < 2**31 else repr(float(e))

    def _print_Half(self, e):
        return "0.5"

    def _print_NumberSymbol(self, e):
        return repr(float(e))

    _print_Exp1 = _print_Pi = _print_NumberSymbol

    def _print_Infinity(self, e):
        return "jnp.inf"

    def _print_NegativeInfinity(self, e):
        return "(-jnp.inf)"

    def _print_NaN(self, e):
        return "jnp.nan"

    def _print_ComplexInfinity(self, e):
        return "jnp.nan"

    def _print_BooleanTrue(self, e):
        return "True"

    def _print_BooleanFalse(self, e):
        return "False"

    def _print_Pow(self, e, rational=False):
        base, exponent = e.args
        if base is S.Exp1 or (base == 2 and not exponent.is_number):
            return f"jnp.{'exp' if base is S.Exp1 else 'exp2'}({self._print(exponent)})"
        if exponent == S.Half or exponent == -S.Half:
            return f"{'jnp.sqrt' if exponent > 0 else 'lax.rsqrt'}({self._print(base)})"
        power = PRECEDENCE["Pow"]
        if exponent.is_Integer:
            number = self._print(exponent)
            return f"{self.parenthesize(base, power + 1)} ** {number}"
        if exponent.is_number:
            return f"{self.parenthesize(base, power + 1)} ** {_literal(exponent)}"
        return f"lax.pow(*jnp.broadcast_arrays({self._print(base)}, {self._print(exponent)}))"

    def _print_Piecewise(self, e):
        *cases, last = e.args
        result = self._print(last[0])
        for value, condition in reversed(cases):
            result = f"jnp.where({self._print(condition)}, {self._print(value)}, {result})"
        return result

    def _print_Relational(self, e):
        return f"({self._print(e.lhs)} {_SIGNS[type(e)]} {self._print(e.rhs)})"

    def _joined(self, e, sign):
        return "(" + f" {sign} ".join(f"({self._print(a)})" for a in e.args) + ")"

    def _print_And(self, e):
        return self._joined(e, "&")

    def _print_Or(self, e):
        return self._joined(e, "|")

    def _print_Not(self, e):
        return f"(~{self._print(e.args[0])})"

    def _print_ITE(self, e):
        return f"jnp.where({', '.join(map(self._print, e.args))})"

    def _print_Xor(self, e):
        return self._joined(e, "^")

    def _print_step(self, e):
        a, b, tie = e.args
        left, right = self._print(a), self._print(b)
        if tie in (0, 1):
            return f"jnp.where({left} {'>' if tie == 0 else '>='} {right}, 1.0, 0.0)"
        at_tie = f"jnp.where({left} == {right}, {self._print(tie)}, 0.0)"
        return f"jnp.where({left} > {right}, 1.0, {at_tie})"

    def _print_inside(self, e):
        low, x, high = map(self._print, e.args)
        return f"jnp.where(({low} < {x}) & ({x} < {high}), 1.0, 0.0)"

    def _print_signum(self, e):
        x, at_zero = e.args
        sign = f"jnp.sign({self._print(x)})"
        if at_zero == 0:
            return sign
        return f"jnp.where({self._print(x)} == 0, {_float(at_zero)}, {sign})"

    def _print_share(self, e):
        x, extreme, *entries = map(self._print, e.args)
        count = " + ".join(f"jnp.where({entry} == {extreme}, 1.0, 0.0)" for entry in entries)
        return f"jnp.where({x} == {extreme}, 1.0 / ({count}), 0.0)"

    def _print_polygamma(self, e):
        order, x = e.args
        return f"lax.polygamma(jnp.full_like({self._print(x)}, {order}), {self._print(x)})"

    def _print_remainder(self, e):
        return f"lax.rem(*jnp.broadcast_arrays({self._print(e.args[0])}, {self._print(e.args[1])}))"

    _print_power = lambda self, e: (
        f"lax.pow(*jnp.broadcast_arrays({self._print(e.args[0])}, {self._print(e.args[1])}))"
    )

    def _print_truncate(self, e):
        return f"jnp.trunc({self._print(e.args[0])})"

    def _print_Function(self, e):
        kind = type(e)
        if kind in _FOLDED:
            first, *others = map(self._print, e.args[: _ARGUMENTS.get(kind, len(e.args))])
            for other in others:
                first = f"{_FOLDED[kind]}({first}, {other})"
            return first
        if kind not in _PYTHON_NAMES:
            raise NotImplementedError(
                f"There is no JAX code for the SymPy function '{kind.__name__}', which a "
                "derivative contains."
            )
        count = _ARGUMENTS.get(kind, len(e.args))
        return f"{_PYTHON_NAMES[kind]}({', '.join(map(self._print, e.args[:count]))})"

    def _print_clamp(self, e):
        low, x, high = map(self._print, e.args)
        return f"jnp.minimum(jnp.maximum({x}, {low}), {high})"


for _name in ("Abs", "sign", "Max", "Min"):
    setattr(_Python, f"_print_{_name}", _Python._print_Function)


def _float(number: sympy.Basic) -> str:
    return repr(float(number))


def _literal(number: Any) -> str:
    """Returns a number as a Python literal, rounded once."""
    try:
        value = number.p / number.q if number.is_Rational else float(number.evalf(40))
    except OverflowError:
        value = math.inf if number > 0 else -math.inf
    return f"({value!r})" if value < 0 else repr(value)


# How many arguments are shown: those that say what happens at a kink are not.
_ARGUMENTS: dict[Any, int] = {
    f.relu: 1, f.relu6: 1, f.absolute: 1, f.maximum: 2, f.minimum: 2, f.signum: 1,
    f.share: 2,
}  # fmt: skip
_TEXT_NAMES: dict[Any, str] = {
    f.absolute: "abs", f.maximum: "max", f.minimum: "min", f.largest: "max", f.smallest: "min",
    f.signum: "sign", f.logistic: "sigmoid", f.round_even: "round", f.round_away: "round",
    f.power: "pow", f.remainder: "rem", f.clamp: "clip", sympy.loggamma: "lgamma",
}  # fmt: skip
_LATEX_NAMES: dict[Any, str] = {
    f.maximum: r"\max", f.minimum: r"\min", f.largest: r"\max", f.smallest: r"\min",
    f.logistic: r"\sigma", f.tanh: r"\tanh",
}  # fmt: skip
_FOLDED: dict[Any, str] = {
    sympy.Max: "jnp.maximum", sympy.Min: "jnp.minimum", f.maximum: "jnp.maximum",
    f.minimum: "jnp.minimum", f.largest: "jnp.maximum", f.smallest: "jnp.minimum",
}  # fmt: skip
_PYTHON_NAMES: dict[Any, str] = {
    sympy.exp: "jnp.exp", sympy.log: "jnp.log", sympy.sin: "jnp.sin", sympy.cos: "jnp.cos",
    sympy.tan: "jnp.tan", sympy.asin: "jnp.arcsin", sympy.acos: "jnp.arccos",
    sympy.atan: "jnp.arctan", sympy.atan2: "jnp.arctan2", sympy.sinh: "jnp.sinh",
    sympy.cosh: "jnp.cosh", sympy.tanh: "jnp.tanh", sympy.asinh: "jnp.arcsinh",
    sympy.acosh: "jnp.arccosh", sympy.atanh: "jnp.arctanh", sympy.erf: "lax.erf",
    sympy.erfc: "lax.erfc", sympy.erfinv: "lax.erf_inv", sympy.loggamma: "lax.lgamma",
    sympy.Abs: "jnp.abs", sympy.sign: "jnp.sign", f.floor: "jnp.floor", f.ceil: "jnp.ceil",
    f.round_even: "jnp.round",
    f.round_away: "(lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO))",
    f.relu: "jax.nn.relu", f.relu6: "jax.nn.relu6", f.absolute: "jnp.abs",
    f.logistic: "jax.nn.sigmoid", f.tanh: "jnp.tanh", f.log1p: "jnp.log1p",
    f.expm1: "jnp.expm1", f.logaddexp: "jnp.logaddexp", f.logaddexp2: "jnp.logaddexp2",
    f.xlogy: "jax.scipy.special.xlogy", f.xlog1py: "jax.scipy.special.xlog1py",
    f.cbrt: "jnp.cbrt",
}  # fmt: skip
_SIGNS = {
    sympy.StrictLessThan: "<", sympy.LessThan: "<=", sympy.StrictGreaterThan: ">",
    sympy.GreaterThan: ">=", sympy.Equality: "==", sympy.Unequality: "!=",
}  # fmt: skip

NAN_NAMES = {operations.NAN: "jnp.nan"}
assert custom  # its function `claimed` is printed by its value
