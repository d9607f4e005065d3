"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_example_prints_what_the_readme_says():
    """Lecture row 26 to 28: one network differentiated three ways."""
    code, shown = re.search(
        r"```python\n(import jax\n.*?)```\n\n```\n(.*?)```", README, re.S
    ).groups()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    number = r"-?\d+\.\d+"
    assert re.sub(number, "#", done.stdout).split() == re.sub(number, "#", shown).split()
    found, expected = (
        [float(n) for n in re.findall(number, text)] for text in (done.stdout, shown)
    )
    # Another processor rounds otherwise; the finite difference magnifies that to eps ** (2 / 3).
    assert found == pytest.approx(expected, abs=2e-4)


# What the examples after the first begin with.
HEAD = "import jax\nimport jax.numpy as jnp\n\nimport diffcompare as dc\n\n"


@pytest.mark.parametrize("call", ["dc.check_grads(dense", "dc.derive(loss"])
def test_later_examples_print_what_the_readme_says(call, tmp_path):
    shown = re.findall(r"```python\n((?:(?!```).)*?)```\n\n```\n(.*?)```", README, re.S)
    ((code, wanted),) = [pair for pair in shown if call in pair[0]]
    (tmp_path / "mine.py").write_text(HEAD + code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, tmp_path / "mine.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # The README leaves out what follows.
    assert done.stdout[: len(wanted)] == wanted


def test_links_and_names_exist():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link.strip()).exists(), link
    for name in re.findall(r"`((?:tests|experiments|diffcompare)/[\w./]+)`", README):
        assert (ROOT / name).exists(), name
