"""What a network or an operator is fed with: name, shape and element type of each input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

SIZE: Final = -1
"""Stands in the shape of a space's input for the size that is chosen: pixels, samples of sound, tokens."""
DTYPE_BYTES: Final = {"float32": 4, "float16": 2, "uint8": 1, "int32": 4, "int64": 8}


@dataclass(frozen=True)
class InputSpec:
    """One input. shape: of one sample, without the batch, where nothing else is said. dtype: of its elements,
    as numpy names it. below: whole numbers of the input are 0 to below - 1, such as tokens of a vocabulary.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    below: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"input {self.name}: the element type must be one of {', '.join(DTYPE_BYTES)}")
        if any(type(n) is not int or (n < 1 and n != SIZE) for n in self.shape):
            raise ValueError(
                f"input {self.name}: a shape is whole numbers from 1, or SIZE for the size that is chosen"
            )
        if self.below is not None and (type(self.below) is not int or self.below < 1):
            raise ValueError(f"input {self.name}: `below` is how many values there are, from 1 on")

    def at(self, size: int) -> InputSpec:
        """The input where the chosen size is `size`."""
        return replace(self, shape=tuple(size if n == SIZE else n for n in self.shape))

    def of_batch(self, samples: int) -> InputSpec:
        """The same with the batch in its shape."""
        return replace(self, shape=(samples, *self.shape))

    @property
    def size_bytes(self) -> int:
        """Of all its elements."""
        return DTYPE_BYTES[self.dtype] * math.prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        plain = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}
        return plain if self.below is None else {**plain, "below": self.below}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InputSpec:
        """Read `to_json`'s form. Raises ValueError, TypeError or KeyError for anything else."""
        return cls(str(data["name"]), tuple(data["shape"]), data["dtype"], data.get("below"))
