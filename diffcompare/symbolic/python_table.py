"""How each primitive is written in Python, in terms of `jnp`, `lax` and `jax`."""

from typing import Any

import numpy as np
from jax import lax

from diffcompare.symbolic.python_control import CONTROL
from diffcompare.symbolic.python_terms import as_array, as_arrays, integers, listed, of_dtype
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

_SMALL = 64  # entries of an array that is written out


class Python(Language):
    """Python that runs: `jax`, `jnp` and `lax` have to be in scope.

    Args:
        is_strict: Whether what cannot be written is an error, or is written as words.
    """

    def __init__(self, is_strict: bool = True):
        self.table = _TABLE
        self.is_strict = is_strict

    def name(self, prefix, number):
        return f"{prefix}{number}"

    def number(self, value):
        if isinstance(value, bool | np.bool_) or finite(value):
            return repr(value)
        return "jnp.nan" if value != value else "jnp.inf" if value > 0 else "-jnp.inf"

    def array(self, value):
        value = np.asarray(value)
        if value.size > _SMALL or value.dtype.kind not in "fiub":
            return None if self.is_strict else f"array({integers(value.shape)})"
        numbers = np.array2string(value, separator=", ", floatmode="unique", threshold=_SMALL + 1)
        numbers = " ".join(numbers.split()).replace("nan", "jnp.nan").replace("inf", "jnp.inf")
        return f"jnp.array({numbers}, {of_dtype(value.dtype)}).reshape({integers(value.shape)})"

    def unknown(self, writer, eqn, terms):
        if not self.is_strict:
            text = f"{eqn.primitive.name}({', '.join(term.text for term in terms)})"
            return Term(text) if len(eqn.outvars) == 1 else Several(text, listed)
        raise NotImplementedError(
            f"source() cannot write the primitive '{eqn.primitive.name}' as Python. Use "
            ".function, which runs it, or .steps()."
        )


def _with_array(rule: Rule) -> Rule:
    """Returns a rule that is right for numbers alone, which Python would compute by itself."""

    def prepared(writer, eqn, terms):
        if all(term.literal is not None for term in terms):
            terms = [Term(as_array(terms[0], eqn.invars[0])), *terms[1:]]
        return rule(writer, eqn, terms)

    return prepared


def call(name: str, *suffix: str) -> Rule:
    """Returns the rule of a function of arrays."""

    def rule(writer, eqn, terms):
        if all(term.literal is not None for term in terms):
            return Term(f"{name}({', '.join([*as_arrays(eqn, terms), *suffix])})")
        return Term(f"{name}({', '.join([*(t.text for t in terms), *suffix])})")

    return rule


def _strict(name: str, *params: str) -> Rule:
    """Returns the rule of a function that takes arrays of one dtype only, and parameters."""

    def rule(writer, eqn, terms):
        keywords = [f"{key}={_value(eqn.params[key])}" for key in params]
        return Term(f"{name}({', '.join([*as_arrays(eqn, terms), *keywords])})")

    return rule


