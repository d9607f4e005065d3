"""Telling the few entries of a leaf that are at a kink from the others."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffcompare.checking.problem import Direction

Place = tuple[int, ...]

# How many entries at a kink are told from the others of a leaf.
_MOST = 8


class Parts(NamedTuple):
    """A direction that crosses kinks, in parts."""

    kinks: list[Place]  # the entries at a kink; empty where they are too many to be told
    rest: Direction | None  # the direction without them


def separated(direction: Direction, is_smooth: Callable[[np.ndarray], bool]) -> Parts:
    """Returns the parts of a direction, found by halving.

    A mistake in one entry would be lost in the width of another entry's kink.

    Args:
        direction: Along which the function has a kink.
        is_smooth: Returns whether it has none along an array.
    """
    groups, kinks = [np.flatnonzero(direction.array)], []
    while groups:
        halves = [half for group in groups for half in np.array_split(group, 2) if half.size]
        groups = []
        for half in halves:
            if is_smooth(only(direction.array, half)):
                continue
            if half.size == 1:
                kinks.append(tuple(map(int, np.unravel_index(half[0], direction.array.shape))))
            else:
                groups.append(half)
            if len(kinks) + len(groups) > _MOST:
                return Parts([], None)
    rest = direction.array.copy()
    for entry in kinks:
        rest[entry] = 0.0
    name = f"{direction.name} without the entries at a kink"
    return Parts(kinks, Direction(name, rest, None) if np.any(rest) else None)


def only(array: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns an array with zeros but at these flat places."""
    part = np.zeros_like(array)
    part.flat[places] = array.flat[places]
    return part
