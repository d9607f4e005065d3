"""Level 1 of the lecture: numerical differentiation."""

from diffcompare.numerical.complex_step import ComplexStep
from diffcompare.numerical.difference import (
    BackwardDifference,
    CentralDifference,
    Difference,
    ForwardDifference,
)

__all__ = [
    "BackwardDifference",
    "CentralDifference",
    "ComplexStep",
    "Difference",
    "ForwardDifference",
]
