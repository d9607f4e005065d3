"""What arguments are called in formulas and in code: the user's names, or those found here."""

import inspect
import keyword
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

PyTree = Any

# How one writes the arrays of a layer, by the field that holds them.
_SHORT = {"weight": "W", "weights": "W", "kernel": "W", "bias": "b", "biases": "b"}
# Arguments that are called after what they are as a whole; their arrays are named one by one.
_COLLECTIVE = ("params", "parameters", "theta", "variables", "weights", "layers")
_GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Pi",
    "Sigma",
    "Upsilon",
    "Phi",
    "Psi",
    "Omega",
]
_MODULES = ("jax", "jnp", "lax", "value_and_grad")


def of_arguments(fun: Callable, args: Sequence[PyTree], given: Any = None) -> list[str]:
    """Returns one name for each leaf of the arguments, no two alike.

    Args:
        fun: The function; its parameters name its arguments.
        args: The arguments.
        given: For each argument a name, a pytree of names of its structure, or None, which
            takes the default; one name alone, for the first argument; or None.

    Returns:
        The given names. By default an argument that is one array has the name of its
        parameter, and an array in a pytree that of its key: `params["w1"]` is w1. A pair
        of a matrix and a vector in a list is a layer, W1 and b1, as are fields called
        weight and bias. What would be named alike gets its whole path.

    Raises:
        TypeError: Names have another structure than the arguments.
        ValueError: A name stands twice, or is empty.
    """
    parameters = _parameters(fun, len(args))
    choices = _per_argument(given, len(args))
    short, whole, fixed = [], [], []
    for parameter, arg, choice in zip(parameters, args, choices, strict=True):
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(arg)]
        leaves = jax.tree.leaves(arg)
        names = _given(parameter, arg, choice)
        for position, (path, leaf) in enumerate(zip(paths, leaves, strict=True)):
            base = choice if isinstance(choice, str) else parameter
            own = names[position] if names else _short(base, path, leaf, choice is None, arg)
            short.append(own)
            whole.append("_".join([base, *map(_key, path)]))
            fixed.append(bool(names))
    return _distinct(short, whole, fixed)


def identifiers(names: Iterable[str], reserved: Iterable[str] = ()) -> list[str]:
    """Returns a Python identifier for each name, no two alike and none of the reserved ones.

    Example:
        >>> identifiers(["lambda", "x y", "x_y", "W1"])
        ['lambda_', 'x_y', 'x_y_', 'W1']
    """
    taken = {*_MODULES, *reserved}
    found = []
    for name in names:
        # Python takes letters of one look for one letter.
        text = re.sub(r"\W", "_", unicodedata.normalize("NFKC", name)) or "_"
        text = f"_{text}" if text[0].isdigit() else text
        while keyword.iskeyword(text) or text in taken:
            text += "_"
        taken.add(text)
        found.append(text)
    return found


def latex(name: str) -> str:
    r"""Returns a name in LaTeX, with digits at its end, or after an underscore, as an index.

    Example:
        >>> latex("W1"), latex("lambda"), latex("log_a")
        ('W_{1}', '\\lambda', '\\mathrm{log\\_a}')
    """
    stem, index = _indexed(name)
    if stem in _GREEK:
        stem = f"\\{stem}"
    elif len(stem) > 1 or not stem.isalpha():
        stem = f"\\mathrm{{{_escaped(stem)}}}"
    return f"{stem}_{{{_escaped(index)}}}" if index else stem


def prefix(taken: Iterable[str], candidates: Sequence[str]) -> str:
    """Returns the first candidate that begins no name, whatever index follows."""
    stems = {_indexed(name)[0] for name in taken}
    free = (candidate for candidate in candidates if candidate not in stems)
    return next(free, candidates[0] + "".join(sorted(stems))[:20] + "_")


def _indexed(name: str) -> tuple[str, str]:
    match = re.fullmatch(r"([^\W\d_]+)_?(\d[\d_]*)", name)
    if match:
        return match[1], match[2].replace("_", ",")
    match = re.fullmatch(r"([^\W\d_]+)_([^\W_]+)", name)
    # An index belongs to a letter; "log_amp" is no logarithm.
    if match and (len(match[1]) == 1 or match[1] in _GREEK):
        return match[1], match[2]
    return name, ""


def _escaped(text: str) -> str:
    text = text.replace("\\", r"\backslash ")
    return re.sub(r"([_&%$#{}])", r"\\\1", text).replace(" ", r"\ ").replace("^", r"\hat{}")


def _parameters(fun: Callable, count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positional = [
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ][:count]
    rest = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), "x")
    more = range(1, count - len(positional) + 1)
    return positional + [f"{rest}{number}" if count > 1 else rest for number in more]


def _per_argument(given: Any, count: int) -> list[Any]:
    if given is None:
        return [None] * count
    if isinstance(given, str):
        given = (given,)
    if isinstance(given, dict) or not isinstance(given, tuple | list):
        given = (given,)
    if len(given) > count:
        raise TypeError(
            f"names needs one entry for each of the {count} arguments, but got {len(given)}: "
            f"{given!r}."
        )
    return [*given, *[None] * (count - len(given))]


def _given(parameter: str, arg: PyTree, choice: Any) -> list[str]:
    """Returns the names that were given for the leaves of an argument, or an empty list."""
    structure = jax.tree.structure(arg)
    if choice is None:
        return []
    if isinstance(choice, str):
        _check_name(choice)
        return [choice] if structure.num_leaves == 1 else []
    if jax.tree.structure(choice) != structure:
        raise TypeError(
            f"names of the argument {parameter} must be a name or a pytree of names with the "
            f"structure of the argument, {structure}, but they are {choice!r}."
        )
    names = jax.tree.leaves(choice)
    for name in names:
        _check_name(name)
    return names


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"A name must be a string that is not empty, but it is {name!r}.")


def _short(base: str, path: tuple[Any, ...], leaf: Any, is_default: bool, arg: PyTree) -> str:
    keys = [_key(step) for step in path]
    if not keys:
        return base
    words = [key for key in keys if not key.isdigit()]
    numbers = [str(int(key) + 1) for key in keys if key.isdigit()]
    if words and is_default:
        words = [_SHORT.get(words[-1], words[-1])]
    elif not words and is_default and base in _COLLECTIVE:
        is_pair = len(keys) > 1 and _is_pair(arg, path[:-1])
        numbers = numbers[:-1] if is_pair else numbers
        words = ["b" if is_pair and keys[-1] == "1" else "W"]
    else:
        words = [base, *words]
    return "_".join(words) + "_".join(numbers)


def _is_pair(arg: PyTree, path: tuple[Any, ...]) -> bool:
    for step in path:
        arg = arg[step.idx]
    return isinstance(arg, tuple) and len(arg) == 2


def _key(step: Any) -> str:
    for field in ("key", "idx", "name"):
        if hasattr(step, field):
            return str(getattr(step, field))
    return str(step)


def _distinct(short: list[str], whole: list[str], fixed: list[bool]) -> list[str]:
    chosen = list(short)
    for position, name in enumerate(short):
        if short.count(name) > 1:
            if (
                fixed[position]
                and [n for n, f in zip(short, fixed, strict=True) if f].count(name) > 1
            ):
                raise ValueError(f"Each name may stand for one array only, but {name!r} is twice.")
            chosen[position] = name if fixed[position] else whole[position]
    taken: set[str] = set()
    for position, name in enumerate(chosen):
        while name in taken:
            name += "_"
        taken.add(name)
        chosen[position] = name
    return chosen
