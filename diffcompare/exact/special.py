"""Special functions of mpmath numbers, with the special values of floating point."""

from collections.abc import Callable, Mapping
from typing import Any

from diffcompare.exact.elementary import holds_exponential, is_special, unary

Context = Any


def rules(m: Context) -> Mapping[str, Callable[..., Any]]:
    """Returns a function of numbers of the context `m` for every special primitive."""
    return {**_errors(m), **_gammas(m), **_incomplete(m), **_bessel(m)}


def _errors(m):
    def erf_inv(x):
        return m.erfinv(x) if abs(x) < 1 else x * m.inf

    def erfc(x):
        if x < 2**100:
            return m.erfc(x)
        holds_exponential(-x * x)
        # mpmath's own puts x**2 into a float. Abramowitz and Stegun, 7.1.23.
        with m.workprec(m.prec + 2 * m.mag(x)):
            total, term, k = m.zero, m.one, 1
            while abs(term) > m.eps:
                total, term, k = total + term, -term * k / (2 * x * x), k + 2
            found = m.exp(-x * x) * total / (x * m.sqrt(m.pi))
        return +found

    return {
        "erf": unary(m, m.erf, 1, -1),
        "erfc": unary(m, erfc, 0, 2),
        "erf_inv": unary(m, erf_inv, m.nan, m.nan, lambda x: abs(x) <= 1),
    }


def _gammas(m):
    is_pole = lambda x: x <= 0 and m.isint(x)

    def lgamma(x):
        if is_pole(x):
            return m.inf
        if x > 0:
            return m.loggamma(x)
        # The reflection formula; both terms are real.
        return m.log(m.pi / abs(m.sinpi(x))) - m.loggamma(1 - x)

    def polygamma(order, x):
        if is_special(order) or order < 0 or not m.isint(order) or x != x:
            return m.nan
        if is_special(x) or is_pole(x):
            if order == 0:
                return m.inf if x > 0 else m.nan if x else -m.inf
            return m.inf if x <= 0 and int(order) % 2 else m.nan
        return m.re(m.psi(int(order), x))  # of high orders it is complex to mpmath

    def zeta(s, q):
        if is_special(s) or is_special(q) or s < 1:
            return m.nan
        if s == 1:
            return m.inf
        if q > 0:
            return m.zeta(s, q)
        if is_pole(q) or not m.isint(s):
            return m.inf if is_pole(q) and m.isint(s) and int(s) % 2 == 0 else m.nan
        steps = 1 - int(m.floor(q))
        return m.fsum((q + k) ** -int(s) for k in range(steps)) + m.zeta(s, q + steps)

    return {
        "lgamma": unary(m, lgamma, m.inf, m.inf),
        "digamma": unary(m, lambda x: polygamma(m.zero, x), m.inf, m.nan),
        "polygamma": polygamma,
        "zeta": zeta,
    }


def _incomplete(m):
    """The incomplete gamma and beta functions, regularised."""

    def is_outside(a, x):
        return a != a or x != x or a <= 0 or x < 0 or (is_special(a) and is_special(x))

    def igamma(a, x):
        if a == 0 and x > 0:
            return m.one
        if is_outside(a, x):
            return m.nan
        if x == 0 or is_special(a):
            return m.zero
        return m.one if is_special(x) else m.gammainc(a, 0, x, regularized=True)

    def igammac(a, x):
        if a == 0 and x > 0:
            return m.zero
        if is_outside(a, x):
            return m.nan
        if x == 0 or is_special(a):
            return m.one
        return m.zero if is_special(x) else m.gammainc(a, x, m.inf, regularized=True)

    def by_order(a, x):
        if is_outside(a, x):
            return m.nan
        return m.zero if x == 0 or is_special(x) else _slope(m, lambda order: igamma(order, x), a)

    def density(a, x):
        return m.exp((a - 1) * m.log(x) - x - m.loggamma(a))

    def of_sample(a, x):
        if is_outside(a, x) or is_special(a) or is_special(x):
            return m.nan
        return -by_order(a, x) / density(a, x) if x else m.zero

    def beta(a, b, x):
        if any(map(is_special, (a, b, x))) or a <= 0 or b <= 0 or not 0 <= x <= 1:
            return m.nan
        return m.betainc(a, b, 0, x, regularized=True)

    return {
        "igamma": igamma,
        "igammac": igammac,
        "igamma_grad_a": by_order,
        "random_gamma_grad": of_sample,
        "regularized_incomplete_beta": beta,
    }


def _slope(m, function, x):
    """Returns a derivative to the precision in use, by a central difference of order 4.

    With thrice the digits and a step of a fifth of them neither truncation nor rounding shows.
    """
    bits = m.prec
    with m.workprec(3 * bits + 40):
        h = m.ldexp(x, -(bits // 4) - 8)
        near = function(x + h) - function(x - h)
        far = function(x + 2 * h) - function(x - 2 * h)
        slope = (8 * near - far) / (12 * h)
    return +slope


def _bessel(m):
    def scaled(order):
        return lambda x: m.exp(-abs(x)) * m.besseli(order, x)

    return {
        "bessel_i0e": unary(m, scaled(0), 0, 0),
        "bessel_i1e": unary(m, scaled(1), 0, 0),
    }
