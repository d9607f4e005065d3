"""How much work a formula may be: so many operations, and so many seconds."""

import dataclasses
import time

ADVICE = (
    "Use route='program', whose size is that of the function, or route='matrix' for networks of "
    "matrix products"
)


@dataclasses.dataclass(frozen=True)
class Budget:
    """How large a formula of the route "expression" may become, and how long it may take.

    Attributes:
        operations: Of all derivatives together, written out.
        seconds: Of wall time, for deriving, and again for each time it is printed.

    Raises:
        ValueError: A number is not positive.

    Example:
        >>> import diffcompare as dc
        >>> dc.Budget(operations=1000)
        Budget(operations=1000, seconds=10.0)
    """

    operations: int = 100_000
    seconds: float = 10.0

    def __post_init__(self):
        if not (self.operations > 0 and self.seconds > 0):
            raise ValueError(
                f"A budget must be positive, but operations is {self.operations} and seconds is "
                f"{self.seconds}."
            )

    def start(self) -> "Clock":
        """Returns a clock that runs from now."""
        return Clock(self, time.perf_counter())


DEFAULT = Budget()


@dataclasses.dataclass(frozen=True)
class Clock:
    """A budget that is being spent."""

    budget: Budget
    started: float

    def check(self, operations: int = 0) -> None:
        """Raises `NotImplementedError` where the operations or the seconds are too many."""
        if operations > self.budget.operations:
            raise NotImplementedError(
                f"Symbolic(route='expression') writes out every entry, and needs more than "
                f"{self.budget.operations} operations for these derivatives. {ADVICE}, or raise "
                "budget."
            )
        if time.perf_counter() - self.started > self.budget.seconds:
            raise NotImplementedError(
                f"Symbolic(route='expression') was not done within {self.budget.seconds:g} "
                f"seconds. {ADVICE}, or raise budget."
            )
