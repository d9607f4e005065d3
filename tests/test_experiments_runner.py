"""The runner: what it writes, what it prints, how it fails. Experiments of a few lines stand in."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from diffcompare import _files
from experiments import _beside, _environment, _registry, _runner, _terminal

ROOT = Path(__file__).parents[1]

PARABOLA = '''
    """A parabola."""

    from dataclasses import dataclass
    from pathlib import Path
    from typing import NamedTuple

    import numpy as np

    from diffcompare.plot import style

    CLAIM = "A parabola is flat " "at its foot."
    ENABLE_X64 = True


    @dataclass(frozen=True)
    class Config:
        """How the parabola is sampled."""

        points: int = 9
        """How many points."""
        data: Path | None = None
        """A file that is not read."""

        def __post_init__(self):
            if self.points < 1:
                raise ValueError(f"points must be positive, but it is {self.points}.")

        @classmethod
        def quick(cls):
            return cls(points=3)


    class Curve(NamedTuple):
        x: np.ndarray
        y: np.ndarray


    class Result(NamedTuple):
        curve: Curve
        nan: float
        dtype: str


    def run(config):
        import jax.numpy as jnp

        x = np.linspace(-1, 1, config.points)
        return Result(Curve(x, x**2), float("nan"), str(jnp.zeros(()).dtype))


    def plot(result):
        figure, axes = style.figure()
        axes.plot(*result.curve, **style.series(0))
        return figure


    def summary(result):
        return [{"points": len(result.curve.x), "lowest": float(result.curve.y.min())}]
'''
ERUPTION = PARABOLA.replace("import jax.numpy as jnp", 'raise RuntimeError("it erupted")')
STARVED = PARABOLA.replace("import jax.numpy as jnp", 'raise FileNotFoundError("no grain")')


@pytest.fixture
def package(tmp_path, monkeypatch, request):
    """The name of a package that holds one experiment, and the folder it lies in."""
    name = f"tiny{abs(hash(request.node.nodeid))}"
    write(tmp_path / name, __init__="", _private="", parabola=PARABOLA)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return name


def write(folder, **modules):
    folder.mkdir(exist_ok=True)
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source))


REPORT = ("README.md", "report.html")


def files_of(name):
    return {f"{name}.{kind}" for kind in ("json", "png", "svg")}


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_run_writes_the_numbers_and_both_pictures_and_prints_a_table(package, capsys):
    assert _runner.main([], package) == 0
    files = contents("figures")
    assert set(files) == {*files_of("parabola"), *REPORT}
    assert files["parabola.png"].startswith(b"\x89PNG")
    assert b"<svg" in files["parabola.svg"]
    printed = capsys.readouterr()
    assert "points  lowest\n9       0\n" in printed.out
    assert printed.err == "[1/1] parabola ...\n"


def test_the_file_holds_config_environment_and_result_as_standard_json(package):
    _runner.main(["parabola", "--points", "5"], package)

    def refuse(constant):
        raise AssertionError(f"{constant} is not standard JSON")

    saved = json.loads(Path("figures/parabola.json").read_bytes(), parse_constant=refuse)
    assert saved["claim"] == "A parabola is flat at its foot."
    assert saved["config"] == {"points": 5, "data": None}
    assert saved["environment"]["packages"]["jax"] == jax.__version__
    assert saved["result"]["fields"]["curve"]["fields"]["y"]["values"] == [
        1.0,
        0.25,
        0.0,
        0.25,
        1.0,
    ]


def test_the_file_names_neither_the_machine_nor_its_folders(package, tmp_path):
    _runner.main(["parabola", "--data", str(tmp_path / "private" / "mnist.npz")], package)
    text = Path("figures/parabola.json").read_text()
    assert '"data":"mnist.npz"' in text
    assert str(tmp_path) not in text
    assert os.uname().nodename not in json.dumps(_environment.describe())


def test_quick_takes_the_smallest_config_and_options_change_it(package):
    def points():
        return json.loads(Path("o/parabola.json").read_bytes())["config"]["points"]

    _runner.main(["--quick", "--out", "o"], package)
    assert points() == 3
    _runner.main(["parabola", "--quick", "--points", "4", "--out", "o"], package)
    assert points() == 4


def test_replot_draws_the_same_picture_from_the_file_alone(package):
    _runner.main(["--quick"], package)
    before = contents("figures")
    for kind in ("png", "svg"):
        Path(f"figures/parabola.{kind}").unlink()
    # Another process, where running the experiment again would fail.
    write(Path(package), parabola=ERUPTION)
    run_python("-c", f"from experiments._runner import main; main(['--replot'], '{package}')")
    assert contents("figures") == before


def test_an_experiment_that_needs_64_bits_has_them_and_leaves_them_off(package):
    with jax.enable_x64(False):
        _runner.main(["--quick"], package)
        assert jax.numpy.zeros(()).dtype == np.float32
    result = json.loads(Path("figures/parabola.json").read_bytes())["result"]
    assert result["fields"]["dtype"] == "float64"


def test_an_experiment_that_does_not_ask_for_64_bits_has_none(package):
    write(Path(package), parabola=PARABOLA.replace("ENABLE_X64 = True", ""))
    with jax.enable_x64(True):
        _runner.main(["--quick"], package)
    saved = json.loads(Path("figures/parabola.json").read_bytes())
    assert saved["result"]["fields"]["dtype"] == "float32"
    assert saved["environment"]["default_float"] == "float32"


def test_one_failure_does_not_keep_the_others_from_running(package, capsys):
    write(Path(package), eruption=ERUPTION)
    assert _runner.main(["--quick"], package) == 1
    assert set(contents("figures")) == {*files_of("parabola"), *REPORT}
    printed = capsys.readouterr().err
    assert "RuntimeError: it erupted" in printed
    assert "failed: eruption (1 of 2)" in printed


def test_missing_data_is_bad_usage_and_not_a_failure(package, capsys):
    write(Path(package), starved=STARVED)
    assert _runner.main(["starved"], package) == 2
    assert capsys.readouterr().err == "missing data: starved: no grain\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["parbola"],
            r"unknown experiment 'parbola'\. Did you mean 'parabola'\? Known: parabola\.",
        ),
        (["--qick"], r"unknown option '--qick'\. Did you mean '--quick'\?"),
        (["--points", "3", "parabola"], r"the options of an experiment follow its name"),
        (["parabola", "--poins", "3"], r"--points"),
        (["parabola", "--points", "many"], r"many"),
        (["--jobs", "0"], r"--jobs must be positive, but it is 0\."),
        (["parabola", "--points", "0"], r"points must be positive, but it is 0\."),
        (["parabola", "--replot"], r"there is no figures.parabola\.json to draw from"),
        (["parabola", "--replot", "--points", "3"], r"--replot draws from the saved numbers"),
        (["parabola", "--out", "a_file"], r"--out needs a folder, but a_file is none"),
    ],
)
def test_bad_usage_is_status_2_and_says_what_to_do(package, capsys, arguments, message):
    Path("a_file").write_text("")
    try:
        status = _runner.main(arguments, package)
    except SystemExit as left:  # tyro leaves this way
        status = left.code
    assert status == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed), printed


def test_a_missing_extra_is_named_with_the_command_that_installs_it(package, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro", None)  # as if it were not installed
    assert _runner.main(["parabola", "--points", "3"], package) == 2
    assert "pip install 'diffcompare[experiments]'" in capsys.readouterr().err
    # Without options it is not needed.
    assert _runner.main(["parabola"], package) == 0


def test_help_and_list_show_every_experiment_with_its_claim(package, capsys):
    for option in ("--help", "--list"):
        assert _runner.main([option], package) == 0
        assert "parabola  A parabola is flat at its foot." in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        _runner.main(["parabola", "--help"], package)
    assert "How many points." in capsys.readouterr().out


def test_a_module_that_lacks_a_part_is_told_which(package, capsys):
    write(Path(package), hollow='CLAIM = "Nothing."')
    assert _runner.main(["hollow"], package) == 1
    assert "hollow needs Config, run, plot, summary to be an experiment" in capsys.readouterr().err


def test_a_file_from_before_a_change_of_the_result_says_run_again(package, capsys):
    _runner.main(["--quick"], package)
    saved = Path("figures/parabola.json")
    saved.write_bytes(saved.read_bytes().replace(b'"nan":', b'"mean":'))
    assert _runner.main(["parabola", "--replot"], package) == 2
    assert "Result was saved with the fields" in capsys.readouterr().err
    saved.write_bytes(b"{")
    assert _runner.main(["parabola", "--replot"], package) == 2
    assert "parabola.json is not the file of an experiment" in capsys.readouterr().err


def test_an_experiment_runs_as_a_module_of_its_own(package, tmp_path):
    start = f"""
    if __name__ == "__main__":
        from experiments._runner import run_module
        raise SystemExit(run_module("parabola", "{package}"))
    """
    write(Path(package), parabola=textwrap.dedent(PARABOLA) + textwrap.dedent(start))
    run_python("-m", f"{package}.parabola", "--points", "4")
    assert b'"points":4' in contents("figures")["parabola.json"]


def run_python(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.getcwd()}"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, check=True, capture_output=True, **options
    )


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, failing, error):
    target = tmp_path / "numbers.json"
    target.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(error):
        _files.write_atomically(target, b"new")
    assert contents(tmp_path) == {"numbers.json": b"old"}


def test_an_interrupted_run_is_status_130_and_leaves_no_file(package, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    assert _runner.main(["--quick"], package) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert contents("figures") == {}


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_killed_while_it_writes_leaves_no_half_written_file(package, ending):
    _runner.main(["--quick"], package)
    before = contents("figures")
    code = f"""
    import os, sys, time
    from experiments import _runner

    def hang(_):
        print("writing", flush=True)
        time.sleep(600)

    os.fsync = hang
    sys.argv = ["", "parabola"]
    raise SystemExit(_runner.run_module(package="{package}"))
    """
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.getcwd()}"}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(ending)
    after = contents("figures")
    leftovers = set(after) - set(before)
    assert {name: after[name] for name in before} == before
    if ending == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
        assert leftovers == set()
    else:  # nothing can clean up after it but a later run, which does
        assert len(leftovers) == 1
        abandoned = Path("figures", *leftovers)
        os.utime(abandoned, (0, 0))
        _files.write_atomically(Path("figures/parabola.json"), b"new")
        assert not abandoned.exists()


def experiment(claim, begin=""):
    """The source of a parabola that does something first."""
    source = PARABOLA.replace('CLAIM = "A parabola is flat " "at its foot."', f"CLAIM = {claim!r}")
    return source.replace("import jax.numpy as jnp", f"import jax.numpy as jnp; {begin}")


# Leaves the cores it may run on in a file, and waits for another experiment to do so.
MEET = """
import os, pathlib, time
pathlib.Path("{own}.part").write_text(" ".join(map(str, os.sched_getaffinity(0))))
os.rename("{own}.part", "{own}.cores")
until = time.monotonic() + 60
while not pathlib.Path("{other}.cores").exists():
    assert time.monotonic() < until, "{other} never came"
    time.sleep(0.01)
