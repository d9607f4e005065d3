"""Derivatives three ways: numerically, symbolically, automatically.

The names below are the public surface. What needs SymPy, optax or matplotlib is loaded
when it is first used, so that importing the package costs hardly more than importing JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

from diffcompare._sparse import SparseJacobian as SparseJacobian
from diffcompare.automatic import ForwardMode as ForwardMode
from diffcompare.automatic import ReverseMode as ReverseMode
from diffcompare.custom import differentiable as differentiable
from diffcompare.method import Method as Method
from diffcompare.numerical import BackwardDifference as BackwardDifference
from diffcompare.numerical import CentralDifference as CentralDifference
from diffcompare.numerical import ComplexStep as ComplexStep
from diffcompare.numerical import ForwardDifference as ForwardDifference
from diffcompare.numerical.conclusion import Status as Status
from diffcompare.numerical.estimation import Estimate as Estimate
from diffcompare.numerical.estimation import Richardson as Richardson
from diffcompare.numerical.estimation import estimate as estimate
from diffcompare.numerical.host import BlackBox as BlackBox
from diffcompare.numerical.host import EvaluationError as EvaluationError
from diffcompare.numerical.host import black_box as black_box
from diffcompare.operators import grad as grad
from diffcompare.operators import hessian as hessian
from diffcompare.operators import jacobian as jacobian
from diffcompare.operators import jvp as jvp
from diffcompare.operators import value_and_grad as value_and_grad
from diffcompare.operators import vjp as vjp
from diffcompare.symbolic import Budget as Budget
from diffcompare.symbolic import Convention as Convention
from diffcompare.symbolic import Symbolic as Symbolic

if TYPE_CHECKING:
    from diffcompare import learn as learn
    from diffcompare._jaxpr.walk import UnknownPrimitiveError as UnknownPrimitiveError
    from diffcompare.automatic.graph import Graph as Graph
    from diffcompare.automatic.graph import computational_graph as computational_graph
    from diffcompare.exact import Exact as Exact
    from diffcompare.exact import PrecisionError as PrecisionError
    from diffcompare.exact import exact_grad as exact_grad
    from diffcompare.symbolic.derivation import Derivation as Derivation
    from diffcompare.symbolic.derivation import derive as derive
    from diffcompare.symbolic.disagreement import Disagreement as Disagreement
    from diffcompare.symbolic.disagreement import rule_disagreements as rule_disagreements

__version__ = "0.1.0"

# What is loaded on first use: modules, and names with the module they stand in.
_MODULES = ("learn", "plot")
_NAMES = {
    "Derivation": "diffcompare.symbolic.derivation",
    "Disagreement": "diffcompare.symbolic.disagreement",
    "Exact": "diffcompare.exact",
    "Graph": "diffcompare.automatic.graph",
    "PrecisionError": "diffcompare.exact",
    "UnknownPrimitiveError": "diffcompare._jaxpr.walk",
    "computational_graph": "diffcompare.automatic.graph",
    "derive": "diffcompare.symbolic.derivation",
    "exact_grad": "diffcompare.exact",
    "rule_disagreements": "diffcompare.symbolic.disagreement",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"diffcompare.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'diffcompare' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *_NAMES])
