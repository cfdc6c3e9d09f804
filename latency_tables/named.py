"""Named values that never change: what a block may be, how a stage is set, which state a stage leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Value = bool | int | float | str


class Named(Mapping[str, Value]):
    """An immutable, hashable mapping of names to plain values; equal whatever order the names were given in.

    A float that is whole becomes an int: 3.0 and 3 are one choice, so they get one digest.
    """

    __slots__ = ("_hash", "_key", "_values")

    def __init__(self, values: Mapping[str, Value] | None = None, /, **named: Value) -> None:
        given = {**(values or {}), **named}
        self._values = {
            name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in given.items()
        }
        self._key = tuple(sorted(self._values.items()))
        self._hash = hash(self._key)

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self._key == other._key if isinstance(other, Named) else NotImplemented

    def __lt__(self, other: Named) -> bool:
        return self._key < other._key

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._values,)

    def as_dict(self) -> dict[str, Value]:
        """Plain values, in the order the names were given in."""
        return dict(self._values)
