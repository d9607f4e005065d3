"""The derivative of a user's own function, as formulas, steps or code."""

from typing import Annotated, Literal

import tyro


def derive(
    target: Annotated[str, tyro.conf.Positional],
    argnums: tuple[int, ...] = (0,),
    route: Literal["auto", "matrix", "program", "expression"] = "auto",
    steps: bool = False,
    latex: bool = False,
    source: bool = False,
) -> int:
    """Derives the gradient of a function symbolically, and prints it.

    Args:
        target: MODULE_OR_FILE:FUNCTION, such as net.py:loss, called with the values that
            loss_args() or example_args() in the same file returns.
        argnums: The arguments to differentiate by, counted from 0.
        route: How it is written: matrix is a closed form as one writes by hand, program a line for
            each operation, expression a formula for each entry; auto takes matrix where it fits,
            and else program.
        steps: Print the derivation line by line instead.
        latex: Print LaTeX instead of plain text.
        source: Print Python code of the value and the gradient instead.
    """
    if source and (steps or latex):
        raise ValueError("--source is code, which has neither --steps nor --latex. Choose one.")
    from diffcompare.commands.target import load, untraceable
    from diffcompare.numerical.host import TRACING_ERRORS
    from diffcompare.symbolic import derivation

    found = load(target)
    chosen = argnums[0] if len(argnums) == 1 else argnums
    try:
        derived = derivation.derive(found.fun, *found.args, argnums=chosen, route=route)
    except TRACING_ERRORS as error:
        raise untraceable(found, error) from error
    if source:
        print(derived.source())
    elif steps:
        print(derived.steps().latex() if latex else derived.steps())
    else:
        print(derived.latex() if latex else derived)
    return 0
