"""The operator: the key of a latency table.

One operator is what one row of a table measures: a convolution, an inverted bottleneck, a ResNet
bottleneck, a pooling layer or a classifier head, with everything its latency depends on. Channels in the
middle of a block are a *number of channels*, never a ratio: once-for-all writes channels into its
`expand` field and ProxylessNAS writes ratios into a field of the same name, and mixing the two is the
classic mistake of this field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from latency_tables.errors import InvalidOperator

FAMILIES: Final = ("conv", "mbconv", "bottleneck", "maxpool", "head")
ACTIVATIONS: Final = ("none", "relu", "relu6", "hswish")
MAX_SIZE: Final = 65_536

_TEXT: Final = re.compile(
    r"(?P<family>[a-z]{1,16})/in=(?P<h>\d{1,6})x(?P<w>\d{1,6})x(?P<c>\d{1,6})/out=(?P<out>\d{1,6})"
    r"/kernel=(?P<kernel>\d{1,6})/stride=(?P<stride>\d{1,6})/mid=(?P<mid>\d{1,6})/residual=(?P<residual>[01])"
    r"/se=(?P<se>[01])/act=(?P<act>[a-z0-9]{1,16})/groups=(?P<groups>\d{1,6})",
    re.ASCII,
)


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, never below 90 % of `value` (MobileNet's rounding rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def squeeze_excite_channels(mid_channels: int) -> int:
    """Hidden channels of the squeeze-excite part of a block with that many mid channels (once-for-all)."""
    return make_divisible(mid_channels // 4, 8)


@dataclass(frozen=True, order=True)
class Operator:
    """One row key of a latency table.

    family: `conv` (convolution, batch-norm folded, activation), `mbconv` (inverted bottleneck; without an
    expansion convolution where mid_channels equals in_channels), `bottleneck` (ResNet-D: 1x1, kxk, 1x1 with a
    pooled 1x1 shortcut where the shape changes), `maxpool`, `head` (global average pool, feature layer of
    mid_channels where that is not 0, linear layer).
    groups: of the kxk convolution, so equal to mid_channels in an mbconv.
    """

    family: str
    in_height: int
    in_width: int
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    mid_channels: int
    residual: bool
    squeeze_excite: bool
    activation: str
    groups: int

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InvalidOperator(f"unknown operator family; known are {', '.join(FAMILIES)}")
        if self.activation not in ACTIVATIONS:
            raise InvalidOperator(f"unknown activation; known are {', '.join(ACTIVATIONS)}")
        sizes = (
            self.in_height,
            self.in_width,
            self.in_channels,
            self.out_channels,
            self.kernel,
            self.stride,
            self.groups,
        )
        if any(type(s) is not int or not 1 <= s <= MAX_SIZE for s in sizes):
            raise InvalidOperator(
                f"sizes, channels, kernel, stride and groups must be whole numbers from 1 to {MAX_SIZE}"
            )
        if type(self.mid_channels) is not int or not 0 <= self.mid_channels <= MAX_SIZE:
            raise InvalidOperator(f"mid channels must be a whole number from 0 to {MAX_SIZE}")
        if self.family in ("mbconv", "bottleneck") and self.mid_channels == 0:
            raise InvalidOperator(
                f"{self.family} needs mid channels: the number of channels, not the expand ratio"
            )
        if self.family in ("conv", "maxpool") and self.mid_channels != 0:
            raise InvalidOperator(f"{self.family} has no mid channels; write mid=0")
        if (
            self.residual
            and (self.stride != 1 or self.in_channels != self.out_channels)
            and self.family != "bottleneck"
        ):
            raise InvalidOperator("a residual connection needs stride 1 and equal input and output channels")
        if self.family == "mbconv" and self.groups != self.mid_channels:
            raise InvalidOperator("the kxk convolution of an mbconv is depthwise: groups must equal mid")

    @cached_property
    def text(self) -> str:
        """Canonical text form; `Operator.parse` reads it back."""
        return (
            f"{self.family}/in={self.in_height}x{self.in_width}x{self.in_channels}/out={self.out_channels}"
            f"/kernel={self.kernel}/stride={self.stride}/mid={self.mid_channels}/residual={int(self.residual)}"
            f"/se={int(self.squeeze_excite)}/act={self.activation}/groups={self.groups}"
        )

    @classmethod
    def parse(cls, text: str) -> Operator:
        """Read the canonical text form. Raises InvalidOperator for anything else, `01` for `1` included."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise InvalidOperator(
                "not an operator; the form is "
                "family/in=HxWxC/out=C/kernel=K/stride=S/mid=M/residual=0/se=0/act=relu/groups=G"
            )
        g = match.groupdict()
        operator = cls(
            family=g["family"],
            in_height=int(g["h"]),
            in_width=int(g["w"]),
            in_channels=int(g["c"]),
            out_channels=int(g["out"]),
            kernel=int(g["kernel"]),
            stride=int(g["stride"]),
            mid_channels=int(g["mid"]),
            residual=g["residual"] == "1",
            squeeze_excite=g["se"] == "1",
            activation=g["act"],
            groups=int(g["groups"]),
        )
        if operator.text != text:
            raise InvalidOperator("numbers must be written without leading zeros")
        return operator

    @property
    def out_height(self) -> int:
        return 1 if self.family == "head" else (self.in_height - 1) // self.stride + 1

    @property
    def out_width(self) -> int:
        return 1 if self.family == "head" else (self.in_width - 1) // self.stride + 1

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return _COSTS[self.family](self)[0]

    @cached_property
    def parameters(self) -> int:
        """Weights and biases after batch-norm is folded."""
        return _COSTS[self.family](self)[1]

    @cached_property
    def bytes_moved(self) -> int:
        """Least bytes between memory and processor in float32: weights once, input and output once."""
        activations = (
            self.in_height * self.in_width * self.in_channels
            + self.out_height * self.out_width * self.out_channels
        )
        return 4 * (self.parameters + activations)


