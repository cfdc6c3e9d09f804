"""The lite residual module: what TinyTL trains beside a frozen block (Cai et al., NeurIPS 2020).

Its input is pooled to half the resolution, so what autograd keeps is small; a grouped convolution, a 1x1
convolution, and the result is enlarged to the block's output and added to it. Kernel, groups, expansion (1)
and pooling are those of the published code, but that the kernel shrinks to the pooled map of the network's
own resolution, where theirs is made for 128 pixels. The last scale begins at zero, so a network with fresh
modules computes what it did without; that norm's shift is not trained, since the block's own bias is.
"""

from __future__ import annotations

import math
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.operators.image import ImageOperator
from supernets.data.steps import interpolation
from supernets.layers.block import Foldable, LayerSettings, StartsAsIdentity
from supernets.layers.units import ConvUnit

LARGEST_KERNEL: Final = 5
GROUPS: Final = 2
POOLED: Final = 2  # pixels on a side become one


class LiteResidual(nn.Module, Foldable, StartsAsIdentity):
    """Beside a block of that operator: a batch of its input in, what is added to its output out."""

    rows: Tensor | None
    columns: Tensor | None

    def __init__(self, op: ImageOperator, eps: float) -> None:
        super().__init__()
        channels, step = op.in_channels, POOLED if min(op.in_height, op.in_width) >= POOLED else 1
        self.pooled, self.stride = (op.in_height // step, op.in_width // step), op.stride
        side = min(self.pooled)
        kernel = min(LARGEST_KERNEL, side if side % 2 else side - 1)
        self.pool = nn.AvgPool2d(POOLED) if step > 1 else nn.Identity()
        self.spatial = ConvUnit(
            channels,
            channels,
            max(1, kernel),
            stride=op.stride,
            groups=math.gcd(GROUPS, channels),
            activation="relu",
            eps=eps,
        )
        self.mix = ConvUnit(channels, op.out_channels, eps=eps)
        self.size = (op.out_height, op.out_width)
        self.register_buffer("rows", None, persistent=False)
        self.register_buffer("columns", None, persistent=False)
        with torch.no_grad():
            self.start_as_identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(self.spatial(self.pool(x)))
        if y.shape[2:] == self.size:
            return y
        if self.rows is not None and self.columns is not None:
            return torch.matmul(torch.matmul(self.rows, y), self.columns)
        return F.interpolate(y, size=self.size, mode="bilinear", align_corners=False)

    def fold(self) -> None:
        """Enlarge by two products, for files: ONNX's Resize rounds its sizes differently from opset to opset
        and knows the batch size."""
        height, width = ((size - 1) // self.stride + 1 for size in self.pooled)
        self.rows = torch.from_numpy(interpolation(height, self.size[0]))
        self.columns = torch.from_numpy(np.ascontiguousarray(interpolation(width, self.size[1]).T))

    def start_as_identity(self) -> None:
        self.mix.norm.get_parameter("weight").zero_()

    @property
    def macs(self) -> int:
        """Multiply-adds of its convolutions, one sample."""
        pixels = math.prod((size - 1) // self.stride + 1 for size in self.pooled)
        return pixels * (self.spatial.conv.weight.numel() + self.mix.conv.weight.numel())


class Beside(nn.Module):
    """A plain layer and its lite residual module."""

    def __init__(self, block: nn.Module, residual: nn.Module) -> None:
        super().__init__()
        self.block, self.residual = block, residual

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.block(x)) + cast(Tensor, self.residual(x))


def lite_residual(op: ImageOperator, settings: LayerSettings) -> LiteResidual:
    """The module beside a block of a family whose blocks widen inside."""
    return LiteResidual(op, settings.eps)
