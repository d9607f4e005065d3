"""Reads images and labels from IDX, keras npz, CSV and ARFF files, known by their content."""

import gzip
import io
import itertools
import math
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from diffcompare.learn.errors import DataError

GZIP, ZIP, IDX = b"\x1f\x8b", b"PK\x03\x04", b"\x00\x00\x08"
NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# Enough to hold the names of 785 columns, in CSV (8 kB) and in ARFF (20 kB).
HEAD = 1 << 16


class Recognised(NamedTuple):
    """What the first bytes of a file say it is."""

    kind: str | None  # "idx", "npz", "csv", "arff", or None: not a format known here
    reason: str  # what was seen, for messages


def recognise(path: pathlib.Path) -> Recognised:
    """Returns the format of a file, found from its first bytes and never from its name."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head == ZIP:
            return _recognise_zip(path)
        head = _head(path)
    except (OSError, zlib.error) as error:
        return Recognised(None, f"cannot be read ({error})")
    if head[:3] == IDX and head[3:4] in (b"\x01", b"\x03"):
        return Recognised("idx", "an IDX file of bytes")
    return _recognise_text(head)


def read(path: pathlib.Path) -> tuple[np.ndarray, ...]:
    """Returns the arrays in a file, all uint8: images `(n, height, width)`, labels `(n,)`.

    Raises:
        DataError: The file is of another format, truncated, or otherwise broken.
    """
    found = recognise(path)
    if found.kind is None:
        raise DataError(
            f"{path} {found.reason}. Needed is an IDX file (it starts with the bytes 00 00 08 01 "
            "or 00 00 08 03, or is a gzip of that), a keras mnist.npz, or a CSV file with a "
            "label and the pixels in every row."
        )
    readers = {"idx": _read_idx, "npz": _read_npz, "csv": _read_csv, "arff": _read_arff}
    try:
        return readers[found.kind](path)
    except DataError:
        raise
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is {found.reason}, but it cannot be read to its end: {error}. It is "
            "truncated or damaged; copy it again."
        ) from error


def idx_bytes(array: np.ndarray) -> bytes:
    """Returns an array of uint8 as the uncompressed IDX file that holds it."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return IDX + bytes([array.ndim]) + sizes + np.ascontiguousarray(array, np.uint8).tobytes()


def _open(path: pathlib.Path) -> io.BufferedIOBase:
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
    return gzip.open(path) if compressed else path.open("rb")  # type: ignore[return-value]


def _head(path: pathlib.Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(HEAD)
    # Unlike gzip.open, this reads the start of a file that is truncated later on.
    return zlib.decompressobj(wbits=31).decompress(head, HEAD) if head[:2] == GZIP else head


def _recognise_zip(path: pathlib.Path) -> Recognised:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        # The table of contents of a zip file is at its end.
        return Recognised("npz", f"a zip file without its end ({error})")
    missing = [name for name in NPZ_ARRAYS if name not in names]
    if missing:
        return Recognised(None, f"is a zip file without the arrays {', '.join(missing)}")
    return Recognised("npz", "a keras npz file")


def _recognise_text(head: bytes) -> Recognised:
    starts = f"starts with the bytes {head[:4].hex(' ')}" if head else "is empty"
    try:
        # A character of several bytes may be cut at the end of the head.
        text = head.decode("utf-8", errors="strict" if len(head) < HEAD else "ignore")
    except UnicodeDecodeError:
        return Recognised(None, f"{starts}, which is no known format")
    lower = text.lower()
    if lower.lstrip().startswith(("%", "@relation")) and "@attribute" in lower:
        columns = sum(line.lstrip().startswith("@attribute") for line in lower.splitlines())
        form = "arff"
    else:
        names = _names(lower.split("\n", 1)[0])
        columns = len(names) if _is_row(names) or _label(names) is not None else 0
        form = "csv"
    side = math.isqrt(max(columns - 1, 0))
    if columns < 2 or side * side != columns - 1:
        return Recognised(None, f"{starts}, which is no known format")
    return Recognised(form, f"a {form.upper()} file of {columns} columns")


def _names(line: str) -> list[str]:
    return [name.strip(" \"'\r\n").lower() for name in line.split(",")]


def _is_row(names: list[str]) -> bool:
    return all(name.lstrip("-").isdigit() for name in names)


def _label(names: list[str]) -> int | None:
    return next((names.index(name) for name in ("label", "class") if name in names), None)


def _read_idx(path: pathlib.Path) -> tuple[np.ndarray, ...]:
    with _open(path) as file:
        content = file.read()
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + math.prod(shape)
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "longer than it says"
        raise DataError(
            f"{path} is {state}: its header announces shape {shape}, which needs {expected} "
            f"uncompressed bytes, but it holds {len(content)}. Copy it again."
        )
    return (np.frombuffer(content, np.uint8, offset=start).reshape(shape),)


def _read_npz(path: pathlib.Path) -> tuple[np.ndarray, ...]:
    # np.load leaves a file open that it opened and could not read.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return tuple(_checked_npz(path, name, archive[name]) for name in NPZ_ARRAYS)


def _checked_npz(path: pathlib.Path, name: str, array: np.ndarray) -> np.ndarray:
    dimensions = 3 if name.startswith("x") else 1
    if array.ndim != dimensions or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{name} in {path} must be integers in {dimensions} dimensions, but it has dtype "
            f"{array.dtype} and shape {array.shape}. Images have shape (n, height, width), "
            "labels (n,)."
        )
    return _bytes(array)


def _read_csv(path: pathlib.Path) -> tuple[np.ndarray, ...]:
    with _open(path) as file:
        names = _names(file.readline().decode())
        if _is_row(names):
            # Without a header the label comes first, as in the usual conversions of MNIST.
            file.seek(0)
            return _table(_lines(file), 0)
        label = _label(names)
        return _table(_lines(file), 0 if label is None else label)


def _read_arff(path: pathlib.Path) -> tuple[np.ndarray, ...]:
    with _open(path) as file:
        for line in file:
            if line.strip().lower() == b"@data":
                return _table(_lines(file), -1)
    raise DataError(f"{path} is an ARFF file without @data, so truncated. Copy it again.")


def _lines(file: io.BufferedIOBase) -> Iterator[str]:
    for line in file:
        yield line.decode().replace("'", "").replace('"', "")


def _table(lines: Iterator[str], label: int) -> tuple[np.ndarray, ...]:
    first = next(lines, "")
    if not first.strip():
        raise ValueError("it holds no rows")
    lines = itertools.chain([first], lines)
    values = np.loadtxt(lines, dtype=np.int16, delimiter=",", ndmin=2, comments=None)
    pixels = np.delete(values, label, axis=1)
    side = math.isqrt(pixels.shape[1])
    return _bytes(pixels).reshape(-1, side, side), _bytes(values[:, label])


def _bytes(array: np.ndarray) -> np.ndarray:
    if array.size and (array.min() < 0 or array.max() > 255):
        raise ValueError(f"values must lie in 0 to 255, but reach {array.min()} to {array.max()}")
    return array.astype(np.uint8)