def _conv(op: Operator) -> tuple[int, int]:
    weights = op.kernel * op.kernel * op.in_channels // op.groups * op.out_channels
    return weights * op.out_height * op.out_width, weights + op.out_channels


def _mbconv(op: Operator) -> tuple[int, int]:
    inside, outside = op.in_height * op.in_width, op.out_height * op.out_width
    macs = parameters = 0
    if op.mid_channels != op.in_channels:
        macs += inside * op.in_channels * op.mid_channels
        parameters += op.in_channels * op.mid_channels + op.mid_channels
    macs += outside * op.mid_channels * op.kernel * op.kernel
    parameters += op.mid_channels * op.kernel * op.kernel + op.mid_channels
    if op.squeeze_excite:
        hidden = squeeze_excite_channels(op.mid_channels)
        macs += 2 * op.mid_channels * hidden
        parameters += 2 * op.mid_channels * hidden + hidden + op.mid_channels
    macs += outside * op.mid_channels * op.out_channels
    parameters += op.mid_channels * op.out_channels + op.out_channels
    return macs, parameters


def _bottleneck(op: Operator) -> tuple[int, int]:
    inside, outside = op.in_height * op.in_width, op.out_height * op.out_width
    first = op.in_channels * op.mid_channels
    middle = op.kernel * op.kernel * op.mid_channels // op.groups * op.mid_channels
    last = op.mid_channels * op.out_channels
    macs, parameters = (
        inside * first + outside * (middle + last),
        first + middle + last + 2 * op.mid_channels + op.out_channels,
    )
    if op.stride != 1 or op.in_channels != op.out_channels:
        shortcut = op.in_channels * op.out_channels
        macs, parameters = macs + outside * shortcut, parameters + shortcut + op.out_channels
    return macs, parameters


def _maxpool(op: Operator) -> tuple[int, int]:
    return 0, 0


def _head(op: Operator) -> tuple[int, int]:
    if op.mid_channels == 0:
        return op.in_channels * op.out_channels, op.in_channels * op.out_channels + op.out_channels
    macs = op.mid_channels * (op.in_channels + op.out_channels)
    return macs, macs + op.out_channels  # the feature layer has neither bias nor batch-norm (MobileNetV3)


_COSTS: Final = {
    "conv": _conv,
    "mbconv": _mbconv,
    "bottleneck": _bottleneck,
    "maxpool": _maxpool,
    "head": _head,
}
