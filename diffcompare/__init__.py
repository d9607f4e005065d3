"""Derivatives three ways: numerically, symbolically, automatically.

The names below are the public surface. What they stand in is loaded when one is first used, so that
a program pays for what it uses: JAX for a gradient, SymPy for a closed form.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffcompare import learn as learn
    from diffcompare import plot as plot
    from diffcompare._jaxpr.walk import UnknownPrimitiveError as UnknownPrimitiveError
    from diffcompare._sparse import SparseJacobian as SparseJacobian
    from diffcompare.automatic import ForwardMode as ForwardMode
    from diffcompare.automatic import ReverseMode as ReverseMode
    from diffcompare.automatic.graph import Graph as Graph
    from diffcompare.automatic.graph import computational_graph as computational_graph
    from diffcompare.checking import Report as Report
    from diffcompare.checking import check_grads as check_grads
    from diffcompare.comparison import Comparison as Comparison
    from diffcompare.comparison import compare as compare
    from diffcompare.custom import differentiable as differentiable
    from diffcompare.exact import Exact as Exact
    from diffcompare.exact import PrecisionError as PrecisionError
    from diffcompare.exact import exact_grad as exact_grad
    from diffcompare.method import Method as Method
    from diffcompare.numerical import BackwardDifference as BackwardDifference
    from diffcompare.numerical import CentralDifference as CentralDifference
    from diffcompare.numerical import ComplexStep as ComplexStep
    from diffcompare.numerical import ForwardDifference as ForwardDifference
    from diffcompare.numerical.conclusion import Status as Status
    from diffcompare.numerical.estimation import Estimate as Estimate
    from diffcompare.numerical.estimation import estimate as estimate
    from diffcompare.numerical.host import BlackBox as BlackBox
    from diffcompare.numerical.host import EvaluationError as EvaluationError
    from diffcompare.numerical.host import black_box as black_box
    from diffcompare.numerical.richardson import Richardson as Richardson
    from diffcompare.operators import grad as grad
    from diffcompare.operators import hessian as hessian
    from diffcompare.operators import jacobian as jacobian
    from diffcompare.operators import jvp as jvp
    from diffcompare.operators import value_and_grad as value_and_grad
    from diffcompare.operators import vjp as vjp
    from diffcompare.symbolic import Budget as Budget
    from diffcompare.symbolic import Convention as Convention
    from diffcompare.symbolic import Symbolic as Symbolic
    from diffcompare.symbolic.derivation import Derivation as Derivation
    from diffcompare.symbolic.derivation import derive as derive
    from diffcompare.symbolic.disagreement import Disagreement as Disagreement
    from diffcompare.symbolic.disagreement import rule_disagreements as rule_disagreements

__version__ = "0.1.0"

# Where the public names stand, for the interpreter as above for tools that read types.
_MODULES = ("learn", "plot")
_NAMES = {
    "BackwardDifference": "diffcompare.numerical",
    "BlackBox": "diffcompare.numerical.host",
    "Budget": "diffcompare.symbolic",
    "CentralDifference": "diffcompare.numerical",
    "Comparison": "diffcompare.comparison",
    "ComplexStep": "diffcompare.numerical",
    "Convention": "diffcompare.symbolic",
    "Derivation": "diffcompare.symbolic.derivation",
    "Disagreement": "diffcompare.symbolic.disagreement",
    "Estimate": "diffcompare.numerical.estimation",
    "EvaluationError": "diffcompare.numerical.host",
    "Exact": "diffcompare.exact",
    "ForwardDifference": "diffcompare.numerical",
    "ForwardMode": "diffcompare.automatic",
    "Graph": "diffcompare.automatic.graph",
    "Method": "diffcompare.method",
    "PrecisionError": "diffcompare.exact",
    "Report": "diffcompare.checking",
    "ReverseMode": "diffcompare.automatic",
    "Richardson": "diffcompare.numerical.richardson",
    "SparseJacobian": "diffcompare._sparse",
    "Status": "diffcompare.numerical.conclusion",
    "Symbolic": "diffcompare.symbolic",
    "UnknownPrimitiveError": "diffcompare._jaxpr.walk",
    "black_box": "diffcompare.numerical.host",
    "check_grads": "diffcompare.checking",
    "compare": "diffcompare.comparison",
    "computational_graph": "diffcompare.automatic.graph",
    "derive": "diffcompare.symbolic.derivation",
    "differentiable": "diffcompare.custom",
    "estimate": "diffcompare.numerical.estimation",
    "exact_grad": "diffcompare.exact",
    "grad": "diffcompare.operators",
    "hessian": "diffcompare.operators",
    "jacobian": "diffcompare.operators",
    "jvp": "diffcompare.operators",
    "rule_disagreements": "diffcompare.symbolic.disagreement",
    "value_and_grad": "diffcompare.operators",
    "vjp": "diffcompare.operators",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"diffcompare.{name}")
    if name not in _NAMES:
        raise AttributeError(f"module 'diffcompare' has no attribute {name!r}")
    # Kept, so that it is looked up once.
    globals()[name] = found = getattr(importlib.import_module(_NAMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_NAMES})
