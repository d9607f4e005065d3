"""Masks, the harmonic fill, least squares and PSNR, against systems solved by hand and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffcompare import learn
from diffcompare.learn import inpainting

IMAGES = np.random.default_rng(0).random((3, 5, 6))
MASK = inpainting.hole((5, 6), (2, 3))
EPS = np.finfo(float).eps


def test_a_hole_has_its_size_and_lies_in_the_centre_or_where_it_is_told():
    assert np.argwhere(inpainting.hole((8, 8), (2, 4)))[[0, -1]].tolist() == [[3, 2], [4, 5]]
    at_corner = inpainting.hole((8, 8), (2, 4), (6, 4))
    assert at_corner.sum() == 8
    assert at_corner[6:, 4:].all()


def test_masking_changes_missing_pixels_only():
    """Lecture row 19."""
    found = np.asarray(inpainting.masked(IMAGES, MASK, fill=0.25))
    assert (found[:, MASK] == 0.25).all()
    assert (found[:, ~MASK] == IMAGES[:, ~MASK]).all()


def test_composing_takes_known_pixels_from_the_image_and_missing_ones_from_the_guess():
    """Lecture row 19."""
    found = np.asarray(inpainting.composed(IMAGES, -IMAGES, MASK))
    assert (found[:, MASK] == -IMAGES[:, MASK]).all()
    assert (found[:, ~MASK] == IMAGES[:, ~MASK]).all()


def test_flattened_images_are_masked_by_a_flattened_mask():
    flat = IMAGES.reshape(3, -1)
    found = inpainting.masked(flat, MASK.ravel())
    assert (np.asarray(found) == inpainting.masked(IMAGES, MASK).reshape(3, -1)).all()


def test_the_harmonic_fill_solves_a_system_that_was_solved_by_hand():
    # The two missing pixels u, v of the middle row: 4 u = 1 + 2 + 6 + v, 4 v = 3 + 5 + 7 + u.
    # So 15 u = 4 * 9 + 15 and 15 v = 4 * 15 + 9.
    image = np.array([[0.0, 1.0, 3.0, 0.0], [2.0, -9.0, -9.0, 5.0], [0.0, 6.0, 7.0, 0.0]])
    mask = inpainting.hole((3, 4), (1, 2))
    found = np.asarray(inpainting.harmonic_fill(image, mask))
    # Two unknowns: a few roundings.
    assert found[1, 1:3] == pytest.approx([51 / 15, 69 / 15], rel=8 * EPS)
    assert (found[~mask] == image[~mask]).all()


def test_every_pixel_of_a_harmonic_fill_is_the_mean_of_its_neighbours_in_the_image():
    mask = IMAGES[0] > 0.4  # ragged, and reaching the edges
    found = np.asarray(inpainting.harmonic_fill(IMAGES, mask))
    for row, column in np.argwhere(mask):
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        near = [found[:, r, c] for r, c in around if 0 <= r < 5 and 0 <= c < 6]
        # The condition of a Laplacian of 20 pixels is below 1e3.
        assert found[:, row, column] == pytest.approx(np.mean(near, axis=0), rel=1e3 * EPS)


def test_a_plane_is_harmonic_so_its_hole_is_filled_exactly():
    plane = 2.0 * np.arange(5.0)[:, None] - 3.0 * np.arange(6.0)
    found = inpainting.harmonic_fill(inpainting.masked(plane, MASK, fill=np.nan), MASK)
    assert found == pytest.approx(plane, abs=1e3 * EPS)  # as above, of values up to 15


def test_harmonic_weights_average_the_pixels_around_the_hole():
    weights = inpainting.harmonic_weights(MASK)
    assert (weights >= 0).all()
    assert weights.sum(axis=1) == pytest.approx(np.ones(6), rel=1e3 * EPS)
    # Of the 24 known pixels the 10 that share a side with the 2 x 3 hole.
    assert (weights.sum(axis=0) > 0).sum() == 10


def test_the_harmonic_fill_is_the_same_compiled_and_keeps_single_precision():
    images = jnp.asarray(IMAGES, jnp.float32)
    fill = lambda images: inpainting.harmonic_fill(images, MASK)
    assert fill(images).dtype == jnp.float32
    expected = np.asarray(fill(images))
    assert jax.jit(fill)(images) == pytest.approx(expected, rel=1e-6)  # float32


def test_least_squares_meets_the_normal_equations_of_ridge_regression():
    rng = np.random.default_rng(1)
    x, y = rng.random((50, 4)), rng.random((50, 3))
    (layer,) = inpainting.least_squares(x, y, ridge=0.5)
    rest = y - np.asarray(learn.apply((layer,), x))
    # The derivatives by W and b; 50 numbers below 1 are summed.
    assert rest.T @ x == pytest.approx(0.5 * np.asarray(layer.weight), abs=500 * EPS)
    assert rest.sum(axis=0) == pytest.approx(np.zeros(3), abs=500 * EPS)


def test_least_squares_agrees_with_numpy_where_the_ridge_vanishes():
    rng = np.random.default_rng(2)
    x, y = rng.random((50, 4)), rng.random((50, 3))
    (layer,) = inpainting.least_squares(x, y, ridge=1e-10)
    with_one = np.concatenate([x, np.ones((50, 1))], axis=1)
    expected = np.linalg.lstsq(with_one, y)[0].T
    # A ridge of 1e-10 against eigenvalues of about 4.
    assert layer.weight == pytest.approx(expected[:, :4], abs=1e-9)
    assert layer.bias == pytest.approx(expected[:, 4], abs=1e-9)


def test_psnr_counts_missing_pixels_of_all_images_alike():
    truth = IMAGES + np.random.default_rng(3).normal(0, 0.1, IMAGES.shape)
    expected = -10 * np.log10(((IMAGES - truth)[:, MASK] ** 2).mean())
    assert float(inpainting.psnr(IMAGES, truth, MASK)) == pytest.approx(expected, rel=8 * EPS)
    # In units of 1/255 the same error has the same PSNR.
    scaled = inpainting.psnr(255 * IMAGES, 255 * truth, MASK, peak=255)
    assert float(scaled) == pytest.approx(expected, rel=8 * EPS)
    known = np.where(MASK, IMAGES, 7.0)
    assert float(inpainting.psnr(known, truth, MASK)) == pytest.approx(expected, rel=8 * EPS)


def test_psnr_without_an_error_is_infinite():
    assert np.isposinf(inpainting.psnr(IMAGES, IMAGES, MASK))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: inpainting.hole((4, 4), (5, 1)), ValueError, "5 x 1 pixels at row 0, column 1"),
        (lambda: inpainting.hole((4, 4), (2, 2), (3, 0)), ValueError, "row 3, column 0 does not"),
        (lambda: inpainting.hole((4, 4), (0, 2)), ValueError, "does not lie in an image of 4 x 4"),
        (lambda: inpainting.masked(IMAGES, MASK.T), ValueError, r"\(..., 6, 5\), like the mask"),
        (lambda: inpainting.masked(IMAGES, MASK * 1), TypeError, "must be boolean.* it is int64"),
        (
            lambda: inpainting.composed(IMAGES, IMAGES[0], MASK),
            ValueError,
            r"as many guesses as images, of shape \(3, 5, 6\), but they have shape \(5, 6\)",
        ),
        (
            lambda: inpainting.harmonic_weights(np.ones((2, 2), bool)),
            ValueError,
            r"at least one known pixel.*\(2, 2\) and 0 known",
        ),
        (lambda: inpainting.harmonic_weights([True, False]), ValueError, r"shape \(2,\)"),
        (
            lambda: jax.jit(inpainting.masked)(IMAGES, MASK),
            TypeError,
            "known before compilation",
        ),
        (lambda: inpainting.least_squares(IMAGES, IMAGES), ValueError, "x of shape .examples, inp"),
        (
            lambda: inpainting.least_squares(IMAGES[0], IMAGES[0], ridge=0),
            ValueError,
            "ridge must be positive, but it is 0",
        ),
        (
            lambda: inpainting.psnr(IMAGES, IMAGES, np.zeros((5, 6), bool)),
            ValueError,
            "at least one missing pixel",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()
