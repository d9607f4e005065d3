"""Whether the derivatives of a user's own function are right."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from diffcompare import _files
from diffcompare.commands import target as targets


def check(
    target: Annotated[str, tyro.conf.Positional],
    order: int = 1,
    modes: tuple[Literal["rev", "fwd"], ...] = ("rev", "fwd"),
    json: Path | None = None,
    allow: tuple[str, ...] = (),
) -> int:
    """Checks whether what JAX takes for the derivatives of a function is that.

    The function is called with what `FUNCTION_args()`, or else `example_args()`, of the same file
    returns. Exit status: 0 where its derivatives are consistent, or at a kink as good as any; 1
    where one is wrong, and where it could not be told, since what was not seen is not right; 2 for
    bad usage.

    Args:
        target: MODULE_OR_FILE:FUNCTION, such as net.py:loss.
        order: Up to which derivative.
        modes: Reverse mode, forward mode, or both.
        json: Where to write the report as JSON too.
        allow: What is on purpose: straight-through, clipping, reversal, scaling, stop-gradient.
    """
    found = targets.load(target)

    from diffcompare.checking.check import check_grads

    report = check_grads(found.fun, found.args, order=order, modes=modes, raises=False, allow=allow)
    again = [f"python -m diffcompare check {target}"]
    again += [f"--order {order}"] if order != 1 else []
    again += [f"--modes {' '.join(modes)}"] if len(modes) == 1 else []
    again += [f"--allow {' '.join(allow)}"] if allow else []
    report = dataclasses.replace(report, function=found.name, reproduce=" ".join(again))
    print(report)
    if json is not None:
        _files.write_atomically(json, f"{report.to_json()}\n".encode())
    return 0 if report.verdict in ("consistent", "kink") else 1
