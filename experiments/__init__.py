"""One module, one question, one figure. `python -m experiments` runs them all.

    python -m experiments                                every experiment
    python -m experiments step_size --steps 128          one of them, with its options
    python -m experiments step_size --quick              at its smallest sensible size
    python -m experiments step_size --replot             its figure again, from its saved numbers
    python -m experiments --jobs 1                       every experiment, one at a time
    python -m experiments --list                         their names and claims

Every module of this package whose name does not start with `_` is an experiment: there is no
list to add it to. It holds

`CLAIM`
    The sentence under test, as a string literal, so that `--list` can read it without importing.
`Config`
    A frozen dataclass with a default for every field, and a docstring below every field. Its
    fields are the command line (through tyro): numbers, strings, bools, `Literal`s, tuples,
    `pathlib.Path | None`. A `ValueError` of its `__post_init__` is reported as bad usage. No field
    is named `quick`, `replot`, `out`, `jobs`, `list` or `help`, which belong to the runner.
`Config.quick()`
    A classmethod that returns the smallest sensible config. Options given beside `--quick` change
    that config. Each takes a few seconds with it on two cores, most
    of them for compiling.
`Result`
    A `NamedTuple` (or dataclass) of arrays, numbers, strings, and of lists, tuples, dicts,
    NamedTuples and dataclasses of these. Its classes are named at the top of the module, where
    reading the file back finds them. It holds every number that `plot` and `summary` need.
`run(config) -> Result`
    Pure: draws nothing, prints nothing, writes nothing; its randomness comes from a seed in the
    config.
`plot(result) -> matplotlib.figure.Figure`
    Computes nothing, and is called with a result read from the JSON file. It starts from
    `diffcompare.plot.style.figure` and takes colours, line styles and markers from
    `style.series` and `style.method`; the runner applies the fonts. No pyplot.
`summary(result) -> str | list[dict[str, object]]`
    What is printed after the run: text, or the rows of a table, each a dict from the column's
    title to a number or text, all with the same keys.
`ENABLE_X64 = True`
    Only where the experiment needs 64-bit numbers. The runner switches them on around `run` and
    `plot`; a module never sets a JAX flag.

and ends with

    if __name__ == "__main__":
        raise SystemExit(main("step_size"))

where `main` is `experiments._runner.run_module`, imported at the top
(`from experiments._runner import run_module as main`), so that `python -m experiments.step_size`
works as well.

On a CPU several run beside each other, each in a process that has cores of its own, so that it can
measure times. The runner writes `figures/NAME.json`, which holds the config, the environment and
the result, then `NAME.png` and `NAME.svg`, drawn from that file alone. A `FileNotFoundError` of
`run` is reported as missing data (exit status 2), any other exception as a failure (exit status 1).
"""
