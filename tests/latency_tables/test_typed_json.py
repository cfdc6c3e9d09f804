"""The one codec: what is declared comes back as it was, anything else is refused with its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_tables.errors import InvalidForm
from latency_tables.typed_json import PLAIN, Codec, Form


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass(frozen=True)
class Inner:
    name: str
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Everything:
    number: float
    count: int
    text: str | None
    colour: Colour
    point: Point
    inner: Inner | None
    pairs: tuple[tuple[int, str], ...]
    by_name: Mapping[str, Inner]
    kind: Literal["a", "b"] = "a"
    mixed: bool | int | float | str = 1
    free: dict[str, Any] = field(default_factory=dict)


finite = st.floats(allow_nan=False)
inners = st.builds(Inner, st.text(), st.lists(finite).map(tuple))
everything = st.builds(
    Everything,
    finite,
    st.integers(),
    st.none() | st.text(),
    st.sampled_from(Colour),
    st.builds(Point, st.integers(), st.integers()),
    st.none() | inners,
    st.lists(st.tuples(st.integers(), st.text())).map(tuple),
    st.dictionaries(st.text(), inners),
    st.sampled_from(["a", "b"]),
    st.booleans() | st.integers() | st.text(),
)


def travelled(value: Any, kind: Any = None) -> Any:
    return PLAIN.read(kind or type(value), json.loads(json.dumps(PLAIN.write(value, kind), allow_nan=False)))


@given(everything)
def test_what_was_written_is_read_back_with_its_types(value: Everything) -> None:
    found = travelled(value)
    assert found == value and type(found.point) is Point and type(found.colour) is Colour
    assert type(found.mixed) is type(value.mixed)


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_arrays_keep_every_bit_and_their_shape(dtype: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(dtype)
    kind = npt.NDArray[np.int64] if dtype == "int64" else npt.NDArray[np.float64]
    if dtype == "float64":
        values = values / 7
        values[0, 0] = -np.inf
    found = travelled(values.T, kind)
    assert found.dtype == values.dtype and np.array_equal(found, values.T) and found.flags.writeable
    with pytest.raises(InvalidForm, match="array of"):
        PLAIN.write(values.astype("float32"), kind)
    for wrong in (None, {"shape": [2]}, {"shape": [5], "data": "AAAA"}, {"shape": [1], "data": "?"}):
        with pytest.raises(InvalidForm, match="array of"):
            PLAIN.read(kind, wrong)


WHOLE = PLAIN.write(Everything(1.0, 2, None, Colour.RED, Point(1), Inner("i", (1.0,)), (), {}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"number": "1"}, "number: wanted float"),
        ({"number": None}, "number: wanted float"),
        ({"count": 1.0}, "count: wanted int"),
        ({"count": True}, "count: wanted int"),
        ({"text": 3}, "text: wanted str or null"),
        ({"colour": "green"}, "colour: wanted one of red, blue"),
        ({"kind": "c"}, "kind: wanted one of a, b"),
        ({"point": {"x": 1, "z": 2}}, "point: wanted Point, which has no z"),
        ({"point": [1, 2]}, "point: wanted the fields of Point"),
        ({"inner": {"name": "n", "weights": [1, "x"]}}, r"inner.weights\[1\]: wanted float"),
        ({"inner": {}}, "inner: wanted name of Inner"),
        ({"pairs": [[1]]}, r"pairs\[0\]: wanted 2 values"),
        ({"pairs": "no"}, "pairs: wanted a list"),
        ({"by_name": []}, "by_name: wanted an object"),
        ({"mixed": None}, "mixed: wanted bool or int or float or str"),
        ({"later": 1}, "Everything, which has no later"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_anything_else_is_refused_with_its_place(change: dict[str, Any], told: str) -> None:
    assert PLAIN.read(Everything, WHOLE).count == 2
    with pytest.raises(InvalidForm, match=told):
        PLAIN.read(Everything, {**WHOLE, **change})


def test_a_field_with_a_default_may_be_left_out_and_others_may_not() -> None:
    assert PLAIN.read(Inner, {"name": "n"}) == Inner("n")
    with pytest.raises(InvalidForm, match="wanted name of Inner"):
        PLAIN.read(Inner, {"weights": []})


def test_values_of_other_types_are_not_written_either() -> None:
    for wrong in (Inner(1), Inner("n", (float("nan"),)), Inner("n", ("x",))):  # type: ignore[arg-type]
        with pytest.raises(InvalidForm):
            PLAIN.write(wrong)
    assert PLAIN.write(Inner("n", (np.float64(2.5),))) == {"name": "n", "weights": [2.5]}, (
        "numpy's is a plain one"
    )


def test_a_type_of_its_own_form_is_written_by_it_and_one_without_any_is_a_mistake() -> None:
    @dataclass(frozen=True)
    class Held:
        at: complex

    codec = Codec({complex: Form(lambda z: [z.real, z.imag], lambda pair: complex(*pair))})
    Held.__annotations__["at"] = complex  # a class of a function cannot be looked up by its text
    assert codec.read(Held, codec.write(Held(1 + 2j))) == Held(1 + 2j)
    with pytest.raises(TypeError, match="no form"):
        PLAIN.write(Held(1 + 2j))
