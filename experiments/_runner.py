"""Runs experiments and writes the report; the docstring of the package says how.

Exit status: 0 all well, 1 an experiment failed, 2 bad usage or missing data.
"""

import argparse
import datetime
import difflib
import functools
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import _beside, _registry, _terminal

if TYPE_CHECKING:
    from experiments._execution import Outcome  # it loads JAX, which --help and --list must not

_OPTIONS = ("--quick", "--replot", "--out", "--jobs", "--list", "--help")
_PROCESSES = ("coordinator", "num_processes", "process_id")
_FAILED, _BAD_USAGE, _INTERRUPTED = 1, 2, 130


def run_module(name: str | None = None, package: str = "experiments") -> int:
    """Runs the command line of `python -m experiments`, or of one experiment; returns the status.

    Args:
        name: The experiment, where it was started as `python -m experiments.NAME`.
        package: The package whose public modules are the experiments.
    """
    # So that a run which is asked to stop removes the file that it is writing.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return main([*([name] if name else []), *sys.argv[1:]], package)


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
        _check_processes(options)
        if options.jobs < 1:
            raise _registry.UsageError(f"--jobs must be positive, but it is {options.jobs}.")
        if rest:
            status = _run_one(_chosen(rest[0], known), options, rest[1:])
            return status or _report(known, options, package)
        if options.help:
            print(f"{_parser(package).format_help()}\nexperiments:\n{_listing(known)}")
            return 0
        # What failed keeps neither the others nor the report of the others from being written.
        statuses = (_run_all(known, options), _report(known, options, package))
        return min(filter(None, statuses), default=0)
    except _registry.UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return _BAD_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


