"""The slope of a function by the walk, and the precision of dtypes."""

import jax
import jax.numpy as jnp
import numpy as np

from diffcompare._jaxpr.complexify import complexify

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


def slopes(fun, *arguments, directions=None, step=None):
    """Returns value and slope of a function of arrays, along ones or the given directions."""
    arguments = [jnp.asarray(x) for x in arguments]
    directions = [jnp.ones_like(x) for x in arguments] if directions is None else directions
    directions = [jnp.asarray(v, x.dtype) for v, x in zip(directions, arguments, strict=True)]
    jaxpr = jax.make_jaxpr(fun)(*arguments)
    run = jax.jit(lambda x, v: complexify(jaxpr, x, v, step=step))
    values, found = run(arguments, directions)
    return np.asarray(values[0], np.float64), np.asarray(found[0], np.float64)
