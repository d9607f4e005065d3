"""A user's own function, and example values of its arguments, by their place."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

PyTree = Any

_EXAMPLE = "example_args"


class Target(NamedTuple):
    """A function, and where to look at it."""

    fun: Callable
    args: tuple[PyTree, ...]  # its positional arguments
    name: str  # of the function


class TargetError(ValueError):
    """A target has no function, no arguments, or cannot be loaded."""


def load(target: str) -> Target:
    """Returns the function that `MODULE_OR_FILE:FUNCTION` names, and values for its arguments.

    The values come from the function `FUNCTION_args`, or else `example_args`, beside it. It
    returns a tuple of positional arguments; anything else, a named tuple too, is the only
    argument.

    Args:
        target: A file, such as `models/net.py:loss`, or a module, such as `models.net:loss`.
            The file may import its neighbours.

    Raises:
        TargetError: Something is missing or fails; the message says what, and what to write.
    """
    place, colon, name = target.rpartition(":")
    if not (colon and place and name):
        raise TargetError(
            f"a target is MODULE_OR_FILE:FUNCTION, such as net.py:loss, but got {target!r}."
        )
    module = _from_file(Path(place)) if _is_file(place) else _from_package(place)
    fun = _function(module, place, name)
    return Target(fun, _arguments(module, place, name, fun), name)


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or "\\" in place or Path(place).is_file()


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {path}. A target is MODULE_OR_FILE:FUNCTION.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # as for a program that is started
        sys.path.insert(0, folder)
    # A file may be called like a module that is loaded, such as test.py.
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_of_target"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} is no Python file: its name has to end with .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise TargetError(_said(f"{path} cannot be loaded", error, str(path.resolve()))) from error
    return module


def _from_package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and _is_within(error.name, name):
            raise TargetError(
                f"there is no module {error.name!r} on Python's path. Start the program in the "
                "folder that holds it, or give a file, such as folder/net.py:loss."
            ) from error
        raise TargetError(_said(f"the module {name} cannot be loaded", error, None)) from error


def _is_within(missing: str | None, name: str) -> bool:
    return missing is not None and f"{name}.".startswith(f"{missing}.")


def _function(module: ModuleType, place: str, name: str) -> Callable:
    fun = getattr(module, name, None)
    if fun is None:
        found = ", ".join(_functions(module)) or "no function"
        raise TargetError(f"{place} has no function {name!r}. It has: {found}.")
    if not callable(fun):
        raise TargetError(f"{name} in {place} is no function but of type {type(fun).__name__}.")
    return fun


def _functions(module: ModuleType) -> list[str]:
    """Returns the names of the functions that a module defines, without those of arguments."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value)
        and not isinstance(value, type)
        and not name.startswith("_")
        and name != _EXAMPLE
        and not (name.endswith("_args") and hasattr(module, name.removesuffix("_args")))
        and getattr(value, "__module__", None) == module.__name__
    ]


def _arguments(module: ModuleType, place: str, name: str, fun: Callable) -> tuple[PyTree, ...]:
    own = f"{name}_args"
    source = own if hasattr(module, own) else _EXAMPLE
    advice = f"Write: def {own}(): return (x, y)  # the positional arguments of {name}"
    make = getattr(module, source, None)
    if make is None:
        raise TargetError(
            f"{place} has no example values for {name}: neither {own} nor {_EXAMPLE}. {advice}"
        )
    if not callable(make):
        raise TargetError(f"{source} in {place} has to be a function, but it is a value. {advice}")
    try:
        values = make()
    except (Exception, SystemExit) as error:
        where = getattr(module, "__file__", None)
        raise TargetError(_said(f"{source} in {place} failed", error, where)) from error
    if values is None:
        raise TargetError(f"{source} in {place} returned None. {advice}")
    is_tuple = isinstance(values, tuple) and not hasattr(values, "_fields")
    args = tuple(values) if is_tuple else (values,)
    _check_call(fun, args, f"{source} in {place}", name)
    try:
        fun(*args)
    except (Exception, SystemExit) as error:
        where = getattr(module, "__file__", None)
        what = f"{name} failed with the values of {source}, {_outlined(args)}"
        raise TargetError(_said(what, error, where)) from error
    return args


def _outlined(args: tuple[PyTree, ...]) -> str:
    """Returns the shapes of arguments, as far as they have one."""
    import jax

    shown = jax.tree.map(
        lambda leaf: f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "shape") else repr(leaf),
        args,
    )
    return ", ".join(str(each).replace("'", "") for each in shown)


def untraceable(found: Target, error: Exception) -> TargetError:
    """Returns what to raise where JAX cannot trace a function that runs."""
    file = inspect.getsourcefile(inspect.unwrap(found.fun))
    said = _said(f"{found.name} runs, but JAX cannot trace it", error, file)
    lines = [said.splitlines()[0], *(line for line in said.splitlines()[1:] if line[:4] == "    ")]
    return TargetError(
        "\n".join(lines) + "\nDifferences do without a trace: python -m diffcompare compare"
    )


def _check_call(fun: Callable, args: tuple[PyTree, ...], source: str, name: str) -> None:
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):  # of some functions that are not written in Python
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        count = "1 argument" if len(args) == 1 else f"{len(args)} arguments"
        raise TargetError(
            f"{source} returned {count}, but {name}{signature} does not take them: {error}. "
            "A tuple is all positional arguments; a list or a dict is one."
        ) from error


def _said(what: str, error: BaseException, file: str | None) -> str:
    """Returns what happened, and in which line of the user's own file where that is known."""
    kind, message = type(error).__name__, str(error)
    if isinstance(error, SyntaxError):
        text = (error.text or "").strip()
        return f"{what}: {kind} in line {error.lineno} of {error.filename}: {error.msg}: {text}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file]
    # Python's own machinery of imports is nothing a user wrote.
    others = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    frame = (own or others or frames)[-1]  # what was raised has at least one
    where = f"in line {frame.lineno} of {frame.filename}"
    return f"{what}: {kind} {where}: {message}\n    {frame.line or ''}".rstrip()
