"""A few wrong entries among many are found by halving."""

import numpy as np
import pytest

from diffcompare.checking.bisection import bisected

SIZE = 32768


def defects_of(wrong, bound=1e-9):
    return lambda directions: (directions @ wrong, np.full(len(directions), bound))


def with_wrong(places, sizes, size=SIZE):
    wrong = np.zeros(size)
    wrong[list(places)] = sizes
    return wrong


def test_three_wrong_entries_of_32768_are_found_in_330_evaluations():
    wrong = with_wrong([17, 20000, 32767], [0.3, -0.02, 1.0])
    found = bisected(defects_of(wrong), np.ones(SIZE))
    assert found.places == (32767, 17, 20000)  # the largest defect first
    assert found.is_all
    # A slope is a difference of two values.
    assert 2 * found.directions <= 340


@pytest.mark.parametrize("seed", range(40))
def test_entries_that_cancel_each_other_are_found(seed):
    places = np.random.default_rng(seed).choice(SIZE, 2, replace=False)
    found = bisected(defects_of(with_wrong(places, [0.5, -0.5])), np.ones(SIZE))
    # They hide each other in one draw of signs of eight, and in three of 512.
    assert set(found.places) == set(places)


def test_what_is_wrong_everywhere_costs_no_more():
    found = bisected(defects_of(np.linspace(1, 2, SIZE)), np.ones(SIZE))
    assert not found.is_all
    assert 1 <= len(found.places) <= 4
    assert 2 * found.directions <= 500


def test_nothing_wrong_is_nothing_found():
    found = bisected(defects_of(np.full(SIZE, 1e-15)), np.ones(SIZE))
    assert found.places == ()
    assert found.is_all


def test_entries_that_do_not_move_are_not_looked_at():
    lengths = np.ones(64)
    lengths[5] = 0.0
    found = bisected(defects_of(with_wrong([5, 9], 1.0, 64)), lengths)
    assert found.places == (9,)


def test_a_defect_that_is_no_number_proves_nothing():
    found = bisected(lambda d: (np.full(len(d), np.nan), np.zeros(len(d))), np.ones(64))
    assert found.places == ()


def test_a_short_entry_is_seen_as_long_as_its_defect_is():
    lengths = np.ones(1000)
    lengths[321] = 1e-6
    found = bisected(defects_of(with_wrong([321], 0.1, 1000)), lengths)
    assert found.places == (321,)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_smallest_arrays_are_taken_apart(size):
    found = bisected(defects_of(with_wrong([size - 1], 1.0, size)), np.ones(size))
    assert found.places == (size - 1,)
