"""SymPy functions that SymPy lacks, or differentiates otherwise than numbers need.

Each knows its derivative (`fdiff`). Where a function has a kink, its value there is an
argument, so that an expression says which convention it follows. All are real for real
arguments. Derivatives are written so that they lose no digits: sigma(x) sigma(-x) where
the textbook has sigma(x) (1 - sigma(x)), which is 0 for large x.
"""

import sympy
from sympy import S


class RealFunction(sympy.Function):
    """A function that is real for real arguments, and a number for numbers."""

    @classmethod
    def eval(cls, *args):
        return cls.on_numbers(*args) if all(arg.is_number for arg in args) else None

    @classmethod
    def on_numbers(cls, *args):
        """Returns the value at numbers, in functions that SymPy can evaluate to any digit."""
        raise NotImplementedError(cls.__name__)

    def _eval_is_extended_real(self):
        return True


class FlatFunction(RealFunction):
    """A function whose derivative is 0 wherever it has one."""

    def fdiff(self, argindex=1):
        return S.Zero


class step(FlatFunction):
    """step(a, b, tie): 1 where a > b, 0 where a < b, and `tie` where they are equal."""

    nargs = 3

    @classmethod
    def on_numbers(cls, a, b, tie):
        return S.One if a > b else S.Zero if a < b else tie


class signum(FlatFunction):
    """signum(x, at_zero): the sign of x, and `at_zero` where x is 0."""

    nargs = 2

    @classmethod
    def on_numbers(cls, x, at_zero):
        return at_zero if x.is_zero else sympy.sign(x)


class inside(FlatFunction):
    """inside(low, x, high): 1 where low < x < high, and 0 elsewhere."""

    nargs = 3

    @classmethod
    def on_numbers(cls, low, x, high):
        return S.One if low < x and x < high else S.Zero


class share(FlatFunction):
    """share(x, extreme, *xs): 1 / (how many of xs are extreme) where x is, and 0 elsewhere."""

    @classmethod
    def on_numbers(cls, x, extreme, *xs):
        return S.One / xs.count(extreme) if x == extreme else S.Zero


class frozen(FlatFunction):
    """frozen(x): x itself, held constant in differentiation."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return x


class floor(FlatFunction):
    """The largest integer that is not above."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return sympy.floor(x)


class ceil(FlatFunction):
    """The smallest integer that is not below."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return sympy.ceiling(x)


class round_even(FlatFunction):
    """The nearest integer, the even one of two."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        up = sympy.floor(x + S.Half)
        return up - 1 if up == x + S.Half and up.is_odd else up


class round_away(FlatFunction):
    """The nearest integer, the one farther from 0 of two."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return sympy.sign(x) * sympy.floor(abs(x) + S.Half)


class truncate(FlatFunction):
    """The number without its fraction."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return sympy.sign(x) * sympy.floor(abs(x))


class remainder(RealFunction):
    """remainder(a, b): a - b truncate(a / b), with the sign of a."""

    nargs = 2

    @classmethod
    def on_numbers(cls, a, b):
        return a - b * truncate(a / b)

    def fdiff(self, argindex=1):
        a, b = self.args
        return S.One if argindex == 1 else -truncate(a / b)


class relu(RealFunction):
    """relu(x, at_zero): the larger of x and 0."""

    nargs = 2

    @classmethod
    def on_numbers(cls, x, at_zero):
        return sympy.Max(x, 0)

    def fdiff(self, argindex=1):
        x, at_zero = self.args
        return step(x, S.Zero, at_zero)


class relu6(RealFunction):
    """relu6(x, at_zero): x between 0 and 6; its slope at 6 is 0."""

    nargs = 2

    @classmethod
    def on_numbers(cls, x, at_zero):
        return sympy.Min(sympy.Max(x, 0), 6)

    def fdiff(self, argindex=1):
        x, at_zero = self.args
        return step(x, S.Zero, at_zero) * step(S(6), x, S.Zero)


class absolute(RealFunction):
    """absolute(x, at_zero): x without its sign."""

    nargs = 2

    @classmethod
    def on_numbers(cls, x, at_zero):
        return abs(x)

    def fdiff(self, argindex=1):
        return signum(*self.args)


class maximum(RealFunction):
    """maximum(a, b, tie): the larger; at a tie its slope by a is `tie`, by b is 1 - tie."""

    nargs = 3

    @classmethod
    def eval(cls, a, b, tie):
        if S.NegativeInfinity in (a, b):
            return b if a is S.NegativeInfinity else a
        return super().eval(a, b, tie)

    @classmethod
    def on_numbers(cls, a, b, tie):
        return sympy.Max(a, b)

    def fdiff(self, argindex=1):
        a, b, tie = self.args
        return step(a, b, tie) if argindex == 1 else step(b, a, 1 - tie)


