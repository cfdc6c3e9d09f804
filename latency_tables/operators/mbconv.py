"""`mbconv`: the inverted bottleneck of MobileNetV2 and V3: 1x1 expansion, depthwise kxk, squeeze-excite, 1x1
projection.

Without an expansion convolution where mid_channels equals in_channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latency_tables.errors import InvalidOperator
from latency_tables.operators.image import (
    ImageOperator,
    kept_channels,
    make_divisible,
    squeeze_excite_channels,
)
from latency_tables.operators.operator import Block, Operator


@dataclass(frozen=True)
class MBConv(ImageOperator):
    """groups: those of the depthwise convolution, so equal to mid_channels."""

    family: ClassVar[str] = "mbconv"
    excludable: ClassVar[tuple[str, ...]] = (*ImageOperator.excludable, "expand")
    prunes: ClassVar[bool] = True

    def check(self) -> None:
        if self.mid_channels == 0:
            raise InvalidOperator("mbconv needs mid channels: the number of channels, not the expand ratio")
        super().check()
        if self.groups != self.mid_channels:
            raise InvalidOperator("the kxk convolution of an mbconv is depthwise: groups must equal mid")

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        """expand: mid over input channels, rounded to multiples of 8."""
        channels, ratio = block.shape[0], block.values["expand"]
        mid = channels if ratio == 1 else make_divisible(round(channels * float(ratio)), 8)
        mid = kept_channels(block.values, mid)
        return (cls.from_block(block, mid_channels=mid, groups=mid),)

    @property
    def prunable_channels(self) -> int:
        # Without an expansion they are the input's.
        return self.mid_channels if self.expands else 0

    @property
    def expands(self) -> bool:
        """Whether there is an expansion convolution."""
        return self.mid_channels != self.in_channels

    @property
    def macs(self) -> int:
        macs = self.pixels_in * self.in_channels * self.mid_channels if self.expands else 0
        macs += self.light_operations
        if self.squeeze_excite:
            macs += 2 * self.mid_channels * squeeze_excite_channels(self.mid_channels)
        return macs + self.pixels_out * self.mid_channels * self.out_channels

    @property
    def parameters(self) -> int:
        mid = self.mid_channels
        found = self.in_channels * mid + mid if self.expands else 0
        found += mid * self.kernel * self.kernel + mid
        if self.squeeze_excite:
            hidden = squeeze_excite_channels(mid)
            found += 2 * mid * hidden + hidden + mid
        return found + mid * self.out_channels + self.out_channels

    @property
    def biases(self) -> int:
        mid = self.mid_channels
        squeeze = squeeze_excite_channels(mid) + mid if self.squeeze_excite else 0
        return (mid if self.expands else 0) + mid + squeeze + self.out_channels

    @property
    def light_operations(self) -> int:
        return self.pixels_out * self.mid_channels * self.kernel**2

    @property
    def peak_values(self) -> int:
        given, made = self.pixels_in * self.in_channels, self.pixels_out * self.out_channels
        kept = given if self.residual else 0
        wide, narrow = self.pixels_in * self.mid_channels, self.pixels_out * self.mid_channels
        expand = given + wide if self.expands else 0
        return max(expand, wide + narrow + kept, narrow + made + kept)

    @property
    def kept_values(self) -> int:
        given, made = self.pixels_in * self.in_channels, self.pixels_out * self.out_channels
        wide, narrow = self.pixels_in * self.mid_channels, self.pixels_out * self.mid_channels
        expand = self.kept_of_unit * wide if self.expands else 0
        return given + expand + (self.kept_of_unit + self.squeeze_excite) * narrow + made

    @property
    def kind(self) -> str:
        return super().kind if self.squeeze_excite else f"mbconv without squeeze-excite, kernel {self.kernel}"
