"""Where an experiment ran, as far as it can change a number or a time."""

import platform
from importlib import metadata
from typing import Any

import jax

from experiments import _beside

_PACKAGES = ("diffcompare", "jax", "jaxlib", "numpy", "optax", "sympy", "mpmath", "matplotlib")
_FLAGS = ("jax_default_matmul_precision", "jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")


def describe() -> dict[str, Any]:
    """Returns versions, platform, devices and JAX flags; no name of the machine, no path."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": len(_beside.cores()),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.devices()],
        # As it is inside `jax.enable_x64`, which the flag of the same name may not show.
        "default_float": str(jax.numpy.result_type(float)),
        "flags": {name: getattr(jax.config, name) for name in _FLAGS},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