"""


@pytest.mark.skipif(_beside.default_jobs() < 2, reason="processes cannot have cores of their own")
def test_experiments_run_beside_each_other_on_cores_of_their_own(package, capsys):
    for own, other in (("left", "right"), ("right", "left")):
        meet = f"exec({MEET.format(own=own, other=other)!r})"
        write(Path(package), **{own: experiment(f"{own.title()}.", meet)})
    Path(package, "parabola.py").unlink()
    assert _runner.main(["--quick", "--jobs", "2"], package) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == ["[1/2] left ...", "[2/2] right ..."]
    left, right = (set(Path(f"{name}.cores").read_text().split()) for name in ("left", "right"))
    assert left
    assert right
    assert left.isdisjoint(right)
    # What each prints stays together.
    for name in ("left", "right"):
        table = f"{name}: {name.title()}.\n\npoints  lowest\n3       0\n\nfigures/{name}.png after"
        assert table in printed.out


def test_how_many_run_at_a_time_changes_no_number(package):
    write(Path(package), other=experiment("Another."))
    assert _runner.main(["--quick", "--jobs", "1", "--out", "one"], package) == 0
    assert _runner.main(["--quick", "--jobs", "2", "--out", "two"], package) == 0
    for name in ("parabola", "other"):
        one, two = (json.loads(Path(out, f"{name}.json").read_bytes()) for out in ("one", "two"))
        assert one["result"] == two["result"]
        assert one["environment"]["cores"] >= two["environment"]["cores"]


def test_a_killed_process_is_named_and_what_has_ended_is_kept(package, capsys):
    write(Path(package), dies=experiment("It dies.", "import os; os.kill(os.getpid(), 9)"))
    for name in ("late", "later"):
        write(Path(package), **{name: experiment("It comes late.")})
    assert _runner.main(["--quick", "--jobs", "2"], package) == 1
    printed = capsys.readouterr()
    assert "failed: dies: a process was killed, perhaps for lack of memory" in printed.err
    assert "Run it again with --jobs 1" in printed.err
    ended = {name for name in ("late", "later", "parabola") if f"{name}: It" in printed.out}
    assert files_of("dies").isdisjoint(contents("figures"))
    assert all(files_of(name) <= set(contents("figures")) for name in ended)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_ends_its_processes_and_leaves_no_file(package, ending):
    hang = "import os, time; os.fsync = lambda _: [print('writing', flush=True), time.sleep(600)]"
    write(Path(package), parabola=experiment("Left.", hang), other=experiment("Right.", hang))
    code = "import sys; from experiments import _runner; sys.argv = ['', '--jobs', '2']\n"
    code += f"if __name__ == '__main__': sys.exit(_runner.run_module(package={package!r}))"
    Path("start.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.getcwd()}"}
    with subprocess.Popen(
        [sys.executable, "start.py"], stderr=subprocess.PIPE, env=environment
    ) as process:
        begun = time.monotonic()
        while len(list(Path(".").glob("figures/*"))) < 2:
            assert time.monotonic() < begun + 120
            time.sleep(0.05)
        process.send_signal(ending)
        process.communicate(timeout=60)  # to the end of stderr, which its processes hold, too
    assert process.returncode == (130 if ending == signal.SIGINT else 128 + signal.SIGTERM)
    assert contents("figures") == {}


def test_on_a_terminal_rich_draws_the_bar_and_the_table(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb")  # one without colours
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with _terminal.progress(2) as begin:
        begin("first")
        begin("second")
    _terminal.show([{"method": "central", "error": 1.5e-7}])
    _terminal.show("a sentence")
    assert capsys.readouterr().out.split() == [
        "method",
        "error",
        "central",
        "1.5e-07",
        "a",
        "sentence",
    ]


@pytest.mark.parametrize("name", _registry.find("experiments"))
def test_every_experiment_runs_at_its_smallest_size_and_is_drawn_again(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert _runner.main([name, "--quick", "--out", str(tmp_path)]) == 0
    first = contents(tmp_path)
    assert set(first) == {*files_of(name), *REPORT}
    assert _runner.main([name, "--replot", "--out", str(tmp_path)]) == 0
    assert contents(tmp_path) == first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coordinator", "localhost:1"], "--num-processes, --process-id too"),
        (
            ["--coordinator", "localhost:1", "--num-processes", "2", "--process-id", "2"],
            "process_id must be from 0 to 1, but it is 2",
        ),
    ],
)
def test_a_process_that_cannot_take_part_is_bad_usage(options, message, capsys):
    assert _runner.main(["step_size", "--quick", *options]) == 2
    assert message in capsys.readouterr().err
