"""The devices that an experiment trains on."""

import jax
import numpy as np
from jax.sharding import Mesh


def mesh(batch_size: int) -> Mesh | None:
    """Returns all devices, also of other processes, if there are several that can share a batch.

    Several devices of one process on a CPU are its cores once more, and so are not used.
    """
    devices = jax.devices()
    if len(devices) == 1 or batch_size % len(devices):
        return None
    if jax.process_count() == 1 and jax.default_backend() == "cpu":
        return None
    return Mesh(np.array(devices), ("batch",))
