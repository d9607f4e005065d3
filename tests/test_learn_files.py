"""Trained networks and pictures as files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from diffcompare import learn
from diffcompare.learn import images


@pytest.fixture
def network():
    return learn.Network(learn.init(jax.random.key(0), (64, 5, 10), dtype=float), (8, 8), "digits")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_a_network_comes_back_bit_for_bit(tmp_path, dtype, bias):
    params = learn.init(jax.random.key(0), (6, 3, 2), bias=bias, dtype=dtype)
    learn.save(tmp_path / "net.npz", learn.Network(params, (2, 3), "mine"))
    found = learn.restore(tmp_path / "net.npz")
    assert found[1:] == ((2, 3), "mine")
    assert jax.tree.structure(found.params) == jax.tree.structure(params)
    for old, new in zip(jax.tree.leaves(params), jax.tree.leaves(found.params), strict=True):
        assert new.dtype == dtype
        assert np.asarray(old).tobytes() == np.asarray(new).tobytes()


def test_what_is_no_network_is_refused_by_name(tmp_path, network):
    path = tmp_path / "net.npz"
    with pytest.raises(learn.DataNotFoundError, match=r"There is no .*net\.npz\. Make one"):
        learn.restore(path)
    path.write_bytes(b"no archive")
    with pytest.raises(learn.DataError, match=r"net\.npz is not a network that learn\.save wrote"):
        learn.restore(path)
    np.savez(path, weights=np.ones(3))
    with pytest.raises(learn.DataError, match="is not a network"):
        learn.restore(path)
    learn.save(path, network)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(learn.DataError, match="is not a network"):
        learn.restore(path)


def _drawn(tmp_path, pixels, *, size=None, invert=True, mode="L"):
    values = np.uint8(np.round(255 * np.asarray(pixels)))
    picture = Image.fromarray(255 - values if invert else values)
    if size is not None:
        picture = picture.resize(size, Image.Resampling.NEAREST)
    picture.convert(mode).save(tmp_path / "drawn.png")
    return tmp_path / "drawn.png"


@pytest.mark.parametrize("invert", [True, False], ids=["dark on bright", "bright on dark"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_a_picture_of_the_right_size_stays_as_it_is(tmp_path, invert, mode):
    pixels = np.zeros((8, 8))
    pixels[1:7, 3] = 1
    path = _drawn(tmp_path, pixels, invert=invert, mode=mode)
    assert images.read(path, (8, 8)).tolist() == pixels.tolist()


def test_what_is_transparent_is_paper(tmp_path):
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture.putpixel((3, 4), (0, 0, 0, 255))
    picture.save(tmp_path / "drawn.png")
    image = images.read(tmp_path / "drawn.png", (8, 8))
    assert np.argwhere(image == 1).tolist() == [[4, 3]]
    assert image.sum() == 1


def test_the_place_and_size_of_a_digit_do_not_matter(tmp_path):
    digit = np.zeros((8, 8))
    digit[:, 2:6] = np.random.default_rng(0).uniform(0.3, 1, (8, 4))
    digit[0, 2] = 1
    plain = images.read(_drawn(tmp_path, digit), (8, 8))
    moved = np.zeros((20, 16))
    moved[9:17, 1:5] = digit[:, 2:6]
    far = images.read(_drawn(tmp_path, moved, size=(160, 200)), (8, 8))
    # Eight bits for a pixel, rounded twice.
    np.testing.assert_allclose(far, plain, atol=2 / 255)


def test_gray_paper_is_white_paper(tmp_path):
    digit = np.zeros((20, 20))
    digit[4:12, 5:9] = 1
    white = images.read(_drawn(tmp_path, digit), (8, 8))
    gray = images.read(_drawn(tmp_path, 0.2 + 0.5 * digit), (8, 8))
    np.testing.assert_allclose(gray, white, atol=2 / 255)


def test_what_is_no_picture_of_a_digit_is_refused_by_name(tmp_path):
    with pytest.raises(learn.DataNotFoundError, match=r"There is no .*nothing\.png"):
        images.read(tmp_path / "nothing.png", (8, 8))
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(learn.DataError, match=r"text\.png is not a picture"):
        images.read(tmp_path / "text.png", (8, 8))
    with pytest.raises(learn.DataError, match="Nothing is drawn on"):
        images.read(_drawn(tmp_path, np.zeros((30, 30))), (8, 8))
