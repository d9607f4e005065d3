"""Runs experiments from the command line; the docstring of the package says how.

Exit status: 0 all well, 1 an experiment failed, 2 bad usage or missing data.
"""

import argparse
import contextlib
import dataclasses
import difflib
import json
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments import _codec, _environment, _files, _registry, _terminal

_OPTIONS = ("--quick", "--replot", "--out", "--list", "--help")
_FAILED, _BAD_USAGE, _INTERRUPTED = 1, 2, 130


class UsageError(Exception):
    """The command line asks for what cannot be done; the message says what can."""


def run_module(name: str | None = None) -> int:
    """Runs the command line of `python -m experiments`, or of one experiment; returns the status.

    Args:
        name: The experiment, where it was started as `python -m experiments.NAME`.
    """
    # So that a run which is asked to stop removes the file that it is writing.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return main([*([name] if name else []), *sys.argv[1:]])


def main(argv: Sequence[str], package: str = "experiments") -> int:
    """Runs what `argv` asks for, and returns the exit status.

    Args:
        argv: The arguments of the command line.
        package: The package whose public modules are the experiments.
    """
    known = _registry.find(package)
    options, rest = _parser(package).parse_known_args(argv)
    try:
        if options.list:
            print(_listing(known))
            return 0
        if rest:
            return _run_one(_chosen(rest[0], known), options, rest[1:])
        if options.help:
            print(f"{_parser(package).format_help()}\nexperiments:\n{_listing(known)}")
            return 0
        return _run_all(known, options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return _BAD_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


def _parser(package: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}",
        usage="%(prog)s [NAME [--option VALUE ...]] [--quick] [--replot] [--out FOLDER] [--list]",
        description="Runs every experiment, or the one that is named, and draws its figure. "
        "NAME --help shows the options of that experiment.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("--quick", action="store_true", help="run at the smallest sensible size")
    parser.add_argument("--replot", action="store_true", help="draw again from the saved numbers")
    parser.add_argument(
        "--out", type=Path, default=Path("figures"), help="folder of the files (default: figures)"
    )
    parser.add_argument("--list", action="store_true", help="print the names and claims, and stop")
    parser.add_argument("-h", "--help", action="store_true", help="print this, and stop")
    return parser


def _listing(known: dict[str, _registry.Experiment]) -> str:
    width = max(map(len, known), default=0)
    return "\n".join(f"  {e.name:{width}}  {e.claim}".rstrip() for e in known.values())


def _chosen(word: str, known: dict[str, _registry.Experiment]) -> _registry.Experiment:
    if word in known:
        return known[word]
    kind, choices = ("option", _OPTIONS) if word.startswith("-") else ("experiment", tuple(known))
    hint = "; the options of an experiment follow its name" if kind == "option" else ""
    raise UsageError(
        f"unknown {kind} {word!r}.{_nearest(word, choices)} Known: {', '.join(choices)}{hint}."
    )


def _nearest(word: str, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _run_all(known: dict[str, _registry.Experiment], options: argparse.Namespace) -> int:
    statuses = {}
    with _terminal.progress(len(known)) as begin:
        for name, experiment in known.items():
            begin(name)
            statuses[name] = _guarded(experiment, options, None)
    failed = [name for name, status in statuses.items() if status]
    if failed:
        print(f"failed: {', '.join(failed)} ({len(failed)} of {len(known)})", file=sys.stderr)
    return min((statuses[name] for name in failed), default=0)


def _run_one(
    experiment: _registry.Experiment, options: argparse.Namespace, words: Sequence[str]
) -> int:
    config = None
    if options.help or (words and not options.replot):
        module = _registry.load(experiment)
        config = _configured(module, experiment, options, words)
    elif words:
        raise UsageError(
            f"--replot draws from the saved numbers, so {words[0]} would change nothing. "
            f"Leave it out, or leave out --replot."
        )
    return _guarded(experiment, options, config)


def _configured(
    module: ModuleType,
    experiment: _registry.Experiment,
    options: argparse.Namespace,
    words: Sequence[str],
) -> Any:
    try:
        import tyro
    except ModuleNotFoundError as error:
        raise UsageError(
            "the options of an experiment need tyro, which is not installed. Install the extra: "
            "pip install 'diffcompare[experiments]'."
        ) from error
    try:
        return tyro.cli(
            module.Config,
            default=_registry.config(module, options.quick),
            args=[*words, *(["--help"] if options.help else [])],
            prog=f"python -m {experiment.module}",
            description=f"{experiment.claim}\n\nBeside these: --quick, --replot, --out FOLDER.",
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"{experiment.name}: {error}") from error


def _guarded(experiment: _registry.Experiment, options: argparse.Namespace, config: Any) -> int:
    # One experiment that fails must not keep the others from running.
    try:
        _run(experiment, options, config)
    except UsageError as error:
        print(f"error: {experiment.name}: {error}", file=sys.stderr)
        return _BAD_USAGE
    except FileNotFoundError as error:
        print(f"missing data: {experiment.name}: {error}", file=sys.stderr)
        return _BAD_USAGE
    except Exception:
        traceback.print_exc()
        print(f"failed: {experiment.name}", file=sys.stderr)
        return _FAILED
    return 0


def _run(experiment: _registry.Experiment, options: argparse.Namespace, config: Any) -> None:
    began = time.perf_counter()
    numbers = options.out / f"{experiment.name}.json"
    if options.replot and not numbers.is_file():
        raise UsageError(f"there is no {numbers} to draw from. Run it without --replot first.")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out needs a folder, but {options.out} is none: {error}.") from error
    module = _registry.load(experiment)
    with _precision(module):
        if not options.replot:
            config = _registry.config(module, options.quick) if config is None else config
            document = {
                "experiment": experiment.name,
                "claim": experiment.claim,
                "config": _portable(config),
                "environment": _environment.describe(),
                "result": _codec.encode(module.run(config)),
            }
            _files.write_atomically(numbers, _codec.dumps(document))
        result = _read(numbers, module)
        _draw(module, result, numbers)
    seconds = time.perf_counter() - began
    print(f"\n{experiment.name}: {experiment.claim}\n", flush=True)
    _terminal.show(module.summary(result))
    print(f"\n{numbers.with_suffix('.png')} after {seconds:.1f} s", flush=True)


def _precision(module: ModuleType) -> contextlib.AbstractContextManager:
    if not getattr(module, "ENABLE_X64", False):
        return contextlib.nullcontext()
    import jax

    return jax.enable_x64(True)


def _portable(config: Any) -> dict[str, Any]:
    """The fields of a config; of an absolute path only its name, which is not of one machine."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {key: _codec.encode(_name(value), f"config.{key}") for key, value in values.items()}


def _name(value: Any) -> Any:
    if not isinstance(value, Path):
        return value
    return value.name if value.is_absolute() else value.as_posix()


def _read(numbers: Path, module: ModuleType) -> Any:
    try:
        tree = json.loads(numbers.read_bytes())["result"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{numbers} is not the file of an experiment. Run it without --replot."
        ) from error
    return _codec.decode(tree, _codec.record_types(vars(module).values()))


def _draw(module: ModuleType, result: Any, numbers: Path) -> None:
    from diffcompare.plot import style

    with style.context():
        figure = module.plot(result)
        pictures = {kind: style.render(figure, kind) for kind in ("png", "svg")}
    for kind, data in pictures.items():
        _files.write_atomically(numbers.with_suffix(f".{kind}"), data)
