"""What the gradient checker is judged by: functions, and the verdicts that are right for them.

The truth of each stands in how it is made. A right case is a library's function, or a rule that
is the derivative; a wrong one has a mistake planted in a rule, at a point where it changes the
derivative; at a kink, a jump or an edge of a domain, it is what the one-sided slopes are.
"""

from checking_cases import (
    corrupted,
    kinks,
    layers,
    library,
    opaque,
    rules,
    scales,
    second_order,
    solvers,
    structures,
    surrogates,
)
from checking_cases.case import Case as Case

MODULES = (
    library,
    layers,
    scales,
    kinks,
    rules,
    solvers,
    surrogates,
    structures,
    opaque,
    second_order,
    corrupted,
)
CASES: dict[str, Case] = {case.name: case for module in MODULES for case in module.CASES}
