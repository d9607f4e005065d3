"""What a way to differentiate has to provide: the narrow waist of the package."""

import abc
from collections.abc import Callable
from typing import Any

PyTree = Any
Pullback = Callable[[PyTree], PyTree]


class Method(abc.ABC):  # noqa: B024, what is abstract stands in the classes below
    """A way to differentiate a function.

    A method is a frozen dataclass, so it has a readable repr, can be compared and
    hashed, and can be passed to a compiled function. It is final, and implements one or
    more of the abstract classes below; `diffcompare.grad` and its siblings derive
    everything else from what is there.

    In all of them `fun` takes one pytree of floating-point arrays and returns a pytree
    of floating-point arrays. Nothing needs to be validated: the operators have done so.
    """


class JvpMethod(Method):
    """A method that finds the slope along one direction."""

    @abc.abstractmethod
    def jvp(self, fun: Callable, x: PyTree, v: PyTree) -> tuple[PyTree, PyTree]:
        """Returns the value of `fun` at `x`, and its slope along `v`.

        Args:
            fun: Function of one pytree.
            x: Where to differentiate.
            v: The direction, with the structure, shapes and dtypes of `x`.

        Returns:
            The value and the slope, both with the structure, shapes and dtypes of
            `fun(x)`.
        """


class VjpMethod(Method):
    """A method that finds all partial derivatives of one weighted sum of outputs."""

    @abc.abstractmethod
    def vjp(
        self, fun: Callable, x: PyTree, *, has_aux: bool = False
    ) -> tuple[PyTree, Pullback] | tuple[PyTree, Pullback, PyTree]:
        """Returns the value of `fun` at `x`, and its pullback.

        Args:
            fun: Function of one pytree; where `has_aux` is true it returns a pair of
                the value and auxiliary data.
            x: Where to differentiate.
            has_aux: Whether `fun` returns auxiliary data beside its value.

        Returns:
            The value, the pullback, and the auxiliary data where `has_aux` is true. The
            pullback takes weights with the structure, shapes and dtypes of the value,
            and returns a pytree with those of `x`. It is linear in the weights, and
            works under `jax.vmap`.
        """


class ColumnMethod(JvpMethod):
    """A method that has a better way to whole Jacobians than one slope at a time.

    The operators compile what such a method does, once for each shape of the arguments.
    """

    @abc.abstractmethod
    def check(self, x: PyTree) -> None:
        """Raises `ValueError` where the concrete values of `x` do not suit the method.

        It is called before anything is compiled. Traced leaves cannot be checked.
        """

    @abc.abstractmethod
    def columns(self, fun: Callable, x: PyTree) -> PyTree:
        """Returns the partial derivatives of `fun` at `x` by every entry of `x`.

        Returns:
            A pytree with the structure of `x`. In place of a leaf it has a pytree with
            the structure of `fun(x)`, whose leaves have shape `(leaf.size, *out.shape)`.
        """

    @abc.abstractmethod
    def nested(self) -> tuple["ColumnMethod", "ColumnMethod"]:
        """Returns the outer and the inner method for a second derivative.

        The step that suits a first derivative is too small for a second one.
        """
