"""Operators of networks that hear: a convolution over time, and a head. No torch here: agents and the API
read this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latency_tables.inputs import InputSpec
from latency_tables.named import Named, Value
from latency_tables.operators import Block, Dimension, Operator


@dataclass(frozen=True)
class Conv1d(Operator):
    """A convolution over `length` samples, batch-norm folded, ReLU; adds its input where the shape stays."""

    family: ClassVar[str] = "conv1d"
    form: ClassVar[str] = (
        "in={length}x{channels}/out={width}/kernel={kernel}/stride={stride}/residual={residual}"
    )
    settings: ClassVar[Mapping[str, Value]] = {"stride": 1}
    dimensions: ClassVar[tuple[Dimension, ...]] = (Dimension("kernel", 3, opens="kernel"),)
    excludable: ClassVar[tuple[str, ...]] = ("kernel",)
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"length": (), "kernel": ()}

    length: int
    channels: int
    width: int
    kernel: int
    stride: int
    residual: bool

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        channels, length = block.shape
        stride = int(block.settings["stride"]) if block.first else 1
        residual = stride == 1 and channels == block.width
        return (cls(length, channels, block.width, int(block.values["kernel"]), stride, residual),)

    @classmethod
    def optional(cls, first: bool, settings: Named) -> bool:
        return not first or settings["stride"] == 1

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", (self.channels, self.length)),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.width, (self.length - 1) // self.stride + 1)

    @property
    def macs(self) -> int:
        return self.output_shape[1] * self.width * self.channels * self.kernel

    @property
    def parameters(self) -> int:
        return self.width * self.channels * self.kernel + self.width

    @property
    def kind(self) -> str:
        return f"conv1d, kernel {self.kernel}"


@dataclass(frozen=True)
class ToneHead(Operator):
    """The mean over time, then a linear layer."""

    family: ClassVar[str] = "tone_head"
    form: ClassVar[str] = "in={length}x{channels}/out={classes}"
    closes: ClassVar[bool] = True

    length: int
    channels: int
    classes: int

    @classmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        channels, length = block.shape
        return (cls(length, channels, block.width),)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", (self.channels, self.length)),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.classes,)

    @property
    def macs(self) -> int:
        return self.channels * self.classes

    @property
    def parameters(self) -> int:
        return self.macs + self.classes
