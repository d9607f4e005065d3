"""Every method on a user's own function."""

import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from diffcompare import _files

_PICTURES = (".png", ".svg")


def compare(
    target: Annotated[str, tyro.conf.Positional],
    argnums: tuple[int, ...] = (0,),
    seconds: float = 10.0,
    json: Path | None = None,
    markdown: Path | None = None,
    figure: Path | None = None,
) -> int:
    """Differentiates a function by every method: how wrong each is, and what it costs.

    Args:
        target: MODULE_OR_FILE:FUNCTION, such as net.py:loss, called with the values that
            loss_args() or example_args() in the same file returns.
        argnums: The arguments to differentiate by, counted from 0.
        seconds: How long one gradient may take; what would take longer is refused.
        json: A file for all numbers.
        markdown: A file for the table.
        figure: A file for a picture of error against cost, .png or .svg.
    """
    for path in (json, markdown, figure):
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to.")
    if figure is not None and figure.suffix not in _PICTURES:
        raise ValueError(f"--figure needs a .png or .svg file, but it is {figure}.")
    from diffcompare import comparison
    from diffcompare.commands.target import load

    found = load(target)
    chosen = argnums[0] if len(argnums) == 1 else argnums
    compared = comparison.compare(found.fun, *found.args, argnums=chosen, seconds=seconds)
    _show(compared)
    if json is not None:
        _files.write_atomically(json, compared.to_json().encode())
    if markdown is not None:
        _files.write_atomically(markdown, compared.to_markdown().encode())
    if figure is not None:
        from diffcompare.plot import style

        kind: Literal["png", "svg"] = "png" if figure.suffix == ".png" else "svg"
        _files.write_atomically(figure, style.render(compared.draw(), kind))
    return 0


def _show(compared: object) -> None:
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console

        Console().print(compared)
    else:
        print(compared)
