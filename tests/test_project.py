"""The project as a whole: what importing it loads, what is installed, what its files mention."""

import ast
import importlib.resources
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import diffcompare

ROOT = Path(__file__).parents[1]


def modules_loaded_by(code: str) -> set[str]:
    """Returns the top-level modules that a fresh Python has loaded after running `code`."""
    report = "import sys; print('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ran.stdout.rpartition("loaded:")[2].split())


def test_importing_the_package_loads_no_library_at_all():
    loaded = modules_loaded_by("import diffcompare")
    assert loaded.isdisjoint({"jax", "numpy", "sympy", "mpmath", "matplotlib", "optax"})


def test_every_public_name_is_there_and_known_to_tools_that_read_types():
    tree = ast.parse((ROOT / "diffcompare" / "__init__.py").read_text(encoding="utf-8"))
    read = {
        alias.asname: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert read == {**diffcompare._NAMES, **dict.fromkeys(diffcompare._MODULES, "diffcompare")}
    for name in read:
        assert getattr(diffcompare, name) is not None
    assert set(read) <= set(dir(diffcompare))


def test_a_gradient_loads_no_library_that_it_may_not_need():
    loaded = modules_loaded_by("import diffcompare; diffcompare.grad; diffcompare.ReverseMode")
    assert "jax" in loaded
    assert loaded.isdisjoint({"sympy", "mpmath", "matplotlib", "optax", "jaxtyping"})
    assert "jax.extend.core" not in loaded  # it loads Pallas


@pytest.mark.parametrize("option", ["--help", "--list"])
def test_the_help_of_the_experiments_loads_no_library_at_all(option):
    loaded = modules_loaded_by(f"from experiments._runner import main; main(['{option}'])")
    assert loaded.isdisjoint({"jax", "numpy", "sympy", "matplotlib", "tyro", "rich"})


def test_the_package_ships_its_type_marker():
    assert (importlib.resources.files("diffcompare") / "py.typed").is_file()


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


# Written so that they do not match this file.
PATHS_OF_A_MACHINE = r"/(home|Users)/[a-z]|/(root|work|mnt|tmp)/[a-z]|[A-Z]:\\\\"
PACKAGE_INDEX = r"py[p]i\.org|pythonhoste[d]|--(extra-)?index-ur[l]|--find-link[s]"


def test_no_tracked_file_names_a_path_of_one_machine_or_a_package_index():
    pattern = re.compile(f"{PATHS_OF_A_MACHINE}|{PACKAGE_INDEX}".encode())
    found = []
    for path in tracked_files():
        data = path.read_bytes() if path.is_file() else b""
        if path == Path(__file__) or b"\0" in data:  # not text
            continue
        for number, line in enumerate(data.splitlines(), start=1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0].decode()}")
    assert found == []


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins), "a line is NAME==VERSION, and nothing else"
    return {canonical(package): version for package, version in pins}


def canonical(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", re.sub(r"[-_.]+", "-", requirement).lower())[0]


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-oldest.txt"])
def test_every_dependency_is_pinned(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = set(project["build-system"]["requires"]) | set(project["project"]["dependencies"])
    # What follows depends on the accelerator or on a system library, so there is no one version.
    left_out = {"cuda", "tpu", "graphviz"}
    for extra, requirements in project["project"]["optional-dependencies"].items():
        needed |= set(requirements) if extra not in left_out else set()
    assert {canonical(requirement) for requirement in needed} <= set(pinned(name))


def test_the_oldest_supported_jax_is_the_one_that_is_tested():
    pins = pinned("constraints-oldest.txt")
    assert (pins["jax"], pins["jaxlib"]) == ("0.10.0", "0.10.0")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_says_which_python_it_needs(tmp_path):
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.9.1; fi\nexit 1\n')
    old.chmod(0o755)
    ran = subprocess.run(
        ["make", "check", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
    )
    assert ran.returncode == 2
    assert "needs Python 3.11 or newer" in ran.stderr
    assert "Python 3.9.1" in ran.stderr
    assert not (tmp_path / "venv").exists()
