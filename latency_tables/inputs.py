"""What a network or an operator is fed with: name, shape of one sample and element type of each input."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

SIZE: Final = -1
"""Stands in the shape of a space's input for the size that is chosen: pixels, samples of sound, tokens."""
DTYPE_BYTES: Final = {"float32": 4, "float16": 2, "uint8": 1, "int32": 4, "int64": 8}


@dataclass(frozen=True)
class InputSpec:
    """One input. shape: of one sample, without the batch. dtype: of its elements, as numpy names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"input {self.name}: the element type must be one of {', '.join(DTYPE_BYTES)}")
        if any(type(n) is not int or (n < 1 and n != SIZE) for n in self.shape):
            raise ValueError(
                f"input {self.name}: a shape is whole numbers from 1, or SIZE for the size that is chosen"
            )

    def at(self, size: int) -> InputSpec:
        """The input where the chosen size is `size`."""
        return replace(self, shape=tuple(size if n == SIZE else n for n in self.shape))

    def batched(self, samples: int) -> tuple[int, ...]:
        """Shape of a batch."""
        return (samples, *self.shape)

    @property
    def size_bytes(self) -> int:
        """Of one sample."""
        return DTYPE_BYTES[self.dtype] * math.prod(self.shape)
