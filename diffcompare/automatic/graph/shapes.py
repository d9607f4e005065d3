"""The shapes that a picture of a graph is made of.

Lengths are in units of the font's size, `x` to the right and `y` downwards.
"""

from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from diffcompare.automatic.graph.symbols import number

Role: TypeAlias = Literal["symbol", "name", "value", "gradient"]

SIZES: dict[str, float] = {"symbol": 1.0, "name": 0.75, "value": 0.85, "gradient": 0.85}
# The character widths of DejaVu Sans, which is wider than most fonts.
_NARROW, _WIDE = frozenset(".,:;|!'()[]ijl/ "), frozenset("mwMWQ@ΣΠ÷×+≤")
_HEAT = 2.6  # the side of a heat map
_TILES = 24  # the most of them along a side
_ANCHORS = np.array(  # of viridis, which grows lighter all the way
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64
)


class Box(NamedTuple):
    """The outline of a node."""

    x: float  # of the middle
    y: float
    width: float
    height: float
    node: int
    is_leaf: bool


class Path(NamedTuple):
    """A wire, or the piece of wire at a node."""

    points: tuple[tuple[float, float], ...]
    kind: str
    source: int
    target: int | None
    has_arrow: bool


class Text(NamedTuple):
    """A line of text, centred at a point."""

    x: float
    y: float
    text: str
    role: Role
    node: int


class Heat(NamedTuple):
    """A heat map."""

    x: float  # of the middle
    y: float
    width: float
    height: float
    colours: np.ndarray  # (rows, columns, 3), of 0 to 255
    role: Role
    node: int


class Scene(NamedTuple):
    """What is drawn, within `(0, 0)` and `(width, height)`."""

    width: float
    height: float
    boxes: list[Box]
    paths: list[Path]
    texts: list[Text]
    heats: list[Heat]


class Block(NamedTuple):
    """A value or a gradient beside its wire: text, and a heat map where it is an array."""

    text: str
    colours: np.ndarray | None
    size: tuple[float, float]  # of the heat map
    width: float
    height: float


def text_width(text: str, role: Role) -> float:
    """Returns at most how wide a line of text is."""
    widths = (0.42 if c in _NARROW else 1.0 if c in _WIDE else 0.68 for c in text)
    return sum(widths) * SIZES[role]


def block(value: Any, role: Role) -> Block:
    """Returns how a value or a gradient is shown; nothing for None."""
    if value is None:
        return Block("", None, (0.0, 0.0), 0.0, 0.0)
    line = SIZES[role] * 1.25
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended):
        return Block("key", None, (0.0, 0.0), text_width("key", role), line)
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        array = array.astype(np.float64)
    if array.size == 1:
        text = number(array.reshape(())[()], 4)
        return Block(text, None, (0.0, 0.0), text_width(text, role), line)
    text = "×".join(map(str, array.shape)) if role == "value" else _largest(array)
    colours = _colours(array)
    size = _heat_size(colours)
    width = max(text_width(text, role), size[0])
    return Block(text, colours, size, width, size[1] + line + 0.15)


def _largest(array: np.ndarray) -> str:
    magnitudes = np.abs(array[np.isfinite(array)]) if array.size else array
    return "≤ " + number(magnitudes.max(), 2) if magnitudes.size else "nan"


def _heat_size(colours: np.ndarray) -> tuple[float, float]:
    rows, columns = colours.shape[:2]
    longest = max(rows, columns)
    # A vector is a bar, not a hair.
    return tuple(_HEAT * max(n / longest, 0.25) for n in (columns, rows))  # type: ignore[return-value]


def _colours(array: np.ndarray) -> np.ndarray:
    """Returns the colours of a heat map; zero is in the middle of the scale."""
    numbers = np.abs(array) if array.dtype.kind == "c" else array.astype(np.float64)
    matrix = numbers.reshape(-1, numbers.shape[-1]) if numbers.ndim > 1 else numbers.reshape(-1, 1)
    if not matrix.size:
        return np.full((1, 1, 3), 255, np.uint8)
    matrix = _coarse(_coarse(matrix).T).T
    finite = np.isfinite(matrix)
    largest = float(np.max(np.abs(matrix), where=finite, initial=0.0)) or 1.0
    where = (np.where(finite, matrix, 0.0) / largest + 1) / 2 * (len(_ANCHORS) - 1)
    below = np.minimum(where.astype(int), len(_ANCHORS) - 2)
    part = (where - below)[..., None]
    colours = _ANCHORS[below] * (1 - part) + _ANCHORS[below + 1] * part
    colours[~finite] = 255  # not a number is white
    return np.round(colours).astype(np.uint8)


def _coarse(matrix: np.ndarray) -> np.ndarray:
    """Returns a matrix with at most `_TILES` rows, each a mean of some."""
    if len(matrix) <= _TILES:
        return matrix
    starts = np.arange(_TILES) * len(matrix) // _TILES
    lengths = np.diff([*starts, len(matrix)])
    return np.add.reduceat(matrix, starts, axis=0) / lengths[:, None]
