"""How each primitive is written in LaTeX, as far as there is a usual way."""

from fractions import Fraction

import numpy as np

from diffcompare.symbolic import numerals
from diffcompare.symbolic.writing import (
    ATOM,
    POWER,
    PRODUCT,
    SUM,
    Language,
    Rule,
    Several,
    Term,
    added,
    at_least,
    finite,
    infix,
    negated,
    ranges,
)


class Latex(Language):
    """Formulas; what has no usual notation is written as a function of its operands."""

    def __init__(self):
        self.table = _TABLE

    def name(self, prefix, number):
        return f"{prefix}_{{{number}}}"

    def number(self, value):
        if isinstance(value, bool):
            return rf"\mathrm{{{str(value).lower()}}}"
        if not finite(value):
            return r"\mathrm{nan}" if value != value else r"\infty" if value > 0 else r"-\infty"
        if value == int(value) and abs(value) < 1e6:
            return repr(int(value))
        # It is rounded to the dtype of the function, which for most is float32.
        return numerals.latex(numerals.shortest(Fraction(float(value)), np.float32))

    def array(self, value):
        shape = r" \times ".join(map(str, value.shape))
        return rf"\mathrm{{array}}_{{{shape}}}"

    def unknown(self, writer, eqn, terms):
        name = eqn.primitive.name.replace("_", r"\_")
        shown = [term for term in terms if len(term.text) <= 400]
        text = rf"\operatorname{{{name}}}\left({', '.join(t.text for t in shown)}\right)"
        return Term(text) if len(eqn.outvars) == 1 else Several(text, ", ".join)


def named(name: str) -> Rule:
    """Returns the rule of a function."""
    return lambda w, e, terms: Term(rf"{name}\left({', '.join(t.text for t in terms)}\right)")


def _dot(writer, eqn, terms):
    summed, batch = eqn.params["dimension_numbers"]
    ranks = [len(v.aval.shape) for v in eqn.invars]
    left, right = terms
    axes = tuple(map(tuple, summed))
    if any(batch) or not set(ranks) <= {1, 2} or len(axes[0]) > 1:
        return named(r"\operatorname{dot}")(writer, eqn, terms)
    if axes == ((), ()):
        if ranks != [1, 1]:
            return named(r"\operatorname{dot}")(writer, eqn, terms)
        return Term(rf"{at_least(left, PRODUCT)} {_turned(right)}", PRODUCT)
    is_inner = ranks == [1, 1]
    first = left if ranks[0] == 2 and axes[0] == (1,) else Term(_turned(left))
    second = right if is_inner or ranks[1] == 1 or axes[1] == (0,) else Term(_turned(right))
    if ranks[0] == 1 and ranks[1] == 2:  # a vector from the left: the matrix comes first
        first = right if axes[1] == (1,) else Term(_turned(right))
        second = left
    return Term(f"{at_least(first, PRODUCT)} {at_least(second, PRODUCT + 1)}", PRODUCT)


def _turned(term: Term) -> str:
    return rf"{at_least(term, ATOM)}^{{\top}}"


def _product(writer, eqn, terms):
    left, right = terms
    if right.literal is not None and left.literal is None:
        left, right = right, left  # numbers come first
    if left.literal is not None or right.literal is not None or not eqn.outvars[0].aval.shape:
        sign = r" \cdot " if left.literal is not None and right.literal is not None else r" \, "
        return Term(f"{at_least(left, PRODUCT)}{sign}{at_least(right, PRODUCT + 1)}", PRODUCT)
    return Term(rf"{at_least(left, PRODUCT)} \odot {at_least(right, PRODUCT + 1)}", PRODUCT)


def _fraction(writer, eqn, terms):
    return Term(rf"\frac{{{terms[0].text}}}{{{terms[1].text}}}")


def _sum(writer, eqn, terms):
    return Term(rf"\sum {at_least(terms[0], PRODUCT)}", PRODUCT)


def _select(writer, eqn, terms):
    which, *cases = terms
    if len(cases) != 2:
        return named(r"\operatorname{select}")(writer, eqn, terms)
    return Term(
        rf"\begin{{cases}} {cases[1].text} & {which.text} \\ {cases[0].text} & "
        r"\text{otherwise} \end{cases}"
    )


def _transpose(writer, eqn, terms):
    if tuple(eqn.params["permutation"]) != (1, 0):
        return named(r"\operatorname{transpose}")(writer, eqn, terms)
    return Term(_turned(terms[0]))


def _slice(writer, eqn, terms):
    # In brackets: a name may have an index of its own, and two of them are no LaTeX.
    parts = ", ".join(ranges(eqn)).replace(":", "{:}")
    return Term(rf"{at_least(terms[0], ATOM)}\left[{parts}\right]")


def _same(writer, eqn, terms):
    return terms[0]


def _spread(writer, eqn, terms):
    if terms[0].literal is not None:
        return Term(rf"{terms[0].text} \cdot \mathbf{{1}}", PRODUCT, literal=None)
    return Term(rf"{at_least(terms[0], PRODUCT)} \, \mathbf{{1}}", PRODUCT)


_TABLE: dict[str, Rule] = {
    **{name: named(rf"\{name}") for name in [
        "exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "max", "min"]},
    **{f"a{name}": named(rf"\arc{name}") for name in ("sin", "cos", "tan")},
    **{name: named(rf"\operatorname{{{name}}}")
       for name in [
           "relu", "relu6", "sign", "erf", "erfc", "floor", "ceil", "round", "clamp",
           "logaddexp", "xlogy"]},
    "logistic": named(r"\sigma"),
    "reduce_max": named(r"\max"),
    "reduce_min": named(r"\min"),
    "reduce_prod": named(r"\prod"),
    "sqrt": lambda w, e, t: Term(rf"\sqrt{{{t[0].text}}}"),
    "abs": lambda w, e, t: Term(rf"\left|{t[0].text}\right|"),
    "square": lambda w, e, t: Term(f"{at_least(t[0], ATOM)}^{{2}}", POWER),
    "integer_pow": lambda w, e, t: Term(f"{at_least(t[0], ATOM)}^{{{e.params['y']}}}", POWER),
    "pow": lambda w, e, t: Term(f"{at_least(t[0], ATOM)}^{{{t[1].text}}}", POWER),
    "add": lambda w, e, t: added(w, *t),
    "add_any": lambda w, e, t: added(w, *t),
    "sub": infix("-", SUM),
    "mul": _product,
    "div": _fraction,
    "neg": lambda w, e, t: negated(t[0]),
    "dot_general": _dot,
    "reduce_sum": _sum,
    "select_n": _select,
    "slice": _slice,
    "transpose": _transpose,
    "broadcast_in_dim": _spread,
    **dict.fromkeys((
        "convert_element_type", "copy", "copy_p", "name", "stop_gradient", "reduce_precision",
        "device_put", "sharding_constraint"), _same),
    **{name: infix(sign, SUM) for name, sign in (
        ("lt", "<"), ("le", r"\le"), ("gt", ">"), ("ge", r"\ge"), ("eq", "="), ("ne", r"\ne"))},
}  # fmt: skip
