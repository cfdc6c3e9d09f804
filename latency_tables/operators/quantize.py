"""`quantize`: a tensor of float32 becomes 8 bit, with one scale and zero point for all of it.

It stands where a block in float32 is followed by one in INT8; `dequantize` stands where it is the other way
round. What they take is part of a network's latency, so they are rows of the table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from latency_tables.errors import InvalidOperator
from latency_tables.inputs import InputSpec
from latency_tables.operators.operator import FLOAT, MAX_SIZE, STORED, Block, Operator

_LONGEST: Final = 16
_SHAPE: Final = re.compile(r"[1-9]\d*(?:x[1-9]\d*)*", re.ASCII)


@dataclass(frozen=True)
class Quantize(Operator):
    """shape: of one sample, its sizes joined by `x`: CxHxW of a picture."""

    family: ClassVar[str] = "quantize"
    form: ClassVar[str] = "in={shape}"
    precisions: ClassVar[tuple[str, ...]] = (FLOAT,)
    reads: ClassVar[str] = STORED[FLOAT]
    writes: ClassVar[str] = STORED["int8"]

    shape: str

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = len(self.shape) <= _LONGEST and _SHAPE.fullmatch(self.shape)
        if not fits or any(size > MAX_SIZE for size in self.output_shape):
            raise InvalidOperator(
                f"a shape is whole numbers from 1 to {MAX_SIZE} joined by x, such as 16x24x24, "
                f"in at most {_LONGEST} characters"
            )

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Self:
        """The operator on tensors of that shape, one sample."""
        return cls("x".join(str(size) for size in shape))

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        return (cls.of(block.shape),)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", self.output_shape, self.reads),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return tuple(int(size) for size in self.shape.split("x"))

    @property
    def macs(self) -> int:
        return 0

    @property
    def parameters(self) -> int:
        return 0

    @property
    def light_operations(self) -> int:
        return math.prod(self.output_shape)

    def peak_bytes(self, bytes_per_value: int) -> int:
        return (bytes_per_value + 1) * math.prod(self.output_shape)  # one side is 8 bit

    @property
    def stored(self) -> str:
        return self.writes

    @property
    def alike(self) -> Mapping[str, Hashable]:
        return {"family": self.family, "size": self.output_shape}
