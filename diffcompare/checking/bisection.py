"""Finding the few wrong entries of a long array by what groups of them do."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Array = np.ndarray

# How many groups are followed at once: those with the largest defects.
_MOST = 4
# How often signs are drawn, while no group looks wrong.
_TURNS = 3


class Bisected(NamedTuple):
    """What was found by halving."""

    places: tuple[int, ...]  # of wrong entries in the flat array, largest defect first
    is_all: bool  # whether no wrong group was left alone
    directions: int  # along which the defect was asked for


def bisected(
    defects: Callable[[Array], tuple[Array, Array]],
    lengths: Array,
    signs: int = 2,
    most: int = _MOST,
) -> Bisected:
    """Returns wrong entries of an array, found by halving groups of them.

    Along a group's direction wrong entries may cancel, so that each group is looked at with
    several random signs. Where a group has a defect with some signs, one of its halves has at
    least half of that with the same signs: none is lost on the way down as long as half of it is
    above the bound. Where nothing looks wrong at first, signs are drawn anew. Of n entries, k are
    found with about `2 * signs * k * log2(n)` directions, all groups of one size at once.

    Args:
        defects: Of directions of shape `(directions, size)`, how far the claimed slopes are from
            the true ones, and how far they may be; both of shape `(directions,)`.
        lengths: By how much each entry moves, shape `(size,)`. What is 0 does not move.
        signs: How many random signs.
        most: How many groups are followed at once; then `is_all` may be false.

    Example:
        >>> wrong = np.zeros(1000)
        >>> wrong[[123, 777]] = 0.1, -0.1
        >>> found = bisected(lambda d: (d @ wrong, np.full(len(d), 1e-9)), np.ones(1000))
        >>> sorted(found.places), found.is_all
        ([123, 777], True)
    """
    random, asked = np.random.default_rng([signs, lengths.size]), 0
    found = Bisected((), True, 0)
    for _ in range(_TURNS):
        moves = lengths * random.choice([-1.0, 1.0], (signs, lengths.size))
        found = _descended(defects, moves, most)
        asked += found.directions
        if found.places or not found.is_all:
            break
    return found._replace(directions=asked)


def _descended(defects: Callable, moves: Array, most: int) -> Bisected:
    """Returns the wrong entries that are seen when they move as each row of `moves` says."""
    signs, size = moves.shape
    groups, asked, is_all = [np.flatnonzero(moves[0])], 0, True
    found: list[tuple[float, int]] = []
    while groups:
        halves = [half for group in groups for half in np.array_split(group, 2)]
        directions = np.zeros((len(halves) * signs, size))
        for number, half in enumerate(halves):
            directions[number * signs : (number + 1) * signs, half] = moves[:, half]
        defect, bound = (np.asarray(each).reshape(-1, signs) for each in defects(directions))
        # What is no number is no proof of anything; of what is too long, the worst is kept.
        excess = np.max(np.where(np.abs(defect) > bound, np.abs(defect), 0.0), axis=1)
        wrong = [int(number) for number in np.argsort(-excess, kind="stable") if excess[number] > 0]
        parents = {number // 2 for number in wrong}
        is_all &= len(wrong) <= most and (asked == 0 or len(parents) == len(groups))
        asked += len(directions)
        groups = []
        for number in wrong[:most]:
            if halves[number].size == 1:
                found.append((float(excess[number]), int(halves[number][0])))
            else:
                groups.append(halves[number])
    found.sort(key=lambda each: (-each[0], each[1]))
    return Bisected(tuple(place for _, place in found), is_all, asked)
