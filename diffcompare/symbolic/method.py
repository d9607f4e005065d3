"""Symbolic differentiation as a method."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from diffcompare.method import JvpMethod, VjpMethod
from diffcompare.symbolic.budget import DEFAULT, Budget
from diffcompare.symbolic.convention import (
    Convention,
    Rules,
    check_convention,
    check_rules,
)

Route = Literal["auto", "program", "expression", "matrix"]
_ROUTES = ("auto", "program", "expression", "matrix")


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Symbolic(JvpMethod, VjpMethod):
    """Symbolic differentiation: SymPy derives, JAX evaluates.

    The function is traced, every operation becomes an expression, and the rules of
    calculus are applied to expressions, not to numbers. What comes out is a program for
    the derivative, exact up to rounding, which runs under `jax.jit` and `jax.vmap`. It is
    derived when the function is traced: at each call, or once for each shape under
    `jax.jit`. Arrays that the function closes over are inputs of the derivative, so they
    may be traced.

    Custom derivative rules are not consulted unless asked for, since a rule says what its
    author wants the derivative to be, and the subject here is what it is. Known functions
    (`relu`, `relu6`, `logaddexp`, `logaddexp2`, `xlogy`, `xlog1py`) are differentiated as
    the functions that they are either way.

    Attributes:
        route: How the derivative is written. "program" has one symbol for each operation
            and applies the chain rule to one after the other; it is as long as the
            function. "expression" writes every entry of the result as one formula in the
            entries of the argument, as a textbook would, and swells; it is refused
            beyond its budget. "matrix" has matrix symbols, as one writes networks by
            hand, and takes functions with a scalar output. "auto" takes "program"; see
            `derive` for formulas.
        convention: What the derivative is at a kink; None is `Convention.jax()`.
        rules: What a function with a custom derivative rule is taken for: "math"
            differentiates its body, "jax" asks its rule, as JAX does.
        budget: How large a formula may become, and how long it may take; for the route
            "expression".

    Raises:
        ValueError: There is no such route.
        NotImplementedError: The route is "matrix" and the output no scalar, or a custom
            rule would have to be asked; or an expression is beyond its budget.
        UnknownPrimitiveError: The function has an operation that no rule is known for. It
            is a `NotImplementedError` that names the primitive and where it was used.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> loss = lambda w: jnp.square(w[1] * jnp.maximum(0, 5 * w[0]) - 2) / 2
        >>> dc.grad(loss, method=dc.Symbolic())(jnp.array([1.0, 2.0])).tolist()
        [80.0, 40.0]

    References:
        Laue, "On the equivalence of automatic and symbolic differentiation", 2019,
        arXiv:1904.02990.
    """

    route: Route = "auto"
    convention: Convention | None = None
    rules: Rules = "math"
    budget: Budget = DEFAULT

    def __post_init__(self):
        if self.route not in _ROUTES:
            raise ValueError(
                f"route must be one of {', '.join(map(repr, _ROUTES))}, but it is {self.route!r}."
            )
        check_convention(self.convention)
        check_rules(self.rules)

    def vjp(self, fun, x, *, has_aux=False):
        if self.route == "matrix":
            value, gradient = self._matrix((lambda x: fun(x)[0]) if has_aux else fun, x)

            def scaled(weight):
                return jax.tree.map(lambda g: g * weight.astype(g.dtype), gradient)

            return (value, scaled, fun(x)[1]) if has_aux else (value, scaled)
        traced, outputs, _, pull = self._derived(fun, x, has_aux)
        value = traced.value(outputs)

        def pullback(weights):
            gradients = pull(jax.tree.leaves(weights))
            return jax.tree.unflatten(traced.inputs, gradients)

        return (value, pullback, traced.auxiliary(outputs)) if has_aux else (value, pullback)

    def jvp(self, fun, x, v):
        if self.route == "matrix":
            value, gradient = self._matrix(fun, x)
            parts = jax.tree.leaves(jax.tree.map(lambda g, t: jnp.vdot(g, t), gradient, v))
            return value, sum(part.astype(value.dtype) for part in parts)
        traced, outputs, push, _ = self._derived(fun, x)
        return traced.value(outputs), traced.value(push(jax.tree.leaves(v)))

    def _matrix(self, fun, x):
        """Returns the value of a scalar function, and its gradient."""
        from diffcompare.symbolic.routes import matrix_derived
        from diffcompare.symbolic.trace import trace

        traced = trace(fun, x)
        shapes = [aval.shape for aval in traced.jaxpr.out_avals]
        if shapes != [()]:
            raise NotImplementedError(
                "Symbolic(route='matrix') needs a function with one scalar output, but it has "
                f"outputs of the shapes {', '.join(map(str, shapes)) or 'of none'}. Use "
                "route='program', or reduce it first, for example with jnp.sum."
            )
        labels = [f"x{position + 1}" for position in range(len(traced.leaves))]
        wanted = range(len(labels))
        convention = self.convention or Convention.jax()
        derived = matrix_derived(traced, labels, convention, wanted, self.rules)
        value, gradients = derived.run(traced.constants, traced.leaves)
        return value, jax.tree.unflatten(traced.inputs, gradients)

    def _derived(self, fun, x, has_aux=False):
        """Returns the trace, the outputs, and how slopes and weights cross the function."""
        # SymPy is loaded here: importing the package must not.
        from diffcompare.symbolic import expression, program
        from diffcompare.symbolic.trace import trace

        traced = trace(fun, x, has_aux)
        convention = self.convention or Convention.jax()
        if self.route == "expression":
            jacobian = expression.derive(
                traced.jaxpr,
                sum(traced.is_active),
                convention,
                self.budget,
                honoured=self.rules,
                point=traced.leaves,
            )
            values = jacobian.run(traced.constants, traced.leaves)
            return traced, values.outputs, values.push, values.pull
        derived = program.derive(traced.jaxpr, [True] * len(traced.leaves), convention, self.rules)
        env = derived.run(traced.constants, traced.leaves)
        outputs = derived.values(env)
        aux = [None] * (len(outputs) - sum(traced.is_active))
        return (
            traced,
            [jnp.asarray(output) for output in outputs],
            lambda tangents: derived.push(env, tangents),
            lambda weights: derived.pull(env, [*weights, *aux]),
        )
