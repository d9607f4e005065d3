"""Finds a copy of MNIST that the user has, and makes sure that it is MNIST."""

import glob
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from diffcompare.learn import formats
from diffcompare.learn.errors import DataError, DataNotFoundError

ROLES = ("training images", "training labels", "test images", "test labels")
SHAPES = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
# Of the uncompressed IDX files: gzip copies of one file differ.
SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
# Of all four in this order, one after the other.
ALL_SHA256 = "b2d8f5bf39174ee5ffeefa97e42d673c35432b411bb5d1f74fbbeddae7f1690a"
VARIABLE = "DIFFCOMPARE_DATA"
# Where, below a folder that is named, torchvision and others put the files.
SUBFOLDERS = ("", "MNIST/raw", "mnist", "raw", "data/MNIST/raw")
HELP = (
    "Nothing is ever downloaded: put train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (plain or .gz), a keras mnist.npz, or CSV "
    f"files into a folder, and pass path=FOLDER or set {VARIABLE}=FOLDER."
)


class Found(NamedTuple):
    """The four arrays of a data set, as uint8, and the checksum of them all."""

    x_train: np.ndarray  # (n, height, width)
    y_train: np.ndarray  # (n,)
    x_test: np.ndarray  # (m, height, width)
    y_test: np.ndarray  # (m,)
    sha256: str  # of the four uncompressed IDX files, one after the other


class _Piece(NamedTuple):
    path: pathlib.Path
    array: np.ndarray
    sha256: str


def find(path: str | os.PathLike | None, *, verify: bool = True) -> Found:
    """Returns the first copy of MNIST in the places that are searched.

    Args:
        path: A file or folder; the only place to look at, where it is given. Otherwise
            the folder that the environment variable DIFFCOMPARE_DATA names, then those of
            torchvision, keras and scikit-learn.
        verify: Whether the files must have the checksums of MNIST. Otherwise any
            data set in their formats is read; the larger half is for training.

    Raises:
        DataNotFoundError: No place holds a complete copy. The message lists them.
        DataError: A file is truncated, damaged, or has a wrong checksum.
    """
    searched = []
    for place in _places(path):
        found, lacking = _search(place, verify)
        if found is not None:
            return found
        searched.append(f"{place}: {lacking}")
    raise DataNotFoundError(
        "No complete copy of MNIST was found. Searched were, in this order:\n  "
        + "\n  ".join(searched)
        + f"\n{HELP}"
    )


def _search(place: pathlib.Path, verify: bool) -> tuple[Found | None, str]:
    """Returns the data set at a place, or None and what is there instead."""
    pieces: dict[str, _Piece] = {}
    notes = []
    files = _files(place)
    for file in files:
        kind, reason = formats.recognise(file)
        if kind is None and file != place:
            notes.append(f"{file.name} {reason}")
            continue
        for array in formats.read(file):
            piece = _Piece(file, array, hashlib.sha256(formats.idx_bytes(array)).hexdigest())
            pieces.setdefault(piece.sha256, piece)
        if verify and all(digest in pieces for digest in SHA256):
            break
    if not files:
        return None, "holds no files" if place.exists() else "is not there"
    # A folder may hold thousands of files that are something else.
    more = [f"and {len(notes) - 8} more files of no known format"] if len(notes) > 8 else []
    notes = notes[:8] + more
    if not pieces:
        return None, "; ".join(notes)
    found, lacking = _verified(pieces) if verify else _by_size(pieces)
    return found, "; ".join([lacking, *notes])