def _parser(package: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {package}",
        usage="%(prog)s [NAME [--option VALUE ...]] [--quick] [--replot] [--out FOLDER] [--jobs N] "
        "[--list]",
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
    parser.add_argument(
        "--jobs",
        type=int,
        default=_beside.default_jobs(),
        help="how many experiments run at a time, each on its share of the cores of a CPU "
        "(default: %(default)s here)",
    )
    processes = parser.add_argument_group(
        "several processes", "Start the same command in each of them; the first one writes."
    )
    processes.add_argument("--coordinator", help="HOST:PORT of the first process, a free port")
    processes.add_argument("--num-processes", type=int, help="how many there are")
    processes.add_argument("--process-id", type=int, help="which one this is, counted from 0")
    parser.add_argument("--list", action="store_true", help="print the names and claims, and stop")
    parser.add_argument("-h", "--help", action="store_true", help="print this, and stop")
    return parser


def _check_processes(options: argparse.Namespace) -> None:
    missing = [name for name in _PROCESSES if getattr(options, name) is None]
    if 0 < len(missing) < len(_PROCESSES):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise _registry.UsageError(f"several processes need {names} too.")


def _join_processes(options: argparse.Namespace) -> None:
    """Connects this process with the others, if there are others, before JAX is used."""
    if options.coordinator is None:
        return
    from diffcompare.learn import placement

    try:
        placement.join_processes(options.coordinator, options.num_processes, options.process_id)
    except ValueError as error:
        raise _registry.UsageError(str(error)) from error
    options.coordinator = None  # once is enough


def _listing(known: dict[str, _registry.Experiment]) -> str:
    width = max(map(len, known), default=0)
    return "\n".join(f"  {e.name:{width}}  {e.claim}".rstrip() for e in known.values())


def _chosen(word: str, known: dict[str, _registry.Experiment]) -> _registry.Experiment:
    if word in known:
        return known[word]
    kind, choices = ("option", _OPTIONS) if word.startswith("-") else ("experiment", tuple(known))
    hint = "; the options of an experiment follow its name" if kind == "option" else ""
    raise _registry.UsageError(
        f"unknown {kind} {word!r}.{_nearest(word, choices)} Known: {', '.join(choices)}{hint}."
    )


def _nearest(word: str, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _run_all(known: dict[str, _registry.Experiment], options: argparse.Namespace) -> int:
    statuses = {}
    with _terminal.progress(len(known)) as begin:
        for experiment, ended in _runs(list(known.values()), options, begin):
            statuses[experiment.name] = _shown(experiment, ended)
    failed = [name for name in known if statuses[name]]
    if failed:
        print(f"failed: {', '.join(failed)} ({len(failed)} of {len(known)})", file=sys.stderr)
    return min((statuses[name] for name in failed), default=0)


def _runs(
    experiments: list[_registry.Experiment],
    options: argparse.Namespace,
    begin: Callable[[str], None],
) -> Iterator[tuple[_registry.Experiment, "_Ended"]]:
    """Yields every experiment as it ends."""
    # Processes cannot share an accelerator, and those that share a computation run the same
    # experiments in the same order.
    jobs = min(options.jobs, len(experiments))
    if jobs > 1 and options.coordinator is None and _is_cpu():
        attempt = functools.partial(_attempted, options=options, config=None)
        named = lambda experiment: begin(experiment.name)
        for experiment, ended in _beside.run(attempt, experiments, jobs, named):
            yield experiment, ended or _Ended(_FAILED, message=_killed(experiment))
        return
    for experiment in experiments:
        begin(experiment.name)
        yield experiment, _attempted(experiment, options, None)


def _is_cpu() -> bool:
    import jax

    return jax.default_backend() == "cpu"


def _run_one(
    experiment: _registry.Experiment, options: argparse.Namespace, words: Sequence[str]
) -> int:
    config = None
    if options.help or (words and not options.replot):
        module = _registry.load(experiment)
        config = _configured(module, experiment, options, words)
    elif words:
        raise _registry.UsageError(
            f"--replot draws from the saved numbers, so {words[0]} would change nothing. "
            f"Leave it out, or leave out --replot."
        )
    return _shown(experiment, _attempted(experiment, options, config))


def _configured(
    module: ModuleType,
    experiment: _registry.Experiment,
    options: argparse.Namespace,
    words: Sequence[str],
) -> Any:
    try:
        import tyro
    except ModuleNotFoundError as error:
        raise _registry.UsageError(
            "the options of an experiment need tyro, which is not installed. Install the extra: "
            "pip install 'diffcompare[experiments]'."
        ) from error
    # An error of the config itself, too, tyro prints and leaves with status 2.
    return tyro.cli(
        module.Config,
        default=_registry.config(module, options.quick),
        args=[*words, *(["--help"] if options.help else [])],
        prog=f"python -m {experiment.module}",
        description=f"{experiment.claim}\n\nBeside these: --quick, --replot, --out FOLDER.",
    )


def _report(
    known: dict[str, _registry.Experiment], options: argparse.Namespace, package: str
) -> int:
    """Writes the report of all experiments whose files are in the folder."""
    if options.process_id:  # the first process writes
        return 0
    from experiments import _claims, _report

    # The claims are about the experiments of this package.
    claims = _claims.CLAIMS if package == "experiments" else ()
    today = datetime.datetime.now(datetime.UTC).date()
    try:
        written = _report.write(options.out, known, claims, today)
    except _registry.UsageError as error:
        print(f"error: no report: {error}", file=sys.stderr)
        return _BAD_USAGE
    except Exception:
        traceback.print_exc()
        print("failed: the report", file=sys.stderr)
        return _FAILED
    if written:
        print(f"\n{written.page} shows {written.experiments} of {len(known)} experiments")
    return 0


def _killed(experiment: _registry.Experiment) -> str:
    return (
        f"failed: {experiment.name}: a process was killed, perhaps for lack of memory, of which "
        f"fewer at a time need less. Run it again with --jobs 1."
    )


class _Ended(NamedTuple):
    """How a run of an experiment ended."""

    status: int
    outcome: "Outcome | None" = None
    message: str = ""  # why it failed


def _attempted(
    experiment: _registry.Experiment, options: argparse.Namespace, config: Any
) -> _Ended:
    """Runs an experiment; one that fails must not keep the others from running."""
    _join_processes(options)
    from experiments import _execution

    name = experiment.name
    try:
        outcome = _execution.execute(
            experiment, config, quick=options.quick, replot=options.replot, folder=options.out
        )
    except _registry.UsageError as error:
        return _Ended(_BAD_USAGE, message=f"error: {name}: {error}")
    except FileNotFoundError as error:
        return _Ended(_BAD_USAGE, message=f"missing data: {name}: {error}")
    except Exception:
        return _Ended(_FAILED, message=f"{traceback.format_exc()}failed: {name}")
    return _Ended(0, outcome)


def _shown(experiment: _registry.Experiment, ended: _Ended) -> int:
    """Prints how a run ended, and returns its status."""
    if ended.message:
        print(ended.message, file=sys.stderr)
    if ended.outcome is not None:
        print(f"\n{experiment.name}: {experiment.claim}\n", flush=True)
        _terminal.show(ended.outcome.summary)
        print(f"\n{ended.outcome.picture} after {ended.outcome.seconds:.1f} s", flush=True)
    return ended.status
