"""Claims about checking gradients by differences: row 26."""

import numpy as np

from experiments import gradient_checking
from experiments._claims.verdict import Claim, Found, Number


def _checks(result) -> Found:
    numbers: dict[str, list[Number]] = {}
    visible = gradient_checking.visible(result)
    for number, checker in enumerate(result.checkers):
        right, wrong = result.said[number, :, 0], result.said[number, :, 1:][visible]
        wrong = wrong[wrong != gradient_checking.NOTHING]
        numbers[checker] = [
            Number(f"{checker}: right gradients accused, of {right.size}",
                   int(np.sum(right == gradient_checking.ACCUSED)), "=", 0),
            Number(f"{checker}: mistakes of more than 4 eps passed, of {wrong.size}",
                   int(np.sum(wrong == gradient_checking.PASSED)), "=", 0),
        ]  # fmt: skip
    ours = numbers.pop(gradient_checking.OURS)
    return Found(
        ours,
        "the check measures how exact the differences are, and compares with no fixed tolerance",
        [number for others in numbers.values() for number in others],
    )


CLAIMS = (
    Claim(26, "Finite differences tell right gradients from wrong ones.", "gradient_checking",
          _checks),
)  # fmt: skip
