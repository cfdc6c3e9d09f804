"""`head`: global average pool, a feature layer of mid_channels where that is not 0, a linear layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.named import Value
from latency_tables.operators.image import ImageOperator, whole
from latency_tables.operators.operator import Block, Operator


@dataclass(frozen=True)
class Head(ImageOperator):
    """setting feature_channels: of the feature layer, 0 for none."""

    family: ClassVar[str] = "head"
    settings: ClassVar[Mapping[str, Value]] = {"activation": "relu", "feature_channels": 0}
    excludable: ClassVar[tuple[str, ...]] = ("kernel",)
    closes: ClassVar[bool] = True

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        return (
            cls.from_block(block, mid_channels=whole(block.settings, "feature_channels"), residual=False),
        )

    @property
    def out_height(self) -> int:
        return 1

    @property
    def out_width(self) -> int:
        return 1

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.out_channels,)

    @property
    def macs(self) -> int:
        return (
            self.mid_channels or self.in_channels
        ) * self.out_channels + self.mid_channels * self.in_channels

    @property
    def parameters(self) -> int:
        return self.macs + self.biases  # the feature layer has neither bias nor batch-norm (MobileNetV3)

    @property
    def kept_values(self) -> int:
        return self.in_channels + self.kept_of_unit * self.mid_channels

    @property
    def biases(self) -> int:
        return self.out_channels