def _value(value: Any) -> str:
    if type(value).__name__ in ("GatherDimensionNumbers", "ScatterDimensionNumbers"):
        return f"lax.{value!r}"
    if isinstance(value, tuple | list):
        inner = ", ".join(map(_value, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, np.dtype):
        return of_dtype(value)
    if isinstance(value, lax.GatherScatterMode):
        return f"lax.GatherScatterMode.{value.name}"
    return repr(value)


def _dot(writer, eqn, terms):
    numbers = (summed, batch) = eqn.params["dimension_numbers"]
    ranks = [len(v.aval.shape) for v in eqn.invars]
    left, right = terms
    simple = eqn.params.get("precision") is None and not any(batch)
    simple = simple and len({v.aval.dtype for v in [*eqn.invars, *eqn.outvars]}) == 1
    axes = tuple(map(tuple, summed))
    if simple and ranks[0] in (1, 2) and ranks[1] in (1, 2) and len(axes[0]) == 1:
        a = _turned(left, ranks[0], axes[0][0] != ranks[0] - 1)
        b = _turned(right, ranks[1], axes[1][0] != 0)
        return Term(f"{at_least(a, PRODUCT)} @ {at_least(b, PRODUCT + 1)}", PRODUCT)
    if simple and ranks == [1, 1] and axes == ((), ()):
        return Term(f"jnp.outer({left.text}, {right.text})")
    text = f"lax.dot_general({', '.join(as_arrays(eqn, terms))}, {_value(_plain(numbers))}"
    for key in ("precision", "preferred_element_type"):
        if eqn.params.get(key) is not None:
            value = eqn.params[key]
            if key == "precision":
                value = tuple(str(p).lower() for p in value)
            text += f", {key}={_value(value)}"
    return Term(text + ")")


def _plain(numbers):
    return tuple(tuple(tuple(int(i) for i in axes) for axes in pair) for pair in numbers)


def _turned(term: Term, rank: int, is_turned: bool) -> Term:
    return Term(f"{at_least(term, ATOM)}.T") if is_turned and rank == 2 else term


def _broadcast(writer, eqn, terms):
    shape, axes = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    (term,) = terms
    if term.literal is not None:
        dtype = of_dtype(eqn.invars[0].aval.dtype)
        known = {0.0: "zeros", 1.0: "ones"}.get(term.literal)
        if known:
            return Term(f"jnp.{known}({integers(shape)}, {dtype})")
        return Term(f"jnp.full({integers(shape)}, {term.text}, {dtype})")
    if not eqn.invars[0].aval.shape:
        return Term(f"jnp.broadcast_to({term.text}, {integers(shape)})")
    return Term(f"lax.broadcast_in_dim({term.text}, {integers(shape)}, {integers(axes)})")


def _reduction(name: str) -> Rule:
    def rule(writer, eqn, terms):
        axes = eqn.params["axes"]
        rank = len(eqn.invars[0].aval.shape)
        if len(axes) == rank and name in ("jnp.sum", "jnp.max", "jnp.min", "jnp.prod"):
            return Term(f"{name}({terms[0].text})")
        return Term(f"{name}({terms[0].text}, {integers(axes)})")

    return rule


def _transpose(writer, eqn, terms):
    permutation = tuple(eqn.params["permutation"])
    if permutation == (1, 0):
        return Term(f"{at_least(terms[0], ATOM)}.T")
    return Term(f"jnp.transpose({terms[0].text}, {integers(permutation)})")


def _reshape(writer, eqn, terms):
    return Term(
        f"jnp.reshape({as_array(terms[0], eqn.invars[0])}, {integers(eqn.outvars[0].aval.shape)})"
    )


def _convert(writer, eqn, terms):
    dtype = of_dtype(eqn.params["new_dtype"])
    if eqn.invars[0].aval.dtype == eqn.params["new_dtype"]:
        return terms[0]
    if terms[0].literal is not None:
        return Term(f"jnp.asarray({terms[0].text}, {dtype})")
    return Term(f"{at_least(terms[0], ATOM)}.astype({dtype})")


def _select(writer, eqn, terms):
    which, *cases = terms
    arrays = as_arrays(eqn, terms)
    if len(cases) == 2 and eqn.invars[0].aval.dtype == bool:
        other = cases[0].text if cases[1].literal is None else arrays[1]
        chosen = cases[1].text
        return Term(f"jnp.where({which.text}, {chosen}, {other})")
    return Term(f"lax.select_n({', '.join(arrays)})")


def _slice(writer, eqn, terms):
    return Term(f"{at_least(terms[0], ATOM)}[{', '.join(ranges(eqn))}]")


def _pad(writer, eqn, terms):
    config = tuple(tuple(int(i) for i in row) for row in eqn.params["padding_config"])
    return Term(f"lax.pad({', '.join(as_arrays(eqn, terms))}, {_value(config)})")


def _joined(name: str, key: str) -> Rule:
    def rule(writer, eqn, terms):
        return Term(f"{name}([{', '.join(as_arrays(eqn, terms))}], axis={eqn.params[key]})")

    return rule


def _gather(writer, eqn, terms):
    x, indices = as_arrays(eqn, terms)
    params = eqn.params
    text = (
        f"lax.gather({x}, {indices}, {_value(params['dimension_numbers'])}, "
        f"{integers(params['slice_sizes'])}, mode={_value(params['mode'])}"
    )
    fill = params.get("fill_value")
    return Term(text + (")" if fill is None else f", fill_value={writer.language.number(fill)})"))


def _scatter(name: str) -> Rule:
    def rule(writer, eqn, terms):
        params = eqn.params
        arrays = ", ".join(as_arrays(eqn, terms))
        numbers, mode = _value(params["dimension_numbers"]), _value(params["mode"])
        return Term(f"{name}({arrays}, {numbers}, mode={mode})")

    return rule


def _dynamic_slice(writer, eqn, terms):
    x, *starts = as_arrays(eqn, terms)
    return Term(
        f"lax.dynamic_slice({x}, [{', '.join(starts)}], {integers(eqn.params['slice_sizes'])})"
    )


def _dynamic_update(writer, eqn, terms):
    x, update, *starts = as_arrays(eqn, terms)
    return Term(f"lax.dynamic_update_slice({x}, {update}, [{', '.join(starts)}])")


def _iota(writer, eqn, terms):
    params = eqn.params
    shape = integers(params["shape"])
    return Term(
        f"lax.broadcasted_iota({of_dtype(params['dtype'])}, {shape}, {params['dimension']})"
    )


def _arg(name: str) -> Rule:
    def rule(writer, eqn, terms):
        axis, dtype = eqn.params["axes"][0], of_dtype(eqn.params["index_dtype"])
        return Term(f"{name}({terms[0].text}, {axis}, {dtype})")

    return rule


def _power(writer, eqn, terms):
    return Term(f"{at_least(terms[0], ATOM)} ** {eqn.params['y']}", POWER)


def _division(writer, eqn, terms):
    if eqn.invars[0].aval.dtype.kind in "iu":
        return Term(f"lax.div({', '.join(as_arrays(eqn, terms))})")
    return infix("/", PRODUCT)(writer, eqn, terms)


def _round(writer, eqn, terms):
    if int(eqn.params["rounding_method"]) == 1:
        return Term(f"jnp.round({terms[0].text})")
    return Term(f"lax.round({as_arrays(eqn, terms)[0]}, lax.RoundingMethod.AWAY_FROM_ZERO)")


def _not(writer, eqn, terms):
    return Term(f"~{at_least(terms[0], ATOM)}", POWER)


def _compared(sign: str) -> Rule:
    def rule(writer, eqn, terms):
        left, right = (at_least(term, SUM) for term in terms)
        return Term(f"({left} {sign} {right})")

    return _with_array(rule)


def _polynomial(writer, eqn, terms):
    x, *coefficients = terms
    total = coefficients[-1]
    for coefficient in coefficients[-2::-1]:  # the lowest degree comes first
        product = Term(f"{at_least(total, PRODUCT)} * {at_least(x, PRODUCT + 1)}", PRODUCT)
        total = Term(f"{product.text} + {at_least(coefficient, SUM + 1)}", SUM)
    return Term(f"jnp.zeros_like({x.text}) + ({total.text})", SUM)


def _sort(writer, eqn, terms):
    params = eqn.params
    text = f"lax.sort(({', '.join(as_arrays(eqn, terms))},), dimension={params['dimension']}"
    text += f", is_stable={params['is_stable']}, num_keys={params['num_keys']})"
    return Several(text, listed)


def _split(writer, eqn, terms):
    return Several(
        f"lax.split({terms[0].text}, {integers(eqn.params['sizes'])}, {eqn.params['axis']})",
        listed,
    )


def _top_k(writer, eqn, terms):
    return Several(f"lax.top_k({terms[0].text}, {eqn.params['k']})", listed)


_CALLS = {
    **{name: f"jnp.{name}" for name in [
        "exp", "exp2", "expm1", "log", "log1p", "log2", "sqrt", "cbrt", "sin", "cos", "tan",
        "sinh", "cosh", "tanh", "sign", "floor", "ceil", "square", "logaddexp", "logaddexp2",
        "real", "imag", "conj"]},
    **{f"a{name}": f"jnp.arc{name}" for name in ["sin", "cos", "tan", "sinh", "cosh", "tanh"]},
    **{name: f"lax.{name}" for name in [
        "rsqrt", "erf", "erfc", "erf_inv", "lgamma", "digamma", "is_finite", "population_count",
        "igamma", "igammac", "random_gamma_grad", "bessel_i0e", "bessel_i1e",
        "regularized_incomplete_beta", "clz"]},
    "abs": "jnp.abs", "max": "jnp.maximum", "min": "jnp.minimum", "logistic": "jax.nn.sigmoid",
    "atan2": "jnp.arctan2", "stop_gradient": "lax.stop_gradient", "relu": "jax.nn.relu",
    "relu6": "jax.nn.relu6", "xlogy": "jax.scipy.special.xlogy",
    "xlog1py": "jax.scipy.special.xlog1py",
}  # fmt: skip

_TABLE: dict[str, Rule] = {
    **CONTROL,
    **{name: call(function) for name, function in _CALLS.items()},
    **{name: _strict(f"lax.{name}") for name in [
        "rem", "pow", "nextafter", "shift_left", "shift_right_logical",
        "shift_right_arithmetic", "polygamma", "zeta"]},
    **{name: _strict(f"lax.{name}", "axis", "reverse")
       for name in ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")},
    **{name: _reduction(f"jnp.{function}") for name, function in (
        ("reduce_sum", "sum"), ("reduce_max", "max"), ("reduce_min", "min"),
        ("reduce_prod", "prod"), ("reduce_and", "all"), ("reduce_or", "any"))},
    **{name: _compared(sign) for name, sign in (
        ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("eq", "=="), ("ne", "!="))},
    **{name: lambda writer, eqn, terms: terms[0] for name in (
        "copy", "copy_p", "name", "device_put", "sharding_constraint")},
    "clamp": _strict("lax.clamp"),
    "add": _with_array(lambda writer, eqn, terms: added(writer, *terms)),
    "add_any": _with_array(lambda writer, eqn, terms: added(writer, *terms)),
    "sub": _with_array(infix("-", SUM)),
    "mul": _with_array(infix("*", PRODUCT)),
    "div": _with_array(_division),
    "neg": _with_array(lambda writer, eqn, terms: negated(terms[0])),
    "integer_pow": _with_array(_power),
    "and": lambda w, e, t: Term(f"({at_least(t[0], ATOM)} & {at_least(t[1], ATOM)})"),
    "or": lambda w, e, t: Term(f"({at_least(t[0], ATOM)} | {at_least(t[1], ATOM)})"),
    "xor": lambda w, e, t: Term(f"({at_least(t[0], ATOM)} ^ {at_least(t[1], ATOM)})"),
    "not": _not,
    "round": _round,
    "one_minus_square": lambda w, e, t: Term(f"1 - {at_least(t[0], ATOM)} ** 2", SUM),
    "polynomial": _polynomial,
    "dot_general": _dot,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "convert_element_type": _convert,
    "select_n": _select,
    "slice": _slice,
    "pad": _pad,
    "rev": _strict("lax.rev", "dimensions"),
    "concatenate": _joined("jnp.concatenate", "dimension"),
    "stack": _joined("jnp.stack", "axis"),
    "tile": lambda w, e, t: Term(f"jnp.tile({as_arrays(e, t)[0]}, {integers(e.params['reps'])})"),
    "split": _split,
    "sort": _sort,
    "top_k": _top_k,
    "gather": _gather,
    "scatter": _scatter("lax.scatter"),
    "scatter-add": _scatter("lax.scatter_add"),
    "scatter_add": _scatter("lax.scatter_add"),
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "iota": _iota,
    "argmax": _arg("lax.argmax"),
    "argmin": _arg("lax.argmin"),
    "reduce_precision": _strict("lax.reduce_precision", "exponent_bits", "mantissa_bits"),
}  # fmt: skip
