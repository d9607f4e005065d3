"""`python -m diffcompare compare` and `derive`."""

import json
import sys

import pytest
from PIL import Image

from diffcompare import comparison
from diffcompare.automatic import ReverseMode
from diffcompare.commands import main

pytest.importorskip("tyro")

NET = """
import jax.numpy as jnp

def loss(w, x):
    return jnp.sum(jnp.square(w * x)) / 2

def rows(w, x):
    return w * x

def example_args():
    return jnp.asarray([1.0, 2.0]), jnp.asarray([3.0, 0.5])
"""


@pytest.fixture
def net(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "net_of_commands.py"
    path.write_text(NET)
    yield path
    sys.modules.pop(path.stem, None)


@pytest.fixture
def one_method(monkeypatch):
    """All methods are compared in `test_compare.py`; here one is enough."""
    compare = comparison.compare
    monkeypatch.setattr(
        comparison, "compare", lambda *args, **options: compare(
            *args, methods=[ReverseMode()], repeats=1, **options
        )
    )  # fmt: skip


@pytest.mark.usefixtures("one_method")
def test_a_comparison_is_printed_and_written(net, tmp_path, capsys):
    files = {kind: tmp_path / f"found.{kind}" for kind in ("json", "md", "png")}
    arguments = ["--json", files["json"], "--markdown", files["md"], "--figure", files["png"]]
    assert main(["compare", f"{net}:loss", *map(str, arguments), "--argnums", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("loss: 2 entries, float64")
    (row,) = json.loads(files["json"].read_text())["rows"]
    assert row["name"] == "reverse mode"
    assert row["error"] < 1e-15
    assert "| reverse mode |" in files["md"].read_text()
    with Image.open(files["png"]) as picture:
        assert picture.size == (1050, 630)


@pytest.mark.usefixtures("one_method")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py:loss"], "there is no file nowhere.py"),
        (["{net}:losses"], "has no function 'losses'. It has: loss, rows."),
        (["{net}:rows"], "compare needs a function with a scalar output"),
        (["{net}:loss", "--argnums", "2"], "compare is to differentiate argument 2"),
        (["{net}:loss", "--json", "nowhere/a.json"], "there is no folder nowhere to write a.json"),
        (["{net}:loss", "--figure", "a.gif"], "--figure needs a .png or .svg file"),
        (["{net}:loss", "--seconds", "0"], "seconds must be positive"),
    ],
)
def test_bad_usage_is_told_without_a_traceback(net, capsys, arguments, message):
    assert main(["compare", *(argument.format(net=net) for argument in arguments)]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_a_derivation_is_printed_in_each_form(net, capsys):
    def printed(*options):
        assert main(["derive", f"{net}:loss", *options]) == 0
        return capsys.readouterr().out

    assert printed().startswith("Derivation of loss by w: route 'matrix'")
    assert "dL/dw" in printed("--argnums", "0")
    assert "dL/dx" in printed("--argnums", "1")
    assert r"\frac{\partial" in printed("--latex")
    assert "route 'program'" in printed("--route", "program")
    assert printed("--steps").splitlines() == ["L = 1/2 ||w o x||^2", "dL/dw = w o x^o2"]
    assert r"\begin{aligned}" in printed("--steps", "--latex")
    code = {}
    exec(printed("--source"), code)
    value, (gradient,) = code["value_and_grad"](2.0, 3.0)
    assert float(value) == float(gradient) == 18.0


def test_source_is_neither_steps_nor_latex(net, capsys):
    assert main(["derive", f"{net}:loss", "--source", "--latex"]) == 2
    assert "Choose one" in capsys.readouterr().err


def test_what_no_route_can_derive_is_bad_usage(net, capsys):
    net.write_text(NET + "\ndef loss(w, x):\n    return jnp.sum(jnp.fft.rfft(w).real)\n")
    assert main(["derive", f"{net}:loss", "--route", "matrix"]) == 2
    assert "has no rule for the primitive" in capsys.readouterr().err
