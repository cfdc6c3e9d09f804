"""`maxpool`: a maximum over a window; it has no weights and follows a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from latency_tables.errors import InvalidOperator
from latency_tables.operators.image import ImageOperator
from latency_tables.operators.operator import Block, Operator


@dataclass(frozen=True)
class MaxPool(ImageOperator):
    family: ClassVar[str] = "maxpool"

    def check(self) -> None:
        super().check()
        if self.mid_channels != 0:
            raise InvalidOperator("maxpool has no mid channels; write mid=0")

    @classmethod
    def after(cls, op: ImageOperator) -> Self:
        """ResNet's: 3x3 with stride 2 over the output of an operator."""
        size = op.output_shape
        return cls(size[1], size[2], size[0], size[0], 3, 2, 0, False, False, "none", 1)

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        return (cls.from_block(block, residual=False),)

    @property
    def macs(self) -> int:
        return 0

    @property
    def parameters(self) -> int:
        return 0

    @property
    def light_operations(self) -> int:
        return self.pixels_out * self.out_channels * self.kernel**2
