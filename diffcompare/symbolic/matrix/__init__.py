r"""Closed forms and backpropagation in matrix notation, at any width.

A traced function is read as an expression in scalars, vectors and matrices, and
differentiated in reverse: a rule for each operation of matrix calculus, equal expressions
made once. What comes out is what one writes by hand, and a JAX function that costs what
`jax.grad` costs.

References:
    Petersen and Pedersen, "The Matrix Cookbook", 2012, section 2.
    Laue, Mitterreiter and Giesen, "Computing Higher Order Derivatives of Matrix and Tensor
    Expressions", NeurIPS 2018.
"""

from collections.abc import Sequence

from diffcompare.symbolic import names as naming
from diffcompare.symbolic.convention import Convention
from diffcompare.symbolic.matrix.building import build, distributions
from diffcompare.symbolic.matrix.derivation import MatrixDerived
from diffcompare.symbolic.trace import Trace

__all__ = ["MatrixDerived", "derive"]


def derive(
    traced: Trace,
    names: Sequence[str],
    convention: Convention,
    wanted: Sequence[int] | None = None,
) -> MatrixDerived:
    """Returns the gradient of a scalar function in matrix symbols.

    Targets whose entries sum to 1 (one-hot, or a leaf whose values do so where the function
    was traced) make the formulas simpler, softmax(z) - y; `assumptions` says so. The code,
    and `run`, assume nothing.

    Args:
        traced: The function, of all its arguments.
        names: What each leaf is called.
        convention: What the derivative is at a kink.
        wanted: The leaves to differentiate by; None is all of them.

    Raises:
        UnknownPrimitiveError: The value depends on something that is no operation on
            scalars, vectors and matrices. It is a `NotImplementedError` that names the
            primitive and where it was used.
        ValueError: The output is not a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from diffcompare.symbolic.trace import trace
        >>> def loss(args):
        ...     W, x, y = args
        ...     return jnp.sum(jnp.square(y - W @ x)) / 2
        >>> traced = trace(loss, (jnp.ones((2, 3)), jnp.ones(3), jnp.ones(2)))
        >>> derived = derive(traced, ["W", "x", "y"], Convention.jax(), wanted=[0])
        >>> derived.text(0)
        'dL/dW = (W x - y) x^T'
        >>> [step.text for step in derived.steps()]
        ['z1 = W x', 'L = 1/2 ||y - z1||^2', 'delta1 = z1 - y', 'dL/dW = delta1 x^T']
    """
    wanted = range(len(traced.leaves)) if wanted is None else list(wanted)
    exact = build(traced, wanted, convention)
    assumed = distributions(traced, wanted)
    shown = build(traced, wanted, convention, assumed)
    shown = shown if shown.graph.relied_on else exact
    stem = naming.prefix(names, ("k", "c", "const"))
    closed = [f"{stem}{number + 1}" for number in range(len(traced.constants))]
    return MatrixDerived(exact, shown, [*names, *closed], wanted, len(traced.leaves))
