"""Which experiments there are, found by reading their source; importing it would load JAX."""

import ast
import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

_CONTRACT = ("CLAIM", "Config", "run", "plot", "summary")


class UsageError(Exception):
    """The command line asks for what cannot be done; the message says what can."""


class Experiment(NamedTuple):
    """An experiment that was found."""

    name: str
    module: str  # its dotted name
    claim: str  # the sentence under test


def find(package: str) -> dict[str, Experiment]:
    """Returns the experiments of a package by name, in the order of their names.

    Args:
        package: The dotted name of a package, each of whose public modules is an experiment.
    """
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or ()
    paths = sorted(path for folder in folders for path in Path(folder).glob("[!_]*.py"))
    return {
        path.stem: Experiment(path.stem, f"{package}.{path.stem}", _claim(path)) for path in paths
    }


def load(experiment: Experiment) -> ModuleType:
    """Returns the module of an experiment.

    Raises:
        TypeError: The module lacks something that an experiment has to hold.
    """
    module = importlib.import_module(experiment.module)
    missing = [name for name in _CONTRACT if not hasattr(module, name)]
    if missing:
        raise TypeError(
            f"{experiment.module} needs {', '.join(missing)} to be an experiment. What each has to "
            f"be stands in the docstring of the package."
        )
    return module


def config(module: Any, quick: bool) -> Any:
    """Returns the default config of an experiment, or its smallest one where `quick` is true."""
    return module.Config.quick() if quick else module.Config()


def _claim(path: Path) -> str:
    # The claim, or failing that the first line of the docstring; a file with a syntax error is
    # still an experiment, which fails when it is run.
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError:
        return ""
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name("CLAIM")], value=ast.Constant(str(claim)))
                | ast.AnnAssign(target=ast.Name("CLAIM"), value=ast.Constant(str(claim)))
            ):
                return " ".join(claim.split())
    return (ast.get_docstring(tree) or "").partition("\n")[0]
