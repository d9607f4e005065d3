"""Incremental differences against `approx_derivative` of SciPy, 3-point, of a NumPy function."""

import os

# A second thread does not pay for matrices of this size; SciPy is given what is best for it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

import diffcompare as dc
from benchmarks._measure import Goal, details, interleaved, main, note, ratio
from benchmarks._problems import numpy_loss, problem

jax.config.update("jax_enable_x64", True)

GOALS = (
    ("P = 9,610, 2 layers", 50, 1000),
    ("P = 9,942, 3 layers", 13, 1000),
    ("P = 99,738, 3 layers", 24, 200),
)


def goals(asked=GOALS):
    try:
        from scipy.optimize._numdiff import approx_derivative
    except ImportError:
        note("SciPy is not installed: nothing to compare with.")
        return []
    found = []
    for name, least, directions in asked:
        of = problem(name)
        gradient = jax.jit(dc.grad(of.loss, method=dc.CentralDifference()))
        gradient = gradient.lower(of.params, of.x, of.y).compile()
        loss, flat = numpy_loss(of), of.flat
        # SciPy takes every direction in turn; some of them tell what all would take.
        rest = flat[directions:]
        some = lambda w, loss=loss, rest=rest: loss(np.concatenate([w, rest]))
        contenders = {
            "gradient": lambda g=gradient, of=of: jax.block_until_ready(g(of.params, of.x, of.y)),
            "scipy": lambda some=some, w=flat[:directions]: approx_derivative(
                some, w, method="3-point"
            ),
        }
        samples = interleaved(contenders, 5)
        measured = ratio(samples, "scipy", "gradient", "cpu") * of.count / directions
        more = {"directions of scipy": directions, "error": _error(of, gradient)}
        megabytes = gradient.memory_analysis().temp_size_in_bytes / 1e6
        found.append(
            Goal(f"scipy / incremental, {name}", least, measured, False, details(samples, **more))
        )
        found.append(Goal(f"incremental, temporaries in MB, {name}", 8, megabytes, True, {}))
    return found


def _error(of, gradient) -> float:
    found, truth = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (gradient(of.params, of.x, of.y), jax.grad(of.loss)(of.params, of.x, of.y))
    )
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


if __name__ == "__main__":
    raise SystemExit(main("incremental", goals))