def _places(path: str | os.PathLike | None) -> Iterator[pathlib.Path]:
    if path is not None:
        yield from _below(pathlib.Path(path).expanduser())
        return
    if os.environ.get(VARIABLE):
        yield from _below(pathlib.Path(os.environ[VARIABLE]).expanduser())
    home = pathlib.Path.home()
    for folder in (pathlib.Path("data"), home / "data", home / ".torchvision"):
        yield folder / "MNIST" / "raw"
    keras = pathlib.Path(os.environ.get("KERAS_HOME") or home / ".keras")
    yield keras / "datasets" / "mnist.npz"
    scikit = pathlib.Path(os.environ.get("SCIKIT_LEARN_DATA") or home / "scikit_learn_data")
    # The number of the file of mnist_784 at OpenML.
    downloads = scikit / "openml" / "openml.org" / "data" / "v1" / "download"
    matches = sorted(glob.glob(f"{glob.escape(str(downloads))}/52667*"))
    yield from map(pathlib.Path, matches or [str(downloads / "52667")])


def _below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    if folder.is_dir():
        yield from (folder / below for below in SUBFOLDERS)
    else:
        yield folder


def _files(place: pathlib.Path) -> list[pathlib.Path]:
    if place.is_dir():
        return sorted(file for file in place.iterdir() if file.is_file())
    return [place] if place.is_file() else []


def _verified(pieces: dict[str, _Piece]) -> tuple[Found | None, str]:
    """Returns the four arrays with the checksums of MNIST, or None and what is lacking."""
    missing = [i for i, digest in enumerate(SHA256) if digest not in pieces]
    if not missing:
        return _found([pieces[digest].array for digest in SHA256]), ""
    joined = _split_of_joined(pieces)
    if joined is not None:
        return joined, ""
    for piece in pieces.values():
        for i in missing:
            if piece.array.shape == SHAPES[i]:
                raise DataError(
                    f"{piece.path} has a wrong checksum: the {ROLES[i]} of MNIST have sha256 "
                    f"{SHA256[i]}, but its array of shape {SHAPES[i]} has {piece.sha256}. Copy it "
                    "again, or pass verify=False where it is meant to be another data set."
                )
    held = ", ".join(f"{piece.path.name} {piece.array.shape}" for piece in pieces.values())
    return None, f"lacks the {', the '.join(ROLES[i] for i in missing)} of MNIST (it holds {held})"


def _split_of_joined(pieces: dict[str, _Piece]) -> Found | None:
    """Returns MNIST from files that hold its 70,000 images as one, the test images last."""
    joined = [piece.array for piece in pieces.values() if len(piece.array) == 70000]
    images = [array for array in joined if array.ndim == 3]
    labels = [array for array in joined if array.ndim == 1]
    if len(images) != 1 or len(labels) != 1:
        return None
    chosen = [images[0][:60000], labels[0][:60000], images[0][60000:], labels[0][60000:]]
    digests = [hashlib.sha256(formats.idx_bytes(array)).hexdigest() for array in chosen]
    if tuple(digests) != SHA256:
        raise DataError(
            f"{next(iter(pieces.values())).path} holds 70,000 images, but they have a wrong "
            f"checksum: their parts have sha256 {', '.join(digests)}, and MNIST has "
            f"{', '.join(SHA256)}. Copy it again."
        )
    return _found(chosen)


def _by_size(pieces: dict[str, _Piece]) -> tuple[Found | None, str]:
    """Returns training and test arrays by their sizes, or None and what is lacking."""
    arrays = [piece.array for piece in pieces.values()]
    images = sorted((a for a in arrays if a.ndim == 3), key=len, reverse=True)
    labels = sorted((a for a in arrays if a.ndim == 1), key=len, reverse=True)
    sizes = [len(array) for array in images]
    if len(images) == 2 and sizes[0] > sizes[1] and sizes == [len(array) for array in labels]:
        return _found([images[0], labels[0], images[1], labels[1]]), ""
    return None, (
        "needs two sets of images, the larger one for training, and labels for both, but it "
        f"holds images {[a.shape for a in images]} and labels {[a.shape for a in labels]}"
    )


def _found(arrays: list[np.ndarray]) -> Found:
    x_train, y_train, x_test, y_test = arrays
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(formats.idx_bytes(array))
    return Found(x_train, y_train, x_test, y_test, digest.hexdigest())