class minimum(RealFunction):
    """minimum(a, b, tie): the smaller; at a tie its slope by a is `tie`, by b is 1 - tie."""

    nargs = 3

    @classmethod
    def eval(cls, a, b, tie):
        if S.Infinity in (a, b):
            return b if a is S.Infinity else a
        return super().eval(a, b, tie)

    @classmethod
    def on_numbers(cls, a, b, tie):
        return sympy.Min(a, b)

    def fdiff(self, argindex=1):
        a, b, tie = self.args
        return step(b, a, tie) if argindex == 1 else step(a, b, 1 - tie)


class clamp(RealFunction):
    """clamp(low, x, high): x between bounds; its slope by x is 0 at both."""

    nargs = 3

    @classmethod
    def on_numbers(cls, low, x, high):
        return sympy.Min(sympy.Max(x, low), high)

    def fdiff(self, argindex=1):
        low, x, high = self.args
        if argindex == 2:
            return inside(low, x, high)
        return step(low, x, S.Zero) if argindex == 1 else step(x, high, S.Zero)


class largest(RealFunction):
    """The largest of many; its slope is shared equally by those that are."""

    @classmethod
    def on_numbers(cls, *xs):
        return sympy.Max(*xs)

    def fdiff(self, argindex=1):
        return share(self.args[argindex - 1], self, *self.args)


class smallest(RealFunction):
    """The smallest of many; its slope is shared equally by those that are."""

    @classmethod
    def on_numbers(cls, *xs):
        return sympy.Min(*xs)

    def fdiff(self, argindex=1):
        return share(self.args[argindex - 1], self, *self.args)


class logistic(RealFunction):
    """1 / (1 + exp(-x))."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return 1 / (1 + sympy.exp(-x))

    def fdiff(self, argindex=1):
        return logistic(self.args[0]) * logistic(-self.args[0])


class tanh(RealFunction):
    """The hyperbolic tangent; its slope 1 / cosh(x)**2 has digits where 1 - tanh(x)**2 is 0."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return sympy.tanh(x)

    def fdiff(self, argindex=1):
        return sympy.cosh(self.args[0]) ** -2


class log1p(RealFunction):
    """log(1 + x)."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return sympy.log(1 + x)

    def fdiff(self, argindex=1):
        return 1 / (1 + self.args[0])


class expm1(RealFunction):
    """exp(x) - 1."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return sympy.exp(x) - 1

    def fdiff(self, argindex=1):
        return sympy.exp(self.args[0])


class logaddexp(RealFunction):
    """log(exp(a) + exp(b))."""

    nargs = 2

    @classmethod
    def on_numbers(cls, a, b):
        return sympy.log(sympy.exp(a) + sympy.exp(b))

    def fdiff(self, argindex=1):
        a, b = self.args
        return logistic(a - b) if argindex == 1 else logistic(b - a)


class logaddexp2(RealFunction):
    """log2(2**a + 2**b)."""

    nargs = 2

    @classmethod
    def on_numbers(cls, a, b):
        return sympy.log(2**a + 2**b) / sympy.log(2)

    def fdiff(self, argindex=1):
        a, b = self.args
        scale = sympy.log(2)
        return logistic(scale * (a - b)) if argindex == 1 else logistic(scale * (b - a))


class xlogy(RealFunction):
    """x log(y), and 0 where x is 0."""

    nargs = 2

    @classmethod
    def on_numbers(cls, x, y):
        return S.Zero if x.is_zero else x * sympy.log(y)

    def fdiff(self, argindex=1):
        x, y = self.args
        return sympy.log(y) if argindex == 1 else x / y


class xlog1py(RealFunction):
    """x log(1 + y), and 0 where x is 0."""

    nargs = 2

    @classmethod
    def on_numbers(cls, x, y):
        return S.Zero if x.is_zero else x * sympy.log(1 + y)

    def fdiff(self, argindex=1):
        x, y = self.args
        return log1p(y) if argindex == 1 else x / (1 + y)


class cbrt(RealFunction):
    """The real cube root."""

    nargs = 1

    @classmethod
    def on_numbers(cls, x):
        return sympy.real_root(x, 3)

    def fdiff(self, argindex=1):
        return cbrt(self.args[0]) ** -2 / 3


class power(RealFunction):
    """power(a, b): a to the power b, where neither is known; 0 to the power 0 is 1."""

    nargs = 2

    @classmethod
    def eval(cls, a, b):
        return a**b if b.is_number or (a.is_number and a.is_positive) else None

    def fdiff(self, argindex=1):
        a, b = self.args
        if argindex == 1:
            return otherwise_zero(b * power(a, b - 1), sympy.Ne(b, 0))
        # 0**b is flat for b > 0 and falls without bound from there down.
        return otherwise_zero(power(a, b) * sympy.log(a), sympy.Ne(a, 0) | (b < 0))


def otherwise_zero(expression, condition):
    """Returns an expression where a condition holds, and 0 elsewhere."""
    return sympy.Piecewise((expression, condition), (S.Zero, True), evaluate=False)
