"""`python -m diffcompare check`: the report, the JSON and the exit status."""

import json
import sys
import types

import numpy as np
import pytest

from diffcompare.checking.report import LeafReport, Report
from diffcompare.commands import main

pytest.importorskip("tyro")

FILE = """
import jax.numpy as jnp
def loss(w, x):
    return jnp.sum(jnp.tanh(w * x))
def loss_args():
    return jnp.ones(2), jnp.ones(2)
"""


BROKEN = """
import jax
import jax.numpy as jnp

@jax.custom_vjp
def scaled(x):
    return jnp.sin(x)

scaled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (3 * g * jnp.cos(x),))

def loss(params):
    return jnp.sum(scaled(params["w"])) * params["b"]

def example_args():
    return ({"w": jnp.asarray([0.5, 1.0, 2.0], "float32"), "b": jnp.float32(1.5)},)
"""


def test_a_wrong_rule_in_a_file_is_found_and_told_the_same_every_time(tmp_path, capsys):
    file, paths = tmp_path / "a_broken_net.py", [tmp_path / "one.json", tmp_path / "two.json"]
    file.write_text(BROKEN)
    texts = []
    for path in paths:
        assert main(["check", f"{file}:loss", "--json", str(path)]) == 1
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    lines = texts[0].splitlines()
    assert lines[0] == "WRONG: what JAX returns is not the derivative of loss."
    assert lines[3].startswith("[0]['w']  (3,)  float32  wrong in reverse mode, off by ")
    assert "3 times too large: the rule of `scaled` (custom_vjp, a_broken_net.py:" in texts[0]
    found = json.loads(paths[0].read_text())
    wrong = [leaf for leaf in found["leaves"] if leaf["verdict"] == "wrong"]
    assert [leaf["path"] for leaf in wrong] == ["[0]['w']"]
    # 1.5 cos(0.5), three times too large.
    assert wrong[0]["entries"][0]["true"] == pytest.approx(1.5 * np.cos(0.5), rel=1e-12)
    assert main(["check", f"{file}:loss", "--allow", "scaling"]) == 0


@pytest.fixture
def target(tmp_path):
    file = tmp_path / "a_net_to_check.py"
    file.write_text(FILE)
    return f"{file}:loss"


@pytest.fixture
def asked(monkeypatch):
    """What the checker is asked for; it answers by the verdict that is written there."""
    asked = {"verdict": "consistent"}

    def check_grads(fun, args, **options):
        asked.update(options, name=fun.__name__, count=len(args))
        leaf = LeafReport("[0]", (2,), "float32", asked["verdict"], "rev", error=float("nan"))
        return Report((leaf,), modes=tuple(options["modes"]), function="f", reproduce="in Python")

    stub = types.ModuleType("diffcompare.checking.check")
    stub.check_grads = check_grads
    monkeypatch.setitem(sys.modules, "diffcompare.checking.check", stub)
    return asked


@pytest.mark.parametrize(
    ("verdict", "status"), [("consistent", 0), ("kink", 0), ("wrong", 1), ("inconclusive", 1)]
)
def test_the_exit_status_says_whether_all_is_well(verdict, status, target, asked, capsys):
    asked["verdict"] = verdict
    assert main(["check", target]) == status
    out = capsys.readouterr().out
    assert out.startswith(verdict.upper())
    # A long path is broken where the line ends.
    assert f"python-mdiffcomparecheck{target}" in "".join(out.split())
    assert asked["name"] == "loss"
    assert asked["count"] == 2
    assert asked["raises"] is False


def test_options_are_passed_and_said_again(target, asked, capsys, tmp_path):
    arguments = ["--order", "2", "--modes", "rev", "--allow", "clipping", "scaling"]
    assert main(["check", target, *arguments, "--json", str(tmp_path / "report.json")]) == 0
    assert asked["order"] == 2
    assert asked["modes"] == ("rev",)
    assert asked["allow"] == ("clipping", "scaling")
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["reproduce"].endswith(":loss --order 2 --modes rev --allow clipping scaling")
    assert found["leaves"][0]["error"] == "NaN"


def test_what_is_missing_is_bad_usage(tmp_path, asked, capsys):
    assert main(["check", str(tmp_path / "no.py:loss")]) == 2
    assert "there is no file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as leaving:
        main(["check"])
    assert leaving.value.code == 2
