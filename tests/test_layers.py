"""Imports point down the list of rooms, and heavy libraries stay in theirs."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

# From the ground up: a room imports itself and the rooms before it.
ROOMS = (
    "_files",
    "_progress",
    "_tree",
    "_jaxpr",
    "method",
    "_arguments",
    "_jacobians",
    "numerical",
    "symbolic",
    "automatic",
    "_calls",
    "_sparse",
    "operators",
    "custom",
    "exact",
    "checking",
    "comparison",
    "learn",
    "plot",
    "pytest_plugin",
    "commands",
    "__main__",
)
# Libraries that only some rooms may import.
CONFINED = {
    "matplotlib": {"plot"},
    "sympy": {"symbolic", "exact"},
    "experiments": set(),
    "benchmarks": set(),
    "tests": set(),
}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line and dotted name of everything a file imports, within functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the full name."
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def violations(package: Path) -> list[str]:
    """Returns a sentence for every import in `package` that runs up or leaves its room."""
    found = []
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):  # they hold the public names, and the program
            continue
        if room not in ROOMS:
            found.append(
                f"{path.name}: the room {room} has no place in the order of tests/{__file__}"
            )
            continue
        for line, name in imported(path):
            top, _, rest = name.partition(".")
            inner = rest.partition(".")[0]
            where = f"{path.relative_to(package)}:{line} imports {name}"
            if top == package.name and inner in ROOMS and ROOMS.index(inner) > ROOMS.index(room):
                found.append(f"{where}, which lies above {room}")
            if top == package.name and inner not in ROOMS:
                found.append(f"{where}; import it from the room that defines it")
            if room not in CONFINED.get(top, {room}):
                allowed = ", ".join(sorted(CONFINED[top])) or "nothing"
                found.append(f"{where}, which is for {allowed} only")
    return found


def test_imports_point_down_and_heavy_libraries_stay_in_their_rooms():
    assert violations(ROOT / "diffcompare") == []


def test_an_arrow_that_runs_up_is_found(tmp_path):
    package = tmp_path / "diffcompare"
    (package / "numerical").mkdir(parents=True)
    (package / "plot.py").write_text(
        "import matplotlib.figure\nfrom diffcompare import operators\n"
    )
    (package / "operators.py").write_text("import diffcompare.numerical.step\nimport sympy\n")
    (package / "numerical" / "step.py").write_text(
        "from diffcompare._tree import ravel\ndef later():\n    from diffcompare import operators\n"
    )
    (package / "_tree.py").write_text(
        "import experiments.step_size\nfrom diffcompare import grad\n"
    )
    (package / "attic.py").write_text("")
    assert [line.partition(" ")[0] for line in violations(package)] == [
        "_tree.py:1",  # experiments
        "_tree.py:2",  # a public name
        "attic.py:",  # no place in the order
        "numerical/step.py:3",  # operators lie above
        "operators.py:2",  # sympy
    ]
