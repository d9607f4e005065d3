"""Symbolic differentiation. SymPy is loaded when a derivative is first derived."""

from diffcompare.symbolic.budget import Budget as Budget
from diffcompare.symbolic.convention import Convention as Convention
from diffcompare.symbolic.method import Symbolic as Symbolic
