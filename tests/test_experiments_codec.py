"""What an experiment computed comes back from its file unchanged, to the last bit."""

import dataclasses
import json
import math
from typing import Any, NamedTuple

import hypothesis.extra.numpy as hnp
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import _codec


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0


TYPES = _codec.record_types([Pair, Point])


def round_trip(value):
    def refuse(constant):
        raise AssertionError(f"{constant} is not standard JSON")

    data = _codec.dumps({"result": _codec.encode(value)})
    return _codec.decode(json.loads(data, parse_constant=refuse)["result"], TYPES)


def same(a, b) -> bool:
    """Whether `b` has the types and bits of `a` all the way down, in native byte order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (np.ndarray, np.generic)):
        native = a.dtype.newbyteorder("=")
        return (native, a.shape) == (b.dtype, b.shape) and a.astype(native).tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return same(dataclasses.astuple(a), dataclasses.astuple(b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    if isinstance(a, complex):
        return same([a.real, a.imag], [b.real, b.imag])
    return a == b


dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    hnp.unicode_string_dtypes(endianness="?"),
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    arrays,
    arrays.filter(lambda array: array.shape == ()).map(lambda array: array[()]),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text() | st.integers() | st.just("$"), inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Point, inner, inner),
    ),
    max_leaves=8,
)


@settings(database=None, deadline=None)
@given(values)
def test_a_result_comes_back_to_the_last_bit(value):
    assert same(value, round_trip(value))


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float16", "float32", "int4"])
def test_an_array_comes_back_in_its_dtype_short_or_long(name, size):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    array = np.linspace(-7, 7, size).astype(dtype)
    assert same(array, round_trip(array))


def test_a_nan_keeps_its_payload():
    array = np.array([0x7FF80000DEADBEEF, 0xFFF8000000000000], np.uint64).view(np.float64)
    assert same(array, round_trip(array))


def test_a_jax_array_comes_back_as_a_numpy_array():
    array = jnp.arange(3, dtype=jnp.bfloat16)
    assert same(np.asarray(array), round_trip({"a": array})["a"])


def test_a_short_array_can_be_read_and_a_long_one_is_compact():
    assert _codec.encode(np.array([0.5, np.inf]))["values"] == [
        0.5,
        {"$": "float", "value": "inf"},
    ]
    long = np.random.default_rng(0).normal(size=10_000)
    # base64 takes 4 bytes for 3; the rest is the dtype and the shape.
    assert len(json.dumps(_codec.encode(long))) < 4 / 3 * long.nbytes + 200


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"a": [1, {2, 3}]},
            r"result\['a'\]\[1\] is a set, which is not written to JSON\. Make it",
        ),
        (Pair(object(), 1), r"result\.first is a object"),
        (np.array([None]), r"result is an array of object.*Convert it to numbers"),
        (np.zeros(1, "datetime64[s]"), r"result is an array of datetime64"),
    ],
)
def test_what_cannot_be_written_is_named_with_its_place(value, message):
    with pytest.raises(TypeError, match=message):
        _codec.encode(value)


def test_a_record_that_the_module_does_not_name_is_an_error():
    tree = _codec.encode(Pair(1, 2))
    with pytest.raises(ValueError, match=r"holds a Pair, .*: none\. Define or import it"):
        _codec.decode(tree, {})


def test_a_record_whose_fields_changed_is_an_error():
    tree = _codec.encode(Pair(1, 2))
    with pytest.raises(ValueError, match=r"fields first, second, but it has x, y now\. Run"):
        _codec.decode(tree, {"Pair": Point})
