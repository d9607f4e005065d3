"""Data sets of images: the digits inside this package, and the user's copy of MNIST."""

import hashlib
import importlib.resources
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from diffcompare.learn import mnist
from diffcompare.learn.errors import DataError, DataNotFoundError

# Of the bytes of the images, then of the labels.
DIGITS_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
# The pixels of the digits count the ink in a block of 4 x 4.
DIGITS_WHITE = 16
TEST_FRACTION = 0.25


class Dataset(NamedTuple):
    """Images, flattened and with pixels from 0 to 1 in float32, and their labels."""

    x_train: Float[Array, "train pixels"]
    y_train: Int[Array, " train"]
    x_test: Float[Array, "test pixels"]
    y_test: Int[Array, " test"]
    image_shape: tuple[int, int]  # height, width
    name: str
    sha256: str  # of the uncompressed data


def load(
    name: str | os.PathLike = "digits",
    *,
    path: str | os.PathLike | None = None,
    seed: int = 0,
    verify: bool = True,
) -> Dataset:
    """Returns a data set of labelled images, split for training and testing.

    Nothing is downloaded and nothing is unpickled. Files are known by their content: IDX,
    plain or gzipped; keras' mnist.npz; CSV; the ARFF file of scikit-learn.

    Args:
        name: "digits", 1,797 images of 8 x 8 pixels that come with this package; "mnist",
            70,000 images of 28 x 28 pixels; or the path of a file or folder with MNIST.
        path: Where to look for MNIST. Without it, the folder that the environment variable
            DIFFCOMPARE_DATA names is searched, then those of torchvision, keras and
            scikit-learn.
        seed: Which split of the digits: 75 % of each class are for training. MNIST
            comes with its own split.
        verify: Whether files must have the checksums of MNIST. Without it, any data set in
            these formats is read from `path`, the larger of two sets being for training.

    Returns:
        A `Dataset`. Its sha256 is of the images and labels of digits, or of the four
        uncompressed IDX files of MNIST (training images, labels, test images, labels) in a row.

    Raises:
        DataError: A file is truncated, damaged, of an unknown format, or has a wrong checksum.
            It is a ValueError.
        DataNotFoundError: No place holds the data; the message lists them. It is a DataError
            and a FileNotFoundError.
        ValueError: `name` is neither a data set nor a path, or `path` is given for digits.

    Example:
        >>> from diffcompare import learn
        >>> dataset = learn.load("digits")
        >>> dataset.x_train.shape, dataset.x_test.shape, dataset.image_shape
        ((1347, 64), (450, 64), (8, 8))

    References:
        Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
        Repository, 1998, doi:10.24432/C50P49.
        LeCun et al., "Gradient-based learning applied to document recognition", Proceedings
        of the IEEE 86(11), 1998.
    """
    if name == "digits":
        if path is not None:
            raise ValueError(
                f"digits come with the package, but path={os.fspath(path)!r} was given. Leave "
                'path out, or load "mnist".'
            )
        return _digits(seed)
    if name != "mnist":
        if path is not None or not pathlib.Path(name).expanduser().exists():
            raise DataNotFoundError(
                f'load knows "digits", "mnist", and paths that exist, but not {os.fspath(name)!r}. '
                f"{mnist.HELP}"
            )
        path = name
    found = mnist.find(path, verify=verify)
    is_mnist = found.sha256 == mnist.ALL_SHA256
    return _dataset(found, "mnist" if is_mnist else pathlib.Path(path or "mnist").stem, 255)


def read_digits() -> tuple[np.ndarray, np.ndarray, str]:
    """Returns the images of digits, uint8 `(1797, 8, 8)` from 0 to 16, labels, and checksum.

    Raises:
        DataError: The file in the package is not the one that was released.
    """
    resource = importlib.resources.files("diffcompare.learn") / "digits.npz"
    with resource.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        images, labels = archive["images"], archive["labels"]
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if digest != DIGITS_SHA256:
        raise DataError(
            f"digits.npz of the package must have sha256 {DIGITS_SHA256}, but it has {digest}. "
            "Install diffcompare again."
        )
    return images, labels, digest


def _digits(seed: int) -> Dataset:
    images, labels, digest = read_digits()
    is_test = _stratified(labels, seed)
    found = mnist.Found(
        images[~is_test], labels[~is_test], images[is_test], labels[is_test], digest
    )
    return _dataset(found, "digits", DIGITS_WHITE)


def _stratified(labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns which examples are for testing: the same fraction of every class."""
    # JAX's generator, since it promises the same numbers in later versions.
    order = np.asarray(jax.random.permutation(jax.random.key(seed), len(labels)))
    is_test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        is_test[members[: round(TEST_FRACTION * len(members))]] = True
    return is_test


def _dataset(found: mnist.Found, name: str, white: int) -> Dataset:
    def scaled(images: np.ndarray) -> Array:
        return jnp.asarray(images.reshape(len(images), -1).astype(np.float32) / np.float32(white))

    return Dataset(
        scaled(found.x_train),
        jnp.asarray(found.y_train, jnp.int32),
        scaled(found.x_test),
        jnp.asarray(found.y_test, jnp.int32),
        (found.x_train.shape[1], found.x_train.shape[2]),
        name,
        found.sha256,
    )
