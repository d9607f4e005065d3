"""The programs of `python -m diffcompare`, one module each.

Exit status: 0 all well, 1 a check failed, 2 bad usage or missing data.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

BAD_USAGE = 2

# Each is a function in a module of its name.
_PROGRAMS = ("check", "classify", "compare", "derive", "train")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what a command line asks for, and returns the exit status."""
    try:
        import tyro
    except ModuleNotFoundError:
        print(
            "error: the command line needs tyro, which is not installed. Install the extra: "
            "pip install 'diffcompare[experiments]'.",
            file=sys.stderr,
        )
        return BAD_USAGE
    try:
        return tyro.extras.subcommand_cli_from_dict(
            _programs(),
            prog="python -m diffcompare",
            description="Derivatives three ways, and what is learned with them.",
            args=list(sys.argv[1:] if argv is None else argv),
        )
    except (OSError, NotImplementedError, ValueError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_USAGE


def _programs() -> dict[str, Any]:
    modules = {name: f"{__name__}.{name}" for name in _PROGRAMS}
    return {
        name: getattr(importlib.import_module(module), name)
        for name, module in modules.items()
        if importlib.util.find_spec(module) is not None
    }
