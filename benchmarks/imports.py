"""`import diffcompare` against `import jax`, and the help of the experiments."""

import subprocess
import sys
from pathlib import Path

from benchmarks._measure import Goal, details, interleaved, main, paired_ratio

ROOT = Path(__file__).parents[1]


def goals(repeats=7):
    def start(*arguments):
        return lambda: subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )

    samples = interleaved(
        {
            "jax": start("-c", "import jax"),
            "diffcompare": start("-c", "import diffcompare; diffcompare.grad"),
            "help": start("-m", "experiments", "--help"),
        },
        repeats,
    )
    measured = paired_ratio(samples, "diffcompare", "jax", "wall")
    return [
        Goal("import diffcompare / import jax", 1.1, measured, True, details(samples)),
        Goal("experiments --help, seconds", 0.3, samples["help"].median("wall"), True, {}),
    ]


if __name__ == "__main__":
    raise SystemExit(main("imports", goals))
