"""Functions that work entry by entry, their names, and their derivatives.

A function is either known here, with a derivative written by hand, or met in the user's
program as a call with a name; then its body says what it is, and its derivative is derived.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.matrix.algebra import Algebra
from diffcompare.symbolic.matrix.nodes import Node


class Function(NamedTuple):
    """A function of one variable."""

    text: str  # its name
    latex: str
    code: str  # of the value, with {} for the argument
    slope: Callable[[Algebra, Node], Node] | None = None  # None writes f'(z), which is defined:
    slope_text: str = ""  # with {} for the argument
    slope_latex: str = ""
    slope_code: str = ""


def known(convention: Convention) -> dict[str, Function]:
    """Returns the functions that need no definition, by name."""
    kinks = {"relu": convention.relu, "maximum_of_zero": convention.maximum_of_zero}
    rectified = {name: _relu(kink) for name, kink in kinks.items()}
    absolute = Function(
        "abs", r"\mathrm{abs}", "jnp.abs({})",
        slope_text=f"sign({{}}), {convention.absolute:g} at 0",
        slope_latex=r"\mathrm{{sign}}({})",
        slope_code=f"jnp.where({{0}} == 0, {convention.absolute!r}, jnp.sign({{0}}))",
    )  # fmt: skip
    relu6 = Function(
        "relu6", r"\mathrm{relu6}", "jnp.clip({}, 0, 6)",
        slope_text=f"1 where 0 < {{0}} < 6, {convention.relu:g} at 0, 0 elsewhere",
        slope_latex=r"[0 < {} < 6]",
        slope_code=f"jnp.where({{0}} < 6, {_step(convention.relu)}, 0)",
    )  # fmt: skip
    return {**_SMOOTH, **rectified, "abs": absolute, "relu6": relu6}


def _relu(kink: float) -> Function:
    at_zero = Fraction(kink).limit_denominator(1000)
    return Function(
        "relu", r"\mathrm{relu}", "jnp.maximum({}, 0)",
        slope_text=f"1 where {{}} > 0, {at_zero} at 0, 0 elsewhere",
        slope_latex=rf"[{{0}} > 0] + {at_zero}\,[{{0}} = 0]" if kink else "[{} > 0]",
        slope_code=_step(kink),
    )  # fmt: skip


def _step(kink: float) -> str:
    if kink in (0, 1):
        return f"({{0}} {'>=' if kink else '>'} 0).astype({{0}}.dtype)"
    return f"jnp.heaviside({{0}}, jnp.asarray({kink!r}, {{0}}.dtype))"


def _inverse_of_one_plus_square(graph, x):
    return graph.power(graph.add(graph.constant(1), graph.power(x, 2)), -1)


def _gaussian(sign):
    def slope(graph, x):
        factor = graph.constant(sign * 2 / math.sqrt(math.pi))
        return graph.multiply(factor, graph.apply("exp", graph.scale(-1, graph.power(x, 2))))

    return slope


_SMOOTH = {
    "exp": Function("exp", r"\exp", "jnp.exp({})", lambda g, x: g.apply("exp", x)),
    "expm1": Function("expm1", r"\mathrm{expm1}", "jnp.expm1({})",
                      lambda g, x: g.apply("exp", x)),
    "log": Function("log", r"\log", "jnp.log({})", lambda g, x: g.power(x, -1)),
    "log1p": Function("log1p", r"\mathrm{log1p}", "jnp.log1p({})",
                      lambda g, x: g.power(g.add(g.constant(1), x), -1)),
    "sin": Function("sin", r"\sin", "jnp.sin({})", lambda g, x: g.apply("cos", x)),
    "cos": Function("cos", r"\cos", "jnp.cos({})",
                    lambda g, x: g.scale(-1, g.apply("sin", x))),
    "sinh": Function("sinh", r"\sinh", "jnp.sinh({})", lambda g, x: g.apply("cosh", x)),
    "cosh": Function("cosh", r"\cosh", "jnp.cosh({})", lambda g, x: g.apply("sinh", x)),
    "atan": Function("arctan", r"\arctan", "jnp.arctan({})", _inverse_of_one_plus_square),
    "erf": Function("erf", r"\mathrm{erf}", "jax.scipy.special.erf({})", _gaussian(1)),
    "erfc": Function("erfc", r"\mathrm{erfc}", "jax.scipy.special.erfc({})", _gaussian(-1)),
    "softplus": Function("softplus", r"\mathrm{softplus}", "jax.nn.softplus({})",
                         lambda g, x: g.apply("sigma", x)),
    "sigma": Function("sigma", r"\sigma", "jax.nn.sigmoid({})",
                      slope_text="sigma({0}) (1 - sigma({0}))",
                      slope_latex=r"\sigma({0})\,(1 - \sigma({0}))",
                      slope_code="jax.nn.sigmoid({0}) * (1 - jax.nn.sigmoid({0}))"),
    "tanh": Function("tanh", r"\tanh", "jnp.tanh({})",
                     slope_text="1 - tanh({})^2", slope_latex=r"1 - \tanh({})^2",
                     slope_code="1 - jnp.tanh({}) ** 2"),
}  # fmt: skip

# The functions that a primitive is.
PRIMITIVES = {
    "abs": "abs", "atan": "atan", "cos": "cos", "cosh": "cosh", "erf": "erf", "erfc": "erfc",
    "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p", "logistic": "sigma",
    "sin": "sin", "sinh": "sinh", "tanh": "tanh",
}  # fmt: skip


def slope(graph: Algebra, functions: dict[str, Function], name: str, x: Node) -> Node:
    """Returns the derivative of a function at a node."""
    rule = functions[name].slope
    return graph.slope(name, x) if rule is None else rule(graph, x)
