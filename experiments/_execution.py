"""Runs one experiment: its numbers to a file, its figure from that file."""

import contextlib
import dataclasses
import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax

from diffcompare import _files
from experiments import _codec, _environment, _registry
from experiments._registry import Experiment, UsageError
from experiments._terminal import Rows


class Outcome(NamedTuple):
    """What a run of an experiment came to."""

    summary: str | Rows
    picture: Path
    seconds: float


def execute(
    experiment: Experiment, config: Any, *, quick: bool, replot: bool, folder: Path
) -> Outcome | None:
    """Runs an experiment and writes its files.

    Args:
        experiment: Which one.
        config: Its config; None for the default, or for the smallest one where `quick` is true.
        quick: Whether to take the smallest config.
        replot: Whether to draw from the numbers that are in `folder` instead of running it.
        folder: Where its files are; it is created when there is none.

    Returns:
        What to show; None in the second of several processes and those after it.

    Raises:
        UsageError: There are no numbers to draw from, they cannot be read, or `folder` is a file.
    """
    began = time.perf_counter()
    numbers = folder / f"{experiment.name}.json"
    if replot and not numbers.is_file():
        raise UsageError(f"there is no {numbers} to draw from. Run it without --replot first.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out needs a folder, but {folder} is none: {error}.") from error
    module = _registry.load(experiment)
    if jax.process_index() > 0:  # it takes part in computing, and the first process writes
        with precision(module):
            module.run(_registry.config(module, quick) if config is None else config)
        return None
    with precision(module):
        if not replot:
            config = _registry.config(module, quick) if config is None else config
            _files.write_atomically(numbers, _computed(experiment, module, config))
        result = read(numbers, module)
        _draw(module, result, numbers)
    summary = module.summary(result)
    return Outcome(summary, numbers.with_suffix(".png"), time.perf_counter() - began)


def _computed(experiment: Experiment, module: ModuleType, config: Any) -> bytes:
    return _codec.dumps(
        {
            "experiment": experiment.name,
            "claim": experiment.claim,
            "config": portable(config),
            "environment": _environment.describe(),
            "result": _codec.encode(module.run(config)),
        }
    )


def precision(module: ModuleType) -> contextlib.AbstractContextManager:
    # Set either way, so that the numbers do not depend on a flag in the environment.
    return jax.enable_x64(getattr(module, "ENABLE_X64", False))


def portable(config: Any) -> dict[str, Any]:
    """The fields of a config; of an absolute path only its name, which is not of one machine."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {key: _codec.encode(_name(value), f"config.{key}") for key, value in values.items()}


def _name(value: Any) -> Any:
    if not isinstance(value, Path):
        return value
    return value.name if value.is_absolute() else value.as_posix()


def read(numbers: Path, module: ModuleType) -> Any:
    try:
        tree = json.loads(numbers.read_bytes())["result"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{numbers} is not the file of an experiment. Run it without --replot."
        ) from error
    try:
        return _codec.decode(tree, _codec.record_types(vars(module).values()))
    except ValueError as error:
        raise UsageError(f"{numbers} cannot be read: {error}") from error


def _draw(module: ModuleType, result: Any, numbers: Path) -> None:
    from diffcompare.plot import style

    with style.context():
        figure = module.plot(result)
        pictures = {kind: style.render(figure, kind) for kind in ("png", "svg")}
    for kind, data in pictures.items():
        _files.write_atomically(numbers.with_suffix(f".{kind}"), data)
