"""The fixture of pytest fails readably, and costs nothing where it is not used."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
# Where the package is installed, pytest finds the plugin by itself, and loads it once only.
_INSTALLED = entry_points(group="pytest11").select(name="diffcompare")
PLUGIN = ("-p", "no:cacheprovider", *(() if _INSTALLED else ("-p", "diffcompare.pytest_plugin")))


def test_importing_the_plugin_does_not_import_jax():
    program = "import diffcompare.pytest_plugin, sys; print('jax' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert found.stdout.strip() == "False"


def test_a_session_without_jax_is_unharmed(pytester, monkeypatch):
    """The package may be installed where another project, without JAX, runs its tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (pytester.path / "jax.py").write_text("raise ImportError('there is no JAX here')\n")
    pytester.makepyfile(
        """
        import sys
        def test_nothing_of_jax_is_loaded():
            assert "jax" not in sys.modules
        """
    )
    result = pytester.runpytest_subprocess(*PLUGIN, "-p", "no:jaxtyping")
    result.assert_outcomes(passed=1)


REPORTS = """
import pytest
from diffcompare.checking import report as reports

def loss(x):
    return x

def found(verdict, **of_leaf):
    leaf = reports.LeafReport("[0]['w']", (2,), "float32", verdict, "rev", **of_leaf)
    return reports.Report((leaf,), modes=("rev", "fwd"), function="loss")

@pytest.fixture(autouse=True)
def stubbed(monkeypatch):
    import sys, types
    module = types.ModuleType("diffcompare.checking.check")
    def check_grads(fun, args, order=1, *, raises=True, allow=()):
        assert raises is False
        return {
            "wrong": found("wrong", error=0.5, pattern="2 times too large",
                           entries=(reports.Entry((1,), 2.0, 1.0),)),
            "open": found("inconclusive", reason="rounding is as large as the derivative"),
            "right": found("consistent"),
        }[args[0]]
    module.check_grads = check_grads
    monkeypatch.setitem(sys.modules, "diffcompare.checking.check", module)
"""


def test_a_failing_check_shows_the_report_and_the_line_of_the_test_alone(pytester):
    pytester.makepyfile(
        REPORTS
        + """
def test_the_gradient(check_grads):
    check_grads(loss, ("wrong",))
"""
    )
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>       check_grads(loss, ("wrong",))',
            "E       AssertionError: WRONG: what JAX returns is not the derivative of loss.",
            "E       The only leaf is wrong.",
            "E       [[]0[]][[]'w'[]]  (2,)  float32  wrong in reverse mode, off by 50 %",
            "E           2 times too large",
            "E           entry   claimed   true   error",
            "E           (1,)          2      1   100 %",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")
    result.stdout.no_fnmatch_line("*report = check_grads*")
    # The call, the report and the head and foot of pytest: a screen.
    assert len(result.outlines) < 40


def test_what_is_right_passes_and_the_report_is_returned(pytester):
    pytester.makepyfile(
        REPORTS
        + """
def test_the_gradient(check_grads):
    report = check_grads(loss, ("right",), 2)
    assert report.verdict == "consistent"
    assert check_grads(loss, ("wrong",), raises=False).verdict == "wrong"
"""
    )
    pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)


def test_what_could_not_be_told_is_a_warning_and_no_silent_pass(pytester):
    pytester.makepyfile(
        REPORTS
        + """
def test_the_gradient(check_grads):
    check_grads(loss, ("open",))
"""
    )
    result = pytester.runpytest_inprocess(*PLUGIN, "-W", "default")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*InconclusiveWarning: INCONCLUSIVE: no mistake*"])
    pytester.runpytest_inprocess(*PLUGIN, "-W", "error").assert_outcomes(failed=1)


def test_the_fixture_is_listed_with_what_it_does(pytester):
    result = pytester.runpytest_inprocess(*PLUGIN, "--fixtures")
    result.stdout.fnmatch_lines(
        ["check_grads*", "*fails with a report where a derivative is wrong*"]
    )


def test_a_real_function_is_checked(pytester):
    pytester.makepyfile(
        """
        import jax.numpy as jnp
        def test_the_gradient(check_grads):
            assert check_grads(lambda x: jnp.sum(jnp.sin(x)), (jnp.arange(2.0),)).modes
        """
    )
    pytester.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)
