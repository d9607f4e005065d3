"""The study of Jacobians."""

import numpy as np
import pytest

from diffcompare.plot import style
from experiments import jacobians

EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def result():
    return jacobians.run(jacobians.Config.quick())


def test_jacobians_of_all_methods_share_the_layout_of_the_lecture(result):
    """Lecture rows 37 to 39."""
    product, elementwise = result.jacobians
    assert product.exact.shape == (2, 3)  # output x input
    np.testing.assert_array_equal(elementwise.exact, np.diag(np.diag(elementwise.exact)))
    for jacobian in result.jacobians:
        assert set(jacobian.found) == {"numerical", "symbolic", "automatic"}
        for method, matrix in jacobian.found.items():
            assert matrix.shape == jacobian.exact.shape
            # Both functions are linear: a central difference has rounding errors only, of eps
            # times the value over a step of about eps^(1/3).
            limit = 100 * EPS ** (2 / 3) if method == "numerical" else 4 * EPS
            assert jacobian.errors[method] <= limit


def test_shapes_of_the_chain_fit_and_its_product_is_the_gradient(result):
    """Lecture rows 29 and 40."""
    m, h, d = 2, 3, 2
    shapes = [factor.matrix.shape for factor in result.chain]
    assert shapes == [(1, m), (m, h), (h, h), (h, h * d)]
    np.testing.assert_allclose(
        result.product, result.gradient.reshape(1, -1), rtol=0, atol=16 * EPS
    )  # a few roundings of numbers of about 1
    for factor in result.chain:
        assert factor.error <= 4 * EPS


def test_last_factor_is_a_kronecker_product(result):
    """Lecture row 40: df/dW1 is the identity times x transposed."""
    h, d = 3, 2
    matrix = result.chain[-1].matrix.reshape(h, h, d)
    x = matrix[0, 0]
    np.testing.assert_array_equal(matrix, np.eye(h)[:, :, None] * x)


def test_flipped_product_is_the_transpose(result):
    """Lecture row 40."""
    np.testing.assert_allclose(result.flipped, result.product.T, rtol=0, atol=16 * EPS)


def test_the_chain_costs_less_from_the_left(result):
    """Lecture row 34."""
    m, h, d = 2, 3, 2
    assert result.by_reverse == m * h + h * h + h * h * d
    assert result.by_forward == h * h * h * d + m * h * h * d + m * h * d
    assert result.by_reverse < result.by_forward


def test_figure_shows_the_methods_and_the_chain(result):
    with style.context():
        figure = jacobians.plot(result)
    titles = " ".join(ax.get_title() for ax in figure.axes)
    for word in ("numerical", "symbolic", "automatic", "input x output", "H x HD = 3 x 6"):
        assert word in titles
    assert len(jacobians.summary(result)) == 11


@pytest.mark.parametrize("options", [{"outputs": 0}, {"inputs": -1}])
def test_bad_config_is_refused(options):
    with pytest.raises(ValueError, match="outputs, hidden and inputs must be positive"):
        jacobians.Config(**options)
