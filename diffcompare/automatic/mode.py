"""Automatic differentiation, by JAX's own two modes."""

import dataclasses

import jax

from diffcompare.method import JvpMethod, VjpMethod


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ForwardMode(JvpMethod):
    """Forward-mode automatic differentiation, `jax.jvp`.

    A slope costs about two evaluations of the function, so a gradient by `n` entries
    costs about `2 * n`. It is the method of choice for few inputs and many outputs.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> fun = lambda t: jnp.stack([jnp.cos(t), jnp.sin(t)])
        >>> dc.jacobian(fun, method=dc.ForwardMode())(0.0).tolist()
        [-0.0, 1.0]

    References:
        Griewank and Walther, "Evaluating Derivatives", 2nd ed., SIAM, 2008, chapter 3.1.
    """

    def jvp(self, fun, x, v):
        return jax.jvp(fun, (x,), (v,))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ReverseMode(VjpMethod):
    """Reverse-mode automatic differentiation, `jax.vjp`: backpropagation.

    A gradient costs about two to four evaluations of the function, however many entries
    it has, and the memory for every intermediate value.

    Example:
        >>> import jax.numpy as jnp
        >>> import diffcompare as dc
        >>> fun = lambda x: jnp.sum(x**2)
        >>> dc.grad(fun, method=dc.ReverseMode())(jnp.array([1.0, 2.0])).tolist()
        [2.0, 4.0]

    References:
        Griewank and Walther, "Evaluating Derivatives", 2nd ed., SIAM, 2008, chapter 3.2.
    """

    def vjp(self, fun, x, *, has_aux=False):
        value, pullback, *aux = jax.vjp(fun, x, has_aux=has_aux)
        return value, lambda u: pullback(u)[0], *aux
