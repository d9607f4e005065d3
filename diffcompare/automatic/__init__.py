"""Level 3 of the lecture: automatic differentiation."""

from diffcompare.automatic.mode import ForwardMode, ReverseMode

__all__ = ["ForwardMode", "ReverseMode"]
