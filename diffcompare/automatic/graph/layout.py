"""A layered layout: nodes in columns, wires from left to right, few crossings.

The steps are those of Sugiyama, Tagawa and Toda: columns by the longest path, stations of long
wires in the columns between, an order within each column by sweeps of medians and of means, then
exchanges of neighbours until none removes a crossing, and heights by least squares. Nothing is
random.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_SWEEPS = 8  # each through all columns and back; more change nothing for graphs one can read
_ROUNDS = 12  # of moving the heights towards those of the neighbours
# A station of a long wire is held by its neighbours more strongly, so that long wires are straight.
_STATION_WEIGHT = 4.0


class Cell(NamedTuple):
    """The room that a node takes, from its middle."""

    above: float
    below: float


class Layout(NamedTuple):
    """Where everything is.

    Attributes:
        columns: The units of each column from top to bottom. The first numbers are the nodes,
            those after them the stations of long wires.
        column: The column of each unit.
        height: The height of the middle of each unit, downwards.
        routes: The units that each wire passes, its ends included.
    """

    columns: list[list[int]]
    column: list[int]
    height: list[float]
    routes: list[tuple[int, ...]]


def lay_out(
    cells: Sequence[Cell], wires: Sequence[tuple[int, int]], leaves: Sequence[int], gap: float
) -> Layout:
    """Returns the layout of a graph without cycles.

    Args:
        cells: The room of each node.
        wires: Source and target; sources come before their targets.
        leaves: The nodes that stand beside the node that takes them, as arguments do.
        gap: Between the cells of a column.
    """
    column = _columns(len(cells), wires, set(leaves))
    routes, column = _routes(column, wires)
    segments = _segments(routes)
    columns: list[list[int]] = [[] for _ in range(max(column, default=-1) + 1)]
    for unit in _first_order(len(column), segments):
        columns[column[unit]].append(unit)
    columns = _ordered(columns, segments)
    rooms = [*cells, *[Cell(gap / 2, gap / 2)] * (len(column) - len(cells))]
    return Layout(columns, column, _heights(columns, segments, rooms, len(cells), gap), routes)


def crossings(columns: Sequence[Sequence[int]], segments: Sequence[tuple[int, int]]) -> int:
    """Returns how many pairs of segments cross.

    Example:
        >>> crossings([[0, 1], [2, 3]], [(0, 3), (1, 2)])
        1
    """
    place = {unit: i for units in columns for i, unit in enumerate(units)}
    column = {unit: i for i, units in enumerate(columns) for unit in units}
    total = 0
    for number in range(len(columns) - 1):
        ends = [(place[a], place[b]) for a, b in segments if column[a] == number]
        total += sum(
            (a[0] - b[0]) * (a[1] - b[1]) < 0 for i, a in enumerate(ends) for b in ends[:i]
        )
    return total


def _columns(count: int, wires: Sequence[tuple[int, int]], leaves: set[int]) -> list[int]:
    inputs: list[list[int]] = [[] for _ in range(count)]
    outputs: list[list[int]] = [[] for _ in range(count)]
    for source, target in wires:
        inputs[target].append(source)
        outputs[source].append(target)
    column = [0] * count
    for node in range(count):
        column[node] = max((column[source] + 1 for source in inputs[node]), default=0)
    for node in range(count):
        # What nothing leads to stands beside what takes it.
        if outputs[node] and (node in leaves or not inputs[node]):
            column[node] = min(column[target] for target in outputs[node]) - 1
    first = min(column, default=0)
    return [number - first for number in column]


def _routes(
    column: Sequence[int], wires: Sequence[tuple[int, int]]
) -> tuple[list[tuple[int, ...]], list[int]]:
    """Returns the route of each wire. The long wires of one node share their stations."""
    columns = list(column)
    stations: dict[tuple[int, int], int] = {}
    routes = []
    for source, target in wires:
        route = [source]
        for between in range(column[source] + 1, column[target]):
            if (source, between) not in stations:
                stations[source, between] = len(columns)
                columns.append(between)
            route.append(stations[source, between])
        routes.append((*route, target))
    return routes, columns


def _segments(routes: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    pairs = (pair for route in routes for pair in itertools.pairwise(route))
    return list(dict.fromkeys(pairs))


def _first_order(count: int, segments: Sequence[tuple[int, int]]) -> list[int]:
    """Returns the units as a search from the outputs finds them, what belongs together together."""
    inputs: list[list[int]] = [[] for _ in range(count)]
    has_output = [False] * count
    for source, target in segments:
        inputs[target].append(source)
        has_output[source] = True
    found: dict[int, None] = {}
    pending = [unit for unit in reversed(range(count)) if not has_output[unit]]
    while pending:
        unit = pending.pop()
        if unit not in found:
            found[unit] = None
            pending.extend(reversed(inputs[unit]))
    return list(found)


class _Neighbours(NamedTuple):
    before: dict[int, list[int]]
    after: dict[int, list[int]]


def _neighbours(segments: Sequence[tuple[int, int]]) -> _Neighbours:
    found = _Neighbours({}, {})
    for source, target in segments:
        found.before.setdefault(target, []).append(source)
        found.after.setdefault(source, []).append(target)
    return found


def _ordered(columns: list[list[int]], segments: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Returns the columns in the order that has the fewest crossings among those tried."""
    near = _neighbours(segments)
    best = _exchanged(columns, near)
    fewest = crossings(best, segments)
    for middle in (np.mean, np.median):
        current = [list(units) for units in columns]
        for _ in range(_SWEEPS):
            if fewest == 0:
                return best
            for backwards in (False, True):
                _sweep(current, near, middle, backwards)
            candidate = _exchanged(current, near)
            count = crossings(candidate, segments)
            if count < fewest:
                best, fewest = candidate, count
    return best


