"""The notebooks run from top to bottom, and show what their text says."""

import ast
import contextlib
import io
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.expression_swell import PUBLISHED

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


class Run(NamedTuple):
    """What a notebook leaves."""

    names: dict[str, Any]
    shown: dict[str, Any]  # by the id of the cell, what its last expression is
    printed: dict[str, str]  # by the id of the cell


@pytest.fixture(params=["float32", "float64"])
def default_dtype(request):
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield request.param
    jax.config.update("jax_enable_x64", before)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def run(name: str) -> Run:
    """Returns what a notebook leaves, cell by cell as Jupyter runs it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    shown, printed = {}, {}
    cells = read(ROOT / "notebooks" / f"{name}.ipynb")["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    plt.switch_backend("agg")
    for number, cell in enumerate(code, start=1):
        file, tree = f"{name}.ipynb[{number}]", ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(tree, file, "exec"), names)
            if isinstance(last, ast.Expr):
                value = compile(ast.Expression(last.value), file, "eval")
                shown[cell["id"]] = eval(value, names)
        printed[cell["id"]] = output.getvalue()
    plt.close("all")
    return Run(names, shown, printed)


def test_there_is_a_notebook_for_each_level_and_the_readme_links_to_it():
    assert {path.stem for path in NOTEBOOKS} == {"numerical", "symbolic", "automatic"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        assert f"](notebooks/{path.name})" in readme


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_with_readable_ids(path):
    notebook = read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cell["id"])
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_links_of_a_notebook_lead_somewhere(path):
    text = "".join(
        line
        for cell in read(path)["cells"]
        if cell["cell_type"] == "markdown"
        for line in cell["source"]
    )
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 0
    for link in links:
        assert (path.parent / link).exists(), link
    for name in re.findall(r"`python -m experiments (\w+)`", text):
        assert (ROOT / "experiments" / f"{name}.py").exists(), name


@pytest.mark.parametrize("default_dtype", ["float32"], indirect=True)  # it sets its own
def test_numerical_lesson(default_dtype):
    """Lecture rows 26 and 31."""
    names, shown, printed = run("numerical")
    assert float(shown["loss"]) == 32.0
    assert names["right"] == 80.0
    # The loss is a parabola: a forward difference is off by half a step times its curvature, 100.
    table = np.loadtxt(printed["truncation-error"].splitlines(), skiprows=1)
    np.testing.assert_array_equal(table[:, 1:], np.outer(table[:, 0], [50.0, 50.0, 0.0]))
    for (_, quotient), share in names["shares"].items():
        # Half and two thirds of the digits, but for constants of about ten.
        assert share == pytest.approx({"forward": 1 / 2, "central": 2 / 3}[quotient], abs=0.1)
    assert abs(float(names["by_hand"]) / 80 - 1) > 0.01
    assert float(names["mended"]) == 80.0
    relative = names["relative"]
    assert relative["float32", 1e-6] > 0.01 > relative["float32", None]
    assert 1e-5 > relative["float64", 1e-6] > relative["float64", None]
    assert "too small" in printed["step-vanishes"]
    np.testing.assert_allclose(names["ratios"], [[4, 16, 64]] * 2, rtol=0.02)
    extrapolated = float(names["richardson"](jax.numpy.sin, 1.0, 0.5))
    assert names["by_order"][4] == pytest.approx(extrapolated, rel=1e-14)  # some 50 eps
    errors = [abs(slope - math.cos(1)) for slope in names["by_order"].values()]
    assert errors == sorted(errors, reverse=True)
    estimates = names["estimates"]
    statuses = [str(found.reasons) for found in estimates.values()]
    assert statuses == ["converged", "converged", "kink", "noise"]
    for found, (_, _, truth) in zip(estimates.values(), names["functions"].values(), strict=True):
        assert truth is None or abs(float(found.grad) - truth) <= float(found.bound)
    assert float(names["complex_step"](jax.numpy.abs, 2.0)) == 0.0
    assert float(names["slope_of_abs"]) == 1.0
    assert names["counts"] == {n: (n + 1, 2 * n + 1) for n in (1, 10, 100)}
    # A central difference in float64, with an error of about eps ** (2 / 3) = 4e-11.
    implicit = 1 / (1 - 0.5 * math.cos(names["anomaly"](1.0, 0.5)))
    assert float(names["slope"]) == pytest.approx(implicit, rel=1e-9)


def test_symbolic_lesson(default_dtype):
    """Lecture rows 27, 30 and 31."""
    names, shown, printed = run("symbolic")
    assert shown["derivation"].text("w1") == "dL/dw1 = (w2 relu(w1 x) - y) w2 relu'(w1 x) x"
    assert [float(slope) for slope in names["gradient"]] == [80.0, 40.0]
    assert [float(slope) for slope in names["switched_off"]] == [0.0, 0.0]
    assert names["gradient"][0].dtype == default_dtype
    assert str(shown["steps-shown"]).splitlines()[-1] == "dL/dw2 = delta2 a1"
    closed = "dL/dW1 = (W2^T (W2 sigma(W1 x) - y) o sigma'(W1 x)) x^T"
    assert shown["network"].text("W1") == closed
    assert names["wide"].text() == names["network"].text()
    assert names["wide"].operations == names["network"].operations
    assert "agrees with jax.grad: True" in printed["source-runs"]
    assert names["swell"] == {n: PUBLISHED[n][1:] for n in range(2, 8)}
    formulas, programs, matrices = zip(*names["depths"].values(), strict=True)
    assert set(np.diff(programs)) == {8}
    assert len(set(np.diff(matrices))) == 1
    assert all(b > 3 * a for a, b in itertools.pairwise(formulas))
    assert "5 layers: " in printed["layers-swell"]
    # Right to rounding, against a difference that loses a third of the digits.
    ulps = names["ulps"]
    assert max(ulps["Symbolic"], ulps["ReverseMode"]) < 100
    assert ulps["CentralDifference"] > 1000
    assert float(names["by_rule"]) == 0.0
    assert float(names["exact_tanh"].grad) == pytest.approx(1.6993417021166355e-17, rel=1e-15)
    labels = ("jax.grad", "symbolic", "symbolic, lecture", "central difference")
    for fun, slopes in {"relu(x)": (0.0, 0.0, 1.0, 0.5), "max(x, 0)": (0.5, 0.5, 1.0, 0.5)}.items():
        assert tuple(names["at_zero"][fun, label] for label in labels) == slopes
    assert printed["conventions"].count("kinks              1") == 2


def test_automatic_lesson(default_dtype):
    """Lecture rows 28, 31 to 35, and 37 to 40."""
    names, shown, printed = run("automatic")
    assert len(names["gradients"]) == 5
    for gradient in names["gradients"].values():
        assert [float(slope) for slope in gradient] == [80.0, 40.0]
    assert shown["both-passes"] == (32.0, 80.0, 40.0)
    assert [float(names["graph"][name].gradient) for name in ("ŷ", "g", "f", "w1", "w2")] == [
        8.0, 16.0, 16.0, 80.0, 40.0,
    ]  # fmt: skip
    assert printed["drawn"].splitlines()[-1].endswith("= 16 · 5 = 80")
    for n, (forward, reverse) in names["work"].items():
        # A product with a matrix for each input; one there and one back.
        assert forward == pytest.approx(n, rel=0.3)
        assert reverse == pytest.approx(2, rel=0.3)
    counts = shown["multiplications"]
    assert counts.shared < counts.unshared < counts.forward
    # Sums of eight numbers.
    np.testing.assert_allclose(
        names["mean_of_gradients"], names["gradient_of_mean"], rtol=8 * np.finfo(default_dtype).eps
    )
    weight = np.asarray(names["weight"])
    for jacobian in names["layer"].values():
        # Numbers as round as these are not rounded, in a difference neither.
        np.testing.assert_array_equal(jacobian, weight * [1.0, 0.0, 1.0])
    np.testing.assert_allclose(
        names["product"], names["hessian"] @ names["direction"], rtol=1e-5
    )  # sums of three numbers, which partly cancel
    assert [float(slope) for slope in names["with_own_rule"]] == [80.0, 40.0]
    assert names["right_report"].verdict == "consistent"
    assert names["wrong_report"].verdict == "wrong"
    assert "automatic.ipynb[13]" in printed["wrong-rule"]
    errors = {row.name: row.error for row in shown["comparison"].rows}
    assert len(errors) == 5
    assert errors["reverse mode"] < errors["central difference, order 2"]
    assert errors["central difference, order 2"] < errors["forward difference"]
