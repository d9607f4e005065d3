"""The claims of the lecture as data, each with what an experiment's saved numbers say of it.

A claim names its row of the lecture and its experiment, and holds a function from that
experiment's result, as it is read from the JSON file, to numbers and the bounds they have to keep.
The verdict follows from these alone. Another claim is one function and one line in the table of
its file.
"""

from experiments._claims import (
    boundaries,
    chains,
    checks,
    costs,
    levels,
    noise,
    recognition,
    training,
)
from experiments._claims.rows import ROWS as ROWS
from experiments._claims.rows import Row as Row
from experiments._claims.verdict import Claim as Claim
from experiments._claims.verdict import Found as Found
from experiments._claims.verdict import Judged as Judged
from experiments._claims.verdict import Number as Number
from experiments._claims.verdict import judge as judge

_TABLES = (recognition, boundaries, training, levels, noise, costs, checks, chains)

# In the order of the lecture; claims of one row stay as their files have them.
CLAIMS: tuple[Claim, ...] = tuple(
    sorted((claim for table in _TABLES for claim in table.CLAIMS), key=lambda claim: claim.row)
)
