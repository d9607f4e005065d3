"""Pictures from files, made to look like those of a data set."""

import os

import numpy as np
from jaxtyping import Float

from diffcompare.learn.errors import DataError, DataNotFoundError

# How much of the height or width a digit fills, and whether its centre of mass is in the middle,
# or that of its box. MNIST was made so (LeCun et al., 1998); the digits fill their images.
_MADE = {"mnist": (20 / 28, True)}


def read(
    path: str | os.PathLike, shape: tuple[int, int], data: str = "digits"
) -> Float[np.ndarray, "height width"]:
    """Returns the picture of a digit as an image of a data set: bright ink, pixels from 0 to 1.

    Dark ink on bright paper is inverted. A picture of another size is cut to its ink, scaled
    to as much of the image as digits of the data set fill, and centred.

    Args:
        path: A picture that Pillow can read, such as a PNG; in colour or not.
        shape: Height and width of the image.
        data: The data set, "digits" or "mnist".

    Raises:
        DataNotFoundError: There is no such file.
        DataError: It is not a picture, or nothing is drawn on it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            ink = _gray(picture)
    except FileNotFoundError as error:
        raise DataNotFoundError(f"There is no {os.fspath(path)}.") from error
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{os.fspath(path)} is not a picture: {error}.") from error
    paper = np.median(np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]]))
    ink = 1 - ink if paper > 0.5 else ink
    if ink.shape == shape:
        return ink.astype(np.float32)
    # Paper that is not quite white becomes so, and the strongest ink bright.
    ink = np.clip(ink - min(paper, 1 - paper), 0, 1)
    ink = ink / max(ink.max(), 0.1)
    rows, columns = (np.flatnonzero((ink > 0.1).any(axis)) for axis in (1, 0))
    if not rows.size:
        raise DataError(f"Nothing is drawn on {os.fspath(path)}. It needs a digit.")
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    fills, is_weighed = _MADE.get(data, (1.0, False))
    scale = min(fills * side / length for side, length in zip(shape, cut.shape, strict=True))
    size = [max(1, round(scale * length)) for length in cut.shape]
    small = Image.fromarray(np.uint8(255 * cut)).resize(size[::-1], Image.Resampling.BOX)
    return _placed(np.asarray(small, np.float32) / 255, shape, is_weighed)


def _gray(picture) -> np.ndarray:
    """Returns brightness from 0 to 1; what is transparent counts as white paper."""
    from PIL import Image

    if picture.mode in ("I", "I;16", "F"):  # more than 8 bits
        values = np.asarray(picture, float)
        return values / max(values.max(), 1)
    paper = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(paper, picture.convert("RGBA"))
    return np.asarray(flat.convert("L"), float) / 255


def _placed(small: np.ndarray, shape: tuple[int, int], is_weighed: bool) -> np.ndarray:
    """Returns an image with the centre of what is drawn in the middle, as far as it fits."""
    image = np.zeros(shape, np.float32)
    starts = []
    for axis, (side, length) in enumerate(zip(shape, small.shape, strict=True)):
        mass = small.sum(1 - axis) if is_weighed else np.ones(length)
        centre = (mass @ (np.arange(length) + 0.5)) / mass.sum()
        starts.append(int(np.clip(round(side / 2 - centre), 0, side - length)))
    top, left = starts
    image[top : top + small.shape[0], left : left + small.shape[1]] = small
    return image
