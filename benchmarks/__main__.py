"""Runs benchmarks, all or those that are named, each in a process of its own; prints one table."""

import argparse
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

from benchmarks import __path__ as folders
from benchmarks._measure import RESULTS, Goal, note, print_table

known = [module.name for module in pkgutil.iter_modules(folders) if module.name[0] != "_"]
parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
names = parser.parse_args().names or known
unknown = sorted({*names} - {*known})
if unknown:
    parser.error(f"there is no benchmark {', '.join(unknown)}. Name one of {', '.join(known)}.")
failed, rows = [], []
for name in names:
    note(f"benchmarks.{name}")
    (RESULTS / f"{name}.json").unlink(missing_ok=True)
    # Some need flags that JAX reads when it starts; the status says what was not reached.
    subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if not (RESULTS / f"{name}.json").exists():
        failed.append(name)
        continue
    for goal in json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["goals"]:
        goal.pop("reached")
        rows.append(Goal(**goal).row)
print_table(rows)
for name in failed:
    note(f"benchmarks.{name} failed; run python -m benchmarks.{name} to see why.")
raise SystemExit(1 if failed or any(row[-1] != "reached" for row in rows) else 0)
