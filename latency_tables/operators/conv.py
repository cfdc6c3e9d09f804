"""`conv`: a convolution with batch-norm folded and an activation; with a residual connection, added after the
activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.errors import InvalidOperator
from latency_tables.named import Value
from latency_tables.operators.image import ImageOperator
from latency_tables.operators.maxpool import MaxPool
from latency_tables.operators.operator import Block, Operator


@dataclass(frozen=True)
class Conv(ImageOperator):
    """setting pooled: a 3x3 max-pool of stride 2 follows the last block of the stage."""

    family: ClassVar[str] = "conv"
    settings: ClassVar[Mapping[str, Value]] = {**ImageOperator.settings, "pooled": False}

    def check(self) -> None:
        super().check()
        if self.mid_channels != 0:
            raise InvalidOperator("conv has no mid channels; write mid=0")

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        own = cls.from_block(block)
        if not (block.settings["pooled"] and block.last):
            return (own,)
        return (own, MaxPool.after(own))

    @property
    def weights(self) -> int:
        """Of the kernel."""
        return self.kernel * self.kernel * self.in_channels // self.groups * self.out_channels

    @property
    def macs(self) -> int:
        return self.weights * self.pixels_out

    @property
    def parameters(self) -> int:
        return self.weights + self.biases

    @property
    def biases(self) -> int:
        return self.out_channels

    @property
    def kept_values(self) -> int:
        made = self.pixels_out * self.out_channels
        return self.pixels_in * self.in_channels + (self.kept_of_unit - (self.activation != "none")) * made
