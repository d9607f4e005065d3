"""Level 1 of the lecture: numerical differentiation."""

from diffcompare.numerical.difference import (
    BackwardDifference,
    CentralDifference,
    Difference,
    ForwardDifference,
)

__all__ = ["BackwardDifference", "CentralDifference", "Difference", "ForwardDifference"]
