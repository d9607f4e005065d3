import jax
import numpy as np
import pytest

from diffcompare.learn.order import permutation

# 1625 is the most that are sorted once, because 3 log2(1625) is just below 32.


@pytest.mark.parametrize("count", [0, 1, 2, 1625, 1626, 5000])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_order_is_that_of_jax(count, seed):
    key = jax.random.fold_in(jax.random.key(seed), 3)
    # Bit for bit: these are integers.
    np.testing.assert_array_equal(permutation(key, count), jax.random.permutation(key, count))


@pytest.mark.parametrize(
    "make", [jax.random.PRNGKey, lambda seed: jax.random.key(seed, impl="rbg")]
)
def test_an_order_is_that_of_jax_for_other_kinds_of_keys(make):
    key = make(0)
    np.testing.assert_array_equal(permutation(key, 2000), jax.random.permutation(key, 2000))


def test_equal_words_keep_their_order(monkeypatch):
    words = np.array([7, 2, 7, 2, 7], "uint32")
    monkeypatch.setattr("diffcompare.learn.order._words", lambda key, count: [words])
    found = permutation(jax.random.key(0), 5)
    assert found.tolist() == [1, 3, 0, 2, 4]
    assert found.dtype == np.int32
