"""A graph as SVG and HTML, for notebooks and web pages."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from diffcompare.automatic.graph import shapes
from diffcompare.automatic.graph.exports import GREEN, RED
from diffcompare.automatic.graph.text import COLUMNS, notes, rows

if TYPE_CHECKING:
    from diffcompare.automatic.graph.model import Graph

_PIXELS = 14  # of the font's size
_COLOURS = {"symbol": "#000000", "name": "#444444", "value": GREEN, "gradient": RED}
# How wires are dashed through which no derivative comes back.
DASHES = {"integer": (0.15, 0.25), "stopped": (0.5, 0.3), "no rule": (0.5, 0.15, 0.15, 0.15)}
_ARROW = (0.55, 0.22)  # length, and half the width


def to_svg(scene: shapes.Scene, title: str) -> str:
    """Returns a scene as an SVG document."""
    width, height = scene.width * _PIXELS, scene.height * _PIXELS
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {scene.width:.3f} {scene.height:.3f}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" text-anchor="middle">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{scene.width:.3f}" height="{scene.height:.3f}" fill="#ffffff"/>',
        *(_path(path) for path in scene.paths),
        *(_box(box) for box in scene.boxes),
        *(_heat(heat) for heat in scene.heats),
        *(_text(text) for text in scene.texts),
        "</svg>",
    ]
    return "\n".join(parts)


def to_html(graph: Graph, picture: str) -> str:
    """Returns a graph as HTML: its picture above its table."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in COLUMNS)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row.values())}</tr>"
        for row in rows(graph)
    )
    words = "".join(f"<p>{html.escape(note)}</p>" for note in notes(graph))
    return (
        f'<div style="overflow-x:auto">{picture}</div>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{words}"
    )


def arrow(points: Collection[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the corners of the arrow head at the end of a line."""
    (x0, y0), (x1, y1) = list(points)[-2:]
    along = np.array([x1 - x0, y1 - y0])
    along = along / max(float(np.hypot(*along)), 1e-9)
    across = np.array([-along[1], along[0]])
    tip, (length, half) = np.array([x1, y1]), _ARROW
    corners = (tip, tip - length * along + half * across, tip - length * along - half * across)
    return [(float(x), float(y)) for x, y in corners]


def _points(points: Collection[tuple[float, float]]) -> str:
    return " ".join(f"{x:.3f},{y:.3f}" for x, y in points)


def _path(path: shapes.Path) -> str:
    dash = DASHES.get(path.kind)
    dashed = f' stroke-dasharray="{" ".join(map(str, dash))}"' if dash else ""
    line = (
        f'<polyline points="{_points(path.points)}" fill="none" stroke="#555555" '
        f'stroke-width="0.08"{dashed}/>'
    )
    if path.has_arrow:
        line += f'<polygon points="{_points(arrow(path.points))}" fill="#555555"/>'
    return line


def _box(box: shapes.Box) -> str:
    radius = 0.3 if box.is_leaf else box.height / 2
    fill = "#e8eef7" if box.is_leaf else "#ffffff"
    return (
        f'<rect x="{box.x - box.width / 2:.3f}" y="{box.y - box.height / 2:.3f}" '
        f'width="{box.width:.3f}" height="{box.height:.3f}" rx="{radius:.3f}" fill="{fill}" '
        'stroke="#000000" stroke-width="0.08"/>'
    )


def _heat(heat: shapes.Heat) -> str:
    data = base64.b64encode(_png(heat.colours)).decode("ascii")
    x, y = heat.x - heat.width / 2, heat.y - heat.height / 2
    size = f'x="{x:.3f}" y="{y:.3f}" width="{heat.width:.3f}" height="{heat.height:.3f}"'
    return (
        f'<image {size} preserveAspectRatio="none" style="image-rendering:pixelated" '
        f'href="data:image/png;base64,{data}"/>'
        f'<rect {size} fill="none" stroke="#000000" stroke-width="0.04"/>'
    )


def _text(text: shapes.Text) -> str:
    size = shapes.SIZES[text.role]
    weight = ' font-style="italic"' if text.role == "name" else ""
    return (
        f'<text x="{text.x:.3f}" y="{text.y + 0.35 * size:.3f}" font-size="{size}" '
        f'fill="{_COLOURS[text.role]}"{weight}>{html.escape(text.text)}</text>'
    )


def _png(colours: np.ndarray) -> bytes:
    """Returns the file of a small picture, of shape (rows, columns, 3)."""
    height, width = colours.shape[:2]
    # Every row begins with its filter, none.
    lines = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(colours))

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(lines, 9))
        + chunk(b"IEND", b"")
    )
