"""The gradient checker judges a thousand functions: none accused, none missed, each leaf named.

By default every seventeenth case runs, and all of them where DIFFCOMPARE_ALL_CASES=1.
"""

import collections
import os

import jax
import numpy as np
import pytest
from checking_cases import CASES

from diffcompare.checking import check_grads
from experiments import _planted_mistakes
from experiments._planted_mistakes import planted, random_model

# Neighbours in the table are the same function in another dtype, or its kin: a minute in all.
STRIDE = 1 if os.environ.get("DIFFCOMPARE_ALL_CASES") == "1" else 17
# A wrong leaf of random models, and how large the mistake is. In half precision a rounding of
# eps = 2**-7 (bfloat16) is no mistake, so that smaller ones are planted in full precision only.
PLANTED = [
    ("float32", "leaf", 1.0),
    ("float64", "leaf", 0.1),
    ("bfloat16", "leaf", 1.0),
    ("float16", "leaf", 1.0),
    ("float32", "leaf", 0.01),
    ("float64", "leaf", 0.001),
    ("float32", "entry", 1.0),
    ("float64", "entry", 0.01),
    ("float32", "small leaf", 1.0),
    ("bfloat16", "small leaf", 1.0),
    ("float64", "small leaf", 0.1),
    ("float32", "small leaf", 0.01),
    ("bfloat16", "leaf", 0.5),
    ("float16", "entry", 1.0),
    ("float64", "entry", 0.1),
]


def wrong_leaves(report):
    return sorted({leaf.path for leaf in report.leaves if leaf.verdict == "wrong"})


@pytest.mark.parametrize("name", list(CASES)[::STRIDE])
def test_the_verdict_is_right_and_every_wrong_leaf_is_named(name):
    case = CASES[name]
    fun, args = case.build()
    report = check_grads(fun, args, order=case.order, raises=False)
    assert report.verdict in case.verdicts, str(report)
    if report.verdict == "wrong" and case.wrong_leaves:
        assert wrong_leaves(report) == sorted(case.wrong_leaves), str(report)


@pytest.mark.parametrize("seed", range(0, 20, min(STRIDE, 5)))
def test_a_random_model_is_consistent(seed):
    fun, args = random_model(seed, ("bfloat16", "float16", "float32", "float64")[seed % 4])
    report = check_grads(fun, args, raises=False)
    assert report.verdict in ("consistent", "kink"), str(report)


@pytest.mark.parametrize("number", range(0, len(PLANTED), min(STRIDE, 3)))
def test_a_mistake_planted_in_a_random_model_is_found(number):
    fun, args, path = planted(100 + number, *PLANTED[number])
    report = check_grads(fun, args, raises=False)
    assert report.verdict == "wrong", str(report)
    assert wrong_leaves(report) == [path], str(report)


def test_half_of_the_cases_are_wrong():
    count = collections.Counter("wrong" in case.verdicts for case in CASES.values())
    assert len(CASES) > 1000
    assert 0.4 < count[True] / len(CASES) < 0.6


def test_each_case_has_a_name_of_its_own():
    import checking_cases  # the table holds one case for each name, the modules hold all

    assert sum(len(module.CASES) for module in checking_cases.MODULES) == len(CASES)


def test_there_are_cases_of_every_category_in_every_precision():
    dtypes = {case.dtype for case in CASES.values()}
    assert dtypes >= {"bfloat16", "float16", "float32", "float64", "complex64", "complex128"}
    assert len({case.category for case in CASES.values()}) > 25


@pytest.mark.parametrize("kind", _planted_mistakes.KINDS)
@pytest.mark.parametrize("seed", range(len(_planted_mistakes.FAMILIES)))
def test_a_planted_mistake_has_the_size_and_place_that_it_is_said_to_have(seed, kind):
    size = 0.25
    fun, (params,), path = planted(seed, "float64", kind, size)
    name = path.removeprefix("[0]['").removesuffix("']")
    found = jax.grad(fun)(params)
    right, (own,) = random_model(seed, "float64")
    expected = jax.grad(right)(own)
    for leaf in own:
        assert np.array_equal(params[leaf], own[leaf])
    for leaf in own.keys() - {name}:
        # The same operations, in programs that are compiled apart.
        np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-12, atol=1e-15)
    if kind == "small leaf":
        np.testing.assert_allclose(
            found[name], (1 + size) * 2.0**-20 * np.cos(params[name]), rtol=1e-12
        )
        return
    excess = np.asarray(found[name] - expected[name]) / np.asarray(expected[name])
    is_wrong = np.abs(excess) > 1e-9
    np.testing.assert_allclose(excess[is_wrong], size, rtol=1e-6)
    assert np.sum(is_wrong) == 1 if kind == "entry" else np.all(is_wrong | (expected[name] == 0))


def test_a_random_model_is_the_same_for_the_same_seed():
    (fun, args), (again, others) = (random_model(3, "float32") for _ in range(2))
    assert jax.tree.map(np.asarray, fun(*args)) == jax.tree.map(np.asarray, again(*others))


def test_a_mistake_that_the_dtype_rounds_away_is_refused():
    with pytest.raises(ValueError, match=r"0\.001 is rounded away in bfloat16"):
        planted(0, "bfloat16", "leaf", 0.001)