def _sweep(columns: list[list[int]], near: _Neighbours, middle, backwards: bool) -> None:
    """Sorts every column by the middle of the neighbours in the column before (or after)."""
    numbers = range(len(columns))
    for number in reversed(numbers) if backwards else numbers:
        beside = number + 1 if backwards else number - 1
        if not 0 <= beside < len(columns):
            continue
        place = {
            unit: i / max(len(columns[beside]) - 1, 1) for i, unit in enumerate(columns[beside])
        }
        neighbours = near.after if backwards else near.before
        own = {unit: i / max(len(columns[number]) - 1, 1) for i, unit in enumerate(columns[number])}
        keys = {
            unit: float(middle([place[other] for other in neighbours[unit]]))
            if neighbours.get(unit)
            else own[unit]
            for unit in columns[number]
        }  # fmt: skip
        columns[number].sort(key=keys.__getitem__)


def _exchanged(columns: Sequence[Sequence[int]], near: _Neighbours) -> list[list[int]]:
    """Returns the columns after exchanging neighbours until no exchange removes a crossing."""
    result = [list(units) for units in columns]
    place = {unit: i for units in result for i, unit in enumerate(units)}

    def crossed(upper: int, lower: int) -> int:
        total = 0
        for side in near:
            above = [place[other] for other in side.get(upper, ())]
            total += sum(place[other] < a for other in side.get(lower, ()) for a in above)
        return total

    improved = True
    while improved:
        improved = False
        for units in result:
            for i in range(len(units) - 1):
                a, b = units[i], units[i + 1]
                if crossed(b, a) < crossed(a, b):
                    units[i], units[i + 1] = b, a
                    place[a], place[b] = i + 1, i
                    improved = True
    return result


def _heights(
    columns: Sequence[Sequence[int]],
    segments: Sequence[tuple[int, int]],
    rooms: Sequence[Cell],
    nodes: int,
    gap: float,
) -> list[float]:
    near = _neighbours(segments)
    height = np.zeros(len(rooms))
    for units in columns:
        height[units] = _separated(np.zeros(len(units)), np.ones(len(units)), units, rooms, gap)
    # The last turns follow the wires forwards, which makes a chain straight.
    turns = [*(turn % 3 for turn in range(_ROUNDS)), 1, 0]
    for turn in turns:
        sides = ((near.before,), (near.after,), (near.before, near.after))[turn]
        order = reversed(range(len(columns))) if turn == 1 else range(len(columns))
        for number in order:
            units = list(columns[number])
            wanted, weights = np.empty(len(units)), np.empty(len(units))
            for i, unit in enumerate(units):
                others = [other for side in sides for other in side.get(unit, ())]
                wanted[i] = np.mean(height[others]) if others else height[unit]
                weights[i] = (_STATION_WEIGHT if unit >= nodes else 1.0) if others else 0.1
            height[units] = _separated(wanted, weights, units, rooms, gap)
    return [float(value) for value in np.round(height, 6)]


def _separated(
    wanted: np.ndarray,
    weights: np.ndarray,
    units: Sequence[int],
    rooms: Sequence[Cell],
    gap: float,
) -> np.ndarray:
    """Returns the heights nearest to those wanted at which the cells of a column do not touch.

    Without the room between them that is isotonic regression, by pooling adjacent violators.
    """
    offsets = np.zeros(len(units))
    for i in range(1, len(units)):
        offsets[i] = offsets[i - 1] + rooms[units[i - 1]].below + rooms[units[i]].above + gap
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(wanted - offsets, weights, strict=True):
        block = (float(value), float(weight), 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, total, length = blocks.pop()
            both = total + block[1]
            block = ((mean * total + block[0] * block[1]) / both, both, length + block[2])
        blocks.append(block)
    return np.repeat([b[0] for b in blocks], [b[2] for b in blocks]) + offsets
