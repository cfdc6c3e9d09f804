"""Networks in int8 as torch computes them: every value rounded to the levels that a file's kernels round to.

What is calibrated, scored and compared with a file is this network; the file is written from the same steps
and ranges (`supernets.delivery.int8_file`). In the arithmetic of float32 a sum may fall on the other side of
half a level than in whole numbers, so outputs agree but for a few levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.inputs import InputSpec
from latency_tables.operators import Operator
from supernets.cut_out import PlainNetwork
from supernets.delivery.int8_steps import INPUT, Floats, Step
from supernets.delivery.precision import PrecisionPlan, Rounding
from supernets.delivery.ranges import LEVELS, Range

_LARGEST_BIAS: Final = 2.0**30  # in steps of 32 bits, with room for the sum that it is added to


@dataclass(frozen=True)
class Levels:
    """How an 8-bit value is read and written. gain: see `Step`."""

    range: Range
    gain: float = 1.0

    @property
    def scale(self) -> float:
        """Between two levels when they are read."""
        return float(np.float32(self.range.scale * self.gain))

    def rounded(self, x: Tensor) -> Tensor:
        """Float values of the levels that x is rounded to."""
        level = torch.clamp(torch.round(x / self.range.scale) + self.range.zero_point, 0, LEVELS - 1)
        return (level - self.range.zero_point) * self.scale


@dataclass(frozen=True, eq=False)
class Weights:
    """Of one step in int8: values (out, ...) int8, their scales (out,), bias (out,) in int32."""

    values: np.ndarray[Any, Any]
    scales: Floats
    bias: np.ndarray[Any, Any] | None

    @classmethod
    def of(cls, step: Step, input_scale: float, bits: int) -> Weights:
        """Symmetric, a scale for each output channel. bits: that are used."""
        if step.weight is None:
            raise TypeError(f"{step.kind} has no weights")
        flat = np.abs(step.weight.reshape(len(step.weight), -1)).max(axis=1).astype(np.float64)
        most = 2 ** (bits - 1) - 1
        bias = None if step.bias is None else step.bias.astype(np.float64)
        # A channel of zeros would get a scale so small that its bias exceeds 32 bits.
        least = np.zeros_like(flat) if bias is None else np.abs(bias) / (input_scale * _LARGEST_BIAS)
        scales = np.maximum(np.maximum(flat / most, least), np.finfo(np.float32).tiny * 2**20)
        scales = scales.astype(np.float32)
        broad = scales.reshape(-1, *(1,) * (step.weight.ndim - 1))
        values = np.clip(np.rint(step.weight / broad), -most, most).astype(np.int8)
        if bias is not None:
            bias = np.rint(bias / (np.float64(input_scale) * scales)).astype(np.int32)
        return cls(values, scales, bias)


class Int8Block(nn.Module):
    """The steps of one block. levels: of every value, its input's under INPUT; what has none is not rounded,
    so without any it is the float32 block."""

    def __init__(self, steps: Sequence[Step], levels: Mapping[str, Levels], bits: int) -> None:
        super().__init__()
        self.steps, self.levels, self.bits = tuple(steps), dict(levels), bits
        self._weights = {step.output: self._tensors(step) for step in self.steps if step.weight is not None}

    @property
    def output(self) -> str:
        """The name of what the block gives."""
        return self.steps[-1].output

    def _tensors(self, step: Step) -> tuple[Tensor, Tensor | None]:
        before = self.levels.get(step.inputs[0])
        if before is None:
            bias = None if step.bias is None else torch.from_numpy(step.bias.copy())
            return torch.from_numpy(np.array(step.weight)), bias
        found = Weights.of(step, before.scale, self.bits)
        broad = found.scales.reshape(-1, *(1,) * (found.values.ndim - 1))
        weight = torch.from_numpy(found.values.astype(np.float32) * broad)
        if found.bias is None:
            return weight, None
        return weight, torch.from_numpy(
            (found.bias * found.scales.astype(np.float64) * before.scale).astype(np.float32)
        )

    def forward(self, x: Tensor, seen: Callable[[str, Tensor], None] | None = None) -> Tensor:
        """x: as it comes from the block before, rounded or not. seen: told every value, before rounding."""
        values = {INPUT: x}
        for step in self.steps:
            y = self._computed(step, [values[name] for name in step.inputs])
            if step.fixed is not None:
                y = y.clamp(step.fixed.low, step.fixed.high)
            elif step.cuts:
                y = y.clamp(step.low, step.high)
            if seen is not None:
                seen(step.output, y)
            if step.keeps:
                values[step.output] = y
            elif step.output in self.levels:
                values[step.output] = self.levels[step.output].rounded(y)
            else:
                values[step.output] = y * step.gain
        return values[self.output]

    def _computed(self, step: Step, given: list[Tensor]) -> Tensor:
        if step.kind == "Conv":
            weight, bias = self._weights[step.output]
            told, (x,) = step.attributes, given
            pads = [int(p) for p in told["pads"]]
            return F.conv2d(
                x,
                weight,
                bias,
                tuple(told["strides"]),
                tuple(pads[:2]),
                tuple(told["dilations"]),
                told["group"],
            )
        if step.kind == "Gemm":
            weight, bias = self._weights[step.output]
            return F.linear(given[0], weight, bias)
        return _COMPUTED[step.kind](step, given)


def _added(step: Step, given: list[Tensor]) -> Tensor:
    return given[0] + (given[1] if step.constant is None else step.constant)


def _max_pool(step: Step, given: list[Tensor]) -> Tensor:
    told = step.attributes
    return F.max_pool2d(
        given[0],
        tuple(told["kernel_shape"]),
        tuple(told["strides"]),
        tuple(told["pads"][:2]),
        ceil_mode=bool(told.get("ceil_mode", 0)),
    )


def _average_pool(step: Step, given: list[Tensor]) -> Tensor:
    told = step.attributes
    return F.avg_pool2d(
        given[0],
        tuple(told["kernel_shape"]),
        tuple(told["strides"]),
        tuple(told["pads"][:2]),
        ceil_mode=bool(told.get("ceil_mode", 0)),
        count_include_pad=bool(told.get("count_include_pad", 0)),
    )


_COMPUTED: Final[dict[str, Callable[[Step, list[Tensor]], Tensor]]] = {
    "Identity": lambda step, given: given[0],
    "Add": _added,
    "Mul": lambda step, given: given[0] * given[1],
    "GlobalAveragePool": lambda step, given: given[0].mean((2, 3), keepdim=True),
    "Flatten": lambda step, given: given[0].flatten(1),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
}


class QuantisedNetwork(nn.Module):
    """A folded network with some of its blocks in int8.

    plan: the precision of every layer. blocks: of those in int8, by number. closed: whether what the last
    layer gives stays in float32, as logits do. method: by which the ranges were found.
    """

    def __init__(
        self,
        plain: PlainNetwork,
        plan: PrecisionPlan,
        blocks: Mapping[int, Int8Block],
        rounding: Rounding,
        method: str,
        closed: bool,
        samples: int,
    ) -> None:
        super().__init__()
        self.plain, self.plan, self.rounding, self.method = plain, plan, rounding, method
        self.closed, self.samples = closed, samples
        self._by_number = dict(blocks)

    @property
    def operators(self) -> tuple[Operator, ...]:
        """Of the layers, in order."""
        return self.plain.operators

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What it is fed with, one sample."""
        return self.plain.inputs

    def block(self, number: int) -> Int8Block | None:
        """The int8 form of a layer, None where it is in float32."""
        return self._by_number.get(number)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        before: Int8Block | None = None
        for number, layer in enumerate(self.plain.layers):
            block = self.block(number)
            if block is None:
                x = layer(x)
            else:
                x = block(x if before is not None else block.levels[INPUT].rounded(x))
            before = block
        return x


def levels_of(
    steps: Sequence[Step], ranges: Mapping[str, Range], given: Levels, last: bool
) -> dict[str, Levels]:
    """The levels of every value of a block. given: of its input. last: what it gives stays in float32."""
    found = {INPUT: given}
    for step in steps[: len(steps) - last]:
        if step.keeps:
            found[step.output] = found[step.inputs[0]]
        elif step.fixed is not None:
            found[step.output] = Levels(step.fixed, step.gain)
        else:
            found[step.output] = Levels(ranges[step.output])
    return found


def stays_float(steps: Sequence[Step], operator: Operator) -> bool:
    """Whether a last layer in int8 gives float32: logits are not rounded where the product before them can
    leave them so."""
    return operator.closes and steps[-1].kind in ("Conv", "Gemm") and not steps[-1].cuts
