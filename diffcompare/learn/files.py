"""Trained networks as files: arrays by name, without pickle."""

import io
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from diffcompare import _files
from diffcompare.learn.errors import DataError, DataNotFoundError
from diffcompare.learn.model import Layer, Params

_FORMAT = "diffcompare network 1"


class Network(NamedTuple):
    """A trained network, and the images that it was trained on."""

    params: Params
    image_shape: tuple[int, int]  # height, width
    data: str  # name of the data set


def save(path: str | os.PathLike, network: Network) -> None:
    """Writes a network to a file, an archive of NumPy arrays; the file is whole or absent.

    Args:
        path: The file; it is replaced when it exists.
        network: What it will hold.

    Example:
        >>> import jax, tempfile
        >>> from diffcompare import learn
        >>> network = learn.Network(learn.init(jax.random.key(0), (64, 10)), (8, 8), "digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     learn.save(f"{folder}/linear.npz", network)
        ...     learn.restore(f"{folder}/linear.npz").image_shape
        (8, 8)
    """
    arrays: dict[str, np.ndarray] = {
        "format": np.array(_FORMAT),
        "data": np.array(network.data),
        "image_shape": np.array(network.image_shape),
    }
    for number, layer in enumerate(network.params):
        for name, leaf in layer._asdict().items():
            if leaf is not None:
                arrays[f"{number}.{name}"] = _portable(leaf)
                arrays[f"{number}.{name}.dtype"] = np.array(str(jnp.asarray(leaf).dtype))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    _files.write_atomically(Path(path), buffer.getvalue())


def restore(path: str | os.PathLike) -> Network:
    """Returns the network that `save` wrote.

    Raises:
        DataNotFoundError: There is no such file.
        DataError: The file is truncated, damaged, or none of these.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if str(arrays["format"]) != _FORMAT:
            raise ValueError(f"its format is {arrays['format']}")
        params = tuple(_layer(arrays, number) for number in range(_layers(arrays)))
        height, width = arrays["image_shape"].tolist()
        return Network(params, (height, width), str(arrays["data"]))
    except FileNotFoundError as error:
        raise DataNotFoundError(
            f"There is no {os.fspath(path)}. Make one with python -m diffcompare train "
            f"{os.fspath(path)}, or with learn.save."
        ) from error
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{os.fspath(path)} is not a network that learn.save wrote: {error}."
        ) from error


def _layers(arrays: dict[str, np.ndarray]) -> int:
    return sum(name.endswith(".weight") for name in arrays)


def _layer(arrays: dict[str, np.ndarray], number: int) -> Layer:
    def leaf(name: str):
        key = f"{number}.{name}"
        if key not in arrays and name == "bias":
            return None
        return jnp.asarray(arrays[key], str(arrays[f"{key}.dtype"]))

    return Layer(leaf("weight"), leaf("bias"))


def _portable(leaf) -> np.ndarray:
    # NumPy has no bfloat16; float32 holds it exactly.
    array = np.asarray(leaf)
    return array if array.dtype.kind == "f" else array.astype(np.float32)
