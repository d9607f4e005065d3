"""Every method on one function: how wrong each is, and what it costs."""

from diffcompare.comparison.comparing import compare
from diffcompare.comparison.result import Comparison, Cost, Row

__all__ = ["Comparison", "Cost", "Row", "compare"]
