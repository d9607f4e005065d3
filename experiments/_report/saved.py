"""What experiments left in a folder, read back."""

import json
from pathlib import Path
from typing import Any

from experiments import _execution, _registry
from experiments._registry import Experiment, UsageError
from experiments._report.contents import Run


def load(folder: Path, known: dict[str, Experiment]) -> tuple[list[Run], list[str]]:
    """Returns the runs whose files are in a folder, and what is wrong with other files."""
    runs, problems = [], []
    for experiment in known.values():
        numbers = folder / f"{experiment.name}.json"
        if not numbers.is_file():
            continue
        try:
            runs.append(_run(experiment, numbers))
        except UsageError as error:
            # Where the folder lies is nobody's business.
            problems.append(str(error).replace(str(numbers), numbers.name))
        except Exception as error:  # one that fails must not keep the others from being shown
            problems.append(f"{numbers.name}: its experiment failed with {error!r}.")
    return runs, problems


def _run(experiment: Experiment, numbers: Path) -> Run:
    module = _registry.load(experiment)
    with _execution.precision(module):
        result = _execution.read(numbers, module)
        summary = module.summary(result)
    tree = json.loads(numbers.read_bytes())
    picture = numbers.with_suffix(".svg")
    default, quick = (
        _execution.portable(_registry.config(module, is_quick)) for is_quick in (False, True)
    )
    return Run(
        name=experiment.name,
        claim=experiment.claim,
        subject=(module.__doc__ or experiment.name).strip().partition("\n")[0],
        is_default=tree["config"] == default,
        is_quick=tree["config"] == quick,
        changed=_changed(tree["config"], default),
        environment=tree["environment"],
        result=result,
        summary=summary,
        picture=picture.read_bytes() if picture.is_file() else b"",
    )


def _changed(config: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value["items"] if isinstance(value, dict) and "items" in value else value
        for key, value in config.items()
        if value != default.get(key)
    }
