"""Values of declared types as JSON and back: the one codec of what passes between processes or is stored.

Both ways follow the declared type, so what comes out has the types that the program says it has. Dataclasses
and named tuples become objects of their fields, arrays the base64 of their bytes, infinities the texts "inf"
and "-inf", for which JSON has no number. Reading is strict: no unknown field, none missing that has no
default, no text where a number should be.
"""

from __future__ import annotations

import base64
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import (
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from latency_tables.errors import InvalidForm

Value = TypeVar("Value")
_INFINITE: Final = {"inf": math.inf, "-inf": -math.inf}
_SCALARS: Final = (bool, int, float, str, types.NoneType)
_LISTS: Final = (tuple, list, Sequence)
_OBJECTS: Final = (dict, Mapping)


@dataclass(frozen=True)
class Form:
    """How a type is written that its fields do not describe. `read` raises what is wrong."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


@dataclass(frozen=True)
class Codec:
    """forms: by type, for those not written by their fields; an entry for `Callable` is for all functions."""

    forms: Mapping[Any, Form] = field(default_factory=dict)

    def write(self, value: object, kind: Any = None) -> Any:
        """The JSON of a value of that kind (left out: its own type). Raises InvalidForm for any other."""
        return self._write(type(value) if kind is None else kind, value, "")

    def read(self, kind: type[Value], data: Any) -> Value:
        """The value that was written. Raises InvalidForm with the place, and what the value objects to."""
        return cast(Value, self._read(kind, data, ""))

    def _write(self, kind: Any, value: Any, place: str) -> Any:
        origin = get_origin(kind) or kind
        if (form := self.forms.get(origin)) is not None:
            return form.write(value)
        if _is_union(origin):
            return self._write(_member(get_args(kind), value, place), value, place)
        if origin is np.ndarray:
            return _packed(value, _dtype(kind), place)
        if origin in _LISTS or origin in _OBJECTS:
            return self._write_many(kind, origin, value, place)
        if _is_record(origin):
            _wanted(isinstance(value, origin), origin.__name__, place)
            parts = _record(origin)
            return {name: self._write(of, getattr(value, name), _in(place, name)) for name, of, _ in parts}
        return _written_scalar(kind, value, place)

    def _write_many(self, kind: Any, origin: Any, value: Any, place: str) -> Any:
        if origin in _LISTS:
            pairs = zip(_parts(kind, origin, value, place), value, strict=True)
            return [self._write(part, one, f"{place}[{i}]") for i, (part, one) in enumerate(pairs)]
        _wanted(isinstance(value, Mapping), "an object", place)
        key, item = get_args(kind)
        return {
            self._write(key, k, place): self._write(item, v, _in(place, str(k))) for k, v in value.items()
        }

    def _read(self, kind: Any, data: Any, place: str) -> Any:
        origin = get_origin(kind) or kind
        if (form := self.forms.get(origin)) is not None:
            return form.read(data)
        if _is_union(origin):
            return self._read(_member(get_args(kind), data, place), data, place)
        if origin is np.ndarray:
            return _unpacked(data, _dtype(kind), place)
        if origin in _LISTS or origin in _OBJECTS:
            return self._read_many(kind, origin, data, place)
        if _is_record(origin):
            return self._read_record(origin, data, place)
        return _read_scalar(kind, data, place)

    def _read_many(self, kind: Any, origin: Any, data: Any, place: str) -> Any:
        if origin in _LISTS:
            _wanted(isinstance(data, list), "a list", place)
            pairs = zip(_parts(kind, origin, data, place), data, strict=True)
            found = [self._read(part, one, f"{place}[{i}]") for i, (part, one) in enumerate(pairs)]
            return found if origin is list else tuple(found)
        _wanted(isinstance(data, dict), "an object", place)
        key, item = get_args(kind)
        return {self._read(key, k, place): self._read(item, v, _in(place, k)) for k, v in data.items()}

    def _read_record(self, kind: Any, data: Any, place: str) -> Any:
        _wanted(isinstance(data, dict), f"the fields of {kind.__name__}", place)
        parts = _record(kind)
        unknown = sorted(set(data) - {name for name, _, _ in parts})
        # A later version's field is refused too: to leave it out would do something else than was asked.
        _wanted(not unknown, f"{kind.__name__}, which has no {', '.join(unknown)[:200]}", place)
        missing = [name for name, _, needed in parts if needed and name not in data]
        _wanted(not missing, f"{', '.join(missing)} of {kind.__name__}", place)
        given = [(name, of) for name, of, _ in parts if name in data]
        return kind(**{name: self._read(of, data[name], _in(place, name)) for name, of in given})


PLAIN: Final = Codec()


def _is_union(origin: Any) -> bool:
    return origin is Union or origin is types.UnionType


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "_fields"))


@lru_cache(maxsize=256)
def _record(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """(name, declared type, whether it must be given) of every field."""
    hints = get_type_hints(kind)
    if not is_dataclass(kind):
        return tuple((name, hints[name], name not in kind._field_defaults) for name in kind._fields)

    def needed(one: Field[Any]) -> bool:
        return one.default is MISSING and one.default_factory is MISSING

    return tuple((one.name, hints[one.name], needed(one)) for one in fields(kind) if one.init)


def _member(kinds: Sequence[Any], value: Any, place: str) -> Any:
    """Which kind of a union a value is of: a scalar by its own type, else the one kind that is no scalar."""
    scalars = [kind for kind in kinds if kind in _SCALARS]
    if type(value) in scalars:
        return type(value)
    others = [kind for kind in kinds if kind not in _SCALARS]
    # Two of these could not be told apart by what they look like as JSON: a mistake of the declaration.
    if len(others) > 1:
        raise TypeError(f"{kinds} cannot be told apart in JSON")
    if others and not isinstance(value, (int, float, str)):
        return others[0]
    if float in scalars and (isinstance(value, (int, float)) or value in _INFINITE):
        return float
    _wanted(bool(others), " or ".join(_named(kind) for kind in kinds), place)
    return others[0]


def _parts(kind: Any, origin: Any, values: Any, place: str) -> list[Any]:
    """The declared type of each element."""
    arguments = get_args(kind)
    if origin is not tuple or (len(arguments) == 2 and arguments[1] is Ellipsis):
        return [arguments[0]] * len(values)
    _wanted(len(values) == len(arguments), f"{len(arguments)} values", place)
    return list(arguments)


def _written_scalar(kind: Any, value: Any, place: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum) and kind in (type(value), str):
        return value.value
    if kind is float and isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return _scalar(kind, value, place)


def _read_scalar(kind: Any, data: Any, place: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Enum):
        values = [one.value for one in kind]
        _wanted(data in values, f"one of {', '.join(map(str, values))}", place)
        return kind(data)
    if kind is float and isinstance(data, str) and data in _INFINITE:
        return _INFINITE[data]
    return _scalar(kind, data, place)


def _scalar(kind: Any, value: Any, place: str) -> Any:
    if kind is Any or kind is object:
        return value  # plain JSON already: whoever reads it says what it must be
    if get_origin(kind) is Literal:
        _wanted(value in get_args(kind), f"one of {', '.join(map(str, get_args(kind)))}", place)
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind not in _SCALARS:
        raise TypeError(f"{place or 'value'}: no form of {kind!r} is known")
    # `type` and not isinstance: True would pass for 1.
    _wanted(type(value) is kind and not (kind is float and math.isnan(value)), _named(kind), place)
    return value


def _dtype(kind: Any) -> np.dtype[Any]:
    """Element type of a declared array, little-endian: JSON travels between machines."""
    found: np.dtype[Any] = np.dtype(get_args(get_args(kind)[1])[0]).newbyteorder("<")
    return found


def _packed(value: Any, dtype: np.dtype[Any], place: str) -> Any:
    _wanted(isinstance(value, np.ndarray) and value.dtype == dtype, f"an array of {dtype.name}", place)
    raw = np.ascontiguousarray(value, dtype).tobytes()
    return {"shape": list(value.shape), "data": base64.b64encode(raw).decode()}


def _unpacked(data: Any, dtype: np.dtype[Any], place: str) -> Any:
    try:
        raw = base64.b64decode(data["data"], validate=True)
        return np.frombuffer(raw, dtype).reshape(data["shape"]).astype(dtype.newbyteorder("="))
    except (TypeError, KeyError, ValueError) as error:
        raise InvalidForm(
            f"{place or 'value'}: wanted an array of {dtype.name}, its shape and data"
        ) from error


def _in(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _named(kind: Any) -> str:
    return "null" if kind is types.NoneType else str(getattr(kind, "__name__", kind))


def _wanted(holds: bool, what: str, place: str) -> None:
    if not holds:
        raise InvalidForm(f"{place or 'value'}: wanted {what}")
