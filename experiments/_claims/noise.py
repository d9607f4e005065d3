"""Claims about noise and second derivatives: rows 26 to 28."""

import numpy as np

from experiments._claims.verdict import Claim, Found, Number, only

# Rounding of a short program, in units of eps.
A_FEW = 16.0
# Of an exponent in eps, fitted to four dtypes.
EXPONENT = 0.1
AUTOMATIC = ("forward over reverse", "reverse over reverse", "forward over forward")


def _noise(result) -> Found:
    kept: list[Number] = []
    narrowed: list[Number] = []
    for noise in result.noise:
        number = Number(
            f"{noise.dtype}, {noise.way}, products {noise.products}, {noise.device}: median error",
            float(np.median(np.abs(noise.error))), "<=", A_FEW, "eps",
        )  # fmt: skip
        if noise.way == "jit":
            is_usual = noise.products in ("highest", "default") and noise.device == "cpu"
            (kept if is_usual or noise.products == "highest" else narrowed).append(number)
    return Found(
        kept,
        "matrix products take their factors in the precision in which they are given",
        narrowed,
    )


def _automatic_twice(result) -> Found:
    return Found(_twice(result, AUTOMATIC))


def _symbolic_twice(result) -> Found:
    return Found(_twice(result, ("symbolic of symbolic",)))


def _twice(result, methods: tuple[str, ...]) -> list[Number]:
    numbers = []
    for name in methods:
        second = only(result.second, method=name)
        at = second.dtypes.index("float64")
        error = float(second.error[at] / second.eps[at])
        numbers.append(Number(f"{name}, float64: relative error", error, "<=", A_FEW, "eps"))
    return numbers


def _differences_twice(result) -> Found:
    numbers = []
    for second in result.second:
        if second.power == 1:  # it rounds, and nothing else
            continue
        at = second.dtypes.index("float64")
        numbers += [
            Number(f"{second.method}, float64: relative error", float(second.error[at])),
            Number(f"{second.method}: exponent of the error in eps less {second.power:.2g}",
                   abs(second.exponent - second.power), "<=", EXPONENT),
        ]  # fmt: skip
    if not numbers:
        raise LookupError("a method whose error is more than rounding")
    return Found(numbers)


CLAIMS = (
    Claim(26, "A value is wrong by a few units in the last place: no difference goes below that.",
          "precision", _noise),
    Claim(26, "Differences lose digits again in second derivatives.", "precision",
          _differences_twice),
    Claim(27, "Symbolic second derivatives are accurate to rounding.", "precision",
          _symbolic_twice),
    Claim(28, "Automatic second derivatives are accurate to rounding.", "precision",
          _automatic_twice),
)  # fmt: skip
