"""Which digit a picture shows."""

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro


def classify(
    image: Annotated[Path, tyro.conf.Positional],
    params: Annotated[Path, tyro.conf.arg(name="params")] = Path("network.npz"),
) -> int:
    """Prints the class of a picture of a digit, and the scores of all classes.

    Args:
        image: A PNG or another picture: ink on paper, dark or bright.
        params: A network that `train` wrote.
    """
    from diffcompare import learn
    from diffcompare.learn import images

    network = learn.restore(params)
    pixels = images.read(image, network.image_shape, network.data)
    scores = np.asarray(learn.apply(network.params, pixels.ravel()), float)
    exponentials = np.exp(scores - scores.max())
    print(int(scores.argmax()))
    for label, (score, part) in enumerate(
        zip(scores, exponentials / exponentials.sum(), strict=True)
    ):
        print(f"  {label}  score {score:8.3f}  probability {part:.4f}")
    return 0
