"""What a route of symbolic differentiation gives: the seam between routes and their users."""

import abc
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

Array = Any


class Step(NamedTuple):
    """One line of a derivation: an intermediate value, a delta, or a gradient."""

    phase: Literal["forward", "backward", "gradient"]
    name: str  # what the line defines, as text: "z1", "delta1", "dL/dW1"
    text: str  # the whole line as text, "z1 = W1 x"
    latex: str  # the whole line in LaTeX, without delimiters


class Derived(abc.ABC):
    """A function of flat arrays with a scalar output, and its gradient, as one route wrote them.

    `index` counts the leaves that were differentiated, in the order of the argument.
    """

    @property
    @abc.abstractmethod
    def operations(self) -> int:
        """How many operations the value and all gradients have, each shared one counted once."""

    @abc.abstractmethod
    def run(self, constants: Sequence[Array], leaves: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Returns the value and the gradient by each leaf; JAX can trace it.

        Args:
            constants: Arrays that the function closes over, in the order of the trace.
            leaves: The leaves of all arguments.
        """

    @abc.abstractmethod
    def latex(self, index: int) -> str:
        """Returns the gradient by one leaf as a formula in LaTeX, without delimiters."""

    @abc.abstractmethod
    def text(self, index: int) -> str:
        """Returns the gradient by one leaf as a formula in plain text."""

    @abc.abstractmethod
    def steps(self) -> tuple[Step, ...]:
        """Returns the derivation line by line: forward, backward, gradients."""

    @property
    def held(self) -> Sequence[Array]:
        """Further arrays that the code takes by keyword, after those that are closed over."""
        return ()

    def definitions(self) -> tuple[Step, ...]:
        """Returns what the functions in the formulas mean that need it, such as sigma'."""
        return ()

    @abc.abstractmethod
    def source(self) -> str:
        """Returns readable Python code of a JAX function that gives the value and the gradients."""

    @abc.abstractmethod
    def expression(self, index: int) -> Any:
        """Returns the gradient by one leaf as the route's own expression."""
