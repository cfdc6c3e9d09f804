"""`bottleneck`: ResNet-D's block: 1x1, kxk with the stride, 1x1, and a pooled 1x1 shortcut where the shape
changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latency_tables.errors import InvalidOperator
from latency_tables.operators.image import ImageOperator, kept_channels, make_divisible
from latency_tables.operators.operator import Block, Operator


@dataclass(frozen=True)
class Bottleneck(ImageOperator):
    family: ClassVar[str] = "bottleneck"
    excludable: ClassVar[tuple[str, ...]] = (*ImageOperator.excludable, "expand")
    prunes: ClassVar[bool] = True

    def check(self) -> None:
        # No check of the residual connection: the shortcut changes the shape.
        if self.mid_channels == 0:
            raise InvalidOperator(
                "bottleneck needs mid channels: the number of channels, not the expand ratio"
            )

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        """expand: mid over output channels, rounded to multiples of 8."""
        mid = make_divisible(round(block.width * float(block.values["expand"])), 8)
        mid = kept_channels(block.values, mid)
        return (cls.from_block(block, mid_channels=mid, residual=bool(block.settings["residual"])),)

    @property
    def prunable_channels(self) -> int:
        return self.mid_channels

    @property
    def weights(self) -> tuple[int, int, int, int]:
        """Of the three convolutions and of the shortcut's (0 without one)."""
        shortcut = 0 if self.keeps_shape else self.in_channels * self.out_channels
        middle = self.kernel * self.kernel * self.mid_channels // self.groups * self.mid_channels
        return self.in_channels * self.mid_channels, middle, self.mid_channels * self.out_channels, shortcut

    @property
    def macs(self) -> int:
        first, middle, last, shortcut = self.weights
        return self.pixels_in * first + self.pixels_out * (middle + last + shortcut)

    @property
    def parameters(self) -> int:
        return sum(self.weights) + self.biases

    @property
    def biases(self) -> int:
        return 2 * self.mid_channels + self.out_channels * (1 if self.keeps_shape else 2)

    @property
    def kept_values(self) -> int:
        given, made = self.pixels_in * self.in_channels, self.pixels_out * self.out_channels
        wide, narrow = self.pixels_in * self.mid_channels, self.pixels_out * self.mid_channels
        shortcut = 0 if self.keeps_shape else made + (0 if self.pixels_in == self.pixels_out else given // 4)
        last = made * (1 + (self.activation in ("hswish", "relu6")))
        return given + self.kept_of_unit * (wide + narrow) + last + shortcut

    @property
    def peak_values(self) -> int:
        given, made = self.pixels_in * self.in_channels, self.pixels_out * self.out_channels
        wide, narrow = self.pixels_in * self.mid_channels, self.pixels_out * self.mid_channels
        return max(given + wide, given + wide + narrow, given + narrow + made)
