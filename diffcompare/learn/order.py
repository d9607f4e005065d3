"""The random order in which an epoch visits the examples, sorted on the host."""

import functools
import math

import jax
import numpy as np
from jaxtyping import Array


def permutation(key: Array, count: int) -> np.ndarray:
    """Returns the numbers below `count` in random order, those of `jax.random.permutation`.

    XLA sorts pairs on one core of a CPU, by a comparison that it calls: 44 ms for 60,000
    examples in jax 0.10 and 13 ms in 0.12, of 200 ms that an epoch of a small network takes.
    NumPy takes 3 ms.

    Args:
        key: A PRNG key.
        count: How many numbers, less than 2**32.

    Returns:
        An array of shape `(count,)`, of dtype int32 where that can hold them.

    Example:
        >>> import jax
        >>> permutation(jax.random.key(0), 6).tolist()
        [0, 1, 5, 4, 3, 2]
        >>> jax.random.permutation(jax.random.key(0), 6).tolist()
        [0, 1, 5, 4, 3, 2]
    """
    order = np.arange(count, dtype=np.int32 if count <= 2**31 else np.int64)
    for words in jax.device_get(_words(key, count)):
        # A word and its position in one integer: sorting these is a stable sort of the words,
        # and NumPy does it many times faster than one by index.
        pairs = words.astype(np.uint64) << np.uint64(32) | np.arange(count, dtype=np.uint64)
        pairs.sort()
        order = order[(pairs & np.uint64(0xFFFFFFFF)).astype(np.intp)]
    return order


@functools.partial(jax.jit, static_argnums=1)
def _words(key: Array, count: int) -> list[Array]:
    """Returns what the numbers are sorted by, time after time."""
    # So many sorts by words of 32 bits that, of all the words together, no two are likely equal:
    # those of n numbers have 3 log2(n) bits or more.
    rounds = math.ceil(3 * math.log(max(1, count)) / math.log(2**32 - 1))
    words = []
    for _ in range(rounds):
        key, subkey = jax.random.split(key)
        words.append(jax.random.bits(subkey, (count,), np.uint32))
    return words
