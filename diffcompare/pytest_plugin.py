"""A fixture for pytest, `check_grads`, so that a test of a derivative is one line.

It is an entry point of the package: no test has to import anything. JAX is loaded when a test that
asks for the fixture runs, and in no other session.

    def test_the_gradient_of_the_loss(check_grads):
        check_grads(loss, (params, batch))
"""

import warnings
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from diffcompare.checking.report import Report


class InconclusiveWarning(UserWarning):
    """A check of a derivative could neither find a mistake nor exclude it."""


class CheckGrads:
    """`diffcompare.check_grads`, whose failure shows the report and nothing of its own code."""

    def __call__(
        self, fun: Any, args: Any, *rest: Any, raises: bool = True, **options: Any
    ) -> "Report":
        """Returns the report of a check.

        Args:
            fun: As in `diffcompare.check_grads`.
            args: As there.
            *rest: As there: the order, the modes, and tolerances that are not needed.
            raises: Whether the test fails where a derivative is wrong.
            **options: As there.

        Raises:
            AssertionError: The verdict is "wrong", and `raises` is true.

        Warns:
            InconclusiveWarning: The verdict is "inconclusive". What was not seen has not passed.
        """
        __tracebackhide__ = True
        from diffcompare.checking.check import check_grads

        report = check_grads(fun, args, *rest, raises=False, **options)
        if raises and report.verdict == "wrong":
            raise AssertionError(str(report))
        if report.verdict == "inconclusive":
            warnings.warn(str(report), InconclusiveWarning, stacklevel=2)
        return report

    def __repr__(self) -> str:
        # pytest shows it beside a test that failed.
        return "check_grads"


@pytest.fixture
def check_grads() -> CheckGrads:
    """`diffcompare.check_grads(fun, args)`: fails with a report where a derivative is wrong."""
    return CheckGrads()
