"""Results as standard JSON and back, without losing a bit.

What JSON has keeps its form. Everything else is an object with the key `$`, which names what
it is: an array, a tuple, a record (a NamedTuple or dataclass), a number that is not finite.
"""

import base64
import dataclasses
import json
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import ml_dtypes
import numpy as np

Json = Any

_TAG = "$"
# Entries. Up to here an array is written as numbers one can read; a longer one as compressed bytes.
_READABLE = 256
_KINDS = "biufcU"


def dumps(tree: Json) -> bytes:
    """Returns the file that holds `tree`, an object, with one line for each of its keys."""
    lines = (f"{json.dumps(key)}: {_compact(value)}" for key, value in tree.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def _compact(value: Json) -> str:
    # Standard JSON has no NaN: encode has to have replaced it.
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def is_record(kind: type) -> bool:
    """Whether `kind` is a NamedTuple or a dataclass."""
    return dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def encode(value: Any, where: str = "result") -> Json:
    """Returns `value` as what `json.dumps` writes as standard JSON.

    Args:
        value: None, a bool, number, string, NumPy or JAX array or scalar, or a list, tuple, dict,
            NamedTuple or dataclass of these. Arrays come back as NumPy arrays of native byte order.
        where: What to call `value` in an error.

    Raises:
        TypeError: Something in `value` is none of these.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {_TAG: "float", "value": str(value)}
    if kind is complex:
        parts = [encode(value.real), encode(value.imag)]
        return {_TAG: "complex", "value": parts}
    if kind is list:
        return [encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is tuple:
        return {_TAG: "tuple", "items": encode(list(value), where)}
    if kind is dict:
        return _encode_dict(value, where)
    if is_record(kind):
        fields = {name: encode(getattr(value, name), f"{where}.{name}") for name in _fields(kind)}
        return {_TAG: "record", "type": kind.__name__, "fields": fields}
    if isinstance(value, np.generic):
        return {**_encode_array(np.asarray(value), where), _TAG: "scalar"}
    if hasattr(value, "__array__"):
        return _encode_array(np.asarray(value), where)
    raise TypeError(
        f"{where} is a {kind.__name__}, which is not written to JSON. Make it a number, string, "
        f"array, list, tuple, dict, NamedTuple or dataclass."
    )


def decode(tree: Json, types: Mapping[str, type]) -> Any:
    """Returns the value that `encode` was given.

    Args:
        tree: What `encode` returned, or `json.loads` of it.
        types: The records that it may hold, by name.

    Raises:
        ValueError: It holds a record that is not in `types`, or whose fields are others today.
    """
    if isinstance(tree, list):
        return [decode(item, types) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tag = tree.get(_TAG)
    if tag is None:
        return {key: decode(value, types) for key, value in tree.items()}
    if tag == "float":
        return float(tree["value"])
    if tag == "complex":
        return complex(*decode(tree["value"], types))
    if tag == "tuple":
        return tuple(decode(tree["items"], types))
    if tag == "dict":
        return {decode(key, types): decode(value, types) for key, value in tree["items"]}
    if tag == "record":
        return _decode_record(tree, types)
    if tag == "array":
        return _decode_array(tree)
    if tag == "scalar":
        return _decode_array(tree)[()]
    raise ValueError(f"The file holds a {tag!r}, which this version does not know. Run it again.")


def record_types(values: Iterable[Any]) -> dict[str, type]:
    """Returns the NamedTuples and dataclasses among `values`, by name."""
    return {v.__name__: v for v in values if isinstance(v, type) and is_record(v)}


def _fields(kind: Any) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind) if field.init)
    return kind._fields


def _encode_dict(value: dict, where: str) -> Json:
    if all(type(key) is str for key in value) and _TAG not in value:
        return {key: encode(item, f"{where}[{key!r}]") for key, item in value.items()}
    items = [
        [encode(key, f"a key of {where}"), encode(item, f"{where}[{key!r}]")]
        for key, item in value.items()
    ]
    return {_TAG: "dict", "items": items}


def _decode_record(tree: Json, types: Mapping[str, type]) -> Any:
    name, fields = tree["type"], tree["fields"]
    if name not in types:
        raise ValueError(
            f"The result holds a {name}, which is not among the NamedTuples and dataclasses that "
            f"its module names: {', '.join(sorted(types)) or 'none'}. Define or import it there."
        )
    kind = types[name]
    if set(fields) != set(_fields(kind)):
        raise ValueError(
            f"{name} was saved with the fields {', '.join(fields)}, but it has "
            f"{', '.join(_fields(kind))} now. Run the experiment again."
        )
    return kind(**{key: decode(value, types) for key, value in fields.items()})


def _encode_array(array: np.ndarray, where: str) -> dict[str, Json]:
    dtype = array.dtype
    extended = dtype.type.__module__ == ml_dtypes.bfloat16.__module__
    # A long double means something else on the next machine.
    if not extended and (dtype.kind not in _KINDS or dtype.type in (np.longdouble, np.clongdouble)):
        raise TypeError(
            f"{where} is an array of {dtype}, which is not written to JSON. Convert it to numbers "
            f"of at most 64 bits, bools or strings."
        )
    head = {
        _TAG: "array",
        "dtype": dtype.newbyteorder("<").str if dtype.kind == "U" else dtype.name,
        "shape": list(array.shape),
    }
    if dtype.kind == "U":
        return {**head, "values": array.ravel().tolist()}
    if array.size <= _READABLE:
        readable = {**head, "values": _numbers(array)}
        # A NaN may carry a payload, which a number cannot show.
        if _decode_array(readable).tobytes() == _little_endian(array).tobytes():
            return readable
    packed = base64.b64encode(zlib.compress(_little_endian(array).tobytes(), 9))
    return {**head, "zlib+base64": packed.decode("ascii")}


def _numbers(array: np.ndarray) -> Json:
    if array.dtype.kind == "c":
        flat = np.stack([array.real, array.imag], axis=-1).ravel()
        return [encode(number) for number in flat.astype(np.float64).tolist()]
    if array.dtype.kind in "biu":
        return array.ravel().tolist()
    return [encode(number) for number in array.astype(np.float64).ravel().tolist()]


def _little_endian(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _decode_array(tree: Json) -> np.ndarray:
    name = tree["dtype"]
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    shape = tuple(tree["shape"])
    if "values" not in tree:
        data = zlib.decompress(base64.b64decode(tree["zlib+base64"]))
        little = np.frombuffer(data, dtype.newbyteorder("<"))
        return little.astype(dtype).reshape(shape)
    values = tree["values"]
    if dtype.kind in "biuU":
        return np.array(values, dtype).reshape(shape)
    numbers = np.array([decode(value, {}) for value in values], np.float64)
    if dtype.kind == "c":
        numbers = numbers.view(np.complex128)
    return numbers.astype(dtype).reshape(shape)
