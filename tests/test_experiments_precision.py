"""The study of the noise of values, and of second derivatives."""

import json

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from diffcompare.plot import style
from experiments import _codec, precision


@pytest.fixture(scope="module")
def result():
    return precision.run(precision.Config.quick())


def of_dtype(result, dtype, **wanted):
    return [
        each
        for each in result.noise
        if each.dtype == dtype and all(getattr(each, k) == v for k, v in wanted.items())
    ]


def median(noise):
    return float(np.median(np.abs(noise.error)))


def test_a_value_is_wrong_by_a_few_eps_of_its_dtype_however_it_is_compiled(result):
    for noise in result.noise:
        if noise.products == precision.NARROW:
            continue
        # Two sums of 8 products, tanh, and a sum of 4 squares: some 24 roundings at the most in
        # one value, of half an eps each. Squared, a difference that cancels magnifies them.
        assert np.abs(noise.error).max() <= 24, (noise.dtype, noise.way)
        assert noise.error.shape == (8,)


def test_a_value_is_the_more_exact_the_finer_the_dtype(result):
    usual = [of_dtype(result, dtype, way="jit")[0] for dtype in precision.DTYPES]
    relative = [median(noise) * float(jnp.finfo(noise.dtype).eps) for noise in usual]
    assert [noise.dtype for noise in usual] == ["bfloat16", "float16", "float32", "float64"]
    assert np.all(np.diff(relative) < 0)


def test_products_of_narrow_numbers_set_the_noise(result):
    (narrow,) = of_dtype(result, "float32", products=precision.NARROW)
    (full,) = of_dtype(result, "float32", way="jit", products="highest")
    # Factors are rounded to bfloat16, whose eps is 2^16 times that of float32. The errors of some
    # tens of factors are averaged, so that much less than a hundredth of that would be a chance.
    assert median(narrow) > 2**16 / 100
    assert median(narrow) > 100 * median(full)
    assert narrow.changed == 1.0


def test_the_precision_of_products_and_the_way_to_compile_are_all_there(result):
    products = [each.products for each in of_dtype(result, "float32", way="jit")]
    assert products == [*precision.PRECISIONS, precision.NARROW]
    ways = [each.way for each in of_dtype(result, "float64")]
    assert ways == ["jit", "eager", "jit of vmap", "weights in the program"]
    assert all(of_dtype(result, dtype)[0].changed == 0 for dtype in precision.DTYPES)


def test_second_derivatives_lose_digits_by_each_difference_and_none_by_rules(result):
    exponents = {each.method: each.exponent for each in result.second}
    errors = {each.method: each.error / each.eps for each in result.second}
    # The sizes of the derivatives change the error by a factor that is not a power of eps; over
    # the 45 octaves between the dtypes a factor of 2^4 is a tenth in the exponent.
    for each in result.second:
        assert each.exponent == pytest.approx(each.power, abs=0.1), each.method
    assert exponents["differences of differences"] < exponents["central difference of reverse mode"]
    # A handful of roundings, in a network of two layers.
    assert np.all(errors["forward over reverse"] <= 8)


def test_the_exact_second_derivatives_are_those_of_a_network_by_hand():
    problem = precision._second_problem(precision.Config(hidden=1))
    high, low = problem.exact
    np.testing.assert_array_equal(high, high.T)
    assert np.all(np.abs(low) <= np.spacing(np.abs(high)) / 2)
    # With one hidden unit the loss is |y - v tanh(w . x)|^2 / 2, so that by v twice it is tanh^2.
    rng = np.random.default_rng(1)
    drawn = rng.normal(size=5 + 3 + 2).astype(jnp.bfloat16).astype(np.float64)
    w, x = drawn[:3], drawn[5:8]
    with mpmath.workdps(30):
        square = mpmath.tanh(mpmath.fdot(w.tolist(), x.tolist())) ** 2
    assert high[3, 3] == high[4, 4] == float(square)
    assert high[3, 4] == 0


def test_methods_that_are_not_in_the_quick_run_find_the_same():
    names = ("forward over forward", "complex step of reverse mode", "symbolic of symbolic")
    problem = precision._second_problem(precision.Config(hidden=1))
    for name in names:
        found = precision._second(name, problem)
        assert np.all(found.error <= 8 * found.eps), name


def test_figure_and_summary_are_made_of_what_a_file_holds(result):
    text = json.dumps(_codec.encode(result), allow_nan=False)
    read = _codec.decode(json.loads(text), _codec.record_types(vars(precision).values()))
    with style.context():
        drawing = precision.plot(read)
    labels = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert labels == [each.method for each in result.second]
    rows = precision.summary(read)
    assert len(rows) == len(result.noise) + 4 * len(result.second)
    assert len({tuple(row) for row in rows}) == 1
    texts = " ".join(precision.sentences(read))
    for each in result.second:
        assert f"{each.exponent:.2f} ({each.method})" in texts


@pytest.mark.parametrize("options", [{"inputs": 0}, {"examples": 0}, {"hidden": -1}])
def test_bad_config_is_refused(options):
    with pytest.raises(ValueError, match="inputs, examples and hidden must be positive"):
        precision.Config(**options)


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="methods must be of differences of differences"):
        precision.Config(methods=("guessing",))
