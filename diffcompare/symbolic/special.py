"""Special functions of statistics and physics, with the derivatives that they have.

References:
    Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, chapters 6 and 9.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import sympy
from jax import lax
from sympy import S

from diffcompare.symbolic.functions import RealFunction, signum


class SpecialFunction(RealFunction):
    """A function that is left as it is, also for numbers."""

    @classmethod
    def eval(cls, *args):
        return None

    def without(self, parameter: str) -> NotImplementedError:
        """Returns the error for a derivative that has no formula here."""
        return NotImplementedError(
            f"Symbolic has no derivative of {type(self).__name__} by its parameter {parameter}. "
            "Use a numerical method such as CentralDifference()."
        )


class igamma(SpecialFunction):
    """igamma(a, x): the lower incomplete gamma function, divided by gamma(a)."""

    nargs = 2

    def fdiff(self, argindex=1):
        a, x = self.args
        if argindex == 1:
            return igamma_grad_a(a, x)
        return _gamma_density(a, x)


class igammac(SpecialFunction):
    """igammac(a, x): 1 - igamma(a, x)."""

    nargs = 2

    def fdiff(self, argindex=1):
        a, x = self.args
        return -igamma_grad_a(a, x) if argindex == 1 else -_gamma_density(a, x)


class igamma_grad_a(SpecialFunction):
    """igamma_grad_a(a, x): the derivative of igamma(a, x) by a."""

    nargs = 2

    def fdiff(self, argindex=1):
        a, x = self.args
        if argindex == 1:
            raise self.without("a")
        return _gamma_density(a, x) * (sympy.log(x) - sympy.polygamma(0, a))


class incomplete_beta(SpecialFunction):
    """incomplete_beta(a, b, x): the incomplete beta function, divided by beta(a, b)."""

    nargs = 3

    def fdiff(self, argindex=1):
        a, b, x = self.args
        if argindex != 3:
            raise self.without("ab"[argindex - 1])
        scale = sympy.loggamma(a + b) - sympy.loggamma(a) - sympy.loggamma(b)
        return sympy.exp((a - 1) * sympy.log(x) + (b - 1) * sympy.log(1 - x) + scale)


class bessel_i0e(SpecialFunction):
    """bessel_i0e(x): exp(-|x|) I0(x)."""

    nargs = 1

    def fdiff(self, argindex=1):
        (x,) = self.args
        return bessel_i1e(x) - signum(x, S.Zero) * self


class bessel_i1e(SpecialFunction):
    """bessel_i1e(x): exp(-|x|) I1(x)."""

    nargs = 1

    def fdiff(self, argindex=1):
        (x,) = self.args
        # Near 0 the quotient by x is 1/2.
        quotient = sympy.Piecewise((self / x, sympy.Ne(x, 0)), (S.Half, True), evaluate=False)
        return bessel_i0e(x) - signum(x, S.Zero) * self - quotient


def _gamma_density(a, x):
    return sympy.exp(-x + (a - 1) * sympy.log(x) - sympy.loggamma(a))


class hurwitz_zeta(SpecialFunction):
    """hurwitz_zeta(s, q): the sum of (q + k)**-s."""

    nargs = 2

    def fdiff(self, argindex=1):
        s, q = self.args
        if argindex == 1:
            raise self.without("s")
        return -s * hurwitz_zeta(s + 1, q)


ROWS: dict[str, Callable[..., Any]] = {
    "bessel_i0e": bessel_i0e,
    "bessel_i1e": bessel_i1e,
    "igamma": igamma,
    "igamma_grad_a": igamma_grad_a,
    "igammac": igammac,
    "polygamma": sympy.polygamma,
    "regularized_incomplete_beta": incomplete_beta,
    "zeta": hurwitz_zeta,
}


def _alike(function):
    return lambda *xs: function(*jnp.broadcast_arrays(*xs))


# The JAX code of each.
EVALUATION: dict[type, Callable[..., Any]] = {
    bessel_i0e: lax.bessel_i0e,
    bessel_i1e: lax.bessel_i1e,
    hurwitz_zeta: _alike(lax.zeta),
    igamma: _alike(lax.igamma),
    igamma_grad_a: _alike(lax.igamma_grad_a),
    igammac: _alike(lax.igammac),
    incomplete_beta: _alike(lax.betainc),
}
