"""The programs of `python -m diffcompare`, one module each.

Exit status: 0 all well, 1 a check failed, 2 bad usage or missing data.
"""

import sys
from collections.abc import Sequence
from typing import Any

BAD_USAGE = 2


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
    from diffcompare.commands import classify, train

    programs: dict[str, Any] = {"classify": classify.classify, "train": train.train}
    try:
        return tyro.extras.subcommand_cli_from_dict(
            programs,
            prog="python -m diffcompare",
            description="Derivatives three ways, and what is learned with them.",
            args=list(sys.argv[1:] if argv is None else argv),
        )
    except (FileNotFoundError, ValueError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_USAGE
